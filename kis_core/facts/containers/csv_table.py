"""CSV (RFC 4180), and text with tabs as spreadsheets write it: the columns stand in the first line."""

from __future__ import annotations

from collections.abc import Iterator

from kis_core.errors import shown
from kis_core.facts.fact import SLOT, FactFileError
from kis_core.facts.reading import FIRST_LINE, OPTIONAL_COLUMNS, REQUIRED_COLUMNS, Container, Contents, Rows
from kis_core.facts.reading import Record as Fields
from kis_core.files import csv_records, field_text
from kis_core.files.csv_records import CsvLayout, Fault, Lines, Record

COLUMNS = REQUIRED_COLUMNS + OPTIONAL_COLUMNS
AS_JSON = ". It looks like JSON; then let its name end in .json"
KINDS = {",": "CSV", ";": "CSV with semicolons", "\t": "CSV with tabs"}
UNGUARDED = "An apostrophe before =, +, - or @, which keeps spreadsheets from running a cell, was taken off"


def read(data: bytes, rows: Rows) -> Contents:
    """The rows of a table.

    The header says whether commas, semicolons or tabs stand between the fields; a field in quotes may hold line breaks.
    An apostrophe that `csv_records.guarded` put before a cell is taken off, so the program's own `facts.csv` comes back
    as it was written. For encodings see `file_text`, for characters that nobody sees `field_text`.

    Raises:
        FactFileError: no text, or no header.
    """
    lines = Lines(rows.text(data))
    header_at = next((k for k in range(len(lines)) if lines[k].strip()), None)
    if header_at is None:
        raise FactFileError(f"{rows.name} is empty. {FIRST_LINE}")
    header, delimiter = _header(lines, header_at, rows.name)
    # only where it is certain which column a short row leaves out: in any other, a cell would pass for another column
    may_end_early = header[-1] in OPTIONAL_COLUMNS and sorted(header) == sorted(COLUMNS)
    layout = CsvLayout(delimiter, len(header) - may_end_early, len(header), SLOT)
    return Contents(KINDS[delimiter], _records(lines, header_at, layout, header, rows), tuple(header))


def _header(lines: Lines, at: int, name: str) -> tuple[list[str], str]:
    """The columns of a CSV, and what stands between fields: whatever splits the header into the most columns known."""
    as_json = AS_JSON if lines[at].lstrip().startswith(("[", "{")) else ""
    headers: dict[str, list[str]] = {}
    for delimiter in csv_records.DELIMITERS:
        try:
            headers[delimiter] = [field_text.tidy(cell).lower() for cell in lines.single(at, delimiter)]
        except ValueError as error:
            wrong = error
    if not headers:
        raise FactFileError(f"{name}, line {at + 1}: {wrong}. {FIRST_LINE}{as_json}") from wrong
    delimiter = max(headers, key=lambda mark: len(set(headers[mark]) & set(REQUIRED_COLUMNS)))
    header = headers[delimiter]
    if as_json and not set(REQUIRED_COLUMNS) & set(header):
        raise FactFileError(f"{name} has the columns {shown(', '.join(header))}{as_json}")
    return header, delimiter


def _records(
    lines: Lines, header_at: int, layout: CsvLayout, header: list[str], rows: Rows
) -> Iterator[tuple[int, Fields | str]]:
    for record in lines.records(header_at + 1, layout):
        yield record.row, record.reason if isinstance(record, Fault) else _fields(record, header, rows)


def _fields(record: Record, header: list[str], rows: Rows) -> dict[str, str]:
    fields = dict(zip(header, record.cells, strict=False))
    for column in COLUMNS if any("'" in cell for cell in record.cells) else ():
        if (bare := csv_records.unguarded(fields.get(column, ""))) != fields.get(column, ""):
            rows.note(UNGUARDED, f"row {record.row}, {column}")
            fields[column] = bare
    return fields


CONTAINER = Container("a CSV file", ("", ".csv", ".tsv", ".txt"), read)
