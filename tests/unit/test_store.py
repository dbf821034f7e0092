"""The store: round trips, one run for many askers, damage, a full disk, planted rows, keys."""

from __future__ import annotations

import json
import logging
import os
import pickle
import random
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import diskcache
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from kis_core import pipeline, progress
from kis_core import store as store_module
from kis_core.corpus import Corpus
from kis_core.facts import Fact, FactSet
from kis_core.pipeline import Ingredients, Request
from kis_core.store import Entry, Store, StoreError, key_of
from tests import store_workers
from tests.store_workers import SPAWN, Counting, entry, number_of

PATIENCE = 30  # seconds until a test gives up on another process or thread; reached only when something hangs
FLIPS = 200  # bytes of a matrix flipped, one at a time
INDEX_FLIPS = 60  # of the index; the stress suite flips every one
KEY = "kind-0"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def matrices(root: Path) -> list[Path]:
    return sorted((root / "matrices").iterdir())


def leftovers(root: Path) -> list[Path]:
    """Files of `matrices/` that no row of the index names: temporary or forgotten ones."""
    with sqlite3.connect(root / "index" / "cache.db") as index:
        rows = [json.loads(json.loads(value)["text"]) for (value,) in index.execute("SELECT value FROM Cache")]
    index.close()
    return [path for path in matrices(root) if path.name not in {row["file"] for row in rows}]


def close(store: Store) -> None:
    store._index.close()


@contextmanager
def index_of(root: Path) -> Iterator[sqlite3.Connection]:
    """The index as somebody else sees it who can write to the cache folder."""
    connection = sqlite3.connect(root / "index" / "cache.db")
    try:
        with connection:
            yield connection
    finally:
        connection.close()


json_meta = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(2**70), 2**70),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(),
        ),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
        max_leaves=6,
    ),
    max_size=4,
)
some_arrays = st.dictionaries(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=5).filter(lambda name: name != "__metadata__"),
    arrays_of.arrays(
        st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.uint8, np.bool_]),
        arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    ),
    max_size=3,
)


@settings(max_examples=50, deadline=None)
@given(json_meta, some_arrays, st.booleans())
def test_what_was_put_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, meta: dict[str, Any], arrays: dict[str, np.ndarray], reverse: bool
) -> None:
    store = Store(tmp_path_factory.getbasetemp() / "round-trips")
    given_arrays = {name: array[::-1] if reverse and array.ndim else array for name, array in arrays.items()}
    store.put(KEY, meta, given_arrays)
    found = store.get(KEY)
    close(store)
    assert found is not None
    assert found.meta == meta
    assert found.arrays.keys() == given_arrays.keys()
    for name, array in given_arrays.items():
        back = found.arrays[name]
        assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_a_missing_key_gives_none_and_a_deleted_one_is_missing(store: Store) -> None:
    assert store.get(KEY) is None
    store.delete(KEY)
    store.put(KEY, {}, {"values": np.arange(3)})
    store.delete(KEY)
    assert store.get(KEY) is None
    assert matrices(store.root) == []


def test_a_new_value_replaces_the_old_one_and_its_file(store: Store) -> None:
    for number in (1, 2, 2, 1):
        store.put(KEY, entry(number).meta, entry(number).arrays)
        assert number_of(store.get(KEY)) == number
        assert len(matrices(store.root)) == 1
    assert leftovers(store.root) == []


def test_a_value_outlives_the_program_and_keys_do_not_mix(store: Store) -> None:
    for number in range(5):
        store.put(f"kind-{number}", entry(number).meta, entry(number).arrays)
    close(store)
    again = Store(store.root)
    assert [number_of(again.get(f"kind-{number}")) for number in range(5)] == list(range(5))


@pytest.mark.parametrize(
    ("meta", "array"),
    [
        ({"object": object()}, np.arange(3)),
        ({"not a number": float("nan")}, np.arange(3)),
        ({}, np.array([object()])),
        ({}, np.array(["text"])),
    ],
    ids=["object in meta", "NaN in meta", "object array", "text array"],
)
def test_a_value_that_cannot_be_stored_is_refused_and_the_old_one_stays(
    store: Store, meta: dict[str, Any], array: np.ndarray
) -> None:
    store.put(KEY, entry(1).meta, entry(1).arrays)
    with pytest.raises((TypeError, ValueError)):
        store.put(KEY, meta, {"array": array})
    assert number_of(store.get(KEY)) == 1
    assert leftovers(store.root) == []


