"""The pair inspector: two facts, how strongly they are superposed, and what the model answers to both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import pandas as pd
import streamlit as st

from kis_core import charts
from kis_core.facts import Fact
from kis_core.results.pairs import Pair, first_shown, inspect
from kis_core.results.result import Result
from kis_core.superposition.leverage import place_in_text
from kis_core.wording import number, share
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure
from pages.parts.frame import state
from pages.parts.frame.glossary import terms
from pages.parts.frame.text import sentence
from pages.parts.frame.views import ResultView

CARD = (
    "<div style='border-left:4px solid {colour};padding:.1rem 0 .1rem .8rem;margin:.2rem 0'>"
    "<div style='opacity:.75;font-size:.8rem'>{role}</div><div style='font-size:1.05rem'>{sentence}</div>"
    "<div style='opacity:.75;font-size:.8rem'>{note}</div></div>"
)
EDITED, SUFFERS = "#0072b2", "#d55e00"
P_HELP = "the share of an edit of fact i that lands on fact j (eq. 16)"
LARGE = 100  # leverage from which on no decimals are shown
P_BACK_HELP = "the share of an edit of fact j that lands on fact i"


def no_pair(facts: int) -> None:
    """Say why there is no pair to look at among so many facts."""
    why = "the fact set holds a single fact" if facts == 1 else "the keys of these facts are zero"
    st.info(f"There is no pair to look at: {why}.", icon=":material/info:")


def has_pairs(view: ResultView) -> bool:
    """Whether there is a pair with a value to look at; where there is none, says why."""
    if len(view.result.ranking(view.layer)):
        return True
    no_pair(len(view.result.facts))
    return False


def picked_or_strongest(view: ResultView) -> tuple[int, int] | None:
    """The picked pair; before anything is picked, the strongest without a tag; None where there are no pairs."""
    return state.picked(len(view.result.facts)) or first_shown(view.result, view.layer)


def marked_off_diagonal(pair: tuple[int, int] | None, p: float | None) -> tuple[dict[str, float], str]:
    """Where a chart of P marks a pair, by its name, and the sentence on it; both empty if it has no such place."""
    if pair is None or pair[0] == pair[1] or p is None or not math.isfinite(p):
        return {}, ""
    name = f"P[{pair[0]}, {pair[1]}]"
    return {name: p}, f" Marked: the picked pair, {name} = {number(p, '+.3f')}."


def inspector(view: ResultView, pair: tuple[int, int] | None, *, editing: bool = False) -> None:
    """Draw the inspector of a picked pair; where it is not being edited already, with a way to do so."""
    if pair is None:
        has_pairs(view)
        return
    looked_at = inspect(view.result, view.layer, *pair)
    cards(pair, view.result.facts.facts, lambda fact: _where(view, fact))
    _numbers(looked_at)
    _tags(looked_at)
    if not editing:
        st.page_link(
            "pages/edit.py",
            label="Edit fact i and see what else changes",
            icon=":material/edit:",
            query_params=state.link(),
        )
    _answers(view.result, pair)
    _every_layer(view, looked_at)


def cards(pair: tuple[int, int], facts: Sequence[Fact], note: Callable[[int], str]) -> None:
    """The prompts of both facts; `note` gives a line of plain text on a fact."""
    i, j = pair
    roles = ((i, EDITED, f"edit fact i = {i}"), (j, SUFFERS, f"and fact j = {j} suffers"))
    st.html(
        "".join(
            CARD.format(colour=colour, role=role, sentence=sentence(facts[fact]), note=escape(note(fact)))
            for fact, colour, role in roles
        )
    )


def edited_card(view: ResultView, e: int) -> None:
    """The prompt of a fact that is picked alone, to be edited."""
    words = sentence(view.result.facts.facts[e])
    st.html(CARD.format(colour=EDITED, role=f"edit fact i = {e}", sentence=words, note=escape(_where(view, e))))


def _every_layer(view: ResultView, pair: Pair) -> None:
    series: dict[str, Sequence[float]] = {"P[i, j]": pair.p_by_layer, "P[j, i]": pair.p_back_by_layer}
    figure(
        view,
        drawing(charts.by_layer, view.result.layers, series, view.layer),
        FigureText(
            title=f"Pair {pair.i} and {pair.j} by layer",
            caption="This pair in every layer (eq. 16); the dashed line is the layer shown.",
            help=f"P[i, j]: {P_HELP}. P[j, i]: {P_BACK_HELP}.",
            data=lambda: pd.DataFrame({"layer": view.result.layers, **series}),
            code=f"pair = pairs.inspect(result, {view.layer}, {pair.i}, {pair.j})\n"
            "pair.p_by_layer, pair.p_back_by_layer",
            all_layers=True,
            brief=True,
        ),
        key="pair_by_layer",
    )


def _where(view: ResultView, fact: int) -> str:
    """The relation of a fact, where its key is taken, and how large it is beside keys of general text."""
    result, at = view.result, view.result.at(view.layer)
    relation = result.facts.facts[fact].relation.replace("_", " ")
    size = float(result.leverage[at, fact])
    beside = place_in_text(size, result.text_leverage[at]) or "beside general text unknown, as C came without it"
    return (
        f"{relation + ' · ' if relation else ''}key taken at “{result.key_tokens[fact].strip()}” · "
        f"leverage {number(size, ',.0f' if size >= LARGE else '.2g')}, {beside}"
    )


def _numbers(pair: Pair) -> None:
    figures = (
        ("P[i, j]", pair.p, "+.3f", "", P_HELP),
        ("P[j, i]", pair.p_back, "+.3f", "", P_BACK_HELP),
        ("whitened angle", pair.whitened_angle, ".1f", "°", "between the keys after whitening with C (Fig. 6)"),
        ("plain angle", pair.activation_angle, ".1f", "°", "between the keys as they are (Fig. 6)"),
    )
    cells = "".join(
        f"<div title='{text}'><div style='font-size:1.5rem;font-weight:600;white-space:nowrap'>"
        f"{number(value, form)}{unit if math.isfinite(value) else ''}</div>"
        f"<div style='font-size:.8rem;opacity:.75'>{label}</div></div>"
        for label, value, form, unit, text in figures
    )
    st.html(f"<div style='display:flex;justify-content:space-between;gap:.8rem;flex-wrap:wrap'>{cells}</div>")
    if math.isnan(pair.p):
        st.caption("One of the keys is zero: P has no value here.")


def _tags(pair: Pair) -> None:
    if pair.i == pair.j:
        st.badge("diagonal: a fact and itself, always 1", color="gray")
    tags(pair.tags)


def tags(names: Sequence[str]) -> None:
    """The badges of a pair's tags, with what the glossary says of each."""
    for name in names:
        st.badge(name, icon=":material/warning:", color="orange", help=terms()[name])


def _answers(result: Result, pair: tuple[int, int]) -> None:
    cells = []
    for fact, colour, role in zip(pair, (EDITED, SUFFERS), "ij", strict=True):
        rows = "".join(
            f"<div style='display:flex;justify-content:space-between;gap:.6rem'><span style='overflow:hidden;"
            f"text-overflow:ellipsis;white-space:nowrap'>{escape(text) or '·'}</span>"
            f"<span style='opacity:.8;white-space:nowrap'>"
            f"{share(probability)}</span></div>"
            for text, probability in result.answers[fact]
        )
        cells.append(
            f"<div style='flex:1;min-width:0'><div style='border-bottom:3px solid {colour};margin-bottom:.2rem'>"
            f"the model’s next word after {role}</div>{rows}</div>"
        )
    st.html(f"<div style='display:flex;gap:1.4rem;font-size:.9rem'>{''.join(cells)}</div>")
