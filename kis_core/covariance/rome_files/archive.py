"""An `.npz` file from an unknown source: no array is read before its type and its declared size are checked."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from kis_core.errors import KisError
from kis_core.files.paths import is_file

SMALL_BYTES = 1 << 20  # an array that may be compressed as much as it likes
MAX_COMPRESSION = 50  # bytes out of one byte in; sums of k kᵀ hardly shrink, and zip bombs start at hundreds
NUMPY_WRITES = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DAMAGE = (
    *(OSError, ValueError, EOFError, RuntimeError, SyntaxError, MemoryError, struct.error, tokenize.TokenError),
    *(zlib.error, zipfile.BadZipFile, zipfile.LargeZipFile),
)
"""What zipfile, and numpy with Python's own parser, raise for damaged content; a RuntimeError where it is encrypted."""


class StatisticsError(KisError):
    """Statistics that cannot be read, written or used with the model. The message says why."""


class Archive:
    """The arrays of an `.npz` file, within a `with`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Archive:
        if not is_file(self.path):
            raise StatisticsError(f"No statistics file at {self.path}. Give an .npz of ROME’s, or a folder of them.")
        try:
            self._zip = zipfile.ZipFile(self.path)
        except DAMAGE as error:
            raise self.fault(f"it is not an .npz file, or it is damaged ({error})") from error
        self._largest = self.path.stat().st_size
        self.names = {name.removesuffix(".npy") for name in self._zip.namelist() if name.endswith(".npy")}
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def fault(self, reason: str) -> StatisticsError:
        """The error to raise about this file."""
        return StatisticsError(f"{self.path.name}: {reason}.")

    def declared(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and type of an array of plain numbers, once its size is known to be what its header says.

        Raises:
            StatisticsError: a pickle, a zip bomb, or damaged.
        """
        entry = self._zip.getinfo(f"{name}.npy")
        if entry.compress_type not in NUMPY_WRITES:
            raise self.fault(f"{name} is compressed in a way that numpy does not write")
        with self._opened(name) as stream:
            if npy.read_magic(stream) != (1, 0):  # headers of other versions can be gigabytes long
                raise ValueError("an unusual version of the .npy format")
            shape, _, dtype = npy.read_array_header_1_0(stream)
            begin = stream.tell()
        if dtype.hasobject:
            raise self.fault(f"{name} holds Python objects, which could run code; it is not read")
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if entry.file_size != begin + size:
            raise self.fault(f"{name} is damaged ({dtype} of shape {shape} in {entry.file_size:,} bytes)")
        packed = min(entry.compress_size, self._largest)
        if size > max(SMALL_BYTES, MAX_COMPRESSION * packed):
            raise self.fault(f"{name} would unpack from {packed:,} bytes to {size:,}; it is not read")
        return shape, dtype

    def array(self, name: str) -> np.ndarray:
        """An array, read.

        Raises:
            StatisticsError: as of `declared`, or its content is damaged.
        """
        self.declared(name)
        with self._opened(name) as stream:
            return np.asarray(npy.read_array(stream, allow_pickle=False))

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        try:
            with self._zip.open(f"{name}.npy") as stream:
                yield stream
        except DAMAGE as error:
            raise self.fault(f"{name} is damaged ({error})") from error
