"""Your facts: a file is read row by row, kept, used and forgotten; the answers of the model are told."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from kis_core.facts import BUILTIN_SETS, Fact, FactSet, load, parse, saved
from kis_core.facts.containers import CONTAINERS
from tests.pages.conftest import FORMULA, HOSTILE, MODEL, PICTURE, SCRIPT, Open, Stored
from tests.pages.looking import captions, infos, markdown, table_of, unescaped

PAGE = "pages/your_facts.py"
COLUMNS = ("subject", "prompt", "target", "relation")
FRANCE, KENYA = ("France", "The capital of {} is", "Paris", "capital"), ("Kenya", "{} has the capital", "Nairobi", "")
LINK = "[x](javascript:alert(1))"
BROKEN = (
    "subject,prompt,target\n"  # row 1
    "France,The capital of {} is,Paris\n"
    "Spain,The capital of is,Madrid\n"
    ",The capital of {} is,Rome\n"
    "Kenya,{} has the capital,Nairobi\n"
    "Chad,\"The capital,N'Djamena\n"
)


def as_csv(*rows: tuple[str, ...]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream).writerows([COLUMNS, *rows])
    return stream.getvalue().encode()


def upload(page: AppTest, content: bytes, name: str = "mine.csv") -> AppTest:
    return page.file_uploader[0].set_value((name, content, "text/csv")).run()


def use(page: AppTest) -> AppTest:
    return next(button for button in page.button if button.label.startswith(("Use these", "Use this"))).click().run()


def keep(folder: Path, name: str, *rows: tuple[str, ...]) -> str:
    return saved.save(folder, FactSet(name, tuple(Fact(*row) for row in rows)))


def test_an_uploaded_file_is_shown_and_once_used_kept_and_chosen(open_page: Open, folder: Path) -> None:
    page = upload(open_page(PAGE, pair="3-7", window="0-64-0-64"), as_csv(FRANCE, KENYA), "My Facts!.csv")
    assert "2 facts can be used" in page.success[0].value
    assert not page.warning
    assert table_of(page, *COLUMNS).value.to_numpy().tolist() == [list(FRANCE), list(KENYA)]
    assert saved.names(folder) == ()
    use(page)
    (name,) = saved.names(folder)
    assert name.startswith("my-facts-")
    assert dict(page.query_params) == {"model": MODEL, "facts": name}, "pair and window were of other facts"
    assert load(saved.path_of(folder, name)).facts == (Fact(*FRANCE), Fact(*KENYA))
    assert page.selectbox(key="choose-facts").value == name
    assert page.selectbox(key="choose-facts").options[-1] == "My Facts!.csv"


@pytest.mark.usefixtures("folder")
def test_a_file_larger_than_facts_are_is_refused_unread(open_page: Open) -> None:
    """Whatever the browser was told: the server takes more, for bundles."""
    page = upload(open_page(PAGE), b"subject,prompt,target\n" + b"x" * (20 * 2**20))
    assert [error.value for error in page.error] == ["This file is larger than 20 MB. Split it."]
    assert not page.success


@pytest.mark.usefixtures("folder")
def test_what_was_assumed_of_a_file_and_what_was_left_out_is_told(open_page: Open) -> None:
    content = as_csv(("Côte d’Ivoire", "{} lies in", "Africa\u00a0", ""), FRANCE).decode().encode("cp1252")
    page = upload(open_page(PAGE), content)
    notes = [unescaped(info.value) for info in page.info]
    assert notes[:2] == list(parse(content, name="mine.csv").notes)
    assert "read as Windows-1252, where it says “Côte”" in notes[0]
    assert "row 2, target (U+00A0)" in notes[1]
    upload(page, BROKEN.encode())
    assert "2 facts can be used" in page.success[0].value
    assert "3 rows were left out" in page.warning[0].value
    frame = table_of(page, "row", "reason").value
    assert frame["row"].tolist() == [3, 4, 6]
    assert frame["reason"].tolist()[1:] == ["subject is blank", "a quote is opened and not closed"]
    assert "0 `{}`" in frame["reason"][0]


@pytest.mark.usefixtures("folder")
def test_the_page_takes_the_files_of_the_command_line_and_says_their_format(open_page: Open) -> None:
    page = open_page(PAGE)
    taken = set(page.file_uploader[0].proto.type)
    assert taken == {ending for ending in CONTAINERS if ending}
    record = {"src": "Where is Rome?", "subject": "Rome", "answers": ["Italy"], "alt": "Spain"}
    upload(page, f"{json.dumps(record)}\n{json.dumps(record | {'subject': 'Oslo'})}".encode(), "zsre.jsonl")
    found = "Format found: zsRE records in JSON Lines. The file brings a new object with 1 of them."
    assert found in captions(page)
    assert table_of(page, *COLUMNS).value.to_numpy().tolist() == [["Rome", "Where is {}?", "Italy", ""]]
    assert "nor the subject itself" in table_of(page, "row", "reason").value["reason"][0]


def test_a_file_that_holds_no_facts_says_why_with_its_text_as_text(open_page: Open, folder: Path) -> None:
    page = open_page(PAGE)
    hostile = [(f"{text},b,c\n1,2,3\n".encode(), f"{text}.csv", text.lower()) for text in (SCRIPT, PICTURE, LINK)]
    none = (b"subject,prompt,target\nx,no slot,y\n", "none.csv", "holds no usable fact")
    unknown = (b'{"a": 1}', "record.json", "holds no records of a known kind; the first has the fields: a.")
    for content, name, said in (none, unknown, *hostile):
        upload(page, content, name)
        assert said in unescaped(page.error[0].value)
        assert not page.success
        assert not [text for text in (SCRIPT, PICTURE, LINK) if text.lower() in markdown(page).lower()]
    assert saved.names(folder) == ()
    rows = [(fact.subject, fact.prompt, fact.target, fact.relation) for fact in HOSTILE]
    upload(page, as_csv(*rows), f"{PICTURE}.csv")
    assert table_of(page, *COLUMNS).value.to_numpy().tolist() == [list(row) for row in rows], "there all the same"
    assert not [text for text in (SCRIPT, PICTURE, FORMULA) if text in markdown(page)]


def test_how_many_facts_are_kept_for_one_page_and_how_many_are_refused(open_page: Open, folder: Path) -> None:
    rows = [(f"subject {number}", *FRANCE[1:]) for number in range(saved.MOST_FACTS + 1)]
    page = upload(open_page(PAGE), as_csv(*rows))
    use(page)
    assert "at most 20,000" in unescaped(page.error[0].value)
    assert saved.names(folder) == ()
    upload(page, as_csv(*rows[: saved.MOST_ON_EVERY_PAGE + 1]))
    assert "more than 2,000 facts" in page.info[0].value
    use(page)
    (name,) = saved.names(folder)
    assert page.query_params["facts"] == name
    assert "this page shows the whole of P, of at most 2,000" in unescaped(infos(page))


def test_a_folder_that_cannot_be_written_to_is_told(open_page: Open, folder: Path) -> None:
    (folder / saved.FOLDER).write_text("a file where the folder should be")
    page = upload(open_page(PAGE), as_csv(FRANCE))
    use(page)
    assert page.error


def test_kept_sets_are_used_and_deleted_and_with_one_in_use_goes_its_choice(open_page: Open, folder: Path) -> None:
    first, second = keep(folder, "first", FRANCE), keep(folder, "second", KENYA)
    page = open_page(PAGE, pair="3-7", window="0-64-0-64")
    assert page.selectbox(key="choose-facts").options == [*BUILTIN_SETS, "first", "second"]
    page.button(key=f"use-{second}").click().run()
    assert dict(page.query_params) == {"model": MODEL, "facts": second}, "pair and window were of other facts"
    assert page.button(key=f"use-{second}").disabled
    assert not page.button(key=f"use-{first}").disabled
    page.button(key=f"delete-{first}").click().run()
    assert saved.names(folder) == (second,)
    assert page.selectbox(key="choose-facts").options == [*BUILTIN_SETS, "second"]
    assert page.query_params["facts"] == second
    other = open_page(PAGE, facts=second)
    page.button(key=f"delete-{second}").click().run()
    assert dict(page.query_params) == {"model": MODEL}
    for visit in (page, other.run()):  # deleted meanwhile it is no error
        assert visit.selectbox(key="choose-facts").value == "builtin"


def test_the_answers_of_the_model_are_told(look: Open, stored: Stored) -> None:
    result = stored("mixed")
    page = look(PAGE, facts="mixed")
    assert f"answers {sum(result.known)} of the {len(result.facts)} facts" in markdown(page)
    frame = table_of(page, "known", "fact", "answer").value
    assert frame["known"].tolist() == list(result.known)
    assert frame["fact"].tolist() == [fact.text for fact in result.facts.facts]
    assert frame["answer"].tolist() == [fact.target for fact in result.facts.facts]
    assert frame["first"].tolist() == [row[0][0] for row in result.answers]
    assert frame["probability"].tolist() == pytest.approx([row[0][1] for row in result.answers])
