"""Edits that are kept with a result, forecast and measured: what a reader can be shown without a model.

`kept_edits` finds them, `events` says what came of each, `event` chooses the one that tells a stranger most, and
`first_edited` the pair that the page of edits opens on. All read numbers that are stored; none needs torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kis_core.editing import RANK_ONE
from kis_core.models.files import ModelError
from kis_core.models.loaded import LoadedModel
from kis_core.results import pairs
from kis_core.results.result import Result
from kis_core.results.tags import NO_TAG
from kis_core.simulator.edit_records import EditRequest
from kis_core.simulator.one_edit import Simulator
from kis_core.simulator.stored import EDIT
from kis_core.store.store import Entry, Store


def without_model(result: Result, store: Store) -> Simulator:
    """The simulator of a result for what is stored; it loads no model."""

    def refuse() -> LoadedModel:
        raise ModelError(f"only what is stored is shown; no model is loaded, and {result.request.model} was needed")

    return Simulator(result, store, refuse)


def kept_edits(bench: Simulator) -> list[EditRequest]:
    """The edits of a result that are kept, by layer, fact, new object and method.

    A kept edit does not name its request, so it is found by what its key is made of: the fact by its row of P, the new
    object among those that the fact may be edited to, and settings that suit the model.
    """
    return sorted(_found(bench), key=lambda request: (request.layer, request.fact, request.target, request.method))


def _found(bench: Simulator) -> Iterator[EditRequest]:
    rows = len(bench.facts)
    for item in bench.store.inventory(EDIT):
        layer = item.meta["layer"]
        entry = bench.store.get(item.key) if layer in bench.result.layers else None
        if entry is None or len(entry.arrays["p"]) != rows:
            continue
        p, kept = bench.result.p[bench.result.at(layer)], entry.arrays["p"]
        same = np.flatnonzero(((p == kept) | (np.isnan(p) & np.isnan(kept))).all(axis=1))
        yield from _named(bench, item.key, layer, same.tolist())


def _named(bench: Simulator, key: str, layer: int, facts: list[int]) -> Iterator[EditRequest]:
    """The request that an edit of one of these facts answers."""
    for fact in facts:
        for target in bench.known_facts.new_objects(bench.facts[fact]):
            for kind in RANK_ONE:
                request = bench.request(fact, target, layer, kind.name)
                if bench.edit_key(request) == key:
                    yield request


@dataclass(frozen=True, eq=False)
class Event:
    """A kept edit of full strength as a story: what was said before and after it, and what was forecast.

    Attributes:
        request: the edit.
        took: the new object became the model's first choice.
        before, after: (m,) the model's first choice for each fact, as a word.
        coming: the words that answers were forecast to change to, by fact.
        forecast, measured: (m,) change of the log-odds of each fact's own answer, to first order in all tokens.
        changed: the other facts without a tag whose answer changed: those that follow first, then by falling loss.
        follow: how many of them now answer with the new object.
        tagged: how many other facts changed their answer that have a tag.
        moved: the fact without a tag whose log-odds changed most; the edited one where there is none.
    """

    request: EditRequest
    took: bool
    before: tuple[str, ...]
    after: tuple[str, ...]
    coming: Mapping[int, str]
    forecast: np.ndarray
    measured: np.ndarray
    changed: tuple[int, ...]
    follow: int
    tagged: int
    moved: int

    @classmethod
    def of(cls, bench: Simulator, request: EditRequest, entry: Entry) -> Event:
        """The event that a kept edit tells of."""
        every, e, after = np.arange(len(bench.facts)), request.fact, tuple(entry.meta["answers"])
        free = bench.result.tags(request.layer).holds(NO_TAG, np.full_like(every, e), every)
        measured, flipped = entry.arrays["measured.log_odds"], entry.arrays["flipped"].astype(bool) & (every != e)
        follows = np.array([word in (request.target, request.target.split()[0]) for word in after])
        order = np.lexsort((measured, ~follows))
        changed = order[(flipped & free)[order]]
        size = np.where(free & np.isfinite(measured), np.abs(measured), -1.0)
        return cls(
            request,
            bool(entry.meta["success"]["efficacy"]),
            bench.answers_before,
            after,
            {int(fact): word for fact, strength, word in entry.meta["flips"] if strength <= 1.0 and fact != e},
            entry.arrays["all_tokens"],
            measured,
            tuple(changed.tolist()),
            int(follows[changed].sum()),
            int((flipped & ~free).sum()),
            int(size.argmax()) if free.any() else e,
        )

    @property
    def told(self) -> tuple[int, ...]:
        """The other facts to tell of: those that changed, or else the one that moved most."""
        return self.changed or ((self.moved,) if self.moved != self.request.fact else ())

    @property
    def foreseen(self) -> int:
        """How many of the changed answers were forecast to change."""
        return sum(fact in self.coming for fact in self.changed)

    @property
    def unfulfilled(self) -> int:
        """How many answers were forecast to change and stayed."""
        return sum(self.before[fact] == self.after[fact] for fact in self.coming)

    def frame(self, bench: Simulator) -> pd.DataFrame:
        """Every fact: its answers before and after, the answer forecast, and both changes of its log-odds.

        Returns:
            columns `fact`, `told`, `before`, `after`, `after_forecast`, `forecast`, `measured`, by rising `measured`.
        """
        frame = pd.DataFrame(
            {
                "fact": range(len(self.before)),
                "told": [pairs.label_of(fact) for fact in bench.facts],
                "before": self.before,
                "after": self.after,
                "after_forecast": [self.coming.get(fact, word) for fact, word in enumerate(self.before)],
                "forecast": self.forecast,
                "measured": self.measured,
            }
        )
        return frame.sort_values("measured", kind="stable", ignore_index=True)


def events(bench: Simulator) -> list[Event]:
    """What the kept edits of a result tell of, by layer, fact, new object and method."""
    sizes = {"m": len(bench.facts), **bench.widths}
    kept = ((one, bench.store.get(bench.edit_key(one), **sizes)) for one in kept_edits(bench))
    return [Event.of(bench, request, entry) for request, entry in kept if entry]


def event(told: Sequence[Event], layer: int) -> Event | None:
    """The one of the `events` of a result that tells a stranger most; None where there is none.

    An edit of the layer looked at that took, and that some fact follows, is told before any of another layer. Otherwise
    it is the edit that took and that most facts follow: they now answer with its new object. Among equals, it is the
    one that changes most other answers, then one of the layer looked at, then the first by layer and fact. Facts with a
    tag do not count, for the prompts alone may explain why they change.
    """
    here = [one for one in told if one.request.layer == layer]
    follow = [one for one in here if one.took and one.follow]
    return max(follow or [*here, *told], key=_tells, default=None)


def first_edited(result: Result, told: Sequence[Event], layer: int) -> tuple[int, int] | None:
    """The pair that an edit in a layer is shown of before any is picked: fact e to edit, and fact j beside it.

    Of the kept edits of the layer, which are shown at once, it is that of the one that tells most (`event`); where none
    is kept, it is the strongest pair without a tag. None where no pair has a value.

    Args:
        result: the analysis.
        told: the `events` of it.
        layer: to edit.
    """
    here = [one for one in told if one.request.layer == layer]
    if not here:
        return pairs.first_shown(result, layer)
    e = max(here, key=_tells).request.fact
    return e, pairs.partner(result, layer, e)


def _tells(one: Event) -> tuple[bool, int, int]:
    return one.took, one.follow, len(one.changed)
