"""How large the columns of a parquet file are unpacked, by what its pages themselves claim.

The file's footer says so too, but nothing holds it to that. A reader takes as much memory for a page as the page's own
header says; so the headers are gone through before anything is unpacked. They are structs of Thrift's compact protocol
(`PageHeader` in apache/parquet-format, thrift/doc/specs/thrift-compact-protocol.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

MOST_PAGES = 100_000  # gone through in seconds; a page usually holds a megabyte
UNPACKED, PACKED = 2, 3  # fields of a PageHeader: bytes of the page after the header, unpacked and as they are
BOOLEANS, BYTE, WHOLE, DOUBLE, BINARY, STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, 12  # kinds of values
DEEPEST = 16  # structs in each other; a page header has three


def unpacked_bytes(data: bytes, metadata: Any, columns: Collection[str]) -> Iterator[int]:
    """Bytes of every page of some columns once it is unpacked, page by page.

    Args:
        data: the file.
        metadata: its footer, a `pyarrow.parquet.FileMetaData`.
        columns: names of the columns, at the top level.

    Raises:
        ValueError: a header that does not add up, or more pages than any file of facts has.
    """
    pages = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            if chunk.num_values < 1 or chunk.path_in_schema.split(".")[0] not in columns:
                continue
            at, dictionary = chunk.data_page_offset, chunk.dictionary_page_offset
            if dictionary and 0 < dictionary < at:
                at = dictionary
            end = at + chunk.total_compressed_size
            while at < end:
                header, at = _struct(data, at)
                unpacked, packed = header.get(UNPACKED, -1), header.get(PACKED, -1)
                if (pages := pages + 1) > MOST_PAGES or unpacked < 0 or packed < 0:
                    raise ValueError(f"the header of page {pages:,} does not add up")
                yield unpacked
                at += packed


def _struct(data: bytes, at: int, depth: int = 0) -> tuple[dict[int, int], int]:
    """The whole numbers of a struct by their fields, and where it ends."""
    numbers: dict[int, int] = {}
    field = 0
    while kind := _byte(data, at):
        at += 1
        if kind >> 4:
            field += kind >> 4
        else:
            field, at = _number(data, at)
        if kind & 15 in WHOLE:
            numbers[field], at = _number(data, at)
        else:
            at = _after(data, at, kind & 15, depth)
    return numbers, at + 1


def _after(data: bytes, at: int, kind: int, depth: int) -> int:
    """Where a value of a field ends."""
    if kind in BOOLEANS:
        return at  # it stands in the field's own byte
    if kind == BYTE:
        return at + 1
    if kind == DOUBLE:
        return at + 8
    if kind == BINARY:
        length, at = _varint(data, at)
        return at + length
    if kind == STRUCT and depth < DEEPEST:
        return _struct(data, at, depth + 1)[1]
    raise ValueError(f"a page header holds a value of kind {kind}")  # lists and maps are in none


def _number(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return value >> 1 ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = _byte(data, at)
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number of a page header does not end")


def _byte(data: bytes, at: int) -> int:
    if not 0 <= at < len(data):
        raise ValueError("a page lies outside of the file")
    return data[at]
