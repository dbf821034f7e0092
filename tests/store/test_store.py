"""The store: round trips, what is in it, one run for many askers, a full disk."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import diskcache
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from kis_core import progress
from kis_core.store.store import DEFAULT_ROOT, ROOT_VARIABLE, Entry, Store, StoreError, default_root, key_of
from tests import store_workers
from tests.store.store_tools import KEY, close, index_of, leftovers, matrices
from tests.store_workers import SPAWN, Counting, entry, number_of

PATIENCE = 30  # seconds until a test gives up on another process or thread; reached only when something hangs
TAKEOVER_SECONDS = 2.0  # the battery's bound, from the kill of the lock's holder to the value

floats = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), floats, st.text())
json_meta = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
        max_leaves=6,
    ),
    max_size=4,
)
types = st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.uint8, np.bool_])
some_arrays = st.dictionaries(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=5).filter(lambda name: name != "__metadata__"),
    arrays_of.arrays(types, arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)),
    max_size=3,
)


@given(json_meta, some_arrays, st.booleans())
def test_what_was_put_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, meta: dict[str, Any], arrays: dict[str, np.ndarray], reverse: bool
) -> None:
    store = Store(tmp_path_factory.getbasetemp() / "round-trips")
    given_arrays = {name: array[::-1] if reverse and array.ndim else array for name, array in arrays.items()}
    store.put(KEY, meta, given_arrays)
    value = store.get(KEY)
    close(store)
    assert value is not None
    assert value.meta == meta
    assert value.arrays.keys() == given_arrays.keys()
    for name, array in given_arrays.items():
        back = value.arrays[name]
        assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_a_value_is_put_replaced_kept_for_the_next_program_and_deleted(store: Store) -> None:
    assert store.get(KEY) is None
    store.delete(KEY)
    for number in (1, 2, 2, 1):
        store.put(KEY, entry(number).meta, entry(number).arrays)
        assert number_of(store.get(KEY)) == number
        assert len(matrices(store.root)) == 1
    store.put("kind-1", entry(7).meta, entry(7).arrays)
    close(store)
    again = Store(store.root)
    assert (number_of(again.get(KEY)), number_of(again.get("kind-1"))) == (1, 7)
    assert again.holds(KEY)
    assert not again.holds(f"{KEY}0")
    again.delete(KEY)
    assert again.get(KEY) is None
    assert not again.holds(KEY)
    assert len(matrices(store.root)) == 1
    assert leftovers(store.root) == []


def test_what_cannot_be_stored_is_refused(store: Store) -> None:
    store.put(KEY, entry(1).meta, entry(1).arrays)
    for meta, value in (({"object": object()}, 1), ({"not a number": float("nan")}, 1), ({}, object()), ({}, "text")):
        with pytest.raises((TypeError, ValueError)):
            store.put(KEY, meta, {"array": np.array([value])})
    assert number_of(store.get(KEY)) == 1
    assert leftovers(store.root) == []


def test_the_environment_names_the_cache_folder_unless_it_is_empty_or_one_is_given(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Store().root == own_cache
    assert Store(tmp_path / "other").root == tmp_path / "other"
    monkeypatch.setenv(ROOT_VARIABLE, "elsewhere")
    assert default_root() == Path("elsewhere")
    monkeypatch.setenv(ROOT_VARIABLE, "")
    assert default_root() == DEFAULT_ROOT
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be used as the cache folder"):
        Store(tmp_path / "file")


def listed_numbers(store: Store, kind: str = "kind") -> dict[str, int]:
    return {key: meta["number"] for key, meta in store.listed(kind).items()}


def test_a_list_has_key_and_metadata_of_every_value_of_a_kind(store: Store) -> None:
    assert store.listed("kind") == {}
    keys = [key_of("kind", {"number": number}) for number in range(3)]
    for number, key in enumerate(keys):
        store.put(key, entry(number).meta, entry(number).arrays)
    for other in ("other", "kinder", "akind", "kind-of-another"):
        store.put(key_of(other, {}), entry(9).meta, {})
    store.put(keys[1], entry(7).meta, entry(7).arrays)
    store.delete(keys[2])
    assert listed_numbers(store) == {keys[0]: 0, keys[1]: 7}
    assert listed_numbers(Store(store.root)) == listed_numbers(store)


def test_a_list_wants_the_arrays_there_but_does_not_read_them(store: Store) -> None:
    for number in range(2):
        store.put(f"kind-{number}", entry(number).meta, entry(number).arrays)
    for path in matrices(store.root):
        path.write_bytes(b"")
    assert listed_numbers(store) == {"kind-0": 0, "kind-1": 1}
    matrices(store.root)[0].unlink()
    assert listed_numbers(store) == {"kind-1": 1}


def test_a_list_leaves_damaged_metadata_out_and_in_place(store: Store) -> None:
    for number in range(2):
        store.put(f"kind-{number}", entry(number).meta, entry(number).arrays)
    for damaged in ("replace(value, 'number', 'ember')", "'[1, 2]'", "''"):
        with index_of(store.root) as index:
            (whole,) = index.execute("SELECT value FROM Cache WHERE key = 'kind-0'").fetchone()
            index.execute(f"UPDATE Cache SET value = {damaged} WHERE key = 'kind-0'")  # noqa: S608
        assert listed_numbers(store) == {"kind-1": 1}
        with index_of(store.root) as index:
            index.execute("UPDATE Cache SET value = ? WHERE key = 'kind-0'", (whole,))
    assert len(matrices(store.root)) == 2
    assert listed_numbers(store) == {"kind-0": 0, "kind-1": 1}


@pytest.mark.parametrize("askers", [3, pytest.param(8, marks=pytest.mark.stress)])
def test_processes_that_ask_at_once_get_one_value_computed_once(tmp_path: Path, askers: int) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    start, answers = SPAWN.Barrier(askers), SPAWN.Queue()
    arguments = (tmp_path / "cache", marks, start, answers, askers / 10)
    processes = [SPAWN.Process(target=store_workers.ask, args=arguments, daemon=True) for _ in range(askers)]
    for process in processes:
        process.start()
    hashes = [answers.get(timeout=PATIENCE) for _ in processes]
    for process in processes:
        process.join(PATIENCE)
    assert len(list(marks.iterdir())) == 1
    assert len(hashes) == askers
    assert len(set(hashes)) == 1


def test_a_killed_process_leaves_its_work_to_the_one_that_waits(store: Store) -> None:
    held = SPAWN.Event()
    holder = SPAWN.Process(target=store_workers.hold, args=(store.root, KEY, held), daemon=True)
    holder.start()
    assert held.wait(PATIENCE)
    waiting = threading.Event()
    compute = Counting(entry(1))
    actual: list[Entry] = []
    waiter = threading.Thread(
        target=lambda: actual.append(store.get_or_compute(KEY, compute, lambda *_: waiting.set())), daemon=True
    )
    waiter.start()
    assert waiting.wait(PATIENCE)
    assert not actual
    os.kill(holder.pid, signal.SIGKILL)
    killed = time.monotonic()
    waiter.join(PATIENCE)
    assert time.monotonic() - killed < TAKEOVER_SECONDS
    holder.join(PATIENCE)
    assert [number_of(value) for value in actual] == [1]
    assert compute.times == 1


def test_who_waits_for_another_run_can_be_cancelled(store: Store) -> None:
    computing, enough = threading.Event(), threading.Event()

    def compute() -> Entry:
        computing.set()
        assert enough.wait(PATIENCE)
        return entry(1)

    def cancelled(stage: str, done: int, total: int) -> None:
        raise progress.Cancelled(stage)

    first = threading.Thread(target=store.get_or_compute, args=(KEY, compute))
    first.start()
    assert computing.wait(PATIENCE)
    with pytest.raises(progress.Cancelled, match="Waiting for another run"):
        store.get_or_compute(KEY, compute, cancelled)
    enough.set()
    first.join(PATIENCE)
    assert number_of(store.get(KEY)) == 1


@pytest.mark.parametrize("error", [progress.Cancelled, KeyboardInterrupt])
def test_a_failed_run_stores_nothing_and_the_next_one_computes(store: Store, error: type[BaseException]) -> None:
    def fail() -> Entry:
        raise error

    with pytest.raises(error):
        store.get_or_compute(KEY, fail)
    assert store.get(KEY) is None
    compute = Counting(entry(1))
    assert number_of(store.get_or_compute(KEY, compute)) == 1
    assert number_of(store.get_or_compute(KEY, compute)) == 1
    assert compute.times == 1


def test_a_full_disk_gives_a_typed_error_and_leaves_the_old_value_and_no_file_behind(store: Store) -> None:
    store.put(KEY, entry(1).meta, entry(1).arrays)
    close(store)
    room = {"arrays": 100_000, "meta": 100_000}
    answers = SPAWN.Queue()
    process = SPAWN.Process(
        target=store_workers.put_with_little_room, args=(store.root, KEY, room, answers), daemon=True
    )
    process.start()
    outcomes = answers.get(timeout=PATIENCE)
    process.join(PATIENCE)
    for part in room:
        assert outcomes[part].startswith(f"could not write to {store.root}: ")
        assert outcomes[part].endswith("Is the disk full or read-only?")
        assert outcomes[f"{part} afterwards"] == 1
    assert outcomes["with room"] == 9
    assert number_of(store.get(KEY)) == 9
    assert leftovers(store.root) == []
    assert list((store.root / "damaged").iterdir()) == []


def test_a_value_that_cannot_be_kept_is_still_returned(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    compute = Counting(entry(1))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert number_of(store.get_or_compute(KEY, compute)) == 1
    assert "computed but not kept: could not write to" in caplog.text
    assert "No space left on device" in caplog.text
    assert store.get(KEY) is None
    assert matrices(store.root) == []


@pytest.mark.parametrize("limited_by", ["the index found", "the store"])
def test_a_value_above_the_size_limit_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limited_by: str) -> None:
    if limited_by == "the store":
        monkeypatch.setattr("kis_core.store.index.LIMIT", 1_000_000)
    else:
        diskcache.Cache(str(tmp_path / "cache" / "index"), size_limit=1_000_000).close()
    store = Store(tmp_path / "cache")
    meta = {"text": "x" * 2_000_000}
    store.put(KEY, meta, {"zeros": np.zeros(250_000)})
    for number in range(20):
        store.put(f"other-{number}", {"text": "y" * 100_000}, {})
    close(store)
    actual = Store(tmp_path / "cache").get(KEY)
    assert actual is not None
    assert actual.meta == meta
    assert actual.arrays["zeros"].nbytes == 2_000_000
