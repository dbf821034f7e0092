"""Which layers of a model can be edited: one rule for whoever offers, draws or refuses edits. Needs no torch."""

from __future__ import annotations


def editable_layers(count: int) -> range:
    """The editable layers of a model that has `count`: all but the last.

    After the last one nothing moves between positions, so what it writes at a subject never reaches the answer, unless
    the prompt ends with its subject (see `editing.reaches_answer`).
    """
    return range(max(0, count - 1))
