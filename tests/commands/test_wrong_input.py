"""Whatever is wrong with a command's input ends in one line and status 2, at once; nothing is written."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kis_core import corpora
from kis_core.__main__ import WRONG_INPUT, main
from kis_core.store.store import Store, key_of
from tests import tiny

EACH, MANY = 1, 70  # odd texts for every option
LONGEST = 800  # characters of a line of complaint, the usage aside
ASIDE = re.compile(r" *\d+\.\d s  .*|\S+: columns .* in CSV\.|left out row 3: .*|warning: .*")  # before the complaint
FACTS = """subject,prompt,target,relation
Malta,The capital of {} is,Valletta,sport
Oslo,no slot at all,Norway,sport
Rome,{} is in,Italy,c
"""
NUMBERS = {
    "analyse": ("tokens", "documents", "settled", "layers"),
    "covariance": ("tokens", "documents", "settled", "layers"),
    "edit": ("layer", "fact", "strength", "steps", "learning-rate", "weight-decay", "kl", "clamp", "seed", "prefixes"),
    "lifelong": ("layer", "edits", "every", "batch", "seed"),
    "study": ("edits", "seed", "clamp", "prefixes", "tokens"),
    "forgetting": ("edits", "every", "seeds", "layers"),
}
ODD = (
    *("9" * 5000, "-" + "9" * 5000, "9" * 21, "9223372036854775808", "-9223372036854775809", "-1", "-0.5", "1e999"),
    *("nan", "inf", "-inf", "0x10", "", " ", "--", "-", "x", "a" * 300, "1,", ",", "1,,2", "0-99999999999", "3-2"),
    *("1-2-3", "½", "\udcff", "None", "True", "[]", "1;2", "99999999999999999999.5"),
)
AT_ONCE = (  # refused by the parser
    ("", {}, "the following arguments are required: COMMAND"),
    ("analyze", {}, "invalid choice: 'analyze'"),
    ("analyse", {"model": None, "facts": None}, "the following arguments are required: --model, --facts"),
    ("analyse", {"documents": "9" * 21}, "invalid whole number '999999999999999999999'; at most"),
    ("covariance", {"dtype": "int8"}, "argument --dtype: invalid choice: 'int8'"),
    ("edit", {"fact": None, "target": None}, "the following arguments are required: --fact, --target"),
    ("edit", {"weight-decay": "inf"}, "argument --weight-decay: invalid number 'inf'"),
    ("study", {"prefixes": "3x"}, "argument --prefixes: invalid beginnings '3x'; such as 10x5,10x10, or 0 for none"),
    ("edit", {"target": "--"}, "--target=--: -- ends the options, and is no value"),
    ("lifelong", {"draw": "hand"}, "argument --draw: invalid choice: 'hand'"),
    ("lifelong", {"seed": -1}, "argument --seed: invalid whole number '-1'; at least 0"),
)
BEFORE_THE_MODEL = (
    ("analyse", {"facts": "nowhere.csv"}, "No fact file at nowhere.csv"),
    ("analyse", {"corpus": "nowhere.txt"}, "No corpus file at nowhere.txt"),
    ("analyse", {"model": "gpt2-large"}, "openai-community/gpt2-large is not on this machine"),
    ("analyse", {"model": "x" * 300}, "is neither a folder nor a GGUF file on this machine nor a model name"),
    ("analyse", {"layers": "-1"}, "layers count from 0; (-1,) were asked for"),
    ("analyse", {"layers": "1,"}, "--layers takes `all` or numbers such as 0,2; found '1,'"),
    ("analyse", {"tokens": 0}, "C needs at least one token; 0 were asked for"),
    ("covariance", {"documents": 0}, "C needs at least one document"),
    ("covariance", {"settled": 1}, "P settles at a share between 0 and 1"),
    ("edit", {"strength": 1.51}, "the strength has to lie between 0 and 1.5; found 1.51"),
    ("lifelong", {"layer": "2-0"}, "--layer takes a number or a range such as 0-2; found '2-0'"),
)
OF_THE_MODEL = (
    ("analyse", {"layers": "0,99"}, "the model has layers 0 to 2; layer 99 was asked for"),
    ("covariance", {"device": "cuda:99"}, "This machine has no cuda:99 device"),
    ("edit", {"fact": 2}, "facts count from 0 to 1; fact 2 was to be edited"),
    ("edit", {"layer": 2}, "layer 2 is the last one"),
    ("edit", {"target": "   "}, "the new object is empty"),
    ("edit", {"target": "so " * 200}, "this model reads at most 64"),
    ("edit", {"steps": 0}, "steps from 1 to 1000; 0 were asked for"),
    ("lifelong", {"layer": "0-1"}, "ROME edits one layer; 2 were asked for"),
    ("lifelong", {"batch": 2}, "ROME makes one edit at a time"),
    ("lifelong", {"edits": 0}, "from 1 to 2000 edits"),
    ("lifelong", {"edits": 2000, "draw": "relation", "relations": "sport"}, "can be edited"),
)
Options = dict[str, object]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Options]:
    """The options of each command, all of them good."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "facts.csv").write_text(FACTS)
    (folder / "corpus.txt").write_text("\n".join(corpora.builtin().texts[:20]), encoding="utf-8")
    model = tiny.save("GPT-2", folder / "model")
    own: Options = {"facts": folder / "facts.csv", "out": folder / "out", "device": "cpu"}
    of_one = own | {"model": model, "corpus": folder / "corpus.txt", "tokens": 200}
    of_many = own | {"models": model, "edits": 1}
    edit = {"layer": 0, "fact": 0, "target": "France"}
    lifelong = {"layer": 0, "edits": 1, "every": 1}
    forgetting = {"every": 1, "seeds": 1, "methods": "rome"}
    commands = {"analyse": of_one, "covariance": of_one, "edit": of_one | edit, "lifelong": of_one | lifelong}
    return commands | {"study": of_many, "forgetting": of_many | forgetting}


