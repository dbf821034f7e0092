"""Network: links from a least |P| on, a click on a fact or a link, and an edit that lights up whom it hits."""

from __future__ import annotations

import numpy as np
import pytest

from kis_core.analysis.pipeline import Result
from kis_core.results import network, pairs
from kis_core.store.shipped import FOLDER, VARIABLE
from tests.pages.conftest import LAYERS, NOT_COMPUTED, Open
from tests.pages.looking import captions, charts, choose, click, html, labels, listed, pairs_of, press

PAGE = "pages/network.py"
LINKS, FACTS = ("x", "y", "x2", "y2"), ("x", "y", "told", "group")


def test_it_draws_the_links_of_the_layer_and_the_least_size_is_chosen_and_kept(open_page: Open, result: Result) -> None:
    page = open_page(PAGE, layer="1")
    usual = network.usual_least(result, 1)
    expected, count = network.links(result, 1, network.places(result), usual)
    drawn = charts(page)[0].table(*LINKS)
    assert pairs_of(drawn) == pairs_of(expected)
    np.testing.assert_allclose(drawn[list(LINKS)], expected[list(LINKS)])
    assert set(drawn["sign"]) == {"positive", "negative"} or (expected["p"] > 0).all()
    assert f"{count} links with |P| of {usual:g} or more" in captions(page)
    assert pairs_of(listed(page)) == pairs_of(pairs.table(result, 1, count=12, tags=["no tag"]))
    assert "least" not in page.query_params
    choose(page, "least", 0.05)
    assert page.query_params["least"] == "0.05"
    count = network.links(result, 1, network.places(result), 0.05)[1]
    assert count > network.MOST_LINKS == len(charts(page)[0].table(*LINKS))
    assert f"The strongest {network.MOST_LINKS} of {count:,} links" in captions(page)


def test_a_click_on_a_link_picks_its_pair_and_one_on_a_fact_whom_it_reaches(open_page: Open, result: Result) -> None:
    page = open_page(PAGE)
    chart = charts(page)[0]
    i, j = pairs_of(chart.table(*LINKS))[3]
    click(page, chart, link=[{"i": i, "j": j}])
    assert page.query_params["pair"] == f"{i}-{j}"
    assert f"{result.p[0, i, j]:+.3f}" in html(page)
    shown = charts(page)[0]
    lit = shown.table(*LINKS)
    assert set(pairs_of(lit[lit["lit"]])) <= {(i, j), (j, i)}
    assert sorted(shown.ringed()["fact"]) == sorted((i, j))

    click(page, shown, link=[{"i": i, "j": i}])
    assert page.query_params["pair"] == f"{i}-{i}"
    lit = charts(page)[0].table(*LINKS)
    assert set(lit[lit["lit"]]["i"]) <= {i}
    row = np.delete(result.p[0, i], i)
    np.testing.assert_allclose(listed(page)["p"].abs(), np.sort(np.abs(row))[::-1][:12])

    click(page, charts(page)[0], link=[{"i": None, "j": None}])
    assert page.query_params["pair"] == f"{i}-{i}", "nothing lies there"
    press(page, "The whole network")
    assert "pair" not in page.query_params


def test_facts_stand_in_the_same_place_in_every_layer(look: Open) -> None:
    pages = (look(PAGE, **link) for link in ({}, {"layer": str(LAYERS - 1)}))
    first, last = (
        next(table for table in charts(page)[0].tables.values() if set(FACTS) <= set(table.columns) and len(table))
        for page in pages
    )
    np.testing.assert_array_equal(first[["x", "y"]], last[["x", "y"]])


@pytest.mark.skipif(not FOLDER.is_dir(), reason="nothing comes with the program yet")
def test_a_kept_edit_lights_up_whom_it_hits(open_page: Open, folder: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(FOLDER))
    page = open_page(PAGE, model=NOT_COMPUTED)
    (label,) = (label for label in labels(page) if label.startswith("Light up an edit"))
    press(page, label)
    assert page.query_params["pair"] == "1-1"
    hit = charts(page)[0].table("disc", "ring").set_index("fact")
    assert len(hit) > 1
    assert (hit["disc"] == hit["measured"].abs().fillna(0)).all()
    assert "disc measured, dashed ring forecast" in captions(page)
    choose(page, "lights", False)
    assert page.query_params["lights"] == "off"
    assert not charts(page)[0].holds("disc")
