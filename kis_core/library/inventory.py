"""What is computed, in words: results, the C behind them, runs of edits; how large it is, and how to let it go."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kis_core.analysis import pipeline, unfinished
from kis_core.analysis.resolve import FINGERPRINT
from kis_core.errors import KisError, refuse_if_read_only
from kis_core.read_only import last_part
from kis_core.results import archive
from kis_core.results.result import MATRICES, OF_LAYERS, Result
from kis_core.store import leftovers
from kis_core.store.store import Entry, Item, Store

RESULT, MOMENTS, RUN, BETWEEN = "result", "second moments", "run", "in between"
"""What a shelf holds: results, the C of their layers, runs of edits, and what is kept to be quicker next time."""
RUN_KIND = "lifelong"  # of the keys that runs are stored under
MACHINE_KINDS = frozenset({FINGERPRINT, unfinished.KIND, "unfinished", "unfinished-part"})
"""Told of the files of one machine, or of work under way on it: worth nothing on another."""
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, KisError)


@dataclass(frozen=True, slots=True)
class Shelved:
    """One thing, or one heap of like things.

    Attributes:
        what: `RESULT`, `MOMENTS`, `RUN` or `BETWEEN`.
        keys: of the values it consists of.
        name: in words.
        model, facts, corpus: it belongs to; empty where that is unknown.
        tokens: that C was taken over, or None.
        layers: it holds.
        bytes: on disk.
        written: when the last of it was, in seconds since the epoch.
        weights: SHA-256 of the model's, or empty.
        shipped: when and where it was computed, if it came with the program and cannot be deleted; else empty.
    """

    what: str
    keys: tuple[str, ...]
    name: str
    model: str
    facts: str
    corpus: str
    tokens: int | None
    layers: tuple[int, ...]
    bytes: int
    written: float
    weights: str
    shipped: str = ""

    @property
    def id(self) -> str:
        """What tells it from others on the shelf, also when more is computed of it."""
        heap = f"{self.what} {self.model} {self.corpus} {self.tokens} {self.shipped}"
        return self.keys[0] if self.what in (RESULT, RUN) else heap


@dataclass(frozen=True, slots=True)
class Disk:
    """What the cache folder takes on disk.

    Attributes:
        total: all of it, in bytes.
        damaged: what was set aside.
        orphans: files that no value names, left by a process that was killed.
    """

    total: int
    damaged: int
    orphans: int


def of_this_machine(key: str) -> bool:
    """Whether a value makes no sense on another machine."""
    return key.rpartition("-")[0] in MACHINE_KINDS


def shelf(store: Store) -> list[Shelved]:
    """All that is in a store: results by size of the model, C by model, runs, the rest as one; no array is read.

    What came with the program stands apart from what is in the cache folder, in rows of its own.

    Raises:
        StoreError: the index is locked or cannot be read.
    """
    items = store.inventory()
    results = {item.key: (item, result) for item in items if (result := _result(item))}
    behind = _moments(result for _, result in results.values())
    rest = [item for item in items if item.key not in results]
    moments, rest = _parted(rest, pipeline.SECOND_MOMENT)
    runs, rest = _parted(rest, RUN_KIND)
    rows = sorted((_shelved(item, result) for item, result in results.values()), key=lambda row: _order(row, results))
    models = [row.model for row in rows]
    rows += sorted(
        _heaps(moments, behind), key=lambda row: models.index(row.model) if row.model in models else len(rows)
    )
    rows += sorted(map(_run, runs), key=lambda row: -row.written)
    heaps = [[item for item in rest if bool(item.shipped) is came_along] for came_along in (False, True)]
    return rows + [_heap(BETWEEN, "kept to be quicker", heap) for heap in heaps if heap]


def described(store: Store, key: str) -> Result | None:
    """A stored result without its matrices, which are empty; None if it is gone or cannot be read."""
    item = store.find(key)
    return _result(item) if item else None


def moments_behind(store: Store, keys: Iterable[str]) -> set[str]:
    """Every C in the cache folder that stands behind one of these results."""
    results = (result for key in keys if (result := described(store, key)))
    return {key for key in _moments(results) if in_cache(store, key)}


def in_cache(store: Store, key: str) -> bool:
    """Whether a value is in the cache folder: one that came with the program is neither deleted nor exported."""
    item = store.find(key)
    return item is not None and not item.shipped


def moments_alone_behind(store: Store, keys: Collection[str]) -> set[str]:
    """Those of them that stand behind no other stored result."""
    others = (result for item in store.inventory(archive.KIND) if item.key not in keys and (result := _result(item)))
    return moments_behind(store, keys) - set(_moments(others))


def verify(store: Store, keys: Sequence[str], seen: Callable[[int], None] = lambda done: None) -> list[str]:
    """Read values from beginning to end, and set aside the damaged ones; `seen` hears how many were read.

    Returns:
        the keys of those that are damaged or gone.
    """
    lost = []
    for done, key in enumerate(keys, 1):
        if not store.verify(key):
            lost.append(key)
        seen(done)
    return lost


def delete(store: Store, keys: Iterable[str], *, with_moments: bool = False) -> int:
    """Forget values; what they took to compute is all that is lost.

    Args:
        store: where they are.
        keys: their names.
        with_moments: also every C that stands behind results among them and behind no others.

    Returns:
        how many were there.
    """
    chosen = set(keys)
    if with_moments:
        chosen |= moments_alone_behind(store, chosen)
    there = [key for key in sorted(chosen) if in_cache(store, key)]
    for key in there:
        store.delete(key)
    return len(there)


def disk(store: Store) -> Disk:
    """How much the cache folder takes, and how much of it can be cleared."""
    damaged = sum(map(_size, leftovers.inside(store.root / "damaged")))
    return Disk(_size(store.root), damaged, sum(map(_size, leftovers.orphans(store))))


def clear(store: Store) -> int:
    """Remove what was set aside and what no value names; returns the bytes.

    Raises:
        NotOffered: in read-only mode.
    """
    refuse_if_read_only("Deleting")
    aside = leftovers.inside(store.root / "damaged")
    freed = sum(map(_size, (*aside, *leftovers.orphans(store))))
    for path in aside:
        leftovers.remove(path)
    leftovers.sweep(store)
    return freed - sum(map(_size, leftovers.orphans(store)))


def _size(path: Path) -> int:
    """Bytes of a file, or of the files of a folder; links are not followed."""
    files = [path]
    if path.is_dir() and not path.is_symlink():
        files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    total = 0
    for file in files:
        with suppress(FileNotFoundError):
            total += file.lstat().st_size
    return total


def _parted(items: list[Item], kind: str) -> tuple[list[Item], list[Item]]:
    return [item for item in items if item.kind == kind], [item for item in items if item.kind != kind]


def _result(item: Item) -> Result | None:
    """The result that an item is, without its matrices."""
    if item.kind != archive.KIND:
        return None
    empty = dict.fromkeys((*MATRICES, *OF_LAYERS), np.empty((0, 0, 0)))
    with suppress(*MALFORMED):  # written by another version, or by a stranger
        if item.meta["format"] == archive.FORMAT:
            result = archive.from_entry(Entry(item.meta, empty, item.shipped), item.key)
            _shelved(item, result)
            return result
    return None


def _moments(results: Iterable[Result]) -> dict[str, tuple[Result, int]]:
    """Name of C of every layer of these results, with the result and the layer."""
    moments = {}
    for result in results:
        for layer in result.layers:
            with suppress(*MALFORMED):
                moments[pipeline.second_moment_key(result, layer)] = (result, layer)
    return moments


def _shelved(item: Item, result: Result) -> Shelved:
    source, layers = result.provenance, tuple(map(int, result.layers))
    names = {"model": result.request.model, "facts": source["facts"], "corpus": source["corpus"]}
    names = {name: str(value) for name, value in names.items()} | {"weights": str(source["weights_sha256"])}
    tokens = int(source["tokens_counted"])
    return _heap(RESULT, "superposition P", [item], tokens=tokens, layers=layers, **names)


def _order(row: Shelved, results: dict[str, tuple[Item, Result]]) -> tuple[Any, ...]:
    size = results[row.keys[0]][1].provenance.get("parameters")
    return size if isinstance(size, int) else 0, row.model, row.facts, row.tokens or 0, row.keys


def _heaps(items: list[Item], behind: dict[str, tuple[Result, int]]) -> list[Shelved]:
    """C of the layers of a model over one text, as one."""
    heaps: dict[tuple[str, str, int | None, str, bool], list[tuple[int | None, Item]]] = {}
    for item in items:
        about = _about(item)
        layer = about.get("layer")
        if item.key in behind:
            result, layer = behind[item.key]
            source = result.provenance
            about = {"model": result.request.model} | {name: source[name] for name in ("corpus", "weights_sha256")}
        tokens = item.meta.get("tokens") if isinstance(item.meta, dict) else None
        model, corpus, weights = (_text(about, name) for name in ("model", "corpus", "weights_sha256"))
        whose = (model, corpus, tokens if isinstance(tokens, int) else None, weights, bool(item.shipped))
        heaps.setdefault(whose, []).append((layer if isinstance(layer, int) else None, item))
    shelves = []
    for (model, corpus, tokens, weights, _), heap in sorted(heaps.items(), key=lambda entry: str(entry[0])):
        layers = tuple(sorted({layer for layer, _ in heap if layer is not None}))
        known = {"model": model, "corpus": corpus, "tokens": tokens, "weights": weights, "layers": layers}
        shelves.append(_heap(MOMENTS, "second moment C", [item for _, item in heap], **known))
    return shelves


def _heap(what: str, name: str, items: list[Item], **known: Any) -> Shelved:
    unknown = {"model": "", "facts": "", "corpus": "", "tokens": None, "layers": (), "weights": ""}
    keys, size = tuple(sorted(item.key for item in items)), sum(item.bytes for item in items)
    last = max(items, key=lambda item: item.written)
    known = unknown | known
    return Shelved(what=what, keys=keys, name=name, bytes=size, written=last.written, shipped=last.shipped, **known)


def _run(item: Item) -> Shelved:
    """A run of edits: what it says about itself, or else how many edits it has and which is the first."""
    about = _about(item)
    names = {name: _text(about, name) for name in ("model", "facts", "corpus")}
    return _heap(RUN, _text(about, "name") or _edits_of(item), [item], **names)


def _edits_of(item: Item) -> str:
    with suppress(*MALFORMED, IndexError):
        queue = item.meta["queue"]
        subject, _, _, _, new = map(str, queue[0])
        return f"{len(queue)} edits, first {subject} → {new}" if len(queue) > 1 else f"the edit {subject} → {new}"
    return "a run of edits"


def _about(item: Item) -> dict[str, Any]:
    about = item.meta.get("about") if isinstance(item.meta, dict) else None
    return about if isinstance(about, dict) else {}


def _text(about: dict[str, Any], name: str) -> str:
    value = about.get(name, "")
    return last_part(value) if isinstance(value, str) else ""
