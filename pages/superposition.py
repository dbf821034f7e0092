"""Superposition: the matrix P as a heatmap, and the pair behind each cell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from kis_core import charts, superposition
from kis_core.charts import Window
from kis_core.superposition.matrix import strongest_partner
from kis_core.superposition.ordering import ORDERS
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, Pick, figure
from pages.parts.figures.inspector import inspector, picked_or_strongest
from pages.parts.frame import state
from pages.parts.frame.glossary import explain
from pages.parts.frame.page import frame, panel, split
from pages.parts.frame.views import ResultView
from pages.parts.jobs.results import ordered, remembered, shown

SIDE = 64  # facts a side of the detail of a large P, until another region is brushed
HELP = (
    "**Paper, eq. 16–18.** The diagonal of P is 1 by definition. The tooltip names the facts whose whole row "
    "has a tag, *first token* or *weak key*.\n\n"
    + explain("superposition P", "key", "second moment C", "leverage", "tag")
)


@dataclass(frozen=True, eq=False)
class HeatmapView(ResultView):
    """The heatmap as it is chosen.

    Attributes:
        pair: the picked pair.
        order_name: one of `ORDERS`.
        order, labels: the facts in this order.
        limit: where the colours end.
        window: the part of P that is drawn cell by cell.
    """

    pair: tuple[int, int] | None
    order_name: str
    order: np.ndarray
    labels: list[str]
    limit: float
    window: Window

    @property
    def is_large(self) -> bool:
        """Whether P is too large to be drawn cell by cell as a whole."""
        return len(self.order) > superposition.DETAIL


def main() -> None:
    """The page."""
    view = frame("Superposition")
    st.subheader("Edit one fact: which others move with it?", anchor=False)
    drawn(shown(view))


@panel
def drawn(seen: ResultView) -> None:
    """Heatmap and inspector; a click reruns only this."""
    left, right = split(1.45, 1)
    pair = picked_or_strongest(seen)
    with right:  # first, so that it answers before the browser redraws the heatmap
        _search(seen, pair)
        _steps(seen, pair)
        inspector(seen, pair)
    with left:
        _heatmap(seen, pair)


def _heatmap(seen: ResultView, pair: tuple[int, int] | None) -> None:
    options = st.columns([3.2, 1], vertical_alignment="bottom")
    name = options[0].segmented_control("Order", ORDERS, required=True, **state.widget("order"))
    with options[1].popover("View", icon=":material/tune:", width="stretch"):
        colours = st.selectbox("Colours to ±", state.LIMITS, **state.widget("limit"))
        hide = st.toggle("Hide the diagonal", **state.toggle("diagonal", on="hidden"))
    p, m = seen.p, len(seen.p)
    limit = superposition.colour_limit(p) if colours == "auto" else float(colours)
    order, labels = ordered(seen, name)
    window = _window(order, pair) if m > superposition.DETAIL else charts.whole(m)
    view = HeatmapView(seen.request, seen.layer, seen.known_only, seen.result, pair, name, order, labels, limit, window)
    if view.is_large:
        _overview(view)
    beyond = superposition.beyond(p, limit)
    look: dict[str, Any] = {"limit": limit, "labels": labels, "picked": pair, "hide_diagonal": hide, "window": window}
    figure(
        view,
        drawing(
            charts.heatmap,
            p,
            order,
            names=view.tagged_subjects,
            marks=view.signs,
            size=430 if view.is_large else 500,
            **look,
        ),
        FigureText(
            title="Superposition P",
            caption=f"How much an edit of one fact (row) lands on another (column). Colours end at ±{limit:g}; "
            f"{beyond} of {m * (m - 1):,} off-diagonal entries lie beyond and take the end colour (eq. 16–18). Click a "
            f"cell. {view.legend}".rstrip(),
            help=HELP,
            data=lambda: _cells(view),
            code="charts.heatmap(p, range(len(p)), limit=superposition.colour_limit(p), "
            "labels=[f.subject for f in result.facts.facts], names=[f.subject for f in result.facts.facts])",
        ),
        key=state.fresh(f"heatmap-{name}"),
        pick=Pick(charts.PICK, partial(_picked, order, window if view.is_large else None)),
    )


def _window(order: np.ndarray, pair: tuple[int, int] | None) -> Window:
    """The brushed region, or else the surroundings of the picked pair."""
    m = len(order)
    if (brushed := state.get("window")) and brushed[0] < brushed[1] <= m and brushed[2] < brushed[3] <= m:
        return Window(*brushed)
    start = Window(0, SIDE, 0, SIDE)
    if pair is None:
        return start
    place = {int(fact): at for at, fact in enumerate(order)}
    return start.around(place[pair[0]], place[pair[1]], m)


def _overview(view: HeatmapView) -> None:
    key = state.fresh(f"whole-{view.order_name}")
    side = superposition.block_side(len(view.p))
    blocks = remembered(
        view.result, ("blocks", view.layer, view.order_name), lambda: superposition.blocks(view.p, view.order)[0]
    )
    look: dict[str, Any] = {
        "limit": view.limit,
        "labels": view.labels,
        "window": view.window,
        "picked": view.pair,
        "largest": blocks,
    }
    figure(
        view,
        drawing(charts.overview, view.p, view.order, size=210, **look),
        FigureText(
            title="Overview of P",
            caption=f"All {len(view.p)} facts. Each dot stands for {side} × {side} pairs and shows the one with the "
            f"largest |P|, so that no tail is averaged away. The box is the detail below: click a dot, or drag over a "
            f"region.",
            help=HELP,
            data=lambda: pd.DataFrame(blocks),
            code="blocks, side = superposition.blocks(p, range(len(p)))",
            brief=True,
        ),
        key=key,
        on_select=partial(_roamed, key, view),
        selection_mode=[charts.PICK, charts.BRUSH],
    )


def _roamed(key: str, view: HeatmapView) -> None:
    """A click on the overview picks the strongest pair of that block; a drag makes its region the detail."""
    m, side = len(view.p), superposition.block_side(len(view.p))
    before = st.session_state.get("brushed")
    brushed = st.session_state["brushed"] = st.session_state[key]["selection"].get(charts.BRUSH)
    cells = state.clicked(key, charts.PICK)
    if cells and brushed in (before, None, {}):  # the region is that of before, so this is a click
        row, column = int(cells[0]["r"]), int(cells[0]["c"])
        state.choose("pair", superposition.strongest_in_block(view.p, view.order, row, column))
        state.choose("window", tuple(view.window.around(row + side // 2, column + side // 2, m)))
    elif brushed:
        rows, columns = (sorted(brushed.get(field, (0, 0))) for field in ("r", "c"))
        if min(rows[1] - rows[0], columns[1] - columns[0]) >= side:
            state.choose("window", tuple(charts.clipped(rows, columns, m)))


def _picked(order: np.ndarray, window: Window | None, cell: dict[str, Any]) -> None:
    if window is not None:
        state.choose("window", tuple(window))  # stay where you are
    state.choose("pair", (int(order[int(cell["r"])]), int(order[int(cell["c"])])))


def _pick_elsewhere(pair: tuple[int, int]) -> None:
    """Pick without a click on the heatmap; the detail of a large P goes there."""
    order = state.get("order")
    state.forget(f"heatmap-{order}", f"whole-{order}")
    state.choose("window", None)
    state.choose("pair", pair)


def _cells(view: HeatmapView) -> pd.DataFrame:
    window, order = view.window, view.order
    rows, columns = order[window.top : window.bottom], order[window.left : window.right]
    i, j = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    subjects = np.array(view.subjects, dtype=object)
    return pd.DataFrame({"i": i, "j": j, "edited": subjects[i], "suffers": subjects[j], "p": view.p[i, j]})


def _search(view: ResultView, pair: tuple[int, int] | None) -> None:
    facts, p = view.result.facts.facts, view.p
    names = [f"{fact.subject} → {fact.target}" for fact in facts]
    st.session_state["edited"], st.session_state["suffers"] = pair or (None, None)

    def searched() -> None:
        i, j = st.session_state["edited"], st.session_state["suffers"]
        if i is None:
            i = strongest_partner(p.T, j)
        elif j is None:
            j = strongest_partner(p, i)
        _pick_elsewhere((i, j))

    for column, label, key in zip(st.columns(2), ("Edit fact i", "Look at fact j"), ("edited", "suffers"), strict=True):
        column.selectbox(
            label,
            range(len(facts)),
            index=None,
            format_func=names.__getitem__,
            key=key,
            on_change=searched,
            placeholder="Search a subject",
        )


def _steps(view: ResultView, pair: tuple[int, int] | None) -> None:
    pairs = view.result.ranking(view.layer)
    if not len(pairs):
        return
    at = np.flatnonzero((pairs == pair).all(axis=1)) if pair else np.array([], dtype=int)
    rank = int(at[0]) if len(at) else None
    before = len(pairs) - 1 if rank is None else (rank - 1) % len(pairs)
    after = 0 if rank is None else (rank + 1) % len(pairs)
    columns = st.columns([1.15, 1, 1], vertical_alignment="center")
    where = "no pair picked" if rank is None else f"pair {rank + 1:,} of {len(pairs):,}"
    columns[0].caption(where, help="All ordered pairs by falling |P|. The arrow keys ← and → go through them.")
    for column, label, target, shortcut in zip(
        columns[1:], ("Previous", "Next"), (before, after), ("Left", "Right"), strict=True
    ):
        column.button(
            label,
            key=f"step-{shortcut}",
            on_click=_pick_elsewhere,
            args=((int(pairs[target][0]), int(pairs[target][1])),),
            shortcut=shortcut,
            disabled=rank is None and shortcut == "Left",
            width="stretch",
        )


main()
