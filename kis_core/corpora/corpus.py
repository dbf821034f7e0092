"""What a corpus is, wherever its documents come from."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kis_core.errors import KisError
from kis_core.files.paths import Stamp


class CorpusError(KisError):
    """A corpus that cannot be read or holds no text. The message says what to do."""


@dataclass(frozen=True)
class Corpus(ABC):
    """Documents to take keys from.

    Attributes:
        name: of their source, for people.
    """

    name: str

    @abstractmethod
    def documents(self) -> Iterator[str]:
        """Non-empty texts in a fixed order, from the first one at every call, and never all of them in memory.

        Raises:
            CorpusError: while reading; the texts before it were read correctly.
        """

    @property
    def fingerprint(self) -> str:
        """SHA-256 that determines the documents and their order, whatever files they lie in.

        Raises:
            CorpusError: they cannot be read.
        """
        return fingerprint(self.documents())

    @property
    def stamp(self) -> Stamp | None:
        """A stand-in for the fingerprint where that takes a pass over big files; None where it is cheap.

        Raises:
            CorpusError: a file is gone.
        """
        return None


@dataclass(frozen=True)
class Texts(Corpus):
    """Documents that lie in memory."""

    texts: tuple[str, ...]

    def documents(self) -> Iterator[str]:
        """The texts."""
        return iter(self.texts)


def fingerprint(documents: Iterable[str]) -> str:
    """SHA-256 of documents in order, each with its length in front."""
    digest = hashlib.sha256()
    for document in documents:
        content = document.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()
