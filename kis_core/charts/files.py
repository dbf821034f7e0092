"""Charts as files, as they look on a white page."""

from __future__ import annotations

from typing import Any

import altair as alt

from kis_core.charts.colours import CATEGORICAL, DIVERGING
from kis_core.charts.common import AROUND, CONFIG

WIDTH = 1000  # pixels of an exported plot whose width on the page is that of its column
PADDING = 16
SCALE = 2  # pixels of a PNG for one of the page: sharp when projected


def _specification(chart: alt.LayerChart, title: str, lines: list[str]) -> dict[str, Any]:
    with alt.data_transformers.enable("default", max_rows=None):
        return (  # type: ignore[no-any-return]
            chart.properties(
                width=WIDTH,
                height=chart.height - AROUND,  # the title comes on top of the plot, and takes nothing from it
                autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
                padding=PADDING,
                title=alt.TitleParams(
                    title, subtitle=lines, anchor="start", fontSize=18, subtitleFontSize=13, offset=12
                ),
            )
            .configure(**CONFIG, background="white", font="sans-serif")
            .configure_range(category=[shades.light for shades in CATEGORICAL], diverging=list(DIVERGING[0]))
            .configure_view(strokeWidth=0)
            .to_dict(context={"pre_transform": False})
        )


def to_png(chart: alt.LayerChart, title: str, lines: list[str]) -> bytes:
    """The chart as PNG, with a title and lines of provenance under it."""
    import vl_convert

    return bytes(vl_convert.vegalite_to_png(_specification(chart, title, lines), scale=SCALE))


def to_svg(chart: alt.LayerChart, title: str, lines: list[str]) -> str:
    """The chart as SVG, with a title and lines of provenance under it."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(_specification(chart, title, lines)))
