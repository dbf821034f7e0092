"""Fact files as other programs, spreadsheets and this one write them: read as meant, or refused; never other text."""

from __future__ import annotations

import gzip
import time
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kis_core import facts
from kis_core.facts import EXAMPLE, Fact, FactFileError, FactSet, RowIssue, parse
from kis_core.facts.containers import csv_table
from kis_core.files import field_text
from kis_core.files.csv_records import MAX_CHARACTERS
from kis_core.models import catalog
from kis_core.results import export
from tests.results.test_export import RESULT

OPEN_SECONDS = 4.0  # CPU time of reading 40 kB of faults: twenty times what it takes
HEADER = "subject,prompt,target\n"
PARIS = Fact("Paris", "{} is the capital of", "France")
FINGERPRINTS = {  # what results lie under in every store there is
    "builtin": "df30b0a88b6920b980fae6a061ad330cd2cfb5f26289aaa9c462daad19cb25a2",
    "builtin-lookalikes": "06703283b02940ab5010741f80aac900d391426690506c94f83993564fcc2f51",
}
COUNTERFACT_FINGERPRINT = "0e0dfa4615ae36f5d8f2cc103fae1f441e9375985a9b8cc7d20070785ccc7cd1"
DEMO_FINGERPRINT = "68f9d9cbc92e060b0183a49f0c90b9a1f7b60bc57e845ced5de60227c8d6f419"


def read(text: str, encoding: str = "utf-8") -> FactSet:
    return parse(text.encode(encoding), name="mine.csv")


def refused(data: bytes, name: str = "mine.csv") -> str:
    with pytest.raises(FactFileError) as caught:
        parse(data, name=name)
    assert str(caught.value).isprintable(), "nothing that a terminal would act on"
    return str(caught.value)


def test_a_builtin_set_is_the_one_that_results_are_stored_under() -> None:
    for name, fingerprint in FINGERPRINTS.items():
        assert (facts.builtin(name).fingerprint, facts.builtin(name).notes) == (fingerprint, ())
    assert FactSet("a", (PARIS,), notes=("x",)).fingerprint == FactSet("b", (PARIS,)).fingerprint


def test_the_published_facts_and_the_demo_base_are_those_that_results_are_stored_under(shared_data: Path) -> None:
    published = facts.load(shared_data / "counterfact_known.json")
    bare = [replace(fact, new_target="", paraphrases=(), neighbours=()) for fact in published.facts]
    assert (FactSet("", tuple(bare)).fingerprint, published.notes) == (COUNTERFACT_FINGERPRINT, ())
    assert published.fingerprint != COUNTERFACT_FINGERPRINT, "edits are judged by what the records bring"
    first = published.facts[0]
    assert (first.new_target, len(first.paraphrases), len(first.neighbours)) == ("Finnish", 2, 10)
    assert (len(published), published.issues) == (436, ())
    assert all(fact.new_target and fact.paraphrases and fact.neighbours for fact in published.facts)
    assert FactSet("", catalog.known_facts(catalog.DEFAULT, ()).everything).fingerprint == DEMO_FINGERPRINT


ROME, LYON = Fact("Rome", "{}, they say, is in", "Italy"), Fact("Lyon", "{} lies in", "France")
BROKEN_QUOTES = {
    "closed elsewhere": ('"Ada\nLovelace,"{} spoke",English', [2, 3]),
    "never opened": ('Ada\nLovelace",{} spoke,English', [2, 3]),
    "closed before a letter": ('"Ada" Lovelace,{} spoke,English', [2]),
    "inside a field": ('Ada "Lovelace",{} spoke,English', [2]),
    "closed by the next row": ('"Ada,{} spoke,English\nLovelace",{} spoke,English', [2, 3]),
    "closed by the next row's target": ('Ada,{} spoke,"English\nLovelace,{} spoke,English"', [2, 3]),
    "never closed": ('"Ada\nLovelace,{} spoke,English', [2, 3, 5]),  # row 5 may be where it closes
}


