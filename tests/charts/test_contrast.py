"""Every chart is read on a light and on a dark page: contrast by WCAG 2.1, of what is really drawn."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert

from kis_core import charts
from kis_core.charts import colours
from kis_core.charts.heatmap import MOST_WRITTEN
from tests import tiny
from tests.charts.chart_tools import PIXELS, specification
from tests.charts.every_chart import EVERY, STRIP

TEXT, MARK = 4.5, 3.0  # least contrasts: success criteria 1.4.3 and 1.4.11
TINT = 0.35  # what is fainter only colours the ground, or catches the mouse: a line along it is what is read
CONFIG: dict[str, Any] = tomllib.loads((Path(__file__).parents[2] / ".streamlit" / "config.toml").read_text())["theme"]
THEMES = ("light", "dark")
EITHER = [pytest.param("light", marks=pytest.mark.stress), "dark"]  # where the faults were; drawing all takes seconds
CELLS = ("heatmap", "window", "overview", "overview of blocks", "similarity", "damage")
"""Made of cells, whose colours are those of the scale from negative to positive."""
SEVERAL = pd.concat([STRIP.assign(size=size) for size in (16, 32, 64, 128)])
OTHERS = {name: chart for name, chart in EVERY.items() if name not in CELLS} | {
    "densities": lambda: charts.overlaid(SEVERAL, title="P", legend_title="facts")
}


class Drawn(NamedTuple):
    """Something on the page: the marks it belongs to, what it is, and its colours as they are seen, but for tints."""

    group: str
    tag: str
    colours: list[str]


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG defines it."""
    channels = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(first: str, second: str) -> float:
    """From 1 (the same) to 21 (black and white)."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def hexed(colour: str) -> str:
    """A colour as SVG writes it, in one way."""
    if actual := re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", colour):
        return "#" + "".join(f"{int(part):02x}" for part in actual.groups())
    names = {"white": "#ffffff", "black": "#000000"}
    long = "#" + "".join(2 * digit for digit in colour[1:]) if re.fullmatch("#[0-9a-f]{3}", colour) else colour
    return names.get(colour, long)


def over(colour: str, opacity: float, ground: str) -> str:
    """What is seen of a colour that lets some of its ground through."""
    pairs = [(int(colour[at : at + 2], 16), int(ground[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(opacity * a + (1 - opacity) * b):02x}" for a, b in pairs)


def page(theme: str) -> dict[str, Any]:
    """What Streamlit adds to a chart's configuration."""
    own = {**CONFIG, **CONFIG[theme]}
    return {
        "background": own["backgroundColor"],
        "range": {"category": own["chartCategoricalColors"], "diverging": own["chartDivergingColors"]},
        "mark": {"color": own["chartCategoricalColors"][0]},
    }


def svg_of(chart: alt.LayerChart, theme: str) -> ElementTree.Element:
    spec = specification(chart) | {"width": PIXELS}
    svg = vl_convert.vegalite_to_svg(spec | {"config": page(theme) | spec["config"]})
    return ElementTree.fromstring(svg)  # noqa: S314  # no file of a stranger


def drawn(svg: ElementTree.Element, ground: str) -> Iterator[Drawn]:
    """Everything with a colour, marks and texts, in the order of drawing."""

    def below(element: ElementTree.Element, group: str, opacity: float) -> Iterator[Drawn]:
        group = element.get("class", group)
        opacity *= float(element.get("opacity", 1))
        tag = element.tag.rpartition("}")[2]
        if tag in ("path", "rect", "line", "text") and "background" not in group and "gradient" not in group:
            kinds = [
                (element.get(kind, "none"), float(element.get(f"{kind}-opacity", 1))) for kind in ("fill", "stroke")
            ]
            seen = [(hexed(colour), share * opacity) for colour, share in kinds if hexed(colour).startswith("#")]
            yield Drawn(group, tag, [over(colour, share, ground) for colour, share in seen if share > TINT])
        for child in element:
            yield from below(child, group, opacity)

    yield from below(svg, "", 1.0)


def faint(svg: ElementTree.Element, ground: str) -> list[Drawn]:
    """What does not stand out from the page, though it should."""
    below = []
    for shape in drawn(svg, ground):
        least = TEXT if shape.tag == "text" else MARK
        of_axis = "role-axis-grid" in shape.group or "role-axis-domain" in shape.group  # lines to guide the eye
        halo = set(shape.colours) == {ground}  # which sets off what lies on it
        if shape.colours and not of_axis and not halo and max(contrast(c, ground) for c in shape.colours) < least:
            below.append(shape)
    return below


@pytest.mark.parametrize("theme", EITHER)
@pytest.mark.parametrize("name", tiny.in_full(OTHERS, ("counts", "one run")))
def test_all_that_is_drawn_stands_out_from_the_page(name: str, theme: str) -> None:
    assert not faint(svg_of(OTHERS[name](), theme), page(theme)["background"])


@pytest.mark.parametrize("theme", EITHER)
@pytest.mark.parametrize("name", tiny.in_full(CELLS, ("overview",)))
def test_all_around_and_over_cells_stands_out(name: str, theme: str) -> None:
    """Cells near 0 are to recede; a dot in a cell is black or white, whichever is read better there."""
    for shape in faint(svg_of(EVERY[name](), theme), page(theme)["background"]):
        assert "mark-rect role-mark" in shape.group or set(shape.colours) <= {"#000000", "#ffffff"}


@pytest.mark.parametrize("theme", EITHER)
def test_numbers_are_read_on_every_cell(theme: str) -> None:
    """The correlations of layers, written over cells from one end of the colours to the other."""
    matrix = np.linspace(-1, 1, MOST_WRITTEN * MOST_WRITTEN).reshape(MOST_WRITTEN, MOST_WRITTEN)
    every = list(drawn(svg_of(charts.similarity(matrix, range(MOST_WRITTEN), 0), theme), page(theme)["background"]))
    cells = [one.colours[0] for one in every if "mark-rect role-mark" in one.group][: MOST_WRITTEN * MOST_WRITTEN]
    numbers = [one.colours[0] for one in every if "mark-text role-mark" in one.group]
    assert len(cells) == len(numbers) == MOST_WRITTEN * MOST_WRITTEN
    assert len(set(cells)) > MOST_WRITTEN
    assert min(map(contrast, cells, numbers)) >= TEXT


@pytest.mark.parametrize(("at", "theme"), [*enumerate(THEMES)])
def test_every_shade_is_made_for_its_page_and_the_largest_of_a_ramp_stands_out_most(at: int, theme: str) -> None:
    ground = page(theme)["background"]
    written = [colours.INK_SHADES, colours.MUTED_SHADES, *colours.CATEGORICAL[:2]]  # what texts are drawn in
    assert min(contrast(shades[at], ground) for shades in written) >= TEXT
    others = [colours.FAINT_SHADES, colours.VIOLET_SHADES, *colours.CATEGORICAL, *colours.SEQUENTIAL]
    assert min(contrast(shades[at], ground) for shades in others) >= MARK
    for count in range(1, 11):
        ramp = [re.findall(r"#[0-9a-f]{6}", colour.to_dict()["expr"]) for colour in colours.ramp(count)]
        contrasts = [contrast(dark if theme == "dark" else light, ground) for dark, light in ramp]
        assert contrasts == sorted(contrasts)


def test_the_pages_colours_are_those_of_the_charts() -> None:
    for at, theme in enumerate(THEMES):
        assert page(theme)["range"] == {
            "category": [shades[at] for shades in colours.CATEGORICAL],
            "diverging": list(colours.DIVERGING[at]),
        }
