"""How many pairs have which P: counts on a logarithmic axis, beside what normal distributions would give."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import numpy as np
import pandas as pd

from kis_core.charts.colours import INK, PAPER
from kis_core.charts.common import LABEL_SIZE, axis, legend, plain
from kis_core.charts.heatmap import Window, heatmap
from kis_core.superposition import ISOTROPIC, MEASURED, SAME_STD

FLOOR = 0.5  # pairs, where the axis ends: half as high as the bar of a single one
TITLE = "P[i, j] off the diagonal"


def counts(bars: pd.DataFrame, *, picked: Mapping[str, float] | None = None, size: int = 320) -> alt.LayerChart:
    """A histogram of counts; the tail of a few pairs is seen beside the bulk of millions.

    Args:
        bars: columns `low`, `high`, `count`, `SAME_STD` and `ISOTROPIC`, as `sweep.bars` gives them.
        picked: name and value of what is to be marked, such as P[i, j] of the picked pair.
        size: height in pixels.
    """
    names = [MEASURED, SAME_STD, ISOTROPIC]
    low, high = (float(bars["low"].min()), float(bars["high"].max())) if len(bars) else (-1.0, 1.0)
    top = 1.6 * max(1.0, float(bars["count"].max()) if len(bars) else 1.0)
    x_axis = axis(tickCount=8, title=TITLE)
    y_axis = axis(tickCount=6, format="~s", title="pairs")

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", title=TITLE).axis(x_axis).scale(domain=(low, high), nice=False)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title="pairs").axis(y_axis).scale(type="log", domain=(FLOOR, top), clamp=True)

    colour = (
        alt.Color("curve:N", sort=names)
        .scale(domain=names)
        .legend(legend(symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=3))
    )
    filled = bars.loc[bars["count"] > 0, ["low", "high", "count"]].assign(curve=MEASURED, base=FLOOR)
    rects = (
        alt.Chart(filled)
        .mark_rect(opacity=0.85)
        .encode(
            x=x("low"),
            x2="high:Q",
            y=y("count"),
            y2="base:Q",
            color=colour,
            tooltip=[
                alt.Tooltip("low:Q", title="from", format=".4f"),
                alt.Tooltip("high:Q", title="to", format=".4f"),
                alt.Tooltip("count:Q", title="pairs", format=","),
            ],
        )
    )
    lines = (
        alt.Chart(_nulls(bars))
        .mark_line(strokeWidth=2.5)
        .encode(
            x=x("at"),
            y=y("count"),
            color=colour,
            strokeDash=alt.StrokeDash("curve:N", sort=names, legend=None).scale(
                domain=names, range=[[1, 0], [8, 4], [2, 3]]
            ),
        )
    )
    layers: list[alt.Chart] = [rects, lines]
    for row, (name, value) in enumerate((picked or {}).items()):
        if low <= value <= high:
            layers += _mark(name, value, row, x("at"), value > low + 0.7 * (high - low))
    return plain(alt.layer(*layers), size)


def _nulls(bars: pd.DataFrame) -> pd.DataFrame:
    """The expected counts as lines, down to where the axis ends."""
    middle = (bars["low"] + bars["high"]) / 2
    parts = [
        pd.DataFrame({"at": middle, "count": bars[name], "curve": name})[bars[name] >= FLOOR]
        for name in (SAME_STD, ISOTROPIC)
    ]
    return pd.concat(parts, ignore_index=True)


def _mark(name: str, value: float, row: int, x: alt.X, near_end: bool) -> list[alt.Chart]:
    """Two lines, so that one of them stands out on any ground, and a name."""
    base = alt.Chart(pd.DataFrame({"at": [value], "name": [name]})).encode(x=x)
    text = base.mark_text(
        align="right" if near_end else "left",
        baseline="top",
        dx=-6 if near_end else 6,
        dy=4 + 18 * row,
        fontSize=LABEL_SIZE,
        fontWeight="bold",
        color=INK,
    )
    return [
        base.mark_rule(color=PAPER, strokeWidth=4),
        base.mark_rule(color=INK, strokeWidth=2, strokeDash=[6, 3]),
        text.encode(text="name:N", y=alt.value(0)),
    ]


def part(
    p: np.ndarray,
    *,
    limit: float,
    row_names: list[str],
    column_names: list[str],
    picked: tuple[int, int] | None = None,
    size: int = 520,
) -> alt.LayerChart:
    """A part of P with its own facts on either axis, as `heatmap` draws a window of the whole.

    Args:
        p: (rows, columns).
        limit: colours run from -limit to limit.
        row_names: of the edited facts.
        column_names: of those that suffer.
        picked: position (row, column) to mark.
        size: height of the matrix in pixels.

    Returns:
        a chart whose selection `PICK` has the fields `r`, the row, and `c`, the number of rows plus the column.
    """
    rows, columns = p.shape
    whole = np.full((rows + columns, rows + columns), np.nan)
    whole[:rows, rows:] = p
    names = [*row_names, *column_names]
    return heatmap(
        whole,
        np.arange(rows + columns),
        limit=limit,
        labels=names,
        names=names,
        picked=(picked[0], rows + picked[1]) if picked else None,
        size=size,
        window=Window(0, rows, rows, rows + columns),
    )
