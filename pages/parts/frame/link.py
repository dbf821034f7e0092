"""What a link asks for: its choices as far as they can be had, and a sentence on each that cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import streamlit as st

from kis_core import facts
from kis_core.errors import KisError
from kis_core.facts import BUILTIN_SETS, FactSet, saved
from kis_core.models.catalog import ModelEntry
from kis_core.store.store import default_root
from pages.parts.frame.choices import Choice, Whole
from pages.parts.frame.text import plain

LAYERS = ("layer", "otherlayer", "through")  # which there are depends on the models chosen
OF_FACTS = ("pair", "window", "watched", "queue", "relations")  # what there is depends on the facts chosen
MOST_QUOTED = 60  # characters of a value that makes no sense
MOST_NOTES = 60  # more than there are choices; a stranger can make up names without end


def read(
    choices: Mapping[str, Choice], models: Callable[[], Mapping[str, ModelEntry]]
) -> tuple[dict[str, Any], list[str]]:
    """What the address bar asks for.

    Returns:
        a value for every choice, the default where the link has none that can be had; and a sentence on each choice
        that cannot be had, in Markdown.
    """
    chosen = {name: choice.default for name, choice in choices.items()}
    query, notes = st.query_params.to_dict(), []
    for name, text in query.items():
        if name not in choices:
            near = get_close_matches(name, choices, n=1)
            meant = f"; did you mean “{near[0]}”?" if near else ""
            notes.append(f"{_quoted(name)} “{_quoted(text)}”: no page knows “{_quoted(name)}”{meant}")
            continue
        if len(st.query_params.get_all(name)) > 1:
            notes.append(f"{name}: given more than once; only the last one counts")
        if name not in LAYERS:
            try:
                chosen[name] = choices[name].read(text)
            except ValueError as error:
                notes.append(f"{name} “{_quoted(text)}”: {plain(str(error))}")
    of = {"otherlayer": chosen["other"] or chosen["model"]}
    for name in filter(query.__contains__, LAYERS):
        model = of.get(name, chosen["model"])
        last = models()[model].layers - 1
        try:
            chosen[name] = Whole(None, 0, last).read(query[name])
        except ValueError:
            notes.append(f"{name} “{_quoted(query[name])}”: {plain(model)} has layers 0 to {last}")
    notes += _beyond_the_facts(choices, chosen, query)
    if chosen["step"] is not None and chosen["step"] > chosen["edits"]:
        notes.append(f"step “{chosen['step']}”: the run has {chosen['edits']} edits")
        chosen["step"] = choices["step"].default
    if more := len(notes) - MOST_NOTES:
        notes[MOST_NOTES:] = [f"and {more:,} more"] if more > 0 else []
    return chosen, notes


def beyond(pair: tuple[int, int], count: int, what: str) -> str:
    """The sentence on a pair that is not among the facts; `count` is their number, and `what` says so in words."""
    return f"pair “{pair[0]}-{pair[1]}”: {what}, numbered from 0 to {count - 1:,}"


def _quoted(text: str) -> str:
    """A little of a stranger's text, in one line and as text."""
    return plain(" ".join(text.split())[:MOST_QUOTED])


def _beyond_the_facts(choices: Mapping[str, Choice], chosen: dict[str, Any], query: Mapping[str, str]) -> list[str]:
    """Take back what is chosen of facts or relations that the fact set does not hold; a sentence each."""
    wanted = [name for name in OF_FACTS if chosen[name] != choices[name].default]
    there = _facts(chosen["facts"]) if wanted else None
    if there is None:
        return []
    count, notes = len(there), []
    for name in wanted:
        value, left = chosen[name], choices[name].default
        if name == "relations":
            known = {fact.relation for fact in there.facts}
            left = tuple(relation for relation in value if relation in known)
            wrong = left != tuple(value)
            why = f"relations of these facts are {plain(', '.join(sorted(filter(None, known))))}"
            why += "; the others that are asked for count" if left else ""
        else:
            highest = {"watched": lambda v: v, "queue": lambda v: max(fact for fact, _ in v)}.get(name, max)(value)
            wrong = highest >= count + (name == "window")  # a window ends before its last number
            why = f"there are {count:,} facts, numbered from 0 to {count - 1:,}"
        if wrong:
            notes.append(f"{name} “{_quoted(query[name])}”: {why}")
            chosen[name] = left
    return notes


def _facts(name: str) -> FactSet | None:
    """A fact set by what the pages call it, or None if it cannot be read: the page will say why."""
    try:
        return facts.load(name if name in BUILTIN_SETS else saved.path_of(default_root(), name))
    except (KisError, OSError):
        return None
