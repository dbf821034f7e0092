"""What dead processes left is swept, what somebody holds or is about to name never; a read-only folder is read."""

from __future__ import annotations

import ctypes
import itertools
import logging
import os
import re
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kis_core.analysis import unfinished
from kis_core.analysis.unfinished import UnfinishedRequest
from kis_core.covariance.checkpoint import Checkpoints
from kis_core.files import locks
from kis_core.library import bundles, inventory
from kis_core.progress import silent
from kis_core.request import Request
from kis_core.results import archive
from kis_core.store.leftovers import HEAD, LOCK, PART
from kis_core.store.store import Entry, Store, StoreError, key_of
from tests.library.test_bundle_damage import in_a_child
from tests.store.store_tools import KEY, close, matrices
from tests.store.store_tools import leftovers as unnamed
from tests.store_workers import entry, number_of

ROUNDS = 20  # of each process that hammers a lock
WORKERS = 4


def started(work: Callable[[], int]) -> int:
    """A forked process that does something; its id."""
    if (child := os.fork()) == 0:
        status = 99
        try:
            status = work()
        finally:
            os._exit(status)
    return child


def statuses(children: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def count_up(path: Path, counter: Path) -> int:
    """Raise a number in a file, under a lock each time: without one, some of what others add gets lost."""
    for _ in range(ROUNDS):
        while (held := locks.take(path)) is None:
            time.sleep(0)
        number = int(counter.read_text())
        time.sleep(0)
        counter.write_text(str(number + 1))
        locks.free(held, path)
    return 0


def test_two_never_hold_one_lock_though_its_file_comes_and_goes(tmp_path: Path) -> None:
    path, counter = tmp_path / f"one{LOCK}", tmp_path / "counter"
    counter.write_text("0")
    children = [started(lambda: count_up(path, counter)) for _ in range(WORKERS)]
    sweeper = started(lambda: [locks.sweep(tmp_path, LOCK) for _ in itertools.count()] and 0)
    ended = statuses(children)
    os.kill(sweeper, signal.SIGKILL)
    os.waitpid(sweeper, 0)
    assert ended == [0] * WORKERS
    assert counter.read_text() == str(WORKERS * ROUNDS)
    locks.sweep(tmp_path, LOCK)
    assert list(tmp_path.glob(f"*{LOCK}")) == []


def test_lock_files_of_nobody_are_swept_and_held_ones_stay(store: Store) -> None:
    folder = store.root / "locks"
    (folder / f"dead{LOCK}").touch()
    with store.alone("held", silent):
        Store(store.root)
        assert [path.name for path in folder.iterdir()] == [f"held{LOCK}"]
    assert list(folder.iterdir()) == []


def test_a_file_that_nothing_names_is_swept_at_the_next_opening_unless_somebody_writes(store: Store) -> None:
    store.put(KEY, entry(1).meta, entry(1).arrays)
    (store.root / "matrices" / f"{KEY}-0.partial").touch()
    with store.naming():
        Store(store.root)
        assert len(unnamed(store.root)) == 1
    Store(store.root)
    assert unnamed(store.root) == []
    assert number_of(store.get(KEY)) == 1


def put_and_get(root: Path, own: str) -> int:
    store = Store(root)
    for number in range(15):
        store.put(own, entry(number).meta, entry(number).arrays)
        if number_of(store.get(own) or entry(-1)) != number:
            return 1
    return 0


def test_sweeping_while_others_write_takes_nothing_from_them(store: Store) -> None:
    close(store)
    children = [started(lambda own=f"key-{number}": put_and_get(store.root, own)) for number in range(2)]  # type: ignore[misc]
    for _ in range(30):
        close(Store(store.root))  # each opening sweeps
    assert statuses(children) == [0, 0]
    assert unnamed(store.root) == []


def left(store: Store) -> list[str]:
    return sorted(item.kind for item in store.inventory() if item.kind in (HEAD, PART))


def test_a_checkpoint_stays_until_all_its_c_are_stored(store: Store) -> None:
    moments = [key_of("second-moment", {"layer": layer}) for layer in range(2)]
    one = Checkpoints(store, {"of": "it"}, {"moments": moments}, lambda: 0.0)
    one.save({"tokens": 1}, iter({"a": {"a": np.ones(2)}}.items()))
    for key in moments:
        Store(store.root)
        assert left(store) == [HEAD, PART], "it is what the pass goes on from"
        store.put(key, {}, {})
    Store(store.root)
    assert left(store) == []
    assert len(matrices(store.root)) == len(moments)


def test_parts_that_no_head_names_are_swept_unless_their_writer_is_at_work(store: Store) -> None:
    store.put(key_of(PART, {}), {"of": "a dead pass", "moment": "1", "name": "a"}, {})
    with store.naming():
        Store(store.root)
        assert left(store) == [PART]
    Store(store.root)
    assert left(store) == []


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A cache folder with a value, whose index was closed."""
    root = tmp_path / "filled"
    store = Store(root)
    store.put(KEY, entry(1).meta, entry(1).arrays)
    unfinished.remember(store, UnfinishedRequest(Request(model="begun")))
    other, key = Store(tmp_path / "other"), key_of("kind", {})
    other.put(key, {}, {})
    bundles.export(other, [key], tmp_path / "bundle.zip")
    for one in (store, other):
        close(one)
    return root


CLONE_NEWNS, MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 1, 32, 4096, 16384, 1 << 18
NO_MOUNTS = 3  # exit status of a process that may not mount


def read_only(folder: Path, work: Callable[[], int]) -> int:
    """Do something in a process that sees a folder on a read-only mount; its exit status."""

    def mounted() -> int:
        system, path = ctypes.CDLL(None), bytes(folder)
        again = MS_REMOUNT | MS_BIND | MS_RDONLY
        steps = ((b"none", b"/", MS_REC | MS_PRIVATE), (path, path, MS_BIND), (path, path, again))
        if system.unshare(CLONE_NEWNS) or any(system.mount(a, b, None, flags, None) for a, b, flags in steps):
            return NO_MOUNTS
        return work()

    return in_a_child(mounted)


def looked_at(root: Path, log: Path) -> int:
    """What is asked of a folder that cannot be written to; 0 if all of it is answered."""
    logging.basicConfig(filename=log, force=True)
    try:
        _look(root)
    except BaseException:
        logging.exception("it cannot be read")
        return 1
    return 0


def _look(root: Path) -> None:
    numbers = itertools.count()
    store = Store(root)
    assert store.unwritable
    assert number_of(store.get(KEY)) == 1
    assert store.verify(KEY)
    assert {item.key for item in store.inventory()} == {KEY, UnfinishedRequest(Request(model="begun")).key}
    assert unfinished.unfinished(store) == [UnfinishedRequest(Request(model="begun"))]
    assert archive.computed(store) == []
    assert len(inventory.shelf(store)) == 1
    assert inventory.disk(store).total > 0
    for write in (
        lambda: store.put("other", {}, {}),
        lambda: store.delete(KEY),
        lambda: bundles.load(store, root.parent / "bundle.zip"),
        lambda: unfinished.forget(store, Request(model="begun")),
    ):
        with pytest.raises(StoreError, match=re.escape("Is the disk full or read-only?")):
            write()
    made = [store.get_or_compute("small", lambda: Entry({"made": next(numbers)}, {})).meta["made"] for _ in range(2)]
    assert made == [0, 0], "what is small is kept in memory, or the weights would be read at every look"
    assert number_of(store.get(KEY)) == 1


@pytest.mark.parametrize("unclean", [False, True], ids=["closed", "left by a killed process"])
def test_a_read_only_folder_is_read(filled: Path, tmp_path: Path, unclean: bool) -> None:
    store = Store(filled) if unclean else None
    if store is not None:
        store.put(KEY, entry(1).meta, entry(1).arrays)  # lies in the index's log alone
    status = read_only(filled, lambda: looked_at(filled, tmp_path / "log"))
    if status == NO_MOUNTS:
        pytest.skip("no mounts can be made here")
    logged = (tmp_path / "log").read_text()
    assert status == 0, logged
    assert logged.count("cannot be written to") == 1, logged


def test_an_empty_read_only_folder_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", read_only)
    store = Store(tmp_path)
    assert store.inventory() == []
    assert store.get(KEY) is None
    assert inventory.shelf(store) == []
    assert inventory.disk(store).damaged == 0


def test_a_full_disk_is_read_and_written_again_once_there_is_room(
    filled: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr("kis_core.store.index.open_writable", full)
        store = Store(filled)
        assert number_of(store.get(KEY)) == 1
        with pytest.raises(StoreError, match="disk is full"):
            store.put(KEY, entry(2).meta, entry(2).arrays)
        with pytest.raises(StoreError, match="disk is full"):
            store.delete(KEY)
        assert number_of(store.get(KEY)) == 1
    assert caplog.text.count("cannot be written to") == 1
    store.put(KEY, entry(3).meta, entry(3).arrays)
    assert number_of(store.get(KEY)) == 3
    assert not store.unwritable


def test_where_no_lock_can_be_made_each_works_for_itself(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refused(path: object, *arguments: int, **options: int) -> int:
        if str(path).endswith(LOCK):
            raise OSError(28, "No space left on device")
        return real(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refused)
    assert number_of(store.get_or_compute(KEY, lambda: entry(4))) == 4
