"""What all formats share: a file gives records, a record gives facts or says why not, and what was assumed is noted.

How records are stored and what their fields mean are two things: the modules of `containers` know the first, those of
`readers` the second, so that any kind of record can come in any container.

A file is never given up because of a bad row: the good ones are kept and the others reported one by one. User text is
only ever inserted with `str.replace`, never given to `str.format`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kis_core.errors import shown
from kis_core.facts.fact import SLOT, Fact, FactFileError, FactSet, RowIssue
from kis_core.facts.subjects import NO_SLOT, OTHER_CASE, marked
from kis_core.files import field_text, file_text

REQUIRED_COLUMNS = ("subject", "prompt", "target")
OPTIONAL_COLUMNS = ("relation",)
FIRST_LINE = f"The first line should be: {','.join(REQUIRED_COLUMNS)}"
MAX_FIELD_CHARACTERS = 2_000  # far above any sentence about a fact; a longer field is a slip or an attack
EXAMPLE = "Danielle Darrieux,The mother tongue of {} is,French"
BROUGHT = ("new_target", "paraphrases", "neighbours")  # by some formats, beside the columns
NOTES = "notes"  # of a reader about one record, beside the fields of its fact
LEFT_OUT = "New objects, paraphrases or neighbours that are no usable text were left out"
AGAIN = "A fact that several records ask for was taken once"
LIST_AS_TEXT = "is a list written as text, as a table has it; leave its first item alone there"
PLACES_SHOWN = 5  # rows that a note names

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Unfit:
    """A value that stands where text belongs and has no text that is certain, with the reason: "is a date"."""

    reason: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds.

    Attributes:
        kind: of the container, to follow "in": "a JSON list".
        records: with their numbers from 1, or why a row is none.
        columns: the names of the fields of every record where the file is a table; they are in lower case.
    """

    kind: str
    records: Iterable[tuple[int, Record | str]]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Container:
    """A way to store records in a file.

    Attributes:
        label: what such a file is called in messages, with its article.
        endings: of the names of such files, in lower case; one of them empty for the container of all other names.
        read: gives what the bytes of a file hold.
    """

    label: str
    endings: tuple[str, ...]
    read: Callable[[bytes, Rows], Contents]


