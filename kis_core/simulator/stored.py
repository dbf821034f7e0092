"""What a simulator keeps: in memory what it worked out last, in the store values and, where asked to, whole edits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from cachetools import LRUCache

from kis_core.simulator.edit_records import EditOutcome, EditRequest, FlipForecast, Forecast
from kis_core.store.store import Entry

if TYPE_CHECKING:
    from kis_core.editing import Value

EDIT = "performed-edit"  # kind of the keys that whole edits are stored under
LINEAR = ("p", "shares", "shift", "subject_token", "all_tokens")
MEASURED = ("shift", "log_odds", "log_prob")
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


def edit_to_entry(forecast: Forecast, outcome: EditOutcome, scores: Mapping[str, np.ndarray]) -> Entry:
    """An edit of full strength as it is stored: its forecast with flips, and its outcome with scores."""
    flips, measured = forecast.flips, outcome.measured
    meta = {
        "layer": forecast.edit.layer,
        "own_key": forecast.own_key,
        "flips": list(zip(flips.at, flips.strength, flips.answer, strict=True)) if flips else [],
        "landing": asdict(forecast.landing) if forecast.landing else None,
        "answers": list(measured.answers),
        "success": asdict(outcome.success),
        "scores": list(scores),
    }
    arrays = {name: getattr(forecast, name) for name in LINEAR}
    arrays |= {f"measured.{name}": getattr(measured, name) for name in MEASURED}
    arrays |= {"reach": forecast.edit.reach, "delta": forecast.edit.delta, "propagated": outcome.propagated}
    arrays |= {"flipped": outcome.flipped.astype(np.uint8), "scores": np.stack([*scores.values()])}
    return Entry(meta, arrays)


def edit_from_entry(entry: Entry, request: EditRequest) -> tuple[Forecast, EditOutcome]:
    """The forecast and the outcome that `edit_to_entry` wrote of an edit."""
    from kis_core.editing import Edit, Success
    from kis_core.editing.scores import Scores
    from kis_core.spillover import Measurement
    from kis_core.spillover.landing import Landing

    meta, arrays = entry.meta, entry.arrays
    at, strength, answer = (tuple(flip[part] for flip in meta["flips"]) for part in range(3))
    linear: dict[str, Any] = {name: arrays[name] for name in LINEAR}
    changes: dict[str, Any] = {name: arrays[f"measured.{name}"] for name in MEASURED}
    forecast = Forecast(
        edit=Edit(meta["layer"], arrays["reach"], arrays["delta"]),
        flips=FlipForecast(at, strength, answer),
        landing=Landing(**meta["landing"]) if meta["landing"] else None,
        own_key=meta["own_key"],
        **linear,
    )
    measured = Measurement(answers=tuple(meta["answers"]), **changes)
    scores = dict(zip(meta["scores"], arrays["scores"], strict=True))
    said = {name: Scores(**meta["success"][name]) for name in ("scores", "scores_before")}
    success, flipped = Success(**meta["success"] | said), arrays["flipped"].astype(bool)
    return forecast, EditOutcome(request, 1.0, measured, arrays["propagated"], success, flipped, scores)
