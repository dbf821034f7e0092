"""Compare: two models or two layers on one scale, their difference, and the pairs that differ most."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from kis_core.analysis import pipeline
from kis_core.analysis.pipeline import Result
from kis_core.results import archive
from kis_core.results.result import MATRICES, OF_LAYERS
from kis_core.store.store import Store
from kis_core.superposition.ordering import order_facts
from pages.parts.frame.text import plain
from tests.pages.conftest import ANSWERED, MODEL, ONE_LAYER, Open, Stored
from tests.pages.looking import (
    Chart,
    captions,
    charts,
    click,
    click_cell,
    infos,
    listed,
    markdown,
    pairs_of,
    press,
    provenance,
    table_of,
)

PAGE = "pages/compare.py"
FOUR_DIGITS = 1e-4  # values are sent with as many
NO_SIGN = 5e-4  # of P in a table, where less than that is shown as 0 and not as -0.000
FIRST, SECOND, DIFFERENCE = range(3)


@pytest.fixture
def mixed(stored: Stored) -> Result:
    return stored("mixed")


def heatmaps(page: AppTest) -> list[Chart]:
    return [chart for chart in charts(page) if chart.holds("r", "c", "p")]


def scatter(page: AppTest) -> Chart:
    return next(chart for chart in charts(page) if chart.holds("i", "j", "x", "y", "edit", "suffers"))


def colours(chart: Chart) -> list[float]:
    return chart.domains("color")[0]


def matrix(chart: Chart, m: int) -> np.ndarray:
    """What a heatmap draws, by position; NaN where it draws nothing."""
    drawn = np.full((m, m), np.nan)
    for cell in chart.table("r", "c", "p").itertuples():
        drawn[cell.r, cell.c] = cell.p
    return drawn


def off(p: np.ndarray) -> np.ndarray:
    return p[~np.eye(len(p), dtype=bool)]


def assert_drawn(chart: Chart, expected: np.ndarray) -> None:
    """A heatmap draws these entries, and nothing on the diagonal."""
    drawn = matrix(chart, len(expected))
    np.testing.assert_allclose(off(drawn), off(expected), atol=FOUR_DIGITS)
    assert np.isnan(drawn.diagonal()).all()


def test_by_default_the_layer_is_set_beside_the_last_on_one_scale(look: Open, mixed: Result) -> None:
    p, q = mixed.p[0], mixed.p[-1]
    page = look(PAGE, facts="mixed")
    for chart, expected in zip(heatmaps(page), (p, q, p - q), strict=True):
        assert_drawn(chart, expected)
    first, second, difference = (colours(chart) for chart in heatmaps(page))
    assert first == second, "a colour means the same on either side"
    for low, high in (first, difference):
        assert low == -high < 0
    assert first[1] >= max(np.quantile(np.abs(off(side)), 0.99) for side in (p, q)), "no few entries bleach the rest"
    assert difference[1] >= np.quantile(np.abs(off(p - q)), 0.99)
    x, y = pd.Series(off(p)), pd.Series(off(q))
    assert f"Pearson {x.corr(y):.2f}" in markdown(page)
    assert f"Spearman {x.rank().corr(y.rank()):.2f}" in markdown(page)


def test_the_points_and_the_list_are_the_pairs_that_differ_most(look: Open, mixed: Result) -> None:
    p, q = mixed.p[0], mixed.p[-1]
    most = np.sort(np.abs(off(p - q)))[::-1]
    points = scatter(look(PAGE, facts="mixed")).table("i", "j", "x", "y", "edit", "suffers")
    i, j = points["i"].to_numpy(), points["j"].to_numpy()
    np.testing.assert_allclose(points["x"], p[i, j])
    np.testing.assert_allclose(points["y"], q[i, j])
    assert np.abs(p - q)[i, j].min() >= most[len(points) - 1]
    frame = listed(look(PAGE, facts="mixed"))
    i, j = frame["i"].to_numpy(), frame["j"].to_numpy()
    np.testing.assert_allclose(frame["here"], p[i, j], atol=NO_SIGN)
    np.testing.assert_allclose(frame["there"], q[i, j], atol=NO_SIGN)
    np.testing.assert_allclose(frame["difference"], p[i, j] - q[i, j])
    np.testing.assert_allclose(np.abs(frame["difference"]), most[: len(frame)])


def test_another_model_of_the_link_is_compared_with(look: Open, mixed: Result, stored: Stored) -> None:
    page = look(PAGE, facts="mixed", other=ONE_LAYER)
    p, q = mixed.p[0], stored("mixed", model=ONE_LAYER).p[0]
    assert_drawn(heatmaps(page)[SECOND], q)
    assert f"Pearson {np.corrcoef(off(p), off(q))[0, 1]:.2f}" in markdown(page)
    origins = provenance(page)
    assert ONE_LAYER in origins[SECOND], "each side with its own provenance"
    assert all(MODEL in origins[at] for at in (FIRST, DIFFERENCE))
    assert ONE_LAYER not in origins[FIRST]
    assert ONE_LAYER in origins[DIFFERENCE], "a difference is of both"
    assert [MODEL in text and ONE_LAYER in text for text in origins].count(True) >= 3, "as scatter and list are"
    assert len(page.slider) == 1, "there is no layer to choose of a model that has one"


def test_another_layer_is_compared_with_in_the_chosen_order(look: Open, mixed: Result) -> None:
    assert_drawn(heatmaps(look(PAGE, facts="mixed", layer="3"))[SECOND], mixed.p[0])
    page = look(PAGE, facts="mixed", otherlayer="1", layer="2", order="similarity")
    p, q = mixed.p[2], mixed.p[1]
    order, _ = order_facts(mixed.facts.facts, p, "similarity")
    for chart, expected in zip(heatmaps(page), (p, q, p - q), strict=True):
        assert_drawn(chart, expected[np.ix_(order, order)])
    assert "layer 1" in captions(page)


def test_a_click_on_a_heatmap_a_point_or_a_row_picks_the_pair(open_page: Open, stored: Stored) -> None:
    page = open_page(PAGE, facts="mixed", order="subject")
    order, _ = order_facts(stored("mixed").facts.facts, stored("mixed").p[0], "subject")
    for which in (FIRST, DIFFERENCE):
        click(page, heatmaps(page)[which], cell=[{"r": 4 + which, "c": 9}])
        assert page.query_params["pair"] == f"{order[4 + which]}-{order[9]}"
    click(page, scatter(page), pair=[{"i": 5, "j": 11}])
    assert page.query_params["pair"] == "5-11"
    click_cell(page, table_of(page, "picked", "i", "j"), 2, "here")
    i, j = pairs_of(listed(page))[2]
    assert page.query_params["pair"] == f"{i}-{j}"


def test_of_the_answered_facts_those_are_compared_that_both_models_answer(look: Open, stored: Stored) -> None:
    page = look(PAGE, facts="mixed", keep="known")
    p = stored("mixed").p[:, :ANSWERED, :ANSWERED]
    for chart, expected in zip(heatmaps(page), (p[0], p[3], p[0] - p[3]), strict=True):
        assert_drawn(chart, expected)
    assert f"the {ANSWERED} of" in captions(page)
    page = look(PAGE, facts="mixed", keep="known", other=ONE_LAYER)
    assert "Switch off" in page.warning[0].value, "there are none"
    assert not heatmaps(page)


def test_a_layer_that_was_not_computed_is_told_with_the_way_out(open_page: Open, result: Result, folder: Path) -> None:
    kept, request = [0, 2], replace(result.request, layers=(0, 2))
    parts: dict[str, Any] = {name: getattr(result, name)[kept] for name in (*MATRICES, *OF_LAYERS)}
    reports = tuple(result.reports[layer] for layer in kept)
    provenance = result.provenance | {"request": asdict(request)}
    part = replace(result, request=request, layers=(0, 2), reports=reports, provenance=provenance, **parts)
    entry = archive.to_entry(part)
    Store(folder).put(pipeline.resolve(request, Store(folder)).key, entry.meta, entry.arrays)
    link = {"behind": "layers:0-2"}

    page = open_page(PAGE, **link)
    assert_drawn(heatmaps(page)[SECOND], result.p[2])
    page = open_page(PAGE, **link, otherlayer="3")
    assert f"Layer 3 of **{plain(MODEL)}** was not computed; layers 0, 2 can be shown." in infos(page)
    assert not heatmaps(page)
    press(page, "Show layer 2")
    assert page.query_params["otherlayer"] == "2"
    assert_drawn(heatmaps(page)[SECOND], result.p[2])
    page = open_page("app.py", **link, layer="1")
    assert "Layer 1" in infos(page), "as on every page"
    press(page, "Show layer 0")
    assert charts(page)
