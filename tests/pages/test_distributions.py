"""Distributions: the numbers shown are those of P, and the list holds the pairs of the tail."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kis_core import superposition
from kis_core.analysis.pipeline import Result
from kis_core.superposition import MEASURED
from tests.pages.conftest import ANSWERED, Open, Stored
from tests.pages.looking import Chart, charts, click, listed, markdown, marked, notes, pairs_of, table_of

PAGE = "pages/distributions.py"
FEW = "0.5~1.1"  # a tail of less than the 200 pairs a list shows
BESIDE = 2e-6  # half a tail that holds one pair; a link tells its ends to six digits
SIDES = (0, 1)  # all pairs, and those that are no artefacts


def side(result: Result, which: int, layer: int = 0) -> np.ndarray:
    return result.p[result.at(layer)] if which == 0 else result.clean(layer)


def in_tail(p: np.ndarray, low: float, high: float) -> set[tuple[int, int]]:
    """The pairs off the diagonal with P in the range; artefacts of a clean P are NaN and in none."""
    m = len(p)
    return {(i, j) for i in range(m) for j in range(m) if i != j and low <= p[i, j] <= high}


def densities(page: object) -> list[Chart]:
    return [chart for chart in charts(page) if chart.id]  # type: ignore[arg-type]


def numbers(page: object) -> pd.DataFrame:
    return table_of(page, "excess kurtosis", "skewness").value  # type: ignore[arg-type]


@pytest.mark.parametrize("which", SIDES)
@pytest.mark.parametrize("layer", [0, 3])
def test_the_table_states_the_statistics_of_p(which: int, layer: int, look: Open, result: Result) -> None:
    row = numbers(look(PAGE, layer=str(layer))).iloc[which]
    p = side(result, which, layer)
    off = p[np.isfinite(p) & ~np.eye(len(p), dtype=bool)]
    assert row["pairs"] == len(off)
    assert row["mean"] == pytest.approx(off.mean())
    assert row["std"] == pytest.approx(off.std())
    moments, interval = superposition.moments(p), superposition.kurtosis_interval(p)
    assert row["skewness"] == pytest.approx(moments.skewness)
    assert row["excess kurtosis"] == pytest.approx(moments.kurtosis)
    assert row["interval"] == f"{interval.low:.1f} to {interval.high:.1f}"
    assert row["99.9%"] == pytest.approx(np.quantile(off, 0.999))
    assert row["5.0%"] == pytest.approx(np.quantile(off, 0.05))


def test_the_table_states_the_nulls(look: Open, result: Result) -> None:
    normal, isotropic = (numbers(look(PAGE)).iloc[at] for at in (2, 3))
    off = superposition.finite_entries(result.p[0])
    assert normal["excess kurtosis"] == normal["skewness"] == 0
    assert normal["50.0%"] == pytest.approx(off.mean())
    assert normal["99.9%"] == pytest.approx(off.mean() + 3.0902 * off.std(), abs=1e-4)  # that quantile of a normal
    assert isotropic["std"] == pytest.approx(128**-0.5), "1/√d_m"


def test_the_numbers_of_answered_facts_are_theirs(look: Open, stored: Stored) -> None:
    row = numbers(look(PAGE, facts="mixed", keep="known")).iloc[0]
    p = stored("mixed").p[0, :ANSWERED, :ANSWERED]
    assert row["pairs"] == ANSWERED * (ANSWERED - 1)
    assert row["excess kurtosis"] == pytest.approx(superposition.moments(p).kurtosis)


@pytest.mark.parametrize("which", SIDES)
def test_the_curve_drawn_is_the_density_of_p(which: int, look: Open, result: Result) -> None:
    drawn = densities(look(PAGE))[which].drawn("line")
    measured = drawn[drawn["curve"] == MEASURED]
    expected = superposition.kde(side(result, which))
    np.testing.assert_allclose(measured["at"], expected.at)
    np.testing.assert_allclose(measured["density"], expected.value)
    area = np.trapezoid(measured["density"], measured["at"])
    assert area == pytest.approx(1, abs=0.01), "three bandwidths beyond the outermost entry, on a grid of 400"


def test_both_densities_have_the_same_axes(look: Open) -> None:
    first, second = densities(look(PAGE))
    assert first.domains("x")[0] == second.domains("x")[0]
    assert first.domains("y")[0] == second.domains("y")[0]


@pytest.mark.parametrize("axis", ["linear", "log"])
def test_the_axis_is_that_of_the_link(axis: str, look: Open) -> None:
    scales = [layer["encoding"]["y"]["scale"] for layer in densities(look(PAGE, axis=axis))[0].spec["layer"][:2]]
    assert [scale.get("type", "linear") for scale in scales] == [axis, axis]


def test_the_axis_is_switched_by_its_control(open_page: Open) -> None:
    page = open_page(PAGE)
    page.segmented_control(key="choose-axis").set_value("log").run()
    assert page.query_params["axis"] == "log"
    assert densities(page)[0].spec["layer"][1]["encoding"]["y"]["scale"]["type"] == "log"


@pytest.mark.parametrize(("link", "which"), [({}, 0), ({"artefacts": "without"}, 1)])
def test_the_list_holds_exactly_the_pairs_of_the_tail(
    link: dict[str, str], which: int, look: Open, result: Result
) -> None:
    page = look(PAGE, tail=FEW, **link)
    expected = in_tail(side(result, which), 0.5, 1.1)
    found = pairs_of(listed(page))
    assert 0 < len(expected) < 200
    assert set(found) == expected
    assert len(found) == len(expected)
    assert f"The {len(expected)} pairs" in markdown(page)


def test_a_long_tail_is_counted_in_full_and_listed_in_part(look: Open, result: Result) -> None:
    page = look(PAGE, tail="0.2~1")
    p = result.p[0]
    expected = in_tail(p, 0.2, 1.0)
    assert len(expected) > 200
    assert f"The {len(expected):,} pairs" in markdown(page)
    found = pairs_of(listed(page))
    assert len(found) == 200
    weakest = min(p[pair] for pair in found)
    assert set(found) <= expected
    assert all(p[pair] <= weakest for pair in expected - set(found)), "the strongest are listed"


@pytest.mark.parametrize(("link", "which"), [({}, 0), ({"artefacts": "without"}, 1)])
def test_before_a_click_the_outermost_thousandth_is_listed(
    link: dict[str, str], which: int, look: Open, result: Result
) -> None:
    p = side(result, which)
    off = superposition.finite_entries(p)
    expected = in_tail(p, float(np.quantile(off, 0.999)), float(off.max()))
    assert set(pairs_of(listed(look(PAGE, **link)))) == expected


def test_a_tail_without_pairs_lists_none(open_page: Open) -> None:
    page = open_page(PAGE, tail="5~6")
    assert not page.exception
    assert listed(page).empty


@pytest.mark.parametrize("which", SIDES)
def test_a_click_right_of_the_mean_lists_from_there_outward(which: int, open_page: Open, result: Result) -> None:
    page = open_page(PAGE)
    click(page, densities(page)[which], tail=[{"low": 0.6, "high": 0.62}])
    low, high = (float(end) for end in page.query_params["tail"].split("~"))
    assert low == 0.6
    assert high >= np.nanmax(superposition.off_diagonal(result.p[0]))
    assert page.query_params.get("artefacts", "with") == ("with", "without")[which]
    assert set(pairs_of(listed(page))) == in_tail(side(result, which), 0.6, 2)


def test_a_click_left_of_the_mean_lists_from_there_outward(open_page: Open, result: Result) -> None:
    page = open_page(PAGE)
    p = result.p[0]
    low = float(p.min())
    click(page, densities(page)[0], tail=[{"low": low, "high": low / 2}])
    start, end = (float(end) for end in page.query_params["tail"].split("~"))
    assert start <= low
    assert end == pytest.approx(low / 2, abs=1e-6)
    assert f"The {len(in_tail(p, start, end))} pairs" in markdown(page)


def test_the_clicked_tail_is_shaded_on_the_side_that_was_clicked(look: Open) -> None:
    first, second = densities(look(PAGE, tail=FEW, artefacts="without"))
    (band,) = second.table("from", "to").to_dict("records")
    assert band["from"] == 0.5
    assert band["to"] == second.domains("x")[0][1], "as far as the axis goes"
    assert first.table("from", "to").empty


def test_before_a_click_the_strongest_pair_stands_in_the_band(look: Open, result: Result) -> None:
    """The issue's case: the marked pair is the last of the tail, and no step of the axis ended there."""
    page = look(PAGE)
    figure = densities(page)[0]
    (mark,) = figure.table("at", "name", "row")["at"]
    (band,) = figure.table("from", "to").to_dict("records")
    assert band["from"] < mark <= band["to"]
    assert len(marked(page)) == 1
    assert "outside" not in markdown(page)


