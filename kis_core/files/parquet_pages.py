"""How large the columns of a parquet file are unpacked, by what its pages themselves claim.

The file's footer says so too, but nothing holds it to that. A reader takes as much memory for a page as the page's own
header says; so the headers are gone through before anything is unpacked. Footer and headers are structs of Thrift's
compact protocol (apache/parquet-format, parquet.thrift; thrift/doc/specs/thrift-compact-protocol.md). The footer is
read here as well: asked for the place of a column that a damaged footer does not give, pyarrow ends the process.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from mmap import mmap
from typing import Any, NamedTuple

MOST_PAGES = 100_000  # gone through in seconds; a page usually holds a megabyte
MOST_FOOTER = 1 << 24  # bytes; that of a thousand row groups of twenty columns has two megabytes
MAGIC = b"PAR1"
BOOLEANS, BYTE, WHOLE, DOUBLE, BINARY, LISTS, STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, (9, 10), 12  # kinds of values
DEEPEST = 16  # structs and lists in each other; a footer has six
Fields = Mapping[int, Any]
"""The fields of a struct that are wanted, by their numbers: those of the struct within each, or nothing within."""
PAGE: Fields = {2: {}, 3: {}}  # of a PageHeader: bytes of the page after it, unpacked and as they are
UNPACKED, PACKED = 2, 3
GROUPS, COLUMNS, CHUNK = 4, 1, 3  # FileMetaData.row_groups, RowGroup.columns, ColumnChunk.meta_data
PATH, VALUES, SIZE, DATA, DICTIONARY = 3, 5, 7, 9, 11  # of a ColumnMetaData
FOOTER: Fields = {GROUPS: {COLUMNS: {CHUNK: {PATH: {}, VALUES: {}, SIZE: {}, DATA: {}, DICTIONARY: {}}}}}


class Chunk(NamedTuple):
    """The pages of a column in a row group: where they begin and end in the file."""

    begin: int
    end: int


def unpacked_bytes(data: bytes | mmap, columns: Collection[str]) -> Iterator[list[int]]:
    """Bytes of every page of some columns once it is unpacked, row group by row group.

    Args:
        data: the file.
        columns: names of the columns, at the top level.

    Raises:
        ValueError: a footer or header that does not add up, or more pages in a group than any file has.
    """
    length = int.from_bytes(data[-8:-4], "little")
    if data[-4:] != MAGIC or length > min(MOST_FOOTER, len(data) - 12):
        raise ValueError("it ends in no footer")
    footer, _ = _struct(data, len(data) - 8 - length, FOOTER)
    names = [name.encode() for name in columns]
    for group in _structs(footer.get(GROUPS)):
        pages: list[int] = []
        for chunk in _chunks(group, names):
            at = chunk.begin
            while at < chunk.end:
                header, at = _struct(data, at, PAGE)
                unpacked, packed = _whole(header, UNPACKED), _whole(header, PACKED)
                if len(pages) >= MOST_PAGES or unpacked < 0 or packed < 0:
                    raise ValueError(f"the header of page {len(pages) + 1:,} does not add up")
                pages.append(unpacked)
                at += packed
        yield pages


def _chunks(group: dict[int, Any], names: list[bytes]) -> Iterator[Chunk]:
    """Where the pages of some columns of a row group lie, as the footer says."""
    for column in _structs(group.get(COLUMNS)):
        (chunk,) = _structs([column.get(CHUNK)])
        path = chunk.get(PATH)
        if not isinstance(path, list) or not path:
            raise ValueError("its footer names no column")
        if path[0] not in names or _whole(chunk, VALUES) < 1:
            continue
        begin, dictionary = _whole(chunk, DATA), chunk.get(DICTIONARY)
        end = begin + _whole(chunk, SIZE)
        if isinstance(dictionary, int) and 0 < dictionary < begin:
            begin, end = dictionary, end - begin + dictionary
        yield Chunk(begin, end)


def _whole(values: Mapping[int, Any], field: int) -> int:
    """A whole number that a struct has to have."""
    number = values.get(field)
    if not isinstance(number, int):
        raise ValueError(f"it lacks the number {field} of a column or page")
    return number


def _structs(values: Any) -> list[dict[int, Any]]:
    """What a list holds, once it is seen to be a list of structs."""
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ValueError("its footer does not add up")
    return values


def _struct(data: bytes | mmap, at: int, wanted: Fields, depth: int = 0) -> tuple[dict[int, Any], int]:
    """The wanted fields of a struct by their numbers, and where it ends."""
    if depth > DEEPEST:
        raise ValueError("its structs do not end")
    values: dict[int, Any] = {}
    field = 0
    while kind := _byte(data, at):
        at += 1
        if kind >> 4:
            field += kind >> 4
        else:
            field, at = _number(data, at)
        if kind & 15 in BOOLEANS:
            continue  # it stands in the field's own byte
        value, at = _value(data, at, kind & 15, wanted.get(field), depth)
        if field in wanted:
            values[field] = value
    return values, at + 1


def _value(data: bytes | mmap, at: int, kind: int, wanted: Fields | None, depth: int) -> tuple[Any, int]:
    """A value, and where it ends; of what is not wanted the end alone."""
    if kind in WHOLE:
        return _number(data, at)
    if kind in (BYTE, *BOOLEANS):  # a boolean has a byte of its own in a list
        return None, at + 1
    if kind == DOUBLE:
        return None, at + 8
    if kind == BINARY:
        length, at = _varint(data, at)
        return None if wanted is None else data[at : at + length], at + length
    if kind == STRUCT:
        return _struct(data, at, wanted or {}, depth + 1)
    if kind in LISTS:
        return _list(data, at, wanted, depth + 1)
    raise ValueError(f"its footer or a page header holds a value of kind {kind}")  # maps are in none


def _list(data: bytes | mmap, at: int, wanted: Fields | None, depth: int) -> tuple[list[Any], int]:
    if depth > DEEPEST:
        raise ValueError("its lists do not end")
    kind = _byte(data, at) & 15
    length, at = (_byte(data, at) >> 4, at + 1) if _byte(data, at) >> 4 < 15 else _varint(data, at + 1)
    values = []
    for _ in range(length):
        _byte(data, at)  # so that none of a list without an end is waited for
        value, at = _value(data, at, kind, wanted, depth)
        if wanted is not None:
            values.append(value)
    return values, at


def _number(data: bytes | mmap, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return value >> 1 ^ -(value & 1), at


def _varint(data: bytes | mmap, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = _byte(data, at)
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number of its footer or of a page header does not end")


def _byte(data: bytes | mmap, at: int) -> int:
    if not 0 <= at < len(data):
        raise ValueError("a page lies outside of the file")
    return data[at]
