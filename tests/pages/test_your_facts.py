"""Your facts: a file is read row by row, kept, used and forgotten; the answers of the model are told."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from kis_core import facts
from kis_core.facts import BUILTIN_SETS, Fact, FactSet, load, parse, saved
from tests.pages.conftest import FORMULA, HOSTILE, MODEL, PICTURE, SCRIPT, Open, Stored
from tests.pages.looking import markdown, table_of, unescaped

PAGE = "pages/your_facts.py"
COLUMNS = ("subject", "prompt", "target", "relation")
FRANCE, KENYA = ("France", "The capital of {} is", "Paris", "capital"), ("Kenya", "{} has the capital", "Nairobi", "")
BROKEN = (
    "subject,prompt,target\n"  # row 1
    "France,The capital of {} is,Paris\n"
    "Spain,The capital of is,Madrid\n"
    ",The capital of {} is,Rome\n"
    "Kenya,{} has the capital,Nairobi\n"
    "Chad,\"The capital,N'Djamena\n"
)


@pytest.fixture
def folder(open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test's own, where sets may come and go."""
    monkeypatch.setenv("KIS_CACHE", str(tmp_path))
    return tmp_path


def as_csv(*rows: tuple[str, ...]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream).writerows([COLUMNS, *rows])
    return stream.getvalue().encode()


def upload(page: AppTest, content: bytes, name: str = "mine.csv") -> AppTest:
    return page.file_uploader[0].set_value((name, content, "text/csv")).run()


def use_button(page: AppTest) -> object:
    return next(button for button in page.button if button.label.startswith(("Use these", "Use this fact")))


def keep(folder: Path, name: str, *rows: tuple[str, ...]) -> str:
    return saved.save(folder, FactSet(name, tuple(Fact(*row) for row in rows)))


@pytest.mark.usefixtures("folder")
def test_an_uploaded_file_is_shown(open_page: Open) -> None:
    page = upload(open_page(PAGE), as_csv(FRANCE, KENYA))
    assert not page.exception
    assert "2 facts can be used" in page.success[0].value
    assert not page.warning
    assert table_of(page, *COLUMNS).value.to_numpy().tolist() == [list(FRANCE), list(KENYA)]


def test_used_facts_are_kept_and_chosen(open_page: Open, folder: Path) -> None:
    page = upload(open_page(PAGE, pair="3-7", window="0-64-0-64"), as_csv(FRANCE, KENYA), "My Facts!.csv")
    assert saved.names(folder) == ()
    use_button(page).click().run()  # type: ignore[attr-defined]
    (name,) = saved.names(folder)
    assert name.startswith("my-facts-")
    assert dict(page.query_params) == {"model": MODEL, "facts": name}, "pair and window were of other facts"
    assert load(saved.path_of(folder, name)).facts == (Fact(*FRANCE), Fact(*KENYA))
    assert page.selectbox(key="choose-facts").value == name
    assert page.selectbox(key="choose-facts").options[-1] == "My Facts!.csv"


@pytest.mark.usefixtures("folder")
def test_a_file_is_read_once_however_often_the_page_is_drawn(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    def counted(data: bytes, *, name: str) -> FactSet:
        if name not in facts.BUILTIN_SETS:
            names.append(name)
        return parse(data, name=name)

    monkeypatch.setattr(facts, "parse", counted)
    page = upload(open_page(PAGE), as_csv(FRANCE))
    page.run().run()
    assert names == ["mine.csv"]
    assert "1 fact can be used" in page.success[0].value
    upload(page, b"", "empty.csv").run()
    assert names == ["mine.csv", "empty.csv"]
    assert "is empty" in page.error[0].value
    upload(page, as_csv(FRANCE, KENYA))
    assert "2 facts can be used" in page.success[0].value


@pytest.mark.usefixtures("folder")
def test_what_was_assumed_of_a_file_is_told(open_page: Open) -> None:
    content = as_csv(("Côte d’Ivoire", "{} lies in", "Africa\u00a0", ""), FRANCE).decode().encode("cp1252")
    page = upload(open_page(PAGE), content)
    told = [unescaped(one.value) for one in page.info]
    assert told[:2] == list(parse(content, name="mine.csv").notes)
    assert "read as Windows-1252, where it says “Côte”" in told[0]
    assert "row 2, target (U+00A0)" in told[1]


def test_counterfact_json_is_read(open_page: Open, folder: Path) -> None:
    record = {"prompt": FRANCE[1], "subject": FRANCE[0], "target_true": {"str": FRANCE[2]}, "relation_id": "P36"}
    page = upload(open_page(PAGE), json.dumps([{"requested_rewrite": record}]).encode(), "mine.json")
    assert table_of(page, *COLUMNS).value.to_numpy().tolist() == [[*FRANCE[:3], "P36"]]
    use_button(page).click().run()  # type: ignore[attr-defined]
    (name,) = saved.names(folder)
    assert load(saved.path_of(folder, name)).facts[0].relation == "P36"


@pytest.mark.usefixtures("folder")
def test_rows_that_cannot_be_used_are_told_one_by_one(open_page: Open) -> None:
    page = upload(open_page(PAGE), BROKEN.encode())
    assert "2 facts can be used" in page.success[0].value
    assert "3 rows were left out" in page.warning[0].value
    frame = table_of(page, "row", "reason").value
    assert frame["row"].tolist() == [3, 4, 6]
    assert "0 `{}`" in frame["reason"][0]
    assert frame["reason"][1] == "subject is blank"
    assert frame["reason"][2] == "a quote is opened and not closed"
    assert frame["reason"].tolist() == [issue.reason for issue in parse(BROKEN.encode(), name="mine.csv").issues]


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"", "empty.csv", "is empty"),
        (b"a,b,c\n1,2,3\n", "other.csv", "has no column subject, prompt, target"),
        (b"subject,prompt,target\nx,no slot,y\n", "none.csv", "holds no usable fact"),
        (b"{", "broken.json", "is not valid JSON"),
        (b'{"a": 1}', "record.json", "CounterFact is a list"),
    ],
)
def test_a_file_that_holds_no_facts_says_why(
    content: bytes, name: str, said: str, open_page: Open, folder: Path
) -> None:
    page = upload(open_page(PAGE), content, name)
    assert not page.exception
    assert said in unescaped(page.error[0].value)
    assert not page.success
    assert saved.names(folder) == ()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("text", [SCRIPT, PICTURE, "[x](javascript:alert(1))"])
