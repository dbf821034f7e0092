"""Facts as data sets keep them: each kind of record by hand, in every container, and where a prompt has its subject."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import openpyxl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from kis_core import facts
from kis_core.facts import Fact, FactFileError, FactSet, RowIssue, containers, parse, readers
from kis_core.facts.readers.counterfact import to_record
from kis_core.facts.readers.easyedit import NO_TRUTH, NOT_NEIGHBOURS
from kis_core.facts.reading import AGAIN, LEFT_OUT, LIST_AS_TEXT, Container, Reader
from kis_core.facts.subjects import NO_SLOT, OTHER_CASE, marked
from kis_core.files import field_text

PIESCH = "Frederic Piesch"
Records = Sequence[dict[str, Any]]


def read(records: Any, name: str = "mine.json") -> FactSet:
    return parse(json.dumps(records).encode(), name=name)


def test_zsre_as_mend_wrote_it() -> None:
    """The question has its subject in place; the right answer is the first of `answers`, the new one `alt`."""
    record = {
        "subject": "Watts Humphrey",
        "src": "What university did Watts Humphrey attend?",
        "pred": "Trinity College",
        "rephrase": "What university did Watts Humphrey take part in?",
        "alt": "University of Michigan",
        "answers": ["Illinois Institute of Technology", "Illinois Tech"],
        "loc": "nq question: who played desmond doss father in hacksaw ridge",
        "loc_ans": "Hugo Weaving",
        "cond": "Trinity College >> University of Michigan || What university did Watts Humphrey attend?",
    }
    actual = read([record, record | {"answers": []}, {key: record[key] for key in ("src", "alt", "answers")}])
    assert actual.format == "zsRE records in a JSON list"
    assert actual.facts == (
        Fact(
            "Watts Humphrey",
            "What university did {} attend?",
            "Illinois Institute of Technology",
            new_target="University of Michigan",
            paraphrases=("What university did Watts Humphrey take part in?",),
        ),
    )
    assert actual.issues == (RowIssue(2, "answers is missing"), RowIssue(3, "subject is missing"))
    assert actual.notes == (f"{NOT_NEIGHBOURS}: row 1.",)


def test_easyedit_and_knowedit_records() -> None:
    """Their locality prompts: flat, lists within an object, objects within a list, and objects of several names."""
    flat = {
        "case_id": 2,
        "prompt": "Toko Yasuda, the",
        "target_new": "piano",
        "subject": "Toko Yasuda",
        "ground_truth": "guitar",
        "rephrase_prompt": "Toko Yasuda is incredible at",
        "locality_prompt": "John Lennon performs on the",
        "locality_ground_truth": "guitar",
    }
    nested = {
        "subject": PIESCH,
        "prompt": f"The name of the position held by {PIESCH} is",
        "target_new": "Archbishop of León",
        "ground_truth": ["mayor of Vienna", "head of Vienna"],
        "rephrase_prompt": ["He was", "{} was the"],
        "portability": {"Reasoning": [{"prompt": "unread", "ground_truth": "x"}]},
        "locality": {
            "Relation_Specificity": [{"prompt": f"The gender of {PIESCH} is", "ground_truth": [["male"], ["man"]]}],
            "Forgetfulness": [{"prompt": f"{PIESCH}, who is no bishop, was", "ground_truth": [["mayor of Vienna"]]}],
            "neighborhood": {"prompt": ["Michael Häupl was", "Rome is"], "ground_truth": ["mayor of Vienna", "old"]},
        },
    }
    recent = {"subject": "Leo Arons", "prompt": "The place of death of Leo Arons is", "target_new": "Berlin"}
    unusable = [{"prompt": "Who?", "target_new": "x"}, recent | {"ground_truth": "<|endoftext|>"}]
    actual = read({"data": [flat, nested, recent | {"locality": {}}, *unusable]})
    assert actual.format == "EasyEdit or KnowEdit records in a JSON object’s list `data`"
    assert actual.facts == (
        Fact(
            "Toko Yasuda",
            "{}, the",
            "guitar",
            new_target="piano",
            paraphrases=("Toko Yasuda is incredible at",),
            neighbours=("John Lennon performs on the",),
        ),
        Fact(
            PIESCH,
            "The name of the position held by {} is",
            "mayor of Vienna",
            new_target="Archbishop of León",
            paraphrases=("He was", f"{PIESCH} was the"),
            neighbours=("Michael Häupl was",),
        ),
        Fact("Leo Arons", "The place of death of {} is", "Berlin"),
    )
    unknown = "ground_truth is <|endoftext|>, which EasyEdit writes where it knows no right answer"
    assert actual.issues == (RowIssue(4, "subject is missing"), RowIssue(5, unknown))
    assert actual.notes == (f"{NOT_NEIGHBOURS}: row 2.", f"{NO_TRUTH}: row 3.")


def test_each_rewrite_of_mquake_is_one_fact() -> None:
    def rewrite(new: str, **others: Any) -> dict[str, Any]:
        return {
            "prompt": "{} is a citizen of",
            "relation_id": "P27",
            "target_new": {"str": new, "id": "Q1016"},
            "target_true": {"str": "United States of America", "id": "Q30"},
            "subject": "Vince McMahon",
            "question": "What is the country of citizenship of Vince McMahon?",
        } | others

    other = rewrite("Chad", subject="Triple H")
    del other["question"]
    records = [
        {"case_id": 1, "requested_rewrite": [rewrite("Libya"), {"prompt": "x"}], "questions": ["unread"]},
        {"case_id": 2, "requested_rewrite": [rewrite("Peru"), other]},
        {"case_id": 3, "requested_rewrite": []},
    ]
    actual = parse("\n".join(map(json.dumps, records)).encode(), name="MQuAKE-CF.json")
    mcmahon = Fact("Vince McMahon", "{} is a citizen of", "United States of America", "P27", "Libya")
    question = ("What is the country of citizenship of Vince McMahon?",)
    assert actual.facts == (
        replace(mcmahon, paraphrases=question),
        replace(mcmahon, subject="Triple H", new_target="Chad"),
    )
    assert actual.issues == (
        RowIssue(1, "fact 2 of 2: no `target_true.str`"),
        RowIssue(3, "no `requested_rewrite` object"),
    )
    assert (actual.format, actual.notes) == ("MQuAKE records in JSON Lines", (f"{AGAIN}: row 2.",))


def test_known_1000_goes_on_where_its_template_ends() -> None:
    record = {
        "known_id": 7,
        "subject": "Rome",
        "attribute": "Italian",
        "template": "In {}, the language spoken is",
        "prediction": " a mixture of Italian and",
        "prompt": "In Rome, the language spoken is, as a Roman of Rome says, a mixture of",
        "relation_id": "P37",
    }
    others = ({"template": None, "prompt": "In Rome, they speak"}, {"prompt": ""}, {"attribute": None})
    actual = read([record, *(record | other for other in others)])
    prompts = [fact.prompt for fact in actual.facts]
    assert prompts == [
        "In {}, the language spoken is, as a Roman of Rome says, a mixture of",
        "In {}, they speak",
        "In {}, the language spoken is",
    ]
    assert {(fact.subject, fact.target, fact.relation) for fact in actual.facts} == {("Rome", "Italian", "P37")}
    assert actual.issues == (RowIssue(4, "attribute is missing"),)
    assert actual.format == "known_1000 records in a JSON list"


def test_counterfact_takes_all_prompts_of_its_authors(shared_data: Path) -> None:
    """The authors' records are the same facts as a list, line by line, as `data`, and as parquet with its structs."""
    data = (shared_data / "counterfact_known.json").read_bytes()
    whole, records = parse(data, name="known.json"), json.loads(data)[:40]
    assert {"attribute_prompts", "generation_prompts"} < set(records[0])
    others = {
        "a.jsonl": "\n".join(map(json.dumps, records)).encode(),
        "b.json": json.dumps({"data": records}).encode(),
        "c.parquet": as_parquet(records),
    }
    assert {parse(data, name=name).facts for name, data in others.items()} == {whole.facts[:40]}
    assert (len(whole), whole.issues, whole.notes) == (436, (), ())


