"""What is read is what it must be: changed values with right checksums are refused, set aside, or open everywhere."""

from __future__ import annotations

import io
import logging
import os
import random
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from kis_core.analysis.large_sets import analysis, tally
from kis_core.editing import Value
from kis_core.library import bundles
from kis_core.library.bundles import BundleError
from kis_core.lifelong.budget import Budget
from kis_core.lifelong.pilots import Pilots
from kis_core.lifelong.run_state import RunState
from kis_core.lifelong.trace import EditTrace
from kis_core.request import Request
from kis_core.results import archive
from kis_core.results.result import Result
from kis_core.spillover import Sensitivity
from kis_core.store import schema, schema_of_results
from kis_core.store.store import Entry, Store
from kis_core.superposition.leverage import LEVELS
from tests.facts import mutation_tools
from tests.facts.mutation_tools import good, mutated, opened, packed_up
from tests.store.store_tools import close

QUICK, MANY = 60, 10_000  # mutations; each is tried as a bundle, and as a value of the store itself
GOOD = good()
RESULT = next(key for key in GOOD if key.startswith(archive.KIND))
SECOND_MOMENT = next(key for key in GOOD if key.startswith("second-moment"))


def test_good_values_are_taken_and_open_everywhere(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    taken = bundles.load(store, io.BytesIO(packed_up(GOOD)))
    assert set(taken.keys) == set(GOOD)
    assert opened(store, tmp_path / "out", GOOD) == 1
    assert all(store.verify(key) for key in GOOD)
    assert list((store.root / "damaged").iterdir()) == []


def tried(count: int, seed: int, tmp_path: Path) -> tuple[int, int]:
    """Try mutations; how many were refused, and how many opened."""
    choose, refused, whole = random.Random(seed), 0, 0
    store = Store(tmp_path / "store")
    for key, value in GOOD.items():
        store.put(key, value.meta, value.arrays)
    for number in range(count):
        key = choose.choice(sorted(GOOD)) if choose.random() < 0.6 else RESULT
        changed = mutated(GOOD[key], choose)
        try:
            bundles.load(store, io.BytesIO(packed_up({key: changed})))
            whole += 1
        except BundleError:
            refused += 1
            try:  # the same, as if an older program or a hand had put it into the store
                store.put(key, changed.meta, changed.arrays)
            except (TypeError, ValueError):
                continue  # not even JSON
        try:
            opened(store, tmp_path / "out", {key: changed}, key)
        except Exception as error:
            raise AssertionError(f"mutation {number} of {key}: {_difference(GOOD[key], changed)}") from error
        store.put(key, GOOD[key].meta, GOOD[key].arrays)
    close(store)
    return refused, whole


def _difference(before: Entry, after: Entry) -> str:
    changed = [name for name in {*before.meta, *after.meta} if before.meta.get(name, ...) != after.meta.get(name, ...)]
    parts = [f"{name}: {before.meta.get(name)!r:.200} -> {after.meta.get(name)!r:.200}" for name in changed]
    return "; ".join([*parts, *(f"{name}: {array.shape} {array.dtype}" for name, array in after.arrays.items())])


@pytest.fixture
def fleeting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to outlive a loss of power here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.usefixtures("fleeting")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("count", "seed"), [(QUICK, 1), pytest.param(MANY, 2, marks=pytest.mark.stress)])
def test_a_changed_value_is_refused_or_opens_everywhere(tmp_path: Path, count: int, seed: int) -> None:
    refused, whole = tried(count, seed, tmp_path)
    assert refused > count / 2
    assert whole > 0, "some changes, such as another name, do no harm"


def without_target(value: Entry) -> Entry:
    facts = [{name: text for name, text in fact.items() if name != "target"} for fact in value.meta["facts"]]
    return Entry(value.meta | {"facts": facts}, value.arrays)


def with_matrices(make: Callable[[np.ndarray], np.ndarray]) -> Callable[[Entry], Entry]:
    return lambda value: Entry(value.meta, {name: make(array) for name, array in value.arrays.items()})


