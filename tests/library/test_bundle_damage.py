"""Bundles under damage, kills at every step, and a full disk: a value is there whole, or as it was before."""

from __future__ import annotations

import io
import itertools
import os
import random
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kis_core.library import bundles, inventory
from kis_core.library.bundles import BundleError, export, load
from kis_core.store.store import Store, StoreError, key_of
from tests.store.store_tools import close, leftovers, matrices
from tests.store_workers import DYING_STATUS, entry, number_of

FLIPS = 60  # bytes of a bundle flipped, one at a time
CUTS = 15  # places where a bundle is cut off
KEYS = tuple(sorted(key_of("kind", {"number": number}) for number in range(2)))
PIECES = 300  # bytes copied at once, so that a value takes several


@pytest.fixture
def packed(tmp_path: Path) -> bytes:
    """A bundle of two values, the numbers 1 and 2."""
    store, stream = Store(tmp_path / "cluster"), io.BytesIO()
    for number, key in enumerate(KEYS, 1):
        store.put(key, entry(number).meta, entry(number).arrays)
    export(store, KEYS, stream)
    close(store)
    return stream.getvalue()


def numbers(store: Store) -> list[int | None]:
    return [number_of(value) if (value := store.get(key)) else None for key in KEYS]


def in_a_child(work: Callable[[], int]) -> int:
    """Do something in a forked process, which ends with what it returns; its exit status."""
    if (child := os.fork()) == 0:
        status = 99
        try:
            status = work()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_flipped_byte_is_noticed_or_changes_nothing(store: Store, packed: bytes) -> None:
    choose, noticed = random.Random(9), 0
    for _ in range(FLIPS):
        at = choose.randrange(len(packed))
        flipped = packed[:at] + bytes([packed[at] ^ (1 << choose.randrange(8))]) + packed[at + 1 :]
        try:
            load(store, io.BytesIO(flipped))
        except BundleError:
            noticed += 1
        assert numbers(store)[0] in (None, 1)
        assert numbers(store)[1] in (None, 2)
        assert leftovers(store.root) == []
        for item in store.inventory():
            store.delete(item.key)
    assert noticed > FLIPS / 2


def test_a_bundle_that_was_cut_off_is_refused(store: Store, packed: bytes) -> None:
    choose = random.Random(10)
    for cut in (0, 1, len(packed) - 1, *(choose.randrange(len(packed)) for _ in range(CUTS))):
        with pytest.raises(BundleError):
            load(store, io.BytesIO(packed[:cut]))
        assert store.inventory() == []
        assert matrices(store.root) == []


def die_at(step: int, root: Path, packed: bytes) -> int:
    """Import and die at the step-th piece read, fsync, rename, unlink or statement of the index."""
    store, steps = Store(root), iter(range(1, step))
    store.holds(KEYS[0])

    def before(action: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            if next(steps, None) is None:
                os._exit(DYING_STATUS)
            return action(*arguments, **options)

        return counted

    bundles.CHUNK = PIECES
    zipfile.ZipExtFile.read = before(zipfile.ZipExtFile.read)  # type: ignore[method-assign]
    os.fsync, os.replace, os.unlink = before(os.fsync), before(os.replace), before(os.unlink)
    store._index.cache._con.set_trace_callback(before(lambda _: None))
    load(store, io.BytesIO(packed))
    return 0


@pytest.mark.stress
def test_an_import_killed_at_any_step_leaves_each_value_as_it_was_or_whole(tmp_path: Path, packed: bytes) -> None:
    outcomes = []
    for step in itertools.count(1):
        root = tmp_path / f"cache-{step}"
        store = Store(root)
        store.put(KEYS[1], entry(8).meta, entry(8).arrays)
        close(store)
        status = in_a_child(lambda at=step, where=root: die_at(at, where, packed))  # type: ignore[misc]
        assert status in (0, DYING_STATUS)
        reader = Store(root)
        outcomes.append(tuple(numbers(reader)))
        assert list((root / "damaged").iterdir()) == []
        for path in leftovers(root):
            os.utime(path, (0, 0))
        inventory.clear(reader)
        assert leftovers(root) == []
        load(reader, io.BytesIO(packed))
        assert numbers(reader) == [1, 2]
        close(reader)
        if status == 0:
            break
    assert list(dict.fromkeys(outcomes)) == [(None, 8), (1, 8), (1, 2)]
    assert len(outcomes) > 20


def with_little_room(action: Callable[[], object], error: type[Exception], most: int) -> int:
    """Whether something ends in an error that blames the disk, when no file may be larger than this."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        action()
    except error as raised:
        return 0 if "Is the disk full" in str(raised) else 1
    return 2


def test_a_full_disk_ends_an_import_and_an_export_in_an_error_that_says_so(store: Store, tmp_path: Path) -> None:
    key, stream = KEYS[0], io.BytesIO()
    big = Store(tmp_path / "big")
    big.put(key, {"number": 1}, {"zeros": np.zeros(100_000)})
    export(big, [key], stream)
    store.put(key, entry(7).meta, entry(7).arrays)
    close(store)
    room = 200_000  # the index has less, the value more
    assert in_a_child(lambda: with_little_room(lambda: load(Store(store.root), stream), StoreError, room)) == 0
    assert numbers(Store(store.root))[0] == 7
    assert leftovers(store.root) == []
    target = tmp_path / "out" / "all.zip"
    target.parent.mkdir()
    assert in_a_child(lambda: with_little_room(lambda: export(big, [key], target), BundleError, room)) == 0
    assert list(target.parent.iterdir()) == []


def test_a_value_replaced_while_it_is_exported_is_exported_as_it_was(store: Store, tmp_path: Path) -> None:
    key, stream, real = KEYS[0], io.BytesIO(), Store.find
    store.put(key, entry(1).meta, entry(1).arrays)

    def overtaken(self: Store, name: str) -> object:
        item = real(self, name)
        if item is not None and item.meta["number"] == 1:
            self.put(name, entry(2).meta, entry(2).arrays)  # the file that was found is gone now
        return item

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "find", overtaken)
        export(store, [key], stream)
    other = Store(tmp_path / "other")
    load(other, stream)
    assert numbers(other)[0] == 2
