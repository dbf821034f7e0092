"""Files for other programs: whole under their name, or as they were before; a full disk cuts no good file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from kis_core.errors import KisError


class NotWritten(KisError):
    """A file cannot be written; the message names it. What stood under its name is untouched."""


def write(folder: Path, contents: Mapping[str, bytes | str]) -> list[Path]:
    """Write files into a folder, which is made if it is missing. None takes its place before all lie on disk.

    Args:
        folder: where.
        contents: by file name; text becomes UTF-8, line ends as they are.

    Returns:
        the files written.

    Raises:
        NotWritten: one cannot be written; all are as they were before.
    """
    with ExitStack() as places:
        for name, content in contents.items():
            stream = places.enter_context(replaced(folder / name, make_folder=True))
            with _told(folder / name):
                stream.write(content.encode() if isinstance(content, str) else content)
                stream.flush()
                os.fsync(stream.fileno())
    return [folder / name for name in contents]


@contextmanager
def replaced(path: Path, *, make_folder: bool = False) -> Iterator[BinaryIO]:
    """A stream to write a file through, which takes its place once it is whole and lies on disk.

    Args:
        path: of the file.
        make_folder: that it lies in, where it is missing.

    Raises:
        NotWritten: there is a folder or a device, or the disk does not take it.
    """
    with _told(path):
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        place = path.resolve()  # through a link, as any other program writes
    if place.is_dir():
        raise NotWritten(f"{path} is a folder; name a file in it.")
    if place.exists() and not place.is_file():
        raise NotWritten(f"{path} is no plain file, so nothing can take its place; name another.")
    partial = place.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with _told(path):
            with partial.open("xb") as stream:  # whose closing may find the disk full as well
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, place)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Whatever the system says of a path, said with the path."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise NotWritten(f"{path} cannot be written: {why}. Is the disk full or read-only?") from error
