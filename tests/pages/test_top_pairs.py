"""Top pairs: the list is `pairs.table` under the chosen filters, and those that stay are `pairs.that_stay`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from kis_core.analysis.pipeline import Result
from kis_core.results import pairs, published
from kis_core.results.pairs import first_shown
from tests.pages.conftest import ANSWERED, LAYERS, MODEL, ONE_LAYER, Open, Stored
from tests.pages.looking import captions, choose, click_cell, listed, marked, pairs_of, table_of

PAGE = "pages/top_pairs.py"
FILTERS: tuple[tuple[dict[str, str], dict[str, Any]], ...] = (
    ({}, {}),
    ({"layer": "2", "k": "20", "tags": "same last token"}, {"layer": 2, "count": 20, "tags": ["same last token"]}),
    ({"find": "vladimir"}, {"text": "vladimir"}),
    (
        {"k": "30", "directions": "merged", "relations": "native_language~product_maker", "find": "is",
         "tags": "same subject~no tag"},
        {"count": 30, "merge": True, "relations": ["native_language", "product_maker"], "text": "is",
         "tags": ["same subject", "no tag"]},
    ),
)  # fmt: skip
PICKED_ROW = 4


@pytest.mark.parametrize(("link", "options"), FILTERS)
def test_the_list_is_the_filtered_table(
    link: dict[str, str], options: dict[str, Any], look: Open, result: Result
) -> None:
    expected = pairs.table(result, **{"layer": 0, "count": 100} | options)
    frame = listed(look(PAGE, **link))
    assert len(expected) > 0
    assert pairs_of(frame) == pairs_of(expected)
    for column in ("rank", "p", "p_back", "whitened_angle"):
        np.testing.assert_allclose(frame[column], expected[column])
    for column in ("edited", "suffers", "tags", "relation_i", "relation_j"):
        assert frame[column].tolist() == expected[column].tolist()
    if not link:
        strongest = np.sort(np.abs(result.p[0][~np.eye(len(result.facts), dtype=bool)]))[::-1][:100]
        np.testing.assert_allclose(np.abs(frame["p"]), strongest)


def test_filters_are_set_by_their_widgets(open_page: Open, result: Result) -> None:
    page = open_page(PAGE)
    page.text_input(key="choose-find").set_value("no such words anywhere").run()
    assert "No pair fits" in page.info[0].value
    page.text_input(key="choose-find").set_value("Vladimir").run()
    for name, value in (("k", 12), ("tags", ["no tag"]), ("directions", True)):
        choose(page, name, value)
    link = {"model": MODEL, "k": "12", "find": "Vladimir", "tags": "no tag", "directions": "merged"}
    assert dict(page.query_params) == link
    expected = pairs.table(result, 0, count=12, text="Vladimir", tags=["no tag"], merge=True)
    assert pairs_of(listed(page)) == pairs_of(expected)


def test_a_click_on_a_row_picks_its_pair_and_marks_no_other(open_page: Open, look: Open, result: Result) -> None:
    i, j = first_shown(result, 0) or ()
    page = look(PAGE)
    assert marked(page) == [(i, j)], "that is suggested before the first click"
    assert "pair" not in page.query_params, "a suggestion is no choice"
    page = open_page(PAGE, directions="merged", pair="3-3")
    assert not marked(page)
    click_cell(page, table_of(page, "picked", "i", "j"), PICKED_ROW, "suffers")
    i, j = pairs.table(result, 0, count=10, merge=True)[["i", "j"]].iloc[PICKED_ROW].tolist()
    assert page.query_params["pair"] == f"{i}-{j}"
    assert marked(page) == [(i, j)]


def test_pairs_that_stay_from_layer_to_layer(look: Open, result: Result) -> None:
    page = look(PAGE, list="stay", k="50")
    expected = pairs.that_stay(result.p, [str(layer) for layer in result.layers], 50)
    frame = listed(page)
    assert pairs_of(frame) == pairs_of(expected)[: len(frame)]
    assert frame["times"].tolist() == expected["times"].tolist()[: len(frame)]
    np.testing.assert_allclose(frame["mean"], expected["mean"][: len(frame)])
    assert frame["trend"].iloc[0] == pytest.approx(result.p[:, frame["i"].iloc[0], frame["j"].iloc[0]].tolist())
    everywhere = int((expected["times"] == LAYERS).sum())
    assert f"{everywhere} ordered pairs are among the strongest 50 of every layer" in captions(page)


def test_pairs_of_answered_facts_that_stay_from_model_to_model(look: Open, stored: Stored) -> None:
    results = [stored("mixed", model=model) for model in (ONE_LAYER, MODEL)]
    expected = pairs.that_stay([result.p[0, :ANSWERED, :ANSWERED] for result in results], [ONE_LAYER, MODEL], 100)
    frame = listed(look(PAGE, list="stay", stay="models", facts="mixed", keep="known"))
    assert pairs_of(frame) == pairs_of(expected)[: len(frame)]
    assert frame["times"].max() == 2


def test_published_values_stand_beside_those_computed(
    open_page: Open, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page(PAGE, list="paper")
    assert pairs_of(listed(page)) == pairs_of(pairs.table(result, 0, count=100)), "of other models there are none"
    assert "list" not in page.query_params
    assert len(page.segmented_control(key="choose-list").options) == 2
    theirs = pd.DataFrame({"i": [3, 9], "j": [7, 2], "GPT-J (Table 4)": ["0.50", None], "heatmaps": [None, "-0.25"]})
    monkeypatch.setattr(published, "pairs", lambda *_: theirs)
    page = open_page(PAGE, list="paper")
    frame = listed(page)
    assert pairs_of(frame) == [(3, 7), (9, 2)]
    assert frame["p"].tolist() == pytest.approx([result.p[0, 3, 7], result.p[0, 9, 2]])
    pd.testing.assert_frame_equal(frame[["GPT-J (Table 4)", "heatmaps"]], theirs[["GPT-J (Table 4)", "heatmaps"]])
    said = captions(page)
    assert "computed here, beside what the paper’s authors published: GPT-J (Table 4), heatmaps." in said
    assert "2 published pairs of facts that are here." in said
