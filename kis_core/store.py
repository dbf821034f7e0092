"""Results on disk: content-addressed, checksummed, written atomically, computed once; nothing is ever unpickled.

Small metadata lies as checksummed JSON text in a diskcache index; arrays lie beside it as safetensors files whose
SHA-256 the metadata holds. Every value is written to a file of its own, and is there once the index names it. An entry
that fails a check is set aside in `damaged/` and counts as missing, and so is a damaged index. Deleting the whole
folder loses nothing but time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import diskcache
import numpy as np
import safetensors.numpy
from filelock import FileLock, Timeout

from kis_core import array_files, progress
from kis_core.array_files import Damaged
from kis_core.errors import KisError

log = logging.getLogger(__name__)

DEFAULT_ROOT = Path(__file__).resolve().parent.parent / "cache"
ROOT_VARIABLE = "KIS_CACHE"  # environment variable that moves the cache elsewhere
POLL_SECONDS = 0.2  # how soon a waiter notices that the computing process is done, dead or cancelled
INDEX_LIMIT = 1 << 40  # diskcache's size limit; eviction is off, so it only has to be out of reach
SURROUNDINGS = frozenset({
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_AUTH,
})  # fmt: skip
"""SQLite's primary result codes that blame a lock, the disk or a permission; any other blames the index itself.

