"""Text for the second moment C: documents in a fixed order, with a fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kis_core.errors import KisError
from kis_core.paths import is_file

BUILTIN_NAME = "builtin"


class CorpusError(KisError):
    """A corpus that cannot be read or holds no text. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents to take keys from.

    Attributes:
        name: where they come from, for people.
        documents: non-empty texts in order.
    """

    name: str
    documents: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the documents in order."""
        return _fingerprint(self.documents)


def _fingerprint(documents: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for document in documents:
        content = document.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def builtin() -> Corpus:
    """The demo family's training text and the sentences it was never trained on, shuffled into short documents."""
    from kis_core.demo import text

    return Corpus(BUILTIN_NAME, text.documents())


def load(source: str | Path) -> Corpus:
    """`"builtin"`, or a UTF-8 text file with one document a line; blank lines are passed over.

    Raises:
        CorpusError: no such file, not UTF-8, or no text in it.
    """
    if source == BUILTIN_NAME:
        return builtin()
    path = Path(source)
    if not is_file(path):
        raise CorpusError(f"No corpus file at {path}. Give `builtin` or a text file with one document a line.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path.name} is not UTF-8 text ({error}). Save it as UTF-8.") from error
    documents = tuple(line for line in (raw.strip("\r") for raw in text.split("\n")) if line.strip())
    if not documents:
        raise CorpusError(f"{path.name} holds no text.")
    return Corpus(path.name, documents)
