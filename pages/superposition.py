"""Superposition: the matrix P as a heatmap, and the pair behind each cell."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from kis_core import charts
from kis_core.charts import DETAIL, Window
from kis_core.results.result import Result
from kis_core.superposition.matrix import strongest_partner
from kis_core.superposition.ordering import ORDERS
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure
from pages.parts.figures.inspector import inspector, picked_or_strongest
from pages.parts.frame import state
from pages.parts.frame.page import View, frame, panel, split
from pages.parts.jobs.results import ordered, remembered, shown

SIDE = 64  # facts a side of the detail of a large P, until another region is brushed
HELP = (
    "**Paper, eq. 16–18.** P[i, j] = kᵢᵀC⁻¹kⱼ / kᵢᵀC⁻¹kᵢ, the share of an edit of fact i (row) that lands on fact j "
    "(column). k is a fact’s key: the input of the MLP’s down-projection at the last token of the subject. C is the "
    "second moment of keys over general text. The diagonal is 1 by definition."
)


def main() -> None:
    """The page."""
    view = frame("Superposition")
    st.subheader("Edit one fact: which others move with it?", anchor=False)
    drawn(view, shown(view))


@panel
def drawn(view: View, result: Result) -> None:
    """Heatmap and inspector; a click reruns only this."""
    p = result.p[result.at(view.layer)]
    left, right = split(1.45, 1)
    pair = picked_or_strongest(result, view.layer)
    with right:  # first, so that it answers before the browser redraws the heatmap
        _search(result, p, pair)
        _steps(result, view.layer, pair)
        inspector(view, result, pair)
    with left:
        _heatmap(view, result, p, pair)


def _heatmap(view: View, result: Result, p: np.ndarray, pair: tuple[int, int] | None) -> None:
    options = st.columns([3.2, 1], vertical_alignment="bottom")
    how = options[0].segmented_control("Order", ORDERS, required=True, **state.widget("order"))
    with options[1].popover("View", icon=":material/tune:", width="stretch"):
        chosen = st.selectbox("Colours to ±", state.LIMITS, **state.widget("limit"))
        hide = st.toggle("Hide the diagonal", **state.toggle("diagonal", on="hidden"))
    limit = charts.colour_limit(p) if chosen == "auto" else float(chosen)
    order, labels = ordered(result, view.layer, how)
    m = len(p)
    window = _window(order, pair) if m > DETAIL else charts.whole(m)
    if m > DETAIL:
        _overview(view, result, p, order, limit, labels, window, pair, how)
    beyond = charts.beyond(p, limit)
    key = state.fresh(f"heatmap-{how}")
    about = FigureText(
        title="Superposition P",
        caption=f"How much an edit of one fact (row) lands on another (column). Colours end at ±{limit:g}; {beyond} of "
        f"{m * (m - 1):,} off-diagonal entries lie beyond and take the end colour (eq. 16–18). Click a cell.",
        help=HELP,
        data=lambda: _cells(result, p, order, window),
        code="charts.heatmap(p, range(len(p)), limit=charts.colour_limit(p), "
        "labels=[f.subject for f in result.facts.facts], names=[f.subject for f in result.facts.facts])",
        layer=view.layer,
    )
    figure(
        view,
        result,
        drawing(
            charts.heatmap,
            p,
            order,
            limit=limit,
            labels=labels,
            names=[fact.subject for fact in result.facts.facts],
            picked=pair,
            hide_diagonal=hide,
            window=window,
            size=430 if m > DETAIL else 500,
        ),
        about,
        key=key,
        on_select=partial(_clicked, key, order, window if m > DETAIL else None),
        selection_mode=charts.PICK,
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


def _overview(
    view: View,
    result: Result,
    p: np.ndarray,
    order: np.ndarray,
    limit: float,
    labels: list[str],
    window: Window,
    pair: tuple[int, int] | None,
    how: str,
) -> None:
    key = state.fresh(f"whole-{how}")
    side = charts.block_side(len(p))
    told = remembered(result, ("blocks", view.layer, how), lambda: charts.blocks(p, order)[0])
    figure(
        view,
        result,
        drawing(charts.overview, p, order, limit=limit, labels=labels, window=window, picked=pair, size=210, told=told),
        FigureText(
            title="Overview of P",
            caption=f"All {len(p)} facts. Each dot stands for {side} × {side} pairs and shows the one with the largest "
            f"|P|, so that no tail is levelled. The box is the detail below: click a dot, or drag over a region.",
            help=HELP,
            data=lambda: pd.DataFrame(told),
            code="blocks, side = charts.blocks(p, range(len(p)))",
            layer=view.layer,
            brief=True,
        ),
        key=key,
        on_select=partial(_roamed, key, p, order, window),
        selection_mode=[charts.PICK, charts.BRUSH],
    )


def _roamed(key: str, p: np.ndarray, order: np.ndarray, window: Window) -> None:
    """A click on the overview picks the strongest pair of that block; a drag makes its region the detail."""
    m, side = len(p), charts.block_side(len(p))
    before = st.session_state.get("brushed")
    brushed = st.session_state["brushed"] = st.session_state[key]["selection"].get(charts.BRUSH)
    cells = state.clicked(key, charts.PICK)
    if cells and brushed in (before, None, {}):  # the region is that of before, so this is a click
        row, column = int(cells[0]["r"]), int(cells[0]["c"])
        state.choose("pair", charts.strongest_in_block(p, order, row, column))
        state.choose("window", tuple(window.around(row + side // 2, column + side // 2, m)))
    elif brushed:
        rows, columns = (sorted(brushed.get(field, (0, 0))) for field in ("r", "c"))
        if min(rows[1] - rows[0], columns[1] - columns[0]) >= side:
            state.choose("window", tuple(charts.clipped(rows, columns, m)))


def _clicked(key: str, order: np.ndarray, window: Window | None) -> None:
    cells = state.clicked(key, charts.PICK)
    if cells:
        if window is not None:
            state.choose("window", tuple(window))  # stay where you are
        state.choose("pair", (int(order[int(cells[0]["r"])]), int(order[int(cells[0]["c"])])))


def _pick_elsewhere(pair: tuple[int, int]) -> None:
    """Pick without a click on the heatmap; the detail of a large P goes there."""
    how = state.get("order")
    state.forget(f"heatmap-{how}", f"whole-{how}")
    state.choose("window", None)
    state.choose("pair", pair)


def _cells(result: Result, p: np.ndarray, order: np.ndarray, window: Window) -> pd.DataFrame:
    i, j = (grid.ravel() for grid in np.meshgrid(order[window.top : window.bottom], order[window.left : window.right],
                                                 indexing="ij"))  # fmt: skip
    subjects = np.array([fact.subject for fact in result.facts.facts], dtype=object)
    return pd.DataFrame({"i": i, "j": j, "edited": subjects[i], "suffers": subjects[j], "p": p[i, j]})


def _search(result: Result, p: np.ndarray, pair: tuple[int, int] | None) -> None:
    facts = result.facts.facts
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


def _steps(result: Result, layer: int, pair: tuple[int, int] | None) -> None:
    pairs = result.ranking(layer)
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
