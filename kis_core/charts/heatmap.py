"""P as a heatmap: whole, as an overview of blocks, or a window of it; and how alike layers are."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

import altair as alt
import numpy as np
import pandas as pd

from kis_core.charts.colours import INK, MUTED, PAPER, on
from kis_core.charts.common import LABEL_SIZE, axis, clicks, plain, shorten

COLOUR_LIMIT_QUANTILE = 0.998  # of |P| off the diagonal: the few entries beyond it would bleach all others
LABEL_STEP_PIXELS = 15  # room that a line of axis label takes
LABEL_PIXELS = 150
PICK = "cell"  # name of the selection that a click on a heatmap makes
BRUSH = "brush"  # name of the selection that a drag over an overview makes
TOLD = 12  # layers a side whose similarities are written into the cells
DETAIL = 128  # facts a side that are drawn cell by cell; more take the browser seconds


class Window(NamedTuple):
    """Positions (not facts) along both axes: rows `top` to `bottom`, columns `left` to `right`, ends left out."""

    top: int
    bottom: int
    left: int
    right: int

    def around(self, row: int, column: int, m: int) -> Window:
        """A window of the same size with this position in its middle, or as near as the edges of m allow."""
        height, width = self.bottom - self.top, self.right - self.left
        top = min(max(0, row - height // 2), m - height)
        left = min(max(0, column - width // 2), m - width)
        return Window(top, top + height, left, left + width)


def whole(m: int) -> Window:
    """All m positions of both axes."""
    return Window(0, m, 0, m)


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
    window: Window | None = None,
    value: str = "P[i, j]",
) -> alt.LayerChart:
    """P as a clickable heatmap; row i is edited, column j suffers.

    Args:
        p: (m, m).
        order: (m,) fact at each position, the same on both axes.
        limit: colours run from -limit to limit; entries beyond are drawn in the end colours.
        labels: (m,) what the axes say of each fact; a text that repeats is said once, in its middle.
        names: (m,) subject of each fact, for the tooltip.
        picked: pair (i, j) to mark.
        hide_diagonal: leave the diagonal (always 1) out.
        size: height of the matrix in pixels; the width is the page's.
        window: the part to draw; by default all of it.
        value: what the colour stands for.

    Returns:
        a chart whose selection `PICK` has the fields `r` and `c`: positions, to be looked up in `order`.
    """
    m, order = len(p), np.asarray(order)
    window = window or whole(m)
    at_rows, at_columns = np.arange(window.top, window.bottom), np.arange(window.left, window.right)
    rows, columns = (grid.ravel() for grid in np.meshgrid(at_rows, at_columns, indexing="ij"))
    cells = pd.DataFrame({"r": rows.astype(np.int16), "c": columns.astype(np.int16)})
    cells["p"] = p[order[rows], order[columns]].astype(np.float32).round(4)
    shows = np.isfinite(cells["p"])
    if hide_diagonal:
        shows &= cells["r"] != cells["c"]
    cells = cells[shows].reset_index(drop=True)  # an index with gaps would be sent along

    subjects = [
        alt.InlineData([{"at": int(at), "name": names[order[at]]} for at in positions])
        for positions in (at_rows, at_columns)
    ]
    x, y = _position_axes([labels[fact] for fact in order], size, window)
    squares = (
        alt.Chart(cells)
        .transform_calculate(r2="datum.r + 1", c2="datum.c + 1")
        .transform_lookup("r", alt.LookupData(subjects[0], "at", ["name"]), as_=["edited"])
        .transform_lookup("c", alt.LookupData(subjects[1], "at", ["name"]), as_=["suffers"])
        .mark_rect(strokeWidth=0)
        .encode(
            x=x("c"),
            x2="c2:Q",
            y=y("r"),
            y2="r2:Q",
            color=_colour(limit, value),
            tooltip=[
                alt.Tooltip("edited:N", title="edit"),
                alt.Tooltip("suffers:N", title="suffers"),
                alt.Tooltip("p:Q", title=value, format=".3f"),
            ],
        )
        .add_params(clicks(PICK, ["r", "c"]))
    )
    layers = [squares]
    if picked is not None:
        layers += _mark(order, picked, window, x, y)
    return plain(alt.layer(*layers), size)


def _colour(limit: float, title: str, pixels: int = 240) -> alt.Color:
    return (
        alt.Color("p:Q", title=title)
        .scale(domain=(-limit, limit), domainMid=0, clamp=True)
        .legend(
            orient="top",
            gradientLength=pixels,
            labelFontSize=LABEL_SIZE,
            titleFontSize=LABEL_SIZE + 1,
            values=[-limit, 0, limit],
            format="~g",
            titleOrient="left",
        )
    )


def clipped(rows: Sequence[float], columns: Sequence[float], m: int) -> Window:
    """The window nearest to a brushed region that is drawn cell by cell: whole cells, at most `DETAIL` a side."""
    ends = []
    for low, high in (rows, columns):
        first, last = max(0, int(np.floor(low))), min(m, int(np.ceil(high)))
        extra = max(0, last - first - DETAIL)
        ends += [first + extra // 2, last - (extra - extra // 2)]
    return Window(*ends)


def block_side(m: int, most: int = DETAIL) -> int:
    """Facts along the side of a block, so that at most `most` blocks make a side of the overview."""
    return -(-m // most)


def strongest_in_block(p: np.ndarray, order: np.ndarray, row: int, column: int) -> tuple[int, int]:
    """The pair (i, j) of largest |P| off the diagonal in the block whose first positions are these."""
    side = block_side(len(p))
    i, j = order[row : row + side], order[column : column + side]
    part = np.where(i[:, None] == j[None, :], np.nan, np.abs(p[np.ix_(i, j)]))
    a, b = np.unravel_index(np.nan_to_num(part, nan=-1.0).argmax(), part.shape)
    return int(i[a]), int(j[b])


def blocks(p: np.ndarray, order: np.ndarray, *, most: int = DETAIL) -> tuple[np.ndarray, int]:
    """P in square blocks of facts, at most `most` a side, each told by its entry of largest |P| off the diagonal.

    Never by the mean: superposition lives in the tails, and a mean would level them.

    Returns:
        (n, n) the entries, NaN where a block has none; and the number of facts along the side of a block.
    """
    m, order = len(p), np.asarray(order)
    side = block_side(m, most)
    n = -(-m // side)
    padded = np.full((n * side, n * side), np.nan)
    padded[:m, :m] = p[np.ix_(order, order)]
    np.fill_diagonal(padded, np.nan)
    cut = padded.reshape(n, side, n, side).swapaxes(1, 2).reshape(n, n, side * side)
    largest = np.where(np.isfinite(cut), np.abs(cut), -1.0).argmax(axis=2)
    return np.take_along_axis(cut, largest[:, :, None], axis=2)[:, :, 0], side


def overview(
    p: np.ndarray,
    order: np.ndarray,
    *,
    limit: float,
    labels: Sequence[str],
    window: Window | None = None,
    picked: tuple[int, int] | None = None,
    size: int = 260,
    told: np.ndarray | None = None,
    value: str = "P",
) -> alt.LayerChart:
    """A large P in blocks, with the window of the detail drawn in: click a block, or drag over a region.

    Takes what `heatmap` takes; here `window` is what a detail shows, if there is one,
    and `told` what `blocks` found, where it is known already.

    Returns:
        a chart whose selection `PICK` has the fields `r` and `c`, the first positions of the clicked block, and whose
        selection `BRUSH` has the ranges `r` and `c` of positions.
    """
    m, order = len(p), np.asarray(order)
    side = block_side(m)
    largest = blocks(p, order)[0] if told is None else told
    rows, columns = np.divmod(np.arange(largest.size, dtype=np.int32), len(largest))
    cells = pd.DataFrame({"r": rows * side, "c": columns * side, "p": largest.ravel().astype(np.float32).round(4)})
    cells = cells[np.isfinite(cells["p"])].reset_index(drop=True)
    x, y = _position_axes([labels[fact] for fact in order], size, whole(m))
    squares = (
        alt.Chart(cells)
        .transform_calculate(r2=f"min(datum.r + {side}, {m})", c2=f"min(datum.c + {side}, {m})")
        .mark_rect(strokeWidth=0)
        .encode(
            x=x("c"),
            x2="c2:Q",
            y=y("r"),
            y2="r2:Q",
            color=_colour(limit, f"{value}, the largest of {side} × {side}", 150),
            tooltip=[alt.Tooltip("p:Q", title=f"{value}, the largest here", format=".3f")],
        )
        .add_params(alt.selection_interval(name=BRUSH, encodings=["x", "y"], empty=False))
        .add_params(clicks(PICK, ["r", "c"]))
    )
    layers = [squares]
    if window is not None:
        ends = {"c": [window.left], "c2": [window.right], "r": [window.top], "r2": [window.bottom]}
        frame = alt.Chart(pd.DataFrame(ends)).encode(x=x("c"), x2="c2:Q", y=y("r"), y2="r2:Q")
        layers += [
            frame.mark_rect(fill=None, stroke=PAPER, strokeWidth=5),
            frame.mark_rect(fill=None, stroke=INK, strokeWidth=2),
        ]
    if picked is not None:
        layers += _mark(order, picked, whole(m), x, y)
    return plain(alt.layer(*layers), size)


def _position_axes(
    labels: Sequence[str], size: int, window: Window
) -> tuple[Callable[[str], alt.X], Callable[[str], alt.Y]]:
    """Encodings of a field of positions on either axis, the first position top left; rows carry the labels.

    All layers share them: Vega-Lite merges the axes of layers and would mix in the defaults of any other.
    """
    shown = _axis_labels(labels[window.top : window.bottom], size)
    texts = {at + window.top: text for at, text in shown.items()}
    # json.dumps writes string literals that Vega's expression language reads back; no text can break out of them
    expression = f"({json.dumps({f'{at:g}': text for at, text in texts.items()})})[format(datum.value, '~g')]"
    bare = {"grid": False, "ticks": False, "domain": False, "titleFontSize": LABEL_SIZE + 2}
    columns = alt.Axis(orient="top", labels=False, values=[window.left], **bare)
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
            domain=(window.left, window.right), nice=False, zero=False
        ),
        lambda field: alt.Y(f"{field}:Q", title="← fact i that is edited", axis=rows).scale(
            domain=(window.bottom, window.top), nice=False, zero=False
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


def _mark(
    order: np.ndarray, picked: tuple[int, int], window: Window, x: Callable[[str], alt.X], y: Callable[[str], alt.Y]
) -> list[alt.Chart]:
    """The picked pair, if it lies in the window."""
    position = {int(fact): at for at, fact in enumerate(order)}
    row, column = position[picked[0]], position[picked[1]]
    if not (window.top <= row < window.bottom and window.left <= column < window.right):
        return []
    lines = alt.Chart(pd.DataFrame({"x": [column, column + 1], "y": [row, row + 1]})).mark_rule(
        color=MUTED, strokeWidth=0.6
    )
    ring = alt.Chart(pd.DataFrame({"x": [column + 0.5], "y": [row + 0.5]})).encode(x=x("x"), y=y("y"))
    return [
        lines.encode(x=x("x")),
        lines.encode(y=y("y")),
        # two rings, so that one of them stands out on any cell and in either theme
        ring.mark_point(shape="square", size=320, filled=False, color=PAPER, strokeWidth=5, opacity=1),
        ring.mark_point(shape="square", size=320, filled=False, color=INK, strokeWidth=2, opacity=1),
    ]


def similarity(matrix: np.ndarray, layers: Sequence[int], current: int, *, size: int = 320) -> alt.LayerChart:
    """How alike the P of every two layers are, (L, L) rank correlations, the current layer outlined; clickable.

    Returns:
        a chart whose selection `PICK` has the fields `a` and `b`, layer numbers.
    """
    cells = pd.DataFrame(
        [(a, b, matrix[row, column]) for row, a in enumerate(layers) for column, b in enumerate(layers)],
        columns=["a", "b", "rho"],
    )
    base = alt.Chart(cells).encode(
        x=alt.X("b:O", title="layer").axis(axis(orient="top", labelAngle=0, domain=False, ticks=False)),
        y=alt.Y("a:O", title="layer").axis(axis(domain=False, ticks=False)),
    )
    squares = base.mark_rect().encode(
        color=alt.Color("rho:Q", title="rank correlation")
        .scale(domain=(-1, 1), domainMid=0)
        .legend(
            orient="top",
            gradientLength=200,
            titleOrient="left",
            labelFontSize=LABEL_SIZE,
            titleFontSize=LABEL_SIZE + 1,
            values=[-1, 0, 1],
        ),
        tooltip=[
            alt.Tooltip("a:O", title="layer"),
            alt.Tooltip("b:O", title="and layer"),
            alt.Tooltip("rho:Q", title="rank correlation", format=".3f"),
        ],
    )
    squares = squares.add_params(clicks(PICK, ["a", "b"]))
    chosen = base.transform_filter(f"datum.a === {int(current)} && datum.b === {int(current)}").mark_rect(
        fill=None, stroke=INK, strokeWidth=3
    )
    values = base.mark_text(fontSize=LABEL_SIZE + 2, fill=alt.ExprRef(on("scale('color', datum.rho)"))).encode(
        text=alt.Text("rho:Q", format=".2f")
    )
    return plain(alt.layer(squares, chosen, *([values] if len(layers) <= TOLD else [])), size)