def test_the_cache_folder_is_the_environments_unless_one_is_given(own_cache: Path, tmp_path: Path) -> None:
    assert Store().root == own_cache
    assert Store(tmp_path / "other").root == tmp_path / "other"


# One run for many askers


def test_eight_processes_that_ask_at_once_get_one_value_computed_once(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    start, answers = SPAWN.Barrier(8), SPAWN.Queue()
    arguments = (tmp_path / "cache", marks, start, answers, 0.3)
    processes = [SPAWN.Process(target=store_workers.ask, args=arguments, daemon=True) for _ in range(8)]
    for process in processes:
        process.start()
    hashes = [answers.get(timeout=PATIENCE) for _ in processes]
    for process in processes:
        process.join(PATIENCE)
    assert len(list(marks.iterdir())) == 1
    assert len(hashes) == 8
    assert len(set(hashes)) == 1


def test_a_killed_process_leaves_its_work_to_the_one_that_waits(store: Store) -> None:
    held = SPAWN.Event()
    holder = SPAWN.Process(target=store_workers.hold, args=(store.root, KEY, held), daemon=True)
    holder.start()
    assert held.wait(PATIENCE)
    waiting = threading.Event()
    compute = Counting(entry(1))
    found: list[Entry] = []
    waiter = threading.Thread(
        target=lambda: found.append(store.get_or_compute(KEY, compute, lambda *_: waiting.set())), daemon=True
    )
    waiter.start()
    assert waiting.wait(PATIENCE)
    assert not found
    os.kill(holder.pid, signal.SIGKILL)
    waiter.join(PATIENCE)
    holder.join(PATIENCE)
    assert [number_of(value) for value in found] == [1]
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


@pytest.mark.parametrize("error", [progress.Cancelled, KeyboardInterrupt, ValueError])
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


# Damage


def check_computed_once(store: Store, *, times: int) -> None:
    """The value is right, asked for twice and by a newcomer, and was computed that often in all."""
    compute = Counting(entry(1))
    assert number_of(store.get_or_compute(KEY, compute)) == 1
    assert number_of(store.get_or_compute(KEY, compute)) == 1
    newcomer = Store(store.root)
    assert number_of(newcomer.get_or_compute(KEY, compute)) == 1
    close(newcomer)
    assert compute.times <= times


def flip(content: bytes, choose: random.Random) -> bytes:
    at = choose.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << choose.randrange(8))]) + content[at + 1 :]


def test_every_flipped_byte_of_a_matrix_is_noticed_and_the_value_recomputed_once(store: Store) -> None:
    compute = Counting(entry(1, size=4))
    store.get_or_compute(KEY, compute)
    choose = random.Random(6)
    for flipped in range(1, FLIPS + 1):
        (path,) = matrices(store.root)
        path.write_bytes(flip(path.read_bytes(), choose))
        assert number_of(store.get_or_compute(KEY, compute)) == 1
        assert number_of(store.get_or_compute(KEY, compute)) == 1
        assert compute.times == flipped + 1
        assert len(list((store.root / "damaged").iterdir())) == flipped
    assert leftovers(store.root) == []


SHORTENED: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "one byte less": lambda content: content[:-1],
}


@pytest.mark.parametrize("cut", SHORTENED)
def test_a_shortened_matrix_is_noticed_and_set_aside(store: Store, cut: str, caplog: pytest.LogCaptureFixture) -> None:
    store.put(KEY, entry(1).meta, entry(1).arrays)
    (path,) = matrices(store.root)
    rest = SHORTENED[cut](path.read_bytes())
    path.write_bytes(rest)
    with caplog.at_level(logging.WARNING):
        assert store.get(KEY) is None
    assert f"entry {KEY} is damaged: its checksum does not fit" in caplog.text
    assert [kept.read_bytes() for kept in (store.root / "damaged").iterdir()] == [rest]
    check_computed_once(store, times=1)


