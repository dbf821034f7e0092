"""The Overview, and the entry of the app: `streamlit run app.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from kis_core import charts, superposition
from kis_core.facts import Fact
from kis_core.results.pairs import table
from kis_core.results.tags import NO_TAG
from kis_core.simulator import Event, event
from kis_core.superposition.verdicts import heavy_tail, overlap, zero_mean
from kis_core.wording import number
from pages.parts.edit import kept
from pages.parts.edit.event import draw_event
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure
from pages.parts.figures.verdicts import verdicts
from pages.parts.frame import state
from pages.parts.frame.glossary import explain
from pages.parts.frame.page import frame, panel, split
from pages.parts.frame.text import plain
from pages.parts.frame.views import ResultView
from pages.parts.jobs.results import ordered, remembered, shown

NEXT = (
    ("pages/superposition.py", "Go through the whole matrix, pair by pair", ":material/arrow_forward:"),
    ("pages/distributions.py", "See how heavy a tail those pairs make", ":material/arrow_forward:"),
    ("pages/scaling.py", "See how it changes with depth and model size", ":material/arrow_forward:"),
)
SHOWN_PAIRS = 5
SUBJECT_CHARACTERS = 26  # two of them fit a line
SIZE = 400  # pixels


def main() -> None:
    """The page."""
    view = frame("Overview")
    st.title("Knowledge in superposition", anchor=False)
    _real_models(view.request.model)
    seen = shown(view)
    told = event(kept.events(seen.result), view.layer)
    if told is not None:
        draw_event(seen, told)
        st.subheader("Why: the keys of facts overlap", anchor=False)
    st.markdown(
        "A language model holds more facts than it has room for, so the keys it finds them by overlap. "
        "Edit one fact, and every fact whose key overlaps moves with it. "
        "The matrix **P** says by how much, before anything is edited: row *i* is the fact you edit, column *j* "
        "the one that suffers."
    )
    drawn(seen, told)


def _real_models(chosen: str) -> None:
    """Where to see a real language model: a stranger would take the demo family for all there is."""
    others = [entry for entry in state.models().values() if entry.title and entry.name != chosen]
    if not others:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("See it in a model that learned from real text:", width="content")
        for entry in others:
            look: dict[str, Any] = {"icon": ":material/language:", "type": "tertiary", "key": f"real-{entry.name}"}
            st.button(entry.title, on_click=state.choose, args=("model", entry.name), **look)


@panel
def drawn(view: ResultView, told: Event | None) -> None:
    """The matrix small, what its numbers say, and where to go next."""
    left, right = split(1.25, 1)
    with left:
        _matrix(view, told)
    with right:
        _numbers(view)


def _matrix(view: ResultView, told: Event | None) -> None:
    p, pair = view.p, state.picked(len(view.p))
    if pair is None and told is not None and told.told and told.request.layer == view.layer:
        pair = told.request.fact, told.told[0]
    marked = f" Marked: P[{pair[0]}, {pair[1]}] = {number(p[pair], '+.2f')}." if pair else ""
    order, labels = ordered(view, "relation")
    limit, large = superposition.colour_limit(p), len(p) > superposition.DETAIL
    look: dict[str, Any] = {"limit": limit, "labels": labels, "picked": pair, "size": SIZE}
    if large:
        chart = drawing(charts.overview, p, order, **look)
    else:
        chart = drawing(charts.heatmap, p, order, names=view.tagged_subjects, marks=view.signs, **look)
    legend = "" if large else f" {view.legend}".rstrip()
    block = "A dot stands for a block of pairs and shows the one with the largest |P|." if large else ""
    text = FigureText(
        title="Superposition P",
        caption=f"The superposition matrix P (paper eq. 16–18), facts grouped by relation; colours end at ±{limit:g}. "
        f"Click a cell to open its pair.{marked}{legend}",
        help=f"{explain('superposition P')} The diagonal is 1 by definition. {block}",
        data=lambda: pd.DataFrame(p[np.ix_(order, order)], columns=order).assign(edited=order),
        code="p.shape, superposition.moments(p)",
    )
    event = figure(view, chart, text, key="overview", on_select="rerun", selection_mode=charts.PICK)
    if cells := event["selection"].get(charts.PICK):
        row, column = int(cells[0]["r"]), int(cells[0]["c"])
        pair = (
            superposition.strongest_in_block(p, order, row, column) if large else (int(order[row]), int(order[column]))
        )
        state.choose("pair", pair)
        state.go("pages/superposition.py")


def _numbers(view: ResultView) -> None:
    moments = view.result.reports[view.result.at(view.layer)].moments
    figures = (
        ("mean of P", number(moments.mean, "+.3f"), "Of the off-diagonal entries; the paper finds it to be zero."),
        ("std of P", number(moments.std), "Standard deviation of the off-diagonal entries."),
        ("excess kurtosis", number(moments.kurtosis, ".1f"), explain("kurtosis")),
        ("largest P", number(moments.max, ".2f"), "Off the diagonal; 1 means an edit of i moves j just as much."),
    )
    for row in (figures[:2], figures[2:]):
        for column, (label, value, text) in zip(st.columns(2), row, strict=True):
            column.metric(label, value, help=text, border=True)
    width = view.result.mlp_width
    verdicts(
        remembered(
            view.result,
            ("verdicts", view.layer),
            lambda: (overlap(view.p, width), heavy_tail(view.p), zero_mean(view.p)),
        )
    )
    _strongest(view)
    for path, label, icon in NEXT:
        st.page_link(path, label=label, icon=icon, query_params=state.link())


def _strongest(view: ResultView) -> None:
    facts = view.result.facts.facts
    pairs = table(view.result, view.layer, count=SHOWN_PAIRS, tags=[NO_TAG])
    if pairs.empty:
        return
    st.markdown(f"**Strongest leaks at layer {view.layer}**", help=f"Of pairs without a tag. {explain('tag')}")
    with st.container(gap="xxsmall"):
        for rank, (i, j) in enumerate(pairs[["i", "j"]].to_numpy().tolist()):
            text = f"**{number(view.p[i, j], '+.2f')}**  {_short(facts[i])} → {_short(facts[j])}"
            if st.button(text, key=f"leak-{rank}", type="tertiary"):
                state.choose("pair", (i, j))
                state.go("pages/superposition.py")


def _short(fact: Fact) -> str:
    return plain(charts.shorten(fact.subject, SUBJECT_CHARACTERS))


main()
