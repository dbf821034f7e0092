"""Superposition: the matrix P as a heatmap, and the pair behind each cell."""

from __future__ import annotations

from functools import partial

import numpy as np
import streamlit as st

from kis_core import charts
from kis_core.ordering import ORDERS, order_facts
from kis_core.pairs import strongest_between_subjects
from kis_core.result import Result
from kis_core.superposition import strongest_pairs, strongest_partner
from pages.parts import state
from pages.parts.frame import View, frame, split
from pages.parts.inspector import inspector
from pages.parts.provenance import provenance
from pages.parts.results import result as result_of


def main() -> None:
    """The page."""
    view = frame("Superposition")
    st.subheader("Edit one fact: which others move with it?", anchor=False)
    panel(view, result_of(view.request))


@st.fragment
def panel(view: View, result: Result) -> None:
    """Heatmap and inspector; a click reruns only this."""
    p = result.p[result.at(view.layer)]
    left, right = split(1.45, 1)
    pair = state.picked(len(result.facts)) or _suggestion(result, view.layer)
    with left:
        _heatmap(view, result, p, pair)
    with right:
        _search(result, p, pair)
        _steps(p, pair)
        if pair is None:
            st.info("There is no pair to look at: the fact set holds a single fact.", icon=":material/info:")
        else:
            inspector(result, view.layer, pair)


def _suggestion(result: Result, layer: int) -> tuple[int, int] | None:
    """Something to look at before anything is picked: the strongest pair between two subjects."""
    if wanted := state.get("pair"):
        st.info(
            f"The pair {wanted[0]}-{wanted[1]} is not among these {len(result.facts)} facts; the strongest is shown.",
            icon=":material/link_off:",
        )
    pairs = strongest_between_subjects(result, layer)
    return (int(pairs[0][0]), int(pairs[0][1])) if len(pairs) else None


def _heatmap(view: View, result: Result, p: np.ndarray, pair: tuple[int, int] | None) -> None:
    options = st.columns([3.2, 1], vertical_alignment="bottom")
    how = options[0].segmented_control("Order", ORDERS, required=True, **state.widget("order"))
    with options[1].popover("View", icon=":material/tune:", width="stretch"):
        chosen = st.selectbox("Colours to ±", state.LIMITS, **state.widget("limit"))
        hide = st.toggle(
            "Hide the diagonal",
            **state.widget("diagonal", lambda on: "hidden" if on else "shown", write=state.get("diagonal") == "hidden"),
        )
    limit = charts.colour_limit(p) if chosen == "auto" else float(chosen)
    order, labels = order_facts(result.facts.facts, p, how)
    key = f"heatmap-{st.session_state.get('generation', 0)}-{how}"
    st.altair_chart(
        charts.heatmap(
            p,
            order,
            limit=limit,
            labels=labels,
            names=[fact.subject for fact in result.facts.facts],
            picked=pair,
            hide_diagonal=hide,
        ),
        key=key,
        on_select=partial(_clicked, key, order),
        selection_mode=charts.PICK,
    )
    beyond = charts.beyond(p, limit)
    provenance(
        result,
        view.layer,
        f"P[i, j] = kᵢᵀC⁻¹kⱼ / kᵢᵀC⁻¹kᵢ: the share of an edit of fact i (row) that lands on fact j (column); paper "
        f"eq. 16–18. Colours end at ±{limit:g}; {beyond} of {len(p) * (len(p) - 1):,} off-diagonal entries lie beyond "
        f"and take the end colour. The diagonal is 1 by definition. Click a cell to see its pair.",
    )


def _clicked(key: str, order: np.ndarray) -> None:
    cells = st.session_state[key]["selection"].get(charts.PICK)
    if cells:
        state.choose("pair", (int(order[int(cells[0]["r"])]), int(order[int(cells[0]["c"])])))


def _pick_elsewhere(pair: tuple[int, int]) -> None:
    """Pick without a click on the heatmap, which then forgets the click before."""
    st.session_state["generation"] = st.session_state.get("generation", 0) + 1
    state.choose("pair", pair)


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


def _steps(p: np.ndarray, pair: tuple[int, int] | None) -> None:
    pairs = strongest_pairs(p)
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
