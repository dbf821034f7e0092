"""A model in one GGUF file, as llama.cpp uses it: its header says what it holds, transformers unpacks its numbers.

The header is read here, as it says in milliseconds and without torch what a file is, and whether all of it is there:
the readers of transformers and of the `gguf` package take every count in it at its word.
"""

from __future__ import annotations

import hashlib
import importlib.util
import mmap
import re
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from kis_core.errors import shown
from kis_core.files.paths import stamp
from kis_core.models.files import ModelError, ModelFiles

ENDING = ".gguf"
IN_PACKAGE = re.compile(r"([A-Za-z_]\w*)/([^/\\]+\.gguf)")  # a file inside an installed package, as users name it
MAGIC = b"GGUF"
VERSIONS = (2, 3)
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # value types
TEXT, ARRAY = 8, 9  # value types as well
ALIGNMENT = 32  # bytes, of the weights, where the file does not say
MOST_ENTRIES = 5_000_000  # of all lists and tables of a header: ten times the largest vocabulary with its merges
PLAIN = ("F32", "F16", "BF16", "F64")  # numbers as they are, not quantised
READ_RIGHT = ("default", "gpt-2", "smollm")  # ways of splitting text that transformers' usual one equals


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says of itself.

    Attributes:
        architecture: llama.cpp's name of it.
        quantisation: the format that the file is named after, such as Q4_K_M, else the one of most of its numbers.
        parameters: how many numbers its tensors hold.
        splitting: llama.cpp's name of how text is split before it is encoded; empty where the file says nothing.
    """

    architecture: str
    quantisation: str
    parameters: int
    splitting: str


@dataclass(frozen=True, slots=True)
class GgufFile(ModelFiles):
    """A model in a single file; `path` is the file's."""

    @property
    def commit(self) -> None:
        """A file belongs to no commit."""
        return

    @property
    def header(self) -> Header:
        """What the file says of itself; read once.

        Raises:
            ModelError: no such file, or one that is damaged.
        """
        try:
            return _header(self.path, stamp([self.path]))
        except OSError as error:
            raise ModelError(f"{self.path} cannot be read ({error.strerror}).") from error

    @property
    def quantisation(self) -> str:
        """The format of its numbers where they are quantised; empty where they are plain."""
        format = self.header.quantisation
        return "" if format in PLAIN else format

    @property
    def source(self) -> tuple[Path, dict[str, Any]]:
        """What transformers' `from_pretrained` takes."""
        return self.path.parent, {"gguf_file": self.path.name}

    def checked(self) -> GgufFile:
        """This file, once its header is seen to be whole and all tensors of it to lie in the file.

        Raises:
            ModelError: they do not.
        """
        _ = self.header
        return self

    def refuse_packed(self) -> None:
        """Quantised weights are what these files are for, and are unpacked when the model is loaded: see `checked`."""
        self.checked()

    def weights(self) -> list[Path]:
        """The file."""
        return [self.path]

    def parts(self) -> dict[str, Path]:
        """The file, which holds tokenizer and configuration too."""
        return {self.path.name: self.path}

    def fingerprint(self) -> str:
        """SHA-256 of the file, whatever it is called."""
        with self.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def parameters(self) -> int:
        """Number of stored parameters (tied weights once)."""
        return self.header.parameters

    @contextmanager
    def read_once(self) -> Iterator[None]:
        """Within the block transformers goes through the file's header once, not for each of configuration and so on.

        Its vocabulary alone takes the reader of the `gguf` package seconds, and the names of its tensors are looked up
        for each module anew. Threads take turns: see `loading.errors_of_transformers`.
        """
        import gguf

        slow = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
        try:
            for name, function in slow.items():
                setattr(gguf, name, lru_cache(maxsize=1)(function))
            yield
        finally:
            for name, function in slow.items():
                setattr(gguf, name, function)


def in_package(name: str) -> Path | None:
    """Where PACKAGE/FILE.gguf of an installed package lies, without running its code; None if nowhere."""
    if not (named := IN_PACKAGE.fullmatch(name)):
        return None
    try:
        spec = importlib.util.find_spec(named[1])
    except (ImportError, ValueError):
        return None
    folders = spec.submodule_search_locations if spec else None
    return next((path for folder in folders or () if (path := Path(folder, named[2])).is_file()), None)


