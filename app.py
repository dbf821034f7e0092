"""The Overview, and the entry of the app: `streamlit run app.py`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from kis_core import charts
from kis_core.facts import Fact
from kis_core.results.pairs import strongest_between_subjects
from kis_core.results.result import Result
from kis_core.wording import number
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure
from pages.parts.frame import state
from pages.parts.frame.page import View, frame, panel, split
from pages.parts.frame.text import plain
from pages.parts.jobs.results import ordered, shown

NEXT = (
    ("pages/superposition.py", "Go through the whole matrix, pair by pair", ":material/arrow_forward:"),
    ("pages/distributions.py", "See the heavy tail those pairs make", ":material/arrow_forward:"),
    ("pages/scaling.py", "See how it changes with depth and model size", ":material/arrow_forward:"),
)
SHOWN_PAIRS = 5
SUBJECT_CHARACTERS = 26  # two of them fit a line


def main() -> None:
    """The page."""
    view = frame("Overview")
    st.title("Knowledge in superposition", anchor=False)
    st.markdown(
        "A language model holds more facts than it has room for, so the keys it finds them by overlap. "
        "Edit one fact, and every fact whose key overlaps moves with it. "
        "The matrix **P** says by how much, before anything is edited: row *i* is the fact you edit, column *j* "
        "the one that suffers."
    )
    drawn(view, shown(view))


@panel
def drawn(view: View, result: Result) -> None:
    """The matrix small, what its numbers say, and where to go next."""
    left, right = split(1.25, 1)
    with left:
        _matrix(view, result)
    with right:
        _numbers(view, result)


def _matrix(view: View, result: Result) -> None:
    p = result.p[result.at(view.layer)]
    order, labels = ordered(result, view.layer, "relation")
    names = [fact.subject for fact in result.facts.facts]
    limit, picked = charts.colour_limit(p), state.picked(len(p))
    large = len(p) > charts.DETAIL
    if large:
        chart = drawing(charts.overview, p, order, limit=limit, labels=labels, picked=picked, size=400)
    else:
        chart = drawing(charts.heatmap, p, order, limit=limit, labels=labels, names=names, picked=picked, size=400)
    about = FigureText(
        title="Superposition P",
        caption=f"The superposition matrix P (paper eq. 16–18), facts grouped by relation; colours end at ±{limit:g}. "
        f"Click a cell to open its pair.",
        help="Row i is the fact that is edited, column j the one that suffers. The diagonal is 1 by definition."
        + (" A dot stands for a block of pairs and shows the one with the largest |P|." if large else ""),
        data=lambda: pd.DataFrame(p[np.ix_(order, order)], columns=order).assign(edited=order),
        code="p.shape, statistics.moments(p)",
        layer=view.layer,
    )
    event = figure(view, result, chart, about, key="overview", on_select="rerun", selection_mode=charts.PICK)
    cells = event["selection"].get(charts.PICK)
    if cells:
        row, column = int(cells[0]["r"]), int(cells[0]["c"])
        pair = charts.strongest_in_block(p, order, row, column) if large else (int(order[row]), int(order[column]))
        state.choose("pair", pair)
        state.go("pages/superposition.py")


def _numbers(view: View, result: Result) -> None:
    moments = result.reports[result.at(view.layer)].moments
    figures = (
        ("mean of P", number(moments.mean, "+.3f"), "of the off-diagonal entries; near 0: most pairs hardly touch"),
        ("std of P", number(moments.std), "of the off-diagonal entries"),
        (
            "excess kurtosis",
            number(moments.kurtosis, ".1f"),
            "0 for a normal distribution; large: a few pairs carry the overlap",
        ),
        ("largest P", number(moments.max, ".2f"), "off the diagonal; 1 means an edit of i moves j just as much"),
    )
    for row in (figures[:2], figures[2:]):
        for column, (label, value, text) in zip(st.columns(2), row, strict=True):
            column.metric(label, value, help=text, border=True)
    _strongest(view, result)
    for path, text, icon in NEXT:
        st.page_link(path, label=text, icon=icon, query_params=state.link())


def _strongest(view: View, result: Result) -> None:
    facts = result.facts.facts
    pairs = strongest_between_subjects(result, view.layer)
    st.markdown(f"**Strongest leaks at layer {view.layer}** between different subjects")
    with st.container(gap="xxsmall"):
        for rank, (i, j) in enumerate(pairs[:SHOWN_PAIRS].tolist()):
            value = result.p[result.at(view.layer), i, j]
            text = f"**{number(value, '+.2f')}**  {_short(facts[i])} → {_short(facts[j])}"
            if st.button(text, key=f"leak-{rank}", type="tertiary"):
                state.choose("pair", (i, j))
                state.go("pages/superposition.py")


def _short(fact: Fact) -> str:
    return plain(charts.shorten(fact.subject, SUBJECT_CHARACTERS))


main()
