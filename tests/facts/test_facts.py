"""Facts and their readers: built-in sets, CSV, CounterFact JSON, faulty files, fingerprints, hostile templates."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core import facts
from kis_core.facts import Fact, FactFileError, FactSet, RowIssue
from kis_core.facts.subjects import NO_SLOT
from kis_core.files.csv_records import TWICE

FAULTY_SECONDS = 2.0  # reading all faulty files together, the 50 MB line included, takes a small part of this
HEADER = "subject,prompt,target"
PARIS = Fact("Paris", "{} is the capital of", "France")
ZURICH = Fact("Zürich", "{} is a city in", "Switzerland")
ABSENT = f"{NO_SLOT}, nor the subject itself"


def row(fact: Fact) -> str:
    return f"{fact.subject},{fact.prompt},{fact.target}"


def csv_bytes(*rows: str, header: str = HEADER, encoding: str = "utf-8") -> bytes:
    return "\n".join((header, *rows, "")).encode(encoding)


def counterfact(fact: Fact) -> dict[str, Any]:
    rewrite = {"prompt": fact.prompt, "subject": fact.subject, "target_true": {"str": fact.target, "id": "Q1"}}
    return {"case_id": 0, "requested_rewrite": rewrite | {"relation_id": fact.relation}}


@pytest.mark.parametrize("name", facts.BUILTIN_SETS)
def test_a_builtin_set_holds_the_papers_number_of_wellformed_distinct_facts(name: str) -> None:
    fact_set = facts.load(name)
    assert len(fact_set) == len(set(fact_set.facts)) == facts.PAPER_FACTS == 128
    assert fact_set.issues == ()
    assert fact_set.name == name
    for fact in fact_set.facts:
        assert fact.prompt.count("{}") == 1
        begin, end = fact.subject_span
        assert fact.text[begin:end] == fact.subject
    assert len({facts.builtin(name).fingerprint for name in facts.BUILTIN_SETS}) == len(facts.BUILTIN_SETS)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_by_hand(tmp_path: Path, delimiter: str) -> None:
    """Columns in any order, blank lines and unread columns, and what stands between fields as the header says."""
    header = ("Relation", " TARGET ", "prompt", "subject", "note")
    paris = ("capital", "France", '"{}, it; is said\t, is the capital of"', "Paris", "unread")
    rows = (header, paris, ("",), ("nickname", '"the ""Bear"""', "{} was called", " Jan ", ""))
    path = tmp_path / "mine.csv"
    path.write_text("\r\n".join(("", *map(delimiter.join, rows))))
    first = Fact("Paris", "{}, it; is said\t, is the capital of", "France", "capital")
    assert facts.load(path) == FactSet("mine.csv", (first, Fact("Jan", "{} was called", 'the "Bear"', "nickname")))


def test_counterfact_by_hand() -> None:
    records = [
        counterfact(replace(PARIS, relation="P36")),
        {"case_id": 1},
        {"requested_rewrite": {"prompt": "{} is in", "subject": "Rome", "target_true": "Italy"}},
        {"requested_rewrite": {"prompt": "{} is in", "subject": 7, "target_true": {"str": "Italy"}}},
        {"requested_rewrite": {"prompt": "{} is in", "subject": "Rome", "target_true": {"id": "Q38"}}},
        {"requested_rewrite": {"prompt": "It is in", "subject": "Rome", "target_true": {"str": "Italy"}}},
        "no record",
        counterfact(ZURICH),
    ]
    loaded = facts.parse(json.dumps(records).encode(), name="known.JSON")
    assert loaded.facts == (replace(PARIS, relation="P36"), ZURICH)
    assert loaded.issues == (
        RowIssue(2, "no `requested_rewrite` object"),
        RowIssue(3, "no `target_true.str`"),
        RowIssue(4, "subject is of the type int, where text belongs"),
        RowIssue(5, "target is missing"),
        RowIssue(6, ABSENT),
        RowIssue(7, "it is no JSON object, which a record has to be"),
    )


BAD_ROWS = {
    "Ro\0me,{} is in,Italy": "subject holds a control character (\\x00)",
    "C\x92te,{} is in,Italy": "subject holds a control character (\\x92)",
    "Rome,It is in,Italy": ABSENT,
    "Rome,Rome and Rome are in,Italy": f"{NO_SLOT}, and the subject itself 2 times",
    "Rome,{} and {} are in,Italy": NO_SLOT.replace("0", "2"),
    "Rome,{0.__class__} is in,Italy": ABSENT,
    "  ,{} is in,Italy": "subject is blank",
    "\u200b,{} is in,Italy": "subject is blank",
    "Rome,{} is in,": "target is blank",
    "R" * 2_001 + ",{} is in,Italy": "subject has 2,001 characters; at most 2,000",
    "Rome,{} is in": "2 columns where the header has 3",
    "Rome,{} is in,Italy,Europe": "4 columns where the header has 3",
    '"Rome,{} is in,Italy': "a quote is opened and not closed",
    '"Ro"me,{} is in,Italy': f"`m` follows a field in quotes; {TWICE}",
    'Ro"me,{} is in,Italy': f"a quote inside a field; {TWICE}",
    "Ro\ufffdme,{} is in,Italy": "subject holds U+FFFD, which stands where a program could not read a character",
    "x" * 50_000_000: "a line of 50,000,000 characters; at most 20,000",
}


