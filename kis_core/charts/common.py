"""What all charts share: axes, legends, tooltips and outlines, sizes of type, and how a chart sits in its column."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from kis_core.charts.colours import INK, MUTED, PAPER
from kis_core.wording import MISSING

LABEL_SIZE = 13
LABEL_CHARACTERS = 22
AROUND = 105  # pixels that axes, their titles and a legend take above and below the plot
TOOLBAR = 30  # pixels at the top of a chart for the page's toolbar, where no legend leaves room for it
NAME_SHARE = 0.3  # of the axis, which a name beside a line may take
NAME_STEP = 18  # pixels from the name of one line down to the next
WORDS = {"labelFontSize": LABEL_SIZE, "labelColor": MUTED, "titleColor": MUTED}
CONFIG: dict[str, Any] = {
    "axis": alt.AxisConfig(**WORDS),
    "legend": alt.LegendConfig(**WORDS, symbolBaseFillColor=MUTED, symbolBaseStrokeColor=MUTED),
    # the minus sign of all other numbers on the pages, in tables and in files: the one that programs read
    "locale": alt.Locale(
        number=alt.NumberLocale(decimal=".", thousands=",", grouping=[3], currency=["$", ""], minus="-")
    ),
}


def shorten(text: str, characters: int = LABEL_CHARACTERS) -> str:
    """Text cut to a number of characters, with an ellipsis where something is missing."""
    return text if len(text) <= characters else f"{text[: characters - 1].rstrip()}…"


def title(text: str) -> str:
    """Text as a title: Vega-Lite writes titles into expressions and escapes quotes there, but nothing else."""
    return " ".join(text.replace("\\", "/").split())


def plain(chart: alt.LayerChart, height: int, *, bare: bool = False) -> alt.LayerChart:
    """A chart as wide as its column, and so high that the plot has about `height` pixels.

    All of it fits whatever height it is given, so that a full screen shows it whole.

    Args:
        chart: what to draw.
        height: of the plot, in pixels.
        bare: there is no legend above the plot.
    """
    return chart.properties(
        height=height + AROUND,
        width="container",
        autosize=alt.AutoSizeParams(type="fit", contains="padding"),
        usermeta={"embedOptions": {"renderer": "canvas"}},
        **({"padding": {"top": TOOLBAR}} if bare else {}),
    ).configure(**CONFIG)


def axis(**options: Any) -> alt.Axis:
    """An axis whose labels can be read from the last row of a lecture room."""
    usual = {"labelFontSize": LABEL_SIZE, "titleFontSize": LABEL_SIZE + 1, "grid": False, "labelOverlap": True}
    return alt.Axis(**(usual | options))


def on_axis(channel: Any, title: str | None, drawn: alt.Axis | None, **scale: Any) -> Callable[[str], Any]:
    """Encodings of quantitative fields that share an axis and a scale, by field.

    All layers of a chart share them: Vega-Lite merges the axes of layers and would mix in the defaults of any other.

    Args:
        channel: `alt.X` or `alt.Y`.
        title: of the axis.
        drawn: the axis.
        scale: options of the scale; it ends where its domain ends, unless `nice` says otherwise.
    """
    return lambda field: channel(f"{field}:Q", title=title).axis(drawn).scale(**({"nice": False} | scale))


def legend(**options: Any) -> alt.Legend:
    """A legend above the plot."""
    usual = {"orient": "top", "title": None, "labelFontSize": LABEL_SIZE, "labelLimit": 340, "columns": 3}
    return alt.Legend(**(usual | options))


def line_legend(**options: Any) -> alt.Legend:
    """A legend above the plot that shows lines as strokes."""
    return legend(symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=3, **options)


def gradient_legend(pixels: int, **options: Any) -> alt.Legend:
    """A legend above the plot that shows a scale of colours, so many pixels long."""
    sizes = {"labelFontSize": LABEL_SIZE, "titleFontSize": LABEL_SIZE + 1}
    return alt.Legend(**({"orient": "top", "gradientLength": pixels, "titleOrient": "left"} | sizes | options))


def tip(field: str, title: str = "", form: str = "") -> alt.Tooltip:
    """A line of a tooltip: a field with its type, the title in front, and the d3 format of its number."""
    return alt.Tooltip(field, **({"title": title} if title else {}), **({"format": form} if form else {}))


def clicks(name: str, fields: list[str]) -> alt.Parameter:
    """A selection of that name, made by a click on a mark, which carries these fields of the mark."""
    return alt.selection_point(name=name, fields=fields, on="click", empty=False)


def texts(chart: alt.Chart, **forms: str) -> alt.Chart:
    """A chart with a text `<field>_text` of each of these fields for tooltips: Vega writes 0 for a missing number.

    Args:
        chart: whose data hold the fields.
        forms: d3 format of each field.
    """
    written = {
        f"{field}_text": f"isValid(datum.{field}) ? format(datum.{field}, '{form}') : '{MISSING}'"
        for field, form in forms.items()
    }
    return chart.transform_calculate(**written)


def outline(draw: Callable[..., alt.Chart], **options: Any) -> list[alt.Chart]:
    """An unfilled mark drawn twice in two colours, of which one stands out on any ground; `draw` is `chart.mark_…`."""
    colours = ((PAPER, 5), (INK, 2))
    return [draw(filled=False, stroke=colour, strokeWidth=width, **options) for colour, width in colours]


def named_lines(values: Mapping[str, float], x: Callable[[str], alt.X], span: tuple[float, float]) -> list[alt.Chart]:
    """Vertical lines with their names at the top, each name below the one before; NaN is left out.

    A name stands on the side away from the other lines, where the axis has room for it.

    Args:
        values: place of each line, by its name.
        x: encodings on the x axis, as `on_axis` gives them.
        span: of that axis.
    """
    marks = [(value, name, row) for row, (name, value) in enumerate(values.items()) if np.isfinite(value)]
    base = alt.Chart(pd.DataFrame(marks, columns=["at", "name", "row"])).encode(x=x("at"))
    chart = [base.mark_rule(color=PAPER, strokeWidth=4), base.mark_rule(color=INK, strokeWidth=2, strokeDash=[6, 3])]
    room, rightmost = NAME_SHARE * (span[1] - span[0]), max((value for value, _, _ in marks), default=np.nan)
    for row, value in enumerate(values.values()):
        side = -1 if value > span[1] - room or span[0] + room < value < rightmost else 1
        name = base.transform_filter(f"datum.row === {row}").mark_text(
            align="left" if side > 0 else "right",
            baseline="top",
            dx=6 * side,
            dy=4 + NAME_STEP * row,
            fontSize=LABEL_SIZE,
            fontWeight="bold",
            color=INK,
        )
        chart.append(name.encode(text="name:N", y=alt.value(0)))
    return chart
