"""Bundles: what goes in comes out elsewhere as it was, and a hostile one puts nothing into the store."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from kis_core import progress
from kis_core.library import bundles
from kis_core.library.bundles import BundleError, export, load
from kis_core.store.store import Store, key_of
from tests.store.store_tools import PLANTED_FILES, leftovers, matrices
from tests.store_workers import entry, number_of

KEYS = tuple(key_of("kind", {"number": number}) for number in range(3))


NUMBERS = safetensors.numpy.save({"values": np.arange(3)})
KEY = KEYS[0]
FILE = f"{KEY}.safetensors"


def row(content: bytes = NUMBERS, **other: Any) -> dict[str, Any]:
    """Of a manifest, for the first key."""
    checksum, size = hashlib.sha256(content).hexdigest(), len(content)
    return {"key": KEY, "meta": {}, "sha256": checksum, "file": FILE, "size": size} | other


@pytest.fixture
def filled(tmp_path: Path) -> Store:
    made = Store(tmp_path / "cluster")
    for number, key in enumerate(KEYS):
        made.put(key, entry(number).meta, entry(number).arrays)
    return made


@pytest.fixture
def laptop(tmp_path: Path) -> Store:
    return Store(tmp_path / "laptop")


def contents(store: Store) -> dict[str, int]:
    values = {item.key: store.get(item.key) for item in store.inventory()}
    return {key: number_of(value) for key, value in values.items() if value}


ALL = {key: number for number, key in enumerate(KEYS)}


def test_what_was_exported_is_there_after_an_import(filled: Store, laptop: Store, tmp_path: Path) -> None:
    size = export(filled, KEYS, str(tmp_path / "all.zip"))
    assert size == sum(path.stat().st_size for path in matrices(filled.root))
    done = load(laptop, tmp_path / "all.zip")
    assert (set(done.keys), done.count, done.skipped, done.bytes) == (set(KEYS), 3, 0, size)
    assert contents(laptop) == ALL
    assert {item.key: item.sha256 for item in laptop.inventory()} == {k.key: k.sha256 for k in filled.inventory()}
    assert leftovers(laptop.root) == []
    stream, other = io.BytesIO(), Store(tmp_path / "other")
    export(filled, [*reversed(KEYS), KEYS[0]], stream)
    assert (tmp_path / "all.zip").read_bytes() == stream.getvalue(), "the same values give the same bytes"
    stream.seek(0)
    assert load(other, stream).count == 3
    assert export(filled, [], tmp_path / "none.zip") == load(other, tmp_path / "none.zip").count == 0


def test_a_bundle_is_a_plain_zip_that_says_what_it_holds(filled: Store, tmp_path: Path) -> None:
    export(filled, KEYS[:1], tmp_path / "one.zip")
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert sorted(archive.namelist()) == sorted([bundles.MANIFEST, FILE])
        content = archive.read(FILE)
        manifest = json.loads(archive.read(bundles.MANIFEST))
    item = filled.find(KEY)
    assert item is not None
    assert content == item.path.read_bytes()
    assert manifest == {"format": bundles.FORMAT, "entries": [row(content, meta={"number": 0})]}


def test_what_is_there_is_skipped_unless_it_is_damaged(filled: Store, laptop: Store, tmp_path: Path) -> None:
    export(filled, KEYS, tmp_path / "all.zip")
    load(laptop, tmp_path / "all.zip")
    again = load(laptop, tmp_path / "all.zip")
    assert (again.count, again.skipped, again.bytes) == (0, 3, 0)
    item = laptop.find(KEYS[1])
    assert item is not None
    item.path.write_bytes(b"damaged")
    laptop.put(KEYS[2], entry(9).meta, entry(9).arrays)
    laptop.put(KEYS[0], {"number": 0, "another": "meta"}, entry(0).arrays)
    assert load(laptop, tmp_path / "all.zip").count == 3
    assert contents(laptop) == ALL


def test_progress_is_told_and_a_cancelled_export_leaves_no_file(filled: Store, laptop: Store, tmp_path: Path) -> None:
    reports: list[tuple[str, int, int]] = []
    export(filled, KEYS, tmp_path / "all.zip", report=lambda *at: reports.append(at))
    load(laptop, tmp_path / "all.zip", report=lambda *at: reports.append(at))
    stages = (bundles.EXPORT_STAGE, bundles.IMPORT_STAGE)
    assert reports == [(stage, done, 3) for stage in stages for done in range(4)]

    def cancel(stage: str, done: int, total: int) -> None:
        if done == 2:
            raise progress.Cancelled

    with pytest.raises(progress.Cancelled):
        export(filled, KEYS, tmp_path / "other.zip", report=cancel)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.zip", "cluster", "laptop"]


@pytest.mark.parametrize("key", [key_of("kind", {"gone": 1}), "kind-0", "../kind", key_of("fingerprint", {})])
def test_what_cannot_go_into_a_bundle_is_named(filled: Store, tmp_path: Path, key: str) -> None:
    (tmp_path / "old.zip").write_bytes(b"old")
    filled.put(key_of("fingerprint", {}), {}, {})
    with pytest.raises(BundleError, match=key.replace(".", r"\.")):
        export(filled, [*KEYS, key], tmp_path / "old.zip")
    assert (tmp_path / "old.zip").read_bytes() == b"old"


def test_a_damaged_value_is_not_exported(filled: Store, tmp_path: Path) -> None:
    item = filled.find(KEYS[1])
    assert item is not None
    item.path.write_bytes(b"damaged")
    with pytest.raises(BundleError, match=f"{KEYS[1]} is damaged"):
        export(filled, KEYS, tmp_path / "all.zip")
    assert not (tmp_path / "all.zip").exists()


def packed(
    rows: Any, members: list[tuple[str | zipfile.ZipInfo, bytes]], *, version: Any = bundles.FORMAT, **how: Any
) -> io.BytesIO:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members:
            archive.writestr(name, content, **how)
        archive.writestr(bundles.MANIFEST, json.dumps({"format": version, "entries": rows}))
    stream.seek(0)
    return stream


def refused(store: Store, source: io.BytesIO, said: str) -> None:
    """It is refused with these words; the store is as it was, and nothing lies about."""
    before = contents(store)
    with pytest.raises(BundleError, match=said):
        load(store, source)
    assert contents(store) == before
    assert leftovers(store.root) == []
    assert list((store.root / "damaged").iterdir()) == []


def test_the_way_hostile_bundles_are_made_makes_good_ones_too(laptop: Store) -> None:
    assert load(laptop, packed([row()], [(FILE, NUMBERS)])).keys == (KEY,)
    assert laptop.verify(KEY)


@pytest.mark.parametrize("content", PLANTED_FILES)
def test_a_member_without_arrays_is_refused_and_never_run(filled: Store, content: str) -> None:
    planted = PLANTED_FILES[content]
    refused(filled, packed([row(planted)], [(FILE, planted)]), f"{FILE} is damaged in the bundle: its file holds n")


@pytest.mark.parametrize("name", ["../../precious", "/tmp/precious", "a/b", "..", "kind-0.safetensors", "C:\\x"])  # noqa: S108
def test_no_name_in_a_bundle_becomes_a_path(filled: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    for rows, members in (
        ([row(file=name)], [(name, NUMBERS)]),
        ([row(key=name, file=f"{name}.safetensors")], [(f"{name}.safetensors", NUMBERS)]),
        ([row()], [(FILE, NUMBERS), (name, NUMBERS)]),
    ):
        refused(filled, packed(rows, members), "not one that a store holds|or not in it")
    assert (tmp_path / "precious").read_bytes() == b"precious"


def special(kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(FILE)
    info.external_attr = (kind | 0o777) << 16
    return info


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("rows", "members", "said"),
    [
        ([row(sha256="0" * 64)], [(FILE, NUMBERS)], f"{FILE} is damaged .* checksum does not fit"),
        ([row(b"/etc/passwd")], [(special(stat.S_IFLNK), b"/etc/passwd")], "no plain file"),
        ([row(b"/etc/passwd")], [(special(stat.S_IFIFO), b"/etc/passwd")], "no plain file"),
        ([row()], [(FILE, NUMBERS), (FILE, b"other")], "more than once"),
        ([row()], [(FILE, NUMBERS), (bundles.MANIFEST, b"{}")], "'manifest.json' more than once"),
        ([row()], [], f"'{FILE}' is missing"),
        ([row(), row()], [(FILE, NUMBERS)], "names a key twice"),
        *((rows, [(FILE, NUMBERS)], "is not that of a bundle") for rows in (None, {"a": 1}, [5], [{}], "text")),
    ],
)
def test_members_and_a_manifest_that_do_not_fit_are_refused(
    filled: Store, rows: Any, members: list[tuple[str | zipfile.ZipInfo, bytes]], said: str
) -> None:
    refused(filled, packed(rows, members), said)


def test_a_compressed_member_is_refused(filled: Store) -> None:
    zeros = safetensors.numpy.save({"zeros": np.zeros(10**6)})
    bomb = packed([row(zeros)], [(FILE, zeros)], compress_type=zipfile.ZIP_DEFLATED)
    assert len(bomb.getvalue()) < len(zeros) / 100
    refused(filled, bomb, f"'{FILE}' is compressed")


def test_members_that_share_their_bytes_are_refused(filled: Store) -> None:
    """Ten names for the same place in the file: ten times what is there would be written to the disk."""
    content = safetensors.numpy.save({"zeros": np.zeros(10_000)})
    keys = [key_of("kind", {"copy": n}) for n in range(10)]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(f"{keys[0]}.safetensors", content)
        rows = [row(content, key=key, file=f"{key}.safetensors") for key in keys]
        archive.writestr(bundles.MANIFEST, json.dumps({"format": bundles.FORMAT, "entries": rows}))
        first = archive.filelist[0]
        for key in keys[1:]:
            twin = zipfile.ZipInfo(f"{key}.safetensors")
            for name in ("CRC", "compress_size", "file_size", "header_offset"):
                setattr(twin, name, getattr(first, name))
            archive.filelist.append(twin)
    refused(filled, stream, "claims to hold .* bytes")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"size": len(NUMBERS) - 1}, "of another size"),
        ({"size": 10**12}, "of another size"),
        ({"size": -1}, "Entry 0"),
        ({"size": True}, "Entry 0"),
        ({"meta": []}, "Entry 0"),
        ({"sha256": "0" * 63}, "Entry 0"),
        ({"key": 5}, "Entry 0"),
        ({"key": f"{KEY}\n"}, "Entry 0"),
        ({"key": key_of("fingerprint", {}), "file": key_of("fingerprint", {}) + ".safetensors"}, "Entry 0"),
        ({"more": 1}, "is not that of a bundle"),
        ({"meta": {"number": float("nan")}}, "is not that of a bundle"),
    ],
)
def test_an_entry_of_a_manifest_that_does_not_fit_is_refused(filled: Store, other: dict[str, Any], said: str) -> None:
    refused(filled, packed([row(**other)], [(FILE, NUMBERS)]), said)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b"\xff", b"[" * 200_000, b'{"format": 1}', b"1" * 5_000])
def test_a_manifest_that_is_no_json_is_refused(filled: Store, content: bytes) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(bundles.MANIFEST, content)
    refused(filled, stream, "is not that of a bundle")


def test_deep_metadata_is_refused_or_stored_but_ends_in_no_other_error(laptop: Store) -> None:
    for depth in (50, 300, 500, 900):
        meta: dict[str, Any] = {}
        for _ in range(depth):
            meta = {"a": meta}
        try:
            assert load(laptop, packed([row(meta=meta)], [(FILE, NUMBERS)])).count == 1
        except BundleError:
            assert depth > 50


def test_a_manifest_too_large_for_memory_is_not_read(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MOST_MANIFEST", 100)
    refused(filled, packed([row()], [(FILE, NUMBERS)]), "at most 100 are read")
    with pytest.raises(BundleError, match="too many for one bundle"):
        export(filled, KEYS, io.BytesIO())


def test_a_pipe_is_no_bundle(laptop: Store, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "waits")  # whoever opens it hangs
    with pytest.raises(BundleError, match="waits is no plain file, but a pipe or a device"):
        load(laptop, tmp_path / "waits")


def test_another_version_or_no_manifest_is_told(filled: Store) -> None:
    refused(filled, packed([], [], version=99), "of format '99'; this version reads format 1")
    stream = io.BytesIO()
    zipfile.ZipFile(stream, "w").close()
    refused(filled, stream, "There is no manifest.json")
    with pytest.raises(BundleError, match="cannot be read"):
        load(filled, filled.root)
    refused(filled, io.BytesIO(pickle.dumps([1])), "is no whole bundle")


def test_what_came_before_a_damaged_member_is_kept_and_skipped_the_next_time(filled: Store, laptop: Store) -> None:
    stream = io.BytesIO()
    export(filled, KEYS, stream)
    names = sorted(KEYS)
    broken = bytearray(stream.getvalue())
    broken[broken.index(names[1].encode()) + 200] ^= 1
    with pytest.raises(BundleError, match=f"{names[1]}.safetensors is damaged in the bundle: Bad CRC-32"):
        load(laptop, io.BytesIO(bytes(broken)))
    assert set(contents(laptop)) == {names[0]}
    done = load(laptop, stream)
    assert (done.count, done.skipped) == (2, 1)
    assert contents(laptop) == ALL
