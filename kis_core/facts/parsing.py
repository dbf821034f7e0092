"""The bytes of a file become facts: a container gives records, and a reader says what their fields mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from kis_core.errors import shown
from kis_core.facts.containers import container_for
from kis_core.facts.fact import FactFileError, FactSet
from kis_core.facts.readers import READERS, reader_for
from kis_core.facts.reading import FIRST_LINE, REQUIRED_COLUMNS, Contents, Reader, Record, Rows

MOST_ROWS = 1_000_000  # fifty times what any page shows; small files can hold or claim any number of rows
TITLE = "uploaded_as"  # of the first record, in sets that are kept: the name of the file the facts came from


def parse(data: bytes, *, name: str) -> FactSet:
    """Facts from the bytes of a file.

    The ending of its name says how records are stored (as CSV where it says nothing else), and the fields of the first
    record that is recognised, what kind all of them are.

    Raises:
        FactFileError: the file cannot be read, is of no known format, or holds no usable fact.
    """
    rows = Rows(name)
    contents = container_for(name).read(data, rows)
    records, seen = _counted(contents.records, rows.name), list[tuple[int, Record | str]]()
    for row, record in records:
        seen.append((row, record))
        if not isinstance(record, str) and reader_for(record):
            break
    samples = [record for _, record in seen if not isinstance(record, str)]
    if contents.columns and not samples:
        samples = [dict.fromkeys(contents.columns)]
    reader = reader_for(samples[-1]) if samples else None
    if reader:
        _refuse_twice(contents.columns, reader, rows.name)
    elif samples:
        raise FactFileError(_unknown(rows.name, contents, samples[0]))
    for row, record in chain(seen, records):
        if isinstance(record, str) or reader is None:  # which it is only where no row has a record
            rows.refuse(row, str(record))
        else:
            rows.take(row, record, reader)
    title = samples[0].get(TITLE) if samples and not contents.columns else None
    found = f"{reader.label} in {contents.kind}" if reader else ""
    return rows.facts(shown(title) if isinstance(title, str) and title.strip() else "", found)


def _counted(records: Iterable[tuple[int, Record | str]], name: str) -> Iterator[tuple[int, Record | str]]:
    """The records, as long as there are not more than any set has."""
    for count, numbered in enumerate(records, start=1):
        if count > MOST_ROWS:
            raise FactFileError(f"{name} has more than {MOST_ROWS:,} rows. Split it.")
        yield numbered


def _refuse_twice(columns: tuple[str, ...], reader: Reader, name: str) -> None:
    """Refuse a table that has a column twice which is read: nothing says which of them is meant."""
    if twice := sorted({column for column in reader.fields if columns.count(column) > 1}):
        raise FactFileError(f"{name} has the column {', '.join(twice)} twice. {FIRST_LINE}")


def _unknown(name: str, contents: Contents, sample: Record) -> str:
    """Why no reader recognises the records of a file."""
    known = "; ".join(f"{reader.label} ({', '.join(reader.marks)})" for reader in READERS)
    if not contents.columns:
        there = shown(", ".join(map(str, sample)))
        return f"{name} holds no records of a known kind; the first has the fields: {there}. Known are: {known}."
    missing = ", ".join(column for column in REQUIRED_COLUMNS if column not in contents.columns)
    there = shown(", ".join(contents.columns))
    return f"{name} has no column {missing}; found: {there}. {FIRST_LINE}. Columns of other kinds: {known}."
