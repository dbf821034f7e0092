"""Angles: histograms, their means, the pairs of a bar, and every layer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from kis_core.analysis.pipeline import Result
from kis_core.superposition.verdicts import right_angles
from tests.pages.conftest import Open
from tests.pages.looking import Chart, captions, charts, click, listed, markdown, pairs_of, table_of

PAGE = "pages/angles.py"
SPACES = ("whitening", "activation")  # as a link calls them
NAMES = {"whitening": "whitened angle", "activation": "plain angle"}


def degrees(result: Result, space: str, layer: int = 0) -> np.ndarray:
    cosine = {"whitening": result.whitening_cosine, "activation": result.activation_cosine}[space]
    return np.degrees(np.arccos(cosine[layer]))


def off_diagonal(matrix: np.ndarray) -> np.ndarray:
    return matrix[~np.eye(len(matrix), dtype=bool)]


def histogram(page: AppTest) -> Chart:
    return next(chart for chart in charts(page) if chart.id)


def outlined(page: AppTest) -> pd.DataFrame:
    """The bars with a line around them: rectangles of their own, without a filling."""
    chart = histogram(page)
    marks = [(layer["mark"], layer.get("data")) for layer in chart.spec["layer"]]
    (data,) = (data for mark, data in marks if mark["type"] == "rect" and mark.get("fill", 0) is None)
    return chart.tables[data["name"]]


def at_angles(result: Result, space: str, low: float, high: float) -> set[tuple[int, int]]:
    angle = degrees(result, space)
    m = len(angle)
    return {(i, j) for i in range(m) for j in range(m) if i != j and low <= angle[i, j] <= high}


def test_the_bars_are_the_shares_of_the_pairs(look: Open, result: Result) -> None:
    page = look(PAGE, layer="3")
    bars = histogram(page).drawn("rect")
    assert outlined(page).empty, "before a click"
    frame = table_of(page, *NAMES.values()).value
    for space in SPACES:
        angles = off_diagonal(degrees(result, space, 3))
        assert f"{NAMES[space]} {angles.mean():.0f}° ± {angles.std():.0f}°" in captions(page)
        assert frame[NAMES[space]].iloc[3] == f"{angles.mean():.1f}° ± {angles.std():.1f}°"
        cosine = {"whitening": result.whitening_cosine, "activation": result.activation_cosine}[space][3]
        assert right_angles(cosine, whitened=space == "whitening").finding in markdown(page)
        mine = bars[bars["space"] == NAMES[space]]
        assert mine["share"].sum() == pytest.approx(1)
        for bar in mine.itertuples():
            inside = (angles >= bar.low) & (angles < bar.high)
            assert bar.share == pytest.approx(inside.mean())


@pytest.mark.parametrize("space", SPACES)
def test_the_list_holds_the_pairs_of_the_bar(space: str, look: Open, result: Result) -> None:
    angles = np.sort(off_diagonal(degrees(result, space)))
    low, high = float(np.floor(angles[40])), float(np.ceil(angles[40]))
    expected = at_angles(result, space, low, high)
    page = look(PAGE, angle=f"{low:g}~{high:g}", space=space)
    assert f"The {len(expected):,} pairs at a {NAMES[space]} of {low:.0f}° to {high:.0f}°" in markdown(page)
    shown = pairs_of(listed(page))
    assert 0 < len(shown) == min(200, len(expected))
    assert set(shown) <= expected


def test_a_click_on_a_bar_lists_its_pairs_and_outlines_it(open_page: Open, result: Result) -> None:
    page = open_page(PAGE)
    bars = histogram(page).drawn("rect")
    for space in SPACES:
        bar = bars[bars["space"] == NAMES[space]].iloc[3]
        click(page, histogram(page), tail=[{"low": bar["low"], "high": bar["high"], "space": bar["space"]}])
        assert page.query_params["angle"] == f"{bar['low']:g}~{bar['high']:g}"
        assert page.query_params.get("space", SPACES[0]) == space
        expected = at_angles(result, space, bar["low"], bar["high"])
        assert set(pairs_of(listed(page))) <= expected
        assert f"The {len(expected):,} pairs" in markdown(page)
        assert set(outlined(page)["low"]) == {bar["low"]}
        assert set(outlined(page)["high"]) == {bar["high"]}