def test_a_value_replaced_while_it_is_read_is_read_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(KEY, entry(1).meta, entry(1).arrays)
    other, load = Store(store.root), store._load
    numbers = iter([2, 3])

    def slow_load(key: str, row: str) -> Entry:
        if number := next(numbers, None):
            other.put(KEY, entry(number).meta, entry(number).arrays)
        return load(key, row)

    monkeypatch.setattr(store, "_load", slow_load)
    assert number_of(store.get(KEY)) == 3


def test_a_value_that_replaces_a_damaged_one_just_in_time_is_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(KEY, entry(1).meta, entry(1).arrays)
    matrices(store.root)[0].write_bytes(b"damaged")
    other, set_aside = Store(store.root), store._set_aside

    def slow_set_aside(*details: str) -> None:
        other.put(KEY, entry(2).meta, entry(2).arrays)
        set_aside(*details)

    monkeypatch.setattr(store, "_set_aside", slow_set_aside)
    assert store.get(KEY) is None
    assert number_of(store.get(KEY)) == 2


def test_a_missing_matrix_is_recomputed_once(store: Store) -> None:
    store.put(KEY, entry(1).meta, entry(1).arrays)
    matrices(store.root)[0].unlink()
    assert store.get(KEY) is None
    check_computed_once(store, times=1)


def damage_index(root: Path, content: bytes) -> None:
    """Put these bytes in place of the index file, as if no program had it open."""
    for path in (root / "index").iterdir():
        path.unlink()
    (root / "index" / "cache.db").write_bytes(content)


@pytest.mark.parametrize("cut", SHORTENED)
def test_a_shortened_index_costs_one_computation(store: Store, cut: str) -> None:
    store.put(KEY, entry(1).meta, entry(1).arrays)
    close(store)
    damage_index(store.root, SHORTENED[cut]((store.root / "index" / "cache.db").read_bytes()))
    check_computed_once(Store(store.root), times=1)


def test_any_flipped_byte_of_the_index_costs_at_most_one_computation(store: Store) -> None:
    store.put(KEY, entry(1).meta, entry(1).arrays)
    close(store)
    sound = (store.root / "index" / "cache.db").read_bytes()
    (matrix,) = matrices(store.root)
    content = matrix.read_bytes()
    choose = random.Random(7)
    written = [at for at, byte in enumerate(sound) if byte]
    for _ in range(INDEX_FLIPS):
        at = choose.choice(written)
        for path in matrices(store.root):
            path.unlink()
        matrix.write_bytes(content)
        damage_index(store.root, sound[:at] + bytes([sound[at] ^ (1 << choose.randrange(8))]) + sound[at + 1 :])
        newcomer = Store(store.root)
        check_computed_once(newcomer, times=1)
        close(newcomer)


def test_an_index_that_is_damaged_while_it_is_open_costs_one_computation(store: Store) -> None:
    store.put(KEY, entry(1).meta, entry(1).arrays)
    close(store)
    damage_index(store.root, b"no index at all" * 1_000)
    check_computed_once(store, times=1)


def test_a_lock_or_a_full_disk_is_not_taken_for_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(KEY, entry(1).meta, entry(1).arrays)
    with monkeypatch.context() as patched:
        patched.setattr(store._index, "_timeout", 0)
        close(store)
        with index_of(store.root) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreError, match=r"could not write to .* database is locked"):
                store.put(KEY, entry(2).meta, entry(2).arrays)
            with pytest.raises(StoreError, match="database is locked"):
                store.delete(KEY)
    assert number_of(store.get(KEY)) == 1
    assert list((store.root / "damaged").iterdir()) == []
    assert leftovers(store.root) == []


# A full disk


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


def test_a_cache_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be used as the cache folder"):
        Store(tmp_path / "file")


@pytest.mark.parametrize("limited_by", ["the index found", "the store"])
def test_a_value_above_the_size_limit_stays_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limited_by: str
) -> None:
    if limited_by == "the store":
        monkeypatch.setattr(store_module, "INDEX_LIMIT", 1_000_000)
    else:
        diskcache.Cache(str(tmp_path / "cache" / "index"), size_limit=1_000_000).close()
    store = Store(tmp_path / "cache")
    meta = {"text": "x" * 2_000_000}
    store.put(KEY, meta, {"zeros": np.zeros(250_000)})
    for number in range(20):
        store.put(f"other-{number}", {"text": "y" * 100_000}, {})
    close(store)
    found = Store(tmp_path / "cache").get(KEY)
    assert found is not None
    assert found.meta == meta
    assert found.arrays["zeros"].nbytes == 2_000_000


