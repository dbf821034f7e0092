"""Altair charts from arrays and frames. Colours of diverging scales come from the page's theme."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import altair as alt
import numpy as np
import pandas as pd

COLOUR_LIMIT_QUANTILE = 0.998  # of |P| off the diagonal: the few entries beyond it would bleach all others
LABEL_STEP_PIXELS = 15  # room that a line of axis label takes
LABEL_CHARACTERS = 22
LABEL_PIXELS = 150
LABEL_SIZE = 13
PICK = "cell"  # name of the selection that a click on the heatmap makes


def colour_limit(p: np.ndarray) -> float:
    """A symmetric colour limit for a heatmap of P, rounded up to a number one can say aloud."""
    off = np.abs(p[~np.eye(len(p), dtype=bool)])
    off = off[np.isfinite(off)]
    top = float(np.quantile(off, COLOUR_LIMIT_QUANTILE)) if len(off) else 0.0
    steps = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
    return next((step for step in steps if step >= top), 1.0)


def beyond(p: np.ndarray, limit: float) -> int:
    """How many off-diagonal entries a colour scale from -limit to limit clamps."""
    return int((np.abs(p[~np.eye(len(p), dtype=bool)]) > limit).sum())


def heatmap(
    p: np.ndarray,
    order: np.ndarray,
    *,
    limit: float,
    labels: Sequence[str],
    names: Sequence[str],
    picked: tuple[int, int] | None = None,
    hide_diagonal: bool = False,
    size: int = 500,
) -> alt.LayerChart:
    """P as a clickable heatmap; row i is edited, column j suffers.

    Args:
        p: (m, m).
        order: (m,) fact at each position, the same on both axes.
        limit: colours run from -limit to limit; entries beyond are drawn in the end colours.
        labels: (m,) what the axes say at each position; a text that repeats is said once, in its middle.
        names: (m,) subject of each fact, for the tooltip.
        picked: pair (i, j) to mark.
        hide_diagonal: leave the diagonal (always 1) out.
        size: height of the matrix in pixels; the width is the page's.

    Returns:
        a chart whose selection `PICK` has the fields `r` and `c`: positions, to be looked up in `order`.
    """
    m = len(p)
    shown = p[np.ix_(order, order)]
    rows, columns = np.divmod(np.arange(m * m, dtype=np.int32), m)
    cells = pd.DataFrame({"r": rows.astype(np.int16), "c": columns.astype(np.int16)})
    cells["p"] = shown.ravel().astype(np.float32).round(4)
    shows = np.isfinite(cells["p"])
    if hide_diagonal:
        shows &= cells["r"] != cells["c"]
    cells = cells[shows].reset_index(drop=True)  # an index with gaps would be sent along

    subjects = alt.InlineData([{"at": at, "name": names[fact]} for at, fact in enumerate(order)])
    x, y = _position_axes([labels[fact] for fact in order], size)
    squares = (
        alt.Chart(cells)
        .transform_calculate(r2="datum.r + 1", c2="datum.c + 1")
        .transform_lookup("r", alt.LookupData(subjects, "at", ["name"]), as_=["edited"])
        .transform_lookup("c", alt.LookupData(subjects, "at", ["name"]), as_=["suffers"])
        .mark_rect(strokeWidth=0)
        .encode(
            x=x("c"),
            x2="c2:Q",
            y=y("r"),
            y2="r2:Q",
            color=alt.Color("p:Q", title="P[i, j]")
            .scale(domain=(-limit, limit), domainMid=0, clamp=True)
            .legend(
                orient="top",
                gradientLength=240,
                labelFontSize=LABEL_SIZE,
                titleFontSize=LABEL_SIZE + 1,
                values=[-limit, 0, limit],
                format="~g",
                titleOrient="left",
            ),
            tooltip=[
                alt.Tooltip("edited:N", title="edit"),
                alt.Tooltip("suffers:N", title="suffers"),
                alt.Tooltip("p:Q", title="P[i, j]", format=".3f"),
            ],
        )
        .add_params(alt.selection_point(name=PICK, fields=["r", "c"], on="click", empty=False))
    )
    layers = [squares]
    if picked is not None:
        layers += _mark(order, picked, x, y)
    return _plain(alt.layer(*layers), size)


def _position_axes(labels: Sequence[str], size: int) -> tuple[Callable[[str], alt.X], Callable[[str], alt.Y]]:
    """Encodings of a field of positions on either axis, the first position top left; rows carry the labels.

    All layers share them: Vega-Lite merges the axes of layers and would mix in the defaults of any other.
    """
    m = len(labels)
    texts = _axis_labels(labels, size)
    # json.dumps writes string literals that Vega's expression language reads back; no text can break out of them
    expression = f"({json.dumps({f'{at:g}': text for at, text in texts.items()})})[format(datum.value, '~g')]"
    bare = {"grid": False, "ticks": False, "domain": False, "titleFontSize": LABEL_SIZE + 2}
    columns = alt.Axis(orient="top", labels=False, values=[0], **bare)
    rows = alt.Axis(
        values=list(texts),
        labelExpr=expression,
        labelAlign="right",
        labelBaseline="middle",
        labelLimit=LABEL_PIXELS,
        labelFontSize=LABEL_SIZE,
        labelOverlap=False,
        labelBound=False,
        labelFlush=False,
        **bare,
    )
    return (
        lambda field: alt.X(f"{field}:Q", title="fact j that suffers →", axis=columns).scale(
            domain=(0, m), nice=False, zero=False
        ),
        lambda field: alt.Y(f"{field}:Q", title="← fact i that is edited", axis=rows).scale(
            domain=(m, 0), nice=False, zero=False
        ),
    )


def _axis_labels(texts: Sequence[str], size: int) -> dict[float, str]:
    """Position to text, at most one every `LABEL_STEP_PIXELS`; runs of the same text share one label."""
    starts = [at for at, text in enumerate(texts) if at == 0 or text != texts[at - 1]]
    ends = [*starts[1:], len(texts)]
    room = LABEL_STEP_PIXELS * len(texts) / size
    chosen: dict[float, str] = {}
    last = -room
    for start, end in zip(starts, ends, strict=True):
        middle = (start + end) / 2
        if middle - last >= room:
            chosen[middle] = shorten(texts[start])
            last = middle
    return chosen


def shorten(text: str, characters: int = LABEL_CHARACTERS) -> str:
    """Text cut to a number of characters, with an ellipsis where something is missing."""
    return text if len(text) <= characters else f"{text[: characters - 1].rstrip()}…"


def _mark(
    order: np.ndarray, picked: tuple[int, int], x: Callable[[str], alt.X], y: Callable[[str], alt.Y]
) -> list[alt.Chart]:
    position = {int(fact): at for at, fact in enumerate(order)}
    row, column = position[picked[0]], position[picked[1]]
    lines = alt.Chart(pd.DataFrame({"x": [column, column + 1], "y": [row, row + 1]})).mark_rule(
        color="gray", strokeWidth=1, opacity=0.7
    )
    ring = alt.Chart(pd.DataFrame({"x": [column + 0.5], "y": [row + 0.5]})).encode(x=x("x"), y=y("y"))
    return [
        lines.encode(x=x("x")),
        lines.encode(y=y("y")),
        # two rings, so that one of them stands out on any cell and in either theme
        ring.mark_point(shape="square", size=320, filled=False, color="white", strokeWidth=5, opacity=1),
        ring.mark_point(shape="square", size=320, filled=False, color="black", strokeWidth=2, opacity=1),
    ]


def _plain(chart: alt.LayerChart, height: int) -> alt.LayerChart:
    """As wide as its column, with the plot itself (not plot and labels together) `height` pixels high."""
    return chart.properties(
        height=height,
        width="container",
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
        usermeta={"embedOptions": {"renderer": "canvas"}},
    )


def by_layer(layers: Sequence[int], series: dict[str, Sequence[float]], current: int) -> alt.LayerChart:
    """Small lines over the layers, one per series, with the current layer marked and the last value named."""
    frame = pd.DataFrame(
        [(layer, name, value) for name, values in series.items() for layer, value in zip(layers, values, strict=True)],
        columns=["layer", "series", "value"],
    )
    base = alt.Chart(frame).encode(
        x=alt.X("layer:Q", title="layer").axis(
            values=list(layers), format="d", grid=False, labelFontSize=LABEL_SIZE, labelOverlap=True
        ),
        y=alt.Y("value:Q", title=None).axis(tickCount=4, labelFontSize=LABEL_SIZE),
        color=alt.Color("series:N", title=None, sort=list(series)).legend(
            orient="top", labelFontSize=LABEL_SIZE + 1, symbolType="stroke"
        ),
    )
    marker = (
        alt.Chart(pd.DataFrame({"layer": [current]})).mark_rule(strokeDash=[4, 4], color="gray").encode(x="layer:Q")
    )
    zero = alt.Chart(pd.DataFrame({"value": [0.0]})).mark_rule(color="gray", opacity=0.5).encode(y="value:Q")
    lines = base.mark_line(point=alt.OverlayMarkDef(size=60), strokeWidth=2.5).encode(
        tooltip=["layer:Q", "series:N", alt.Tooltip("value:Q", format=".3f")]
    )
    return _plain(alt.layer(zero, marker, lines), 110)
