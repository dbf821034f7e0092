"""What is being looked at: chosen once, kept across pages in the session, and written into the address bar.

Streamlit forgets a widget's value, and a bound query parameter, when the page changes. So the choices live in one
dictionary of the session; widgets show it and write to it, and the address bar follows it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import streamlit as st

from kis_core.facts import BUILTIN_NAME, BUILTIN_SETS
from kis_core.models import catalog
from kis_core.ordering import ORDERS
from pages.parts.text import plain

LIMITS = ("auto", "0.1", "0.2", "0.3", "0.5", "1")
DEFAULTS: dict[str, Any] = {
    "model": catalog.DEFAULT,
    "layer": 0,
    "facts": BUILTIN_NAME,
    "pair": None,
    "order": ORDERS[0],
    "limit": LIMITS[0],
    "diagonal": "shown",
}
PAIR = re.compile(r"(\d{1,6})-(\d{1,6})")


def open_link() -> list[str]:
    """At the start of a session, choose what the link asks for.

    Returns:
        what it asks for and there is not, a sentence each, until something else is chosen.
    """
    if "chosen" in st.session_state:
        return list(st.session_state["missing"])
    chosen = dict(DEFAULTS)
    st.session_state["chosen"] = chosen
    link = st.query_params.to_dict()
    models = {entry.name: entry for entry in catalog.available()}
    options = {
        "model": tuple(models), "facts": tuple(BUILTIN_SETS), "order": ORDERS, "limit": LIMITS,
        "diagonal": ("shown", "hidden"),
    }  # fmt: skip
    notes = []
    for name, known in options.items():
        wanted = link.get(name)
        if wanted in known:
            chosen[name] = wanted
        elif wanted is not None:
            notes.append(f"{name} “{plain(wanted[:60])}”: there are {', '.join(known)}")
    layers = models[chosen["model"]].layers
    if (layer := link.get("layer")) is not None:
        if re.fullmatch(r"\d{1,4}", layer) and int(layer) < layers:
            chosen["layer"] = int(layer)
        else:
            notes.append(f"layer “{plain(layer[:20])}”: {chosen['model']} has layers 0 to {layers - 1}")
    if (pair := link.get("pair")) is not None:
        if found := PAIR.fullmatch(pair):
            chosen["pair"] = (int(found[1]), int(found[2]))
        else:
            notes.append(f"pair “{plain(pair[:20])}”: a pair of facts is written like 0-1")
    st.session_state["missing"] = notes
    return notes


def get(name: str) -> Any:
    """A choice, by its name in `DEFAULTS`."""
    return st.session_state["chosen"][name]


def choose(name: str, value: Any) -> None:
    """Make a choice, for all pages and for the link."""
    st.session_state["chosen"][name] = value
    st.session_state["missing"] = []
    write_link()


def widget(name: str, read: Callable[[Any], Any] = lambda value: value, write: Any = None) -> dict[str, Any]:
    """Arguments that make a widget show a choice and change it.

    Args:
        name: of the choice.
        read: the choice from the widget's value.
        write: the widget's value for the present choice, where the two differ.
    """
    key = f"choose-{name}"
    st.session_state[key] = get(name) if write is None else write

    def changed() -> None:
        choose(name, read(st.session_state[key]))

    return {"key": key, "on_change": changed}


def write_link() -> None:
    """Let the address bar say what is chosen, where it is not the default."""
    link = {}
    for name, value in st.session_state["chosen"].items():
        if value != DEFAULTS[name]:
            link[name] = f"{value[0]}-{value[1]}" if name == "pair" else str(value)
    if st.query_params.to_dict() != link:
        st.query_params.from_dict(link)


def picked(facts: int) -> tuple[int, int] | None:
    """The picked pair, if it is one of this many facts."""
    pair: tuple[int, int] | None = get("pair")
    return pair if pair and max(pair) < facts else None