def test_a_bad_row_is_reported_and_the_good_ones_around_it_load() -> None:
    began = time.process_time()
    for bad, reason in BAD_ROWS.items():
        loaded = facts.parse(csv_bytes(row(PARIS), bad, row(ZURICH)), name="faulty.csv")
        assert loaded.facts == (PARIS, ZURICH), reason
        assert loaded.issues == (RowIssue(3, reason),)
    assert time.process_time() - began < FAULTY_SECONDS


SURROGATE = b'[{"requested_rewrite": {"subject": "\\ud800", "prompt": "{}", "target_true": {"str": "x"}}}]'
REFUSED = (
    ("mine.csv", b"", "mine.csv is empty. The first line should be: subject,prompt,target"),
    ("mine.csv", csv_bytes(header=row(PARIS)), "mine.csv has no column subject, prompt, target; found: paris, "),
    ("mine.csv", csv_bytes(row(PARIS) + ",Spain", header=HEADER + ",target"), "mine.csv has the column target twice"),
    ("mine.csv", csv_bytes(), "mine.csv holds no usable fact"),
    ("mine", csv_bytes("", ",{} is in,Italy", "Rome,It is in,Italy"), "First problem: row 3: subject is blank."),
    ("mine", b'\n\n"subject,prompt,target\n', "mine, line 3: a quote is opened and not closed. The first line should"),
    ("known.json", b"{not json", "is not valid JSON"),
    ("known.json", b"{}", "holds no records of a known kind; the first has the fields: . Known are: "),
    ("known.json", b'[{"a": 1}]', "CounterFact records (requested_rewrite)"),
    ("known.jsonl", b'{"subject": 1\n7\n', "First problem: row 1: it is not valid JSON: "),
    ("known.json", b"[]", "holds no usable fact"),
    ("known.json", b"[" * 200_000, "is not valid JSON"),
    ("known.json", b"[" + b"1" * 5_000 + b"]", "is not valid JSON"),
    ("known.json", SURROGATE, "surrogate"),
)


@pytest.mark.parametrize(("name", "content", "message"), REFUSED, ids=range(len(REFUSED)))
def test_a_file_that_is_no_fact_file_is_refused_with_the_reason(name: str, content: bytes, message: str) -> None:
    with pytest.raises(FactFileError) as caught:
        facts.parse(content, name=name)
    assert message in str(caught.value)


def test_a_missing_and_an_oversized_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FactFileError, match=r"No fact file at .*absent\.csv\. Give builtin, .*, a CSV file, a JS"):
        facts.load(tmp_path / "absent.csv")
    for name in (tmp_path, "x" * 5000, "a\0b", "/"):
        with pytest.raises(FactFileError, match="No "):
            facts.load(name)
    path = tmp_path / "huge.csv"
    path.touch()
    os.truncate(path, facts.MAX_FILE_BYTES + 1)
    with pytest.raises(FactFileError, match=r"huge\.csv has 200,000,001 bytes"):
        facts.load(path)


mistakable = st.lists(st.builds(Fact, *[st.sampled_from(["", "a", "aa"])] * 4), max_size=2)


@given(mistakable, mistakable)
def test_fingerprints_are_equal_only_for_equal_facts_in_equal_order(one: list[Fact], other: list[Fact]) -> None:
    same = FactSet("set", tuple(one)).fingerprint == FactSet("set", tuple(other)).fingerprint
    assert same == (one == other)


class NeverFormatted(str):
    """A template that refuses to be one."""

    def format(self, *_: object, **__: object) -> str:
        raise AssertionError("a user's template was passed to str.format")

    format_map = __mod__ = format


def test_a_template_is_never_formatted() -> None:
    hostile = "{0.__class__} %s {} {0.__init__.__globals__}"
    fact = Fact(NeverFormatted("{0} {}"), NeverFormatted(hostile), NeverFormatted("{target}"))
    assert fact.text == "{0.__class__} %s {0} {} {0.__init__.__globals__}"
    assert fact.text[slice(*fact.subject_span)] == "{0} {}"
    assert FactSet("{0.__class__}", (fact,)).fingerprint
    loaded = facts.parse(csv_bytes(f"{{x}},{hostile},{{y}}"), name="{0.__class__}")
    assert loaded.facts[0].text == "{0.__class__} %s {x} {0.__init__.__globals__}"
