"""Widgets that show a choice between a few names and change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import streamlit as st

from pages.parts.frame import state

V = TypeVar("V")


def segments(choice: str, label: str, names: Mapping[str, str], *, bare: bool = False, help: str | None = None) -> str:
    """All names side by side; returns the chosen one.

    Args:
        choice: its name in `state.CHOICES`.
        label: above the names, unless they are drawn bare.
        names: on the screen, by their names in links.
        bare: without the label.
        help: its tooltip.
    """
    visibility: Any = "collapsed" if bare else "visible"
    options: dict[str, Any] = {"label_visibility": visibility, "help": help} | state.widget(choice)
    return str(st.segmented_control(label, list(names), format_func=names.__getitem__, required=True, **options))


def select(choice: str, label: str, names: Mapping[str, str], help: str) -> None:
    """As `segments`, but one below the other, in a list that opens."""
    st.selectbox(label, list(names), format_func=names.__getitem__, help=help, **state.widget(choice))


def look(choice: str, looks: Mapping[str, tuple[str, Callable[[V], None]]], view: V) -> None:
    """Let one of several looks at a view be chosen, and draw it; each has a name on the screen and a function."""
    chosen = segments(choice, "Below", {name: label for name, (label, _) in looks.items()}, bare=True)
    looks[chosen][1](view)
