"""Whatever is typed where a number belongs ends in a refusal of one line and status 2, at once; nothing is computed."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from kis_core import corpora
from kis_core.__main__ import WRONG_INPUT, main
from tests import tiny

QUICK, MANY = 60, 2_000  # commands
LONGEST = 600  # characters of a line of complaint, the usage aside
FACTS = (
    "subject,prompt,target,relation\nMalta,The capital of {} is,Valletta,c\nOslo,{} is in,Norway,d\nRome,{} is,x,c\n"
)
NUMBERS = {
    "analyse": ("tokens", "documents", "settled", "layers"),
    "covariance": ("tokens", "documents", "settled", "layers"),
    "edit": ("tokens", "documents", "layer", "fact", "strength", "steps", "learning-rate", "weight-decay", "kl",
             "clamp", "seed"),
    "lifelong": ("tokens", "documents", "layer", "edits", "every", "batch", "seed"),
    "study": ("edits", "seed"),
    "forgetting": ("edits", "every", "seeds", "layers"),
}  # fmt: skip
ODD = (
    "9" * 5000, "-" + "9" * 5000, "9" * 21, "9223372036854775808", "-9223372036854775809", "-1", "-0.5", "1e999", "nan",
    "inf", "-inf", "0x10", "", " ", "--", "-", "x", "a" * 300, "1,", ",", "1,,2", "0-99999999999", "3-2", "1-2-3", "½",
    "\udcff", "None", "True", "[]", "1;2", "99999999999999999999.5",
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """The options of each command, all of them good."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "facts.csv").write_text(FACTS)
    (folder / "corpus.txt").write_text("\n".join(corpora.builtin().texts[:20]), encoding="utf-8")
    model = tiny.save("GPT-2", folder / "model")
    own = {"facts": folder / "facts.csv", "out": folder / "out", "device": "cpu"}
    of_one = own | {"model": model, "corpus": folder / "corpus.txt", "tokens": 200}
    of_many = own | {"models": model, "edits": 1}
    return {
        "analyse": of_one, "covariance": of_one,
        "edit": of_one | {"layer": 0, "fact": 0, "target": "France"},
        "lifelong": of_one | {"layer": 0, "edits": 1, "every": 1},
        "study": of_many,
        "forgetting": of_many | {"every": 1, "seeds": 1, "methods": "rome"},
    }  # fmt: skip


def tried(command: str, options: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    """Run a command that makes no sense."""
    arguments = [command, *(f"--{name}={value}" for name, value in options.items())]
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = int(ended.code or 0)
    told = capsys.readouterr()
    assert (status, told.out) == (WRONG_INPUT, ""), (arguments, told.err[-LONGEST:])
    line = told.err.splitlines()[-1]
    assert "kis_core" in line, line
    assert len(line) < LONGEST, line
    assert "Traceback" not in told.err


def odd(count: int, seed: int, base: dict[str, dict[str, object]], capsys: pytest.CaptureFixture[str]) -> None:
    choose = random.Random(seed)
    for _ in range(count):
        command = choose.choice(sorted(NUMBERS))
        name, text = choose.choice(NUMBERS[command]), choose.choice(ODD)
        tried(command, base[command] | {name: text}, capsys)
    out = Path(str(base["analyse"]["out"]))
    assert not out.exists() or os.listdir(out) == []


@pytest.mark.timeout(300)
def test_numbers_that_make_no_sense_are_refused(
    base: dict[str, dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    odd(QUICK, 1, base, capsys)


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_two_thousand_numbers_that_make_no_sense_are_refused(
    base: dict[str, dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    odd(MANY, 2, base, capsys)


@pytest.mark.parametrize(
    ("command", "changed", "reason"),
    [
        ("analyse", {"documents": "9" * 21}, "invalid whole number '999999999999999999999'; at most"),
        ("edit", {"target": "--"}, "--target=--: -- ends the options, and is no value"),
        ("edit", {"layer": "9" * 5000}, "invalid whole number '9999999999999999999999999999999999999999…'"),
        ("lifelong", {"layer": "9" * 5000}, "--layer takes a number or a range such as 0-2"),
        ("lifelong", {"layer": "0-99999999999"}, "--layer takes a number or a range such as 0-2"),
        ("forgetting", {"seeds": "9223372036854775808"}, "invalid whole number '9223372036854775808'; at most 1,000"),
        ("export", {"out": "."}, ". is a folder; name a file in it."),
    ],
)
def test_what_was_seen_to_end_in_a_traceback_or_to_hang(
    base: dict[str, dict[str, object]], capsys: pytest.CaptureFixture[str], command: str, changed: dict[str, object],
    reason: str,
) -> None:  # fmt: skip
    if command == "export":
        from kis_core.store.store import Store, key_of

        Store().put(key_of("kept", {}), {}, {})
    arguments = [command, *(f"--{name}={value}" for name, value in (base.get(command, {}) | changed).items())]
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status == WRONG_INPUT
    assert reason in capsys.readouterr().err.splitlines()[-1]
