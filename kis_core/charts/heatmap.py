"""P as a heatmap: whole, as an overview of blocks, or a window of it; and how alike layers are."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

import altair as alt
import numpy as np
import pandas as pd

from kis_core.charts.colours import INK, MUTED, on
from kis_core.charts.common import LABEL_SIZE, axis, clicks, gradient_legend, on_axis, outline, plain, shorten, tip
from kis_core.superposition.overview import DETAIL, block_side, blocks

LABEL_STEP_PIXELS = 15  # room that a line of axis label takes
LABEL_PIXELS = 150
LABEL_PADDING = 2  # pixels between labels and cells: Vega's own
MARK_PIXELS = 20  # that two signs between labels and cells take
PICK = "cell"  # name of the selection that a click on a heatmap makes
BRUSH = "brush"  # name of the selection that a drag over an overview makes
MOST_WRITTEN = 12  # layers a side whose similarities are written into the cells

Encoding = Callable[[str], alt.X | alt.Y]


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


def clipped(rows: Sequence[float], columns: Sequence[float], m: int) -> Window:
    """The window nearest to a brushed region that is drawn cell by cell: whole cells, at most `DETAIL` a side."""
    ends = []
    for low, high in (rows, columns):
        first, last = max(0, int(np.floor(low))), min(m, int(np.ceil(high)))
        extra = max(0, last - first - DETAIL)
        ends += [first + extra // 2, last - (extra - extra // 2)]
    return Window(*ends)


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
    marks: Sequence[str] = (),
) -> alt.LayerChart:
    """P as a clickable heatmap; row i is edited, column j suffers.

    Args:
        p: (m, m).
        order: (m,) fact at each position, the same on both axes.
        limit: colours run from -limit to limit; entries beyond are drawn in the end colours.
        labels: (m,) text of each fact on the axes; neighbours of the same text share one label in their middle.
        names: (m,) subject of each fact, for the tooltip.
        picked: pair (i, j) to mark.
        hide_diagonal: leave the diagonal (always 1) out.
        size: height of the matrix in pixels; the width is the page's.
        window: the part to draw; by default all of it.
        value: what the colour stands for.
        marks: (m,) a sign or two beside the row of each fact, empty for most; none by default.

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

    edited, suffers = (
        alt.InlineData([{"at": int(at), "name": names[order[at]]} for at in positions])
        for positions in (at_rows, at_columns)
    )
    marked = [(int(at), marks[order[at]]) for at in at_rows if marks and marks[order[at]]]
    x, y = _position_axes([labels[fact] for fact in order], size, window, MARK_PIXELS if marked else 0)
    squares = (
        alt.Chart(cells)
        .transform_calculate(r2="datum.r + 1", c2="datum.c + 1")
        .transform_lookup("r", alt.LookupData(edited, "at", ["name"]), as_=["edited"])
        .transform_lookup("c", alt.LookupData(suffers, "at", ["name"]), as_=["suffers"])
    )
    tooltip = [tip("edited:N", "edit"), tip("suffers:N", "suffers"), tip("p:Q", value, ".3f")]
    drawn = _squares(squares, x, y, _colour(limit, value), tooltip)
    beside = [_beside_rows(marked, window, x, y)] if marked else []
    return plain(alt.layer(drawn, *_picked_pair(order, picked, window, x, y), *beside), size)


def _beside_rows(marked: list[tuple[int, str]], window: Window, x: Encoding, y: Encoding) -> alt.Chart:
    """Signs left of the first column, between it and the labels."""
    places = {
        "x": [window.left] * len(marked),
        "y": [at + 0.5 for at, _ in marked],
        "mark": [sign for _, sign in marked],
    }
    signs = alt.Chart(pd.DataFrame(places)).mark_text(align="right", dx=-3, fontSize=LABEL_SIZE + 2, fill=MUTED)
    return signs.encode(x=x("x"), y=y("y"), text="mark:N")


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


