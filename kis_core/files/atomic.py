"""Files for other programs, written atomically: even on a full disk, a file is either the new one or the old one."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from kis_core.errors import KisError

PARTIAL = re.compile(r"\.[0-9a-f]{16}\.part")  # the name of a file that is not whole yet
ABANDONED_SECONDS = 86_400.0  # without a write: nobody is writing it any more


class NotWritten(KisError):
    """A file cannot be written; the message names it. What stood under its name is untouched."""


def write(folder: Path, contents: Mapping[str, bytes | str]) -> list[Path]:
    """Write files into a folder, which is made if it is missing. No file is replaced before all of them lie on disk.

    Args:
        folder: of the files.
        contents: by file name; text is written as UTF-8, with its line ends unchanged.

    Returns:
        the files written.

    Raises:
        NotWritten: one of them cannot be written; all are unchanged.
    """
    with ExitStack() as places:
        for name, content in contents.items():
            stream = places.enter_context(replaced(folder / name, make_folder=True))
            with _naming(folder / name):
                stream.write(content.encode() if isinstance(content, str) else content)
                stream.flush()
                os.fsync(stream.fileno())
    return [folder / name for name in contents]


@contextmanager
def replaced(path: Path, *, make_folder: bool = False) -> Iterator[BinaryIO]:
    """A stream to a new file, which replaces the file of that path once it is whole and lies on disk.

    Args:
        path: of the file.
        make_folder: make the folder of the file where it is missing.

    Raises:
        NotWritten: the path is a folder or a device, or the disk does not take the file.
    """
    with _naming(path):
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        place = path.resolve()  # through a link, as any other program writes
    if place.is_dir():
        raise NotWritten(f"{path} is a folder; name a file in it.")
    if place.exists() and not place.is_file():
        raise NotWritten(f"{path} is no plain file, so nothing can take its place; name another.")
    partial = place.with_name(f".{secrets.token_hex(8)}.part")
    _sweep(place.parent)
    try:
        with _naming(path):
            with partial.open("xb") as stream:  # closing it may find the disk full as well
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, place)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Remove what writers that were killed left in a folder: their streams are of a while ago."""
    with suppress(OSError):
        for path in folder.iterdir():
            if PARTIAL.fullmatch(path.name) and time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                path.unlink()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Within the block, an error of the system becomes one that names the path."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise NotWritten(f"{path} cannot be written: {reason}. Is the disk full or read-only?") from error
