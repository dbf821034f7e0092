"""Network: facts as marks, strong pairs as links, and an edit that lights up whom it hits (eq. 11, 16-18)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from kis_core import charts
from kis_core.results import network, pairs
from kis_core.simulator import Event, event
from kis_core.wording import counted, number
from pages.parts.edit import kept
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, Pick, figure
from pages.parts.figures.inspector import edited_card, has_pairs, inspector
from pages.parts.figures.pair_list import pair_list
from pages.parts.frame import state
from pages.parts.frame.glossary import explain
from pages.parts.frame.page import frame, panel, split
from pages.parts.frame.text import plain
from pages.parts.frame.views import ResultView
from pages.parts.jobs.results import remembered, shown

KEY = "network"
MOST_LISTED = 12  # facts that an edit reaches
STEP = 0.01  # of |P|
HELP = (
    "**Paper, eq. 11 and 16–18.** A link from fact i to fact j says that an edit of i lands on j by P[i, j]; its width "
    "is |P|, its head is at the fact that suffers. Facts stand near those that their whitened keys are alike to, on "
    "average over the layers, and in the same place in every layer; distance is a guide to the eye and no measure. "
    "Change of log-odds: disc measured, dashed ring forecast to first order over all tokens, areas by size.\n\n"
    + explain("superposition P", "forecast", "measured", "log-odds")
)
Pair = tuple[int, int] | None


def main() -> None:
    """The page."""
    view = frame("Network")
    st.subheader("Which facts hang together, and whom does an edit reach?", anchor=False)
    drawn(shown(view))


@panel
def drawn(view: ResultView) -> None:
    """The network, and what is picked in it; a click reruns only this."""
    if not has_pairs(view):
        return
    pair = state.picked(len(view.result.facts))
    left, right = split(1.9, 1)
    told = _told(view, pair)
    with right:
        _picked(view, pair, told)
    with left:
        _network(view, pair, told if state.get("lights") == "on" else None)


def _told(view: ResultView, pair: Pair) -> Event | None:
    """The kept edit of the picked fact at this layer that tells most, if there is one."""
    if pair is None or pair[0] != pair[1]:
        return None
    here = [one for one in kept.events(view.result) if one.request.fact == pair[0]]
    return event([one for one in here if one.request.layer == view.layer], view.layer)


def _network(view: ResultView, pair: Pair, told: Event | None) -> None:
    usual = remembered(view.result, ("least", view.layer), lambda: network.usual_least(view.result, view.layer))
    least = usual if state.get("least") is None else float(state.get("least"))
    st.slider(
        "Links from |P| of",
        network.LEAST,
        network.MOST,
        step=STEP,
        help=f"At first so that there are about as many links as facts: {usual:g} here.",
        **state.widget("least", write=least),
    )
    at = remembered(view.result, ("places",), lambda: network.places(view.result))
    nodes = network.nodes(view.result, view.layer, at, least)
    links, count = network.links(view.result, view.layer, at, least)
    look: dict[str, Any] = {"others": network.OTHERS, "picked": pair, "effects": _effects(told) if told else None}
    figure(
        view,
        drawing(charts.network, nodes, links, **look),
        FigureText(
            title="Network of facts",
            caption=_caption(view, links, count, least, told),
            help=HELP,
            data=lambda: links[["i", "j", "p", "edited", "suffers"]],
            code="from kis_core.results import network\n\nat = network.places(result)\n"
            f"nodes = network.nodes(result, {view.layer}, at, {least:g})\n"
            f"links, count = network.links(result, {view.layer}, at, {least:g})",
        ),
        key=state.fresh(KEY),
        pick=Pick(charts.LINK, _choose),
    )


def _choose(clicked: dict[str, Any]) -> None:
    """Pick what was clicked; what lies between the marks carries no facts."""
    if isinstance(clicked.get("i"), int) and isinstance(clicked.get("j"), int):
        state.choose("pair", (clicked["i"], clicked["j"]))


def _effects(told: Event) -> pd.DataFrame:
    """What the edit does to the other facts."""
    answers = np.where(np.array(told.before) == np.array(told.after), "", told.after)
    frame = pd.DataFrame({"forecast": told.forecast, "measured": told.measured, "answer": answers})
    return frame.assign(fact=frame.index).drop(index=told.request.fact)


def _caption(view: ResultView, links: pd.DataFrame, count: int, least: float, told: Event | None) -> str:
    drawn = f"{counted(count, 'link')} with |P| of {least:g} or more"
    if count > len(links):
        drawn = f"The strongest {len(links):,} of {drawn}"
    lit = ""
    if told is not None:
        lit = (
            f" Lit: an edit of {plain(view.subjects[told.request.fact])} to {plain(told.request.target)}; "
            "disc measured, dashed ring forecast."
        )
    return f"{drawn}, from the edited fact to the one that suffers (eq. 16–18).{lit} Click a fact or a link."


def _picked(view: ResultView, pair: Pair, told: Event | None) -> None:
    if pair is None:
        _start(view)
    elif pair[0] != pair[1]:
        st.button("The whole network", icon=":material/hub:", type="tertiary", on_click=_choose_nothing)
        inspector(view, pair)
    else:
        st.button("The whole network", icon=":material/hub:", type="tertiary", on_click=_choose_nothing)
        _row(view, pair[0], told)


def _choose_nothing() -> None:
    state.forget(KEY)
    state.choose("pair", None)


def _start(view: ResultView) -> None:
    """What can be done here, and an edit to begin with."""
    st.markdown(
        "**Click a fact**: whom an edit of it reaches.  \n**Click a link**: the pair. Links point at the fact that "
        "suffers."
    )
    here = [one for one in kept.events(view.result) if one.request.layer == view.layer]
    if (told := event(here, view.layer)) is not None:
        e = told.request.fact
        label = f"Light up an edit: {plain(view.subjects[e])} → {plain(told.request.target)}"
        st.button(label, icon=":material/bolt:", on_click=state.choose, args=("pair", (e, e)))
    st.markdown("**Strongest without a tag**", help=explain("tag"))
    table = pairs.table(view.result, view.layer, count=MOST_LISTED, tags=["no tag"])
    narrow: dict[str, Any] = {
        "edited": st.column_config.TextColumn("edit fact i", width=114),
        "suffers": st.column_config.TextColumn("and j suffers", width=114),
    }
    pair_list(table[["i", "j", "p", "edited", "suffers"]], None, key="network-first", **narrow)


def _row(view: ResultView, e: int, told: Event | None) -> None:
    """Whom an edit of a fact reaches."""
    edited_card(view, e)
    if told is not None:
        st.toggle(f"Light up its edit to {plain(told.request.target)}", **state.toggle("lights", on="on"))
        changed = counted(len(told.changed) + told.tagged, "other answer", "other answers")
        st.caption(f"{changed} changed; {len(told.coming)} had been forecast to.")
    row = np.zeros_like(view.p, dtype=bool)
    row[e] = True
    table = pairs.table(view.result, view.layer, count=MOST_LISTED, where=row)
    if table.empty:
        st.info("The key of this fact is zero: P has no value here.", icon=":material/info:")
        return
    st.markdown(f"**An edit of it lands most on** {plain(table['suffers'][0])}: {number(table['p'][0], '+.2f')}")
    pair_list(table[["i", "j", "p", "suffers", "tags"]], None, key="network-row")


main()
