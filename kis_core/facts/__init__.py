"""Facts to study, and readers for the formats researchers keep them in.

A reader never gives up on a file because of a bad row: it keeps the good ones and reports the others one by one. What
it assumed or changed stands in the notes of the set. User text is only ever inserted with `str.replace`, never given to
`str.format`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from kis_core.errors import KisError, shown
from kis_core.files import csv_records, field_text, file_text
from kis_core.files.csv_records import CsvLayout, Fault, Lines, Record
from kis_core.files.paths import is_file

SLOT = "{}"
REQUIRED_COLUMNS = ("subject", "prompt", "target")
OPTIONAL_COLUMNS = ("relation",)
MAX_FIELD_CHARACTERS = 2_000  # far above any sentence about a fact; a longer field is a slip or an attack
MAX_FILE_BYTES = 200_000_000
BUILTIN_NAME = "builtin"
BUILTIN_SETS = {
    BUILTIN_NAME: "128 facts over all relations of the demo fact base, answered by every demo model (the paper's m)",
    "builtin-lookalikes": "128 facts about subjects that share a first or last word, answered by every demo model",
}
EXAMPLE = "Danielle Darrieux,The mother tongue of {} is,French"
NO_SLOT = "the prompt holds 0 `{}` where exactly one marks the subject"
UNGUARDED = "An apostrophe before =, +, - or @, which keeps spreadsheets from running a cell, was taken off"
TITLE = "uploaded_as"  # of the first record, where `own_facts` keeps a set: the name of the file it came from
PLACES_TOLD = 5  # rows that a note names
PAPER_FACTS = 128  # the paper's m: 128 facts that every studied model answers


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
    """

    subject: str
    prompt: str
    target: str
    relation: str = ""

    @property
    def text(self) -> str:
        """The prompt with the subject in place."""
        return self.prompt.replace(SLOT, self.subject, 1)

    @property
    def subject_span(self) -> tuple[int, int]:
        """First character of the subject in `text`, and one past its last."""
        begin = self.prompt.index(SLOT)
        return begin, begin + len(self.subject)


@dataclass(frozen=True, slots=True)
class RowIssue:
    """A row that was left out, and why. `row` counts from 1 and includes the header line of a CSV."""

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
    """

    name: str
    facts: tuple[Fact, ...]
    issues: tuple[RowIssue, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.facts)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the facts in order, independent of name, notes and file format."""
        rows = [[f.subject, f.prompt, f.target, f.relation] for f in self.facts]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def builtin(name: str = BUILTIN_NAME) -> FactSet:
    """A built-in set, one of `BUILTIN_SETS`."""
    source = resources.files("kis_core.demo").joinpath("sets", f"{name}.csv")
    return parse_csv(source.read_bytes(), name=name)


def demo_base() -> FactSet:
    """Every fact of the demo fact base in the first sentence it was taught in: thousands, to try large sets on."""
    from kis_core.demo import factbase

    return FactSet(
        "demo-fact-base",
        tuple(Fact(one.subject, one.trained[0], one.object, one.relation) for one in factbase.load()),
    )


def load(source: str | Path) -> FactSet:
    """Read a built-in set by its name, a CounterFact JSON file or a CSV file.

    Raises:
        FactFileError: the file is missing, unreadable or holds no usable fact.
    """
    if source in BUILTIN_SETS:
        return builtin(str(source))
    path = Path(source)
    if not is_file(path):
        raise FactFileError(
            f"No fact file at {path}. Give {' or '.join(BUILTIN_SETS)}, a CSV or a CounterFact JSON file."
        )
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise FactFileError(f"{path.name} has {size:,} bytes; at most {MAX_FILE_BYTES:,} are read. Split the file.")
    return parse(path.read_bytes(), name=path.name)


def parse(data: bytes, *, name: str) -> FactSet:
    """Facts from the bytes of a file: CounterFact JSON if the name ends in `.json`, else CSV."""
    return parse_counterfact(data, name=name) if name.lower().endswith(".json") else parse_csv(data, name=name)


