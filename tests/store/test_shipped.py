"""What came with the program: read where the cache has nothing, never written to, passed over where it is damaged."""

from __future__ import annotations

import json
import logging
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kis_core.library import bundles, inventory
from kis_core.store.index import Row
from kis_core.store.shipped import FOLDER, VARIABLE, default_folder, keep_only, ship
from kis_core.store.store import Entry, Item, Store
from tests.store.store_tools import KEY
from tests.store_workers import Counting, entry, number_of

OTHER = "kind-1"
MODEL = "some-model"


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """A folder with one value, number 1."""
    return shipped_into(tmp_path / "gallery", KEY, entry(1))


@pytest.fixture
def locked(gallery: Path) -> Iterator[Path]:
    """The same, read-only on the disk."""
    for path in (*gallery.rglob("*"), gallery):
        path.chmod(stat.S_IRUSR | stat.S_IXUSR if path.is_dir() else stat.S_IRUSR)
    yield gallery
    for folder in (gallery, gallery / MODEL):
        folder.chmod(stat.S_IRWXU)


def shipped_into(gallery: Path, key: str, value: Entry) -> Path:
    assert ship(gallery / MODEL, key, value, time.time()) > sum(array.nbytes for array in value.arrays.values())
    return gallery


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def described(gallery: Path) -> Path:
    (path,) = gallery.glob("*/*.json")
    return path


def test_the_cache_is_looked_into_first_and_nothing_is_done_to_what_lies_below(locked: Path, tmp_path: Path) -> None:
    before = contents(locked)
    store = Store(tmp_path / "cache", locked)
    assert (number_of(store.get(KEY)), store.holds(KEY), store.verify(KEY)) == (1, True, True)
    assert list(store.listed("kind")) == [KEY]
    item = store.find(KEY)
    assert isinstance(item, Item)
    assert " on " in item.shipped
    computed = Counting(entry(2))
    assert number_of(store.get_or_compute(KEY, computed)) == 1
    assert not computed.times

    store.put(KEY, entry(2).meta, entry(2).arrays)  # the newer one wins, until it is deleted
    assert number_of(store.get(KEY)) == 2
    assert [one.shipped for one in store.inventory()] == [""]
    store.delete(KEY)
    store.delete(KEY)
    assert number_of(store.get(KEY)) == 1
    Store(store.root, locked)  # sweeps
    inventory.clear(store)
    assert contents(locked) == before


def test_it_is_neither_deleted_nor_counted_as_the_caches_own(gallery: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache", gallery)
    empty = inventory.disk(store)
    (row,) = inventory.shelf(store)
    assert row.keys == (KEY,)
    assert row.shipped
    assert inventory.delete(store, row.keys) == 0
    assert inventory.disk(store) == empty
    store.put(OTHER, entry(5).meta, entry(5).arrays)
    assert [bool(one.shipped) for one in inventory.shelf(store)] == [False, True], "each in a row of its own"
    assert not inventory.in_cache(store, KEY)


def test_a_bundle_brings_no_second_copy_of_what_is_there(gallery: Path, tmp_path: Path) -> None:
    key = f"kind-{'0' * 64}"
    shipped_into(gallery, key, entry(3))
    Store(tmp_path / "made").put(key, entry(3).meta, entry(3).arrays)
    bundles.export(Store(tmp_path / "made"), [key], tmp_path / "bundle.zip")
    store = Store(tmp_path / "cache", gallery)
    assert bundles.load(store, tmp_path / "bundle.zip").skipped == 1
    assert not inventory.in_cache(store, key)


def spoil(gallery: Path, how: str) -> None:
    path = described(gallery)
    text = path.read_text()
    (arrays,) = gallery.glob("*/*.safetensors")
    if how == "its arrays":
        content = bytearray(arrays.read_bytes())
        content[-1] ^= 1
        arrays.write_bytes(content)
    elif how == "no arrays":
        arrays.unlink()
    elif how == "metadata":
        path.write_text(text.replace("number", "ember"))
    elif how == "no date":
        path.write_text(json.dumps({name: part for name, part in json.loads(text).items() if name != "computed"}))
    elif how == "another's name":
        path.write_text(Row({"number": 1}, f"{OTHER}-0.safetensors", "0" * 64).dump())
    else:
        path.write_bytes(b"\xff{")


@pytest.mark.parametrize("how", ["its arrays", "no arrays", "metadata", "no date", "another's name", "no text"])
def test_a_damaged_value_is_computed_anew_and_told_once(
    gallery: Path, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(gallery, how)
    before = contents(gallery)
    store, compute = Store(tmp_path / "cache", gallery), Counting(entry(2))
    with caplog.at_level(logging.WARNING):
        assert store.get(KEY) is None
        assert not store.holds(KEY)
        assert store.inventory() == []
        assert number_of(store.get_or_compute(KEY, compute)) == 2
    assert caplog.text.count("which came with the program, is not used") == 1
    assert number_of(Store(store.root, gallery).get(KEY)) == 2
    assert contents(gallery) == before


def test_a_value_of_another_format_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    key = f"superposition-{'0' * 64}"
    gallery = shipped_into(tmp_path / "gallery", key, Entry({"format": 0}, {"p": np.zeros(3)}))
    store = Store(tmp_path / "cache", gallery)
    assert (store.get(key), store.holds(key), store.find(key), store.listed("superposition")) == (None, False, None, {})


def test_the_environment_names_another_folder_or_none(
    gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_folder() is None, "the suite runs without what is shipped"
    assert Store(tmp_path / "cache").get(KEY) is None
    monkeypatch.setenv(VARIABLE, str(gallery))
    assert number_of(Store(tmp_path / "cache").get(KEY)) == 1
    assert Store(tmp_path / "cache", gallery="").get(KEY) is None
    assert Store(tmp_path / "cache", tmp_path / "missing").inventory() == []
    monkeypatch.delenv(VARIABLE)
    assert default_folder() == FOLDER


def test_what_is_no_longer_wanted_goes_file_by_file(gallery: Path, tmp_path: Path) -> None:
    shipped_into(gallery, OTHER, entry(2))
    shipped_into(gallery, KEY, entry(3))  # leaves the arrays of the first behind
    (gallery / MODEL / "README.md").touch()
    keep_only(gallery / MODEL, [KEY])
    assert len(list((gallery / MODEL).iterdir())) == 3
    assert number_of(Store(tmp_path / "cache", gallery).get(KEY)) == 3
    shutil.rmtree(gallery)
