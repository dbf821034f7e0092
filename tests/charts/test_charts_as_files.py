"""Charts of numbers as they end up, in the browser and in files: all can be drawn, whatever the numbers and names."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

import altair as alt
import numpy as np
import pandas as pd
import pytest

from kis_core import charts
from kis_core.charts.files import SCALE, WIDTH
from tests import tiny
from tests.charts.chart_tools import (
    CURVES,
    GROWING,
    HOSTILE,
    NO_CURVES,
    SCALED,
    SHARES,
    STRIP,
    assert_harmless,
    specification,
)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
ALTAIR_ROWS = 5_000  # altair refuses more unless told that they are meant
NAN = float("nan")
P = np.array([[1.0, 0.2], [-0.1, 1.0]])


def density(curves: pd.DataFrame = CURVES, **options: object) -> alt.LayerChart:
    return charts.density(curves, span=(-0.3, 0.3), top=5.0, floor=0.01, **options)


def strips(count: int, **options: object) -> alt.LayerChart:
    curves = pd.concat([STRIP.assign(layer=layer) for layer in range(count)], ignore_index=True)
    return charts.strips(curves, layers=range(count), current=0, span=(-1, 1), title="P", **options)


def scatter(first: np.ndarray, second: np.ndarray, **options: object) -> alt.LayerChart:
    names = [f"fact {k}" for k in range(len(first))]
    return charts.scatter(first, second, **({"names": ("this", "that"), "subjects": names} | options))


def convergence(frame: pd.DataFrame = GROWING, **options: object) -> alt.LayerChart:
    return charts.convergence(frame, x_title="facts", y_title="kurtosis", **options)


CHARTS: dict[str, Callable[[], alt.LayerChart]] = {
    "density": lambda: density(picked={"P[i, j]": 0.1, "P[j, i]": NAN}, tail=(0.1, 0.2)),
    "density, logarithmic": lambda: density(log=True, picked={"P[i, j]": 0.1}),
    "density of a constant P": lambda: density(NO_CURVES, picked={"P[i, j]": NAN}),
    "density of a constant P, logarithmic": lambda: density(NO_CURVES, log=True),
    "densities over each other": lambda: charts.overlaid(STRIP.assign(size=16), title="P", legend_title="facts"),
    "one strip": lambda: strips(1),
    "40 strips, logarithmic": lambda: strips(40, log_floor=0.01, middle=0.0),
    "strips of a constant P": lambda: charts.strips(
        STRIP.assign(layer=0)[:0], layers=(0, 1), current=0, span=(-1, 1), title="P", log_floor=0.01
    ),
    "angles": lambda: charts.angle_histogram(SHARES, picked={"whitened": 60.0, "activations": NAN}, chosen=(85, 90)),
    "no angles": lambda: charts.angle_histogram(SHARES.assign(share=0.0)),
    "scatter": lambda: scatter(P, P.T, picked=(0, 1)),
    "scatter of a constant P": lambda: scatter(np.ones((3, 3)), np.ones((3, 3)), picked=(0, 1)),
    "scatter with missing values": lambda: scatter(np.full((2, 2), NAN), P, picked=(0, 1)),
    "scatter of one fact": lambda: scatter(np.ones((1, 1)), np.ones((1, 1))),
    "by layer": lambda: charts.by_layer((0, 1, 5), {"P[i, j]": (0.1, NAN, 0.3)}, 5),
    "kurtosis by layer": lambda: charts.kurtosis_by_layer(SCALED, current=("large", 1)),
    "kurtosis by layer, one model": lambda: charts.kurtosis_by_layer(SCALED[:1], current=("small", 0)),
    "kurtosis by layer, none": lambda: charts.kurtosis_by_layer(SCALED[:0], current=("small", 0)),
    "kurtosis by layer, missing": lambda: charts.kurtosis_by_layer(
        SCALED.assign(kurtosis=NAN, low=NAN, high=NAN), current=("small", 0)
    ),
    "kurtosis by size": lambda: charts.kurtosis_by_size(SCALED, current=("large", 1)),
    "kurtosis by size, one model": lambda: charts.kurtosis_by_size(SCALED[:1], current=("small", 0)),
    "kurtosis by size, missing": lambda: charts.kurtosis_by_size(
        SCALED.assign(kurtosis=NAN, low=NAN, high=NAN), current=("small", 0)
    ),
    "convergence": lambda: convergence(),
    "convergence, logarithmic": lambda: convergence(log=True),
}


QUICK = ("density", "densities over each other", "one strip", "angles", "scatter", "by layer", "convergence")
QUICK += ("kurtosis by layer", "kurtosis by size")


@pytest.mark.parametrize("name", tiny.in_full(CHARTS, QUICK))
def test_a_chart_can_be_drawn(name: str) -> None:
    assert_harmless(CHARTS[name]())


# Text of users

MANY = len(HOSTILE)
NAMED: dict[str, Callable[[], alt.LayerChart]] = {
    "density": lambda: density(CURVES.replace({"curve": dict(zip(("measured", "normal"), HOSTILE, strict=False))})),
    "marks": lambda: density(picked=dict.fromkeys(HOSTILE, 0.1)),
    "scatter, subjects": lambda: scatter(np.eye(MANY), np.ones((MANY, MANY)), subjects=list(HOSTILE)),
    "kurtosis by layer": lambda: charts.kurtosis_by_layer(named_models(), current=(HOSTILE[0], 0)),
    "kurtosis by size": lambda: charts.kurtosis_by_size(named_models(), current=(HOSTILE[0], 0)),
    "convergence": lambda: convergence(GROWING.assign(note=HOSTILE[: len(GROWING)])),
}


def named_models() -> pd.DataFrame:
    return pd.concat([SCALED[:1]] * MANY, ignore_index=True).assign(model=HOSTILE)


@pytest.mark.parametrize("name", tiny.in_full(NAMED, ("density", "marks", "scatter, subjects")))
def test_with_hostile_names_it_can_be_drawn_all_the_same(name: str) -> None:
    assert_harmless(NAMED[name]())


@pytest.mark.parametrize("name", [" ".join(HOSTILE), "\\"])
def test_a_hostile_name_on_an_axis_can_be_drawn_all_the_same(name: str) -> None:
    assert_harmless(scatter(P, P.T, names=(name, "that")))


# Files


def large() -> alt.LayerChart:
    m = 72
    assert m * m > ALTAIR_ROWS
    names = [f"fact {k}" for k in range(m)]
    return charts.heatmap(np.eye(m), np.arange(m), limit=0.5, labels=names, names=names)


@pytest.mark.parametrize("chart", [convergence, large])
def test_a_png_is_as_wide_as_it_says(chart: Callable[[], alt.LayerChart]) -> None:
    content = charts.to_png(chart(), "A title", ["a line", "another"])
    assert content.startswith(PNG_SIGNATURE)
    assert int.from_bytes(content[16:20], "big") >= SCALE * WIDTH


def test_an_svg_holds_its_title_and_its_lines_on_white_and_leaves_the_chart_as_it_was() -> None:
    chart = scatter(P, P.T)
    before = specification(chart)
    content = charts.to_svg(chart, "</text><script>", ['P of "a" & <b>', *HOSTILE])
    assert "&amp; &lt;b&gt;" in content
    assert "<script" not in content
    assert "href" not in content
    written = set(ElementTree.fromstring(content).itertext())  # noqa: S314  # no file of a stranger
    assert {'P of "a" & <b>', "</text><script>", "javascript:alert(1)", "</script>", "'; alert(1)"} <= written
    assert 'fill="white"' in content
    assert specification(chart) == before
    assert before["width"] == "container"
