"""Facts and their readers: built-in sets, CSV, CounterFact JSON, faulty files, fingerprints, hostile templates."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kis_core import facts
from kis_core.facts import Fact, FactFileError, FactSet, RowIssue
from kis_core.facts.readers import READERS, registered
from kis_core.facts.readers import counterfact as counterfact_format
from kis_core.files import field_text
from kis_core.files.csv_records import TWICE

FAULTY_SECONDS = 2.0  # reading all faulty files together, the 50 MB line included, takes a small part of this
HEADER = "subject,prompt,target"
PARIS = Fact("Paris", "{} is the capital of", "France")
ZURICH = Fact("Zürich", "{} is a city in", "Switzerland")
COUNTERFACT_FACTS = 436  # records in the shared file, all of them well-formed


def row(fact: Fact) -> str:
    return f"{fact.subject},{fact.prompt},{fact.target}"


def csv_bytes(*rows: str, header: str = HEADER, encoding: str = "utf-8") -> bytes:
    return "\n".join((header, *rows, "")).encode(encoding)


def counterfact(fact: Fact) -> dict[str, Any]:
    rewrite = {"prompt": fact.prompt, "subject": fact.subject, "target_true": {"str": fact.target, "id": "Q1"}}
    return {"case_id": 0, "requested_rewrite": rewrite | {"relation_id": fact.relation}}


words = (
    st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=20)
    .map(field_text.tidy)
    .filter(lambda text: text and not field_text.fault(text) and not text.startswith("'"))
)
around = words.filter(lambda text: "{}" not in text and not text.startswith("}") and not text.endswith("{"))
any_fact = st.builds(
    lambda subject, before, after, target, relation: Fact(subject, f"{before}{{}}{after}", target, relation),
    words,
    around,
    around,
    words,
    st.one_of(st.just(""), words),
)
fact_lists = st.lists(any_fact, min_size=1, max_size=5)


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


def test_the_builtin_sets_differ() -> None:
    assert len({facts.builtin(name).fingerprint for name in facts.BUILTIN_SETS}) == len(facts.BUILTIN_SETS)


def test_csv_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        "\nRelation, TARGET ,prompt,subject,note\r\n"
        'capital,France,"{}, it is said, is the capital of",Paris,unread\r\n'
        "\r\n"
        'nickname,"the ""Bear""",{} was called, Jan ,\n'
    )
    loaded = facts.load(path)
    assert loaded == FactSet(
        "mine.csv",
        (
            Fact("Paris", "{}, it is said, is the capital of", "France", "capital"),
            Fact("Jan", "{} was called", 'the "Bear"', "nickname"),
        ),
    )


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
        RowIssue(4, "subject is missing"),
        RowIssue(5, "target is missing"),
        RowIssue(6, "the prompt holds 0 `{}` where exactly one marks the subject"),
        RowIssue(7, "no `requested_rewrite` object"),
    )


def test_the_published_counterfact_file_loads_without_an_issue(shared_data: Path) -> None:
    path = shared_data / "counterfact_known.json"
    loaded = facts.load(path)
    assert len(loaded) == len(json.loads(path.read_text())) == COUNTERFACT_FACTS
    assert loaded.issues == ()
    assert all(fact.relation.startswith("P") for fact in loaded.facts)


READABLE = {
    "BOM": (csv_bytes(row(ZURICH), encoding="utf-8-sig"), ZURICH),
    "UTF-16": (csv_bytes(row(ZURICH), encoding="utf-16"), ZURICH),
    "UTF-32": (csv_bytes(row(ZURICH), encoding="utf-32"), ZURICH),
}
NOT_A_FACT_FILE = {
    "empty": (b"", "faulty.csv is empty. Its first line should be: subject,prompt,target"),
    "no header": (csv_bytes(header=row(PARIS)), "faulty.csv has no column subject, prompt, target; found: paris, "),
    "duplicate column": (
        csv_bytes(row(PARIS) + ",Spain", header=HEADER + ",target"),
        "faulty.csv has the column target twice",
    ),
}
BAD_ROWS = {
    "NUL": ("Ro\0me,{} is in,Italy", "subject holds a control character (\\x00)"),
    "no slot": ("Rome,It is in,Italy", "the prompt holds 0 `{}` where exactly one marks the subject"),
    "two slots": ("Rome,{} and {} are in,Italy", "the prompt holds 2 `{}` where exactly one marks the subject"),
    "attribute slot": ("Rome,{0.__class__} is in,Italy", "the prompt holds 0 `{}` where exactly one marks the subject"),
    "blank subject": ("  ,{} is in,Italy", "subject is blank"),
    "long subject": ("R" * 10_000 + ",{} is in,Italy", "subject has 10,000 characters; at most 2,000"),
    "missing target": ("Rome,{} is in", "2 columns where the header has 3"),
    "unclosed quote": ('"Rome,{} is in,Italy', "a quote is opened and not closed"),
    "50 MB line": ("x" * 50_000_000, "a line of 50,000,000 characters; at most 20,000"),
}


