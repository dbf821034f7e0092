"""What a simulator keeps: in memory what it worked out last, in the store the values it searched for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from cachetools import LRUCache

from kis_core.store.store import Entry

if TYPE_CHECKING:
    from kis_core.editing import Value

MOST = 400  # things kept; the largest of them are a layer's C and gradients

T = TypeVar("T")


class WorkedOut:
    """Things worked out, each once, the least recently used let go first. Safe to share between threads."""

    def __init__(self) -> None:
        self._things: LRUCache[Hashable, Any] = LRUCache(MOST)
        self._lock = threading.Lock()

    def once(self, name: Hashable, work_out: Callable[[], T]) -> T:
        """The thing of that name, worked out now if it is not there."""
        with self._lock:
            if name in self._things:
                return cast(T, self._things[name])
        thing = work_out()  # outside the lock: others go on meanwhile, and what both work out is the same
        with self._lock:
            self._things[name] = thing
        return thing

    def __contains__(self, name: Hashable) -> bool:
        return name in self._things


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
