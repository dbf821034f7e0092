"""Results on disk: content-addressed, checksummed, written atomically, computed once; nothing is ever unpickled.

Small metadata lies as checksummed JSON text in a diskcache index; arrays lie beside it as safetensors files whose
SHA-256 the metadata holds. Every value is written to a new file, and exists once the index names it. An entry that
fails a check of its bytes or of its contents (`schema`) is set aside in `damaged/` and counts as missing, and so does a
damaged index. What dead processes left is swept when a store is opened. A folder that cannot be written to is still
read. Deleting the whole folder loses nothing but time.

Below the cache folder lies what came with the program (`shipped`): it is read where the cache has no value of a key,
and nothing else is ever done to it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors.numpy
from platformdirs import user_cache_path

from kis_core import progress
from kis_core.errors import shown
from kis_core.files import locks
from kis_core.read_only import read_only
from kis_core.store import array_files, leftovers, schema
from kis_core.store.array_files import Damaged
from kis_core.store.index import Row
from kis_core.store.shared_index import SharedIndex, StoreError, not_written
from kis_core.store.shipped import default_folder, shipped
from kis_core.store.values import Entry, Item, key_of, kind_of

__all__ = ["DEFAULT_ROOT", "ROOT_VARIABLE", "Entry", "Item", "Store", "StoreError", "default_root", "key_of"]

log = logging.getLogger(__name__)

CHECKOUT = Path(__file__).resolve().parents[2]
DEFAULT_ROOT = CHECKOUT / "cache" if (CHECKOUT / "app.py").is_file() else user_cache_path("knowledge-in-superposition")
ROOT_VARIABLE = "KIS_CACHE"  # environment variable that moves the cache elsewhere
POLL_SECONDS = 0.2  # after which a waiting process looks whether the computing one is done, dead or cancelled
T = TypeVar("T")


def default_root() -> Path:
    """The cache folder where none is named."""
    return Path(os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT)


class Store:
    """The cache folder, and below it what came with the program. Safe to share between threads and processes.

    Every method raises `StoreError` where the index is locked or cannot be read.

    Args:
        root: the cache folder.
        gallery: the folder that came with the program; empty for none.
    """

    def __init__(self, root: str | Path | None = None, gallery: str | Path | None = None) -> None:
        self.root = Path(root or default_root())
        below = default_folder() if gallery is None else gallery
        self._below = shipped(Path(below) if below else None)
        self._index = SharedIndex(self.root)
        self._unkept: dict[str, Entry] = {}  # small values that could not be kept, for as long as the process lives
        if not self.unwritable:
            leftovers.sweep(self)

    @property
    def unwritable(self) -> str:
        """Why nothing can be kept, or empty."""
        return self._index.unwritable

    def get(self, key: str, **sizes: int) -> Entry | None:
        """The stored value, or None if there is none or it is damaged (it is then set aside).

        Where the cache has none, it is the one that came with the program.

        Args:
            key: its name.
            sizes: of its arrays, as far as they are known: axes by their names in `schema`. A value of other sizes is
                damaged.
        """
        return self._unless_damaged(key, lambda key, row: self._load(key, row, sizes)) or self._below.get(key, sizes)

    def verify(self, key: str) -> bool:
        """Whether a value is stored and undamaged, by reading one array after the other; a damaged one is set aside."""
        return self._unless_damaged(key, self._check) is not None or self._below.get(key, {}) is not None

    def holds(self, key: str) -> bool:
        """Whether there is a value of that key; its arrays are not checked."""
        return bool(self._index.use(lambda rows: key in rows)) or self._below.find(key) is not None

    def listed(self, kind: str) -> dict[str, dict[str, Any]]:
        """Key and metadata of every value of a kind in the `inventory` whose metadata is what it must be."""
        metadata = {}
        for item in self.inventory(kind):
            with suppress(Damaged):  # the next `get` sets it aside
                schema.check_meta(kind, item.meta)
                metadata[item.key] = item.meta
        return metadata

    def inventory(self, kind: str | None = None) -> list[Item]:
        """Every value, or those of a kind (see `key_of`); no array is read or checked."""
        rows = self._index.use(lambda rows: {key: rows.get(key) for key in rows if kind in (None, kind_of(key))})
        here = {key: item for key, row in rows.items() if (item := self._item(key, row))}
        return [*here.values(), *self._below.items(kind, without=here)]

    def find(self, key: str) -> Item | None:
        """The value of that key as an item of the `inventory`, or None."""
        return self._item(key, self._index.get(key)) or self._below.find(key)

    def row(self, key: str) -> str | None:
        """The text under a key in the index of the cache folder, or None."""
        return self._index.get(key)

    def put(self, key: str, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Store a value; readers see the old one or the new one, never a mixture.

        Raises:
            StoreError: it could not be written.
            TypeError, ValueError: `meta` is not JSON, or an array holds no plain numbers.
        """
        try:
            content = safetensors.numpy.save({name: np.asarray(array, order="C") for name, array in arrays.items()})
        except safetensors.SafetensorError as error:
            raise TypeError(f"an array cannot be stored: {error}") from error
        self._place(key, meta, hashlib.sha256(content).hexdigest(), lambda path: array_files.write(path, content))

    def adopt(self, key: str, meta: Mapping[str, Any], file: Path, sha256: str) -> None:
        """Store a value whose arrays lie in a safetensors file of this disk; it is checked, and moved into the store.

        Raises:
            StoreError: the file fails a check, or could not be moved; it is then left where it is, or gone.
            TypeError, ValueError: `meta` is not JSON.
        """
        try:
            array_files.check(file, sha256)
            schema.check(kind_of(key), meta, array_files.arrays(file))
        except Damaged as damage:
            raise StoreError(f"{key} cannot be stored: {damage}") from damage
        self._place(key, meta, sha256, lambda path: array_files.move(file, path))

    def delete(self, key: str) -> None:
        """Delete a value, if it is stored in the cache folder.

        Raises:
            StoreError: the index could not be written.
        """
        self._remove_file_of(key, self._index.exchange(key, None))

    def get_or_compute(
        self, key: str, compute: Callable[[], Entry], report: progress.Report = progress.silent, **sizes: int
    ) -> Entry:
        """The stored value, or a new one: the first caller computes it, the others wait for it.

        A value that cannot be stored is still returned; the log says why it was not kept. `sizes` are those of `get`.
        """
        if entry := self._unkept.get(key) or self.get(key, **sizes):
            return entry
        with self.alone(key, report):
            if entry := self.get(key, **sizes):
                return entry
            entry = compute()
            try:
                self.put(key, entry.meta, entry.arrays)
            except StoreError as error:
                if not self.unwritable:  # which was logged when the store was opened
                    log.warning("computed but not kept: %s", shown(str(error)))
                if not entry.arrays:
                    self._unkept[key] = entry
            return entry

    @contextmanager
    def alone(self, key: str, report: progress.Report) -> Iterator[None]:
        """Within the block, no other process on this cache folder works on that key; the others wait, and report it.

        Where no lock can be made, nothing can be stored either, and each process works for itself.
        """
        path = self.root / "locks" / f"{key}{leftovers.LOCK}"
        held = None
        try:
            while not read_only() and (held := locks.take(path)) is None:
                report("Waiting for another run of the same", 0, 1)
                time.sleep(POLL_SECONDS)
        except OSError as error:
            if not locks.unwritable(error):
                raise StoreError(f"{path} cannot be locked: {error}") from error
        try:
            yield
        finally:
            if held is not None:
                locks.free(held, path)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Within the block, files and rows that nothing names yet are not swept, as they are about to be named.

        Raises:
            StoreError: the cache folder cannot be written to.
        """
        self._index.need_to_write()
        try:
            with locks.shared(self.root / leftovers.NAMING):
                yield
        except OSError as error:
            raise not_written(self.root, error) from error

    def _place(self, key: str, meta: Mapping[str, Any], sha256: str, write: Callable[[Path], None]) -> None:
        """Write a file, then let the index name it."""
        file = f"{key}-{secrets.token_hex(8)}.safetensors"
        row = Row(dict(meta), file, sha256).dump()
        self._index.need_to_write()
        with self.naming():
            try:
                write(self.root / "matrices" / file)
                before = self._index.exchange(key, row)
            except (OSError, StoreError) as error:
                self._remove(file)
                raise not_written(self.root, error) from error
            self._remove_file_of(key, before)

    def _unless_damaged(self, key: str, read: Callable[[str, str], T]) -> T | None:
        doubtful = None
        while (row := self._index.get(key)) is not None:
            try:
                return read(key, row)
            except Damaged as damage:
                if row == doubtful:
                    self._set_aside(key, row, str(damage))
                    return None
                doubtful = row  # look once more: the value may have been replaced between the two reads
        return None

    def _item(self, key: str, row: str | None) -> Item | None:
        with suppress(Damaged, OSError):  # the next `get` sets it aside
            if row is not None:
                described = Row.load(key, row)
                path = self.root / "matrices" / described.file
                seen = path.stat()
                return Item(key, described.meta, path, described.sha256, seen.st_size, seen.st_mtime)
        return None

    def _check(self, key: str, row: str) -> bool:
        described = Row.load(key, row)
        path = self.root / "matrices" / described.file
        array_files.check(path, described.sha256)
        if not schema.of_another_version(kind_of(key), described.meta):
            schema.check(kind_of(key), described.meta, array_files.arrays(path))
        return True

    def _load(self, key: str, row: str, sizes: Mapping[str, int]) -> Entry:
        described = Row.load(key, row)
        arrays = array_files.load(self.root / "matrices" / described.file, described.sha256)
        schema.check(kind_of(key), described.meta, arrays.items(), sizes)
        return Entry(described.meta, arrays)

    def _set_aside(self, key: str, row: str, reason: str) -> None:
        log.warning("entry %s is damaged: %s; it will be computed anew", key, shown(reason))
        if self.unwritable:
            return
        self._index.exchange(key, None, expected=row)
        with suppress(Damaged, OSError):
            file = Row.load(key, row).file
            os.replace(self.root / "matrices" / file, self.root / "damaged" / f"{file}-{time.time_ns()}")

    def _remove_file_of(self, key: str, row: str | None) -> None:
        with suppress(Damaged):
            if row is not None:
                self._remove(Row.load(key, row).file)

    def _remove(self, file: str) -> None:
        with suppress(OSError):
            (self.root / "matrices" / file).unlink()
