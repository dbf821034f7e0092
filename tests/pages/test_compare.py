"""Compare: two models or two layers on one scale, their difference, and the pairs that differ most."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kis_core.analysis.pipeline import Result
from kis_core.superposition.ordering import order_facts
from tests.pages.conftest import ANSWERED, LAYERS, MODEL, ONE_LAYER, Open, Stored
from tests.pages.looking import (
    Chart,
    captions,
    charts,
    click,
    click_cell,
    listed,
    markdown,
    marked,
    pairs_of,
    provenance,
    table_of,
    unescaped,
)

PAGE = "pages/compare.py"
FOUR_DIGITS = 1e-4  # values are sent with as many
FIRST, SECOND, DIFFERENCE = range(3)


def heatmaps(page: object) -> list[Chart]:
    return [chart for chart in charts(page) if chart.holds("r", "c", "p")]  # type: ignore[arg-type]


def scatter(page: object) -> Chart:
    return next(chart for chart in charts(page) if chart.holds("i", "j", "x", "y", "edit", "suffers"))  # type: ignore[arg-type]


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


def both(result: Result, other: Result, layer: int = 0, other_layer: int = LAYERS - 1) -> tuple[np.ndarray, np.ndarray]:
    return result.p[layer], other.p[other_layer]


def test_by_default_the_layer_is_set_beside_the_last(look: Open, result: Result) -> None:
    p, q = both(result, result)
    drawn = heatmaps(look(PAGE))
    for chart, expected in zip(drawn, (p, q, p - q), strict=True):
        np.testing.assert_allclose(off(matrix(chart, len(p))), off(expected), atol=FOUR_DIGITS)


def test_the_last_layer_is_set_beside_the_first(look: Open, result: Result) -> None:
    page = look(PAGE, layer="3")
    np.testing.assert_allclose(off(matrix(heatmaps(page)[SECOND], 128)), off(result.p[0]), atol=FOUR_DIGITS)


def test_the_diagonal_is_left_out(look: Open) -> None:
    for chart in heatmaps(look(PAGE)):
        assert np.isnan(matrix(chart, 128).diagonal()).all()


@pytest.mark.parametrize("link", [{}, {"other": ONE_LAYER}, {"layer": "2", "otherlayer": "1"}])
def test_a_colour_means_the_same_on_either_side(link: dict[str, str], look: Open) -> None:
    first, second, difference = (colours(chart) for chart in heatmaps(look(PAGE, **link)))
    assert first == second
    for low, high in (first, difference):
        assert low == -high < 0


def test_no_colour_is_bleached_by_a_few_entries(look: Open, result: Result) -> None:
    p, q = both(result, result)
    drawn = heatmaps(look(PAGE))
    limit, far = colours(drawn[FIRST])[1], colours(drawn[DIFFERENCE])[1]
    assert limit >= max(np.quantile(np.abs(off(one)), 0.99) for one in (p, q))
    assert far >= np.quantile(np.abs(off(p - q)), 0.99)


def test_another_model_of_the_link_is_compared_with(look: Open, result: Result, stored: Stored) -> None:
    page = look(PAGE, other=ONE_LAYER)
    q = stored(model=ONE_LAYER).p[0]
    np.testing.assert_allclose(off(matrix(heatmaps(page)[SECOND], 128)), off(q), atol=FOUR_DIGITS)
    told = provenance(page)
    assert ONE_LAYER in told[SECOND], "each side with its own provenance"
    assert all(MODEL in told[at] for at in (FIRST, DIFFERENCE))
    assert ONE_LAYER not in told[FIRST]
    assert ONE_LAYER in told[DIFFERENCE], "a difference is of both"
    assert [MODEL in text and ONE_LAYER in text for text in told].count(True) >= 3, "as the scatter and the list are"
    assert len(page.slider) == 1, "there is no layer to choose of a model that has one"


def test_the_other_layer_of_the_link_is_compared_with(look: Open, result: Result) -> None:
    page = look(PAGE, otherlayer="1", layer="2")
    np.testing.assert_allclose(off(matrix(heatmaps(page)[SECOND], 128)), off(result.p[1]), atol=FOUR_DIGITS)
    assert "layer 1" in captions(page)


def test_both_sides_have_the_chosen_order(open_page: Open, result: Result) -> None:
    p, q = both(result, result)
    order, _ = order_facts(result.facts.facts, p, "similarity")
    drawn = heatmaps(open_page(PAGE, order="similarity"))
    for chart, expected in zip(drawn, (p, q, p - q), strict=True):
        np.testing.assert_allclose(off(matrix(chart, len(p))), off(expected[np.ix_(order, order)]), atol=FOUR_DIGITS)


def test_the_other_side_is_chosen_by_its_widgets(open_page: Open) -> None:
    page = open_page(PAGE, facts="mixed")
    page.slider(key="choose-otherlayer").set_value(1).run()
    assert page.query_params["otherlayer"] == "1"
    page.selectbox(key="choose-other").set_value(ONE_LAYER).run()
    assert not page.exception
    assert page.query_params["other"] == ONE_LAYER
    assert ONE_LAYER in unescaped(captions(page))


@pytest.mark.parametrize("link", [{}, {"other": ONE_LAYER}])
def test_the_correlations_are_those_of_the_entries(
    link: dict[str, str], look: Open, result: Result, stored: Stored
) -> None:
    p, q = both(result, stored(model=ONE_LAYER), 0, 0) if link else both(result, result)
    x, y = pd.Series(off(p)), pd.Series(off(q))
    told = markdown(look(PAGE, **link))
    assert f"Pearson {x.corr(y):.2f}" in told
    assert f"Spearman {x.rank().corr(y.rank()):.2f}" in told


def test_the_points_are_the_pairs_that_differ_most(look: Open, result: Result) -> None:
    p, q = both(result, result)
    points = scatter(look(PAGE)).table("i", "j", "x", "y", "edit", "suffers")
    i, j = points["i"].to_numpy(), points["j"].to_numpy()
    np.testing.assert_allclose(points["x"], p[i, j])
    np.testing.assert_allclose(points["y"], q[i, j])
    assert np.abs(p - q)[i, j].min() >= np.sort(np.abs(off(p - q)))[-len(points)]


def test_the_list_holds_the_pairs_that_differ_most(look: Open, result: Result) -> None:
    p, q = both(result, result)
    frame = listed(look(PAGE))
    i, j = frame["i"].to_numpy(), frame["j"].to_numpy()
    np.testing.assert_allclose(frame["here"], p[i, j])
    np.testing.assert_allclose(frame["there"], q[i, j])
    np.testing.assert_allclose(frame["difference"], p[i, j] - q[i, j])
    np.testing.assert_allclose(np.abs(frame["difference"]), np.sort(np.abs(off(p - q)))[::-1][: len(frame)])


def test_the_picked_pair_is_marked_everywhere(look: Open, result: Result) -> None:
    p, q = both(result, result)
    i, j = pairs_of(listed(look(PAGE)))[3]
    page = look(PAGE, pair=f"{i}-{j}")
    order, _ = order_facts(result.facts.facts, p, "index")
    row, column = (int(np.flatnonzero(order == fact)[0]) for fact in (i, j))
    for chart in heatmaps(page):
        rings = [set(map(tuple, t.to_numpy())) for t in chart.tables.values() if {"x", "y"} <= set(t.columns)]
        assert {(column + 0.5, row + 0.5)} in rings
    ring = [table for table in scatter(page).tables.values() if set(table.columns) == {"x", "y"} and len(table) == 1]
    assert ring[0].iloc[0].tolist() == pytest.approx([p[i, j], q[i, j]])
    assert marked(page) == [(i, j)]


@pytest.mark.parametrize("which", [FIRST, SECOND, DIFFERENCE])
def test_a_click_on_any_heatmap_picks_the_pair(which: int, open_page: Open, stored: Stored) -> None:
    page = open_page(PAGE, facts="mixed", order="subject")
    order, _ = order_facts(stored("mixed").facts.facts, stored("mixed").p[0], "subject")
    click(page, heatmaps(page)[which], cell=[{"r": 4, "c": 9}])
    assert page.query_params["pair"] == f"{order[4]}-{order[9]}"


def test_a_click_on_a_block_picks_its_strongest_pair_of_that_side(open_page: Open, stored: Stored) -> None:
    page = open_page(PAGE, facts="large")
    chart = heatmaps(page)[SECOND]
    click(page, chart, cell=[{"r": 4, "c": 8}])
    i, j = (int(part) for part in page.query_params["pair"].split("-"))
    drawn = chart.table("r", "c", "p").set_index(["r", "c"])["p"]
    assert drawn[4, 8] == pytest.approx(stored("large").p[LAYERS - 1, i, j], abs=FOUR_DIGITS)


def test_a_click_on_a_point_or_a_row_picks_the_pair(open_page: Open) -> None:
    page = open_page(PAGE, facts="mixed")
    click(page, scatter(page), pair=[{"i": 5, "j": 11}])
    assert page.query_params["pair"] == "5-11"
    click_cell(page, table_of(page, "picked", "i", "j"), 2, "here")
    i, j = pairs_of(listed(page))[2]
    assert page.query_params["pair"] == f"{i}-{j}"


def test_a_layer_beside_itself_does_not_differ(open_page: Open) -> None:
    page = open_page(PAGE, facts="three", otherlayer="0")
    assert not page.exception
    assert listed(page)["difference"].tolist() == [0] * 6
    assert "Pearson 1.00, Spearman 1.00" in markdown(page)


def test_of_the_answered_facts_those_are_compared_that_both_models_answer(look: Open, stored: Stored) -> None:
    page = look(PAGE, facts="mixed", keep="known")
    p = stored("mixed").p[:, :ANSWERED, :ANSWERED]
    for chart, expected in zip(heatmaps(page), (p[0], p[3], p[0] - p[3]), strict=True):
        np.testing.assert_allclose(off(matrix(chart, ANSWERED)), off(expected), atol=FOUR_DIGITS)
    assert f"the {ANSWERED} of" in captions(page)


def test_models_that_answer_nothing_together_are_told_what_to_do(open_page: Open) -> None:
    page = open_page(PAGE, facts="mixed", keep="known", other=ONE_LAYER)
    assert not page.exception
    assert "Switch off" in page.warning[0].value
    assert not heatmaps(page)
