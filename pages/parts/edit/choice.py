"""What is to be edited and how: chosen on the left of the simulator, told in words, kept in the link."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import streamlit as st

from kis_core.editing import RANK_ONE, EditError, Method
from kis_core.facts import SLOT, Fact
from kis_core.results.pairs import told
from kis_core.results.result import Result
from kis_core.simulator import MOST_STRENGTH, EditOutcome, EditRequest, Simulator
from kis_core.superposition.matrix import strongest_partner
from kis_core.wording import number
from pages.parts.figures.inspector import EDITED
from pages.parts.frame import state
from pages.parts.frame.text import plain, share

MOST_OBJECTS = 60  # offered; any other can be typed
METHOD_NAMES = {method.name: method.label for method in RANK_ONE}


def method_help(methods: Sequence[Method]) -> str:
    """What each method does, as a list in Markdown."""
    papers = {method: f" ({method.paper})" if method.paper else "" for method in methods}
    return "\n".join(f"- **{method.label}**{paper}: {method.help}" for method, paper in papers.items())


@dataclass(frozen=True)
class Chosen:
    """What the reader has chosen.

    Attributes:
        request: the edit, or None while something is missing.
        e: the fact to edit.
        strength: of the edit.
        by: which forecast is looked at.
    """

    request: EditRequest | None
    e: int
    strength: float
    by: str


def edit_fact(result: Result, layer: int, fact: int) -> None:
    """Choose the fact to edit, and with it the one it hits hardest; its new object is another one then."""
    state.forget("spillover", "against")
    state.choose("pair", (fact, strongest_partner(result.p[result.at(layer)], fact)))
    state.choose("target", "")


def choices(bench: Simulator, layer: int, e: int) -> Chosen:
    """Draw the choices and return them."""
    facts = bench.facts
    _fact(bench.result, layer, e)
    objects = bench.known_facts.new_objects(facts[e])[:MOST_OBJECTS]
    target = _wanted(facts[e]) or (objects[0] if objects else "")
    _target(objects, target, facts[e])
    st.segmented_control(
        "Method", list(METHOD_NAMES), format_func=METHOD_NAMES.__getitem__, required=True, help=method_help(RANK_ONE),
        **state.widget("method"),
    )  # fmt: skip
    strength = st.slider(
        "Edit strength", 0.0, MOST_STRENGTH, step=0.05, help="A factor of δ. The forecast follows at once.",
        **state.widget("strength"),
    )  # fmt: skip
    return Chosen(_request(bench, layer, e, target), e, strength, state.get("by"))


def _fact(result: Result, layer: int, e: int) -> None:
    facts = result.facts.facts
    st.session_state["edit-fact"] = e

    def searched() -> None:
        if st.session_state["edit-fact"] is not None:
            edit_fact(result, layer, st.session_state["edit-fact"])

    names = [told(fact) for fact in facts]
    st.selectbox(
        "Edit the fact", range(len(facts)), format_func=names.__getitem__, key="edit-fact", on_change=searched,
        help="Type to search. A click on the heatmap or on a row of Top pairs chooses the fact as well.",
    )  # fmt: skip


def _wanted(fact: Fact) -> str:
    """The object that was chosen for this fact; one chosen for another fact, before, is forgotten."""
    asked = (fact.subject, fact.prompt, fact.target)
    if st.session_state.setdefault("target-of", asked) != asked:
        st.session_state["target-of"] = asked
        state.settle("target", "")
    return str(state.get("target")).strip()


def _target(objects: list[str], target: str, fact: Fact) -> None:
    options = objects if target in objects or not target else [target, *objects]
    st.session_state["edit-target"] = target or None

    def changed() -> None:
        state.choose("target", (st.session_state["edit-target"] or "").strip()[: state.MOST_WORDS])

    st.selectbox(
        f"New object, instead of {plain(fact.target)}", options, key="edit-target", on_change=changed,
        accept_new_options=True, placeholder="Type a new object",
        help="Objects of the same relation are offered; any other can be typed.",
    )  # fmt: skip


def _request(bench: Simulator, layer: int, e: int, target: str) -> EditRequest | None:
    if not target:
        st.info("Type a new object for this fact.", icon=":material/edit:")
        return None
    if target == bench.facts[e].target:
        st.info("That is the object it has. Choose another one.", icon=":material/edit:")
        return None
    try:
        return bench.request(e, target, layer, state.get("method"), **how_of(bench))
    except EditError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return None


def how_of(bench: Simulator) -> dict[str, Any]:
    """Hyper-parameters that differ from the model's own, as keyword arguments."""
    usual = bench.recipe.hyperparameters
    found: dict[str, Any] = {}
    for name, chosen in state.get("how"):
        if name == "prefixes":
            length = usual.prefixes[0][1] if usual.prefixes else 5
            found[name] = ((int(chosen), length),)
        else:
            kind = type(getattr(usual, name))
            found[name] = kind(chosen)
    return found