@pytest.mark.parametrize(
    ("link", "why"),
    [({"tail": "0.3~1.1"}, "outside of that"), ({"tail": "-1~-0.5", "artefacts": "without"}, "left out here")],
)
def test_a_marked_pair_that_is_not_listed_says_why(link: dict[str, str], why: str, look: Open, result: Result) -> None:
    entries = result.p[0] if "outside" in why else np.where(np.isnan(result.clean(0)), result.p[0], np.nan)
    np.fill_diagonal(off := entries.copy(), np.nan)
    i, j = np.unravel_index(np.nanargmin(np.abs(off)), off.shape)
    page = look(PAGE, pair=f"{i}-{j}", **link)
    assert not marked(page)
    assert f"The marked pair, {i} and {j}, " in markdown(page)
    assert why in markdown(page)


def test_a_single_pair_is_told_as_one(look: Open, result: Result) -> None:
    off = np.sort(superposition.finite_entries(result.p[0]))
    alone = next(value for value in off[::-1] if (np.abs(off - value) < 2 * BESIDE).sum() == 1)
    page = look(PAGE, tail=f"{alone - BESIDE:.6f}~{alone + BESIDE:.6f}")
    assert not notes(page)
    assert len(listed(page)) == 1
    assert "**The one pair with P from" in markdown(page)