@pytest.mark.parametrize("fault", READABLE)
def test_a_file_in_another_encoding_is_read(fault: str) -> None:
    data, fact = READABLE[fault]
    assert facts.parse(data, name="faulty.csv") == FactSet("faulty.csv", (fact,))


@pytest.mark.parametrize("fault", NOT_A_FACT_FILE)
def test_a_file_that_is_no_fact_file_is_refused_with_the_reason(fault: str) -> None:
    data, message = NOT_A_FACT_FILE[fault]
    with pytest.raises(FactFileError) as caught:
        facts.parse(data, name="faulty.csv")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("fault", BAD_ROWS)
def test_a_bad_row_is_reported_and_the_good_ones_around_it_load(fault: str) -> None:
    bad, reason = BAD_ROWS[fault]
    loaded = facts.parse(csv_bytes(row(PARIS), bad, row(ZURICH)), name="faulty.csv")
    assert loaded.facts == (PARIS, ZURICH)
    assert loaded.issues == (RowIssue(3, reason),)


def test_all_fifteen_faulty_files_are_read_within_two_seconds() -> None:
    files = [data for data, _ in READABLE.values()]
    files += [data for data, _ in NOT_A_FACT_FILE.values()]
    files += [csv_bytes(row(PARIS), bad) for bad, _ in BAD_ROWS.values()]
    assert len(files) == 15
    refused = 0
    began = time.process_time()
    for data in files:
        try:
            facts.parse(data, name="faulty.csv")
        except FactFileError:
            refused += 1
    assert time.process_time() - began < FAULTY_SECONDS
    assert refused == len(NOT_A_FACT_FILE)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("Rome,{} is in,", "target is blank"),
        ("Rome,{} is in,Italy,Europe", "4 columns where the header has 3"),
        ("R" * 2_001 + ",{} is in,Italy", "subject has 2,001 characters; at most 2,000"),
        ('"Ro"me,{} is in,Italy', f"`m` follows a field in quotes; {TWICE}"),
        ('Ro"me,{} is in,Italy', f"a quote inside a field; {TWICE}"),
        ("Ro\ufffdme,{} is in,Italy", "subject holds U+FFFD, which stands where a program could not read a character"),
        ("C\x92te,{} is in,Italy", "subject holds a control character (\\x92)"),
        ("\u200b,{} is in,Italy", "subject is blank"),
    ],
)
def test_further_bad_rows(bad: str, reason: str) -> None:
    loaded = facts.parse(csv_bytes(row(PARIS), bad), name="faulty.csv")
    assert (loaded.facts, loaded.issues) == ((PARIS,), (RowIssue(3, reason),))


def test_a_file_without_one_usable_row_is_refused_with_its_first_problem() -> None:
    with pytest.raises(FactFileError, match=r"mine holds no usable fact. First problem: row 3: subject is blank\."):
        facts.parse(csv_bytes("", ",{} is in,Italy", "Rome,It is in,Italy"), name="mine")
    with pytest.raises(FactFileError, match="mine holds no usable fact"):
        facts.parse(csv_bytes(), name="mine")


def test_a_faulty_header_is_reported_with_its_line() -> None:
    with pytest.raises(
        FactFileError, match=r"mine, line 3: a quote is opened and not closed\. The first line should be"
    ):
        facts.parse(b'\n\n"subject,prompt,target\n', name="mine")


def test_two_formats_for_the_same_names_are_refused() -> None:
    assert {ending for ending in READERS if ending} == {".csv", ".tsv", ".json"}
    another = SimpleNamespace(READER=replace(counterfact_format.READER, label="another"))
    with pytest.raises(ValueError, match=r"another and a CounterFact JSON file both claim names that end in '\.json'"):
        registered([counterfact_format, another])


