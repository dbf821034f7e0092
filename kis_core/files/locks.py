"""Locks between processes: a file that is locked (flock), which the system undoes when its holder dies.

Only the holder of a lock removes its file. A process that waited meanwhile then holds the lock of a file without a
name, so each process checks, once it has the lock, that the file still has that name. Abandoned files can therefore be
swept, and two processes never hold the same lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNWRITABLE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT})
"""Errors of the system where no file can be made: a read-only disk, no permission, a full disk."""


def take(path: Path, *, make: bool = True) -> int | None:
    """Lock a file and return its descriptor, or None if another process holds it; `make` the file if it is missing.

    Raises:
        OSError: the file cannot be opened, or is missing and not made.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0), 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return None
            raise
        if _is_of(descriptor, path):
            return descriptor
        os.close(descriptor)  # it was removed between the two calls: the name belongs to another file now, or to none


def free(descriptor: int, path: Path | None = None) -> None:
    """Unlock a file; remove it first if its path is given, which only its exclusive holder may do."""
    if path is not None:
        with suppress(OSError):
            path.unlink()
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing does not unlock it while a forked child has the file as well
    os.close(descriptor)


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Share a lock within the block, after a process that holds it alone. The file stays."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        free(descriptor)


@contextmanager
def alone_now(path: Path) -> Iterator[bool]:
    """Hold a lock alone within the block, if no other process holds it; gives whether it does. The file stays."""
    descriptor = take(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            free(descriptor)


def sweep(folder: Path, suffix: str) -> int:
    """Remove the lock files that no process holds; returns their number."""
    swept = 0
    for path in folder.glob(f"*{suffix}"):
        with suppress(OSError):  # another process was faster
            if (descriptor := take(path, make=False)) is not None:
                free(descriptor, path)
                swept += 1
    return swept


def unwritable(error: BaseException) -> bool:
    """Whether an error says that nothing can be written there."""
    return isinstance(error, OSError) and error.errno in UNWRITABLE


def _is_of(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
