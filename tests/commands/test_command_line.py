"""The command line: four files with fixed names and columns, the same numbers again from them, and what is known."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kis_core import corpora
from kis_core.__main__ import WRONG_INPUT, main
from kis_core.analysis.pipeline import Request, run
from kis_core.machine import Device
from kis_core.models import catalog
from kis_core.progress import STAGES
from kis_core.results import caveats, export
from kis_core.store.store import Store
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
FILES = ["superposition.npz", "facts.csv", "statistics.csv", "request.json"]
MODELS_COLUMNS = "name  family  parameters  layers  d  d_m  context  where  gated  revision  download  fits"
PROGRESS = re.compile(rf" *\d+\.\d s  ({'|'.join(map(re.escape, STAGES))})")
FACTS = """subject,prompt,target
Malta,The capital of {} is,Valletta
Oslo,no slot at all,Norway
"Hanover, Germany",{} lies in,Europe
Zoë,The mother of {} is,=SUM(A1)
Guyana,{} lies in,America
"""
NO_MODEL = {
    "analyse": ["--model=absent", "--corpus=builtin"],
    "edit": ["--model=absent", "--layer=0", "--fact=0", "--target=x"],
    "lifelong": ["--model=absent", "--layer=0"],
    "budget": ["--model=absent", "--layer=0"],
    "report": ["--model=absent"],
    "study": ["--models=absent"],
    "forgetting": ["--models=absent"],
}


class Setting:
    """A folder with a model, facts, a corpus and a place for the output, and the arguments that name them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = tiny.save("GPT-2", folder / "model")
        self.facts, self.corpus, self.out = folder / "facts.csv", folder / "corpus.txt", folder / "out"
        self.facts.write_text(FACTS, encoding="utf-8")
        self.corpus.write_text("\n".join(corpora.builtin().texts[:30]), encoding="utf-8")

    def arguments(self, **changed: object) -> list[str]:
        options = {"model": self.model, "facts": self.facts, "corpus": self.corpus, "tokens": 300, "device": "cpu"}
        return ["analyse", *(f"--{name}={value}" for name, value in (options | {"out": self.out} | changed).items())]

    def provenance(self) -> dict[str, Any]:
        return json.loads((self.out / "request.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return Setting(tmp_path_factory.mktemp("analyse"))


def test_analyse_writes_four_files_that_hold_the_result(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(setting.arguments()) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [str(setting.out / name) for name in FILES]
    assert sorted(path.name for path in setting.out.iterdir()) == sorted(FILES)
    assert (
        "left out row 3: the prompt holds 0 `{}` where exactly one marks the subject, nor the subject itself"
        in said.err.splitlines()
    )
    stages = [match[1] for line in said.err.splitlines() if (match := PROGRESS.fullmatch(line))]
    assert stages == [stage for stage in STAGES if stage != "Downloading the model"]
    result = run(Request(**setting.provenance()["request"]), Store(), device="cpu")
    assert set(caveats.of_tags(result, result.layers)) <= set(said.err.splitlines())
    assert "1 key is taken at the first token" in said.err

    with np.load(setting.out / "superposition.npz", allow_pickle=False) as stored:
        assert stored["layers"].tolist() == [0, 1, 2]
        assert all(np.array_equal(stored[name], getattr(result, name)) for name in export.MATRICES)
    assert (setting.out / "facts.csv").read_bytes().decode() == export.facts_csv(result)
    assert (setting.out / "statistics.csv").read_bytes().decode() == export.statistics_csv(result)
    assert [fact.subject for fact in result.facts.facts] == ["Malta", "Hanover, Germany", "Zoë", "Guyana"]


def test_request_json_alone_gives_the_same_bits_again(setting: Setting) -> None:
    assert main(setting.arguments()) == 0
    first = {name: (setting.out / name).read_bytes() for name in FILES}
    assert main(setting.arguments(layers="2,0")) == 0, "over the files of the first run"
    request = Request(**setting.provenance()["request"])
    assert request == Request(str(setting.model), str(setting.facts), str(setting.corpus), 300, (0, 2))
    again = run(request, Store(setting.folder / "another cache"), device="cpu")
    with np.load(setting.out / "superposition.npz") as stored:
        assert stored["layers"].tolist() == [0, 2]
        assert np.array_equal(stored["p"], again.p)
    assert main(setting.arguments()) == 0
    assert {name: (setting.out / name).read_bytes() for name in FILES} == first


def test_it_runs_as_a_program(setting: Setting) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "kis_core", *setting.arguments(facts="nowhere.csv")],
        cwd=ROOT, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == WRONG_INPUT, ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("kis_core: No fact file at nowhere.csv")


@pytest.mark.parametrize("command", NO_MODEL)
def test_what_was_assumed_of_a_fact_file_is_said_before_any_work(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "facts.csv"
    path.write_bytes("subject,prompt,target\nCôte d’Ivoire,{} is in,x\n".encode("cp1252"))
    assert main([command, *NO_MODEL[command], f"--facts={path}", f"--out={tmp_path / 'out'}"]) == WRONG_INPUT
    found, note, complaint = [line for line in capsys.readouterr().err.splitlines() if not PROGRESS.fullmatch(line)]
    assert found == "facts.csv: columns subject, prompt and target in CSV."
    assert note.startswith("The file is not UTF-8 (byte 0xF4 in line 2) and was read as Windows-1252, where it says")
    assert complaint.startswith("kis_core: ")


def test_models_and_what_fits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    small = Device("cpu", "a small machine", "cpu", 10**9, 10**9)
    gpu = Device("cuda:0", "a GPU", "cuda", 10**10, 10**10)
    monkeypatch.setattr("kis_core.machine.devices", lambda: (gpu, small))
    assert main(["models"]) == 0
    header, *rows = (re.split(r"  +", row) for row in capsys.readouterr().out.splitlines())
    assert "  ".join(header) == MODELS_COLUMNS
    assert [row[0] for row in rows] == [entry.name for entry in catalog.entries()]
    fits = {row[0]: row[-1] for row in rows}
    assert (fits["demo-gpt2-32"], fits["gpt2-large"]) == ("cuda:0 float32", "cuda:0 float32")
    assert fits["gpt-j-6b"] == "too large"  # 12 GB of weights in half precision
    assert fits["pythia-1b"] == "cuda:0 float32"  # 4 GB of weights, 0.5 GB for C of a layer
    assert fits["pythia-2.8b"] == "cuda:0 bfloat16"  # 11 GB of weights in full precision
    (gpt2,) = (row for row in rows if row[0] == "gpt2")
    where = ["openai-community/gpt2", "-", "607a30d7", "0.498 GB"]
    assert gpt2[:-1] == ["gpt2", "GPT-2", "124.44 M", "12", "768", "3072", "1024", *where]
    for entry, row in zip(catalog.entries(), rows, strict=True):
        assert (row[8] == "gated") == entry.gated
        assert (row[-1] == "no safetensors") == (not entry.safetensors)
        assert (row[7] == "embedded") == (entry.files is not None)