PLACES = {
    ("Rome is in", "Rome"): "{} is in",
    ("The capital of Iran, not of Iranian land, is", "Iran"): "The capital of {}, not of Iranian land, is",
    ("Rome, rome, ROME", "rome"): "Rome, {}, ROME",
    ("What is Philippines's capital", "Philippines"): "What is {}'s capital",
    ("日本の首都は", "日本"): "{}の首都は",
    ("{} is not Rome but", "Rome"): "{} is not Rome but",
    ("The 800 of 1800 and 8000", "800"): "The {} of 1800 and 8000",
}
NO_PLACE = {
    ("Rome and Rome", "Rome"): f"{NO_SLOT}, and the subject itself 2 times",
    ("ROME and rOME", "Rome"): f"{NO_SLOT}, and the subject itself 2 times",
    ("Romeo lived", "Rome"): f"{NO_SLOT}, nor the subject itself",
    ("Zu\u0308rich lies", "Zu"): f"{NO_SLOT}, nor the subject itself",
    ("It is in", "Rome"): f"{NO_SLOT}, nor the subject itself",
}


def test_the_subject_stands_in_its_prompt_once_and_as_a_word() -> None:
    for (prompt, subject), expected in PLACES.items():
        assert marked(prompt, subject) == (expected, subject)
    for (prompt, subject), reason in NO_PLACE.items():
        with pytest.raises(ValueError, match=r"^the prompt") as caught:
            marked(prompt, subject)
        assert str(caught.value) == reason
    assert marked("Is İstanbul, or ISTANBUL, in", "istanbul") == ("Is İstanbul, or {}, in", "ISTANBUL")
    actual = parse(b"subject,prompt,target\nJOHN,john is a,man\n", name="a.csv")
    assert actual.facts == (Fact("john", "{} is a", "man"),)
    assert actual.notes == (f"{OTHER_CASE}: row 2 (john).",)