def parse_csv(data: bytes, *, name: str) -> FactSet:
    """Facts from CSV (RFC 4180) with the columns `subject,prompt,target` and, if present, `relation`.

    The header says whether commas, semicolons or tabs stand between the fields; a field in quotes may hold line breaks.
    An apostrophe that `export.harmless` put before a cell is taken off, so the program's own `facts.csv` comes back as
    it went out. For encodings see `file_text`, for characters that nobody sees `field_text`.

    Raises:
        FactFileError: no text, no header, a duplicate or missing column, or no usable row.
    """
    name, text, reading = _opened(data, name)
    lines = Lines(text)
    header_at = next((k for k in range(len(lines)) if lines[k].strip()), None)
    if header_at is None:
        raise FactFileError(f"{name} is empty. Its first line should be: {','.join(REQUIRED_COLUMNS)}")
    header, delimiter = _header(lines, header_at, name)
    # only where it is certain which column a short row leaves out: in any other, a cell would pass for another column
    may_end_early = header[-1] in OPTIONAL_COLUMNS and len(header) == len(REQUIRED_COLUMNS + OPTIONAL_COLUMNS)
    layout = CsvLayout(delimiter, len(header) - may_end_early, len(header), SLOT)
    for found in lines.records(header_at + 1, layout):
        reading.take(found.row, _csv_fields(found, header, reading))
    return reading.facts(name)


def parse_counterfact(data: bytes, *, name: str) -> FactSet:
    """Facts from CounterFact JSON: a list of records with `requested_rewrite`.

    Each `requested_rewrite` holds `prompt`, `subject`, `target_true.str` and, if present, `relation_id`
    (Meng et al., arXiv 2202.05262).

    Raises:
        FactFileError: no text, not JSON, not a list, or no usable record.
    """
    name, text, reading = _opened(data, name)
    try:
        records = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: bad syntax, or an integer of thousands of digits
        raise FactFileError(f"{name} is not valid JSON: {error}. Is it CSV? Then let its name end in .csv.") from error
    if not isinstance(records, list):
        raise FactFileError(f"{name} holds a {type(records).__name__}; CounterFact is a list of records.")
    title = records[0].get(TITLE) if records and isinstance(records[0], Mapping) else None
    name = shown(title) if isinstance(title, str) and title.strip() else name
    for number, record in enumerate(records, start=1):
        reading.take(number, _counterfact_fields(record))
    return reading.facts(name)


class _Reading:
    """What has been read of a file."""

    def __init__(self, note: str) -> None:
        self._kept: list[Fact] = []
        self._issues: list[RowIssue] = []
        self._notes: dict[str, list[str]] = {note: []} if note else {}

    def take(self, row: int, fields: Mapping[str, Any] | str) -> None:
        """Take in a row: its fields, or why it has none."""
        try:
            if isinstance(fields, str):
                raise ValueError(fields)
            values = {column: self._value(column, fields, row) for column in REQUIRED_COLUMNS + OPTIONAL_COLUMNS}
            slots = values["prompt"].count(SLOT)
            if slots != 1:
                raise ValueError(NO_SLOT.replace("0", str(slots)))
            self._kept.append(Fact(**values))
        except ValueError as error:
            self._issues.append(RowIssue(row, str(error)))

    def _value(self, column: str, fields: Mapping[str, Any], row: int) -> str:
        value = fields.get(column, "" if column in OPTIONAL_COLUMNS else None)
        if not isinstance(value, str):
            raise ValueError(f"{column} is missing")
        if len(value) > MAX_FIELD_CHARACTERS:
            raise ValueError(f"{column} has {len(value):,} characters; at most {MAX_FIELD_CHARACTERS:,}")
        kept = field_text.tidy(value)
        if column in REQUIRED_COLUMNS and not kept:
            raise ValueError(f"{column} is blank")
        if value.isascii() and value.isprintable():
            return kept  # most are; the rest takes several times as long to look at
        if wrong := field_text.fault(kept):
            raise ValueError(f"{column} {wrong}")
        for what, about in field_text.remarks(value, kept):
            self.note(what, f"row {row}, {column} ({about})")
        return kept

    def note(self, what: str, where: str) -> None:
        """Note something, and where it was seen."""
        self._notes.setdefault(what, []).append(where)

    def facts(self, name: str) -> FactSet:
        """The set.

        Raises:
            FactFileError: no row could be used.
        """
        if self._kept:
            return FactSet(name, tuple(self._kept), tuple(self._issues), tuple(_sentences(self._notes)))
        first = f" First problem: row {self._issues[0].row}: {self._issues[0].reason}." if self._issues else ""
        slot = any(issue.reason == NO_SLOT for issue in self._issues)
        advice = f" Put {SLOT} in each prompt where the subject goes, as in: {EXAMPLE}" if slot else ""
        raise FactFileError(f"{name} holds no usable fact.{first}{advice}")


