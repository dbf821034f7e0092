"""Lifelong where little is there or everything is hostile: layers that cannot be edited, tiny sets, edits by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from kis_core.lifelong import Draw
from pages.parts.frame import state
from pages.parts.frame.text import plain
from tests.pages.conftest import ANSWERED, HOSTILE, ONE_LAYER, SCRIPT, Open
from tests.pages.lifelong_runs import HAND, PICKED, Runs, chart, jobs_of_runs, numbers
from tests.pages.looking import button, captions, charts, html, labels, markdown, table_of, unescaped

Page = Callable[..., AppTest]
EDIT = {"facts": "three", "pair": "0-1", "target": "French", "look": "history"}


def test_the_last_layer_is_refused_with_a_way_out_where_there_is_one(opened: Page, seen: Page) -> None:
    page = opened(layer="3", edits="5")
    assert not charts(page)
    assert "layer 3 is the last one" in unescaped(page.warning[0].value)
    assert not jobs_of_runs()
    button(page, "Edit layer 0 instead").click().run()
    assert "layer" not in page.query_params
    assert charts(page)
    page = seen(model=ONE_LAYER, edits="3")  # fewer than the slider begins with
    assert not charts(page)
    assert "This model has no other" in unescaped(page.warning[0].value)
    assert not labels(page), "there is nothing to run and no way out"


def test_edits_picked_by_hand_come_from_the_link_in_order_and_are_taken_out_again(opened: Page, runs: Runs) -> None:
    page = opened(**HAND)
    facts = runs.bench().facts
    lines = [element.value for element in page.markdown if element.value[:2] in ("1.", "2.")]
    assert [unescaped(line) for line in lines] == [
        f"{number}. {facts[fact].subject}: {facts[fact].target} → **{target}**"
        for number, (fact, target) in enumerate(PICKED, start=1)
    ]
    assert plain(PICKED[1][1]) in lines[1], "what is typed is never markup"
    trace = runs.trace("rome", 2, Draw("hand", picked=PICKED))
    assert [edit[4] for edit in trace.queue] == [target for _, target in PICKED]
    assert sorted({0, 1, *trace.unrelated.tolist()}) == list(range(len(facts)))
    assert chart(page, "Edit after edit").under_mouse()["edits"].max() == 2
    assert f"Of {len(facts) - 2} facts not edited" in captions(page)
    assert "choose-edits" not in [slider.key for slider in page.slider], "there are as many as were picked"
    assert "choose-seed" not in [box.key for box in page.number_input]
    page.button(key="unpick-1").click().run()
    assert page.query_params["queue"] == "0:a %7E 50 %25 [x](y)"
    assert labels(page) == ["", "Forecast the budget", "Run"]
    page.button(key="unpick-0").click().run()
    assert "queue" not in page.query_params
    assert any("No edit picked yet" in info.value for info in page.info)
    assert not labels(page)


def test_the_edit_page_adds_to_the_queue(open_page: Open, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    page = open_page("pages/edit.py", **EDIT)
    button(page, "Add to the queue").click().run()
    assert (page.query_params["queue"], page.query_params["draw"]) == ("0:French", "hand")
    assert button(page, "In the queue").disabled
    links = [link.proto.label for link in page.get("page_link")]
    assert "Lifelong: 1 picked" in links
    page.selectbox(key="edit-target").set_value("Spanish").run()
    button(page, "Add to the queue").click().run()
    assert page.query_params["queue"] == "0:Spanish", "a fact is in the queue once"
    page = open_page("pages/edit.py", **EDIT | {"pair": "2-1", "queue": "0:Spanish"})
    button(page, "Add to the queue").click().run()
    assert page.query_params["queue"] == "0:Spanish~2:French", "at the end"
    page = open_page("pages/edit.py", facts="hostile", pair="1-0", look="history")
    assert button(page, "Add to the queue").disabled, "there is no new object"
    monkeypatch.setattr(state, "MOST_PICKED", 1)
    assert button(open_page("pages/edit.py", **EDIT, queue="2:x"), "Add to the queue").disabled


def test_a_set_whose_only_fact_is_edited_has_no_unrelated_one(opened: Page, runs: Runs) -> None:
    trace = runs.trace("rome", 1, Draw("hand", picked=((0, "French"),)), facts="one")
    assert len(trace.unrelated) == 0
    for look in ("theory", "ages", "weights", "facts", "damage"):
        page = opened(facts="one", draw="hand", queue="0:French", chronicle=look)
        assert not page.error, look
    assert numbers(page)["unrelated right"] == ("–", "after 1 edit")
    assert numbers(page)["half-life"][0].startswith("> ")
    assert any("Every fact of the set is edited" in info.value for info in page.info)


def test_the_facts_the_model_answers_alone(seen: Page, runs: Runs) -> None:
    trace = runs.trace("rome", 1, Draw("hand", picked=((2, "French"),)), facts="mixed", known=True)
    page = seen(facts="mixed", keep="known", draw="hand", queue="2:French")
    assert f"Of {ANSWERED - 1} facts not edited" in captions(page)
    assert len(trace.unrelated) == ANSWERED - 1
    shown = chart(page, "Edit after edit").under_mouse()
    right = (trace.rank[-1] == 1).mean()
    assert shown[(shown["series"] == "unrelated") & (shown["edits"] == 1)]["share"].item() == right


def test_text_of_facts_and_objects_is_never_markup(opened: Page, runs: Runs) -> None:
    picked = ((0, SCRIPT), (1, ":red[a] $x$"))
    runs.trace("rome", 2, Draw("hand", picked=picked), facts="hostile")
    queue = state.CHOICES["queue"].write(picked)
    for look in ("weights", "damage", "facts"):
        page = opened(facts="hostile", draw="hand", queue=queue, chronicle=look)
        assert charts(page), look
        assert SCRIPT not in html(page), look
        for text in (SCRIPT, ":red[a]", "$x$", HOSTILE[1].subject, "javascript:x)"):
            assert text not in markdown(page), (look, text)
    table = table_of(page, "subject", "answer").value
    assert set(table["subject"]) <= {fact.subject for fact in HOSTILE}, "in a table it stands as it is"
    assert SCRIPT in table["answer"].tolist()
