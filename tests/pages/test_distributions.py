"""Distributions: the numbers shown are those of P, and the list holds the pairs of the tail."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from kis_core import superposition
from kis_core.analysis.pipeline import Result
from tests.pages.conftest import Open
from tests.pages.looking import Chart, charts, choose, click, listed, markdown, marked, pairs_of, table_of

PAGE = "pages/distributions.py"
FEW = "0.5~1.1"  # a tail of less than the 200 pairs a list shows
SIDES = (0, 1)  # all pairs, and those that are no artefacts


def side(result: Result, which: int, layer: int = 0) -> np.ndarray:
    return result.p[result.at(layer)] if which == 0 else result.clean(layer)


def in_tail(p: np.ndarray, low: float, high: float) -> set[tuple[int, int]]:
    """The pairs off the diagonal with P in the range; artefacts of a clean P are NaN and in none."""
    m = len(p)
    return {(i, j) for i in range(m) for j in range(m) if i != j and low <= p[i, j] <= high}


def densities(page: AppTest) -> list[Chart]:
    return [chart for chart in charts(page) if chart.id]


def numbers(page: AppTest) -> pd.DataFrame:
    return table_of(page, "excess kurtosis", "skewness").value


@pytest.mark.parametrize("which", SIDES)
def test_the_table_states_the_statistics_of_p(which: int, look: Open, result: Result) -> None:
    row = numbers(look(PAGE, layer="3")).iloc[which]
    p = side(result, which, 3)
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


def test_the_axis_is_switched_by_its_control(open_page: Open) -> None:
    page = open_page(PAGE, facts="mixed")
    for axis in ("linear", "log"):
        scales = [layer["encoding"]["y"]["scale"] for layer in densities(page)[0].spec["layer"][:2]]
        assert [scale.get("type", "linear") for scale in scales] == [axis, axis]
        choose(page, "axis", "log")
    assert page.query_params["axis"] == "log"


@pytest.mark.parametrize(("link", "which"), [({}, 0), ({"artefacts": "without"}, 1)])
def test_the_list_holds_the_pairs_of_the_tail(link: dict[str, str], which: int, look: Open, result: Result) -> None:
    page = look(PAGE, tail=FEW, **link)
    expected = in_tail(side(result, which), 0.5, 1.1)
    assert 0 < len(expected) < 200
    assert sorted(pairs_of(listed(page))) == sorted(expected)
    assert f"The {len(expected)} pairs" in markdown(page)


def test_a_long_tail_is_counted_in_full_and_listed_in_part(look: Open, result: Result) -> None:
    page = look(PAGE, tail="0.2~1")
    p = result.p[0]
    expected = in_tail(p, 0.2, 1.0)
    assert len(expected) > 200
    assert f"The {len(expected):,} pairs" in markdown(page)
    shown = set(pairs_of(listed(page)))
    assert len(shown) == 200
    assert shown <= expected
    weakest = min(p[pair] for pair in shown)
    assert all(p[pair] <= weakest for pair in expected - shown), "the strongest are listed"


def test_a_click_right_of_the_mean_lists_from_there_outward(open_page: Open, result: Result) -> None:
    page = open_page(PAGE, tail="5~6")
    assert listed(page).empty, "there is none so far out"
    click(page, densities(page)[1], tail=[{"low": 0.6, "high": 0.62}])
    low, high = (float(end) for end in page.query_params["tail"].split("~"))
    assert low == 0.6
    assert high >= np.nanmax(superposition.off_diagonal(result.p[0]))
    assert page.query_params["artefacts"] == "without"
    assert set(pairs_of(listed(page))) == in_tail(result.clean(0), 0.6, 2)


def test_before_a_click_the_outermost_thousandth_is_listed(look: Open, result: Result) -> None:
    page, off = look(PAGE), superposition.finite_entries(result.p[0])
    assert set(pairs_of(listed(page))) == in_tail(result.p[0], float(np.quantile(off, 0.999)), float(off.max()))
    figure = densities(page)[0]
    (mark,) = figure.table("at", "name", "row")["at"]
    (band,) = figure.table("from", "to").to_dict("records")
    assert band["from"] < mark <= band["to"], "the last of the tail, where once no step of the axis ended"
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


def test_the_tail_is_shaded_on_its_side_and_the_picked_pair_stands_at_its_p(look: Open, result: Result) -> None:
    i, j = sorted(in_tail(result.clean(0), 0.5, 1.1))[0]
    page = look(PAGE, tail=FEW, artefacts="without", pair=f"{i}-{j}")
    first, second = densities(page)
    (band,) = second.table("from", "to").to_dict("records")
    assert band["from"] == 0.5
    assert band["to"] == second.domains("x")[0][1], "as far as the axis goes"
    assert first.table("from", "to").empty
    mark = first.table("at", "name", "row")
    assert mark["at"].tolist() == pytest.approx([result.p[0, i, j]])
    assert mark["name"].tolist() == [f"P[{i}, {j}]"]
    assert marked(page) == [(i, j)]


def test_all_densities_and_all_strips_are_on_one_scale(look: Open) -> None:
    page = look(PAGE)
    first, second = densities(page)
    for channel in ("x", "y"):
        assert first.domains(channel)[0] == second.domains(channel)[0]
    strips = [chart for chart in charts(page) if chart.holds("layer", "at", "base", "height", "curve")]
    assert strips[0].domains("x") == strips[1].domains("x")


def test_there_is_no_density_of_equal_keys(look: Open) -> None:
    page = look(PAGE, facts="constant")
    assert any("no density" in info.value for info in page.info)
