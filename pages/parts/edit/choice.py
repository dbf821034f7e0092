"""What is to be edited and how: chosen on the left of the page, put into words, and kept in the link."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import streamlit as st

from kis_core.editing import RANK_ONE, EditError, Method
from kis_core.facts import SLOT, Fact
from kis_core.results.pairs import label_of
from kis_core.simulator import MOST_STRENGTH, EditOutcome, EditRequest, Simulator
from kis_core.superposition.matrix import strongest_partner
from pages.parts.edit.view import Chosen, EditView
from pages.parts.figures.inspector import EDITED
from pages.parts.frame import state
from pages.parts.frame.text import plain
from pages.parts.frame.views import ResultView
from pages.parts.frame.widgets import select

MOST_OBJECTS = 60  # offered; any other can be typed
METHOD_NAMES = {method.name: method.label for method in RANK_ONE}


def method_help(methods: Sequence[Method]) -> str:
    """What each method does, as a list in Markdown."""
    papers = {method: f" ({method.paper})" if method.paper else "" for method in methods}
    return "\n".join(f"- **{method.label}**{paper}: {method.help}" for method, paper in papers.items())


def choices(view: ResultView, bench: Simulator, e: int) -> Chosen:
    """Draw the choices for an edit of fact e and return them."""
    facts = bench.facts
    _fact(view, e)
    objects = bench.known_facts.new_objects(facts[e])[:MOST_OBJECTS]
    target = _chosen_object(facts[e]) or (objects[0] if objects else "")
    _target(objects, target, facts[e])
    select("method", "Method", METHOD_NAMES, method_help(RANK_ONE))
    text = "A factor of δ. The forecast follows at once."
    strength = st.slider("Edit strength", 0.0, MOST_STRENGTH, step=0.05, help=text, **state.widget("strength"))
    return Chosen(_request(bench, view.layer, e, target), e, strength, state.get("by"))


def _fact(view: ResultView, e: int) -> None:
    facts = view.result.facts.facts
    st.session_state["edit-fact"] = e

    def changed() -> None:
        """With the fact to edit, choose the one it hits hardest; the new object is that of another fact then."""
        if (fact := st.session_state["edit-fact"]) is not None:
            state.forget("spillover", "against")
            state.choose("pair", (fact, strongest_partner(view.p, fact)))
            state.choose("target", "")

    st.selectbox(
        "Edit the fact",
        range(len(facts)),
        format_func=lambda fact: label_of(facts[fact]),
        key="edit-fact",
        on_change=changed,
        help="Type to search. A click on the heatmap or on a row of Top pairs chooses the fact as well.",
    )


def _chosen_object(fact: Fact) -> str:
    """The object that was chosen for this fact; one chosen before, for another fact, is forgotten."""
    of = (fact.subject, fact.prompt, fact.target)
    if st.session_state.setdefault("target-of", of) != of:
        st.session_state["target-of"] = of
        state.settle("target", "")
    return str(state.get("target")).strip()


def _target(objects: list[str], target: str, fact: Fact) -> None:
    options = objects if target in objects or not target else [target, *objects]
    st.session_state["edit-target"] = target or None

    def changed() -> None:
        state.choose("target", (st.session_state["edit-target"] or "").strip()[: state.MOST_WORDS])

    st.selectbox(
        f"New object, instead of {plain(fact.target)}",
        options,
        key="edit-target",
        on_change=changed,
        accept_new_options=True,
        placeholder="Type a new object",
        help="Objects of the same relation are offered; any other can be typed.",
    )


def _request(bench: Simulator, layer: int, e: int, target: str) -> EditRequest | None:
    if not target:
        st.info("Type a new object for this fact.", icon=":material/edit:")
        return None
    if target == bench.facts[e].target:
        st.info("That is the object it has. Choose another one.", icon=":material/edit:")
        return None
    try:
        return bench.request(e, target, layer, state.get("method"), **chosen_settings(bench))
    except EditError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return None


def chosen_settings(bench: Simulator) -> dict[str, Any]:
    """Hyper-parameters that differ from the model's own, as keyword arguments."""
    usual = bench.recipe.hyperparameters
    settings: dict[str, Any] = {}
    for name, chosen in state.get("how"):
        if name == "prefixes":
            length = usual.prefixes[0][1] if usual.prefixes else 5
            settings[name] = ((int(chosen), length),)
        else:
            settings[name] = type(getattr(usual, name))(chosen)
    return settings


def in_words(fact: Fact, target: str) -> None:
    """The edit as a sentence, the old object crossed out."""
    before, after = fact.prompt.split(SLOT, 1)
    st.html(
        f"<div style='border-left:4px solid {EDITED};padding:.2rem 0 .2rem .8rem;font-size:1.2rem;line-height:1.5'>"
        f"{escape(before)}<b>{escape(fact.subject)}</b>{escape(after)} "
        f"<s style='opacity:.75'>{escape(fact.target)}</s> → <b>{escape(target)}</b></div>"
    )


def history_entry(view: EditView, outcome: EditOutcome) -> dict[str, Any]:
    """What the session remembers of an edit it performed."""
    request, model = outcome.request, view.request.model
    fact = view.bench.facts[request.fact]
    choices = {
        "model": model,
        "layer": request.layer,
        "facts": state.get("facts"),
        "keep": state.get("keep"),
        "pair": (request.fact, request.fact),
        "target": request.target,
        "method": request.method,
        "strength": outcome.strength,
        "how": state.get("how"),
    }
    return {
        "choices": choices,
        "edit": f"{fact.subject}: {fact.target} → {request.target}",
        "model": model,
        "layer": request.layer,
        "method": METHOD_NAMES[request.method],
        "strength": outcome.strength,
        "took": outcome.success.efficacy,
        "flips": int(outcome.flipped.sum()) - int(outcome.flipped[request.fact]),
    }