def test_an_error_shows_text_of_the_file_as_text(text: str, open_page: Open) -> None:
    page = upload(open_page(PAGE), f"{text},b,c\n1,2,3\n".encode(), f"{text}.csv")
    assert text.lower() in unescaped(page.error[0].value), "it names what it found"
    assert text not in markdown(page)
    assert text.lower() not in markdown(page)


@pytest.mark.usefixtures("folder")
def test_uploaded_text_is_shown_as_text(open_page: Open) -> None:
    rows = [(fact.subject, fact.prompt, fact.target, fact.relation) for fact in HOSTILE]
    page = upload(open_page(PAGE), as_csv(*rows), f"{PICTURE}.csv")
    assert table_of(page, *COLUMNS).value.to_numpy().tolist() == [list(row) for row in rows]
    for text in (SCRIPT, PICTURE, FORMULA):
        assert text not in markdown(page)


def many(count: int) -> bytes:
    return as_csv(*((f"subject {number}", *FRANCE[1:]) for number in range(count)))


def test_more_facts_than_any_page_shows_are_refused(open_page: Open, folder: Path) -> None:
    page = upload(open_page(PAGE), many(saved.MOST_FACTS + 1))
    use_button(page).click().run()  # type: ignore[attr-defined]
    assert not page.exception
    assert "at most 20,000" in unescaped(page.error[0].value)
    assert saved.names(folder) == ()


def test_more_facts_than_every_page_shows_are_kept_for_one_page(open_page: Open, folder: Path) -> None:
    page = upload(open_page(PAGE), many(saved.MOST_ON_EVERY_PAGE + 1))
    assert "more than 2,000 facts" in page.info[0].value
    use_button(page).click().run()  # type: ignore[attr-defined]
    assert not page.exception
    (name,) = saved.names(folder)
    assert page.query_params["facts"] == name
    assert any("this page shows the whole of P, of at most 2,000" in unescaped(info.value) for info in page.info)


def test_a_folder_that_cannot_be_written_to_is_told(open_page: Open, folder: Path) -> None:
    (folder / saved.FOLDER).write_text("a file where the folder should be")
    page = upload(open_page(PAGE), as_csv(FRANCE))
    use_button(page).click().run()  # type: ignore[attr-defined]
    assert not page.exception
    assert page.error


def test_kept_sets_are_listed_and_one_is_used(open_page: Open, folder: Path) -> None:
    first, second = keep(folder, "first", FRANCE), keep(folder, "second", KENYA)
    page = open_page(PAGE, pair="3-7", window="0-64-0-64")
    assert page.selectbox(key="choose-facts").options == [*BUILTIN_SETS, "first", "second"]
    page.button(key=f"use-{second}").click().run()
    assert dict(page.query_params) == {"model": MODEL, "facts": second}, "pair and window were of other facts"
    assert page.button(key=f"use-{second}").disabled
    assert not page.button(key=f"use-{first}").disabled


def test_a_deleted_set_is_gone(open_page: Open, folder: Path) -> None:
    first, second = keep(folder, "first", FRANCE), keep(folder, "second", KENYA)
    page = open_page(PAGE)
    page.button(key=f"delete-{first}").click().run()
    assert saved.names(folder) == (second,)
    assert page.selectbox(key="choose-facts").options == [*BUILTIN_SETS, "second"]
    assert "facts" not in page.query_params


def test_with_the_set_in_use_goes_its_choice(open_page: Open, folder: Path) -> None:
    name = keep(folder, "first", FRANCE)
    page = open_page(PAGE, facts=name)
    page.button(key=f"delete-{name}").click().run()
    assert not page.exception
    assert dict(page.query_params) == {"model": MODEL}
    assert page.selectbox(key="choose-facts").value == "builtin"


def test_a_set_deleted_meanwhile_is_no_error(open_page: Open, folder: Path) -> None:
    name = keep(folder, "first", FRANCE)
    page = open_page(PAGE, facts=name)
    saved.delete(folder, name)
    page.run()
    assert not page.exception
    assert page.selectbox(key="choose-facts").value == "builtin"


@pytest.mark.parametrize("facts", ["builtin", "mixed"])
def test_the_answers_of_the_model_are_told(facts: str, look: Open, stored: Stored) -> None:
    result = stored(facts)
    page = look(PAGE, facts=facts)
    assert f"answers {sum(result.known)} of the {len(result.facts)} facts" in markdown(page)
    frame = table_of(page, "known", "fact", "answer").value
    assert frame["known"].tolist() == list(result.known)
    assert frame["fact"].tolist() == [fact.text for fact in result.facts.facts]
    assert frame["answer"].tolist() == [fact.target for fact in result.facts.facts]
    assert frame["first"].tolist() == [row[0][0] for row in result.answers]
    assert frame["probability"].tolist() == pytest.approx([row[0][1] for row in result.answers])
