"""Looking into a chart as the browser gets it, and something to draw."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from kis_core.charts import colours

HOSTILE = ("javascript:alert(1)", "</script>", "'; alert(1)", '"})[0]; x("', "\\", '\\": alert(1), "', "a\nb", "\u2028")
INK, PAPER, BLUE, ORANGE, GREY = (  # as they are sent
    one.to_dict() for one in (colours.INK, colours.PAPER, colours.BLUE, colours.ORANGE, colours.MUTED)
)
PIXELS = 300  # a width, where the page's column would give one

CURVES = pd.DataFrame(
    {
        "at": [-0.2, 0.0, 0.2, 0.4, -0.2, 0.0, 0.2],
        "density": [0.5, 4.0, 1.0, 0.01, 0.001, 3.0, 0.001],
        "curve": ["measured"] * 4 + ["normal"] * 3,
    }
)
NO_CURVES = pd.DataFrame({"at": [], "density": [], "curve": []})
SHARES = pd.DataFrame(
    {
        "low": [0.0, 5.0, 85.0, 90.0, 85.0],
        "high": [5.0, 10.0, 90.0, 95.0, 90.0],
        "share": [0.0, 0.25, 0.5, 0.25, 1.0],
        "space": ["whitened"] * 4 + ["activations"],
    }
)
SCALED = pd.DataFrame(
    {
        "model": ["small", "small", "large", "large", "large"],
        "family": ["B", "B", "A", "A", "A"],
        "parameters": [100, 100, 900, 900, 900],
        "layer": [0, 3, 0, 1, 2],
        "kurtosis": [5.0, 2.0, 9.0, 8.0, 7.0],
        "low": [4.0, 1.0, 8.0, 7.0, 6.0],
        "high": [6.0, 3.0, 10.0, 9.0, 8.0],
    }
)
GROWING = pd.DataFrame(
    {
        "x": [16, 32, 128],
        "middle": [3.0, float("nan"), 4.0],
        "low": [1.0, float("nan"), 4.0],
        "high": [5.0, float("nan"), 4.0],
        "note": ["a"] * 3,
    }
)

STRIP = pd.DataFrame({"at": [-1.0, 0.0, 1.0], "density": [0.001, 4.0, 0.2]})


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
