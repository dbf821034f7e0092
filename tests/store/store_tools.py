"""Looking into a store from outside, as its tests do."""

from __future__ import annotations

import json
import pickle
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kis_core.store.store import Store

KEY = "kind-0"


def matrices(root: Path) -> list[Path]:
    return sorted((root / "matrices").iterdir())


def leftovers(root: Path) -> list[Path]:
    """Files of `matrices/` that no row of the index names: temporary or forgotten ones."""
    with sqlite3.connect(root / "index" / "cache.db") as index:
        rows = [json.loads(json.loads(value)["text"]) for (value,) in index.execute("SELECT value FROM Cache")]
    index.close()
    return [path for path in matrices(root) if path.name not in {row["file"] for row in rows}]


def close(store: Store) -> None:
    store._index.close()


@contextmanager
def index_of(root: Path) -> Iterator[sqlite3.Connection]:
    """The index as somebody else sees it who can write to the cache folder."""
    connection = sqlite3.connect(root / "index" / "cache.db")
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def header(shape: list[int], dtype: str, end: int) -> bytes:
    text = json.dumps({"values": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}).encode()
    return len(text).to_bytes(8, "little") + text


PLANTED_FILES = {
    "header of 10^12 bytes": (10**12).to_bytes(8, "little") + b"{}",
    "array of 10^12 numbers": header([10**12], "F64", 8 * 10**12),
    "type numpy lacks": header([1], "BF16", 2) + b"ab",
    "pickle": pickle.dumps([1]),
    "npz": b"PK\x03\x04",
    "nothing": b"",
}