def test_a_broken_quote_loses_its_own_rows_and_makes_no_fact() -> None:
    good = 'Paris,{} is the capital of,France\n"Rome","{}, they say, is in","Italy"\n"Lyon",{} lies in,France\n'
    for what, (broken, rows) in BROKEN_QUOTES.items():
        actual = read(f"{HEADER}{broken}\n{good}")
        assert actual.facts == ((PARIS, LYON) if 5 in rows else (PARIS, ROME, LYON)), what
        assert [issue.row for issue in actual.issues] == rows, what
    actual = read(HEADER + '"Ada\nLovelace",{} spoke,English\nParis,{} is the capital of,France\n,,\n')
    assert actual.facts == (Fact("Ada\nLovelace", "{} spoke", "English"), PARIS)
    assert actual.issues == (RowIssue(5, "subject is blank"),), "lines of the file are counted, not records"
    actual = read(HEADER + '"a {}\nb",{} is,x\nParis,{} is the capital of,France\n')
    assert actual.facts == (PARIS,)
    assert actual.issues[0] == RowIssue(2, "a quote joins the rows 2 to 3, which hold 2 `{}`; is it left open?")


def test_rows_between_a_quote_left_open_and_the_next_one_are_kept() -> None:
    between = "".join(f"s{k},{{}} is,t{k}\n" for k in range(50))
    actual = read(HEADER + '"Rome,{} is in,Italy\n' + between + 'Lyon,"{}, they say, is in",France\n' + between)
    assert len(actual) == 100
    assert [issue.row for issue in actual.issues] == [2, 53]
    assert actual.issues[1].reason == "it may belong to row 2, where a quote is not closed as it should be"


