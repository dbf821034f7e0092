"""Top pairs: the list is `pairs.table` under the chosen filters, and those that stay are `pairs.that_stay`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kis_core.analysis.pipeline import Result
from kis_core.results import pairs, published
from tests.pages.conftest import ANSWERED, LAYERS, ONE_LAYER, Open, Stored
from tests.pages.looking import captions, click_cell, listed, marked, notes, pairs_of, table_of, unescaped

PAGE = "pages/top_pairs.py"
FILTERS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "number": ({"k": "7"}, {"count": 7}),
    "one direction": ({"directions": "merged"}, {"merge": True}),
    "relations": (
        {"relations": "native_language~product_maker"}, {"relations": ["native_language", "product_maker"]}
    ),
    "tag": ({"tags": "same last token"}, {"tags": ["same last token"]}),
    "no tag": ({"tags": "no tag"}, {"tags": ["no tag"]}),
    "text": ({"find": "vladimir"}, {"text": "vladimir"}),
    "layer": ({"layer": "2", "k": "20"}, {"layer": 2, "count": 20}),
    "all": (
        {"k": "30", "directions": "merged", "relations": "native_language", "tags": "same subject~no tag",
         "find": "is"},
        {"count": 30, "merge": True, "relations": ["native_language"], "tags": ["same subject", "no tag"],
         "text": "is"},
    ),
}  # fmt: skip
PICKED_ROW = 4


@pytest.mark.parametrize("name", FILTERS)
def test_the_list_is_the_table_under_the_filters_of_the_link(name: str, look: Open, result: Result) -> None:
    link, options = FILTERS[name]
    expected = pairs.table(result, **{"layer": 0, "count": 100} | options)
    frame = listed(look(PAGE, **link))
    assert len(expected) > 0
    assert pairs_of(frame) == pairs_of(expected)
    for column in ("rank", "p", "p_back", "whitened_angle"):
        np.testing.assert_allclose(frame[column], expected[column])
    for column in ("edited", "suffers", "tags", "relation_i", "relation_j"):
        assert frame[column].tolist() == expected[column].tolist()


def test_the_values_are_those_of_p(look: Open, result: Result) -> None:
    frame = listed(look(PAGE))
    i, j = frame["i"].to_numpy(), frame["j"].to_numpy()
    np.testing.assert_allclose(frame["p"], result.p[0][i, j])
    np.testing.assert_allclose(frame["p_back"], result.p[0][j, i])
    strongest = np.sort(np.abs(result.p[0][~np.eye(len(result.facts), dtype=bool)]))[::-1][:100]
    np.testing.assert_allclose(np.abs(frame["p"]), strongest)


def test_filters_are_set_by_their_widgets(open_page: Open, result: Result) -> None:
    page = open_page(PAGE)
    page.number_input(key="choose-k").set_value(12).run()
    page.text_input(key="choose-find").set_value("Vladimir").run()
    page.multiselect(key="choose-tags").set_value(["no tag"]).run()
    page.toggle(key="choose-directions").set_value(True).run()
    assert {name: page.query_params[name] for name in ("k", "find", "tags", "directions")} == {
        "k": "12", "find": "Vladimir", "tags": "no tag", "directions": "merged",
    }  # fmt: skip
    expected = pairs.table(result, 0, count=12, text="Vladimir", tags=["no tag"], merge=True)
    assert pairs_of(listed(page)) == pairs_of(expected)


def test_relations_that_the_facts_have_not_are_told_and_the_others_kept(open_page: Open, result: Result) -> None:
    page = open_page(PAGE, relations="no_such~native_language")
    (note,) = notes(page)
    assert "relations “no_such~native_language”: relations of these facts are" in unescaped(note)
    assert "the others that are asked for count" in note
    assert page.query_params["relations"] == "native_language"
    assert pairs_of(listed(page)) == pairs_of(pairs.table(result, 0, count=100, relations=["native_language"]))


def test_filters_that_nothing_fits_are_told(open_page: Open) -> None:
    page = open_page(PAGE, find="no such words anywhere")
    assert not page.exception
    assert "No pair fits" in page.info[0].value


def test_the_picked_pair_is_marked_and_no_other(look: Open, result: Result) -> None:
    i, j = pairs.table(result, 0, count=10)[["i", "j"]].iloc[PICKED_ROW].tolist()
    assert marked(look(PAGE, pair=f"{i}-{j}")) == [(i, j)]
    assert not marked(look(PAGE, pair="3-3"))


def test_a_click_on_a_row_picks_its_pair(open_page: Open, result: Result) -> None:
    page = open_page(PAGE, directions="merged")
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


def expected_between_models(results: Sequence[Result], layer: int) -> pd.DataFrame:
    return pairs.that_stay([one.p[layer] for one in results], [one.request.model for one in results], 100)


@pytest.mark.parametrize("facts", ["builtin", "mixed"])
def test_pairs_that_stay_from_model_to_model(facts: str, look: Open, stored: Stored) -> None:
    frame = listed(look(PAGE, list="stay", stay="models", facts=facts))
    expected = expected_between_models([stored(facts, model=ONE_LAYER), stored(facts)], 0)
    assert pairs_of(frame) == pairs_of(expected)[: len(frame)]
    assert frame["times"].max() == 2


def test_pairs_that_stay_among_the_answered_facts(look: Open, stored: Stored) -> None:
    page = look(PAGE, list="stay", stay="models", facts="mixed", keep="known")
    answered = [stored("mixed", model=model).subset(range(ANSWERED), "answered") for model in (ONE_LAYER,)]
    answered.append(stored("mixed").subset(range(ANSWERED), "answered"))
    frame = listed(page)
    assert pairs_of(frame) == pairs_of(expected_between_models(answered, 0))[: len(frame)]


@pytest.mark.parametrize(
    "link",
    [
        {"model": ONE_LAYER, "list": "stay"},
        {"facts": "three", "list": "stay", "stay": "models"},
        {"layer": "2", "list": "stay", "stay": "models"},
    ],
)
def test_where_there_is_nothing_to_compare_it_is_told(link: dict[str, str], open_page: Open) -> None:
    page = open_page(PAGE, **link)
    assert not page.exception
    assert page.info
    assert len(page.dataframe) == 0


def test_the_papers_list_is_for_the_papers_models(open_page: Open, result: Result) -> None:
    page = open_page(PAGE, list="paper")
    assert not page.exception
    assert pairs_of(listed(page)) == pairs_of(pairs.table(result, 0, count=100))
    assert "list" not in page.query_params
    assert len(page.segmented_control(key="choose-list").options) == 2


def test_published_values_stand_beside_those_computed(
    open_page: Open, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = pd.DataFrame({"i": [3, 9], "j": [7, 2], "published": ["0.50", "-0.25"], "source": ["a", "b"]})
    monkeypatch.setattr(published, "pairs", lambda *_: theirs)
    frame = listed(open_page(PAGE, list="paper"))
    assert pairs_of(frame) == [(3, 7), (9, 2)]
    assert frame["p"].tolist() == pytest.approx([result.p[0, 3, 7], result.p[0, 9, 2]])
    assert frame["published"].tolist() == ["0.50", "-0.25"]
