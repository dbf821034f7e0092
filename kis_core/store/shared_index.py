"""The index of a cache folder as threads and processes share it: written or only read, and set aside when damaged."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import diskcache

from kis_core.errors import KisError, shown
from kis_core.files import locks
from kis_core.read_only import VARIABLE, read_only
from kis_core.store import index, leftovers

log = logging.getLogger(__name__)

T = TypeVar("T")


class StoreError(KisError):
    """The cache folder cannot be used: disk full, locked, no permission. What was stored before is untouched."""


def not_written(root: Path, reason: object) -> StoreError:
    """The error where a cache folder cannot be written to."""
    return StoreError(f"could not write to {root}: {reason}. Is the disk full or read-only?")


class SharedIndex:
    """The rows of a cache folder.

    Attributes:
        root: the folder.
        unwritable: why nothing can be kept in it, or empty.

    Raises:
        StoreError: the folder can be neither written nor read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unwritable = ""
        self._retiring = threading.Lock()
        self.cache: diskcache.Cache | index.ReadOnly
        try:
            self._open()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{root} cannot be used as the cache folder: {error}") from error

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        self.cache.close()

    def use(self, action: Callable[[Any], T]) -> T:
        """Do something with the rows, with new ones if the index turns out to be damaged.

        Raises:
            StoreError: the index is locked or cannot be read.
        """
        present = self.cache
        try:
            try:
                return action(present)
            except index.ERRORS as error:
                if self.unwritable or not index.blamed(error):
                    raise
                present.close()
                with self._retiring:
                    if self.cache is present:
                        self._set_aside(error)
                        self.cache = self._open_to_write()
            return action(self.cache)
        except diskcache.Timeout as error:
            raise StoreError(f"the index in {self.root} cannot be used: {error.__context__}") from error
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"the index in {self.root} cannot be used: {error}") from error

    def get(self, key: str) -> str | None:
        """The row of a key, or None."""
        row: str | None = self.use(lambda rows: rows.get(key))
        return row

    def exchange(self, key: str, row: str | None, *, expected: str | None = None) -> str | None:
        """Put a row, or none, in the place of a key's present one, or only of the expected one; return that.

        Raises:
            StoreError: the index cannot be written.
        """

        def exchange(rows: diskcache.Cache) -> str | None:
            with rows.transact():
                before: str | None = rows.get(key)
                if expected is None or before == expected:
                    rows.delete(key) if row is None else rows.set(key, row)
                return before

        self.need_to_write()
        return self.use(exchange)

    def need_to_write(self) -> None:
        """See whether the folder can be written to by now, if it could only be read when it was opened.

        Raises:
            StoreError: it still cannot.
        """
        if self.unwritable:
            with self._retiring, suppress(OSError, sqlite3.Error):
                self._open()
        if self.unwritable:
            raise not_written(self.root, self.unwritable)

    def _open(self) -> None:
        """Open the folder to be written to, or else to be read; in read-only mode nothing but that is tried."""
        if read_only():
            self.cache, self.unwritable = index.ReadOnly(self.root / "index"), f"{VARIABLE} is set"
            return
        try:
            for folder in ("matrices", "locks", "damaged"):
                (self.root / folder).mkdir(parents=True, exist_ok=True)
            (self.root / leftovers.NAMING).touch()
            self.cache, self.unwritable = self._open_to_write(), ""
        except (OSError, sqlite3.Error) as error:
            if not (locks.unwritable(error) or index.unwritable(error)) or not self.root.is_dir():
                raise
            self.cache = index.ReadOnly(self.root / "index")
            if not self.unwritable:
                consequence = "what is stored there opens, nothing new is kept"
                why = shown(str(error))
                log.warning("the cache folder %s cannot be written to (%s): %s", self.root, why, consequence)
            self.unwritable = str(error)

    def _open_to_write(self) -> diskcache.Cache:
        try:
            return index.open_writable(self.root / "index")
        except index.ERRORS as error:
            database = self.root / "index" / diskcache.core.DBNAME
            if not index.blamed(error) or (database.exists() and not os.access(database, os.W_OK)):
                raise
            self._set_aside(error)
            return index.open_writable(self.root / "index")

    def _set_aside(self, error: Exception) -> None:
        log.warning("the index is damaged (%s); it is set aside and results are computed anew", type(error).__name__)
        with suppress(FileNotFoundError):  # another process was faster
            os.replace(self.root / "index", self.root / "damaged" / f"index-{time.time_ns()}")