def half_a_character(value: Entry) -> Entry:
    return Entry(value.meta | {"key_tokens": ["\ud800"] * 4}, value.arrays)


SEEN: tuple[tuple[str, Callable[[Entry], Entry], str], ...] = (
    (RESULT, without_target, r"facts\[0\]\.target is missing"),
    (RESULT, with_matrices(lambda _: np.zeros((1, 1, 1))), r"has shape \(1, 1, 1\); L = 2 was expected"),
    (RESULT, with_matrices(np.zeros_like), "has 0 on its diagonal; 1 was expected"),
    (RESULT, half_a_character, "half a Unicode character"),
    (SECOND_MOMENT, lambda value: Entry({}, value.arrays), "tokens is missing"),
    (SECOND_MOMENT, with_matrices(lambda _: np.ones(11)), "triangle has 11 entries; 10 were expected"),
    (SECOND_MOMENT, with_matrices(np.zeros_like), "no second moment"),
    (SECOND_MOMENT, with_matrices(lambda triangle: np.full_like(triangle, np.nan)), "NaN"),
)


@pytest.mark.parametrize(("key", "change", "reason"), SEEN, ids=[reason for *_, reason in SEEN])
def test_what_was_seen_to_fail_is_refused_with_the_reason_and_set_aside_in_a_store(
    key: str, change: Callable[[Entry], Entry], reason: str, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    changed = change(GOOD[key])
    with pytest.raises(BundleError, match=reason) as refused:
        bundles.load(store, io.BytesIO(packed_up({key: changed})))
    assert key in str(refused.value)
    assert store.inventory() == []
    store.put(key, changed.meta, changed.arrays)
    with caplog.at_level(logging.WARNING):
        assert store.get(key) is None
    assert key in caplog.text
    assert not store.holds(key)


def test_c_of_another_model_is_damaged_to_whom_knows_its_width(store: Store) -> None:
    value = GOOD[SECOND_MOMENT]
    store.put(SECOND_MOMENT, value.meta, {"triangle": np.ones(10)})
    assert store.get(SECOND_MOMENT, d_m=4) is not None
    assert store.get(SECOND_MOMENT, d_m=mutation_tools.MLP_WIDTH) is None
    assert not store.holds(SECOND_MOMENT)


def test_a_value_of_another_version_is_not_set_aside_by_looking_at_it(store: Store) -> None:
    value = GOOD[RESULT]
    store.put(RESULT, value.meta | {"format": archive.FORMAT + 1}, value.arrays)
    assert archive.computed(store) == []
    assert store.verify(RESULT)
    assert store.holds(RESULT)


def names(table: type) -> set[str]:
    return {one.name for one in fields(table)}


def test_fields_and_formats_are_those_of_the_classes() -> None:
    of = {kind: set(actual.arrays or ()) for kind, actual in schema.KINDS.items()}
    assert of["superposition"] <= names(Result)
    assert of["value"] == names(Value) - {"losses", "probability", "everywhere"}
    assert of["sensitivity"] == names(Sensitivity) - {"layer"}
    state = {f"state.{name}" for name in names(RunState)}
    assert of["lifelong"] == names(EditTrace) - {"queue", "words", "text"} | state
    about = {"planned", "searches", "seconds", "pilots"}
    assert of["budget"] == names(Budget) - about | {f"pilots.{name}" for name in names(Pilots)}
    assert schema.KINDS["superposition"].format == archive.FORMAT
    assert schema.KINDS[analysis.KIND].format == analysis.FORMAT
    assert len(tally.EDGES) == schema_of_results.EDGES
    assert len(LEVELS) == schema_of_results.LEVELS
    with pytest.raises(schema.Misfit, match="not known"):
        schema_of_results.REQUEST({"other": 1}, "request")
    schema_of_results.REQUEST({name: None if name in ("tokens", "layers", "revision", "documents", "settled") else
                    getattr(Request(), name) for name in names(Request)}, "request")  # fmt: skip
