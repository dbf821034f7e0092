"""Superposition: the heatmap, the pair behind a cell, and the ways from pair to pair."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kis_core.analysis.pipeline import Result
from kis_core.results.pairs import strongest_between_subjects
from kis_core.superposition.matrix import strongest_partner
from kis_core.superposition.ordering import ORDERS, order_facts
from tests.pages.conftest import Open, Stored
from tests.pages.looking import captions, charts, click, html, notes, unescaped

PAGE = "pages/superposition.py"
FOUR_DIGITS = 1e-4  # values are sent with as many


def asked_pair(page: object) -> tuple[int, ...]:
    return tuple(int(part) for part in page.query_params["pair"].split("-"))  # type: ignore[attr-defined]


def test_a_linked_pair_is_inspected(open_page: Open, result: Result) -> None:
    page = open_page(PAGE, pair="0-1", layer="2")
    shown = html(page)
    assert "<b>Vladimir Mayakovsky</b>" in shown
    assert "<b>Vladimir Bukovsky</b>" in shown
    assert f"{result.p[2, 0, 1]:+.3f}" in shown
    assert f"{result.p[2, 1, 0]:+.3f}" in shown
    assert all(text in shown for text, _ in result.answers[0])


def test_without_a_pair_the_strongest_one_is_shown(look: Open, result: Result) -> None:
    page = look(PAGE)
    i, j = strongest_between_subjects(result, 0)[0]
    assert f"edit fact i = {i}<" in html(page)
    assert f"and fact j = {j} suffers" in html(page)
    assert "pair" not in page.query_params, "a suggestion is no choice"


def test_artefacts_are_tagged(open_page: Open, result: Result) -> None:
    i, j = next(zip(*result.same_subject.nonzero(), strict=True))
    page = open_page(PAGE, pair=f"{i}-{j}")
    assert any("same subject" in element.proto.body for element in page.markdown)


def test_the_diagonal_is_labelled(open_page: Open) -> None:
    page = open_page(PAGE, pair="3-3")
    assert any("diagonal" in element.proto.body for element in page.markdown)


def test_next_walks_to_a_weaker_pair_and_writes_the_link(open_page: Open, result: Result) -> None:
    page = open_page(PAGE, pair="0-1")
    before = abs(result.p[0, 0, 1])
    page.button(key="step-Right").click().run()
    i, j = asked_pair(page)
    assert 0 < abs(result.p[0, i, j]) <= before
    page.button(key="step-Left").click().run()
    assert page.query_params["pair"] == "0-1"


def test_from_the_weakest_pair_the_walk_begins_anew(open_page: Open, stored: Stored) -> None:
    ranking = stored("three").ranking(0).tolist()
    page = open_page(PAGE, facts="three", pair="-".join(map(str, ranking[-1])))
    page.button(key="step-Right").click().run()
    assert list(asked_pair(page)) == ranking[0]


def test_searching_one_subject_finds_its_strongest_partner(open_page: Open, result: Result) -> None:
    page = open_page(PAGE)
    _, j = strongest_between_subjects(result, 0)[0]
    page.selectbox(key="edited").select_index(7).run()
    assert asked_pair(page) == (7, j), "the other side stays"
    page.selectbox(key="suffers").set_value(None).run()
    assert asked_pair(page) == (7, strongest_partner(result.p[0], 7))


@pytest.mark.parametrize("order", ORDERS)
def test_a_click_opens_the_pair_under_it_in_every_order(order: str, open_page: Open, result: Result) -> None:
    page = open_page(PAGE, order=order, layer="1")
    chart = charts(page)[0]
    click(page, chart, cell=[{"r": 5, "c": 17}])
    i, j = asked_pair(page)
    facts, _ = order_facts(result.facts.facts, result.p[1], order)
    assert (i, j) == (facts[5], facts[17])
    drawn = chart.table("r", "c", "p").set_index(["r", "c"])["p"]
    assert abs(drawn[5, 17] - result.p[1, i, j]) < FOUR_DIGITS


def test_hiding_the_diagonal_takes_it_out_of_the_chart(open_page: Open, look: Open) -> None:
    shown, hidden = (charts(page)[0].table("r", "c", "p") for page in (look(PAGE), open_page(PAGE, diagonal="hidden")))
    assert len(shown) - len(hidden) == 128
    assert (hidden["r"] != hidden["c"]).all()


def test_colour_limits_are_stated(open_page: Open, result: Result) -> None:
    page = open_page(PAGE, limit="0.1")
    beyond = int((abs(result.p[0]) > 0.1).sum()) - len(result.facts)
    assert f"±0.1; {beyond} of 16,256" in captions(page)
    assert "[-0.1, 0.1]" in json.dumps(charts(page)[0].spec)


@pytest.mark.parametrize("pair", ["0-5000", "128-0", "0-128"])
def test_a_pair_beyond_the_facts_is_told(pair: str, open_page: Open) -> None:
    page = open_page(PAGE, pair=pair)
    (note,) = notes(page)
    assert f"pair “{pair}”: there are 128 facts, numbered from 0 to 127" in unescaped(note)


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


def test_a_click_in_a_dragged_region_stays_there(open_page: Open) -> None:
    page = open_page(PAGE, facts="large", window="10-30-100-130")
    click(page, charts(page)[1], cell=[{"r": 11, "c": 101}])
    assert page.query_params["window"] == "10-30-100-130"
    assert "pair" in page.query_params


def test_a_step_to_a_pair_leaves_a_dragged_region(open_page: Open) -> None:
    page = open_page(PAGE, facts="large", window="10-30-100-130")
    page.button(key="step-Right").click().run()
    assert "window" not in page.query_params
