"""Stored values as one file: a plain zip of `manifest.json` and the safetensors files as they lie in the store.

A bundle is read as if a stranger had written it: nothing in it names a path, is unpacked as more than the manifest
promises, or becomes visible in the store before its checksum was found right.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
import struct
import zipfile
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from kis_core import progress
from kis_core.errors import KisError
from kis_core.files import atomic
from kis_core.library import inventory
from kis_core.store.array_files import Damaged
from kis_core.store.index import check_characters
from kis_core.store.schema import Misfit
from kis_core.store.store import Item, Store, StoreError

FORMAT = 1  # raise it when a bundle can no longer be read as before
MANIFEST = "manifest.json"
MOST_MANIFEST = 1 << 28  # bytes; metadata of a result takes some 350 a fact, so that is 400 results of 2,000 facts
CHUNK = 1 << 20  # bytes copied at once
ENCRYPTED = 0x1  # bit of a zip member's flags
KEY = re.compile(r"[a-z][a-z-]{0,39}-[0-9a-f]{64}")
SHA256 = re.compile(r"[0-9a-f]{64}")
BROKEN_ZIP = (zipfile.BadZipFile, zipfile.LargeZipFile, struct.error, EOFError)
BROKEN = (*BROKEN_ZIP, RuntimeError, ValueError, TypeError, KeyError, OverflowError)
"""What `zipfile` and `json` raise over content they cannot use; RuntimeError is also that of too deep a recursion."""
EXPORT_STAGE, IMPORT_STAGE = "Writing the bundle", "Reading the bundle"


class BundleError(KisError):
    """A bundle that cannot be read or written; the message names the member, and says what to do."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of an import.

    Attributes:
        keys: values that are new, or took the place of others under the same key.
        skipped: how many were there already, and whole.
        bytes: read into the store.
    """

    keys: tuple[str, ...]
    skipped: int
    bytes: int

    @property
    def count(self) -> int:
        """How many values were read into the store."""
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class _Member:
    """A row of the manifest."""

    key: str
    meta: dict[str, Any]
    sha256: str
    file: str
    size: int


def export(
    store: Store,
    keys: Iterable[str],
    target: str | Path | BinaryIO,
    *,
    with_moments: bool = False,
    report: progress.Report = progress.silent,
) -> int:
    """Write stored values to a bundle; the same values always give the same bytes.

    Args:
        store: where they are.
        keys: their names.
        target: a file, which is replaced once the bundle is whole, or a stream.
        with_moments: also every C that stands behind a result among them.
        report: called after every value.

    Returns:
        the bytes of the values.

    Raises:
        BundleError: a value is gone or damaged, is of this machine alone, or the file cannot be written.
    """
    wanted = set(keys)
    if with_moments:
        wanted |= inventory.moments_behind(store, wanted)
    if not isinstance(target, str | Path):
        return _write(store, sorted(wanted), target, report)
    try:
        with atomic.replaced(Path(target)) as stream:
            return _write(store, sorted(wanted), stream, report)
    except atomic.NotWritten as error:
        raise BundleError(str(error)) from error


def load(store: Store, source: str | Path | BinaryIO, *, report: progress.Report = progress.silent) -> Imported:
    """Read a bundle into a store. What is there already, with the same checksum, is skipped.

    A value of another content under the same key is replaced. When an error ends the import, what was read before is
    kept, and is skipped the next time.

    Raises:
        BundleError: it is no bundle, or a member is not what the manifest says; the store is as it was for that key.
        StoreError: the store cannot be written to.
    """
    name = Path(source).name if isinstance(source, str | Path) else "The file"
    if isinstance(source, str | Path) and (path := Path(source)).exists() and not (path.is_file() or path.is_dir()):
        raise BundleError(f"{name} is no plain file, but a pipe or a device. Copy the bundle to a file.")
    try:
        with zipfile.ZipFile(source) as archive:
            members = _checked(archive)
            return _read(store, archive, members, report)
    except FileNotFoundError as error:
        raise BundleError(f"There is no file {source}.") from error
    except BROKEN as error:
        raise BundleError(f"{name} is no whole bundle: {error}. Export or copy it anew.") from error
    except OSError as error:
        raise BundleError(f"{name} cannot be read: {error.strerror or error}.") from error


def _write(store: Store, keys: list[str], stream: BinaryIO, report: progress.Report) -> int:
    rows: list[dict[str, Any]] = []
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for done, key in enumerate(keys):
            report(EXPORT_STAGE, done, len(keys))
            rows.append(_write_member(store, key, archive))
        manifest = json.dumps({"format": FORMAT, "entries": rows}, sort_keys=True).encode()
        if len(manifest) > MOST_MANIFEST:
            raise BundleError(f"{len(keys):,} values are too many for one bundle; make several.")
        archive.writestr(zipfile.ZipInfo(MANIFEST), manifest)
    report(EXPORT_STAGE, len(keys), len(keys))
    return sum(row["size"] for row in rows)


def _write_member(store: Store, key: str, archive: zipfile.ZipFile) -> dict[str, Any]:
    if not KEY.fullmatch(key) or inventory.of_this_machine(key):
        raise BundleError(f"{key[:80]} is no value that can go into a bundle.")
    item, stream = _opened(store, key)
    file, digest, size = f"{key}.safetensors", hashlib.sha256(), 0
    with stream, archive.open(zipfile.ZipInfo(file), "w", force_zip64=True) as member:
        while chunk := stream.read(CHUNK):
            member.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    if digest.hexdigest() != item.sha256:
        raise BundleError(f"{key} is damaged: its checksum does not fit. Verify it, and compute it anew.")
    return {"key": key, "meta": item.meta, "sha256": item.sha256, "file": file, "size": size}


def _opened(store: Store, key: str) -> tuple[Item, BinaryIO]:
    """A value and its file, open: what replaces the value from now on does no harm."""
    for _ in range(3):  # each look may be overtaken by a new value, whose file has another name
        if (item := store.find(key)) is None:
            break
        try:
            return item, item.path.open("rb")
        except FileNotFoundError:
            continue
    raise BundleError(f"{key} is not in {store.root}, or damaged.")


def _checked(archive: zipfile.ZipFile) -> list[_Member]:
    """What the manifest names, once nothing else is there and all of it is of the right size."""
    infos = archive.infolist()
    twice = [name for name, count in Counter(info.filename for info in infos).items() if count > 1]
    if twice:
        raise BundleError(f"The bundle holds {twice[0][:100]!r} more than once.")
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & ENCRYPTED or kind not in (0, stat.S_IFREG):
            raise BundleError(f"{info.filename[:100]!r} is compressed, encrypted or no plain file; bundles hold none.")
    total = sum(info.file_size for info in infos)
    if total > (size := _size(archive)):
        raise BundleError(f"The bundle claims to hold {total:,} bytes and has {size:,}.")
    members = _manifest(archive)
    expected = {member.file: member.size for member in members} | {MANIFEST: archive.getinfo(MANIFEST).file_size}
    sizes = {info.filename: info.file_size for info in infos}
    if wrong := sorted(expected.items() ^ sizes.items()):
        raise BundleError(f"{wrong[0][0][:100]!r} is missing, of another size than the manifest says, or not in it.")
    return members


def _size(archive: zipfile.ZipFile) -> int:
    stream = archive.fp
    if stream is None:
        return 0
    stream.seek(0, os.SEEK_END)
    return stream.tell()


def _manifest(archive: zipfile.ZipFile) -> list[_Member]:
    try:
        info = archive.getinfo(MANIFEST)
    except KeyError:
        raise BundleError(f"There is no {MANIFEST} in it, so it is no bundle of this program.") from None
    if info.file_size > MOST_MANIFEST:
        raise BundleError(f"Its {MANIFEST} has {info.file_size:,} bytes; at most {MOST_MANIFEST:,} are read.")
    try:
        manifest = json.loads(archive.read(info), parse_constant=_no_constant)
        version, rows = manifest["format"], manifest["entries"]
        members = [_Member(**row) for row in rows] if version == FORMAT else []
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"Its {MANIFEST} is not that of a bundle.") from error
    if version != FORMAT:
        raise BundleError(f"The bundle is of format {str(version)[:20]!r}; this version reads format {FORMAT}.")
    for number, member in enumerate(members):
        _check_row(number, member)
        try:
            check_characters(member.meta)
        except Damaged as damage:
            raise BundleError(
                f"{member.key} is not what it must be: {damage}. Leave it out, and export anew."
            ) from damage
    if len({member.key for member in members}) < len(members):
        raise BundleError(f"Its {MANIFEST} names a key twice.")
    return members


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _check_row(number: int, member: _Member) -> None:
    key = member.key if isinstance(member.key, str) else ""
    fine = (
        KEY.fullmatch(key)
        and not inventory.of_this_machine(key)
        and isinstance(member.meta, dict)
        and isinstance(member.sha256, str)
        and SHA256.fullmatch(member.sha256)
        and member.file == f"{key}.safetensors"
        and type(member.size) is int
        and member.size >= 0
    )
    if not fine:
        raise BundleError(
            f"Entry {number} of its {MANIFEST}, {str(member.key)[:100]!r}, is not one that a store holds."
        )


def _read(store: Store, archive: zipfile.ZipFile, members: list[_Member], report: progress.Report) -> Imported:
    added: list[_Member] = []
    for done, member in enumerate(members):
        report(IMPORT_STAGE, done, len(members))
        here = store.find(member.key)
        same = here is not None and (here.sha256, here.meta) == (member.sha256, member.meta)
        if not (same and store.verify(member.key)):
            _take_in(store, archive, member)
            added.append(member)
    report(IMPORT_STAGE, len(members), len(members))
    return Imported(
        tuple(member.key for member in added), len(members) - len(added), sum(member.size for member in added)
    )


def _take_in(store: Store, archive: zipfile.ZipFile, member: _Member) -> None:
    staged = store.root / "matrices" / f"{member.key}-{secrets.token_hex(8)}.partial"  # an orphan, if we are killed
    try:
        with store.naming():
            with staged.open("xb") as target, archive.open(member.file) as source:
                while chunk := source.read(CHUNK):
                    target.write(chunk)
            store.adopt(member.key, member.meta, staged, member.sha256)
    except OSError as error:
        raise StoreError(f"could not write to {store.root}: {error}. Is the disk full or read-only?") from error
    except StoreError as error:
        if isinstance(damage := error.__cause__, Misfit):
            raise BundleError(
                f"{member.key} is not what it must be: {damage}. Leave it out, and export anew."
            ) from error
        if isinstance(damage, Damaged):
            raise BundleError(f"{member.file} is damaged in the bundle: {damage}. Export or copy it anew.") from error
        raise
    except BROKEN as error:
        raise BundleError(f"{member.file} is damaged in the bundle: {error}. Export or copy it anew.") from error
    finally:
        with suppress(OSError):  # on a read-only disk even what is not there cannot be removed
            staged.unlink(missing_ok=True)