def test_each_quote_left_open_is_looked_for_once() -> None:
    began = time.process_time()
    for row in ('"x\n', 'a,"""\n'):  # looked for again from each row, it would take a thousand times as long
        assert "holds no usable fact" in refused((HEADER + row * (2 * MAX_CHARACTERS // len(row))).encode())
    assert time.process_time() - began < 2 * OPEN_SECONDS


def test_a_cell_never_slips_into_another_column() -> None:
    actual = read("subject,prompt,,target,relation\nParis,{} is in,France,country\nRome,{} is in,,Italy,country\n")
    assert actual.facts == (Fact("Rome", "{} is in", "Italy", "country"),)
    assert actual.issues == (RowIssue(2, "4 columns where the header has 5"),)
    assert read("subject,prompt,target,relation\nParis,{} is the capital of,France\n").facts == (PARIS,)


CITIES = "Côte d’Ivoire,{} lies in,Afrique\nZürich,„{}“ is — so they say — in,Schweiz\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_that_says_its_encoding_is_read_without_a_word(encoding: str) -> None:
    actual = read(HEADER + CITIES, encoding)
    assert [fact.subject for fact in actual.facts] == ["Côte d’Ivoire", "Zürich"]
    assert actual.notes == ()


def test_windows_1252_is_read_and_the_reader_told() -> None:
    actual = read(HEADER + CITIES, "cp1252")
    assert actual == replace(read(HEADER + CITIES), notes=actual.notes)
    assert actual.notes == (
        "The file is not UTF-8 (byte 0xF4 in line 2) and was read as Windows-1252, where it says “Côte”. If that is "
        "not what was meant, save it as UTF-8.",
    )


OTHER_ENCODINGS = {
    "Париж,{} находится в,Франция": ("cp1251", "koi8-r", "iso8859-5"),
    "פריז,{} היא,צרפת": ("cp1255",),
    "巴黎,{} 在,法国": ("gbk", "gb18030"),
    "パリ,{} は,フランス": ("shift-jis", "euc-jp"),
    "Łódź,{} leży w,Polsce": ("cp1250", "iso8859-2"),
    "Zürich,{} liegt in der,Schweiz": ("mac-roman", "cp437"),
}


def test_another_encoding_is_refused_with_byte_and_line() -> None:
    for text, encodings in OTHER_ENCODINGS.items():
        for encoding in encodings:
            message = refused((HEADER + "Paris,{} is in,France\n" + text).encode(encoding))
            first = next(byte for byte in text.encode(encoding) if byte > 0x7F)
            beginning = f"mine.csv is not UTF-8 throughout: byte 0x{first:02X} in line 3. Save it as UTF-8;"
            assert message.startswith(beginning), encoding
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        message = refused((HEADER + CITIES).encode(encoding))
        assert "begins with zero bytes, as UTF-16 and UTF-32 without a byte order mark do" in message
    mixed = (HEADER + "Köln,{} is in,Germany\r\nZürich,{} is in,Switzerland\n").encode().replace("ü".encode(), b"\xfc")
    assert "byte 0xFC in line 3" in refused(mixed), "one bad byte makes no other text of the rest"
    cut = (HEADER + CITIES).encode("utf-16")[:-1]
    assert "is UTF-16 with a fault: byte 0x0A in line 3" in refused(cut)


RECORD = '[{"requested_rewrite": {"subject": "%s", "prompt": "{} is in", "target_true": {"str": "x"}}}]'


NO_TEXT = {
    b"PK\3\4" + bytes(30): "is a ZIP archive, as Excel workbooks are, not text. Let a workbook’s name end in .xlsx",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(50): "is an Office file",
    b"PAR1\x15\x04\x15\x10": "is a parquet file, not text. Let its name end in .parquet.",
    gzip.compress(HEADER.encode()): "is a gzip file, not text. Unpack it first.",
    b"%PDF-1.7\n%\xe2\xe3": "is a PDF file",
    b"\x80\x04\x95\x00": "is a Python pickle, not text. It is never opened",
    b"\n<!DOCTYPE HTML><html>": "is a web page",
    bytes(range(1, 256)) * 4: "is not UTF-8 throughout: byte 0x80 in line 3",
}


@pytest.mark.parametrize("name", ["mine.csv", "mine.json"])
def test_a_file_that_is_no_text_is_named_and_shows_none_of_its_bytes(name: str) -> None:
    for data, message in NO_TEXT.items():
        assert message in refused(data, name)
    for encoding in ("utf-16", "cp1252"):
        assert parse((RECORD % "Zürich").encode(encoding), name="m.json").facts[0].subject == "Zürich"
    said = refused((HEADER + "Paris,It is the capital of,France\nRome,It is in,Italy\n").encode())
    assert said.endswith(f"Put {{}} in each prompt where the subject goes, as in: {EXAMPLE}")
    as_other = RECORD % "Paris" if name == "mine.csv" else HEADER + "Paris,{} is in,France\n"
    hint = "It looks like JSON" if name == "mine.csv" else "Is it CSV? Then let its name end in .csv."
    assert hint in refused(as_other.encode(), name)


@pytest.mark.parametrize("name", ["a\x1b]0;x\x07\u202e.csv", "a\nb.csv"])
def test_what_drives_a_terminal_never_reaches_a_message(name: str) -> None:
    for data in (
        b"\x1b[31mred\x07,b,\xc2\x9bc\n1,2,3\n",
        "\u202esubject,b\n".encode(),
        HEADER.encode() + b"x,\x1b{},y\n",
    ):
        assert "\\x1b" in refused(data, name) or "\\u202e" in refused(data, name) or "\\n" in refused(data, name)


UNSEEN = ["\u200b", "\u200e", "\u200f", "\ufeff", "\u2060", "\u00ad", "\u202c", "\u180e", "\u3164"]
EDGES = [*UNSEEN, "\u00a0", "\u202f", "\u2003", "\u3000", "\u200c", "\u200d", "\u2800", "\u2028"]


COLUMNS = ("subject", "prompt", "target", "relation")


@pytest.mark.parametrize("column", COLUMNS)
def test_at_the_ends_of_a_field_it_is_taken_off_and_the_reader_told(column: str) -> None:
    meant = Fact("Paris", "{} is", "in France", "country")
    for mark in EDGES:
        cells = [f"{mark} {cell}{mark}{mark}" if name == column else cell for name, cell in meant.to_json().items()]
        actual = read(",".join(COLUMNS) + "\n" + ",".join(cells))
        assert actual.facts == (meant,)
        assert actual.notes == (f"{field_text.TAKEN_OFF}: row 2, {column} (U+{ord(mark):04X}).",)


def test_inside_a_field_it_is_refused_with_row_and_reason() -> None:
    (note,) = read(HEADER + "Paris\u200b,{} is in,France\n" * 40).notes
    assert "row 2, subject (U+200B); row 3, " in note
    assert note.endswith("; and 35 more.")
    for mark in UNSEEN:
        actual = read(HEADER + f"Par{mark}is,{{}} is in,France\nParis,{{}} is the capital of,France\n")
        assert actual.facts == (PARIS,)
        assert actual.issues[0].row == 2
        assert f"subject holds U+{ord(mark):04X} inside" in actual.issues[0].reason


SPELLING = ("می‌خواهم", "👩‍👩‍👧", "ന്‍", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "❤️", "क्‍ष", "日本　東京")
MAY_BE_MEANT = {
    "New\u00a0York": f"{field_text.BLANKS_KEPT}: row 2, subject (U+00A0).",
    unicodedata.normalize("NFD", "Zürich"): f"{field_text.ACCENTS_KEPT}: row 2, subject (Zu\u0308rich).",
}


@pytest.mark.parametrize("subject", [*SPELLING, *MAY_BE_MEANT], ids=ascii)
def test_what_is_spelling_stays_and_of_what_may_be_meant_the_reader_is_told(subject: str) -> None:
    actual = read(HEADER + f"{subject},{{}} is,x\n")
    note = MAY_BE_MEANT.get(subject)
    assert ([fact.subject for fact in actual.facts], actual.notes) == ([subject], (note,) if note else ())


fields = st.text(
    st.sampled_from("ab{}'\"=+-@,;\t\r\n 1.\\é日\u00a0\u200d\U0001f600") | st.characters(exclude_categories=("Cs",)),
    max_size=12,
).map(field_text.tidy)
fit = fields.filter(lambda text: not field_text.fault(text))
whole = fit.filter(bool)
prompts = st.tuples(fit, fit).map(lambda ends: field_text.tidy("{}".join(ends)))
prompts = prompts.filter(lambda text: text.count("{}") == 1)


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(st.lists(st.builds(Fact, whole, prompts, whole, fit), min_size=1, max_size=4))
def test_facts_csv_comes_back_as_it_went_out(written: list[Fact]) -> None:
    for fact in written:  # a record over several lines with another {} is refused: it may be two records
        several_lines = any(end in cell for cell in vars_of(fact) for end in "\r\n")
        assume(not (several_lines and sum(cell.count("{}") for cell in vars_of(fact)) > 1))
    count = len(written)
    result = replace(
        RESULT,
        facts=FactSet("mine.csv", tuple(written)),
        key_token_index=(0,) * count,
        key_tokens=('=\n"',) * count,
        key_token_ids=(0,) * count,
        leverage=np.ones((len(RESULT.layers), count)),
    )
    actual = read(export.facts_csv(result))
    assert (actual.facts, actual.issues) == (tuple(written), ())


def vars_of(fact: Fact) -> tuple[str, ...]:
    return fact.subject, fact.prompt, fact.target, fact.relation


def test_an_apostrophe_that_guards_a_cell_is_taken_off_and_the_reader_told() -> None:
    actual = read(HEADER + "'@midnight,{} is on,TV\n'quoted',{} is,x\n''=1,{} is,x\n")
    assert [fact.subject for fact in actual.facts] == ["@midnight", "'quoted'", "'=1"]
    assert actual.notes == (f"{csv_table.UNGUARDED}: row 2, subject; row 4, subject.",)
