"""Parquet files: columns of text, or of lists and objects as records of JSON have them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kis_core.errors import shown
from kis_core.facts.containers import typed
from kis_core.facts.containers.typed import MOST_BYTES
from kis_core.facts.fact import FactFileError
from kis_core.facts.readers import FIELDS
from kis_core.facts.reading import Container, Contents, Rows
from kis_core.files import parquet_pages

ROWS_AT_ONCE = 1_000


def read(data: bytes, rows: Rows) -> Contents:
    """The rows of a file: of its columns only those that some reader looks at.

    Raises:
        FactFileError: no parquet file, a damaged one, or one that is too large unpacked.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(pyarrow.BufferReader(data)) as file:
            names = file.schema_arrow.names
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise _damaged(rows, error) from error
    return Contents("a parquet file", typed.records(_rows(data, rows), rows), typed.named(names))


def _rows(data: bytes, rows: Rows) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    row, room = 0, MOST_BYTES
    try:
        with ParquetFile(pyarrow.BufferReader(data)) as file:
            names = [name for name in file.schema_arrow.names if typed.named([name])[0] in FIELDS]
            unpacked = pages = 0
            for sizes in parquet_pages.unpacked_bytes(data, names):
                unpacked, pages = unpacked + sum(sizes), pages + len(sizes)
                if unpacked > MOST_BYTES or pages > parquet_pages.MOST_PAGES:
                    raise FactFileError(_too_large(rows))
            # one text can stand in all rows: so few at once that even those would find room
            at_once = min(ROWS_AT_ONCE, MOST_BYTES // max(1, unpacked))
            for batch in file.iter_batches(at_once, columns=names, use_threads=False):
                plain = [
                    column.dictionary_decode() if pyarrow.types.is_dictionary(column.type) else column
                    for column in batch.columns
                ]
                if (room := room - sum(column.nbytes for column in plain)) < 0:
                    raise FactFileError(_too_large(rows))
                columns = typed.named(batch.schema.names)
                for cells in zip(*(column.to_pylist() for column in plain), strict=True):
                    row += 1
                    yield row, dict(zip(columns, cells, strict=True))
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # no UTF-8, no date of ours
        raise _damaged(rows, error) from error


def _damaged(rows: Rows, error: Exception) -> FactFileError:
    return FactFileError(f"{rows.name} is no parquet file, or a damaged one: {shown(str(error))}. Write it anew.")


def _too_large(rows: Rows) -> str:
    return f"{rows.name} has more than {MOST_BYTES:,} bytes unpacked. Split the file."


CONTAINER = Container("a parquet file", (".parquet",), read)
