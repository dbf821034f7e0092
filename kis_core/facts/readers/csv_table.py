"""CSV (RFC 4180) with the columns `subject,prompt,target` and, if present, `relation`."""

from __future__ import annotations

from collections.abc import Mapping

from kis_core.errors import shown
from kis_core.facts.fact import SLOT, FactFileError, FactSet
from kis_core.facts.reading import OPTIONAL_COLUMNS, REQUIRED_COLUMNS, Reader, Rows
from kis_core.files import csv_records, field_text
from kis_core.files.csv_records import CsvLayout, Fault, Lines, Record

COLUMNS = REQUIRED_COLUMNS + OPTIONAL_COLUMNS
UNGUARDED = "An apostrophe before =, +, - or @, which keeps spreadsheets from running a cell, was taken off"


def parse(data: bytes, name: str) -> FactSet:
    """Facts from CSV.

    The header says whether commas, semicolons or tabs stand between the fields; a field in quotes may hold line breaks.
    An apostrophe that `csv_records.guarded` put before a cell is taken off, so the program's own `facts.csv` comes back
    as it was written. For encodings see `file_text`, for characters that nobody sees `field_text`.

    Raises:
        FactFileError: no text, no header, a duplicate or missing column, or no usable row.
    """
    rows = Rows(data, name)
    lines = Lines(rows.text)
    header_at = next((k for k in range(len(lines)) if lines[k].strip()), None)
    if header_at is None:
        raise FactFileError(f"{rows.name} is empty. Its first line should be: {','.join(REQUIRED_COLUMNS)}")
    header, delimiter = _header(lines, header_at, rows.name)
    # only where it is certain which column a short row leaves out: in any other, a cell would pass for another column
    may_end_early = header[-1] in OPTIONAL_COLUMNS and len(header) == len(COLUMNS)
    layout = CsvLayout(delimiter, len(header) - may_end_early, len(header), SLOT)
    for record in lines.records(header_at + 1, layout):
        rows.take(record.row, _fields(record, header, rows))
    return rows.facts()


def _header(lines: Lines, at: int, name: str) -> tuple[list[str], str]:
    """The columns of a CSV, and what stands between fields: whatever splits the header into the columns wanted."""
    expected = f"The first line should be: {','.join(REQUIRED_COLUMNS)}"
    if lines[at].lstrip().startswith(("[", "{")):
        expected += ". It looks like JSON; then let its name end in .json"
    headers: dict[str, list[str]] = {}
    for delimiter in csv_records.DELIMITERS:
        try:
            headers[delimiter] = [field_text.tidy(cell).lower() for cell in lines.single(at, delimiter)]
        except ValueError as error:
            wrong = error
    if not headers:
        raise FactFileError(f"{name}, line {at + 1}: {wrong}. {expected}") from wrong
    delimiter = max(headers, key=lambda mark: len(set(headers[mark]) & set(REQUIRED_COLUMNS)))
    header = headers[delimiter]
    missing = [column for column in REQUIRED_COLUMNS if column not in header]
    if missing:
        there = shown(", ".join(header))
        raise FactFileError(f"{name} has no column {', '.join(missing)}; found: {there}. {expected}")
    twice = sorted({column for column in COLUMNS if header.count(column) > 1})
    if twice:
        raise FactFileError(f"{name} has the column {', '.join(twice)} twice. {expected}")
    return header, delimiter


def _fields(record: Record | Fault, header: list[str], rows: Rows) -> Mapping[str, str] | str:
    if isinstance(record, Fault):
        return record.reason
    fields = {name: cell for name, cell in zip(header, record.cells, strict=False) if name in COLUMNS}
    for column in COLUMNS if any("'" in cell for cell in record.cells) else ():
        if (bare := csv_records.unguarded(fields.get(column, ""))) != fields.get(column, ""):
            rows.note(UNGUARDED, f"row {record.row}, {column}")
            fields[column] = bare
    return fields


READER = Reader("a CSV file", ("", ".csv", ".tsv"), parse)