@lru_cache(maxsize=8)
def _header(path: Path, _: object) -> Header:
    with path.open("rb") as stream:
        try:
            whole = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise ModelError(f"{path} is empty.") from error
    with whole:
        try:
            return _Reading(path, whole).header()
        except (struct.error, UnicodeDecodeError, KeyError, ValueError) as error:
            raise ModelError(f"{path} is damaged: its header breaks off or does not add up. Get it anew.") from error


class _Reading:
    """A header as it is read, from the front of a file to the last of its tensors."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self._path, self._content, self._at, self._entries = path, content, 0, 0

    def header(self) -> Header:
        if self._content[:4] != MAGIC:
            raise ModelError(f"{self._path} is no GGUF file: it begins with other bytes.")
        self._at = 4
        version, tensors, fields = self._take("IQQ")
        if version not in VERSIONS:
            said = f"of GGUF version {version}; versions {' and '.join(map(str, VERSIONS))} are read"
            raise ModelError(f"{self._path} is {said}. Convert it anew with llama.cpp.")
        self._count(fields)
        values = {self._text(): self._value() for _ in range(fields)}
        self._count(tensors)
        return self._described(values, [self._tensor() for _ in range(tensors)])

    def _described(self, values: dict[str, Any], tensors: list[tuple[int, tuple[int, ...], int]]) -> Header:
        import gguf

        kinds = {kind.value: kind for kind in gguf.GGMLQuantizationType}
        alignment = values.get("general.alignment", ALIGNMENT)
        if not (isinstance(alignment, int) and alignment > 0):
            raise ValueError("no alignment")
        begin = -(-self._at // alignment) * alignment
        numbers: Counter[str] = Counter()
        for number, shape, offset in tensors:
            if number not in kinds:
                raise ModelError(f"{self._path} holds tensors of a format that is not known here (number {number}).")
            block, size = gguf.GGML_QUANT_SIZES[kinds[number]]
            end = begin + offset + prod(shape) // block * size
            if end > len(self._content):
                raise ModelError(
                    f"{self._path} has {len(self._content):,} bytes where its header tells of {end:,} at least: it was "
                    f"cut short. Get it anew."
                )
            numbers[kinds[number].name] += prod(shape)
        if not numbers:
            raise ModelError(f"{self._path} holds no tensors, such as a file of a vocabulary alone. Get the model's.")
        files = {kind.value: kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in gguf.LlamaFileType}
        named = files.get(values.get("general.file_type", -1), "") if set(numbers) - set(PLAIN) else ""
        return Header(
            shown(str(values["general.architecture"])),
            named or numbers.most_common(1)[0][0],
            numbers.total(),
            shown(str(values.get("tokenizer.ggml.pre", ""))),
        )

    def _count(self, entries: int) -> None:
        """Refuse tables that are longer than those of any model, before they are gone through."""
        self._entries += entries
        if self._entries > MOST_ENTRIES:
            raise ModelError(f"{self._path} is damaged: its header claims {entries:,} entries of one kind.")

    def _take(self, format: str) -> tuple[Any, ...]:
        if self._at > len(self._content):  # a list may claim to end anywhere
            raise ValueError("a value beyond the file")
        taken = struct.unpack_from(f"<{format}", self._content, self._at)
        self._at += struct.calcsize(f"<{format}")
        return taken

    def _text(self) -> str:
        (length,) = self._take("Q")
        if length > len(self._content) - self._at:
            raise ValueError("a text that ends beyond the file")
        self._at += length
        return self._content[self._at - length : self._at].decode("utf-8")

    def _value(self) -> Any:
        """The next value; of a list its length alone."""
        (kind,) = self._take("I")
        if kind == TEXT:
            return self._text()
        if kind != ARRAY:
            return self._take(NUMBERS[kind])[0]
        kind, length = self._take("IQ")
        self._count(length)
        if kind in NUMBERS:
            self._at += length * struct.calcsize(NUMBERS[kind])
        elif kind == TEXT:
            for _ in range(length):
                (size,) = self._take("Q")
                self._at += size
        else:
            raise KeyError(kind)
        return length

    def _tensor(self) -> tuple[int, tuple[int, ...], int]:
        """Format, shape and place of a tensor."""
        self._text()
        (dimensions,) = self._take("I")
        self._count(dimensions)
        shape = self._take(f"{dimensions}Q")
        return (*self._take("I"), shape, *self._take("Q"))