def test_a_missing_and_an_oversized_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FactFileError, match=r"No fact file at .*absent\.csv\. Give builtin, .*, a CSV file or a C"):
        facts.load(tmp_path / "absent.csv")
    with pytest.raises(FactFileError, match="No fact file"):
        facts.load(tmp_path)
    path = tmp_path / "huge.csv"
    path.touch()
    os.truncate(path, facts.MAX_FILE_BYTES + 1)
    with pytest.raises(FactFileError, match=r"huge\.csv has 200,000,001 bytes"):
        facts.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{not json", "is not valid JSON"),
        (b"{}", "holds a dict; CounterFact is a list of records"),
        (b"[]", "holds no usable fact"),
        (b"[" * 200_000, "is not valid JSON"),
        (b"[" + b"1" * 5_000 + b"]", "is not valid JSON"),
        (b'[{"requested_rewrite": {"subject": "\\ud800", "prompt": "{}", "target_true": {"str": "x"}}}]', "surrogate"),
    ],
    ids=["not JSON", "no list", "no record", "200,000 brackets", "5,000 digits", "lone surrogate"],
)
def test_json_that_is_no_counterfact_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(FactFileError, match=message):
        facts.parse(content, name="known.json")


@settings(max_examples=50, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=100).map(lambda tail: csv_bytes() + tail)))
def test_any_bytes_give_facts_or_a_fact_file_error(data: bytes) -> None:
    for name in ("any.csv", "any.json"):
        outcome: FactSet | str
        try:
            outcome = facts.parse(data, name=name)
        except FactFileError as error:
            outcome = str(error)
        assert len(outcome) > 0 if isinstance(outcome, FactSet) else name in outcome


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["prompt", "subject", "target_true", "str", "relation_id"]), inner),
    ),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(json_values, st.fixed_dictionaries({"requested_rewrite": json_values})), max_size=4))
def test_any_json_records_beside_a_good_one_leave_it_readable(records: list[Any]) -> None:
    content = json.dumps([*records, counterfact(PARIS)]).encode()
    loaded = facts.parse(content, name="known.json")
    assert loaded.facts[-1] == PARIS
    assert len(loaded.facts) + len(loaded.issues) == len(records) + 1


@settings(max_examples=50, deadline=None)
@given(fact_lists, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_csv_written_by_another_program_reads_back_as_it_was(written: list[Fact], encoding: str) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(("subject", "prompt", "target", "relation"))
    writer.writerows((fact.subject, fact.prompt, fact.target, fact.relation) for fact in written)
    loaded = facts.parse(stream.getvalue().encode(encoding), name="mine.csv")
    assert (list(loaded.facts), loaded.issues) == (written, ())


@settings(max_examples=50, deadline=None)
@given(fact_lists)
def test_csv_and_counterfact_of_the_same_facts_have_one_fingerprint(written: list[Fact]) -> None:
    loaded = facts.parse(json.dumps([counterfact(fact) for fact in written]).encode(), name="other.json")
    assert loaded.fingerprint == FactSet("mine", tuple(written), (RowIssue(2, "left out"),)).fingerprint


mistakable = st.lists(st.builds(Fact, *[st.sampled_from(["", "a", "aa"])] * 4), max_size=2)


@settings(max_examples=50, deadline=None)
@given(mistakable, mistakable)
def test_fingerprints_are_equal_only_for_equal_facts_in_equal_order(one: list[Fact], other: list[Fact]) -> None:
    same = FactSet("set", tuple(one)).fingerprint == FactSet("set", tuple(other)).fingerprint
    assert same == (one == other)


@pytest.mark.parametrize("field", ["subject", "prompt", "target", "relation"])
def test_the_fingerprint_changes_with_every_field(field: str) -> None:
    changed = replace(PARIS, **{field: getattr(PARIS, field) + "x"})
    assert FactSet("set", (changed, ZURICH)).fingerprint != FactSet("set", (PARIS, ZURICH)).fingerprint


def test_the_fingerprint_changes_with_the_order_and_with_where_one_field_ends() -> None:
    assert FactSet("set", (ZURICH, PARIS)).fingerprint != FactSet("set", (PARIS, ZURICH)).fingerprint
    shifted = Fact("Paris{}", " is the capital of", "France")
    assert FactSet("set", (shifted,)).fingerprint != FactSet("set", (PARIS,)).fingerprint


@settings(max_examples=50, deadline=None)
@given(any_fact)
def test_the_subject_stands_in_the_text_where_its_span_says(fact: Fact) -> None:
    begin, end = fact.subject_span
    before, after = fact.prompt.split("{}")
    assert fact.text == before + fact.subject + after
    assert (fact.text[:begin], fact.text[begin:end], fact.text[end:]) == (before, fact.subject, after)


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


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "/"])
def test_a_name_no_file_can_have_is_refused_politely(name: str) -> None:
    with pytest.raises(FactFileError, match="No "):
        facts.load(name)
