"""Safetensors files: written whole or not at all, and checked in pieces, however large they are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import safetensors.numpy

DTYPES = frozenset(["F64", "F32", "F16", "I64", "U64", "I32", "U32", "I16", "U16", "I8", "U8", "BOOL", "C64"])
"""Names in safetensors of the types of numbers that it reads into numpy."""


class Damaged(Exception):
    """An entry fails a check; the message says which."""


def write(path: Path, content: bytes) -> None:
    """Write a new file; when this returns it outlives a loss of power."""
    with path.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    _sync(path.parent)


def move(file: Path, path: Path) -> None:
    """Move a file within a disk, dated now; when this returns it outlives a loss of power."""
    os.utime(file)
    _sync(file)
    os.replace(file, path)
    _sync(path.parent)


def check(path: Path, sha256: str) -> None:
    """Check the checksum of a file in pieces, and its header.

    Raises:
        Damaged: it cannot be read, has another checksum, or holds no arrays that numpy knows.
    """
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != sha256:
            raise Damaged("its checksum does not fit")
        with safetensors.safe_open(path, "np") as file:
            unknown = {file.get_slice(name).get_dtype() for name in file.keys()} - DTYPES  # noqa: SIM118
    except OSError as error:
        raise Damaged("its file cannot be read") from error
    except safetensors.SafetensorError as error:
        raise Damaged("its file holds no arrays") from error
    if unknown:
        raise Damaged("its file holds numbers of a type that numpy lacks")


def load(path: Path, sha256: str) -> dict[str, np.ndarray]:
    """All arrays of a file by name, from the very bytes that were checked.

    Raises:
        Damaged: it cannot be read, has another checksum, or holds no arrays that numpy knows.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Damaged("its file cannot be read") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Damaged("its checksum does not fit")
    try:
        return dict(safetensors.numpy.load(content))
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise Damaged("its file holds no arrays") from error


def arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a file that was checked, by name, one in memory at a time.

    Raises:
        Damaged: it cannot be read.
    """
    try:
        with safetensors.safe_open(path, "np") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dictionary
                yield name, file.get_tensor(name)
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise Damaged("its file cannot be read") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