# Planted content


class Tripwire:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def plant(root: Path, *, mode: int, value: Any, filename: str | None = None) -> None:
    with index_of(root) as index:
        index.execute(
            "INSERT OR REPLACE INTO Cache (key, raw, store_time, mode, filename, value) VALUES (?, 1, 0, ?, ?, ?)",
            (KEY, mode, filename, value),
        )


@pytest.mark.parametrize("where", ["in the row", "in a file", "in a file outside"])
def test_a_planted_pickle_is_never_run_nor_its_file_removed(store: Store, tmp_path: Path, where: str) -> None:
    mark = tmp_path / "ran"
    pickled = pickle.dumps(Tripwire(mark))
    with pytest.raises(FileExistsError):  # the tripwire works: this is what must not happen below
        mark.mkdir() or pickle.loads(pickled)  # noqa: S301
    mark.rmdir()
    file = tmp_path / "pickle.val" if where == "in a file outside" else store.root / "index" / "pickle.val"
    file.write_bytes(pickled)
    if where == "in the row":
        plant(store.root, mode=diskcache.core.MODE_PICKLE, value=pickled)
    else:
        name = os.path.relpath(file, store.root / "index")
        plant(store.root, mode=diskcache.core.MODE_PICKLE, value=None, filename=name)
    assert store.get(KEY) is None
    check_computed_once(store, times=1)
    assert not mark.exists()
    assert file.read_bytes() == pickled


@pytest.mark.parametrize("mode", [diskcache.core.MODE_BINARY, diskcache.core.MODE_TEXT, 99])
def test_a_planted_row_opens_no_file(store: Store, tmp_path: Path, mode: int) -> None:
    os.mkfifo(tmp_path / "blocks")  # whoever opens it hangs
    plant(store.root, mode=mode, value=None, filename=str(tmp_path / "blocks"))
    assert store.get(KEY) is None
    check_computed_once(store, times=1)
    assert (tmp_path / "blocks").exists()


def described(file: str, sha256: str) -> str:
    """A row whose own checksum is right."""
    return store_module._Row({}, file, sha256).dump()


@pytest.mark.parametrize(
    "row",
    ["", "[]", "{}", "null", '{"text": 5, "sha256": "0"}', '{"text": "{}", "sha256": "0"}', "[" * 100_000, b"\xff", 7],
    ids=["empty", "list", "object", "null", "number as text", "wrong checksum", "brackets", "bytes", "number"],
)
def test_a_planted_row_that_describes_nothing_is_set_aside(store: Store, row: Any) -> None:
    plant(store.root, mode=diskcache.core.MODE_RAW, value=row)
    check_computed_once(store, times=1)


@pytest.mark.parametrize("name", ["../../precious", f"{KEY}-/../../../precious", "/", "..", ""])
def test_a_planted_row_reaches_no_file_outside_its_folder(store: Store, tmp_path: Path, name: str) -> None:
    (store.root / "matrices" / f"{KEY}-").mkdir()
    precious = tmp_path / "precious"
    precious.write_bytes(b"not to be moved")
    for action in (store.get, store.delete):
        plant(store.root, mode=diskcache.core.MODE_RAW, value=described(name, "0" * 64))
        assert action(KEY) is None
        assert precious.read_bytes() == b"not to be moved"
    plant(store.root, mode=diskcache.core.MODE_RAW, value=described(name, "0" * 64))
    check_computed_once(store, times=1)
    assert precious.read_bytes() == b"not to be moved"


def header(shape: list[int], dtype: str, end: int) -> bytes:
    text = json.dumps({"values": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}).encode()
    return len(text).to_bytes(8, "little") + text


PLANTED_FILES = {
    "header of 10^12 bytes": (10**12).to_bytes(8, "little") + b"{}",
    "array of 10^12 numbers": header([10**12], "F64", 8 * 10**12),
    "type numpy lacks": header([1], "BF16", 2) + b"ab",
    "pickle": pickle.dumps([1]),
    "npz": b"PK\x03\x04",
    "nothing": b"",
}


