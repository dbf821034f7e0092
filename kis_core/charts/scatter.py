"""Two P over the same facts against each other."""

from __future__ import annotations

from dataclasses import dataclass

import altair as alt
import numpy as np
import pandas as pd

from kis_core.charts.colours import FAINT, INK, MUTED, ORANGE, PAPER
from kis_core.charts.common import axis, clicks, plain, title

PAIR = "pair"  # name of the selection that a click on a point makes
CELLS = 70  # a side of the field of counts behind the points
POINTS = 300  # pairs drawn one by one


@dataclass(frozen=True)
class Counted:
    """What a scatter of two P draws, worked out once.

    Attributes:
        field: columns `x`, `x2`, `y`, `y2`, `pairs`; one row a cell that holds any pair.
        points: as of `differing`.
        low, high: ends of both axes.
    """

    field: pd.DataFrame
    points: pd.DataFrame
    low: float
    high: float


def counted(first: np.ndarray, second: np.ndarray) -> Counted:
    """Count the pairs of two P, (m, m) over the same facts, and find those that differ most."""
    there = np.isfinite(first) & np.isfinite(second) & ~np.eye(len(first), dtype=bool)
    a, b = first[there], second[there]
    low, high = (float(min(a.min(), b.min())), float(max(a.max(), b.max()))) if len(a) else (0.0, 0.0)
    margin = 0.03 * (high - low) or 0.05
    low, high = low - margin, high + margin
    counts, edges, _ = np.histogram2d(a, b, bins=CELLS, range=[[low, high], [low, high]])
    rows, columns = np.nonzero(counts)
    field = {
        "x": edges[rows],
        "x2": edges[rows + 1],
        "y": edges[columns],
        "y2": edges[columns + 1],
        "pairs": counts[rows, columns].astype(int),
    }
    return Counted(pd.DataFrame(field), differing(first, second, POINTS), low, high)


def scatter(
    first: np.ndarray,
    second: np.ndarray,
    *,
    names: tuple[str, str],
    subjects: list[str],
    picked: tuple[int, int] | None = None,
    size: int = 380,
    pairs: Counted | None = None,
) -> alt.LayerChart:
    """P against P: all pairs as a field of counts, those that differ most as points, the picked one ringed.

    Args:
        first: P of the one, (m, m).
        second: P of the other, over the same facts in the same order.
        names: of the two, for the axes.
        subjects: (m,) for the tooltip.
        picked: pair (i, j) to mark.
        size: height in pixels.
        pairs: what `counted` found, where it is known already.

    Returns:
        a chart whose selection `PAIR` has the fields `i` and `j`.
    """
    pairs = pairs or counted(first, second)
    field, low, high = pairs.field, pairs.low, pairs.high
    names = (title(names[0]), title(names[1]))
    points = pairs.points.assign(
        edit=[subjects[i] for i in pairs.points["i"]], suffers=[subjects[j] for j in pairs.points["j"]]
    )
    x = alt.X("x:Q", title=f"P[i, j] in {names[0]}").axis(axis(tickCount=7)).scale(domain=(low, high), nice=False)
    y = alt.Y("y:Q", title=f"P[i, j] in {names[1]}").axis(axis(tickCount=7)).scale(domain=(low, high), nice=False)
    squares = (
        alt.Chart(field)
        .mark_rect(strokeWidth=0)
        .encode(
            x=x,
            x2="x2:Q",
            y=y,
            y2="y2:Q",
            color=alt.Color("pairs:Q", title="pairs")
            .scale(type="log", range=[FAINT, INK], domain=(1, max(2, int(field["pairs"].max()) if len(field) else 2)))
            .legend(None),
            tooltip=[alt.Tooltip("pairs:Q", title="pairs here")],
        )
    )
    diagonal = (
        alt.Chart(pd.DataFrame({"x": [low, high], "y": [low, high]}))
        .mark_line(color=MUTED, strokeDash=[4, 4])
        .encode(x=x, y=y)
    )
    dots = (
        alt.Chart(points)
        .mark_point(filled=True, size=70, opacity=1, color=ORANGE, stroke=PAPER, strokeWidth=0.8)
        .encode(
            x=x,
            y=y,
            tooltip=[
                alt.Tooltip("edit:N", title="edit"),
                alt.Tooltip("suffers:N", title="suffers"),
                alt.Tooltip("x:Q", title=names[0], format=".3f"),
                alt.Tooltip("y:Q", title=names[1], format=".3f"),
            ],
        )
        .add_params(clicks(PAIR, ["i", "j"]))
    )
    layers = [squares, diagonal, dots]
    if picked is not None:
        ring = alt.Chart(pd.DataFrame({"x": [first[picked]], "y": [second[picked]]})).encode(x=x, y=y)
        layers += [
            ring.mark_point(size=260, filled=False, color=PAPER, strokeWidth=5, opacity=1),
            ring.mark_point(size=260, filled=False, color=INK, strokeWidth=2, opacity=1),
        ]
    return plain(alt.layer(*layers), size)


def differing(first: np.ndarray, second: np.ndarray, count: int) -> pd.DataFrame:
    """The pairs whose P differs most between two matrices, most first.

    Returns:
        columns `i`, `j`, `x` (P in the first), `y` (P in the second).
    """
    difference = np.abs(first - second)
    np.fill_diagonal(difference, np.nan)
    order = np.argsort(-np.nan_to_num(difference, nan=-1.0), axis=None, kind="stable")
    order = order[: min(count, int(np.isfinite(difference).sum()))]
    i, j = np.unravel_index(order, difference.shape)
    return pd.DataFrame({"i": i.astype(int), "j": j.astype(int), "x": first[i, j], "y": second[i, j]})
