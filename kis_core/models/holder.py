"""Models in memory, each loaded once and lent to whoever needs it: analyses, simulators, large sets and commands."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from cachetools import LRUCache

from kis_core.errors import refuse_if_read_only
from kis_core.machine import ALL, DTYPE_BYTES
from kis_core.models import loading
from kis_core.models.files import ModelFiles

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel

MOST_BYTES = 4 * 10**9  # of weights held together: all of the demo family, or models of a billion parameters


class _Held(NamedTuple):
    model: LoadedModel
    bytes: int


class LoadedModels:
    """Holds models that were loaded, and lends them. Safe to share between threads: what is lent is only read.

    The models whose weights take `most_bytes` together stay; of more, the one that was asked for longest ago is let go
    first, and before the next is loaded, so that it finds the memory. A larger model stays as well, but alone.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._held: LRUCache[tuple[str, str, str], _Held] = LRUCache(most_bytes, getsizeof=lambda held: held.bytes)
        self._lock, self._loading = threading.Lock(), threading.Lock()

    def lend(self, weights: str, files: Callable[[], ModelFiles], *, device: str, dtype: str) -> LoadedModel:
        """The model with these weights, loaded now if it is not held.

        Args:
            weights: fingerprint of its files.
            files: gives them; called only if the model has to be loaded.
            device: where it is to run; "auto" is content with wherever it is held, see else `loading.load`.
            dtype: what it computes in.

        Raises:
            ModelError, UnsupportedArchitecture: see `loading.load`.
            NotOffered: in read-only mode.
        """
        refuse_if_read_only("Running a model")
        if held := self._find(weights, device, dtype):
            return held
        with self._loading:  # who waits here may find it loaded meanwhile
            if held := self._find(weights, device, dtype):
                return held
            on_disk = files()
            size = min(on_disk.parameters() * DTYPE_BYTES.get(dtype, 0), int(self._held.maxsize))
            self._make_room(size)
            loaded = loading.load(on_disk, device=device, dtype=dtype)
            with self._lock:
                self._held[weights, device if device == ALL else str(loaded.device), dtype] = _Held(loaded, size)
            return loaded

    @property
    def held_bytes(self) -> int:
        """Bytes of all weights held."""
        with self._lock:
            return int(self._held.currsize)

    def let_go(self) -> None:
        """Hold no model any more, so that their memory is free; what is lent stays there until its work is done."""
        with self._lock:
            self._held.clear()
        gc.collect()  # a model of several parts may refer to itself

    def _find(self, weights: str, device: str, dtype: str) -> LoadedModel | None:
        with self._lock:
            fitting = [key for key in self._held if (key[0], key[2]) == (weights, dtype) and device in ("auto", key[1])]
            return self._held[fitting[0]].model if fitting else None

    def _make_room(self, size: int) -> None:
        with self._lock:
            count = len(self._held)
            while self._held and self._held.currsize + size > self._held.maxsize:
                self._held.popitem()
        if len(self._held) < count:
            gc.collect()  # a model of several parts may refer to itself
