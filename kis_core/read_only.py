"""Read-only mode, for a server that strangers may open: what is stored is shown, and nothing is computed or written.

The mode is a property of the process, set by the environment before it starts. What it closes is closed where all ways
meet: jobs are submitted in `jobs`, models lent in `models.holder` and fetched in `models.download`, values written in
`store`, fact sets kept in `facts.saved`. There `errors.refuse_if_read_only` raises.
"""

from __future__ import annotations

import os
import re
from pathlib import PurePath

VARIABLE = "KIS_READ_ONLY"  # environment variable that turns the mode on; empty or 0 for off
FOLDERS = re.compile(r"(?<![\w.:/\\…-])(?:[A-Za-z]:)?[/\\](?=[^\s/\\])(?:[^\s/\\:'\"]+[/\\])*")
"""The folders of an absolute path in a text, up to its last part."""


def read_only() -> bool:
    """Whether this process only shows what is stored."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def without_folders(text: str) -> str:
    """A message in which, in read-only mode, nothing of a path but its last part is left."""
    return FOLDERS.sub("", text) if read_only() else text


def last_part(name: str) -> str:
    """What strangers may read of a name, in read-only mode: of a path its last part, any other name as it is."""
    return PurePath(name).name if read_only() and PurePath(name).is_absolute() else name
