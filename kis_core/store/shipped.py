"""Values that came with the program: folders of plain files, two a value, that are read and never written to.

There is a folder for each model; which it is tells nothing about a value. `KEY.json` holds the row that an index would
have (see `index.Row`), and beside it when and where the value was computed; the row names the safetensors file of its
arrays. A value that is damaged, or of a format that this version does not read, is as if it were not there. Nothing is
locked or kept open, so any number of processes may read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.numpy

from kis_core.errors import shown
from kis_core.files import atomic
from kis_core.store import array_files, schema
from kis_core.store.array_files import Damaged
from kis_core.store.index import KEY, Row
from kis_core.store.values import Entry, Item, kind_of

log = logging.getLogger(__name__)

FOLDER = Path(__file__).resolve().parents[1] / "gallery"
VARIABLE = "KIS_GALLERY"  # environment variable that names another folder; empty for none
SUFFIX = ".json"


@dataclass(frozen=True, eq=False)
class Shipped:
    """The values of such folders, which may be missing.

    Attributes:
        root: the folder of these folders; None for no values.
    """

    root: Path | None
    _damaged: set[str] = field(default_factory=set)

    def get(self, key: str, sizes: Mapping[str, int]) -> Entry | None:
        """As `Store.get`."""
        if (item := self.find(key)) is None:
            return None
        try:
            arrays = array_files.load(item.path, item.sha256)
            schema.check(item.kind, item.meta, arrays.items(), sizes)
        except Damaged as damage:
            self._pass_over(key, str(damage))
            return None
        return Entry(item.meta, arrays, item.shipped)

    def find(self, key: str) -> Item | None:
        """As `Store.find`; why a value is passed over is logged once."""
        if self.root is None or key in self._damaged or not KEY.fullmatch(key):
            return None
        described = next(self.root.glob(f"*/{key}{SUFFIX}"), None)
        if described is None:
            return None
        try:
            text = described.read_text("utf-8")
            row, beside = Row.load(key, text), json.loads(text)
            path, origin = described.with_name(row.file), _origin(**beside)
            size = path.stat().st_size
        except (Damaged, OSError, KeyError, TypeError, ValueError, OverflowError) as damage:
            self._pass_over(key, str(damage))
            return None
        if schema.of_another_version(kind_of(key), row.meta):
            self._pass_over(key, "it is of a format that this version does not read")
            return None
        return Item(key, row.meta, path, row.sha256, size, float(beside["computed"]), origin)

    def items(self, kind: str | None, without: Container[str]) -> Iterator[Item]:
        """Every value, or those of a kind, but for those of some keys; no array is read."""
        for path in sorted(self.root.glob(f"*/*{SUFFIX}")) if self.root else ():
            if kind in (None, kind_of(path.stem)) and path.stem not in without and (item := self.find(path.stem)):
                yield item

    def _pass_over(self, key: str, reason: str) -> None:
        if key not in self._damaged:
            self._damaged.add(key)
            log.warning(
                "%s, which came with the program, is not used: %s; it will be computed anew", key, shown(reason)
            )


@cache
def shipped(root: Path | None) -> Shipped:
    """The values of a folder, the same for everybody in this process."""
    return Shipped(root)


def default_folder() -> Path | None:
    """The folder that came with the program, or the one the environment names; None where it names none."""
    named = os.environ.get(VARIABLE)
    return FOLDER if named is None else Path(named) if named else None


def ship(folder: Path, key: str, value: Entry, computed: float) -> int:
    """Write a value to the folder of its model; returns its bytes.

    Args:
        folder: of the model.
        key: of the value.
        value: to write.
        computed: when, in seconds since the epoch; on this machine.

    Raises:
        NotWritten: the disk does not take it.
    """
    content = safetensors.numpy.save(value.arrays)
    sha256 = hashlib.sha256(content).hexdigest()
    row = Row(value.meta, f"{key}-{sha256[:16]}.safetensors", sha256)
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    text = json.dumps(json.loads(row.dump()) | {"computed": round(computed), "machine": machine}, indent=1)
    atomic.write(folder, {row.file: content, f"{key}{SUFFIX}": text})
    return len(text) + len(content)


def keep_only(folder: Path, keys: Collection[str]) -> None:
    """Remove from the folder of a model every file that belongs to none of these values."""
    described = {f"{key}{SUFFIX}": key for key in keys}
    arrays = {Row.load(key, (folder / name).read_text("utf-8")).file for name, key in described.items()}
    for path in (*folder.glob(f"*{SUFFIX}"), *folder.glob("*.safetensors")):
        if path.name not in described and path.name not in arrays:
            path.unlink(missing_ok=True)


def _origin(computed: float, machine: str, **_: Any) -> str:
    day = datetime.fromtimestamp(computed, UTC)
    return f"{day.day} {day:%B %Y} on {machine}"
