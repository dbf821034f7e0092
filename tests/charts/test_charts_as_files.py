"""Charts as they end up, in the browser and in files: all can be drawn, whatever the numbers and names."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

import altair as alt
import numpy as np
import pytest

from kis_core import charts
from kis_core.charts.files import SCALE, WIDTH
from tests import tiny
from tests.charts.chart_tools import HOSTILE, assert_harmless, drawn, specification
from tests.charts.edit_chart_tools import frame, spillover
from tests.charts.every_chart import EVERY, ODD, OF_STRANGERS, P, convergence, heatmap, scatter

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
QUICK = ("window", "density", "angles", "scatter", "kurtosis by layer", "convergence", "spillover", "lines", "damage")
ALTAIR_ROWS = 5_000  # altair refuses more unless told that they are meant


@pytest.mark.parametrize("name", tiny.in_full(EVERY, QUICK))
def test_every_chart_can_be_drawn(name: str) -> None:
    assert_harmless(EVERY[name]())


@pytest.mark.stress
@pytest.mark.parametrize("name", ODD)
def test_with_odd_numbers_it_can_be_drawn_all_the_same(name: str) -> None:
    assert_harmless(ODD[name]())


@pytest.mark.parametrize("name", tiny.in_full(OF_STRANGERS, ("heatmap", "marks", "spillover")))
def test_with_names_of_strangers_it_can_be_drawn_all_the_same(name: str) -> None:
    assert_harmless(OF_STRANGERS[name]())


def test_names_are_drawn_as_they_are_so_that_it_can_be_drawn() -> None:
    svg = drawn(spillover(frame([-1.0, 1.0], subjects=["</script>", "<b>"], flips={0: "$x$"})))
    assert "&lt;/script&gt; → $x$" in svg
    assert "&lt;b&gt;" in svg


def large() -> alt.LayerChart:
    m = 72
    assert m * m > ALTAIR_ROWS
    return heatmap(np.eye(m))


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
