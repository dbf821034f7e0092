"""Checkpoints of a pass over text, from which a killed pass resumes: its sums and its place, kept in the store.

A checkpoint is one value a layer, and a head that names the moment at which all of them were written. The head is
written last, so that a reader finds either the whole checkpoint of one moment or the whole one before it.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from kis_core.errors import shown
from kis_core.store.leftovers import HEAD, PART
from kis_core.store.store import Store, StoreError, key_of

log = logging.getLogger(__name__)

SECONDS_BETWEEN = 60.0
WRITING_SHARE = 0.05  # of the time, at most, goes into checkpoints: sums of tens of gigabytes take minutes to write


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that was read: the place of the pass, and its arrays by name."""

    place: dict[str, Any]
    arrays: Mapping[str, np.ndarray]


class Checkpoints:
    """The checkpoints of one pass.

    Args:
        store: where they lie.
        ingredients: all that determines the pass.
        about: description for people; stored with the head.
        clock: gives the time in seconds.
    """

    def __init__(
        self,
        store: Store,
        ingredients: Mapping[str, Any],
        about: Mapping[str, Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._ingredients, self._about, self._clock = store, dict(ingredients), dict(about), clock
        self._head = key_of(HEAD, ingredients)
        self._last, self._cost = clock(), 0.0

    def due(self) -> bool:
        """Whether it is time for the next checkpoint: a minute after the last, or later where writing takes long."""
        return self._clock() - self._last >= max(SECONDS_BETWEEN, self._cost / WRITING_SHARE)

    def save(self, place: Mapping[str, Any], parts: Iterator[tuple[str, dict[str, np.ndarray]]]) -> None:
        """Write a checkpoint. A failure is logged and the pass goes on, as the next one may succeed.

        Args:
            place: of the pass, as JSON.
            parts: arrays by name, made one after the other so that only one at a time lies in memory twice.
        """
        began = self._clock()
        try:
            self._write(place, parts)
        except (StoreError, MemoryError) as error:
            log.warning("the checkpoint was not kept: %s", shown(str(error)) or type(error).__name__)
        self._sweep()
        self._last = self._clock()
        self._cost = self._last - began

    def read(self) -> Checkpoint | None:
        """The last checkpoint; None where there is none, or where a part of it is gone or damaged."""
        head = self._store.get(self._head)
        if head is None:
            return None
        arrays: dict[str, np.ndarray] = {}
        for name in head.meta["names"]:
            part = self._store.get(self._part(name, head.meta["moment"]))
            if part is None:
                return None
            arrays |= part.arrays
        return Checkpoint(head.meta["place"], arrays)

    def clear(self) -> None:
        """Delete the checkpoints of this pass, and what a killed writer left of them."""
        with suppress(StoreError):  # what is left is listed in the Library, and can be deleted there
            self._store.delete(self._head)
        self._sweep()

    def _write(self, place: Mapping[str, Any], parts: Iterator[tuple[str, dict[str, np.ndarray]]]) -> None:
        moment, names = secrets.token_hex(8), []  # a new name: nothing that an older head names is written over
        with self._store.naming():  # the head comes last; without it the parts would look like those of a dead writer
            for name, arrays in parts:
                self._store.put(self._part(name, moment), {"of": self._head, "moment": moment, "name": name}, arrays)
                names.append(name)
            meta = {"place": dict(place), "moment": moment, "names": names, "about": self._about}
            self._store.put(self._head, meta, {})

    def _sweep(self) -> None:
        """Delete the parts that the head does not name."""
        with suppress(StoreError):  # the next sweep will
            head = self._store.find(self._head)
            for key, meta in self._store.listed(PART).items():
                if meta.get("of") == self._head and not (head and meta.get("moment") == head.meta["moment"]):
                    self._store.delete(key)

    def _part(self, name: str, moment: str) -> str:
        return key_of(PART, self._ingredients | {"name": name, "moment": moment})


def unfinished(store: Store) -> list[dict[str, Any]]:
    """Passes that were begun and not ended: their `about`, and the number of tokens read."""
    return [meta["about"] | {"tokens_read": meta["place"]["tokens"]} for meta in store.listed(HEAD).values()]
