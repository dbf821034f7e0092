"""What dead processes left in a cache folder, and how it is swept: whatever is neither locked nor named.

A writer holds a shared lock from its first byte until its file or row is named. A process that holds that lock alone
therefore knows that everything unnamed is abandoned. Nobody waits for a sweep: it is skipped while a writer is at work.
"""

from __future__ import annotations

import logging
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from kis_core.errors import KisError, shown
from kis_core.files import locks

log = logging.getLogger(__name__)

LOCK = ".lock"  # how the names of lock files end
NAMING = "naming.lock"  # shared by all who write what is not named yet
HEAD, PART = "unfinished", "unfinished-part"  # kinds of a checkpoint's values: its head names its parts


class Swept(Protocol):
    """The part of a `Store` that a sweep needs."""

    root: Path

    def row(self, key: str) -> Any: ...  # noqa: D102
    def delete(self, key: str) -> None: ...  # noqa: D102
    def holds(self, key: str) -> bool: ...  # noqa: D102
    def inventory(self, kind: str) -> Any: ...  # noqa: D102


def sweep(store: Swept) -> None:
    """Remove abandoned lock files, files and parts of checkpoints; what cannot be removed stays."""
    try:
        locks.sweep(store.root / "locks", LOCK)
        if orphans(store) or _idle(store):
            with locks.alone_now(store.root / NAMING) as alone:
                if alone:
                    for key in _idle(store):
                        store.delete(key)
                    for path in orphans(store):
                        remove(path)
    except (KisError, OSError) as error:
        log.warning("what dead processes left in %s was not swept: %s", store.root, shown(str(error)))


def orphans(store: Swept) -> list[Path]:
    """Files among the matrices that no value names; some may be about to be named."""
    unnamed = []
    for path in inside(store.root / "matrices"):
        row = store.row(path.name.rpartition("-")[0])
        if row is None or path.name not in row:
            unnamed.append(path)
    return unnamed


def inside(folder: Path) -> list[Path]:
    """The contents of a folder; empty if there is no such folder, as below a read-only one."""
    return list(folder.iterdir()) if folder.is_dir() else []


def remove(path: Path) -> None:
    """Remove a file or a folder, unless another process did. Links are not followed."""
    with suppress(FileNotFoundError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _idle(store: Swept) -> list[str]:
    """Heads of checkpoints whose every C is stored, so that the pass is over, and parts that no head names."""
    heads = store.inventory(HEAD)
    over = {head.key for head in heads if _over(store, head.meta)}
    named = {(head.key, head.meta.get("moment")) for head in heads if head.key not in over}
    parts = [part.key for part in store.inventory(PART) if (part.meta.get("of"), part.meta.get("moment")) not in named]
    return [*over, *parts]


def _over(store: Swept, meta: dict[str, object]) -> bool:
    about = meta.get("about")
    moments = about.get("moments") if isinstance(about, dict) else None
    if not isinstance(moments, list) or not moments:
        return False
    return all(isinstance(key, str) and store.holds(key) for key in moments)
