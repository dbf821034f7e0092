"""The README's Python runs as it stands there, but for the sizes, and gives what it says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import altair as alt
import pytest

from kis_core import facts
from kis_core.models import catalog
from tests.lifelong.lifelong_tools import write_facts

README = Path(__file__).resolve().parents[2] / "README.md"
MODEL, EDITS = 'model="demo-gpt2-128"', ('"rome", 10', '"rome", 1')


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.stress)])
def test_the_example_runs(whole: bool, tmp_path: Path, own_cache: Path) -> None:
    """Whole, or on eight facts with the smallest model, as a folder of somebody: then no other facts are measured."""
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), flags=re.DOTALL)
    assert MODEL in block
    assert EDITS[0] in block
    if not whole:
        model = shutil.copytree(catalog.locate("demo-gpt2-32").path, tmp_path / "model")
        write_facts(tmp_path / "facts.csv", facts.builtin().facts[:8])
        smaller = f"model={str(model)!r}, facts={str(tmp_path / 'facts.csv')!r}, tokens=4000"
        block = block.replace(MODEL, smaller).replace(*EDITS)
    names: dict[str, Any] = {}
    exec(compile(block, str(README), "exec"), names)  # noqa: S102 - our own file
    assert names["p"].shape == ((128, 128) if whole else (8, 8))
    assert isinstance(names["chart"], alt.LayerChart)
    assert names["superposition"].moments(names["p"]).kurtosis == names["result"].reports[0].moments.kurtosis
    assert len(names["archive"].computed(names["Store"]())) == 1
    assert len(names["trace"].queue) == (10 if whole else 1)