def overview(
    p: np.ndarray,
    order: np.ndarray,
    *,
    limit: float,
    labels: Sequence[str],
    window: Window | None = None,
    picked: tuple[int, int] | None = None,
    size: int = 260,
    largest: np.ndarray | None = None,
    value: str = "P",
) -> alt.LayerChart:
    """A large P in blocks, with the window of the detail drawn in: click a block, or drag over a region.

    It takes what `heatmap` takes. Here `window` is the part that a detail beside it shows, if there is one, and
    `largest` the first result of `blocks`, if it is known already.

    Returns:
        a chart whose selection `PICK` has the fields `r` and `c`, the first positions of the clicked block, and whose
        selection `BRUSH` has the ranges `r` and `c` of positions.
    """
    m, order = len(p), np.asarray(order)
    side = block_side(m)
    largest = blocks(p, order)[0] if largest is None else largest
    rows, columns = np.divmod(np.arange(largest.size, dtype=np.int32), len(largest))
    cells = pd.DataFrame({"r": rows * side, "c": columns * side, "p": largest.ravel().astype(np.float32).round(4)})
    cells = cells[np.isfinite(cells["p"])].reset_index(drop=True)
    x, y = _position_axes([labels[fact] for fact in order], size, whole(m))
    ends = {"r2": f"min(datum.r + {side}, {m})", "c2": f"min(datum.c + {side}, {m})"}
    colour = _colour(limit, f"{value}, the largest of {side} × {side}", 150)
    squares = alt.Chart(cells).transform_calculate(**ends)
    squares = squares.add_params(alt.selection_interval(name=BRUSH, encodings=["x", "y"], empty=False))
    layers = [_squares(squares, x, y, colour, [tip("p:Q", f"{value}, the largest here", ".3f")])]
    if window is not None:
        corners = {"c": [window.left], "c2": [window.right], "r": [window.top], "r2": [window.bottom]}
        frame = alt.Chart(pd.DataFrame(corners)).encode(x=x("c"), x2="c2:Q", y=y("r"), y2="r2:Q")
        layers += outline(frame.mark_rect, fill=None)
    return plain(alt.layer(*layers, *_picked_pair(order, picked, whole(m), x, y)), size)


def _squares(chart: alt.Chart, x: Encoding, y: Encoding, colour: alt.Color, tooltip: list[alt.Tooltip]) -> alt.Chart:
    """Clickable squares from `r` and `c` to `r2` and `c2`."""
    drawn = chart.mark_rect(strokeWidth=0)
    drawn = drawn.encode(x=x("c"), x2="c2:Q", y=y("r"), y2="r2:Q", color=colour, tooltip=tooltip)
    return drawn.add_params(clicks(PICK, ["r", "c"]))


def _colour(limit: float, title: str, pixels: int = 240) -> alt.Color:
    colour = alt.Color("p:Q", title=title).scale(domain=(-limit, limit), domainMid=0, clamp=True)
    return colour.legend(gradient_legend(pixels, values=[-limit, 0, limit], format="~g"))


def _position_axes(labels: Sequence[str], size: int, window: Window, room: int = 0) -> tuple[Encoding, Encoding]:
    """Encodings of a field of positions on either axis, the first position top left; rows carry the labels.

    `room` is that between labels and cells, in pixels beyond the usual.
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
        labelPadding=LABEL_PADDING + room,
        labelBaseline="middle",
        labelLimit=LABEL_PIXELS,
        labelFontSize=LABEL_SIZE,
        labelOverlap=False,
        labelBound=False,
        labelFlush=False,
        **bare,
    )
    return (
        on_axis(alt.X, "fact j that suffers →", columns, domain=(window.left, window.right), zero=False),
        on_axis(alt.Y, "← fact i that is edited", rows, domain=(window.bottom, window.top), zero=False),
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


def _picked_pair(
    order: np.ndarray, picked: tuple[int, int] | None, window: Window, x: Encoding, y: Encoding
) -> list[alt.Chart]:
    """Lines through the picked pair and a square around it, if it lies in the window."""
    if picked is None:
        return []
    position = {int(fact): at for at, fact in enumerate(order)}
    row, column = position[picked[0]], position[picked[1]]
    if not (window.top <= row < window.bottom and window.left <= column < window.right):
        return []
    lines = alt.Chart(pd.DataFrame({"x": [column, column + 1], "y": [row, row + 1]}))
    lines = lines.mark_rule(color=MUTED, strokeWidth=0.6)
    ring = alt.Chart(pd.DataFrame({"x": [column + 0.5], "y": [row + 0.5]})).encode(x=x("x"), y=y("y"))
    rings = outline(ring.mark_point, shape="square", size=320, opacity=1)
    return [lines.encode(x=x("x")), lines.encode(y=y("y")), *rings]


def similarity(matrix: np.ndarray, layers: Sequence[int], current: int) -> alt.LayerChart:
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
    colour = alt.Color("rho:Q", title="rank correlation").scale(domain=(-1, 1), domainMid=0)
    squares = base.mark_rect().encode(
        color=colour.legend(gradient_legend(200, values=[-1, 0, 1])),
        tooltip=[tip("a:O", "layer"), tip("b:O", "and layer"), tip("rho:Q", "rank correlation", ".3f")],
    )
    squares = squares.add_params(clicks(PICK, ["a", "b"]))
    chosen = base.transform_filter(f"datum.a === {int(current)} && datum.b === {int(current)}")
    values = base.mark_text(fontSize=LABEL_SIZE + 2, fill=alt.ExprRef(on("scale('color', datum.rho)")))
    values = values.encode(text=alt.Text("rho:Q", format=".2f"))
    written = [values] if len(layers) <= MOST_WRITTEN else []
    return plain(alt.layer(squares, chosen.mark_rect(fill=None, stroke=INK, strokeWidth=3), *written), 320)
