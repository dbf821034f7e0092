"""Superposition: the heatmap, the pair behind a cell, and the ways from pair to pair."""

from __future__ import annotations

import re

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from kis_core.analysis.pipeline import Result
from kis_core.results.pairs import first_shown
from kis_core.superposition.leverage import place_in_text
from kis_core.superposition.matrix import strongest_partner
from kis_core.superposition.ordering import ORDERS, order_facts
from tests import tiny
from tests.pages.conftest import Open, Stored
from tests.pages.looking import captions, charts, click, html

PAGE = "pages/superposition.py"
FOUR_DIGITS = 1e-4  # values are sent with as many


def asked_pair(page: AppTest) -> tuple[int, ...]:
    return tuple(int(part) for part in page.query_params["pair"].split("-"))


def badges(page: AppTest) -> list[str]:
    """The tags that the inspector shows."""
    return re.findall(r":orange-badge\[:material/warning: (.*?)\]", "\n".join(m.value for m in page.markdown))


@pytest.fixture
def mixed(stored: Stored) -> Result:
    return stored("mixed")


def test_a_linked_pair_is_inspected_and_without_one_the_strongest(look: Open, mixed: Result) -> None:
    shown = html(look(PAGE, facts="mixed", pair="0-1", layer="2"))
    assert "<b>Vladimir Mayakovsky</b>" in shown
    assert "<b>Vladimir Bukovsky</b>" in shown
    assert f"{mixed.p[2, 0, 1]:+.3f}" in shown
    assert f"{mixed.p[2, 1, 0]:+.3f}" in shown
    assert all(text in shown for text, _ in mixed.answers[0])
    page = look(PAGE, facts="mixed")
    i, j = first_shown(mixed, 0) or ()
    assert f"edit fact i = {i}<" in html(page)
    assert f"and fact j = {j} suffers" in html(page)
    assert "pair" not in page.query_params, "a suggestion is no choice"


def test_the_inspector_tells_how_large_the_keys_are_and_what_the_pair_s_tags_mean(look: Open, stored: Stored) -> None:
    result, edited = stored(), 92  # "Guyana is a land of": its subject is one token, and the first
    page = look(PAGE, pair=f"{edited}-3")
    assert place_in_text(result.leverage[0, edited], result.text_leverage[0]) in html(page)
    assert f"leverage {result.leverage[0, 3]:,.0f}" in html(page)
    assert badges(page) == ["first token"]
    assert badges(look(PAGE, pair=f"3-{edited}")) == [], "it is a tag of the edited fact"
    in_tooltips = [name for table in charts(page)[0].tables.values() for name in table.get("name", ())]
    assert "Guyana · first token" in in_tooltips
    (at,) = np.flatnonzero(order_facts(result.facts.facts, result.p[0], next(iter(ORDERS)))[0] == edited)
    beside = charts(page)[0].table("x", "y", "mark").set_index("y")["mark"]
    assert "¹" in beside[at + 0.5]
    assert len(beside) == sum(map(bool, result.tags(0).signs))
    assert "Beside rows: ¹ first token" in captions(page)


def test_next_walks_to_a_weaker_pair_and_from_the_weakest_anew(open_page: Open, stored: Stored) -> None:
    ranking = stored("three").ranking(0).tolist()
    page = open_page(PAGE, facts="three", pair="-".join(map(str, ranking[-2])))
    for expected in (ranking[-1], ranking[0]):
        page.button(key="step-Right").click().run()
        assert list(asked_pair(page)) == expected
    page.button(key="step-Left").click().run()
    assert list(asked_pair(page)) == ranking[-1]


def test_searching_one_subject_finds_its_strongest_partner(open_page: Open, mixed: Result) -> None:
    page = open_page(PAGE, facts="mixed")
    _, j = first_shown(mixed, 0) or ()
    page.selectbox(key="edited").select_index(7).run()
    assert asked_pair(page) == (7, j), "the other side stays"
    page.selectbox(key="suffers").set_value(None).run()
    assert asked_pair(page) == (7, strongest_partner(mixed.p[0], 7))


@pytest.mark.parametrize("order", tiny.in_full(ORDERS, ("similarity",)))
def test_a_click_opens_the_pair_under_it_in_every_order(order: str, open_page: Open, mixed: Result) -> None:
    page = open_page(PAGE, facts="mixed", order=order, layer="1")
    chart = charts(page)[0]
    click(page, chart, cell=[{"r": 5, "c": 17}])
    i, j = asked_pair(page)
    facts, _ = order_facts(mixed.facts.facts, mixed.p[1], order)
    assert (i, j) == (facts[5], facts[17])
    drawn = chart.table("r", "c", "p").set_index(["r", "c"])["p"]
    assert abs(drawn[5, 17] - mixed.p[1, i, j]) < FOUR_DIGITS


def test_a_large_matrix_shows_the_surroundings_of_the_pair(open_page: Open, stored: Stored) -> None:
    p = stored("large").p[0]
    page = open_page(PAGE, facts="large", pair="3-130", order="subject")
    whole, detail = charts(page)[:2]
    order = order_facts(stored("large").facts.facts, p, "subject")[0]
    row, column = (int(np.flatnonzero(order == fact)[0]) for fact in (3, 130))
    cells = detail.table("r", "c", "p").set_index(["r", "c"])["p"]
    assert len(cells) < p.size
    assert abs(cells[row, column] - p[3, 130]) < FOUR_DIGITS
    assert len(whole.table("r", "c", "p")) <= 128**2


def test_a_dragged_region_becomes_the_detail(open_page: Open) -> None:
    page = open_page(PAGE, facts="large", pair="3-130")
    click(page, charts(page)[0], brush={"r": [10.2, 29.5], "c": [100, 130]})
    assert page.query_params["window"] == "10-30-100-130"
    cells = charts(page)[1].table("r", "c", "p")
    assert sorted(set(cells["r"])) == list(range(10, 30))
    assert sorted(set(cells["c"])) == list(range(100, 130))
    click(page, charts(page)[1], cell=[{"r": 11, "c": 101}])
    assert page.query_params["window"] == "10-30-100-130", "a click in it stays there"
    assert page.query_params["pair"] != "3-130"
    page.button(key="step-Right").click().run()
    assert "window" not in page.query_params, "a step to a pair leaves it"
