"""Records of a CSV text by RFC 4180, each with the line it begins in; text that breaks the standard is a fault.

`csv.reader` takes a quote inside an unquoted field for text, and reads on to the end of the file where a quote is left
open. Here such a record is a fault, and so are the rows that may be part of it; all other rows are read.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from kis_core.errors import shown

DELIMITERS = ",;\t"
MAX_CHARACTERS = 20_000  # of a record: four fields of the longest kind, every character a doubled quote
LINE_END = re.compile(r"\r\n|\r|\n")
TWICE = "a quote that belongs to the text is written twice, in a field that is in quotes"
STRAY = f"a quote inside a field; {TWICE}"
OPEN = "a quote is opened and not closed"
FORMULA = re.compile(r"'*[=+\-@\t\r]")  # with apostrophes, so that `unguarded` removes just what `guarded` put in front
INNER = re.compile(r"""(?<=[;\t\r\n])(?=['"]*[=+\-@])""")
"""Where a formula may begin within a cell, for a spreadsheet that takes no comma for the end of a field."""
INNER_GUARD = re.compile(r"""(?<=[;\t\r\n])'(?=['"]*[=+\-@])""")
SIGNED_NUMBER = re.compile(r"[+-]([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def guarded(cell: str) -> str:
    """A cell with an apostrophe wherever a spreadsheet would run what follows; signed numbers stay as they are."""
    inside = INNER.sub("'", cell)
    return f"'{inside}" if FORMULA.match(inside) and not SIGNED_NUMBER.fullmatch(inside) else inside


def unguarded(cell: str) -> str:
    """The cell that `guarded` was given; blanks before it are ignored."""
    bare = cell.lstrip(" ")
    return INNER_GUARD.sub("", bare[1:] if bare.startswith("'") and FORMULA.match(bare) else cell)


@dataclass(frozen=True, slots=True)
class CsvLayout:
    """The form of a record.

    Attributes:
        delimiter: between fields.
        fewest, most: fields of a record.
        mark: text that every record over several lines holds once. One that holds it twice is two records, joined by
            a quote left open, and one without it is not to be told from those.
    """

    delimiter: str
    fewest: int
    most: int
    mark: str


@dataclass(frozen=True, slots=True)
class Record:
    """One record.

    Attributes:
        row: the line it begins in, from 1.
        cells: its fields, as they stand between delimiters or quotes.
    """

    row: int
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that is no record, with the reason. `row` counts lines from 1."""

    row: int
    reason: str


class _Broken(Exception):
    """The offset in the text at which a record breaks the standard, and the reason."""

    def __init__(self, at: int, reason: str) -> None:
        self.at, self.reason = at, reason


class Lines:
    """The lines of a CSV text, from which records are read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._begins = [0, *(match.end() for match in LINE_END.finditer(text))]

    def __len__(self) -> int:
        return len(self._begins)

    def __getitem__(self, k: int) -> str:
        """A line by its number from 0, without its end."""
        end = self._begins[k + 1] if k + 1 < len(self) else len(self._text)
        return self._text[self._begins[k] : end].rstrip("\r\n")

    def single(self, k: int, delimiter: str) -> tuple[str, ...]:
        """The fields of a line that is a record by itself.

        Raises:
            ValueError: it is no record; says why.
        """
        if len(self[k]) > MAX_CHARACTERS:
            raise ValueError(_too_long(self[k]))
        try:
            cells, end = self._record(self._begins[k], delimiter)
        except _Broken as broken:
            raise ValueError(broken.reason) from None
        if self._line_at(end) > k:
            raise ValueError(OPEN)
        return cells

    def records(self, begin: int, layout: CsvLayout) -> Iterator[Record | Fault]:
        """The records and faults from a line on, counted from 0."""
        k = begin
        while k < len(self):
            line = self[k]
            if '"' in line and len(line) <= MAX_CHARACTERS:
                record, last = self._quoted(k, layout)
                yield record
                if isinstance(record, Fault):
                    yield from self._spoilt(k, last, layout)
                k = last
            elif line.strip():
                yield _plain(k, line, layout)
            k += 1

    def _quoted(self, k: int, layout: CsvLayout) -> tuple[Record | Fault, int]:
        """The record that begins in a line with a quote, and its last line; of a fault, the last line it may spoil."""
        try:
            cells, end = self._record(self._begins[k], layout.delimiter)
        except _Broken as broken:
            return Fault(k + 1, broken.reason), self._line_at(broken.at)
        last = self._line_at(end)
        marks = sum(cell.count(layout.mark) for cell in cells)
        if last > k and marks != 1:
            joined, mark = f"a quote joins the rows {k + 1} to {last + 1}", f"`{layout.mark}`"
            if marks:
                return Fault(k + 1, f"{joined}, which hold {marks} {mark}; is it left open?"), last
            return Fault(k + 1, f"{joined}; is it left open? If not, {mark} in its place says that they are one"), last
        return _of_right_length(k, cells, layout), last

    def _spoilt(self, k: int, last: int, layout: CsvLayout) -> Iterator[Record | Fault]:
        """Rows between line `k`, where a quote is not closed as it should be, and line `last`, where that shows.

        A row with a quote may be where the open quote ends. Nor is it known which rows belong to the broken record
        until it has enough delimiters for all its fields. All other rows stand for themselves.
        """
        missing = layout.most - 1 - self[k].count(layout.delimiter)
        for at in range(k + 1, last + 1):
            line = self[at]
            if not line.strip():
                continue
            if missing > 0 or '"' in line:
                yield Fault(at + 1, f"it may belong to row {k + 1}, where a quote is not closed as it should be")
                missing -= line.count(layout.delimiter)
            else:
                yield _plain(at, line, layout)

    def _record(self, begin: int, delimiter: str) -> tuple[tuple[str, ...], int]:
        """The fields of the record at an offset, and the offset of its end.

        Raises:
            _Broken: it is no record.
        """
        text, cells, at, limit = self._text, [], begin, begin + MAX_CHARACTERS
        quoted, opened, bare = _fields(delimiter)
        while True:
            if match := quoted.match(text, at, limit):
                cells.append(match[1].replace('""', '"'))
            elif opened.match(text, at, limit):
                raise _Broken(min(limit, len(text)), OPEN)
            elif match := bare.match(text, at, limit):
                cells.append(match[0])
            at = match.end() if match else at
            if at >= limit:
                raise _Broken(at, f"a record of more than {MAX_CHARACTERS:,} characters; is a quote left open?")
            if at == len(text) or text[at] in "\r\n":
                return tuple(cells), at
            if text[at] != delimiter:
                follows = f"`{shown(text[at])}` follows a field in quotes; {TWICE}"
                raise _Broken(at, STRAY if text[at] == '"' else follows)
            at += 1

    def _line_at(self, offset: int) -> int:
        """Number, from 0, of the line an offset is in; the end of a line belongs to it."""
        return bisect_right(self._begins, offset) - 1


def _plain(k: int, line: str, layout: CsvLayout) -> Record | Fault:
    """The record of a line without quotes, or the fault of a line that is too long."""
    if len(line) > MAX_CHARACTERS:
        return Fault(k + 1, _too_long(line))
    return _of_right_length(k, tuple(line.split(layout.delimiter)), layout)


def _of_right_length(k: int, cells: tuple[str, ...], layout: CsvLayout) -> Record | Fault:
    if layout.fewest <= len(cells) <= layout.most:
        return Record(k + 1, cells)
    return Fault(k + 1, f"{len(cells)} columns where the header has {layout.most}")


def _too_long(line: str) -> str:
    return f"a line of {len(line):,} characters; at most {MAX_CHARACTERS:,}"


@cache
def _fields(delimiter: str) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Patterns of a field in quotes with blanks around them, of the beginning of such a field, and of one without."""
    blank = rf"[^\S\r\n{re.escape(delimiter)}]*+"
    return (
        re.compile(rf'{blank}"([^"]*+(?:""[^"]*+)*+)"{blank}'),
        re.compile(rf'{blank}"'),
        re.compile(rf'[^"\r\n{re.escape(delimiter)}]*+'),
    )
