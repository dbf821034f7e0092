"""The README's Python runs as it stands there, but for the size of the model, and gives what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import altair as alt
import pytest

README = Path(__file__).resolve().parents[2] / "README.md"
DEFAULT, SMALLEST = "demo-gpt2-128", "demo-gpt2-32"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), flags=re.DOTALL)


def test_there_is_an_example() -> None:
    assert BLOCKS


@pytest.mark.parametrize("model", [SMALLEST, pytest.param(DEFAULT, marks=pytest.mark.stress)])  # 4 s or 20 s
@pytest.mark.parametrize("block", BLOCKS)
def test_the_example_runs(block: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIS_CACHE", str(tmp_path))
    assert DEFAULT in block
    names: dict[str, Any] = {}
    exec(compile(block.replace(DEFAULT, model), str(README), "exec"), names)  # noqa: S102 - our own file
    assert names["p"].shape == (128, 128)
    assert isinstance(names["chart"], alt.LayerChart)
    assert names["superposition"].moments(names["p"]).kurtosis == names["result"].reports[0].moments.kurtosis
    assert len(names["archive"].computed(names["Store"]())) == 1
