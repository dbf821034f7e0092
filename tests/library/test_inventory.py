"""The shelf: what is computed in words, whose C is whose, and what goes when something is deleted or cleared."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kis_core.analysis import pipeline
from kis_core.analysis.second_moments import packed
from kis_core.library import inventory
from kis_core.library.inventory import BETWEEN, MOMENTS, RESULT, RUN, Shelved, shelf
from kis_core.request import Request
from kis_core.results import archive
from kis_core.results.result import Result
from kis_core.store.store import Store, key_of
from tests.results.results_tools import MLP_WIDTH, made
from tests.store.store_tools import leftovers, matrices

LAYERS, FACTS = 2, 4
WEIGHTS = {"small": "1" * 64, "large": "2" * 64}
PARAMETERS = {"small": 10, "large": 10**9}
QUEUE = [["France", "The capital of {} is", "Paris", "capital", "Rome"], ["Chad", "{} is", "a", "", "b"]]


def result_of(model: str = "small", facts: str = "builtin", tokens: int = 100, **provenance: Any) -> Result:
    p = np.random.default_rng(0).normal(0, 0.1, (LAYERS, FACTS, FACTS))
    p[:, range(FACTS), range(FACTS)] = 1
    result = made(p)
    request = Request(model=model, facts=facts, tokens=tokens)
    who = {"model": model, "weights_sha256": WEIGHTS.get(model, "3" * 64), "parameters": PARAMETERS.get(model, 5)}
    asked = {"request": asdict(request), "facts": facts, "tokens_requested": tokens, "tokens_counted": tokens}
    source = result.provenance | who | asked
    return replace(result, request=request, provenance=source | provenance)


def keep(store: Store, model: str = "small", facts: str = "builtin", tokens: int = 100, **provenance: Any) -> str:
    """Put a result into a store; its key."""
    result = result_of(model, facts, tokens, **provenance)
    key, entry = key_of(archive.KIND, {"of": [model, facts, tokens, repr(provenance)]}), archive.to_entry(result)
    store.put(key, entry.meta, entry.arrays)
    return key


def keep_moments(store: Store, result: Result, about: bool = False) -> list[str]:
    """Put C of every layer of a result into a store, with what it says about itself or without; their keys."""
    keys = [pipeline.second_moment_key(result, layer) for layer in result.layers]
    source = result.provenance
    for layer, key in zip(result.layers, keys, strict=True):
        itself = {name: source[name] for name in ("model", "corpus", "weights_sha256")} | {"layer": layer}
        meta = {"tokens": source["tokens_counted"], "told": {"documents": 3}} | ({"about": itself} if about else {})
        store.put(key, meta, {"triangle": packed(np.eye(MLP_WIDTH))})
    return keys


def the(what: str, rows: list[Shelved]) -> Shelved:
    """The only row of a kind."""
    (row,) = (row for row in rows if row.what == what)
    return row


def test_a_result_is_told_in_words_and_its_matrices_are_not_read(store: Store) -> None:
    assert shelf(store) == []
    assert inventory.described(store, "superposition-gone") is None
    key, expected = keep(store, tokens=7), result_of(tokens=7)
    (path,) = matrices(store.root)
    os.truncate(path, 11)
    os.utime(path, (100, 200))
    weights = WEIGHTS["small"]
    row = Shelved(RESULT, (key,), "superposition P", "small", "builtin", "builtin", 7, (0, 1), 11, 200.0, weights)
    assert shelf(store) == [row]
    described = inventory.described(store, key)
    assert described is not None
    assert described.p.size == 0
    assert (described.facts.facts, described.layers) == (expected.facts.facts, expected.layers)
    assert described.provenance == expected.provenance | {"request": described.provenance["request"]}
    assert [report.to_json() for report in described.reports] == [report.to_json() for report in expected.reports]


def test_results_stand_by_size_of_the_model_and_c_and_the_rest_below(store: Store) -> None:
    for model, facts, tokens in (("large", "a", 1), ("small", "b", 9), ("small", "b", 2), ("small", "a", 9)):
        keep(store, model, facts, tokens)
    keep_moments(store, result_of("small", tokens=2))
    store.put(key_of("lifelong", {}), {"queue": QUEUE}, {})
    store.put(key_of("value", {}), {}, {})
    rows = shelf(store)
    results = [(row.model, row.facts, row.tokens) for row in rows if row.what == RESULT]
    assert results == [("small", "a", 9), ("small", "b", 2), ("small", "b", 9), ("large", "a", 1)]
    assert [row.what for row in rows[4:]] == [MOMENTS, RUN, BETWEEN]
    assert len({row.id for row in rows}) == len(rows)


@pytest.mark.parametrize("about", [False, True], ids=["known by the result", "known by itself"])
def test_the_c_of_a_model_over_a_text_are_one_row(store: Store, about: bool) -> None:
    result = result_of("large", tokens=50)
    keys = keep_moments(store, result, about)
    if not about:
        keep(store, "large", tokens=50)
    row = the(MOMENTS, shelf(store))
    assert set(row.keys) == set(keys)
    assert (row.model, row.corpus, row.tokens, row.layers) == ("large", "builtin", 50, (0, 1))
    assert row.weights == WEIGHTS["large"]
    assert row.bytes == sum(item.bytes for item in store.inventory(pipeline.SECOND_MOMENT))


def test_c_of_other_models_texts_and_numbers_of_tokens_are_rows_of_their_own(store: Store) -> None:
    for model, tokens in (("small", 1), ("small", 2), ("large", 1)):
        keep_moments(store, result_of(model, tokens=tokens), about=True)
    keep_moments(store, result_of("unknown"))
    rows = shelf(store)
    assert len({row.id for row in rows}) == 4
    known = sorted((row.model, row.tokens) for row in rows if row.model)
    assert known == [("large", 1), ("small", 1), ("small", 2)]
    assert [row.layers for row in rows if not row.model] == [()], "C of an unknown model is there all the same"


def test_a_run_is_told_by_its_name_or_by_its_edits(store: Store) -> None:
    store.put(key_of("lifelong", {"n": 1}), {"queue": QUEUE}, {})
    store.put(key_of("lifelong", {"n": 2}), {"queue": QUEUE[:1]}, {})
    store.put(key_of("lifelong", {"n": 3}), {"about": {"name": "ROME, layer 0", "model": "small"}}, {})
    store.put(key_of("lifelong", {"n": 4}), {"queue": [5]}, {})
    runs = {(row.name, row.model) for row in shelf(store)}
    unnamed = {"2 edits, first France → Rome", "the edit France → Rome", "a run of edits"}
    assert runs == {("ROME, layer 0", "small"), *((name, "") for name in unnamed)}


def test_what_is_kept_in_between_is_one_row(store: Store) -> None:
    keys = {key_of(kind, {}) for kind in ("value", "sensitivity", "edit-pool", "fingerprint")}
    for key in keys:
        store.put(key, {}, {"a": np.zeros(5)})
    row = the(BETWEEN, shelf(store))
    assert set(row.keys) == keys
    assert row.bytes == sum(path.stat().st_size for path in matrices(store.root))
    assert inventory.of_this_machine(key_of("fingerprint", {}))
    assert not inventory.of_this_machine(key_of("value", {}))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda meta: {},
        lambda meta: meta | {"format": archive.FORMAT + 1},
        lambda meta: meta | {"layers": "x"},
        lambda meta: meta | {"provenance": {}},
        lambda meta: meta | {"provenance": meta["provenance"] | {"tokens_counted": "many"}},
        lambda meta: meta | {"facts": [{"subject": 5}]},
    ],
)
def test_a_result_that_cannot_be_read_is_kept_in_between(store: Store, spoil: Callable[[Any], Any]) -> None:
    entry = archive.to_entry(result_of())
    key = key_of(archive.KIND, {})
    store.put(key, spoil(entry.meta), entry.arrays)
    assert the(BETWEEN, shelf(store)).keys == (key,)


@pytest.mark.parametrize("meta", [{"about": 5}, {"about": {"model": 5, "layer": "x", "corpus": []}, "tokens": "x"}, {}])
def test_c_and_runs_that_say_nonsense_about_themselves_are_told_all_the_same(store: Store, meta: Any) -> None:
    for kind in (pipeline.SECOND_MOMENT, "lifelong"):
        store.put(key_of(kind, {}), meta, {})
    rows = [(row.what, row.model, row.layers, row.tokens) for row in shelf(store)]
    assert rows == [(MOMENTS, "", (), None), (RUN, "", (), None)]


def test_c_that_another_result_needs_stays_when_one_is_deleted(store: Store) -> None:
    first, second = keep(store, facts="a"), keep(store, facts="b")
    other, of_other = keep(store, "large"), keep_moments(store, result_of("large"))
    keys = keep_moments(store, result_of())
    assert inventory.moments_behind(store, [first]) == set(keys)
    assert inventory.moments_behind(store, [first, other]) == {*keys, *of_other}
    assert inventory.moments_alone_behind(store, [first]) == set()
    assert inventory.moments_alone_behind(store, [first, second]) == set(keys)
    assert inventory.delete(store, [first], with_moments=True) == 1
    assert all(map(store.holds, keys))
    assert inventory.delete(store, [second], with_moments=True) == 1 + len(keys)
    assert {item.key for item in store.inventory()} == {other, *of_other}
    assert inventory.delete(store, [other]) == 1
    assert {item.key for item in store.inventory()} == set(of_other)
    assert leftovers(store.root) == []


def test_damaged_values_are_found_and_set_aside(store: Store) -> None:
    keys = [keep(store, facts=name) for name in "abc"]
    item = store.find(keys[1])
    assert item is not None
    item.path.write_bytes(b"damaged")
    seen: list[int] = []
    assert inventory.verify(store, keys, seen.append) == [keys[1]]
    assert seen == [1, 2, 3]
    assert inventory.verify(store, keys) == [keys[1]]
    assert {row.keys[0] for row in shelf(store)} == {keys[0], keys[2]}


def test_files_that_no_value_names_are_cleared_unless_somebody_is_about_to_name_one(store: Store) -> None:
    key = keep(store)
    file, folder = store.root / "matrices" / "old.partial", store.root / "matrices" / "folder"
    file.write_bytes(b"x" * 10)
    folder.mkdir()
    (folder / "inside").write_bytes(b"x" * 1_000)
    assert inventory.disk(store).orphans == 1_010
    with store.naming():
        assert inventory.clear(store) == 0
    assert file.exists()
    assert inventory.clear(store) == 1_010
    assert not file.exists()
    assert not folder.exists()
    assert store.verify(key)


def test_what_was_set_aside_is_counted_and_cleared(store: Store, tmp_path: Path) -> None:
    key = keep(store)
    (path,) = matrices(store.root)
    path.write_bytes(b"x" * 30)
    assert not store.verify(key)
    (store.root / "damaged" / "index-1").mkdir()
    (store.root / "damaged" / "index-1" / "cache.db").write_bytes(b"x" * 400)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_bytes(b"x" * 5_000)
    (store.root / "damaged" / "link").symlink_to(precious)
    link = len(str(precious))
    before = inventory.disk(store)
    assert before.damaged == 430 + link
    assert before.total == sum(p.lstat().st_size for p in store.root.rglob("*") if p.is_file())
    assert inventory.clear(store) == 430 + link
    assert inventory.disk(store).damaged == 0
    assert (precious / "file").exists(), "what a link points to is not the cache's"
