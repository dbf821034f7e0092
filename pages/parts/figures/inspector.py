"""The pair inspector: two facts, how strongly they are superposed, and what the model answers to both."""

from __future__ import annotations

import math
from html import escape

import pandas as pd
import streamlit as st

from kis_core import charts
from kis_core.results.pairs import Pair, inspect, strongest_between_subjects
from kis_core.results.result import Result
from kis_core.wording import number
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure
from pages.parts.frame import state
from pages.parts.frame.page import View
from pages.parts.frame.text import sentence, share

CARD = (
    "<div style='border-left:4px solid {colour};padding:.1rem 0 .1rem .8rem;margin:.2rem 0'>"
    "<div style='opacity:.75;font-size:.8rem'>{role}</div><div style='font-size:1.05rem'>{sentence}</div>"
    "<div style='opacity:.75;font-size:.8rem'>{relation}</div></div>"
)
EDITED, SUFFERS = "#0072b2", "#d55e00"


def has_pairs(result: Result, layer: int) -> bool:
    """Whether there is a pair with a value to look at; says why, where there is none."""
    if len(result.ranking(layer)):
        return True
    why = "the fact set holds a single fact" if len(result.facts) == 1 else "the keys of these facts are zero"
    st.info(f"There is no pair to look at: {why}.", icon=":material/info:")
    return False


def picked_or_strongest(result: Result, layer: int) -> tuple[int, int] | None:
    """The picked pair; before anything is picked, the strongest, between two subjects if possible; else None."""
    if found := state.picked(len(result.facts)):
        return found
    for pairs in (strongest_between_subjects(result, layer), result.ranking(layer)):
        if len(pairs):
            return int(pairs[0][0]), int(pairs[0][1])
    return None


def inspector(view: View, result: Result, pair: tuple[int, int] | None, *, editing: bool = False) -> None:
    """Draw the inspector of a picked pair; where it is not being edited already, with a way to do so."""
    if pair is None:
        has_pairs(result, view.layer)
        return
    facts = result.facts.facts
    i, j = pair
    looked_at = inspect(result, view.layer, i, j)
    st.html(
        "".join(
            CARD.format(colour=colour, role=role, sentence=sentence(facts[fact]), relation=_at(result, fact))
            for fact, colour, role in ((i, EDITED, f"edit fact i = {i}"), (j, SUFFERS, f"and fact j = {j} suffers"))
        )
    )
    _numbers(looked_at)
    _tags(looked_at)
    if not editing:
        st.page_link(
            "pages/edit.py", label="Edit fact i and see who follows", icon=":material/edit:", query_params=state.link()
        )
    _answers(result, i, j)
    _every_layer(view, result, looked_at)


def _every_layer(view: View, result: Result, pair: Pair) -> None:
    series = {"P[i, j]": pair.p_by_layer, "P[j, i]": pair.p_back_by_layer}
    figure(
        view,
        result,
        drawing(charts.by_layer, result.layers, series, view.layer),
        FigureText(
            title=f"Pair {pair.i} and {pair.j} by layer",
            caption="This pair in every layer (eq. 16); the dashed line is the layer shown.",
            help="P[i, j]: how much an edit of i lands on j. P[j, i]: the other way round.",
            data=lambda: pd.DataFrame({"layer": result.layers, **series}),
            code=f"pair = pairs.inspect(result, {view.layer}, {pair.i}, {pair.j})\n"
            "pair.p_by_layer, pair.p_back_by_layer",
            brief=True,
        ),
        key="pair_by_layer",
    )


def _at(result: Result, fact: int) -> str:
    relation = result.facts.facts[fact].relation.replace("_", " ")
    return escape(f"{relation + ' · ' if relation else ''}key taken at “{result.key_tokens[fact].strip()}”")


def _numbers(pair: Pair) -> None:
    figures = (
        ("P[i, j]", pair.p, "+.3f", "", "share of the edit of i that lands on j (eq. 16)"),
        ("P[j, i]", pair.p_back, "+.3f", "", "the other way round"),
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
    if pair.same_subject:
        st.badge(
            "same subject",
            icon=":material/warning:",
            color="orange",
            help="Prompts that begin with the same subject have the same key, by causality.",
        )
    if pair.same_last_token:
        st.badge(
            "same last token",
            icon=":material/warning:",
            color="orange",
            help="Both keys are taken at the same token, which alone makes them alike in early layers.",
        )


def _answers(result: Result, i: int, j: int) -> None:
    cells = []
    for fact, colour, role in ((i, EDITED, "i"), (j, SUFFERS, "j")):
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
