"""Excel workbooks (.xlsx): the first sheet, its columns in the first row that is not empty.

A cell counts with the value that the program which saved the file stored for it, also where a formula made it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

from kis_core.errors import shown
from kis_core.facts.containers import typed
from kis_core.facts.containers.typed import MOST_BYTES
from kis_core.facts.fact import FactFileError
from kis_core.facts.reading import REQUIRED_COLUMNS, Container, Contents, Rows, Unfit
from kis_core.files import file_text

MOST_COLUMNS = 200  # a row may claim 16,384, most of them empty
MOST_ABOVE = 100  # rows in which the header is looked for
MOST_IN_A_ROW = 8_000_000  # bytes of XML before a row or a text ends: read as a whole, they take fifty times as much
MOST_TEXTS = 1_000_000  # of the table of texts, which is read whole; empty ones take five bytes each
TEXT = re.compile(rb"<(?:\w+:)?si[\s/>]")
ENDS = re.compile(rb"</(?:row|si)>")  # of what is read piece by piece; other parts are read as a whole
LAST_ROW = 2**20  # of a sheet; a row may claim any number
PACKED = (ZIP_STORED, ZIP_DEFLATED)
PARTS = (".xml", ".rels")  # of a workbook; pictures and macros are not unpacked
ONE_SHEET = "Only the first sheet was read"
ZIP = b"PK\x03\x04"
Cells = Sequence[Any]


def read(data: bytes, rows: Rows) -> Contents:
    """The rows of the first sheet.

    Raises:
        FactFileError: no workbook, a damaged one, one that is too large unpacked, or an empty sheet.
    """
    if not data.startswith(ZIP):
        what, advice = file_text.kind(data) or ("no Excel workbook", "Is it CSV? Then let its name end in .csv.")
        raise FactFileError(f"{rows.name} is {what}. {advice}")
    sheet = _rows(data, rows)
    columns = typed.named(cell.value for cell in next(sheet)[1])
    table = ((row, _fields(columns, cells)) for row, cells in sheet)
    return Contents("an Excel workbook", typed.records(table, rows), tuple(name for name in columns if name))


def _rows(data: bytes, rows: Rows) -> Iterator[tuple[int, Cells]]:
    """Number and cells of the rows that are not empty, the header first."""
    from openpyxl import load_workbook

    try:
        book = load_workbook(_unpacked(data, rows.name), read_only=True, data_only=True)
        sheet, *others = book.worksheets
        if others:
            rows.note(ONE_SHEET, f"“{shown(sheet.title, 40)}” of {len(others) + 1}")
        sheet.reset_dimensions()  # a sheet may claim any size
        top = enumerate(islice(sheet.iter_rows(max_col=MOST_COLUMNS), MOST_ABOVE), start=1)
        begin, header = next(((row, cells) for row, cells in top if _filled(cells)), (0, ()))
        if not header:
            raise FactFileError(f"{rows.name} has nothing in the first {MOST_ABOVE:,} rows of its first sheet.")
        header = header[: _filled(header)]
        yield begin, header
        for row, cells in enumerate(sheet.iter_rows(min_row=begin + 1, max_col=len(header)), start=begin + 1):
            if row > LAST_ROW:
                raise FactFileError(f"{rows.name} has rows beyond {LAST_ROW:,}, the last that a sheet can have.")
            if _filled(cells):
                yield row, cells
    except FactFileError:
        raise
    except Exception as error:  # zipfile, the XML parser and openpyxl raise whatever a damaged part makes them
        what = shown(str(error)) or type(error).__name__
        raise FactFileError(f"{rows.name} is no Excel workbook, or a damaged one: {what}. Save it anew.") from error


def _filled(cells: Cells) -> int:
    """The number of cells up to the last that holds something."""
    return next((k for k in range(len(cells), 0, -1) if cells[k - 1].value is not None), 0)


def _unpacked(data: bytes, name: str) -> io.BytesIO:
    """The parts of a workbook in an archive without compression, for a packed part may say it is small and not be."""
    plain = io.BytesIO()
    room = MOST_BYTES
    with ZipFile(io.BytesIO(data)) as packed, ZipFile(plain, "w") as archive:
        for part in {part.filename: part for part in packed.infolist()}.values():
            if not part.filename.endswith(PARTS):
                continue
            if part.compress_type not in PACKED:  # `zipfile` unpacks those others without a limit
                raise FactFileError(f"{name} is packed as no workbook is. Save it anew.")
            with packed.open(part) as stream:
                content = stream.read(room + 1)
            if (room := room - len(content)) < 0:
                raise FactFileError(f"{name} has more than {MOST_BYTES:,} bytes unpacked. Split the file.")
            if _longest(content) > MOST_IN_A_ROW:
                raise FactFileError(
                    f"{name} has more than {MOST_IN_A_ROW:,} bytes in one row, or beside all rows. Save the columns "
                    f"{', '.join(REQUIRED_COLUMNS)} alone."
                )
            if sum(1 for _ in TEXT.finditer(content)) > MOST_TEXTS:
                raise FactFileError(f"{name} has more than {MOST_TEXTS:,} texts. Split the file.")
            archive.writestr(part.filename, content)
    return plain


def _longest(content: bytes) -> int:
    """Bytes of the longest piece of a part that is read as a whole."""
    ends = [0, *(end.end() for end in ENDS.finditer(content)), len(content)] if len(content) > MOST_IN_A_ROW else [0]
    return max((end - begin for begin, end in pairwise(ends)), default=0)


def _fields(columns: tuple[str, ...], cells: Cells) -> dict[str, Any]:
    return {
        name: Unfit(f"is an error of the sheet ({shown(str(cell.value), 40)})") if cell.data_type == "e" else cell.value
        for name, cell in zip(columns, cells, strict=False)
        if name
    }


CONTAINER = Container("an Excel workbook (.xlsx)", (".xlsx", ".xlsm"), read)
