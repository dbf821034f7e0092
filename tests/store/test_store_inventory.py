"""What an inventory needs of the store: rows without arrays, a check in pieces, a file taken in as it is."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from kis_core.store import array_files
from kis_core.store.store import Store, StoreError, key_of
from tests.store.store_tools import KEY, leftovers, matrices
from tests.store_workers import entry, number_of

LARGE = 4_000_000  # numbers of 8 bytes


def put(store: Store, key: str, number: int) -> None:
    store.put(key, entry(number).meta, entry(number).arrays)


def laid_out(folder: Path, number: int = 1) -> tuple[Path, str]:
    """A safetensors file outside of the store, and its checksum."""
    content = safetensors.numpy.save(entry(number).arrays)
    file = folder / "given"
    file.write_bytes(content)
    return file, hashlib.sha256(content).hexdigest()


def test_an_inventory_tells_every_value_and_reads_no_array(store: Store) -> None:
    one, other = key_of("kind", {}), key_of("two-words", {})
    put(store, one, 1)
    put(store, other, 2)
    before = {path.name: path.stat() for path in matrices(store.root)}
    for path in matrices(store.root):
        path.write_bytes(b"x" * 7)
        os.utime(path, (100, 200))
    items = {item.key: item for item in store.inventory()}
    kinds = {key: (item.kind, item.meta["number"]) for key, item in items.items()}
    assert kinds == {one: ("kind", 1), other: ("two-words", 2)}
    for item in items.values():
        assert (item.bytes, item.written) == (7, 200)
        assert item.path.name in before
    assert [item.key for item in store.inventory("two-words")] == [other]
    assert store.inventory("words") == []
    assert store.find(one) == items[one]
    assert store.find("kind-none") is None


def test_a_whole_value_is_verified_and_a_missing_one_is_not(store: Store) -> None:
    assert not store.verify(KEY)
    put(store, KEY, 1)
    assert store.verify(KEY)
    item = store.find(KEY)
    assert item is not None
    assert item.sha256 == hashlib.sha256(item.path.read_bytes()).hexdigest()
    item.path.unlink()
    assert store.inventory() == []
    assert store.find(KEY) is None
    store.put(KEY, {}, {})
    assert store.verify(KEY), "a value without arrays is one too"


@pytest.mark.parametrize("at", [0, -1])
def test_a_flipped_byte_fails_the_check_and_sets_the_value_aside(store: Store, at: int) -> None:
    put(store, KEY, 1)
    (path,) = matrices(store.root)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))
    assert not store.verify(KEY)
    assert not store.holds(KEY)
    assert [path.read_bytes() for path in (store.root / "damaged").iterdir()] == [bytes(content)]
    assert matrices(store.root) == []


def test_a_check_takes_less_memory_than_the_value(store: Store) -> None:
    store.put(KEY, {}, {"zeros": np.zeros(LARGE)})
    tracemalloc.start()
    assert store.verify(KEY)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 * LARGE / 10


def test_a_file_is_taken_in_as_it_is(store: Store, tmp_path: Path) -> None:
    put(store, KEY, 2)
    file, sha256 = laid_out(tmp_path)
    os.utime(file, (100, 200))
    store.adopt(KEY, {"number": 1}, file, sha256)
    assert number_of(store.get(KEY)) == 1
    assert not file.exists()
    assert len(matrices(store.root)) == 1
    assert leftovers(store.root) == []
    actual = store.find(KEY)
    assert actual is not None
    assert actual.written > 200, "it is as new as if it was put"


def test_a_file_whose_checksum_or_metadata_does_not_fit_is_not_taken_in(store: Store, tmp_path: Path) -> None:
    file, sha256 = laid_out(tmp_path)
    with pytest.raises(StoreError, match="its checksum does not fit"):
        store.adopt(KEY, {}, file, "0" * 64)
    with pytest.raises(ValueError, match="JSON compliant"):
        store.adopt(KEY, {"not a number": float("nan")}, file, sha256)
    file.unlink()
    with pytest.raises(StoreError, match="its file cannot be read"):
        store.adopt(KEY, {}, file, sha256)
    assert store.get(KEY) is None


def test_the_types_that_numpy_reads_are_all_there(tmp_path: Path) -> None:
    names = ["float64", "float32", "float16", "int64", "uint64", "int32", "uint32", "int16", "uint16", "int8", "uint8"]
    names += ["bool", "complex64"]
    content = safetensors.numpy.save({name: np.zeros(1, name) for name in names})
    (tmp_path / "all").write_bytes(content)
    array_files.check(tmp_path / "all", hashlib.sha256(content).hexdigest())
    assert len(array_files.DTYPES) == len(names)
