"""Where the δ of an edit comes from: a search, or a value that is at hand.

A method makes an edit of a fact's own key and of a δ. Within `found_by` the δ is whatever the finder gives, so that any
method that searches for values makes an edit of one that was found elsewhere, or tells what its searches found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Found:
    """A δ, and how the search for it went.

    Attributes:
        delta: δ, (d,) float64.
        losses: after 0, 1, 2, … steps.
        probability: of the new object in the contexts (geometric mean a token), with δ added.
    """

    delta: np.ndarray
    losses: tuple[float, ...]
    probability: float


Finder = Callable[[int, Callable[[], Found]], Found]
"""Gives a δ, from the layer it is for and the search for it, which the finder may make or leave out."""

_finder: ContextVar[Finder | None] = ContextVar("finder", default=None)


@contextmanager
def found_by(finder: Finder) -> Iterator[None]:
    """Within the block, and in this thread alone, every δ that a method asks for comes from `finder`."""
    token = _finder.set(finder)
    try:
        yield
    finally:
        _finder.reset(token)


def find(layer: int, search: Callable[[], Found]) -> Found:
    """A δ for a layer: from the finder of the block one is in, or by the search."""
    finder = _finder.get()
    return finder(layer, search) if finder else search()
