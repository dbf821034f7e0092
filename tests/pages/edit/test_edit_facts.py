"""Edit a fact whatever the facts: hostile text, few and many, of one key."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from pages.parts.frame import state
from tests import tiny
from tests.pages.conftest import HOSTILE, SCRIPT
from tests.pages.edit_tools import FEW, LINEAR, SHARE, Edit, bars, infos, measured
from tests.pages.looking import (
    charts,
    html,
    markdown,
    unescaped,
)

LOOKS = state.LOOKS


@pytest.mark.parametrize("look", tiny.in_full(LOOKS, ("pair", "table", "history")))
def test_text_of_users_is_shown_as_text(look: str, open_edit: Edit) -> None:
    page = open_edit(facts="hostile", pair="0-1", target=SCRIPT, how=FEW, performed="yes", look=look)
    assert not page.exception
    assert not page.error
    assert bars(page)["measured"].notna().all()
    as_text(page, SCRIPT)


@pytest.mark.parametrize("target", ["![x](http://e) :red[a] $x$", "=cmd()|' /C calc'!A0 **a** `b` <b>c</b>"])
def test_a_typed_object_is_shown_as_text(target: str, open_edit: Edit) -> None:
    page = open_edit(facts="hostile", pair="3-1", how=FEW, look="history", performed="yes", target=target)
    assert not page.exception
    assert page.query_params["target"] == target
    as_text(page, target)
    assert f"→ {target}**" in unescaped(page.button(key="edit-0").label), "there all the same"


def as_text(page: AppTest, target: str) -> None:
    shown, read = html(page), markdown(page) + page.selectbox(key="edit-target").label
    assert "<script" not in shown
    for text in (target, *(text for fact in HOSTILE for text in (fact.subject, fact.text, fact.target))):
        assert not re.search(rf"(?<!\\){re.escape(text)}", read), "with its marks disarmed, or not at all"
    for chart in charts(page):
        for name in ("href", "url"):
            assert f'"{name}"' not in json.dumps(chart.spec)


@pytest.mark.parametrize(
    ("facts", "others", "look"),
    [
        ("two", [1], "scatter"),
        ("constant", [1, 2, 3], "scatter"),
        ("large", [*range(1, 140)], "table"),
    ],
)
def test_any_number_of_facts_is_measured(facts: str, others: list[int], look: str, open_edit: Edit) -> None:
    page = open_edit(facts=facts, pair="0-1", target="French", how=FEW, performed="yes", look=look)
    assert not page.exception
    assert not page.error
    assert measured(page)
    assert sorted(bars(page)["fact"]) == others


def test_facts_of_one_key_are_moved_alike(look_at_edit: Edit) -> None:
    page = look_at_edit(facts="constant", pair="0-1", target="French", how=FEW, performed="yes", by="shift")
    shown = bars(page)
    np.testing.assert_allclose(shown["p"], 1.0, rtol=LINEAR)
    np.testing.assert_allclose(shown["forecast"], shown["forecast"][0], rtol=SHARE)
    np.testing.assert_allclose(shown["measured"], shown["forecast"], rtol=SHARE)


def test_of_a_single_fact_there_is_nothing_to_foresee(look_at_edit: Edit) -> None:
    page = look_at_edit(facts="one", target="French", performed="yes")
    assert not page.exception
    assert "a single fact" in infos(page)
    assert not charts(page)