@given(
    st.text("ab İß", max_size=3),
    st.text("ab İß1", min_size=1, max_size=3).filter(str.strip),
    st.text("ab ", max_size=3),
)
def test_a_marked_prompt_is_the_prompt(before: str, subject: str, after: str) -> None:
    for written in (subject, subject.swapcase()):
        try:
            prompt, found = marked(f"{before}{written}{after}", subject)
        except ValueError:
            continue
        assert Fact(found, prompt, "x").text == f"{before}{written}{after}"


def as_csv(delimiter: str, encoding: str = "utf-8") -> Callable[[Records], bytes]:
    def written(records: Records) -> bytes:
        stream = io.StringIO()
        table = csv.DictWriter(stream, list(records[0]), delimiter=delimiter)
        table.writeheader()
        table.writerows(records)
        return stream.getvalue().encode(encoding)

    return written


def as_workbook(records: Records) -> bytes:
    book, stream = openpyxl.Workbook(), io.BytesIO()
    for row in ([name.upper() for name in records[0]], *(list(record.values()) for record in records)):
        book.active.append(row)
    book.save(stream)
    return stream.getvalue()


def as_parquet(records: Records) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(list(records)), stream)
    return stream.getvalue()


WRITTEN: dict[str, Callable[[Records], bytes]] = {
    "a.csv": as_csv(","),
    "b.csv": as_csv(";"),
    "c.tsv": as_csv("\t"),
    "unicode text.TXT": as_csv("\t", "utf-16"),
    "list.json": lambda records: json.dumps(records).encode(),
    "lines.json": lambda records: "\n".join(map(json.dumps, records)).encode(),
    "lines.jsonl": lambda records: ("\ufeff" + "\r\n".join(map(json.dumps, records))).encode(),
    "data.json": lambda records: json.dumps({"version": 1, "data": records}).encode(),
    "sheet.xlsx": as_workbook,
    "table.parquet": as_parquet,
}
words = st.text(st.sampled_from("aé日 ,;'\"{"), min_size=1, max_size=6).map(field_text.tidy)
words = words.filter(lambda text: text != "" and not text.startswith(("'", "[")) and "{}" not in text)


@st.composite
def flat_records(draw: st.DrawFn) -> tuple[str, list[dict[str, str]]]:
    """Records of a kind that fits in a flat row, with the subject in place or marked."""
    drawn = [(draw(words), draw(words), draw(words), draw(words)) for _ in range(draw(st.integers(1, 3)))]
    kind = draw(st.sampled_from(["columns", "EasyEdit", "zsRE", "known_1000"]))
    rows = []
    for number, (subject, begin, target, new) in enumerate(drawn):
        name = f"{subject}{number}x"
        prompt = f"{begin} ({{}}) is" if draw(st.booleans()) else f"{begin} ({name}) is"
        rows.append(
            {
                "columns": {"subject": name, "prompt": prompt, "target": target, "relation": new},
                "EasyEdit": {"subject": name, "prompt": prompt, "ground_truth": target, "target_new": new},
                "zsRE": {"subject": name, "src": prompt, "answers": target, "alt": new},
                "known_1000": {"subject": name, "prompt": prompt, "attribute": target, "relation_id": new},
            }[kind]
        )
    return kind, rows