def _sentences(notes: Mapping[str, list[str]]) -> Iterator[str]:
    for what, places in notes.items():
        more = f"; and {len(places) - PLACES_TOLD:,} more" if len(places) > PLACES_TOLD else ""
        yield f"{what}: {'; '.join(places[:PLACES_TOLD])}{more}." if places else what


def _opened(data: bytes, name: str) -> tuple[str, str, _Reading]:
    """The name as it may be shown, the text of the file, and a reading of it that has just begun."""
    name = shown(name)
    try:
        text, note = file_text.read(data)
    except file_text.NotText as error:
        raise FactFileError(f"{name} {error}") from error
    return name, text, _Reading(note)


def _header(lines: Lines, at: int, name: str) -> tuple[list[str], str]:
    """The columns of a CSV, and what stands between fields: whatever splits the header into the columns wanted."""
    expected = f"The first line should be: {','.join(REQUIRED_COLUMNS)}"
    if lines[at].lstrip().startswith(("[", "{")):
        expected += ". It looks like JSON; then let its name end in .json"
    found: dict[str, list[str]] = {}
    for delimiter in csv_records.DELIMITERS:
        try:
            found[delimiter] = [field_text.tidy(cell).lower() for cell in lines.single(at, delimiter)]
        except ValueError as error:
            wrong = error
    if not found:
        raise FactFileError(f"{name}, line {at + 1}: {wrong}. {expected}") from wrong
    delimiter = max(found, key=lambda one: len(set(found[one]) & set(REQUIRED_COLUMNS)))
    header = found[delimiter]
    missing = [column for column in REQUIRED_COLUMNS if column not in header]
    if missing:
        there = shown(", ".join(header))
        raise FactFileError(f"{name} has no column {', '.join(missing)}; found: {there}. {expected}")
    twice = sorted({column for column in REQUIRED_COLUMNS + OPTIONAL_COLUMNS if header.count(column) > 1})
    if twice:
        raise FactFileError(f"{name} has the column {', '.join(twice)} twice. {expected}")
    return header, delimiter


def _csv_fields(found: Record | Fault, header: list[str], reading: _Reading) -> Mapping[str, str] | str:
    if isinstance(found, Fault):
        return found.reason
    fields = dict(zip(header, found.cells, strict=False))
    for column in (REQUIRED_COLUMNS + OPTIONAL_COLUMNS) if any("'" in cell for cell in found.cells) else ():
        if (bare := csv_records.unguarded(fields.get(column, ""))) != fields.get(column, ""):
            reading.note(UNGUARDED, f"row {found.row}, {column}")
            fields[column] = bare
    return fields


def _counterfact_fields(record: Any) -> Mapping[str, Any] | str:
    rewrite = record.get("requested_rewrite") if isinstance(record, Mapping) else None
    if not isinstance(rewrite, Mapping):
        return "no `requested_rewrite` object"
    target = rewrite.get("target_true")
    if not isinstance(target, Mapping):
        return "no `target_true.str`"
    return {
        "subject": rewrite.get("subject"),
        "prompt": rewrite.get("prompt"),
        "target": target.get("str"),
        "relation": rewrite.get("relation_id") or "",
    }
