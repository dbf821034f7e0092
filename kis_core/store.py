"""Results on disk: content-addressed, checksummed, written atomically, computed once; nothing is ever unpickled.

Small metadata lies as checksummed JSON text in a diskcache index; arrays lie beside it as safetensors files whose
SHA-256 the metadata holds. An entry that fails a check is set aside in `damaged/` and counts as missing. Deleting the
whole folder loses nothing but time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diskcache
import numpy as np
import safetensors.numpy
from filelock import FileLock, Timeout

from kis_core import progress
from kis_core.errors import KisError

log = logging.getLogger(__name__)

DEFAULT_ROOT = Path(__file__).resolve().parent.parent / "cache"
ROOT_VARIABLE = "KIS_CACHE"  # environment variable that moves the cache elsewhere
POLL_SECONDS = 0.2  # how soon a waiter notices that the computing process is done, dead or cancelled
INDEX_LIMIT = 1 << 40  # diskcache's size limit; eviction is off, so it only has to be out of reach


class StoreError(KisError):
    """A value could not be written: disk full, no permission. What was stored before is untouched."""


@dataclass(frozen=True)
class Entry:
    """A stored value: JSON-able `meta` and named arrays."""

    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]


def key_of(kind: str, ingredients: Mapping[str, Any]) -> str:
    """The name under which a value is stored: its kind, and the SHA-256 of everything that determines it."""
    canonical = json.dumps(ingredients, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return f"{kind}-{hashlib.sha256(canonical.encode()).hexdigest()}"


class _TextDisk(diskcache.Disk):
    """Stores text in the index itself and refuses everything else, so no row can make anything run."""

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        if read or not isinstance(value, str):
            raise TypeError("the index stores text only")
        return 0, diskcache.core.MODE_RAW, None, value

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode != diskcache.core.MODE_RAW or not isinstance(value, str):
            raise ValueError("a row of the index is not text")
        return value

    def put(self, key: Any) -> tuple[str, bool]:
        if not isinstance(key, str):
            raise TypeError("keys are text")
        return key, True

    def get(self, key: Any, raw: bool) -> str:
        if not raw or not isinstance(key, str):
            raise ValueError("a key of the index is not text")
        return key


class Store:
    """The cache folder. Safe to share between threads and processes."""

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(root or os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT)
        for folder in ("matrices", "locks", "damaged"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        self._index = self._open_index()

    def get(self, key: str) -> Entry | None:
        """The stored value, or None if there is none or it is damaged (it is then set aside)."""
        row = self._read_row(key)
        if row is None:
            return None
        path = self.root / "matrices" / row["file"]
        try:
            content = path.read_bytes()
        except OSError:
            # replaced between the two reads, or gone: look once more before giving up
            row = self._read_row(key)
            if row is None or not (self.root / "matrices" / row["file"]).is_file():
                self._set_aside(key, None, "its file is missing")
                return None
            path = self.root / "matrices" / row["file"]
            content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != row["sha256"]:
            self._set_aside(key, path, "its checksum does not fit")
            return None
        return Entry(row["meta"], safetensors.numpy.load(content))

    def put(self, key: str, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Store a value; readers see the old one or the new one, never a mixture.

        Raises:
            StoreError: it could not be written.
            TypeError: `meta` is not JSON, or an array holds objects.
        """
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        content = safetensors.numpy.save(contiguous)
        digest = hashlib.sha256(content).hexdigest()
        file = f"{key}-{digest[:16]}.safetensors"
        text = json.dumps({"meta": dict(meta), "file": file, "sha256": digest}, allow_nan=False)
        row = json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "text": text})
        try:
            before = self._read_row(key)
            _write_atomically(self.root / "matrices" / file, content)
            self._index.set(key, row)
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            raise StoreError(f"could not write to {self.root}: {error}. Is the disk full or read-only?") from error
        if before and before["file"] != file:
            (self.root / "matrices" / before["file"]).unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        """Forget a value, if it is there."""
        row = self._read_row(key)
        self._index.delete(key)
        if row:
            (self.root / "matrices" / row["file"]).unlink(missing_ok=True)

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
        with self._locked(key, report):
            if entry := self.get(key):
                return entry
            entry = compute()
            try:
                self.put(key, entry.meta, entry.arrays)
            except StoreError as error:
                log.warning("computed but not kept: %s", error)
            return entry

    @contextmanager
    def _locked(self, key: str, report: progress.Report) -> Any:
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
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                raise StoreError(f"the index in {self.root} is locked by another program") from error
            self._retire_index(error)
            return diskcache.Cache(str(self.root / "index"), **options)

    def _retire_index(self, error: Exception) -> None:
        log.warning("the index is damaged (%s); it is set aside and results are computed anew", type(error).__name__)
        os.replace(self.root / "index", self.root / "damaged" / f"index-{time.time_ns()}")

    def _read_row(self, key: str) -> dict[str, Any] | None:
        try:
            row = self._index.get(key)
        except sqlite3.OperationalError as error:
            raise StoreError(f"the index in {self.root} cannot be read: {error}") from error
        except sqlite3.DatabaseError as error:
            self._index.close()
            self._retire_index(error)
            self._index = self._open_index()
            return None
        except (ValueError, TypeError) as error:
            self._set_aside(key, None, str(error))
            return None
        if row is None:
            return None
        try:
            outer = json.loads(row)
            if hashlib.sha256(outer["text"].encode()).hexdigest() != outer["sha256"]:
                raise ValueError("checksum")
            inner: dict[str, Any] = json.loads(outer["text"])
        except (ValueError, KeyError, TypeError):
            self._set_aside(key, None, "its metadata does not fit its checksum")
            return None
        return inner

    def _set_aside(self, key: str, path: Path | None, reason: str) -> None:
        log.warning("entry %s is damaged: %s; it will be computed anew", key, reason)
        self._index.delete(key)
        if path is not None and path.exists():
            os.replace(path, self.root / "damaged" / f"{path.name}-{time.time_ns()}")


def _write_atomically(path: Path, content: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
