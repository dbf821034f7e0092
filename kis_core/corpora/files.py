"""Local files of documents, read as a stream: text, JSON lines and parquet.

A name that ends in `.parquet` is parquet; in `.jsonl`, `.ndjson` or `.json`, one JSON object a line; any other is UTF-8
text with one document a line. Text and JSON lines may be compressed (`.gz`). Blank documents are left out.
"""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO, cast

from kis_core.corpora.corpus import Corpus, CorpusError
from kis_core.files import file_text, parquet_pages
from kis_core.files.paths import Stamp, stamp

TEXT_FIELD = "text"
PARQUET = ".parquet"
JSON_LINES = (".jsonl", ".ndjson", ".json")
MAX_LINE_BYTES = 1 << 26  # 64 MiB: far above any document; a longer line is a file of another format, or has no end
ROWS_AT_ONCE = 256  # of parquet: about 1 MB of Wikipedia
MOST_UNPACKED = 1 << 30  # bytes of a row group that one batch may take: of usual files a group has less as a whole
BYTE_ORDER_MARK = codecs.BOM_UTF8
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # the marks of UTF-32 begin or end with one


@dataclass(frozen=True)
class Files(Corpus):
    """Documents in one file, or in several that follow one another."""

    paths: tuple[Path, ...]

    def documents(self) -> Iterator[str]:
        """Texts of all files in order.

        Raises:
            CorpusError: a file is gone or cannot be read; names the file, and line or row and the reason.
        """
        for path in self.paths:
            try:
                yield from filter(str.strip, _READERS[_kind(path)](path))
            except (OSError, EOFError, zlib.error) as error:
                raise CorpusError(f"{path.name} cannot be read: {error}. Is the file complete?") from error

    @property
    def stamp(self) -> Stamp:
        """Path, size and time of change of each file."""
        try:
            return stamp(self.paths)
        except OSError as error:
            raise CorpusError(f"{self.name} is no longer there: {error}") from error


def shards(folder: Path) -> tuple[Path, ...]:
    """The parquet files of a folder by name, as datasets are published; none where there is no such folder."""
    try:
        return tuple(sorted(path for path in folder.iterdir() if path.suffix == PARQUET and path.is_file()))
    except (OSError, ValueError):  # no folder, or a name that no system could hold
        return ()


def _kind(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(PARQUET):
        return PARQUET
    return JSON_LINES[0] if name.endswith(JSON_LINES) else TEXT_FIELD


def _text(path: Path) -> Iterator[str]:
    for _, line in _lines(path):
        yield line


def _json_lines(path: Path) -> Iterator[str]:
    field = None
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            field = field or _text_field(record)
            yield _field(record, field)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{path.name}, line {number}: {error}. One JSON object a line is expected.") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line; only line feeds end one."""
    number = 0
    with _opened(path) as stream:
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise CorpusError(
                    f"{path.name}, line {number} is longer than {MAX_LINE_BYTES:,} bytes. One document a line is read."
                )
            if number == 1:
                _refuse_other_kinds(path.name, line)
                line = line.removeprefix(BYTE_ORDER_MARK)
            try:
                yield number, line.decode("utf-8").removesuffix("\n").strip("\r")
            except UnicodeDecodeError as error:
                raise CorpusError(
                    f"{path.name} is not UTF-8 text (line {number}: {error}). Save it as UTF-8."
                ) from error


def _refuse_other_kinds(name: str, begin: bytes) -> None:
    """Text of UTF-16 without a mark would pass for UTF-8 with zeros in it, and other files for damaged text."""
    known = file_text.kind(begin)
    if known and known != file_text.WEB:  # which is text
        raise CorpusError(
            f"{name} is {known[0]}, not text. Text, JSON lines and parquet are recognised by their names: "
            ".txt, .jsonl, .parquet; compressed text ends in .gz."
        )
    if begin.startswith(UTF_16_MARKS) or b"\0" in begin[:4]:
        raise CorpusError(f"{name} is UTF-16 or UTF-32 text. Save it as UTF-8.")


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def _text_field(record: Any) -> str:
    if not isinstance(record, Mapping):
        raise ValueError(f"found {type(record).__name__} instead of an object")
    strings = [name for name, value in record.items() if isinstance(value, str)]
    if TEXT_FIELD in record:
        return TEXT_FIELD
    if len(strings) != 1:
        raise ValueError(f"no field `{TEXT_FIELD}`, nor a single field of strings; found {_listed(record)}")
    return str(strings[0])


def _field(record: Any, field: str) -> str:
    if not isinstance(record, Mapping) or field not in record:
        raise ValueError(f"no field `{field}`; found {_listed(record)}")
    value = "" if record[field] is None else record[field]
    if not isinstance(value, str):
        raise ValueError(f"field `{field}` is {type(value).__name__}, not a string")
    value.encode()  # a ValueError where JSON holds half a character (a lone surrogate), which no tokenizer takes
    return value


def _parquet(path: Path) -> Iterator[str]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    read = 0
    try:
        with ParquetFile(path) as file, _mapped(path) as whole:
            column = _text_column(file.schema_arrow, path.name)
            for group, pages in enumerate(parquet_pages.unpacked_bytes(whole, [column])):
                largest = max(pages, default=1)  # one text of it can stand in all rows
                if largest > MOST_UNPACKED:
                    raise ValueError(f"a page of it unpacks to {largest:,} bytes; at most {MOST_UNPACKED:,} are read")
                at_once = min(ROWS_AT_ONCE, MOST_UNPACKED // max(1, largest))
                for batch in file.iter_batches(at_once, [group], columns=[column], use_threads=False):
                    yield from (text or "" for text in batch.column(0).to_pylist())
                    read += batch.num_rows
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # ValueError: a text that is not UTF-8
        where = f" after row {read:,}" if read else ""
        raise CorpusError(f"{path.name} is not a parquet file, or is damaged{where}: {error}") from error


@contextmanager
def _mapped(path: Path) -> Iterator[mmap]:
    """A file as bytes that are read as they are asked for."""
    with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as whole:
        yield whole


def _text_column(schema: Any, name: str) -> str:
    """`text`, or the only column of strings."""
    strings = [field.name for field in schema if str(field.type) in ("string", "large_string", "string_view")]
    if TEXT_FIELD in strings:
        return TEXT_FIELD
    if len(strings) != 1:
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise CorpusError(
            f"{name} has no column `{TEXT_FIELD}` of strings, nor a single column of strings; found: {columns}"
        )
    return str(strings[0])


def _listed(record: Any) -> str:
    return ", ".join(map(repr, record))[:200] or "none" if isinstance(record, Mapping) else type(record).__name__


_READERS = {TEXT_FIELD: _text, JSON_LINES[0]: _json_lines, PARQUET: _parquet}