@pytest.mark.parametrize("content", PLANTED_FILES)
def test_a_planted_file_with_a_fitting_checksum_is_set_aside(store: Store, content: str) -> None:
    planted = PLANTED_FILES[content]
    file = f"{KEY}-planted.safetensors"
    (store.root / "matrices" / file).write_bytes(planted)
    row = described(file, store_module.hashlib.sha256(planted).hexdigest())
    plant(store.root, mode=diskcache.core.MODE_RAW, value=row)
    assert store.get(KEY) is None
    assert [path.read_bytes() for path in (store.root / "damaged").iterdir()] == [planted]
    check_computed_once(store, times=1)


# Keys

PARIS = Fact("Paris", "{} is the capital of", "France")
REQUEST = Request(model="owner/model", layers=(0, 1), revision="main")
INGREDIENTS = Ingredients(REQUEST, Path("folder"), "0" * 64, FactSet("facts", (PARIS,)), Corpus("text", ("One.",)))
OTHER_REQUESTS = (
    {"model": "owner_model"}, {"model": "owner-model"}, {"model": "owner/Model"}, {"tokens": 1}, {"layers": (0,)},
    {"layers": None}, {"revision": None}, {"revision": "v1"}, {"seed": 1},
)  # fmt: skip
OTHER_INGREDIENTS = (
    *(replace(INGREDIENTS, request=replace(REQUEST, **changed)) for changed in OTHER_REQUESTS),
    replace(INGREDIENTS, weights="1" * 64),
    replace(INGREDIENTS, facts=FactSet("facts", (PARIS, PARIS))),
    replace(INGREDIENTS, facts=FactSet("facts", (replace(PARIS, relation="capital"),))),
    replace(INGREDIENTS, corpus=Corpus("text", ("One", "."))),
)


def test_each_ingredient_varied_gives_another_key() -> None:
    keys = {ingredients.key for ingredients in (INGREDIENTS, *OTHER_INGREDIENTS)}
    assert len(keys) == 1 + len(OTHER_INGREDIENTS)


def test_a_new_format_of_the_numbers_gives_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = INGREDIENTS.key
    monkeypatch.setattr(pipeline, "FORMAT", pipeline.FORMAT + 1)
    assert INGREDIENTS.key != before


def test_the_key_depends_on_content_not_on_names_places_or_order_of_layers() -> None:
    same = Ingredients(
        replace(REQUEST, facts="mine.csv", corpus="mine.txt", layers=(1, 0, 1)),
        Path("elsewhere"), "0" * 64, FactSet("mine.csv", (PARIS,)), Corpus("mine.txt", ("One.",)),
    )  # fmt: skip
    assert same.key == INGREDIENTS.key


@pytest.mark.parametrize("changed", [{"tokens": 1}, {"model": "other"}, {"layers": None}, {"seed": 1}])
def test_the_second_moment_is_shared_by_requests_that_differ_only_in_what_it_does_not_depend_on(
    changed: dict[str, Any],
) -> None:
    other = replace(INGREDIENTS, request=replace(REQUEST, **changed), facts=FactSet("none", ()))
    assert (other.second_moment_key == INGREDIENTS.second_moment_key) == ("tokens" not in changed)


plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text())
ingredients = st.dictionaries(st.text(max_size=2), st.one_of(plain, st.lists(plain, max_size=2)), max_size=3)


@settings(max_examples=50, deadline=None)
@given(ingredients, ingredients)
def test_keys_are_equal_only_for_equal_ingredients_and_are_plain_file_names(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    def typed(value: Any) -> str:
        return repr(sorted(value.items()))

    assert (key_of("kind", one) == key_of("kind", other)) == (typed(one) == typed(other))
    assert key_of("kind", dict(reversed(one.items()))) == key_of("kind", one)
    assert key_of("other", one) != key_of("kind", one)
    assert key_of("kind", one).removeprefix("kind-").isalnum()


def test_ingredients_that_have_no_canonical_form_are_refused() -> None:
    for ingredient in (float("nan"), float("inf"), object(), b"bytes", {1, 2}):
        with pytest.raises((TypeError, ValueError)):
            key_of("kind", {"ingredient": ingredient})
