"""Workbooks and parquet files: cells that are no text, sheets that claim too much, and files that are none."""

from __future__ import annotations

import io
import random
import time
import zipfile
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import openpyxl
import pyarrow as pa
import pytest
from pyarrow.parquet import ParquetFile, write_table

from kis_core.facts import Fact, FactFileError, RowIssue, parse, parsing
from kis_core.facts.containers import parquet, workbook
from kis_core.facts.containers.typed import AS_TEXT, NUMBERS
from kis_core.facts.containers.workbook import ONE_SHEET

HEADER = ("subject", "prompt", "target")
ROME = ("Rome", "{} is in", "Italy")
SHEET = "xl/worksheets/sheet1.xml"
SECONDS = 2.0  # CPU time of a sheet that claims more than it holds, a hundred times what it takes


def book(*rows: Sequence[Any], edit: Callable[[str, bytes], bytes] = lambda name, part: part) -> bytes:
    """A workbook, its parts edited on the way."""
    made, stream, edited = openpyxl.Workbook(), io.BytesIO(), io.BytesIO()
    for row in rows:
        made.active.append(row)
    made.save(stream)
    with zipfile.ZipFile(stream) as parts, zipfile.ZipFile(edited, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in parts.namelist():
            archive.writestr(name, edit(name, parts.read(name)))
    return edited.getvalue()


def swapped(old: bytes, new: bytes) -> bytes:
    """A workbook of one fact in whose sheet something stands in the place of something else."""
    return book(HEADER, ROME, edit=lambda name, part: part.replace(old, new) if name == SHEET else part)


def columns(**values: Any) -> bytes:
    stream = io.BytesIO()
    write_table(pa.table(values), stream)
    return stream.getvalue()


def refused(data: bytes, name: str) -> str:
    with pytest.raises(FactFileError) as caught:
        parse(data, name=name)
    assert str(caught.value).isprintable()
    return str(caught.value)


CELLS = (
    (),
    ("Subject", "note", " PROMPT", "Target\u200b", "relation"),
    ("Apollo 11", 1, "{} landed in", 1969),
    (),
    ("Pi", 2, "{} is", 3.14, 31),
    ("Sum", 3, "0.1 + {} is", 0.1 + 0.2),
    ("Dated", 4, "{} is", date(2020, 1, 2)),
    ("True", 5, "{} is", True),
    ("Formula", 6, "{} is", "=1+1"),
    ("Error", 7, "{} is", "#N/A"),
    (None, 8),
    ("Rome", date(2020, 1, 2), "Rome is in", "Italy"),
)


def test_cells_become_text_where_their_text_is_certain() -> None:
    actual = parse(book(*CELLS), name="a.xlsx")
    assert actual.format == "columns subject, prompt and target in an Excel workbook"
    assert actual.facts == (
        Fact("Apollo 11", "{} landed in", "1969"),
        Fact("Pi", "{} is", "3.14", "31"),
        Fact("Sum", "0.1 + {} is", "0.3"),
        Fact("Rome", "{} is in", "Italy"),
    )
    assert actual.issues == (
        RowIssue(7, f"target is a date or time (2020-01-02 00:00:00), which is shown in many ways; {AS_TEXT}"),
        RowIssue(8, f"target is the truth value True; {AS_TEXT}"),
        RowIssue(9, "target is missing"),
        RowIssue(10, "target is an error of the sheet (#N/A)"),
        RowIssue(11, "subject is missing"),
    )
    numbers = "row 3, target (1969); row 5, target (3.14); row 5, relation (31); row 6, target (0.3)"
    assert actual.notes == (f"{NUMBERS}: {numbers}.",)


def test_columns_of_parquet_become_text_where_their_text_is_certain() -> None:
    years = [1969.0, float("nan"), 1.0]
    data = columns(subject=["Apollo 11", "NaN", None], prompt=["{} was in"] * 3, target=years)
    actual = parse(data, name="a.parquet")
    assert actual.facts == (Fact("Apollo 11", "{} was in", "1969"),)
    assert actual.issues == (RowIssue(2, "target is missing"), RowIssue(3, "subject is missing"))
    dates = columns(subject=["Rome"], prompt=["{} is of"], target=pa.array([0], pa.timestamp("ns")), index=[b"\xff"])
    assert "target is a date or time (1970-01-01 00:00:00)" in refused(dates, "a.parquet")
    far = columns(subject=["Rome"], prompt=["{} is of"], target=pa.array([10**15], pa.timestamp("s")))
    assert "is no parquet file, or a damaged one" in refused(far, "a.parquet")
    none = columns(**dict.fromkeys(HEADER, pa.array([], "string")))
    assert refused(none, "a.parquet") == "a.parquet holds no usable fact."
    raw = columns(subject=["Rome"], prompt=["{} is of"], target=[b"\xff"])
    assert "target is of the type bytes" in refused(raw, "a.parquet")


def test_the_first_sheet_is_read_and_the_others_named() -> None:
    made, stream = openpyxl.Workbook(), io.BytesIO()
    made.active.title = "Städte"
    for row in (HEADER, ROME):
        made.active.append(row)
    made.create_sheet("other").append(("Lyon", "{} is in", "France"))
    made.save(stream)
    actual = parse(stream.getvalue(), name="a.xlsx")
    assert actual.facts == (Fact(*ROME),)
    assert actual.notes == (f"{ONE_SHEET}: “Städte” of 2.",)


def test_a_column_that_is_there_twice_or_not_at_all_is_refused() -> None:
    assert "has the column target twice" in refused(book((*HEADER, "TARGET"), (*ROME, "x")), "a.xlsx")
    table = pa.Table.from_arrays([pa.array(["x"])] * 4, names=[*HEADER, "Target"])
    stream = io.BytesIO()
    write_table(table, stream)
    assert "has the column target twice" in refused(stream.getvalue(), "a.parquet")
    assert "has no column subject, prompt; found: target, x" in refused(book(("target", "x")), "a.xlsx")
    assert "has no column subject, prompt; found: target, x" in refused(columns(target=["a"], x=[1]), "a.parquet")
    assert "has nothing in the first 100 rows" in refused(book(), "a.xlsx")


LAUGHS = b"<!DOCTYPE x [<!ENTITY a 'ha'>%s]>" % b"".join(
    b"<!ENTITY %c '%s'>" % (98 + k, b"&%c;" % (97 + k) * 20) for k in range(9)
)
SIZES = {
    "a dimension of all a sheet can have": (swapped(b"A1:C2", b"A1:XFD1048576"), ""),
    "a row at the end of the sheet": (swapped(b'<row r="2"', b'<row r="5000"'), ""),
    "a row beyond it": (swapped(b'<row r="2"', b'<row r="99999999999"'), "has rows beyond 5,000"),
    "a cell in the last column": (swapped(b'r="C2"', b'r="XFD2"'), "row 2: target is missing"),
    "a cell in no column": (swapped(b'r="C2"', b'r="ZZZZ2"'), "or a damaged one: "),
    "a text that grows": (swapped(b"<worksheet", LAUGHS + b"<worksheet"), ""),
    "a text within that grows": (swapped(b"Italy", b"&j;"), "or a damaged one: undefined entity"),
}


@pytest.mark.parametrize("what", SIZES)
def test_a_sheet_that_claims_more_than_it_holds_costs_no_more(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, message = SIZES[what]
    monkeypatch.setattr(workbook, "LAST_ROW", 5_000)
    began = time.process_time()
    if message:
        assert message in refused(data, "a.xlsx")
    else:
        assert parse(data, name="a.xlsx").facts == (Fact(*ROME),)
    assert time.process_time() - began < SECONDS


def test_what_grows_too_large_unpacked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (parquet, workbook):
        monkeypatch.setattr(module, "MOST_BYTES", 100_000)
    blank = book(HEADER, ROME, edit=lambda name, part: part + b" " * 100_000 if "styles" in name else part)
    assert len(blank) < 10_000
    assert "has more than 100,000 bytes unpacked. Split the file." in refused(blank, "a.xlsx")
    size = zipfile.ZipFile(io.BytesIO(blank)).getinfo("xl/styles.xml").file_size
    less = blank.replace(size.to_bytes(4, "little"), (50).to_bytes(4, "little"))
    assert "Bad CRC-32" in refused(less, "a.xlsx"), "where it says it is small, no more than that is unpacked"
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000, pa.int32()), pa.array(["Rome" * 50]))
    data = columns(subject=long, prompt=["{} is in"] * 1_000, target=["Italy"] * 1_000)
    assert "has more than 100,000 bytes unpacked" in refused(data, "a.parquet")


