"""Two P over the same facts against each other."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from kis_core.charts.colours import FAINT, INK, MUTED, ORANGE, PAPER
from kis_core.charts.common import axis, clicks, on_axis, outline, plain, tip, title
from kis_core.superposition.agreement import PairCounts, count_pairs

PAIR = "pair"  # name of the selection that a click on a point makes


def scatter(
    first: np.ndarray,
    second: np.ndarray,
    *,
    names: tuple[str, str],
    subjects: list[str],
    picked: tuple[int, int] | None = None,
    size: int = 380,
    pairs: PairCounts | None = None,
) -> alt.LayerChart:
    """P against P: all pairs as a field of counts, those that differ most as points, the picked one ringed.

    Args:
        first: P on the x axis, (m, m).
        second: P on the y axis, over the same facts in the same order.
        names: of the two, for the axes.
        subjects: (m,) for the tooltip.
        picked: pair (i, j) to mark.
        size: height in pixels.
        pairs: the result of `count_pairs`, if it is known already.

    Returns:
        a chart whose selection `PAIR` has the fields `i` and `j`.
    """
    pairs = pairs or count_pairs(first, second)
    span = (pairs.low, pairs.high)
    names = (title(names[0]), title(names[1]))
    points = pairs.points.assign(
        edit=[subjects[i] for i in pairs.points["i"]], suffers=[subjects[j] for j in pairs.points["j"]]
    )
    x = on_axis(alt.X, f"P[i, j] in {names[0]}", axis(tickCount=7), domain=span)
    y = on_axis(alt.Y, f"P[i, j] in {names[1]}", axis(tickCount=7), domain=span)
    most = max(2, int(pairs.field["pairs"].max()) if len(pairs.field) else 2)
    shade = alt.Color("pairs:Q", title="pairs").scale(type="log", range=[FAINT, INK], domain=(1, most)).legend(None)
    squares = alt.Chart(pairs.field).mark_rect(strokeWidth=0)
    squares = squares.encode(
        x=x("x"), x2="x2:Q", y=y("y"), y2="y2:Q", color=shade, tooltip=[tip("pairs:Q", "pairs here")]
    )
    diagonal = alt.Chart(pd.DataFrame({"x": span, "y": span})).mark_line(color=MUTED, strokeDash=[4, 4])
    dots = alt.Chart(points).mark_point(filled=True, size=70, opacity=1, color=ORANGE, stroke=PAPER, strokeWidth=0.8)
    dots = dots.encode(
        x=x("x"),
        y=y("y"),
        tooltip=[
            tip("edit:N", "edit"),
            tip("suffers:N", "suffers"),
            tip("x:Q", names[0], ".3f"),
            tip("y:Q", names[1], ".3f"),
        ],
    )
    layers = [squares, diagonal.encode(x=x("x"), y=y("y")), dots.add_params(clicks(PAIR, ["i", "j"]))]
    if picked is not None:
        ring = alt.Chart(pd.DataFrame({"x": [first[picked]], "y": [second[picked]]})).encode(x=x("x"), y=y("y"))
        layers += outline(ring.mark_point, size=260, opacity=1)
    return plain(alt.layer(*layers), size)
