"""Angles: histograms, their means, the pairs of a bar, and every layer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kis_core.analysis.pipeline import Result
from tests.pages.conftest import LAYERS, Open
from tests.pages.looking import Chart, captions, charts, click, click_cell, listed, markdown, marked, pairs_of, table_of

PAGE = "pages/angles.py"
SPACES = ("whitening", "activation")  # as a link calls them
NAMES = {"whitening": "whitened angle", "activation": "plain angle"}


def degrees(result: Result, space: str, layer: int = 0) -> np.ndarray:
    cosine = {"whitening": result.whitening_cosine, "activation": result.activation_cosine}[space]
    return np.degrees(np.arccos(cosine[layer]))


def off_diagonal(matrix: np.ndarray) -> np.ndarray:
    return matrix[~np.eye(len(matrix), dtype=bool)]


def histogram(page: object) -> Chart:
    return next(chart for chart in charts(page) if chart.id)  # type: ignore[arg-type]


def bars_of(page: object) -> pd.DataFrame:
    return histogram(page).drawn("rect")


def outlined(page: object) -> pd.DataFrame:
    """The bars with a line around them: rectangles of their own, without a filling."""
    chart = histogram(page)
    (layer,) = (
        one for one in chart.spec["layer"] if one["mark"]["type"] == "rect" and one["mark"].get("fill", 0) is None
    )
    return chart.tables[layer["data"]["name"]]


def at_angles(result: Result, space: str, low: float, high: float) -> set[tuple[int, int]]:
    angle = degrees(result, space)
    m = len(angle)
    return {(i, j) for i in range(m) for j in range(m) if i != j and low <= angle[i, j] <= high}


@pytest.mark.parametrize("layer", [0, 3])
def test_the_caption_states_mean_and_spread_of_both_spaces(layer: int, look: Open, result: Result) -> None:
    told = captions(look(PAGE, layer=str(layer)))
    for space in SPACES:
        angles = off_diagonal(degrees(result, space, layer))
        assert f"{NAMES[space]} {angles.mean():.0f}° ± {angles.std():.0f}°" in told


def test_the_bars_are_the_shares_of_the_pairs(look: Open, result: Result) -> None:
    page = look(PAGE)
    bars = bars_of(page)
    assert outlined(page).empty, "before a click"
    for space in SPACES:
        angles = off_diagonal(degrees(result, space))
        mine = bars[bars["space"] == NAMES[space]]
        assert mine["share"].sum() == pytest.approx(1)
        for bar in mine.itertuples():
            inside = (angles >= bar.low) & (angles < bar.high)
            assert bar.share == pytest.approx(inside.mean())


def test_the_picked_pair_stands_at_its_angles(look: Open, result: Result) -> None:
    marks = histogram(look(PAGE, pair="3-7")).table("at", "name", "row")
    assert marks["at"].tolist() == pytest.approx([degrees(result, space)[3, 7] for space in SPACES])


def test_a_fact_and_itself_are_no_mark(open_page: Open) -> None:
    page = open_page(PAGE, pair="3-3")
    assert not page.exception
    assert not histogram(page).holds("at", "name", "row")


@pytest.mark.parametrize("space", SPACES)
def test_the_list_holds_the_pairs_of_the_bar(space: str, look: Open, result: Result) -> None:
    angles = np.sort(off_diagonal(degrees(result, space)))
    low, high = float(np.floor(angles[40])), float(np.ceil(angles[40]))
    expected = at_angles(result, space, low, high)
    page = look(PAGE, angle=f"{low:g}~{high:g}", space=space)
    assert f"The {len(expected):,} pairs at a {NAMES[space]} of {low:.0f}° to {high:.0f}°" in markdown(page)
    found = pairs_of(listed(page))
    assert 0 < len(found) == min(200, len(expected))
    assert set(found) <= expected


def test_before_a_click_the_narrowest_thousandth_is_listed(look: Open, result: Result) -> None:
    angles = off_diagonal(degrees(result, "whitening"))
    expected = at_angles(result, "whitening", 0, float(np.quantile(angles, 0.001)))
    assert set(pairs_of(listed(look(PAGE)))) == expected


@pytest.mark.parametrize("space", SPACES)
def test_a_click_on_a_bar_lists_its_pairs_and_outlines_it(space: str, open_page: Open, result: Result) -> None:
    page = open_page(PAGE)
    bars = bars_of(page)
    bar = bars[bars["space"] == NAMES[space]].iloc[3]
    click(page, histogram(page), tail=[{"low": bar["low"], "high": bar["high"], "space": bar["space"]}])
    assert page.query_params["angle"] == f"{bar['low']:g}~{bar['high']:g}"
    assert page.query_params.get("space", SPACES[0]) == space
    expected = at_angles(result, space, bar["low"], bar["high"])
    assert set(pairs_of(listed(page))) <= expected
    assert f"The {len(expected):,} pairs" in markdown(page)
    assert set(outlined(page)["low"]) == {bar["low"]}
    assert set(outlined(page)["high"]) == {bar["high"]}


def test_a_range_without_pairs_lists_none(open_page: Open) -> None:
    page = open_page(PAGE, angle="179~180")
    assert not page.exception
    assert listed(page).empty
    assert "The 0 pairs" in markdown(page)


def test_a_click_in_the_list_picks_the_pair(open_page: Open, result: Result) -> None:
    page = open_page(PAGE)
    frame = listed(page)
    click_cell(page, table_of(page, "picked", "i", "j"), 2, "edited")
    i, j = pairs_of(frame)[2]
    assert page.query_params["pair"] == f"{i}-{j}"
    assert marked(page) == [(i, j)]
    assert histogram(page).table("at", "name", "row")["at"].iloc[0] == pytest.approx(degrees(result, "whitening")[i, j])


def test_the_table_tells_every_layer(look: Open, result: Result) -> None:
    frame = table_of(look(PAGE), *NAMES.values()).value
    assert len(frame) == LAYERS
    for layer in range(LAYERS):
        for space in SPACES:
            angles = off_diagonal(degrees(result, space, layer))
            assert frame[NAMES[space]].iloc[layer] == f"{angles.mean():.1f}° ± {angles.std():.1f}°"


def test_every_layer_has_its_strip_on_the_scale_of_the_bars(look: Open) -> None:
    page = look(PAGE)
    strips = next(chart for chart in charts(page) if chart.holds("layer", "at", "base", "height", "curve"))
    assert sorted(set(strips.table("layer", "at", "base", "height", "curve")["layer"])) == list(range(LAYERS))
    assert strips.domains("x")[0] == histogram(page).domains("x")[0]