def test_a_workbook_of_very_many_texts_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty ones take five bytes each, and hardly any once they are packed."""
    monkeypatch.setattr(workbook, "MOST_TEXTS", 1_000)
    for text in (b"<si/>", b"<si><t/></si>"):
        data = book(HEADER, ROME, edit=lambda name, part, t=text: part + t * 1_001 if "styles" in name else part)
        assert refused(data, "a.xlsx") == "a.xlsx has more than 1,000 texts. Split the file."


def test_more_rows_than_any_set_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "MOST_ROWS", 3)
    line = ",".join(ROME).encode()
    for ending, data in ((".csv", b"\n".join([",".join(HEADER).encode(), *[line] * 4])), (".jsonl", b"1\n" * 4)):
        assert "has more than 3 rows. Split it." in refused(data, f"a{ending}")
    assert "has more than 3 rows. Split it." in refused(book(HEADER, *[ROME] * 4), "a.xlsx")
    assert "has more than 3 rows. Split it." in refused(columns(**dict.fromkeys(HEADER, ["x"] * 4)), "a.parquet")


def test_a_part_that_would_be_unpacked_or_read_without_a_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_BZIP2) as archive:  # of which `zipfile` unpacks all it reads at once
        archive.writestr(SHEET, bytes(10_000_000))
    assert len(stream.getvalue()) < 1_000
    assert "is packed as no workbook is. Save it anew." in refused(stream.getvalue(), "a.xlsx")
    monkeypatch.setattr(workbook, "MOST_IN_A_ROW", 20_000)
    assert parse(book(HEADER, *[(f"Rome {k}", *ROME[1:]) for k in range(400)]), name="a.xlsx").facts[399:]
    for old, new in ((b"</row>", b"<c/>" * 5_000 + b"</row>"), (b"<sheetData>", b"<y/>" * 5_000 + b"<sheetData>")):
        assert "has more than 20,000 bytes in one row, or beside all rows" in refused(swapped(old, new), "a.xlsx")


def test_pages_count_by_what_they_unpack_to_and_not_by_what_the_footer_says(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    texts = [f"{k:03}" * 500 for k in range(100)]  # 150,000 bytes
    made = pa.table({"subject": texts, "prompt": ["{} is in"] * 100, "target": ["Italy"] * 100, "note": texts})
    write_table(made, stream, compression="zstd", use_dictionary=False, write_statistics=False)
    honest = stream.getvalue()
    group = ParquetFile(io.BytesIO(honest)).metadata.row_group(0)
    said = varint(group.total_byte_size)
    assert honest.count(said) == 1
    lying = honest.replace(said, b"\xc8" + b"\x80" * (len(said) - 2) + b"\x00")  # 36, in as many bytes
    assert ParquetFile(io.BytesIO(lying)).metadata.row_group(0).total_byte_size == 36
    assert len(parse(lying, name="a.parquet").facts) == 100
    monkeypatch.setattr(ParquetFile, "iter_batches", None)  # nothing is unpacked before
    monkeypatch.setattr(parquet, "MOST_BYTES", 140_000)
    assert "has more than 140,000 bytes unpacked" in refused(lying, "a.parquet")
    monkeypatch.setattr(parquet, "MOST_BYTES", 160_000)
    with pytest.raises(TypeError):  # it is read: a column that no reader looks at does not count
        parse(lying, name="a.parquet")


def varint(number: int) -> bytes:
    """A whole number above 63 as Thrift's compact protocol writes it."""
    left, digits = 2 * number, []
    while left > 127:
        digits.append(left & 127 | 128)
        left >>= 7
    return bytes([*digits, left])


def test_a_file_of_another_kind_is_named() -> None:
    assert refused(b"subject,prompt,target\n", "a.xlsx").endswith("Is it CSV? Then let its name end in .csv.")
    assert "is an Office file" in refused(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(50), "a.xlsx")
    assert "is no Excel workbook, or a damaged one" in refused(b"PK\x03\x04" + bytes(50), "a.xlsx")
    assert "is no parquet file, or a damaged one" in refused(b"PAR1" + bytes(50), "a.parquet")


@pytest.mark.parametrize("name", ["a.xlsx", "a.parquet"])
def test_a_damaged_file_is_refused_or_read_and_never_an_error(name: str) -> None:
    good = book(HEADER, ROME) if name == "a.xlsx" else columns(subject=["Rome"], prompt=["{} is in"], target=["Italy"])
    chance, read = random.Random(3), 0
    for _ in range(150):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            read += len(parse(bytes(data), name=name).facts)
        except FactFileError:
            continue
    assert 0 < read < 150
