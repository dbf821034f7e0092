"""Superposition: the matrix P as a heatmap, and the pair behind each cell."""

from __future__ import annotations

from functools import partial

import numpy as np
import streamlit as st

from kis_core import charts
from kis_core.ordering import ORDERS, order_facts
from kis_core.pipeline import Result
from kis_core.superposition import strongest_pairs, strongest_partner
from pages.parts.frame import View, frame, pick, picked
from pages.parts.inspector import inspector
from pages.parts.provenance import provenance
from pages.parts.results import result as result_of

LIMITS = ("auto", "0.1", "0.2", "0.3", "0.5", "1")


def main() -> None:
    """The page."""
    view = frame("Superposition")
    st.subheader("Edit one fact: which others move with it?", anchor=False)
    panel(view, result_of(view.request))


@st.fragment
def panel(view: View, result: Result) -> None:
    """Heatmap and inspector; a click reruns only this."""
    p = result.p[result.at(view.layer)]
    left, right = st.columns([1.45, 1], gap="medium")
    with left:
        _heatmap(view, result, p)
    with right:
        pair = picked(len(result.facts))
        _search(result, p, pair)
        _steps(p, pair)
        if pair is None:
            st.info("Click a cell of the heatmap, or search for a subject above.", icon=":material/touch_app:")
        else:
            inspector(result, view.layer, pair)


def _heatmap(view: View, result: Result, p: np.ndarray) -> None:
    options = st.columns([3.2, 1], vertical_alignment="bottom")
    how = options[0].segmented_control("Order", ORDERS, default=ORDERS[0], required=True, key="order", bind="query-params")
    with options[1].popover("View", icon=":material/tune:", width="stretch"):
        chosen = st.selectbox("Colours to ±", LIMITS, key="limit", bind="query-params")
        hide = st.toggle("Hide the diagonal", key="diagonal", bind="query-params")
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
            picked=picked(len(result.facts)),
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
        f"and take the end colour. The diagonal is 1 by definition.",
    )


def _clicked(key: str, order: np.ndarray) -> None:
    cells = st.session_state[key]["selection"].get(charts.PICK)
    if cells:
        pick((int(order[int(cells[0]["r"])]), int(order[int(cells[0]["c"])])))


def _pick_elsewhere(pair: tuple[int, int]) -> None:
    """Pick without a click on the heatmap, which then forgets the click before."""
    st.session_state["generation"] = st.session_state.get("generation", 0) + 1
    pick(pair)


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

    for column, label, key in zip(
        st.columns(2), ("Edit fact i", "Look at fact j"), ("edited", "suffers"), strict=True
    ):
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
    for column, label, target, shortcut in zip(
        st.columns(2), ("Previous", "Next"), (before, after), ("Left", "Right"), strict=True
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
    where = "No pair picked" if rank is None else f"Pair {rank + 1:,}"
    st.caption(f"{where} of {len(pairs):,}, strongest |P| first. The arrow keys go through them.")


main()
