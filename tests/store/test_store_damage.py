"""A damaged or planted entry of the store is noticed and set aside, and nothing in it ever runs."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diskcache
import pytest

from kis_core.store import store as store_module
from kis_core.store.store import Entry, Store, StoreError
from tests.store.store_tools import KEY, PLANTED_FILES, close, index_of, leftovers, matrices
from tests.store_workers import Counting, entry, number_of

FLIPS = 60  # bytes of a matrix flipped, one at a time
INDEX_FLIPS = 30  # of the index; the stress suite flips every byte


def check_computed_once(store: Store, *, times: int) -> None:
    """The value is right, asked for here and by a newcomer, and was computed that often in all."""
    compute = Counting(entry(1))
    assert number_of(store.get_or_compute(KEY, compute)) == 1
    newcomer = Store(store.root)
    assert number_of(newcomer.get_or_compute(KEY, compute)) == 1
    close(newcomer)
    assert compute.times <= times


def flip(content: bytes, choose: random.Random) -> bytes:
    at = choose.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << choose.randrange(8))]) + content[at + 1 :]


def test_every_flipped_byte_of_a_matrix_is_noticed_and_the_value_recomputed_once(
    store: Store, record_property: Callable[[str, object], None]
) -> None:
    record_property("trials", FLIPS)
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


def test_a_value_replaced_while_it_is_read_is_read_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(KEY, entry(1).meta, entry(1).arrays)
    other, load = Store(store.root), store._load
    numbers = iter([2, 3])

    def slow_load(*details: Any) -> Entry:
        if number := next(numbers, None):
            other.put(KEY, entry(number).meta, entry(number).arrays)
        return load(*details)

    monkeypatch.setattr(store, "_load", slow_load)
    assert number_of(store.get(KEY)) == 3


def test_what_replaces_a_damaged_value_just_in_time_is_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(KEY, entry(1).meta, entry(1).arrays)
    matrices(store.root)[0].write_bytes(b"damaged")
    other, set_aside = Store(store.root), store._set_aside

    def slow_set_aside(*details: str) -> None:
        other.put(KEY, entry(2).meta, entry(2).arrays)
        set_aside(*details)

    monkeypatch.setattr(store, "_set_aside", slow_set_aside)
    assert store.get(KEY) is None
    assert number_of(store.get(KEY)) == 2


def damage_index(root: Path, content: bytes) -> None:
    """Put these bytes in place of the index file, as if no program had it open."""
    for path in (root / "index").iterdir():
        path.unlink()
    (root / "index" / "cache.db").write_bytes(content)


@pytest.mark.parametrize("content", [b"", b"no index at all" * 1_000])
@pytest.mark.parametrize("opened", [False, True], ids=["closed", "open"])
def test_a_damaged_index_costs_one_computation(store: Store, content: bytes, opened: bool) -> None:
    store.put(KEY, entry(1).meta, entry(1).arrays)
    close(store)
    damage_index(store.root, content)
    check_computed_once(store if opened else Store(store.root), times=1)


@pytest.mark.parametrize("flips", [INDEX_FLIPS, pytest.param(None, marks=pytest.mark.stress)])
@pytest.mark.timeout(3600)
def test_any_flipped_byte_of_the_index_costs_at_most_one_computation(
    store: Store, flips: int | None, record_property: Callable[[str, object], None]
) -> None:
    store.put(KEY, entry(1).meta, entry(1).arrays)
    close(store)
    sound = (store.root / "index" / "cache.db").read_bytes()
    (matrix,) = matrices(store.root)
    content = matrix.read_bytes()
    choose = random.Random(7)
    written = [at for at, byte in enumerate(sound) if byte]
    record_property("trials", flips or len(written))
    for at in written if flips is None else choose.choices(written, k=flips):
        for path in matrices(store.root):
            path.unlink()
        matrix.write_bytes(content)
        damage_index(store.root, sound[:at] + bytes([sound[at] ^ (1 << choose.randrange(8))]) + sound[at + 1 :])
        newcomer = Store(store.root)
        check_computed_once(newcomer, times=1)
        close(newcomer)


def test_a_changed_letter_of_a_row_is_noticed(store: Store) -> None:
    store.put(KEY, entry(1).meta, entry(1).arrays)
    close(store)
    with index_of(store.root) as index:
        index.execute("UPDATE Cache SET value = replace(value, ?, ?)", (r"\"number\": 1", r"\"number\": 2"))
        assert index.execute("SELECT count(*) FROM Cache WHERE value LIKE ?", ("%: 2%",)).fetchone() == (1,)
    check_computed_once(store, times=1)


def test_a_lock_or_a_full_disk_is_not_taken_for_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(KEY, entry(1).meta, entry(1).arrays)
    with monkeypatch.context() as patched:
        patched.setattr(store._index.cache, "_timeout", 0)
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
    return store_module.Row({}, file, sha256).dump()


@pytest.mark.parametrize(
    "row",
    ["", "[]", "{}", '{"text": 5, "sha256": "0"}', '{"text": "{}", "sha256": "0"}', "[" * 100_000, b"\xff", 7],
    ids=["empty", "list", "object", "number as text", "wrong checksum", "brackets", "bytes", "number"],
)
def test_a_planted_row_that_describes_nothing_is_set_aside(store: Store, row: Any) -> None:
    plant(store.root, mode=diskcache.core.MODE_RAW, value=row)
    check_computed_once(store, times=1)


NAMES = ("../../precious", f"{KEY}-/../../../precious", "/", "..", "", "\0", "\ud800", " ")


@pytest.mark.parametrize("name", NAMES)
def test_a_planted_row_reaches_no_file_outside_its_folder(store: Store, tmp_path: Path, name: str) -> None:
    (store.root / "matrices" / f"{KEY}-").mkdir()
    precious = tmp_path / "precious"
    precious.write_bytes(b"not to be moved")
    for action in (store.get, store.delete):
        plant(store.root, mode=diskcache.core.MODE_RAW, value=described(name, "0" * 64))
        assert store.inventory() == []
        assert action(KEY) is None
        assert precious.read_bytes() == b"not to be moved"
    plant(store.root, mode=diskcache.core.MODE_RAW, value=described(name, "0" * 64))
    check_computed_once(store, times=1)
    assert precious.read_bytes() == b"not to be moved"


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
