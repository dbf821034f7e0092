"""Facts to study, and readers for the formats researchers keep them in.

A reader never gives up on a file because of a bad row: it keeps the good ones and reports the others one by one.
User text is only ever inserted with `str.replace`, never passed to `str.format`.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from kis_core.errors import KisError
from kis_core.paths import is_file

SLOT = "{}"
REQUIRED_COLUMNS = ("subject", "prompt", "target")
OPTIONAL_COLUMNS = ("relation",)
MAX_FIELD_CHARACTERS = 2_000  # far above any sentence about a fact; a longer field is a slip or an attack
MAX_LINE_CHARACTERS = 10_000
MAX_FILE_BYTES = 200_000_000
BUILTIN_NAME = "builtin"
BUILTIN_SETS = {
    BUILTIN_NAME: "128 facts over all relations of the demo fact base, answered by every demo model (the paper's m)",
    "builtin-lookalikes": "128 facts about subjects that share a first or last word, answered by every demo model",
}
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
    """

    name: str
    facts: tuple[Fact, ...]
    issues: tuple[RowIssue, ...] = ()

    def __len__(self) -> int:
        return len(self.facts)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the facts in order, independent of the name and of the file format."""
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
    """Facts from CSV with the columns `subject,prompt,target` and, if present, `relation`; one line a fact.

    UTF-8 (with or without BOM), UTF-16 with BOM and, as a last resort, Latin-1 are understood.

    Raises:
        FactFileError: no header, a duplicate or missing column, or no usable row.
    """
    lines = re.split(r"\r\n|\r|\n", _decode(data))
    header_at = next((k for k, line in enumerate(lines) if line.strip()), None)
    if header_at is None:
        raise FactFileError(f"{name} is empty. Its first line should be: {','.join(REQUIRED_COLUMNS)}")
    header = _header(lines[header_at], header_at + 1, name)
    facts, issues = [], []
    for number, line in enumerate(lines[header_at + 1 :], start=header_at + 2):
        if not line.strip():
            continue
        try:
            cells = _cells(line)
            if len(cells) < len(REQUIRED_COLUMNS) or len(cells) > len(header):
                raise ValueError(f"{len(cells)} columns where the header has {len(header)}")
            facts.append(_fact(dict(zip(header, cells, strict=False))))
        except ValueError as error:
            issues.append(RowIssue(number, str(error)))
    return _fact_set(name, facts, issues)


def parse_counterfact(data: bytes, *, name: str) -> FactSet:
    """Facts from CounterFact JSON: a list of records with `requested_rewrite`.

    Each `requested_rewrite` holds `prompt`, `subject`, `target_true.str` and, if present, `relation_id`
    (Meng et al., arXiv 2202.05262).

    Raises:
        FactFileError: not JSON, not a list, or no usable record.
    """
    try:
        records = json.loads(_decode(data))
    except (ValueError, RecursionError) as error:  # ValueError: bad syntax, or an integer of thousands of digits
        raise FactFileError(f"{name} is not valid JSON: {error}") from error
    if not isinstance(records, list):
        raise FactFileError(f"{name} holds a {type(records).__name__}; CounterFact is a list of records.")
    facts, issues = [], []
    for number, record in enumerate(records, start=1):
        try:
            facts.append(_fact(_counterfact_fields(record)))
        except ValueError as error:
            issues.append(RowIssue(number, str(error)))
    return _fact_set(name, facts, issues)


def _decode(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _header(line: str, number: int, name: str) -> list[str]:
    expected = f"The first line should be: {','.join(REQUIRED_COLUMNS)}"
    try:
        header = [cell.strip().lower() for cell in _cells(line)]
    except ValueError as error:
        raise FactFileError(f"{name}, line {number}: {error}. {expected}") from error
    missing = [column for column in REQUIRED_COLUMNS if column not in header]
    if missing:
        raise FactFileError(f"{name} has no column {', '.join(missing)}; found: {', '.join(header)[:200]}. {expected}")
    known = REQUIRED_COLUMNS + OPTIONAL_COLUMNS
    twice = sorted({column for column in header if column in known and header.count(column) > 1})
    if twice:
        raise FactFileError(f"{name} has the column {', '.join(twice)} twice. {expected}")
    return header


def _cells(line: str) -> list[str]:
    if len(line) > MAX_LINE_CHARACTERS:
        raise ValueError(f"a line of {len(line):,} characters; at most {MAX_LINE_CHARACTERS:,}")
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise ValueError(f"not valid CSV ({error}); is a quote left open?") from error


def _counterfact_fields(record: Any) -> dict[str, Any]:
    rewrite = record.get("requested_rewrite") if isinstance(record, Mapping) else None
    if not isinstance(rewrite, Mapping):
        raise ValueError("no `requested_rewrite` object")
    target = rewrite.get("target_true")
    if not isinstance(target, Mapping):
        raise ValueError("no `target_true.str`")
    return {
        "subject": rewrite.get("subject"),
        "prompt": rewrite.get("prompt"),
        "target": target.get("str"),
        "relation": rewrite.get("relation_id") or "",
    }


def _fact(fields: Mapping[str, Any]) -> Fact:
    values = {}
    for column in REQUIRED_COLUMNS + OPTIONAL_COLUMNS:
        value = fields.get(column, "" if column in OPTIONAL_COLUMNS else None)
        if not isinstance(value, str):
            raise ValueError(f"{column} is missing")
        if column in REQUIRED_COLUMNS and not value.strip():
            raise ValueError(f"{column} is blank")
        if len(value) > MAX_FIELD_CHARACTERS:
            raise ValueError(f"{column} has {len(value):,} characters; at most {MAX_FIELD_CHARACTERS:,}")
        if any(ord(character) < 32 and character not in "\t\n\r" for character in value):
            raise ValueError(f"{column} holds a control character")
        if any(0xD800 <= ord(character) <= 0xDFFF for character in value):
            raise ValueError(f"{column} holds half a Unicode character (a lone surrogate)")
        values[column] = value.strip()
    slots = values["prompt"].count(SLOT)
    if slots != 1:
        raise ValueError(f"the prompt holds {slots} `{{}}` where exactly one marks the subject")
    return Fact(**values)


def _fact_set(name: str, facts: Iterable[Fact], issues: Iterable[RowIssue]) -> FactSet:
    result = FactSet(name, tuple(facts), tuple(issues))
    if not result.facts:
        first = f" First problem: row {result.issues[0].row}: {result.issues[0].reason}." if result.issues else ""
        raise FactFileError(f"{name} holds no usable fact.{first}")
    return result
