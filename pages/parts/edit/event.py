"""A kept edit as a story: one sentence, the facts before it, as forecast and as measured, and the way to the edit."""

from __future__ import annotations

from dataclasses import replace
from html import escape

import streamlit as st

from kis_core.facts import SLOT, Fact
from kis_core.simulator import Event, without_model
from kis_core.wording import counted, number
from pages.parts.figures.figure import FigureText, caption
from pages.parts.figures.inspector import EDITED, SUFFERS
from pages.parts.frame import state
from pages.parts.frame.glossary import explain
from pages.parts.frame.views import ResultView
from pages.parts.jobs.background import store

MOST_TOLD = 4  # facts in the table; the others are counted
MOST_NAMED = 3  # in the sentence
CHANGE = "+.1f"  # format of a change of log-odds
CELL = "padding:.3rem 1.1rem .3rem 0;vertical-align:top"
UNDER = "border-bottom:3px solid"
QUIET = "opacity:.75;font-size:.85rem;font-weight:400"


def draw_event(view: ResultView, told: Event) -> None:
    """Draw it."""
    facts, e = view.result.facts.facts, told.request.fact
    st.html(f"<div style='font-size:1.6rem;line-height:1.35;max-width:60rem'>{_headline(facts, told)}</div>")
    rows = [_row(facts[e], (told.before[e], told.request.target, told.after[e]), EDITED, ("the edit", ""))]
    for j in told.told[:MOST_TOLD]:
        answers = told.before[j], told.coming.get(j, told.before[j]), told.after[j]
        changes = number(told.forecast[j], CHANGE), number(told.measured[j], CHANGE)
        rows.append(_row(facts[j], answers, SUFFERS, changes))
    heads = ("", "before", "forecast", "measured after the edit")
    head = "".join(f"<th scope='col' style='{CELL};{QUIET};text-align:left'>{name}</th>" for name in heads)
    st.html(
        f"<div style='overflow-x:auto'><table style='border-collapse:collapse;line-height:1.3;font-size:1.1rem'>"
        f"<tr>{head}</tr>{''.join(rows)}</table></div>"
    )
    _words(view, told)
    _onward(view, told)


def _headline(facts: tuple[Fact, ...], told: Event) -> str:
    """What is done, and what comes of it, as HTML."""
    fact, follow = facts[told.request.fact], told.changed[: told.follow]
    before, after = (escape(part) for part in fact.prompt.split(SLOT, 1))
    new = f"<b style='{UNDER} {EDITED}'>{escape(told.request.target)}</b>"
    asked = f"Teach the model “{before}<b>{escape(fact.subject)}</b>{after} {new}”"
    if not told.took:
        return f"{asked}, and it does not learn it, but {_others(told)}."
    if not follow:
        return f"{asked}, and {_others(told)}."
    names = [f"<b style='{UNDER} {SUFFERS}'>{escape(facts[j].subject)}</b>" for j in follow[:MOST_NAMED]]
    if more := len(follow) - len(names):
        names.append(counted(more, "other"))
    named = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    return f"{asked}, and {named} {'follow' if len(follow) > 1 else 'follows'}."


def _others(told: Event) -> str:
    if not told.changed:
        return "no other answer changes"
    return counted(len(told.changed), "other answer changes", "other answers change")


def _row(fact: Fact, answers: tuple[str, str, str], colour: str, changes: tuple[str, str]) -> str:
    """A fact, its answers before, as forecast and as measured, and the changes of its log-odds, as HTML."""
    before, after = (escape(part) for part in fact.prompt.split(SLOT, 1))
    cells = [f"<td style='{CELL}'>{escape(answers[0])}</td>"]
    for answer, change in zip(answers[1:], changes, strict=True):
        word = escape(answer) if answer == answers[0] else f"<b>{escape(answer)}</b>"
        cells.append(f"<td style='{CELL}'>{word} <span style='{QUIET};white-space:nowrap'>{change}</span></td>")
    sentence = f"{before}<b>{escape(fact.subject)}</b>{after} …"
    return (
        f"<tr><td style='{CELL};border-left:4px solid {colour};padding-left:.8rem'>{sentence}</td>{''.join(cells)}</tr>"
    )


def _words(view: ResultView, told: Event) -> None:
    request, bench = told.request, without_model(view.result, store())
    parts = [f"One edit of layer {request.layer}, made and taken back; beside each answer the change of its log-odds."]
    if told.changed:
        parts.append(f"{told.foreseen} of {counted(len(told.changed), 'changed answer')} forecast.")
    if told.unfulfilled:
        parts.append(f"{counted(told.unfulfilled, 'change')} forecast did not come.")
    if left := len(told.told) - MOST_TOLD:
        parts.append(f"{counted(left, 'more answer changes', 'more answers change')}." if left > 0 else "")
    if told.tagged:
        changed = counted(told.tagged, "other answer changes", "other answers change")
        parts.append(f"Not told: {changed} that the prompts alone may explain.")
    at = replace(view, layer=request.layer)
    text = FigureText(
        title=f"An edit of {bench.facts[request.fact].subject}",
        caption=" ".join(filter(None, parts)),
        help="**Paper, eq. 2 and 11.** Forecast to first order over all tokens, before the edit is made. A forecast "
        "answer is the one that then comes first.\n\n" + explain("forecast", "measured", "log-odds", "tag"),
        data=lambda: told.frame(bench),
        code="from kis_core import simulator\n\n"
        "bench = simulator.without_model(result, Store())\n"
        f"told = simulator.event(simulator.events(bench), {view.layer})\nframe = told.frame(bench)",
        brief=True,
    )
    caption(at, text, key="event")


def _onward(view: ResultView, told: Event) -> None:
    with st.container(horizontal=True, gap="small"):
        if st.button("Open this edit", key="open-event", type="tertiary", icon=":material/edit:"):
            _choose(told)
            state.go("pages/edit.py")
        if told.request.layer != view.layer:
            label, args = f"Show layer {told.request.layer} below", ("layer", told.request.layer)
            st.button(label, type="tertiary", icon=":material/layers:", on_click=state.choose, args=args)


def _choose(told: Event) -> None:
    """Choose this edit, performed, beside the first fact that it is told of."""
    request = told.request
    state.forget("spillover", "against")
    for note in ("performed-edit", "target-of"):
        st.session_state.pop(note, None)
    choices: dict[str, object] = {
        "layer": request.layer,
        "pair": (request.fact, (*told.told, request.fact)[0]),
        "target": request.target,
    }
    choices |= {"method": request.method, "strength": 1.0, "how": (), "performed": "yes"}
    for name, value in choices.items():
        state.choose(name, value)
