"""What all charts share: sizes of type, and how a chart sits in its column."""

from __future__ import annotations

from typing import Any

import altair as alt

from kis_core.charts.colours import MUTED
from kis_core.wording import MISSING

LABEL_SIZE = 13
LABEL_CHARACTERS = 22
WORDS = {"labelFontSize": LABEL_SIZE, "labelColor": MUTED, "titleColor": MUTED}
CONFIG: dict[str, Any] = {
    "axis": alt.AxisConfig(**WORDS),
    "legend": alt.LegendConfig(**WORDS, symbolBaseFillColor=MUTED, symbolBaseStrokeColor=MUTED),
    # the minus sign that all other numbers have, on the pages, in tables and in files: one that programs read
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


AROUND = 105  # pixels that axes, their titles and a legend take above and below the plot
TOOLBAR = 30  # pixels at the top of a chart for the page's toolbar, where no legend leaves room for it


def plain(chart: alt.LayerChart, height: int, *, bare: bool = False) -> alt.LayerChart:
    """As wide as its column, and so high that the plot has about `height` pixels.

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
    """An axis readable from the last row."""
    return alt.Axis(
        **(
            {"labelFontSize": LABEL_SIZE, "titleFontSize": LABEL_SIZE + 1, "grid": False, "labelOverlap": True}
            | options
        )
    )


def legend(**options: Any) -> alt.Legend:
    """A legend above the plot."""
    return alt.Legend(
        **({"orient": "top", "title": None, "labelFontSize": LABEL_SIZE, "labelLimit": 340, "columns": 3} | options)
    )


def clicks(name: str, fields: list[str]) -> alt.Parameter:
    """A click on a mark as a selection of that name, which tells these fields of it."""
    return alt.selection_point(name=name, fields=fields, on="click", empty=False)


def texts(chart: alt.Chart, **forms: str) -> alt.Chart:
    """With a text `<field>_text` of each of these fields for tooltips: Vega would write 0 for a number that is missing.

    Args:
        chart: whose data hold the fields.
        forms: d3 format of each field.
    """
    written = {
        f"{field}_text": f"isValid(datum.{field}) ? format(datum.{field}, '{form}') : '{MISSING}'"
        for field, form in forms.items()
    }
    return chart.transform_calculate(**written)
