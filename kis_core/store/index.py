"""The index of a store: rows of checksummed JSON text in diskcache, from which nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import diskcache

from kis_core.read_only import read_only
from kis_core.store.array_files import Damaged

log = logging.getLogger(__name__)

LIMIT = 1 << 40  # diskcache's size limit; eviction is off, so it only has to be out of reach
_DISK = {sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT}
SURROUNDINGS = frozenset(_DISK | _BUSY | {sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_AUTH})
"""SQLite's primary result codes that blame a lock, the disk or a permission; any other blames the index itself.

Read-only is not among them: a damaged header says so too, and an index that truly is cannot be set aside either.
"""
UNWRITABLE = frozenset(_DISK | {sqlite3.SQLITE_READONLY})
"""The codes of an index that can be read but not written: on a read-only or full disk."""
ERRORS = (sqlite3.Error, diskcache.Timeout, ValueError, TypeError, AttributeError)
"""What diskcache raises for an index that it cannot use; a damaged one may hold values of other types."""
KEY = re.compile(r"[\w.-]+", re.ASCII)
SHA256 = re.compile(r"[0-9a-f]{64}")
ESCAPED_SURROGATE = re.compile(r"\\ud[89a-f]", re.IGNORECASE)  # as JSON writes one; two make a character, one is none


@dataclass(frozen=True)
class Row:
    """A value in the index: its `meta`, and the name and SHA-256 of the file with its arrays."""

    meta: dict[str, Any]
    file: str
    sha256: str

    def dump(self) -> str:
        """The row as text, with a checksum of its own."""
        text = json.dumps(asdict(self), allow_nan=False)
        return json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "text": text})

    @classmethod
    def load(cls, key: str, row: str) -> Row:
        """The row that was dumped.

        Raises:
            Damaged: it is not the row of that key.
        """
        try:
            outer = json.loads(row)
            text = str(outer["text"])
            if hashlib.sha256(text.encode()).hexdigest() != outer["sha256"]:
                raise Damaged("its metadata does not fit its checksum")
            result = cls(**json.loads(text))
            if not (KEY.fullmatch(result.file) and result.file.startswith(f"{key}-")):
                raise Damaged("its metadata names a file that is not its own")
            if not (isinstance(result.meta, dict) and SHA256.fullmatch(result.sha256)):
                raise Damaged("its metadata is not that of a value")
            if ESCAPED_SURROGATE.search(text):
                check_characters(result.meta)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Damaged("its metadata cannot be read") from error
        return result


def check_characters(meta: Any) -> None:
    """Check that all text of some JSON can be written as UTF-8.

    Raises:
        Damaged: it holds half a Unicode character.
    """
    try:
        json.dumps(meta, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Damaged("its metadata holds half a Unicode character (a lone surrogate)") from error


class TextDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache carries no types
    """Stores nothing but text, in the index itself, so that no row can have a file or code opened, run or removed."""

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        """The text, unchanged; anything else is refused."""
        if read or not isinstance(value, str):
            raise TypeError("the index stores text only")
        return 0, diskcache.core.MODE_RAW, None, value

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> str:
        """The text; a row of another kind was planted, and becomes a text that fails the check of a row."""
        return value if mode == diskcache.core.MODE_RAW and isinstance(value, str) else ""

    def remove(self, file_path: str) -> None:
        """Removes nothing, as no row of ours has a file that diskcache knows of."""
        log.warning("a row of the index names a file of its own; the file is left alone")

    def put(self, key: Any) -> tuple[str, bool]:
        """Keys are text."""
        return str(key), True

    def get(self, key: Any, raw: bool) -> str:
        """Keys are text."""
        if not raw or not isinstance(key, str):
            raise ValueError("a key of the index is not text")
        return key


def open_writable(folder: Path) -> diskcache.Cache:
    """The index in a folder, made if there is none."""
    options = {"disk": TextDisk, "eviction_policy": "none", "cull_limit": 0, "size_limit": LIMIT}
    return diskcache.Cache(str(folder), **options)


class ReadOnly:
    """An index that can be read but not written, as the disk is read-only or full; its file may not exist yet.

    Each reading opens it anew, so that it sees what another process wrote meanwhile. Where SQLite cannot even make the
    files it shares between processes, it is read as a file that nobody writes to; so it is in read-only mode, while no
    other process has written what is not merged into it yet, because SQLite would make or change such files.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / diskcache.core.DBNAME
        self._options = ""
        for options in ("mode=ro", "mode=ro&immutable=1"):
            self._options = options
            try:
                list(self._rows("SELECT key FROM Cache LIMIT 1"))
                break
            except sqlite3.OperationalError:
                if options.endswith("immutable=1"):
                    raise

    def __iter__(self) -> Iterator[str]:
        return (key for (key,) in self._rows("SELECT key FROM Cache WHERE raw = 1 ORDER BY rowid"))

    def __contains__(self, key: str) -> bool:
        return bool(self._rows("SELECT 1 FROM Cache WHERE key = ? AND raw = 1", key))

    def get(self, key: str) -> str | None:
        """The row of a key, or None."""
        rows = self._rows("SELECT mode, value FROM Cache WHERE key = ? AND raw = 1", key)
        if not rows:
            return None
        mode, value = rows[0]
        return value if mode == diskcache.core.MODE_RAW and isinstance(value, str) else ""

    def close(self) -> None:
        """Does nothing, as nothing stays open."""

    def _rows(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        if not self._file.exists():
            return []
        options, unmerged = self._options, self._file.with_name(f"{self._file.name}-wal")
        if read_only() and not (unmerged.exists() and unmerged.stat().st_size):
            options = "mode=ro&immutable=1"
        name = f"file:{quote(str(self._file.absolute()))}?{options}"
        with closing(sqlite3.connect(name, uri=True)) as connection:
            return connection.execute(query, values).fetchall()


def blamed(error: BaseException) -> bool:
    """Whether a failure comes from the index itself, not from a lock, the disk or a permission."""
    return not isinstance(error, diskcache.Timeout) and not _codes(error) & SURROUNDINGS


def unwritable(error: BaseException) -> bool:
    """Whether a failure may mean that the index can be read but not written."""
    return bool(_codes(error) & UNWRITABLE)


def _codes(error: BaseException) -> set[int]:
    """SQLite's primary result codes of an error and of its causes, as a failed rollback hides its cause."""
    chain = [error]
    while context := chain[-1].__context__:
        chain.append(context)
    return {code & 0xFF for link in chain if (code := getattr(link, "sqlite_errorcode", sqlite3.SQLITE_OK))}
