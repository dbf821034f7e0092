"""Which version of this program makes the rows of a study."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

from kis_core import __version__

SECONDS = 10  # that git may take
CHANGED = "+"  # ends the name of a commit where files of the package were changed since


@cache
def made_by() -> str:
    """The commit of the checkout that this program runs from, as git abbreviates it; else the version, as `v0.1.0`."""
    folder, git = Path(__file__).parents[1], shutil.which("git")
    if git is None or not _said(git, folder, "ls-files", "__init__.py"):  # not a checkout of this project
        return f"v{__version__}"
    commit = _said(git, folder, "rev-parse", "--short", "HEAD")
    changed = _said(git, folder, "status", "--porcelain", "--", ".")
    return f"{commit}{CHANGED if changed else ''}" if commit else f"v{__version__}"


def _said(git: str, folder: Path, *words: str) -> str:
    """What git answers, or nothing where it fails."""
    command = [git, "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)  # noqa: S603 - fixed words
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
