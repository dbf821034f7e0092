"""What a simulator keeps: in memory what it worked out last, in the store the values it searched for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from kis_core.store.store import Entry

if TYPE_CHECKING:
    from kis_core.editing import Value

MOST = 400  # things kept; the largest of them are a layer's C and gradients

T = TypeVar("T")


class LeastRecentlyUsed:
    """Things worked out, each once, the ones not asked for longest let go first. Safe to share between threads."""

    def __init__(self) -> None:
        self._things: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def once(self, what: Hashable, make: Callable[[], T]) -> T:
        """The thing of that name, made now if it is not there."""
        with self._lock:
            if what in self._things:
                self._things.move_to_end(what)
                return cast(T, self._things[what])
        made = make()  # outside the lock: others go on meanwhile, and what both make is the same
        with self._lock:
            self._things[what] = made
            while len(self._things) > MOST:
                self._things.popitem(last=False)
        return made

    def __contains__(self, what: Hashable) -> bool:
        return what in self._things


def value_to_entry(value: Value) -> Entry:
    """A value as it is stored."""
    parts = asdict(value)
    arrays = {name: part for name, part in parts.items() if isinstance(part, np.ndarray)}
    return Entry({name: part for name, part in parts.items() if name not in arrays}, arrays)


def value_from_entry(entry: Entry) -> Value:
    """The value that `value_to_entry` wrote."""
    from kis_core.editing import Value

    parts: dict[str, Any] = entry.arrays | entry.meta
    return Value(**parts | {"losses": tuple(parts["losses"])})
