"""Edit a fact: what is to be edited, and what is foreseen of it."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from kis_core import simulator
from kis_core.analysis.pipeline import Result
from kis_core.demo.known import FactBase
from kis_core.models import loading
from kis_core.models.loaded import LoadedModel
from kis_core.results.pairs import strongest_between_subjects
from kis_core.simulator import FORECASTS, share_frame
from kis_core.spillover import landing
from kis_core.superposition.matrix import strongest_partner
from pages.parts.frame import state
from pages.parts.frame.text import plain
from pages.parts.jobs import results
from tests.pages.conftest import MODEL, Open, Stored
from tests.pages.edit_tools import (
    FEW,
    LINEAR,
    SHARE,
    SMALL,
    STORY,
    Alone,
    Edit,
    assert_bars,
    bars,
    button,
    choose,
    finish,
    infos,
    measured,
    perform,
    ringed,
    spillover,
    type_object,
    undo,
)
from tests.pages.looking import (
    captions,
    html,
    table_of,
    unescaped,
)

# What is to be edited


def test_it_opens_with_the_strongest_pair(look_at_edit: Edit, result: Result) -> None:
    page = look_at_edit()
    i, j = strongest_between_subjects(result, 0)[0]
    assert page.selectbox(key="edit-fact").value == i
    assert ringed(spillover(page)) == [j]
    assert "pair" not in page.query_params, "a suggestion is no choice"
    assert not page.exception


def test_it_opens_with_the_picked_pair(look_at_edit: Edit) -> None:
    page = look_at_edit(**STORY)
    assert page.selectbox(key="edit-fact").value == 1
    assert page.selectbox(key="edit-target").value == "French"
    assert ringed(spillover(page)) == [0]
    assert re.search(r"is a native speaker of <s[^>]*>Russian</s> → <b>French</b>", html(page))


def test_a_pair_beyond_the_facts_is_told_and_the_strongest_taken(look_at_edit: Edit, stored: Stored) -> None:
    page = look_at_edit(facts="three", pair="0-50", how=FEW)
    assert "pair “0-50”: there are 3 facts, numbered from 0 to 2" in unescaped(infos(page))
    assert page.selectbox(key="edit-fact").value == strongest_between_subjects(stored("three"), 0)[0][0]


def test_a_fact_chosen_by_the_search_box_changes_pair_and_object(open_edit: Edit, stored: Stored) -> None:
    page = open_edit(**SMALL | {"target": "Polish"}, performed="yes")
    page.selectbox(key="edit-fact").set_value(2).run()
    three = stored("three")
    assert page.query_params["pair"] == f"2-{strongest_partner(three.p[0], 2)}"
    assert "target" not in page.query_params
    facts = three.facts.facts
    assert page.selectbox(key="edit-target").value == FactBase(facts, apart=True).new_objects(facts[2])[0]
    assert sorted(bars(page)["fact"]) == [0, 1]
    assert not measured(page)


def test_objects_of_the_same_relation_are_offered(look_at_edit: Edit, result: Result) -> None:
    page = look_at_edit(**STORY)
    offered = page.selectbox(key="edit-target").options
    facts = result.facts.facts
    others = {fact.target for fact in facts if fact.relation == facts[1].relation} - {facts[1].target}
    assert others <= set(offered)
    assert facts[1].target not in offered
    assert offered == FactBase(facts, apart=True).new_objects(facts[1])[: len(offered)]
    assert look_at_edit(pair="1-0").selectbox(key="edit-target").value == offered[0], "the first is suggested"


def test_an_object_chosen_or_typed_is_edited_in(open_edit: Edit, small: Callable[..., Alone]) -> None:
    page = open_edit(**SMALL)
    type_object(page, "  Klingon ")
    assert page.query_params["target"] == "Klingon"
    assert "→ <b>Klingon</b>" in html(page)
    assert page.selectbox(key="edit-target").options[0] == "Klingon"
    assert_bars(page, small("Klingon").frame())
    type_object(page, "x" * 500)
    assert page.query_params["target"] == "x" * state.MOST_WORDS


def test_without_an_object_it_is_told_what_to_do(look_at_edit: Edit, stored: Stored) -> None:
    page = look_at_edit(facts="hostile", pair="1-0")
    assert page.selectbox(key="edit-target").value is None
    assert "Type a new object" in infos(page)
    assert_bars(page, share_frame(stored("hostile"), 0, 1))
    assert button(page, "Perform the edit").disabled


@pytest.mark.parametrize("look", ["layers", "search"])
def test_the_object_it_has_is_told_in_every_look(look: str, open_edit: Edit, stored: Stored) -> None:
    page = open_edit(**SMALL | {"target": "Russian", "look": look}, performed="yes")
    assert not page.exception
    assert not page.error
    assert "That is the object it has" in infos(page)
    assert "performed" not in page.query_params
    assert_bars(page, share_frame(stored("three"), 0, 0))
    assert button(page, "Perform the edit").disabled
    assert button(page, "Undo").disabled


def test_blanks_around_an_object_do_not_make_it_another(open_edit: Edit) -> None:
    page = open_edit(**SMALL | {"target": " Russian "})
    assert "That is the object it has" in infos(page)


def test_blanks_are_no_object(open_edit: Edit) -> None:
    page = open_edit(**SMALL | {"target": "   "})
    assert not page.error
    assert page.selectbox(key="edit-target").value != "   "


# What is foreseen


@pytest.mark.parametrize(("by", "layer"), [("all", 0), ("subject", 1), ("shift", 2)])
def test_bars_are_the_librarys_forecast(by: str, layer: int, look_at_edit: Edit, small: Callable[..., Alone]) -> None:
    page = look_at_edit(**SMALL, by=by, layer=str(layer))
    edit = small(layer=layer)
    assert_bars(page, edit.frame(by))
    domain = spillover(page).domains("y")[0]
    assert domain == pytest.approx(simulator.span(edit.forecast, 0, by, None), rel=LINEAR)
    assert not measured(page)


def test_the_shift_is_p_times_the_size_of_the_edit(look_at_edit: Edit, alone: Callable[..., Alone]) -> None:
    edit = alone()
    page = look_at_edit(**STORY, by="shift")
    assert "from against δ to along it" in captions(page)
    assert "exact, eq. 11)" in captions(page)
    shown = bars(page)
    p = edit.bench.result.p[0, 1, shown["fact"]]
    np.testing.assert_allclose(
        shown["forecast"], p * edit.forecast.edit.size, rtol=0, atol=SHARE * edit.forecast.edit.size
    )
    np.testing.assert_array_equal(shown["p"], p)


def test_the_forecast_follows_the_strength_in_proportion_on_one_axis(open_edit: Edit) -> None:
    page = open_edit(**SMALL)
    full, axis = bars(page).set_index("fact")["forecast"], spillover(page).domains("y")[0]
    for strength in (0.5, 1.5):
        page = choose(page, "strength", strength)
        assert page.query_params["strength"] == f"{strength:g}"
        shown = bars(page).set_index("fact")["forecast"]
        np.testing.assert_allclose(shown[full.index], strength * full, rtol=LINEAR)
        assert spillover(page).domains("y")[0] == axis
        assert f"at strength {strength:g}" in captions(page)


@pytest.mark.parametrize("method", ["r-rome", "identity"])
def test_another_method_makes_another_edit(method: str, look_at_edit: Edit, small: Callable[..., Alone]) -> None:
    page = look_at_edit(**SMALL, by="shift", method=method)
    edit = small(method=method)
    assert_bars(page, edit.frame("shift"))
    rome = small().frame("shift").set_index("fact")["forecast"]
    shown = bars(page).set_index("fact")["forecast"]
    assert not np.isclose(shown, rome[shown.index], rtol=0.01).any()
    assert "a share of its own" in captions(page), "and it is said that it is not P"


def test_with_c_left_out_the_edit_spills_along_plain_similarity(
    look_at_edit: Edit, small: Callable[..., Alone]
) -> None:
    edit = small(method="identity")
    keys = edit.bench.sensitivity(0).subject_keys.astype(np.float64)
    q = keys[0] @ keys.T / (keys[0] @ keys[0])
    shown = bars(look_at_edit(**SMALL, by="shift", method="identity"))
    size = edit.forecast.edit.size
    np.testing.assert_allclose(shown["forecast"], q[shown["fact"]] * size, rtol=SHARE)


def test_answers_that_will_change_are_named(look_at_edit: Edit, alone: Callable[..., Alone]) -> None:
    told = alone().frame(strength=1.5)
    coming = told[told["flips_foretold"] != ""]
    caption = unescaped(captions(look_at_edit(**STORY, strength="1.5")))
    first = [f"{row.subject} → {row.flips_foretold}" for row in coming.head(6).itertuples()]
    assert f"Answers forecast to change: {', '.join(first)} and {len(coming) - 6} more." in caption
    assert "No answer is forecast to change" in captions(look_at_edit(**STORY, strength="0"))


def test_what_needs_the_edit_is_foreseen_after_it(open_edit: Edit, small: Callable[..., Alone]) -> None:
    page = open_edit(**SMALL, by="propagated")
    without = [label for name, label in FORECASTS.items() if name != "propagated"]
    assert page.segmented_control(key="choose-by").options == without
    assert "by" not in page.query_params, "another one is shown in its place"
    page = choose(perform(page), "by", "propagated")
    assert_bars(page, small().frame("propagated", performed=True))
    page = undo(page)
    assert page.segmented_control(key="choose-by").options == without
    assert_bars(page, small().frame())


def test_a_model_of_some_size_is_loaded_only_when_asked(
    open_page: Open, stored: Stored, small: Callable[..., Alone], model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load", lambda *_, **__: model)
    page = open_page("pages/edit.py", **SMALL | {"target": "Esperanto"})
    assert not page.exception
    assert plain(MODEL) in infos(page)
    assert_bars(page, share_frame(stored("three"), 0, 0))
    assert "exact and known without the model" in captions(page)
    assert button(page, "Perform the edit").disabled
    assert not results.runner()._jobs
    button(page, "Get the forecast").click().run()
    finish()
    page.run()
    assert_bars(page, small("Esperanto").frame())
    assert not button(page, "Perform the edit").disabled


def test_layers_are_tried_only_when_asked_where_that_loads_a_model_of_some_size(
    open_page: Open, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load", lambda *_, **__: model)
    page = open_page("pages/edit.py", **SMALL | {"look": "layers"}, layer="3")
    assert plain(MODEL) in infos(page)
    assert not results.runner()._jobs
    button(page, "Try the layers").click().run()
    finish()
    assert table_of(page.run(), "layer", "probability").value["layer"].tolist() == [0, 1, 2]


def test_an_edit_that_lands_many_times_over_is_warned_of_under_its_forecast(
    open_edit: Edit, small: Callable[..., Alone], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not open_edit(**SMALL).warning
    monkeypatch.setattr(landing, "MANY_TIMES", 1e-3)  # of a demo model's edits far less lands elsewhere
    page = open_edit(**SMALL)
    one = small()
    (said,) = one.bench.warnings(one.forecast)
    assert [warning.value for warning in page.warning] == [plain(said)]
    assert "This edit lands on “" in said
