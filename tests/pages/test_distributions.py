"""Distributions: the numbers shown are those of P, and the list holds the pairs of the tail."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from kis_core import superposition
from kis_core.analysis.pipeline import Result
from kis_core.superposition.verdicts import heavy_tail
from tests.pages.conftest import Open
from tests.pages.looking import Chart, charts, click, listed, markdown, marked, pairs_of, table_of

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
    page = look(PAGE, layer="3")
    row = numbers(page).iloc[which]
    p = side(result, which, 3)
    assert (heavy_tail(p).finding in markdown(page)) == (which == 0), "of the side that is chosen"
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


@pytest.mark.parametrize(("link", "which"), [({}, 0), ({"artefacts": "without"}, 1)])
def test_the_list_holds_the_pairs_of_the_tail(link: dict[str, str], which: int, look: Open, result: Result) -> None:
    page = look(PAGE, tail=FEW, **link)
    expected = in_tail(side(result, which), 0.5, 1.1)
    assert 0 < len(expected) < 200
    assert sorted(pairs_of(listed(page))) == sorted(expected)
    assert f"The {len(expected)} pairs" in markdown(page)


def test_of_a_long_tail_the_strongest_are_listed(look: Open, result: Result) -> None:
    page, p = look(PAGE, tail="0.2~1"), result.p[0]
    expected = sorted((p[pair] for pair in in_tail(p, 0.2, 1.0)), reverse=True)
    assert f"The {len(expected):,} pairs" in markdown(page)
    assert sorted((p[pair] for pair in pairs_of(listed(page))), reverse=True) == expected[:200]


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