def in_words(fact: Fact, target: str) -> None:
    """The edit as a sentence, the old object crossed out."""
    before, after = fact.prompt.split(SLOT, 1)
    st.html(
        f"<div style='border-left:4px solid {EDITED};padding:.2rem 0 .2rem .8rem;font-size:1.2rem;line-height:1.5'>"
        f"{escape(before)}<b>{escape(fact.subject)}</b>{escape(after)} "
        f"<s style='opacity:.75'>{escape(fact.target)}</s> → <b>{escape(target)}</b></div>"
    )


def success(outcome: EditOutcome, target: str, protocol: str) -> None:
    """Whether the edit took, as the field measures it."""
    found = outcome.success
    rows = [
        (
            "efficacy",
            f"{'yes' if found.efficacy else 'no'}: {share(found.probability_new)} "
            f"(the old object {share(found.probability_old)})",
        ),
        (
            "paraphrase",
            "none known" if found.paraphrase is None else f"{number(found.paraphrase, '.0%')} give the new object",
        ),
        (
            "neighbourhood",
            "none known"
            if found.neighbourhood is None or found.neighbourhood_before is None
            else f"{found.neighbourhood:.0%} keep their object ({found.neighbourhood_before:.0%} had it)",
        ),
        ("it now says", f"… {found.generated}"),
        ("it said", f"… {found.generated_before}"),
    ]
    cells = "".join(
        f"<div style='opacity:.75;white-space:nowrap'>{name}</div><div>{escape(text)}</div>" for name, text in rows
    )
    st.html(f"<div style='display:grid;grid-template-columns:max-content 1fr;gap:.15rem .9rem'>{cells}</div>")
    st.caption(
        "How an edit is judged",
        help=f"Efficacy: the new object “{plain(target)}” is the model’s first choice, token by token, on the edited "
        f"sentence. {plain(protocol[0].upper() + protocol[1:])} Meng et al., arXiv 2202.05262.",
    )


def history_entry(result: Result, chosen: Chosen, outcome: EditOutcome) -> dict[str, Any]:
    """What the session remembers of an edit it performed."""
    request = outcome.request
    fact = result.facts.facts[request.fact]
    others = int(outcome.flipped.sum()) - int(outcome.flipped[request.fact])
    return {
        "choices": {
            "model": result.request.model,
            "layer": request.layer,
            "facts": state.get("facts"),
            "keep": state.get("keep"),
            "pair": (request.fact, request.fact),
            "target": request.target,
            "method": request.method,
            "strength": outcome.strength,
            "how": state.get("how"),
        },
        "edit": f"{fact.subject}: {fact.target} → {request.target}",
        "model": result.request.model,
        "layer": request.layer,
        "method": METHOD_NAMES[request.method],
        "strength": outcome.strength,
        "took": outcome.success.efficacy,
        "flips": others,
    }


def request_line(chosen: Chosen) -> str:
    """Python that asks for the edit."""
    asked = chosen.request
    if asked is None:
        return ""
    how = "".join(f", {name}={getattr(asked.how, name)!r}" for name, _ in state.get("how"))
    return f"request = bench.request({asked.fact}, {asked.target!r}, {asked.layer}, {asked.method!r}{how})"


def python_lines(chosen: Chosen, *, perform: bool = True) -> str:
    """Python that gets the edit, its forecast and its outcome."""
    lines = [
        "from kis_core import simulator", "", "bench = simulator.of(result, Store())", request_line(chosen),
        "forecast = bench.forecast(request)",
    ]  # fmt: skip
    if perform:
        lines.append(f"outcome = bench.perform(request, {chosen.strength:g})")
    return "\n".join(lines) + "\n"
