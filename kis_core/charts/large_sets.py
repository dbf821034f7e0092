"""How many pairs have which P: counts on a logarithmic axis, beside what normal distributions would give."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import numpy as np
import pandas as pd

from kis_core.charts.common import axis, line_legend, named_lines, on_axis, plain, tip
from kis_core.charts.heatmap import Window, heatmap
from kis_core.superposition import ISOTROPIC, MEASURED, SAME_STD

FLOOR = 0.5  # pairs, where the axis ends: half as high as the bar of a single one
TITLE = "P[i, j] off the diagonal"


def counts(bars: pd.DataFrame, *, picked: Mapping[str, float] | None = None) -> alt.LayerChart:
    """A histogram of counts, in which the tail of a few pairs is seen beside the bulk of millions.

    Args:
        bars: columns `low`, `high`, `count`, `SAME_STD` and `ISOTROPIC`, as `sweep.bars` gives them.
        picked: name and value of what is to be marked, such as P[i, j] of the picked pair.
    """
    names = [MEASURED, SAME_STD, ISOTROPIC]
    low, high = (float(bars["low"].min()), float(bars["high"].max())) if len(bars) else (-1.0, 1.0)
    top = 1.6 * max(1.0, float(bars["count"].max()) if len(bars) else 1.0)
    x = on_axis(alt.X, TITLE, axis(tickCount=8), domain=(low, high))
    y = on_axis(alt.Y, "pairs", axis(tickCount=6, format="~s"), type="log", domain=(FLOOR, top), clamp=True)
    colour = alt.Color("curve:N", sort=names).scale(domain=names).legend(line_legend())
    dash = alt.StrokeDash("curve:N", sort=names, legend=None).scale(domain=names, range=[[1, 0], [8, 4], [2, 3]])
    filled = bars.loc[bars["count"] > 0, ["low", "high", "count"]].assign(curve=MEASURED, base=FLOOR)
    rects = alt.Chart(filled).mark_rect(opacity=0.85)
    rects = rects.encode(
        x=x("low"),
        x2="high:Q",
        y=y("count"),
        y2="base:Q",
        color=colour,
        tooltip=[tip("low:Q", "from", ".4f"), tip("high:Q", "to", ".4f"), tip("count:Q", "pairs", ",")],
    )
    lines = alt.Chart(_nulls(bars)).mark_line(strokeWidth=2.5)
    lines = lines.encode(x=x("at"), y=y("count"), color=colour, strokeDash=dash)
    seen = {name: value for name, value in (picked or {}).items() if low <= value <= high}
    return plain(alt.layer(rects, lines, *(named_lines(seen, x, (low, high)) if seen else [])), 320)


def _nulls(bars: pd.DataFrame) -> pd.DataFrame:
    """The expected counts as lines, down to where the axis ends."""
    middle = (bars["low"] + bars["high"]) / 2
    parts = [
        pd.DataFrame({"at": middle, "count": bars[name], "curve": name})[bars[name] >= FLOOR]
        for name in (SAME_STD, ISOTROPIC)
    ]
    return pd.concat(parts, ignore_index=True)


def part(
    p: np.ndarray, *, limit: float, row_names: list[str], column_names: list[str], picked: tuple[int, int] | None = None
) -> alt.LayerChart:
    """A part of P with its own facts on either axis, as `heatmap` draws a window of the whole.

    Args:
        p: (rows, columns).
        limit: colours run from -limit to limit.
        row_names: of the edited facts.
        column_names: of the facts that suffer.
        picked: position (row, column) to mark.

    Returns:
        a chart whose selection `PICK` has the fields `r`, the row, and `c`, the number of rows plus the column.
    """
    rows, columns = p.shape
    square = np.full((rows + columns, rows + columns), np.nan)
    square[:rows, rows:] = p
    names = [*row_names, *column_names]
    return heatmap(
        square,
        np.arange(rows + columns),
        limit=limit,
        labels=names,
        names=names,
        picked=(picked[0], rows + picked[1]) if picked else None,
        size=520,
        window=Window(0, rows, rows, rows + columns),
    )