@pytest.fixture(autouse=True)
def shared_cache(own_cache: Path, good: dict[str, Options], monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what stands before a refusal is computed once."""
    monkeypatch.setenv("KIS_CACHE", str(Path(str(good["analyse"]["facts"])).with_name("cache")))


def refused(command: str, options: Options, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of complaint."""
    capsys.readouterr()
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    try:
        status = main([*command.split(), *given])
    except SystemExit as ended:
        status = int(ended.code or 0)
    said = capsys.readouterr()
    assert (status, said.out) == (WRONG_INPUT, ""), (command, options, said.err[-LONGEST:])
    *before, line = said.err.splitlines()
    assert "Traceback" not in said.err
    assert "kis_core" in line
    assert len(line) < LONGEST
    if line.startswith(("kis_core: ", "kis_core, process 1: ")):
        assert all(ASIDE.fullmatch(other) for other in before)
    else:
        assert "usage: python -m kis_core" in said.err
    out = Path(str(options.get("out", "nowhere")))
    assert command == "export" or not out.is_dir(), (command, options)
    return line


@pytest.mark.parametrize(("command", "changed", "reason"), [*AT_ONCE, *BEFORE_THE_MODEL, *OF_THE_MODEL])
def test_one_line_says_why(
    good: dict[str, Options], capsys: pytest.CaptureFixture[str], command: str, changed: Options, reason: str
) -> None:
    assert reason in refused(command, good.get(command, {}) | changed, capsys)


def odd_options(texts: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """So many odd texts for every option that takes a number."""
    choose = random.Random(seed)
    for command, names in NUMBERS.items():
        for name in names:
            yield from ((command, name, choose.choice(ODD)) for _ in range(texts))


@pytest.mark.parametrize(("texts", "seed"), [(EACH, 1), pytest.param(MANY, 2, marks=pytest.mark.stress)])
@pytest.mark.timeout(3600)
def test_numbers_that_make_no_sense(
    good: dict[str, Options], capsys: pytest.CaptureFixture[str], texts: int, seed: int
) -> None:
    for command, name, text in odd_options(texts, seed):
        refused(command, good[command] | {name: text}, capsys)


@pytest.mark.parametrize("command", ["analyse", "edit", "lifelong", "covariance"])
def test_a_file_in_the_place_of_the_folder_is_kept(
    good: dict[str, Options], capsys: pytest.CaptureFixture[str], command: str, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for out in (precious, precious / "deeper"):
        assert "is a file; --out names a folder" in refused(command, good[command] | {"out": out}, capsys)
    assert precious.read_text() == "precious"


def test_a_folder_in_the_place_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    Store().put(key_of("kept", {}), {}, {})
    assert ". is a folder; name a file in it." in refused("export", {"out": "."}, capsys)


def test_unusable_facts_and_models(
    good: dict[str, Options], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    facts, options = tmp_path / "facts.csv", good["analyse"]
    facts.write_text("subject,prompt,target\nMalta,no slot,x\n,{} is,x\n")
    line = refused("analyse", options | {"facts": facts}, capsys)
    assert "holds no usable fact. First problem: row 2" in line
    model = Path(shutil.copytree(str(options["model"]), tmp_path / "model"))
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    assert f"transformers cannot load {model}" in refused("analyse", options | {"model": model}, capsys)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"model_type": "unheard-of"}))
    line = refused("analyse", options | {"model": model}, capsys)
    assert "`unheard-of`" in line
    assert "pip install" in line, "the second paragraph of what transformers says"


def test_devices_that_are_not_there(
    good: dict[str, Options], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no cuda device" in refused("covariance", good["covariance"] | {"device": "cuda"}, capsys)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    line = refused("covariance", good["covariance"] | {"device": "cuda:0"}, capsys)
    assert line.startswith("kis_core, process 1: several processes take a device each")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    line = refused("covariance", good["covariance"] | {"device": "auto"}, capsys)
    assert line.endswith("2 processes were started on a machine with 1 GPUs; use --nproc-per-node 1")


@pytest.mark.parametrize("header", ["\x1b]0;owned\x07subject,b", "\x9b31mred,b"])
def test_nothing_that_drives_a_terminal_is_written_to_it(
    good: dict[str, Options], capsys: pytest.CaptureFixture[str], header: str, tmp_path: Path
) -> None:
    path = tmp_path / "facts\x1b[2J.csv"
    path.write_text(f"{header}\n1,2\n", encoding="utf-8")
    for facts in (path, tmp_path / "absent\x1b[2J.csv"):
        assert refused("analyse", good["analyse"] | {"facts": facts}, capsys).isprintable()
