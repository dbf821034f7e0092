"""Charts that are kept: another content is another chart, and a kept one is what would be drawn anew."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.elements.vega_charts import _convert_altair_to_vega_lite_spec

from kis_core import charts
from pages.parts.figures import drawing as module
from pages.parts.figures.drawing import drawing

M = 6
P = np.random.default_rng(0).normal(size=(M, M))
NAMES = [f"fact {fact}" for fact in range(M)]
HEATMAP: dict[str, Any] = {
    "p": P, "order": np.arange(M), "limit": 0.3, "labels": NAMES, "names": NAMES, "picked": (1, 2),
}  # fmt: skip
CURVES = pd.DataFrame({"at": [0.0, 1.0, 0.5], "density": [1.0, 2.0, 3.0], "size": [3, 3, 4]})


def _with(array: np.ndarray, at: tuple[int, ...], value: float) -> np.ndarray:
    changed = array.copy()
    changed[at] = value
    return changed


CHANGES: tuple[dict[str, Any], ...] = (
    {"p": _with(P, (3, 4), np.nextafter(P[3, 4], 1))}, {"p": P.astype(np.float32)}, {"p": P.T},
    {"order": np.arange(M)[::-1]}, {"limit": 0.30000000000000004}, {"picked": (2, 1)}, {"picked": None},
    {"names": [f"{NAMES[0]}', '{NAMES[1]}", *NAMES[2:]]}, {"hide_diagonal": True},
    {"window": charts.Window(0, 3, 0, 3)}, {"window": charts.Window(0, 3, 0, 4)},
)  # fmt: skip
TABLES = (
    CURVES.assign(density=[1.0, 2.0, 3.0000000000000004]), CURVES.assign(size=[3.0, 3.0, 4.0]),
    CURVES.assign(size=["3", "3", "4"]), CURVES.rename(columns={"at": "size", "size": "at"}), CURVES.iloc[:2],
    CURVES.iloc[::-1], CURVES.set_index(pd.Index([5, 6, 7])),
)  # fmt: skip


def test_another_content_has_another_key() -> None:
    heatmaps = [drawing(charts.heatmap, **HEATMAP | change).key for change in ({}, *CHANGES)]
    words = {"title": "P", "legend_title": "facts"}
    curves = [drawing(charts.overlaid, table, **words).key for table in (CURVES, *TABLES)]
    assert len({*heatmaps, *curves}) == len(heatmaps) + len(curves)


def test_the_same_numbers_have_the_same_key_and_another_function_another() -> None:
    again = {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in HEATMAP.items()}
    assert drawing(charts.heatmap, **again).key == drawing(charts.heatmap, **HEATMAP).key
    del again["names"]
    assert drawing(charts.overview, **again).key != drawing(charts.heatmap, **again).key  # type: ignore[call-arg]


def test_what_cannot_be_told_apart_is_refused() -> None:
    with pytest.raises(TypeError, match="set"):
        drawing(charts.overlaid, CURVES, title={"P"}, legend_title="facts")  # type: ignore[arg-type]


def test_a_kept_chart_is_the_one_that_streamlit_would_send_and_is_nobodys_to_change() -> None:
    kept = drawing(charts.heatmap, **HEATMAP)
    anew = _convert_altair_to_vega_lite_spec(charts.heatmap(**HEATMAP))
    for _ in range(2):
        actual = module._specification(kept.key, kept.make)
        # Altair counts its views, so their names differ from chart to chart
        assert _uncounted(actual) == _uncounted(anew)
        actual["layer"].clear()


def _uncounted(specification: dict[str, Any]) -> str:
    counted = json.dumps(specification, default=lambda value: value.hex())
    return re.sub(r"(view|param)_\d+", r"\1", counted)
