"""Log lines: each is one line of ours, whatever a file, a name or an error holds."""

from __future__ import annotations

import ast
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kis_core import jobs
from kis_core.results import caveats
from kis_core.store.store import Store, key_of
from tests.results.test_export import RESULT

LIBRARY = Path(__file__).parents[1] / "kis_core"
FORGED = "x\nWARNING: all is well\x1b[2J"
OUR_OWN = {"key", "self.root", "store.root", "consequence", "why", "caveat", "where"}  # texts of the program's own
NAMES = {"stage", "dtype", "place.name", "recognised.name", "chosen.name"}
NUMBERS = {"moment.layer", "padded", "recognised.layers"}
SHORT = {"tokens_counted": 1, "mlp_width": 40}  # provenance of a result that is worth a warning


def _harmless(argument: ast.expr) -> bool:
    if isinstance(argument, ast.Call):
        return isinstance(argument.func, ast.Name) and argument.func.id == "shown"
    if isinstance(argument, ast.BoolOp):
        return all(map(_harmless, argument.values))
    text = ast.unparse(argument)
    return text.endswith(".__name__") or text in OUR_OWN | NAMES | NUMBERS


def test_whatever_comes_from_elsewhere_is_made_fit_for_a_line() -> None:
    raw = []
    for path in LIBRARY.rglob("*.py"):
        if "demo" in path.parts:
            continue  # trains the embedded models, on facts of our own
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log."):
                assert node.func.attr != "exception", f"{path.name}: its traceback holds the message of the error"
                doubtful = [argument for argument in node.args[1:] if not _harmless(argument)]
                raw += [f"{path.name}: {ast.unparse(argument)}" for argument in doubtful]
    assert not raw


def test_a_strangers_model_facts_and_errors_forge_no_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    caveats.log_of(replace(RESULT, request=replace(RESULT.request, model=FORGED), provenance=SHORT))
    store = Store(tmp_path)
    key = key_of("value", {})
    store.put(key, {FORGED: 1}, {"x": np.ones(2)})
    assert store.get(key) is None

    def fail(report: object) -> None:
        raise ValueError(FORGED)

    jobs.Runner().submit("key", fail).wait(10)
    assert len(caplog.records) >= 3
    lines = "\n".join(record.getMessage() for record in caplog.records).splitlines()
    assert not [line for line in lines if line.startswith("WARNING") or "\x1b" in line]
