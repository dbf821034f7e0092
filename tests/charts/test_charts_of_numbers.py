"""Charts of distributions, of angles and of one P against another: what is drawn, and what is left out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core import charts
from kis_core.charts.distributions import TAIL_BINS
from kis_core.superposition.agreement import CELLS, POINTS, differing
from tests.charts.chart_tools import NAN, layers_with, of_layer, specification, table, tables
from tests.charts.every_chart import CURVES, SHARES, density, scatter

ROUNDING = 1e-9  # a few float64 operations


def pairs_counted(spec: dict[str, Any]) -> int:
    return sum(row["pairs"] for row in of_layer(spec, spec["layer"][0]))


def pair_of_matrices(m: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, m)), rng.normal(size=(m, m))


def test_a_density_draws_every_curve_and_fills_the_first() -> None:
    spec = specification(density())
    (area,), (line,) = layers_with(spec, "area"), layers_with(spec, "line")
    assert {row["curve"] for row in of_layer(spec, area)} == {"measured"}
    assert of_layer(spec, line) == CURVES.to_dict("records")
    logarithmic = specification(density(log=True))
    above = [row["density"] for row in of_layer(logarithmic, layers_with(logarithmic, "line")[0])]
    assert above == [0.5, 4.0, 1.0, 0.01, 3.0], "what lies below its floor is left out"


def test_a_click_on_a_density_tells_a_place_on_its_axis() -> None:
    spec = specification(density(log=True))
    places = table(spec, "low", "high", "base", "top")
    assert len(places) == TAIL_BINS
    assert (places[0]["low"], places[-1]["high"]) == (-0.3, 0.3)
    for place, following in pairwise(places):
        assert place["high"] == following["low"]
        assert place["high"] - place["low"] == pytest.approx(0.6 / TAIL_BINS, rel=ROUNDING)
    assert {(place["base"], place["top"]) for place in places} == {(0.01, 5.0)}
    (param,) = spec["params"]
    assert (param["name"], param["select"]["fields"]) == (charts.TAIL, ["low", "high"])


@pytest.mark.parametrize(
    ("tail", "shaded"), [(None, []), ((0.12345, 0.2), [(0.12345, 0.2)]), ((-9.0, 0.1), [(-0.3, 0.1)])]
)
def test_the_tail_is_shaded(tail: tuple[float, float] | None, shaded: list[tuple[float, float]]) -> None:
    """A pair at the end of the tail, as the strongest is, stands in what is shaded, wherever the places end."""
    spec = specification(density(tail=tail))
    assert [(row["from"], row["to"]) for row in of_layer(spec, layers_with(spec, "rect")[0])] == shaded


def test_picked_values_are_marked_but_for_those_that_are_none() -> None:
    spec = specification(density(picked={"P[i, j]": 0.1, "P[j, i]": NAN, "other": -0.2}))
    marks = [(row["at"], row["name"], row["row"]) for row in table(spec, "at", "name", "row")]
    assert marks == [(0.1, "P[i, j]", 0), (-0.2, "other", 2)]
    assert len(layers_with(spec, "rule")) == 2
    texts = layers_with(spec, "text")
    assert [text["transform"] for text in texts] == [[{"filter": f"datum.row === {row}"}] for row in range(3)]
    assert len({text["mark"]["dy"] for text in texts}) == 3  # none on top of another
    here, there = layers_with(specification(density(picked={"P[i, j]": 0.1, "P[j, i]": 0.29})), "text")
    assert (here["mark"]["align"], there["mark"]["align"]) == ("right", "right"), "before the other, and before the end"
    here, there = layers_with(specification(density(picked={"P[i, j]": 0.05, "P[j, i]": 0.1})), "text")
    assert here["mark"]["dx"] < 0 < there["mark"]["dx"], "apart"
    assert not layers_with(specification(density()), "rule")


def test_strips_stand_below_each_other_with_the_highest_curve_filling_its_own() -> None:
    curves = pd.DataFrame({"layer": [3, 3, 7, 7], "at": [0.0, 1.0] * 2, "density": [1.0, 4.0, 0.0, 2.0]})
    before = curves.copy()
    spec = specification(charts.strips(curves, layers=(3, 7), current=7, span=(-1, 1), title="P"))
    # the highest density of all, 4, is 0.92 high; the second strip starts one lower
    shown = table(spec, "layer", "at", "base", "height", "curve")
    assert [row["base"] for row in shown] == [0, 0, -1, -1]
    assert [row["height"] for row in shown] == pytest.approx([0.23, 0.92, -1.0, -0.54], rel=ROUNDING)
    pd.testing.assert_frame_equal(curves, before)
    curves = pd.DataFrame({"layer": [0] * 4, "at": range(4), "density": [1.0, 0.1, 0.01, 0.0]})
    spec = specification(charts.strips(curves, layers=(0,), current=0, span=(0, 3), title="P", log_floor=0.01))
    # log(0.1 / 0.01) / log(1 / 0.01) = 1/2
    heights = [row["height"] for row in table(spec, "layer", "at", "base", "height", "curve")]
    assert heights == pytest.approx([0.92, 0.46, 0.0, 0.0], abs=ROUNDING)


def sent(spec: dict[str, Any], layer: dict[str, Any]) -> list[tuple[float, str]]:
    return [(row["low"], row["space"]) for row in of_layer(spec, layer)]


def test_a_histogram_of_angles_draws_the_bars_that_are_there_and_marks_90_degrees() -> None:
    before = SHARES.copy()
    spec = specification(charts.angle_histogram(SHARES))
    (bars, outlined), (right,) = layers_with(spec, "rect"), layers_with(spec, "rule")
    assert of_layer(spec, outlined) == []
    assert sent(spec, bars) == [(5.0, "whitened"), (85.0, "whitened"), (90.0, "whitened"), (85.0, "activations")]
    assert [row["share"] for row in of_layer(spec, bars)] == [0.25, 0.5, 0.25, 1.0]
    assert of_layer(spec, right) == [{"low": 90.0}]
    (param,) = spec["params"]
    assert (param["name"], param["select"]["fields"]) == (charts.TAIL, ["low", "high", "space"])
    part = specification(charts.angle_histogram(SHARES, span=(85, 90)))
    assert sent(part, layers_with(part, "rect")[0]) == [(85.0, "whitened"), (85.0, "activations")], "of its span"
    part = specification(charts.angle_histogram(SHARES, span=(90, 180)))
    assert sent(part, layers_with(part, "rect")[0]) == [(90.0, "whitened")]
    pd.testing.assert_frame_equal(SHARES, before)


@given(st.integers(1, 7), st.integers(0, 20), st.integers(0, 10_000))
def test_differing_are_the_first_of_a_plain_sort(m: int, count: int, seed: int) -> None:
    first, second = pair_of_matrices(m, seed)
    first[np.random.default_rng(seed).random((m, m)) < 0.2] = np.nan
    gaps = {(i, j): abs(first[i, j] - second[i, j]) for i in range(m) for j in range(m) if i != j}
    expected = sorted((pair for pair, gap in gaps.items() if not np.isnan(gap)), key=lambda pair: -gaps[pair])
    pairs = differing(first, second, count)
    assert list(zip(pairs["i"], pairs["j"], strict=True)) == expected[:count]
    assert list(zip(pairs["x"], pairs["y"], strict=True)) == [(first[at], second[at]) for at in expected[:count]]


def test_a_scatter_draws_all_pairs_as_counts_and_those_that_differ_most_as_points() -> None:
    first, second = pair_of_matrices(20)
    first[3, 4] = np.nan
    spec = specification(scatter(first, second, picked=(2, 1)))
    assert pairs_counted(spec) == 20 * 19 - 1
    assert [{"x": first[2, 1], "y": second[2, 1]}] in tables(spec, "x", "y"), "the picked pair is ringed"
    encoding = spec["layer"][0]["encoding"]
    assert (encoding["x"]["title"], encoding["y"]["title"]) == ("P[i, j] in this", "P[i, j] in that")
    (points,) = [rows for rows in spec["datasets"].values() if "suffers" in rows[0]]
    expected = differing(first, second, POINTS)
    assert len(points) == POINTS
    assert [(row["i"], row["j"], row["x"], row["y"]) for row in points] == list(expected.itertuples(index=False))
    assert all((row["edit"], row["suffers"]) == (f"fact {row['i']}", f"fact {row['j']}") for row in points)
    (param,) = spec["params"]
    assert (param["name"], param["select"]["fields"]) == (charts.PAIR, ["i", "j"])


def test_a_scatter_counts_a_pair_in_the_square_it_lies_in() -> None:
    first = np.array([[1.0, 0.0], [1.0, 1.0]])
    second = np.array([[1.0, 0.5], [0.0, 1.0]])
    # the pairs lie at (0, 0.5) and (1, 0)
    spec = specification(scatter(first, second))
    squares = of_layer(spec, spec["layer"][0])
    assert [row["pairs"] for row in squares] == [1, 1]
    for row, (x, y) in zip(squares, ((0.0, 0.5), (1.0, 0.0)), strict=True):
        assert row["x"] <= x <= row["x2"]
        assert row["y"] <= y <= row["y2"]
        assert row["x2"] - row["x"] == pytest.approx(1.06 / CELLS, rel=ROUNDING)
    domain = spec["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert domain == pytest.approx([-0.03, 1.03], rel=ROUNDING)
    assert spec["layer"][0]["encoding"]["y"]["scale"]["domain"] == domain
    assert [row["x"] for row in of_layer(spec, spec["layer"][1])] == domain


@pytest.mark.parametrize("value", [0.0, -0.3])
@pytest.mark.parametrize("jitter", [0.0, 1e-15])
def test_a_scatter_of_constant_matrices_has_all_pairs_in_one_square(value: float, jitter: float) -> None:
    first = np.full((4, 4), value)
    spec = specification(scatter(first, first + 0.5 * jitter))
    assert pairs_counted(spec) == 12
    low, high = spec["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert jitter or low < value < high
    assert pairs_counted(specification(scatter(np.full((3, 3), np.nan), np.zeros((3, 3))))) == 0
