"""Charts of many facts: every bar and cell at its place, nulls and marks where they belong."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kis_core import charts
from kis_core.charts.distributions import FLOOR
from kis_core.superposition import ISOTROPIC, MEASURED, SAME_STD
from tests.charts.chart_tools import HOSTILE, NAN, specification
from tests.charts.every_chart import BARS


def rows(chart: object) -> list[pd.DataFrame]:
    """The tables a chart carries."""
    return [pd.DataFrame(table) for table in specification(chart)["datasets"].values()]  # type: ignore[arg-type]


def test_bars_with_an_entry_are_drawn_and_nulls_down_to_where_the_axis_ends() -> None:
    tables = rows(charts.counts(BARS))
    (bars,) = (table for table in tables if "high" in table)
    assert bars["count"].sum() == 40 * 39
    assert bars["count"].min() >= 1
    assert set(bars["curve"]) == {MEASURED}
    (nulls,) = (table for table in tables if {"at", "curve"} <= set(table))
    assert set(nulls["curve"]) == {SAME_STD, ISOTROPIC}
    assert nulls["count"].min() >= FLOOR


def test_a_picked_pair_is_marked_where_it_is_in_the_picture() -> None:
    for value, marks in ((0.0, 3), (50.0, 0), (NAN, 0)):
        chart = specification(charts.counts(BARS, picked={"P[1, 2]": value}))
        assert len(chart["layer"]) == 2 + marks


def test_a_part_has_its_own_facts_on_either_axis() -> None:
    p = np.array([[0.5, np.nan, -0.25], [1.0, 0.125, 0.0]])
    chart = charts.part(p, limit=1.0, row_names=["a", "b"], column_names=["c", HOSTILE[0], "e"], picked=(1, 2))
    (cells,) = (table for table in rows(chart) if {"r", "c", "p"} <= set(table))
    drawn = {(row, column): value for row, column, value in cells[["r", "c", "p"]].itertuples(index=False)}
    assert drawn == {(0, 2): 0.5, (0, 4): -0.25, (1, 2): 1.0, (1, 3): 0.125, (1, 4): 0.0}