@dataclass(frozen=True, slots=True)
class Reader:
    """A kind of record.

    Attributes:
        label: what such records are called in messages.
        marks: the fields by which a record is recognised, and what they hold.
        others: the fields that are read beside those.
        facts: gives the fields of each fact in a record by the names of a `Fact`'s, or why it has none.
        names: of the fields that stand for those of a fact, where they are others.
        repeats: whether the same fact belongs to many records, and is to be taken once.
    """

    label: str
    marks: Mapping[str, type]
    others: tuple[str, ...]
    facts: Callable[[Record], Iterable[Record | str]]
    names: Mapping[str, str] = field(default_factory=dict)
    repeats: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields that are read."""
        return (*self.marks, *self.others)

    def recognises(self, record: Record) -> bool:
        """Whether a record is of this kind."""
        return all(name in record and isinstance(record[name], kind) for name, kind in self.marks.items())


class Rows:
    """What has been read of a file so far.

    Attributes:
        name: of the file, as it may be shown.
    """

    def __init__(self, name: str) -> None:
        self.name = shown(name)
        self._kept: list[Fact] = []
        self._seen: set[tuple[str, str]] = set()
        self._issues: list[RowIssue] = []
        self._notes: dict[str, list[str]] = {}

    def text(self, data: bytes) -> str:
        """The text of the file.

        Raises:
            FactFileError: the bytes are no text.
        """
        try:
            text, note = file_text.read(data)
        except file_text.NotText as error:
            raise FactFileError(f"{self.name} {error}") from error
        if note:
            self._notes[note] = []
        return text

    def refuse(self, row: int, reason: str) -> None:
        """Leave a row out."""
        self._issues.append(RowIssue(row, reason))

    def take(self, row: int, record: Record, reader: Reader) -> None:
        """Take in the facts of a row, and leave out those that are none."""
        several = list(reader.facts(record))
        for number, fields in enumerate(several, start=1):
            try:
                if isinstance(fields, str):
                    raise ValueError(fields)
                fact = self._fact(fields, row, reader.names)
            except ValueError as error:
                place = f"fact {number} of {len(several)}: " if len(several) > 1 else ""
                self.refuse(row, f"{place}{error}")
                continue
            question = fact.text, fact.target
            if reader.repeats and question in self._seen:
                self.note(AGAIN, f"row {row}")
                continue
            self._seen.add(question)
            self._kept.append(fact)

    def _fact(self, fields: Record, row: int, names: Mapping[str, str]) -> Fact:
        """The fact with these fields; `names` are those they have in the file where they are others.

        Raises:
            ValueError: they make no fact; says why.
        """
        values = {
            column: self._value(column, fields.get(column), row, names.get(column, column))
            for column in REQUIRED_COLUMNS + OPTIONAL_COLUMNS
        }
        prompt, subject = marked(values["prompt"], values["subject"])
        if subject != values["subject"]:
            self.note(OTHER_CASE, f"row {row} ({shown(subject, 40)})")
        for note in fields.get(NOTES, ()):
            self.note(note, f"row {row}")
        return Fact(subject, prompt, values["target"], values["relation"], **self._brought(fields, row))

    def _value(self, column: str, value: Any, row: int, name: str) -> str:
        if value is None and column in OPTIONAL_COLUMNS:
            return ""
        if isinstance(value, Unfit):
            raise ValueError(f"{name} {value.reason}")
        if not isinstance(value, str):
            other = f"is of the type {type(value).__name__}, where text belongs"
            raise ValueError(f"{name} {'is missing' if value is None else other}")
        if len(value) > MAX_FIELD_CHARACTERS:
            raise ValueError(f"{name} has {len(value):,} characters; at most {MAX_FIELD_CHARACTERS:,}")
        kept = field_text.tidy(value)
        if column in REQUIRED_COLUMNS and not kept:
            raise ValueError(f"{name} is blank")
        if value.isascii() and value.isprintable():
            return kept  # most are; the rest takes several times as long to look at
        if fault := field_text.fault(kept):
            raise ValueError(f"{name} {fault}")
        for remark, about in field_text.remarks(value, kept):
            self.note(remark, f"row {row}, {name} ({about})")
        return kept

    def _brought(self, fields: Record, row: int) -> dict[str, Any]:
        """What a fact may have beside its own columns, as far as it can be asked as it is."""
        brought: dict[str, Any] = {}
        for name in BROUGHT:
            if (value := fields.get(name)) is None:
                continue
            texts = value if isinstance(value, list) else [value]
            short = [text for text in texts if isinstance(text, str) and len(text) <= MAX_FIELD_CHARACTERS]
            kept = [text for text in map(field_text.tidy, short) if text and not field_text.fault(text)]
            if len(kept) < len(texts):
                self.note(LEFT_OUT, f"row {row}")
            brought[name] = "".join(kept[:1]) if name == "new_target" else tuple(kept)
        return brought

    def note(self, what: str, where: str) -> None:
        """Note something, and where it was seen."""
        self._notes.setdefault(what, []).append(where)

    def facts(self, name: str = "", kind: str = "") -> FactSet:
        """The set, under another name than the file's if one is given, and the format that it was found in.

        Raises:
            FactFileError: no row could be used.
        """
        name = name or self.name
        if self._kept:
            return FactSet(name, tuple(self._kept), tuple(self._issues), tuple(_sentences(self._notes)), kind)
        first = f" First problem: row {self._issues[0].row}: {self._issues[0].reason}." if self._issues else ""
        slot = any(issue.reason.startswith(NO_SLOT) for issue in self._issues)
        advice = f" Put {SLOT} in each prompt where the subject goes, as in: {EXAMPLE}" if slot else ""
        raise FactFileError(f"{name} holds no usable fact.{first}{advice}")


def first(value: Any) -> Any:
    """A value, or the first of several, in lists within lists as well; None where there is none."""
    while isinstance(value, list):
        value = value[0] if value else None
    return Unfit(LIST_AS_TEXT) if isinstance(value, str) and re.fullmatch(r"\s*\[.*\]\s*", value, re.DOTALL) else value


def listed(value: Any) -> list[Any]:
    """The values of a field that holds one or several, or is empty."""
    return value if isinstance(value, list) else [] if value is None or value == "" else [first(value)]


def _sentences(notes: Mapping[str, list[str]]) -> Iterator[str]:
    for what, places in notes.items():
        more = f"; and {len(places) - PLACES_SHOWN:,} more" if len(places) > PLACES_SHOWN else ""
        yield f"{what}: {'; '.join(places[:PLACES_SHOWN])}{more}." if places else what