def test_the_picked_pair_stands_at_its_p_and_is_marked_in_the_list(look: Open, result: Result) -> None:
    i, j = sorted(in_tail(result.p[0], 0.5, 1.1))[0]
    page = look(PAGE, tail=FEW, pair=f"{i}-{j}")
    mark = densities(page)[0].table("at", "name", "row")
    assert mark["at"].tolist() == pytest.approx([result.p[0, i, j]])
    assert mark["name"].tolist() == [f"P[{i}, {j}]"]
    assert marked(page) == [(i, j)]


def test_every_layer_has_its_strip_on_one_scale(look: Open, result: Result) -> None:
    strips = [chart for chart in charts(look(PAGE)) if chart.holds("layer", "at", "base", "height", "curve")]
    for strip, which in zip(strips, SIDES, strict=True):
        drawn = strip.table("layer", "at", "base", "height", "curve")
        assert sorted(set(drawn["layer"])) == [0, 1, 2, 3]
        for layer, part in drawn.groupby("layer"):
            expected = superposition.kde(side(result, which, layer))
            top = expected.at[expected.value.argmax()]
            step = np.diff(part["at"]).max()
            assert abs(part["at"].iloc[part["height"].argmax()] - top) <= step
    assert strips[0].domains("x") == strips[1].domains("x")


def test_there_is_no_density_of_equal_keys(look: Open) -> None:
    page = look(PAGE, facts="constant")
    assert not page.exception
    assert any("no density" in info.value for info in page.info)
