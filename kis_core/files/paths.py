"""Paths that users type, and stamps of the files behind them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

Stamp = tuple[tuple[str, int, int], ...]
"""Path, size in bytes and time of change in ns of every file: it changes whenever a file is written to."""


def is_file(path: Path) -> bool:
    """Whether there is a file of that name; False also for a name that no system can hold: too long, or with a NUL."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def stamp(paths: Iterable[Path]) -> Stamp:
    """The stamp of some files.

    Raises:
        OSError: one of them is gone.
    """
    states = [(path.resolve(), path.stat()) for path in paths]
    return tuple((str(path), state.st_size, state.st_mtime_ns) for path, state in states)
