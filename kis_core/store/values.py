"""What a store holds, and the names it is held under."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Entry:
    """A stored value: JSON-able `meta` and named arrays.

    Attributes:
        meta, arrays: of it.
        shipped: when and where it was computed, in words, if it came with the program; else empty.
    """

    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]
    shipped: str = ""


@dataclass(frozen=True)
class Item:
    """A stored value as the index describes it; its arrays are neither read nor checked.

    Attributes:
        key, meta: its name and metadata.
        path, sha256, bytes: of the file with its arrays.
        written: when, in seconds since the epoch.
        shipped: when and where it was computed, in words, if it came with the program; else empty.
    """

    key: str
    meta: dict[str, Any]
    path: Path
    sha256: str
    bytes: int
    written: float
    shipped: str = ""

    @property
    def kind(self) -> str:
        """What it is; see `key_of`."""
        return kind_of(self.key)


def kind_of(key: str) -> str:
    """The kind of the value of that key."""
    return key.rpartition("-")[0]


def key_of(kind: str, ingredients: Mapping[str, Any]) -> str:
    """The name under which a value is stored: its kind, and the SHA-256 of everything that determines it."""
    canonical = json.dumps(ingredients, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return f"{kind}-{hashlib.sha256(canonical.encode()).hexdigest()}"
