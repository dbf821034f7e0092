"""The command line: four files with fixed names and columns, the same numbers again from them, and plain refusals."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kis_core import corpora
from kis_core.__main__ import INTERRUPTED, WRONG_INPUT, main
from kis_core.analysis.pipeline import Request, run
from kis_core.commands import analysing
from kis_core.machine import Device
from kis_core.models import catalog
from kis_core.progress import STAGES
from kis_core.store.store import Store
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
FILES = ["superposition.npz", "facts.csv", "statistics.csv", "request.json"]
FACT_COLUMNS = ["index", "subject", "prompt", "target", "relation", "key_token_index", "key_token"]
STATISTICS_COLUMNS = ["layer", "mean", "std", "skewness", "kurtosis", "max", "rank", "condition_number", "ridge"]
PROGRESS = re.compile(rf" *\d+\.\d s  ({'|'.join(map(re.escape, STAGES))})")

FACTS = """subject,prompt,target
Malta,The capital of {} is,Valletta
Oslo,no slot at all,Norway
"Hanover, Germany",{} lies in,Europe
Zoë,The mother of {} is,=SUM(A1)
"""


class Setting:
    """A folder with a model, facts, a corpus and a place for the output, and the arguments that name them."""

    def __init__(self, folder: Path, saved: Path) -> None:
        self.folder = folder
        self.model = Path(shutil.copytree(saved, folder / "model"))
        self.facts, self.corpus, self.out = folder / "facts.csv", folder / "corpus.txt", folder / "out"
        self.facts.write_text(FACTS, encoding="utf-8")
        self.corpus.write_text("\n".join(corpora.builtin().texts[:30]), encoding="utf-8")

    def arguments(self, **changed: object) -> list[str]:
        options = {
            "model": self.model, "facts": self.facts, "corpus": self.corpus, "tokens": 300, "device": "cpu",
            "out": self.out,
        } | changed  # fmt: skip
        return ["analyse", *(f"--{name}={value}" for name, value in options.items())]

    def table(self, name: str) -> tuple[list[str], list[dict[str, str]]]:
        with (self.out / name).open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
        return list(reader.fieldnames or ()), rows

    def provenance(self) -> dict[str, Any]:
        return json.loads((self.out / "request.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("GPT-2", tmp_path_factory.mktemp("models") / "gpt2")


@pytest.fixture
def setting(tmp_path: Path, gpt2: Path) -> Setting:
    return Setting(tmp_path, gpt2)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_analyse_writes_four_files(architecture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setting = Setting(tmp_path, tiny.save(architecture, tmp_path / "saved"))
    assert main(setting.arguments()) == 0
    told = capsys.readouterr()
    assert told.out.splitlines() == [str(setting.out / name) for name in FILES]
    assert sorted(path.name for path in setting.out.iterdir()) == sorted(FILES)
    assert "left out row 3: the prompt holds 0 `{}` where exactly one marks the subject" in told.err.splitlines()

    columns, facts = setting.table("facts.csv")
    assert columns == FACT_COLUMNS
    assert [(row["index"], row["subject"]) for row in facts] == [
        ("0", "Malta"),
        ("1", "Hanover, Germany"),
        ("2", "Zoë"),
    ]
    assert [row["prompt"] for row in facts] == ["The capital of {} is", "{} lies in", "The mother of {} is"]
    assert [row["target"] for row in facts] == ["Valletta", "Europe", "'=SUM(A1)"]

    columns, statistics = setting.table("statistics.csv")
    assert columns == STATISTICS_COLUMNS
    assert [row["layer"] for row in statistics] == ["0", "1", "2"]
    assert setting.provenance()["architecture"] == architecture

    with np.load(setting.out / "superposition.npz", allow_pickle=False) as stored:
        assert sorted(stored) == ["activation_cosine", "layers", "p", "whitening_cosine"]
        assert stored["layers"].tolist() == [0, 1, 2]
        assert {stored[name].shape for name in stored if name != "layers"} == {(3, 3, 3)}


def test_the_files_hold_the_numbers_of_the_result(setting: Setting) -> None:
    assert main(setting.arguments()) == 0
    result = run(Request(**setting.provenance()["request"]), Store(), device="cpu")
    with np.load(setting.out / "superposition.npz") as stored:
        for name in ("p", "whitening_cosine", "activation_cosine"):
            assert np.array_equal(stored[name], getattr(result, name))
    _, facts = setting.table("facts.csv")
    assert [int(row["key_token_index"]) for row in facts] == list(result.key_token_index)
    assert [row["key_token"] for row in facts] == list(result.key_tokens)
    _, statistics = setting.table("statistics.csv")
    for row, report in zip(statistics, result.reports, strict=True):
        for name in ("mean", "std", "skewness", "kurtosis", "max"):
            assert float(row[name]) == getattr(report.moments, name)
        assert (int(row["rank"]), float(row["ridge"])) == (report.rank, report.ridge)
        assert float(row["condition_number"]) == report.condition_number


def test_request_json_alone_gives_the_same_bits_again(setting: Setting) -> None:
    assert main(setting.arguments(layers="2,0")) == 0
    request = Request(**setting.provenance()["request"])
    assert request == Request(str(setting.model), str(setting.facts), str(setting.corpus), 300, (0, 2))
    again = run(request, Store(setting.folder / "another cache"), device="cpu")
    with np.load(setting.out / "superposition.npz") as stored:
        assert stored["layers"].tolist() == [0, 2]
        assert np.array_equal(stored["p"], again.p)


def test_a_second_run_overwrites_the_files_of_the_first(setting: Setting) -> None:
    assert main(setting.arguments()) == 0
    before = {name: (setting.out / name).read_bytes() for name in FILES}
    assert main(setting.arguments(layers="1")) == 0
    assert all((setting.out / name).read_bytes() != before[name] for name in FILES if name != "facts.csv")
    assert main(setting.arguments()) == 0
    assert {name: (setting.out / name).read_bytes() for name in FILES} == before


@pytest.mark.stress  # `covariance` runs as one, under torchrun too
def test_analyse_runs_as_a_program(setting: Setting) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "kis_core", *setting.arguments()],
        cwd=ROOT, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [str(setting.out / name) for name in FILES]
    left_out, *progress = ran.stderr.splitlines()
    assert left_out.startswith("left out row 3: ")
    shown = [stage for stage in STAGES if stage != "Downloading the model"]
    assert [PROGRESS.fullmatch(line)[1] for line in progress] == shown


NO_MODEL = {
    "analyse": ["--model=absent", "--corpus=builtin"],
    "edit": ["--model=absent", "--layer=0", "--fact=0", "--target=x"],
    "lifelong": ["--model=absent", "--layer=0"],
    "study": ["--models=absent"],
    "forgetting": ["--models=absent"],
}


@pytest.mark.parametrize("command", NO_MODEL)
def test_what_was_assumed_of_a_fact_file_is_said_before_any_work(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "facts.csv"
    path.write_bytes("subject,prompt,target\nCôte d’Ivoire,{} is in,x\n".encode("cp1252"))
    assert main([command, *NO_MODEL[command], f"--facts={path}", f"--out={tmp_path / 'out'}"]) == WRONG_INPUT
    note, complaint = [line for line in capsys.readouterr().err.splitlines() if not PROGRESS.fullmatch(line)]
    assert note.startswith("The file is not UTF-8 (byte 0xF4 in line 2) and was read as Windows-1252, where it says")
    assert complaint.startswith("kis_core: ")


@pytest.mark.parametrize("header", ["\x1b]0;owned\x07subject,b", "\x9b31mred,b"])
def test_nothing_that_drives_a_terminal_is_written_to_it(
    header: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "facts\x1b[2J.csv"
    path.write_text(f"{header}\n1,2\n", encoding="utf-8")
    for facts in (path, tmp_path / "absent\x1b[2J.csv"):
        arguments = ["analyse", "--model=absent", f"--facts={facts}", "--corpus=builtin", f"--out={tmp_path / 'out'}"]
        assert main(arguments) == WRONG_INPUT
        assert capsys.readouterr().err.removesuffix("\n").isprintable()


def table_of_models(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    assert main(["models"]) == 0
    header, *rows = (re.split(r"  +", row) for row in capsys.readouterr().out.splitlines())
    assert header == [
        "name", "family", "parameters", "layers", "d", "d_m", "context", "where", "gated", "revision", "download",
        "fits",
    ]  # fmt: skip
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}


def test_models_lists_every_name_and_what_fits_here(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Device("cpu", "a small machine", "cpu", 10**9, 10**9)
    gpu = Device("cuda:0", "a GPU", "cuda", 10**10, 10**10)
    monkeypatch.setattr("kis_core.machine.devices", lambda: (gpu, small))
    rows = table_of_models(capsys)
    assert list(rows) == [entry.name for entry in catalog.entries()]
    fits = {name: row["fits"] for name, row in rows.items()}
    assert (fits["demo-gpt2-32"], fits["gpt2-large"]) == ("cuda:0 float32", "cuda:0 float32")
    assert fits["gpt-j-6b"] == "too large"  # 12 GB of weights in half precision
    assert fits["pythia-1b"] == "cuda:0 float32"  # 4 GB of weights, 0.5 GB for C of a layer
    assert fits["pythia-2.8b"] == "cuda:0 bfloat16"  # 11 GB of weights in full precision
    assert rows["gpt2"] | {"fits": ""} == {
        "name": "gpt2", "family": "GPT-2", "parameters": "124.44 M", "layers": "12", "d": "768", "d_m": "3072",
        "context": "1024", "where": "openai-community/gpt2", "gated": "-", "revision": "607a30d7",
        "download": "0.498 GB", "fits": "",
    }  # fmt: skip
    assert (rows["demo-gpt2-32"]["where"], rows["demo-gpt2-32"]["download"]) == ("embedded", "-")
    assert {name for name, row in rows.items() if row["gated"] == "gated"} == {
        entry.name for entry in catalog.entries() if entry.gated
    }
    for entry in catalog.entries():
        assert (fits[entry.name] == "no safetensors") == (not entry.safetensors)


class TestWrongInput:
    def refused(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
        """The one line of complaint; whatever else stands on standard error is progress, or rows left out."""
        capsys.readouterr()
        assert main(arguments) == WRONG_INPUT == 2
        told = capsys.readouterr()
        assert told.out == ""
        said = [line for line in told.err.splitlines() if not PROGRESS.fullmatch(line)]
        [line] = [line for line in said if not line.startswith("left out row 3: ")]
        assert line.startswith("kis_core: ")
        return line

    @pytest.mark.parametrize(
        ("changed", "reason"),
        [
            ({"facts": "nowhere.csv"}, "No fact file at nowhere.csv"),
            ({"corpus": "nowhere.txt"}, "No corpus file at nowhere.txt"),
            ({"model": "nowhere"}, "nowhere is not on this machine"),
            ({"model": "no such name!"}, "'no such name!' is neither a folder on this machine nor a model name"),
            ({"model": "gpt2-large"}, "openai-community/gpt2-large is not on this machine"),
            ({"layers": "3"}, "the model has layers 0 to 2; layer 3 was asked for"),
            ({"layers": "0,99"}, "layer 99 was asked for"),
            ({"layers": "-1"}, "layers count from 0; (-1,) were asked for"),
            ({"layers": "x"}, "--layers takes `all` or numbers such as 0,2; found 'x'"),
            ({"layers": ""}, "found ''"),
            ({"layers": "1,"}, "found '1,'"),
            ({"tokens": 0}, "C needs at least one token; 0 were asked for"),
            ({"tokens": -5}, "-5 were asked for"),
            ({"facts": "x" * 300}, "x" * 300),
            ({"model": "x" * 300}, "is neither a folder on this machine nor a model name"),
        ],
        ids=str,
    )
    def test_is_told_in_one_line(
        self, setting: Setting, capsys: pytest.CaptureFixture[str], changed: dict[str, object], reason: str
    ) -> None:
        assert reason in self.refused(setting.arguments(**changed), capsys)
        assert not setting.out.exists()

    def test_out_is_a_file(self, setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
        setting.out.write_text("precious")
        assert "is a file; --out names a folder" in self.refused(setting.arguments(), capsys)
        assert setting.out.read_text() == "precious"

    def test_out_lies_within_a_file(self, setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
        line = self.refused(setting.arguments(out=setting.facts / "deeper", facts=self.good(setting)), capsys)
        assert "facts.csv" in line

    def good(self, setting: Setting) -> Path:
        path = setting.folder / "good.csv"
        path.write_text("subject,prompt,target\nMalta,The capital of {} is,Valletta\n")
        return path

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("subject,prompt,target\nMalta,no slot,x\n,{} is,x\n", "holds no usable fact. First problem: row 2"),
            ("subject,prompt\nMalta,{} is\n", "has no column target"),
            ("", "is empty"),
            (f"subject,prompt,target\nMalta,{'so ' * 200}{{}} is,x\n", "this model reads at most 64"),
        ],
    )
    def test_facts_that_cannot_be_used(
        self, setting: Setting, capsys: pytest.CaptureFixture[str], content: str, reason: str
    ) -> None:
        setting.facts.write_text(content)
        assert reason in self.refused(setting.arguments(), capsys)

    @pytest.mark.parametrize("damage", ["weights", "configuration", "tokenizer"])
    def test_a_damaged_model(self, setting: Setting, capsys: pytest.CaptureFixture[str], damage: str) -> None:
        name = {"weights": "model.safetensors", "configuration": "config.json", "tokenizer": "tokenizer.json"}[damage]
        path = setting.model / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert f"transformers cannot load {setting.model}" in self.refused(setting.arguments(), capsys)

    def test_an_unknown_model_type_whose_error_has_many_lines(
        self, setting: Setting, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = setting.model / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "unheard-of"}))
        line = self.refused(setting.arguments(), capsys)
        assert "`unheard-of`" in line
        assert "pip install" in line, "the second paragraph of what transformers says"

    def test_a_device_this_machine_lacks(
        self, setting: Setting, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert "no cuda device" in self.refused(setting.arguments(device="cuda"), capsys)

    @pytest.mark.parametrize(
        "arguments", [[], ["analyze"], ["analyse"], ["analyse", "--model=gpt2"], ["models", "--all"]], ids=str
    )
    def test_of_the_arguments_themselves(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == WRONG_INPUT
        assert "usage: python -m kis_core" in capsys.readouterr().err

    @pytest.mark.parametrize("changed", [{"tokens": "many"}, {"device": "tpu"}], ids=str)
    def test_of_an_option(self, setting: Setting, capsys: pytest.CaptureFixture[str], changed: dict[str, str]) -> None:
        with pytest.raises(SystemExit) as caught:
            main(setting.arguments(**changed))
        assert caught.value.code == WRONG_INPUT
        assert f"argument --{next(iter(changed))}: invalid" in capsys.readouterr().err

    def test_as_a_program_leaves_no_traceback(self, setting: Setting) -> None:
        ran = subprocess.run(
            [sys.executable, "-m", "kis_core", *setting.arguments(facts="nowhere.csv")],
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert ran.returncode == WRONG_INPUT
        assert "Traceback" not in ran.stderr
        assert ran.stderr.splitlines()[-1].startswith("kis_core: No fact file at nowhere.csv")


def test_an_interrupt_ends_with_its_own_status(
    setting: Setting, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(analysing, "run", interrupted)
    assert main(setting.arguments()) == INTERRUPTED == 130
    assert capsys.readouterr().err.endswith("\nstopped; what was already computed is kept\n")