@settings(max_examples=40)
@given(flat_records())
def test_the_same_facts_in_every_container_are_equal(drawn: tuple[str, list[dict[str, str]]]) -> None:
    kind, rows = drawn
    read_sets = [parse(write(rows), name=name) for name, write in WRITTEN.items()]
    assert all(actual.format.startswith(kind) for actual in read_sets)
    assert {(actual.facts, actual.issues) for actual in read_sets} == {(read_sets[0].facts, ())}
    assert [fact.text for fact in read_sets[0].facts] == [
        (row.get("prompt") or row["src"]).replace("{}", row["subject"]) for row in rows
    ]


def test_a_table_says_which_rows_it_cannot_give_and_reads_its_own_columns_alone() -> None:
    text = "src;subject;answers\nWhere is Rome?;Rome;['Italy']\nWhere is Lyon?;Lyon;France\n"
    actual = parse(text.encode(), name="zsre.csv")
    assert actual.facts == (Fact("Lyon", "Where is {}?", "France"),)
    assert actual.issues == (RowIssue(2, f"answers {LIST_AS_TEXT}"),)
    assert actual.format == "zsRE records in CSV with semicolons"
    text = "prompt\tsubject\ttarget_new\tground_truth\trephrase_prompt\nRome is in\tRome\tSpain\tItaly\t['a', 'b']\n"
    actual = parse(text.encode(), name="edits.tsv")
    assert (actual.facts, actual.notes) == (
        (Fact("Rome", "{} is in", "Italy", new_target="Spain"),),
        (f"{LEFT_OUT}: row 2.",),
    )
    text = "subject,prompt,target,new_target,notes,paraphrases,uploaded_as\nRome,{} is in,Italy,France,abc,x,y\n"
    assert parse(text.encode(), name="a.csv") == FactSet("a.csv", (Fact("Rome", "{} is in", "Italy"),))
    joined = 'subject,prompt,target\nRome,Rome is in,"Italy\nLyon,Lyon is in,France"\nParis,Paris is in,France\n'
    actual = parse(joined.encode(), name="a.csv")
    assert [fact.subject for fact in actual.facts] == ["Paris"], "a quote left open makes no fact of two"
    assert actual.issues[0].reason.startswith("a quote joins the rows 2 to 3; is it left open? If not, `{}` in its")


def test_what_is_no_record_of_a_known_kind_is_refused_with_its_fields() -> None:
    for name, data in {"a.json": b'[{"a": 1, "b": 2}]', "a.jsonl": b'{"a": 1, "b": 2}'}.items():
        with pytest.raises(FactFileError, match=r"fields: a, b\. Known are: .*MQuAKE records \(requested_rewrite\)"):
            parse(data, name=name)
    with pytest.raises(FactFileError, match=r"has the column src twice"):
        parse(b"src,src,answers\na,b,c\n", name="a.csv")


def test_a_set_that_is_kept_says_the_file_it_came_from_and_a_builtin_set_no_format() -> None:
    fact = Fact("Rome", "{} is in", "Italy", "P17", "France", ("Rome lies in",), ("Pisa is in",))
    kept = read([{"uploaded_as": "été.xlsx"} | to_record(fact)])
    assert (kept.name, kept.facts) == ("été.xlsx", (fact,))
    assert facts.builtin().format == ""


def test_two_readers_of_the_same_records_and_two_containers_of_one_ending_are_refused() -> None:
    def module(**values: Any) -> ModuleType:
        made = ModuleType("made")
        made.__dict__.update(values)
        return made

    reader = Reader("a reader", {"x": object}, (), lambda record: [record])
    container = Container("a container", (".x",), lambda data, rows: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="a reader and a reader are both recognised by x"):
        readers.registered([module(READER=reader), module(), module(READER=reader)])
    with pytest.raises(ValueError, match=r"both claim names that end in '\.x'"):
        containers.registered([module(CONTAINER=container), module(), module(CONTAINER=container)])
    assert {".csv", ".tsv", ".txt", ".json", ".jsonl", ".xlsx", ".parquet"} <= set(containers.CONTAINERS)
