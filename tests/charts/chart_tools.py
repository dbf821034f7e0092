"""Looking into a chart as the browser gets it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt
import vl_convert

from kis_core.charts import colours

HOSTILE = ("javascript:alert(1)", "</script>", "'; alert(1)", '"})[0]; x("', "\\", '\\": alert(1), "', "a\nb", "\u2028")
BLUE, ORANGE = colours.BLUE.to_dict(), colours.ORANGE.to_dict()  # as they are sent
PIXELS = 300  # a width, where the page's column would give one

NAN = float("nan")


def specification(chart: alt.LayerChart) -> dict[str, Any]:
    """What is sent to the browser."""
    with alt.data_transformers.enable("default", max_rows=None):
        return chart.to_dict()


def tables(spec: dict[str, Any], *columns: str) -> list[list[dict[str, Any]]]:
    """The tables that are sent with exactly these columns."""
    return [rows for rows in spec["datasets"].values() if rows and set(rows[0]) == set(columns)]


def table(spec: dict[str, Any], *columns: str) -> list[dict[str, Any]]:
    """The one table that is sent with exactly these columns; tables of the same content are sent once."""
    (rows,) = tables(spec, *columns)
    return rows


def of_layer(spec: dict[str, Any], layer: dict[str, Any]) -> list[dict[str, Any]]:
    """What a layer draws; where all draw the same, it is said once for the chart."""
    return spec["datasets"][(layer if "data" in layer else spec)["data"]["name"]]


def layers_with(spec: dict[str, Any], mark: str) -> list[dict[str, Any]]:
    """The layers of a kind of mark."""
    return [layer for layer in spec["layer"] if layer["mark"]["type"] == mark]


def drawn(chart: alt.LayerChart) -> str:
    """The chart as SVG; fails where it does not compile to Vega, or one of its expressions cannot be read."""
    vega = vl_convert.vegalite_to_vega(specification(chart) | {"width": PIXELS})
    return vl_convert.vega_to_svg(vega)


def assert_harmless(chart: alt.LayerChart) -> None:
    """It can be drawn, holds nothing but numbers and text, and leads nowhere."""
    svg = drawn(chart)
    assert svg.startswith("<svg")
    for unwanted in ("NaN", "<script", "href"):
        assert unwanted not in svg
    assert not list(links(specification(chart)))


def links(spec: Any) -> Iterator[str]:
    """Every property of a specification that could lead out of the page."""
    if isinstance(spec, dict):
        yield from (name for name in spec if name in ("href", "url"))
        for part in spec.values():
            yield from links(part)
    elif isinstance(spec, list):
        for part in spec:
            yield from links(part)