Read-only is not among them: a damaged header says so too, and an index that truly is cannot be set aside either.
"""
INDEX_ERRORS = (sqlite3.Error, diskcache.Timeout, ValueError, TypeError, AttributeError)
"""What diskcache raises over an index it cannot use; over a damaged one it also trips on values of another type."""

T = TypeVar("T")


def default_root() -> Path:
    """The cache folder where none is named."""
    return Path(os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT)


class StoreError(KisError):
    """The cache folder cannot be used: disk full, locked, no permission. What was stored before is untouched."""


@dataclass(frozen=True)
class Entry:
    """A stored value: JSON-able `meta` and named arrays."""

    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class Item:
    """A stored value as the index tells it; its arrays are neither read nor checked.

    Attributes:
        key, meta: its name and metadata.
        path, sha256, bytes: of the file with its arrays.
        written: when, in seconds since the epoch.
    """

    key: str
    meta: dict[str, Any]
    path: Path
    sha256: str
    bytes: int
    written: float

    @property
    def kind(self) -> str:
        """What it is; see `key_of`."""
        return self.key.rpartition("-")[0]


def key_of(kind: str, ingredients: Mapping[str, Any]) -> str:
    """The name under which a value is stored: its kind, and the SHA-256 of everything that determines it."""
    canonical = json.dumps(ingredients, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return f"{kind}-{hashlib.sha256(canonical.encode()).hexdigest()}"


@dataclass(frozen=True)
class _Row:
    """What the index holds of a value: `meta`, and name and SHA-256 of the file with the arrays."""

    meta: dict[str, Any]
    file: str
    sha256: str

    def dump(self) -> str:
        text = json.dumps(asdict(self), allow_nan=False)
        return json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "text": text})

    @classmethod
    def load(cls, key: str, row: str) -> _Row:
        try:
            outer = json.loads(row)
            if hashlib.sha256(str(outer["text"]).encode()).hexdigest() != outer["sha256"]:
                raise Damaged("its metadata does not fit its checksum")
            result = cls(**json.loads(outer["text"]))
            if not result.file.startswith(f"{key}-") or Path(result.file).name != result.file:
                raise Damaged("its metadata names a file that is not its own")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Damaged("its metadata cannot be read") from error
        return result


class _TextDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache carries no types
    """Stores text in the index itself and nothing else, so no row can make anything run, be opened or be removed."""

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        if read or not isinstance(value, str):
            raise TypeError("the index stores text only")
        return 0, diskcache.core.MODE_RAW, None, value

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> str:
        # a row of another kind was planted; it reads as text that fails the check of a row
        return value if mode == diskcache.core.MODE_RAW and isinstance(value, str) else ""

    def remove(self, file_path: str) -> None:
        log.warning("a row of the index names a file of its own; the file is left alone")

    def put(self, key: Any) -> tuple[str, bool]:
        return str(key), True

    def get(self, key: Any, raw: bool) -> str:
        if not raw or not isinstance(key, str):
            raise ValueError("a key of the index is not text")
        return key


class Store:
    """The cache folder. Safe to share between threads and processes."""

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(root or default_root())
        self._retiring = threading.Lock()
        try:
            for folder in ("matrices", "locks", "damaged"):
                (self.root / folder).mkdir(parents=True, exist_ok=True)
            self._index = self._open_index()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{self.root} cannot be used as the cache folder: {error}") from error

    def get(self, key: str) -> Entry | None:
        """The stored value, or None if there is none or it is damaged (it is then set aside).

        Raises:
            StoreError: the index is locked or cannot be read.
        """
        return self._unless_damaged(key, self._load)

    def verify(self, key: str) -> bool:
        """Whether a value is there and whole; a damaged one is set aside. Its file is read in pieces.

        Raises:
            StoreError: the index is locked or cannot be read.
        """
        return self._unless_damaged(key, self._check) is not None

    def holds(self, key: str) -> bool:
        """Whether a value of that key seems to be there; it is not checked.

        Raises:
            StoreError: the index is locked or cannot be read.
        """
        return bool(self._with_index(lambda index: key in index))

    def listed(self, kind: str) -> dict[str, dict[str, Any]]:
        """Key and metadata of every whole-looking value of a kind; as `inventory`."""
        return {item.key: item.meta for item in self.inventory(kind)}

    def inventory(self, kind: str | None = None) -> list[Item]:
        """Every whole-looking value, or those of a kind (see `key_of`); no array is read, none is checked.

        Raises:
            StoreError: the index is locked or cannot be read.
        """
        rows = self._with_index(
            lambda index: {key: index.get(key) for key in index if kind in (None, key.rpartition("-")[0])}
        )
        return [item for key, row in rows.items() if (item := self._item(key, row))]

    def find(self, key: str) -> Item | None:
        """The value of that key as `inventory` tells it, or None."""
        return self._item(key, self._with_index(lambda index: index.get(key)))

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
        except Damaged as damage:
            raise StoreError(f"{key} cannot be stored: {damage}") from damage
        self._place(key, meta, sha256, lambda path: array_files.move(file, path))

    def delete(self, key: str) -> None:
        """Forget a value, if it is there.

        Raises:
            StoreError: the index could not be written.
        """
        self._remove_file_of(key, self._exchange(key, None))

    def get_or_compute(
        self,
        key: str,
        compute: Callable[[], Entry],
        report: progress.Report = progress.silent,
    ) -> Entry:
        """The stored value, or a new one: one asker computes, the others wait for it.

        A value that cannot be stored is still returned; the log says why it was not kept.
        """
        if entry := self.get(key):
            return entry
        with self.alone(key, report):
            if entry := self.get(key):
                return entry
            entry = compute()
            try:
                self.put(key, entry.meta, entry.arrays)
            except StoreError as error:
                log.warning("computed but not kept: %s", error)
            return entry

    @contextmanager
    def alone(self, key: str, report: progress.Report) -> Iterator[None]:
        """Within the block, nobody else on this cache folder works under that key; others wait, and say so."""
        lock = FileLock(self.root / "locks" / f"{key}.lock")  # flock: the system frees it when its holder dies
        while True:
            try:
                lock.acquire(timeout=POLL_SECONDS)
                break
            except Timeout:
                report("Waiting for another run of the same", 0, 1)
        try:
            yield
        finally:
            lock.release()

    def _open_index(self) -> diskcache.Cache:
        options = {"disk": _TextDisk, "eviction_policy": "none", "cull_limit": 0, "size_limit": INDEX_LIMIT}
        try:
            return diskcache.Cache(str(self.root / "index"), **options)
        except INDEX_ERRORS as error:
            if not _blames_index(error):
                raise
            self._set_index_aside(error)
            return diskcache.Cache(str(self.root / "index"), **options)

    def _set_index_aside(self, error: Exception) -> None:
        log.warning("the index is damaged (%s); it is set aside and results are computed anew", type(error).__name__)
        with suppress(FileNotFoundError):  # another process was faster
            os.replace(self.root / "index", self.root / "damaged" / f"index-{time.time_ns()}")

    def _with_index(self, action: Callable[[diskcache.Cache], T]) -> T:
        """Do something with the index, on a new one if it turns out to be damaged."""
        index = self._index
        try:
            try:
                return action(index)
            except INDEX_ERRORS as error:
                if not _blames_index(error):
                    raise
                index.close()
                with self._retiring:
                    if self._index is index:
                        self._set_index_aside(error)
                        self._index = self._open_index()
            return action(self._index)
        except diskcache.Timeout as error:
            raise StoreError(f"the index in {self.root} cannot be used: {error.__context__}") from error
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"the index in {self.root} cannot be used: {error}") from error

    def _exchange(self, key: str, row: str | None, *, expected: str | None = None) -> str | None:
        """Put a row, or none, in the place of a key's present one, or only of the expected one; return that."""

        def exchange(index: diskcache.Cache) -> str | None:
            with index.transact():
                before: str | None = index.get(key)
                if expected is None or before == expected:
                    index.delete(key) if row is None else index.set(key, row)
                return before

        return self._with_index(exchange)

    def _place(self, key: str, meta: Mapping[str, Any], sha256: str, write: Callable[[Path], None]) -> None:
        """Let a file be written, then let the index name it."""
        file = f"{key}-{secrets.token_hex(8)}.safetensors"
        row = _Row(dict(meta), file, sha256).dump()
        try:
            write(self.root / "matrices" / file)
            before = self._exchange(key, row)
        except (OSError, StoreError) as error:
            self._remove(file)
            raise StoreError(f"could not write to {self.root}: {error}. Is the disk full or read-only?") from error
        self._remove_file_of(key, before)

    def _unless_damaged(self, key: str, read: Callable[[str, str], T]) -> T | None:
        doubtful = None
        while (row := self._with_index(lambda index: index.get(key))) is not None:
            try:
                return read(key, row)
            except Damaged as damage:
                if row == doubtful:
                    self._set_aside(key, row, str(damage))
                    return None
                doubtful = row  # look once more: the value may have been replaced between the two reads
        return None

    def _item(self, key: str, row: str | None) -> Item | None:
        with suppress(Damaged, OSError):  # whoever gets it will set it aside
            if row is not None:
                described = _Row.load(key, row)
                path = self.root / "matrices" / described.file
                seen = path.stat()
                return Item(key, described.meta, path, described.sha256, seen.st_size, seen.st_mtime)
        return None

    def _check(self, key: str, row: str) -> bool:
        described = _Row.load(key, row)
        array_files.check(self.root / "matrices" / described.file, described.sha256)
        return True

    def _load(self, key: str, row: str) -> Entry:
        described = _Row.load(key, row)
        try:
            content = (self.root / "matrices" / described.file).read_bytes()
        except OSError as error:
            raise Damaged("its file cannot be read") from error
        if hashlib.sha256(content).hexdigest() != described.sha256:
            raise Damaged("its checksum does not fit")
        try:
            return Entry(described.meta, safetensors.numpy.load(content))
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise Damaged("its file holds no arrays") from error

    def _set_aside(self, key: str, row: str, reason: str) -> None:
        log.warning("entry %s is damaged: %s; it will be computed anew", key, reason)
        self._exchange(key, None, expected=row)
        with suppress(Damaged, OSError):
            file = _Row.load(key, row).file
            os.replace(self.root / "matrices" / file, self.root / "damaged" / f"{file}-{time.time_ns()}")

    def _remove_file_of(self, key: str, row: str | None) -> None:
        with suppress(Damaged):
            if row is not None:
                self._remove(_Row.load(key, row).file)

    def _remove(self, file: str) -> None:
        with suppress(OSError):
            (self.root / "matrices" / file).unlink()


def _blames_index(error: BaseException) -> bool:
    """Whether a failure of the index is its own, not that of a lock, the disk or a permission."""
    chain = [error]
    while context := chain[-1].__context__:
        chain.append(context)  # a failed rollback hides what it should have rolled back
    codes = [getattr(link, "sqlite_errorcode", sqlite3.SQLITE_OK) for link in chain]
    return not isinstance(error, diskcache.Timeout) and not any(code & 0xFF in SURROUNDINGS for code in codes)
