"""The record of which documents were read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MODULUS = 1 << 256  # of the sum of SHA-256 digests


@dataclass
class DocumentsRead:
    """Which documents of a corpus were read: how many, and one digest of them all.

    The digest is the sum, modulo 2²⁵⁶, of SHA-256 over each document's place in the corpus and its text. A sum does
    not depend on the order, so processes that share the work add theirs up. As an incremental hash it reveals an
    honest mistake, not a forgery (Bellare & Micciancio, EUROCRYPT 1997).

    Attributes:
        count: documents read.
        characters: of text in them.
    """

    count: int = 0
    characters: int = 0
    _sum: int = 0

    def add(self, index: int, document: str) -> None:
        """Count a document; `index` is its place in the corpus, from 0."""
        content = index.to_bytes(8, "little") + document.encode("utf-8", "surrogatepass")
        self.count += 1
        self.characters += len(document)
        self._sum = (self._sum + int.from_bytes(hashlib.sha256(content).digest())) % MODULUS

    def __add__(self, other: DocumentsRead) -> DocumentsRead:
        return DocumentsRead(
            self.count + other.count, self.characters + other.characters, (self._sum + other._sum) % MODULUS
        )

    @property
    def digest(self) -> str:
        """64 hexadecimal digits that stand for the documents and their places."""
        return f"{self._sum:064x}"

    def to_json(self) -> dict[str, Any]:
        """The record as JSON, which `from_json` reads."""
        return {"documents": self.count, "characters": self.characters, "sha256_sum": self.digest}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> DocumentsRead:
        """The record that `to_json` wrote.

        Raises:
            KeyError, ValueError: it is something else.
        """
        return cls(int(record["documents"]), int(record["characters"]), int(record["sha256_sum"], 16) % MODULUS)
