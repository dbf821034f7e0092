"""Paths that users type."""

from __future__ import annotations

from pathlib import Path


def is_file(path: Path) -> bool:
    """Is there a file of that name? False as well for a name no system could hold: too long, or with a NUL."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
