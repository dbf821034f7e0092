"""A fact, and facts in a fixed order: what every other room means by them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kis_core.errors import KisError

SLOT = "{}"


class FactFileError(KisError):
    """A fact file that holds no usable fact, or is no fact file at all. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: a subject in a sentence that the target completes.

    Attributes:
        subject: who or what the fact is about, as it stands in the sentence.
        prompt: the sentence with one `{}` where the subject goes, ending before the answer.
        target: the right answer, without a leading space.
        relation: name of the relation, or empty where the source has none.
        new_target: the object that the source proposes to edit it to, or empty.
        paraphrases: whole sentences that the same target completes, the subject in place.
        neighbours: whole sentences about other subjects that the same target completes, which an edit should leave so.
    """

    subject: str
    prompt: str
    target: str
    relation: str = ""
    new_target: str = ""
    paraphrases: tuple[str, ...] = ()
    neighbours: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The prompt with the subject in place."""
        return self.prompt.replace(SLOT, self.subject, 1)

    @property
    def subject_span(self) -> tuple[int, int]:
        """First character of the subject in `text`, and one past its last."""
        begin = self.prompt.index(SLOT)
        return begin, begin + len(self.subject)

    def to_json(self) -> dict[str, Any]:
        """As JSON: what only some sources bring is left out where it is empty, so that other facts are as ever."""
        needed = {"subject": self.subject, "prompt": self.prompt, "target": self.target, "relation": self.relation}
        brought = {
            "new_target": self.new_target,
            "paraphrases": list(self.paraphrases),
            "neighbours": list(self.neighbours),
        }
        return needed | {name: value for name, value in brought.items() if value}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Fact:
        """The fact that `to_json` wrote."""
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class RowIssue:
    """A row that was left out, and why.

    `row` counts from 1: the lines of a text file and the rows of a sheet, their header included, or the records of a
    JSON list or a parquet file.
    """

    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class FactSet:
    """Facts in a fixed order; fact i is row and column i of every matrix.

    Attributes:
        name: where they come from, for people.
        facts: the facts that were kept.
        issues: the rows that were not.
        notes: what a reader of the file assumed, changed or noticed, a sentence each.
        format: the format of the file that they were found in, such as "CounterFact records in a JSON list"; it says
            nothing of the facts, so sets that differ in it alone are equal.
    """

    name: str
    facts: tuple[Fact, ...]
    issues: tuple[RowIssue, ...] = ()
    notes: tuple[str, ...] = ()
    format: str = field(default="", compare=False)

    def __len__(self) -> int:
        return len(self.facts)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the facts in order, independent of name, notes and file format."""
        rows: list[list[object]] = []
        for fact in self.facts:
            brought = [fact.new_target, fact.paraphrases, fact.neighbours]
            rows.append([fact.subject, fact.prompt, fact.target, fact.relation, *(brought if any(brought) else ())])
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
