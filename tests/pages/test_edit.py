"""Edit a fact: what is chosen, foreseen, performed and undone; who sees it; and what if something is missing."""

from __future__ import annotations

import gc
import json
import re
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from kis_core import pipeline, simulator
from kis_core.editing import objects_of_relation
from kis_core.models import catalog, loading
from kis_core.models.files import ModelError
from kis_core.models.loading import LoadedModel
from kis_core.pairs import reach_of_edits, strongest_between_subjects
from kis_core.pipeline import Result
from kis_core.simulator import FORECASTS, EditRequest, Forecast, Outcome, Simulator, share_frame, spill_frame
from kis_core.spillover import FEW_FLIPS, measurement
from kis_core.spillover import forecast as forecasts
from kis_core.store import Store
from kis_core.superposition import strongest_partner
from pages.parts import bench as benches
from pages.parts import results, state
from pages.parts.text import plain
from tests.pages.conftest import ANSWERED, HOSTILE, LAYERS, MODEL, ONE_LAYER, SCRIPT, SECONDS, Cache, Open, Stored
from tests.pages.looking import (
    Chart,
    captions,
    charts,
    click,
    click_cell,
    html,
    markdown,
    pairs_of,
    table_of,
    unescaped,
)
from tests.unit.results_tools import made

LOOKS = state.LOOKS
STORY = {
    "pair": "1-0",
    "target": "French",
    "look": "history",
}  # Bukovsky speaks French; Mayakovsky ends in the same token
STEPS = 3  # of a search, where any δ will do
FEW = f"steps:{STEPS}"
USUAL = {"facts": "three", "pair": "0-1", "target": "French", "look": "history"}
SMALL = USUAL | {"how": FEW}
LINEAR = 1e-12  # relative: float64, multiplied in another order
SHARE = 1e-5  # relative: keys read in float32 in batches of other shapes
DONE = "Diamonds are measured"

AS_ON_A_SERVER = benches._simulator  # before the tests share it

Edit = Callable[..., AppTest]


@dataclass(frozen=True)
class Alone:
    """An edit by the library alone, beside the page."""

    bench: Simulator
    request: EditRequest

    @property
    def forecast(self) -> Forecast:
        return self.bench.forecast(self.request)

    def outcome(self, strength: float = 1.0) -> Outcome:
        return self.bench.perform(self.request, strength)

    def frame(self, by: str = "all", strength: float = 1.0, *, performed: bool = False) -> pd.DataFrame:
        outcome = self.outcome(strength) if performed else None
        return spill_frame(self.bench, self.request.fact, self.forecast, by, strength, outcome)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    """The demo model, loaded apart from the pages'."""
    return loading.load(catalog.locate(MODEL))


@pytest.fixture(scope="module")
def kept() -> dict[str, Simulator]:
    return {}


@pytest.fixture
def alone(stored: Stored, cache: Cache, model: LoadedModel, kept: dict[str, Simulator]) -> Callable[..., Alone]:
    """What the library makes of an edit: `alone(fact, target, layer, method, facts=..., **how)`."""

    def made_of(
        fact: int = 1, target: str = "French", layer: int = 0, method: str = "rome", facts: str = "builtin", **how: Any
    ) -> Alone:
        if facts not in kept:
            kept[facts] = Simulator(stored(facts), Store(cache.folder), lambda: model)
        return Alone(kept[facts], kept[facts].request(fact, target, layer, method, **how))

    return made_of


@pytest.fixture
def small(alone: Callable[..., Alone]) -> Callable[..., Alone]:
    """The same of the edit of `SMALL`: `small(target, **options)`."""
    return lambda target="French", **options: alone(0, target, **{"facts": "three", "steps": STEPS} | options)


@pytest.fixture
def own_bench(open_edit: Edit, model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulators that nobody has used, and that nobody uses afterwards."""
    new: dict[object, Simulator] = {}
    make = AS_ON_A_SERVER.__wrapped__

    def own(key: object, result: Result) -> Simulator:
        if key not in new:
            new[key] = make(key, result)
        return new[key]

    monkeypatch.setattr(benches, "_simulator", own)
    monkeypatch.setattr(loading, "load", lambda *_, **__: model)


def spillover(page: AppTest) -> Chart:
    """The chart of all facts."""
    return next(chart for chart in charts(page) if chart.holds("told", "kind", "left"))


def bars(page: AppTest) -> pd.DataFrame:
    """What it draws, without where."""
    return spillover(page).table("told", "kind", "left").drop(columns=["left", "right", "zero", "bottom", "top"])


def assert_bars(page: AppTest, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(bars(page), expected, check_dtype=False, rtol=LINEAR, atol=0)


def ringed(chart: Chart) -> list[int]:
    """The facts that a chart rings."""
    rings = [layer for layer in chart.spec["layer"] if layer["mark"].get("filled") is False]
    return [int(fact) for fact in chart.tables[rings[0]["data"]["name"]]["fact"]]


def button(page: AppTest, label: str) -> Any:
    (found,) = (one for one in page.button if one.label == label)
    return found


def perform(page: AppTest) -> AppTest:
    return button(page, "Perform the edit").click().run()


def undo(page: AppTest) -> AppTest:
    return button(page, "Undo").click().run()


def measured(page: AppTest) -> bool:
    """Whether a measurement is shown."""
    shown = bars(page)["measured"].notna()
    assert shown.all() or not shown.any()
    assert shown.all() == (DONE in captions(page)) == (not button(page, "Undo").disabled)
    return bool(shown.all())


def type_object(page: AppTest, text: str) -> AppTest:
    """Type a new object, offered or not; `AppTest` itself can only choose."""
    states = page._tree.get_widget_states()
    (box,) = (one for one in states.widgets if one.id == page.selectbox(key="edit-target").id)
    box.string_value = text
    return page._run(states)


def choose(page: AppTest, name: str, value: Any) -> AppTest:
    """Choose by the widget of that choice."""
    kinds = (page.segmented_control, page.slider, page.selectbox, page.toggle)
    (found,) = (one for kind in kinds for one in kind if one.key == f"choose-{name}")
    return found.set_value(value).run()


def infos(page: AppTest) -> str:
    return "\n".join(info.value for info in page.info)


def chosen(page: AppTest) -> EditRequest:
    """The edit that is chosen, as the page's history would go back to it."""
    return page.session_state["edits"][-1]["choices"]


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
    assert "is a native speaker of <s style='opacity:.6'>Russian</s> → <b>French</b>" in html(page)


def test_a_pair_beyond_the_facts_is_told_and_the_strongest_taken(look_at_edit: Edit, stored: Stored) -> None:
    page = look_at_edit(facts="three", pair="0-50", how=FEW)
    assert "0-50 is not among these 3 facts" in infos(page)
    assert page.selectbox(key="edit-fact").value == strongest_between_subjects(stored("three"), 0)[0][0]


def test_a_fact_chosen_by_the_search_box_changes_pair_and_object(open_edit: Edit, stored: Stored) -> None:
    page = open_edit(**SMALL | {"target": "Polish"}, performed="yes")
    page.selectbox(key="edit-fact").set_value(2).run()
    three = stored("three")
    assert page.query_params["pair"] == f"2-{strongest_partner(three.p[0], 2)}"
    assert "target" not in page.query_params
    assert page.selectbox(key="edit-target").value == objects_of_relation(three.facts.facts[2], three.facts.facts)[0]
    assert sorted(bars(page)["fact"]) == [0, 1]
    assert not measured(page)


def test_objects_of_the_same_relation_are_offered(look_at_edit: Edit, result: Result) -> None:
    page = look_at_edit(**STORY)
    offered = page.selectbox(key="edit-target").options
    facts = result.facts.facts
    others = {fact.target for fact in facts if fact.relation == facts[1].relation} - {facts[1].target}
    assert others <= set(offered)
    assert facts[1].target not in offered
    assert offered == objects_of_relation(facts[1], facts)[: len(offered)]
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
    monkeypatch.setattr(loading, "load", lambda _: model)
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
    monkeypatch.setattr(loading, "load", lambda _: model)
    page = open_page("pages/edit.py", **SMALL | {"look": "layers"}, layer="3")
    assert plain(MODEL) in infos(page)
    assert not results.runner()._jobs
    button(page, "Try the layers").click().run()
    finish()
    assert table_of(page.run(), "layer", "probability").value["layer"].tolist() == [0, 1, 2]


def finish() -> None:
    for job in list(results.runner()._jobs.values()):
        assert job.wait(120)


# What is performed, and undone


def test_the_edit_performed_is_measured_as_the_library_alone_does(open_edit: Edit, alone: Callable[..., Alone]) -> None:
    page = perform(open_edit(**STORY, strength="1.5"))
    assert page.query_params["performed"] == "yes"
    expected = alone().frame(strength=1.5, performed=True)
    assert measured(page)
    assert_bars(page, expected)
    changed = expected[expected["flips"] != ""]
    foretold = int((changed["flips_foretold"] != "").sum())
    vain = int((expected["flips_foretold"] != "").sum()) - foretold
    assert vain > 0
    assert f"{foretold} of these {len(changed)} foretold, {vain} more foretold in vain." in captions(page)
    first = changed.iloc[0]
    assert f"Answers that changed: {first.subject} → {first.flips}," in unescaped(captions(page))


@pytest.mark.parametrize("by", ["all", "shift"])
def test_a_link_to_a_performed_edit_performs_it(by: str, look_at_edit: Edit, alone: Callable[..., Alone]) -> None:
    page = look_at_edit(**STORY | {"look": "scatter"}, performed="yes", by=by)
    assert page.query_params["performed"] == "yes"
    assert_bars(page, alone().frame(by, performed=True))
    domain = spillover(page).domains("y")[0]
    assert domain == pytest.approx(simulator.span(alone().forecast, 1, by, alone().outcome()), rel=LINEAR)


def test_a_measurement_is_of_its_own_strength(look_at_edit: Edit, small: Callable[..., Alone]) -> None:
    page = look_at_edit(**SMALL, strength="0.5", performed="yes")
    expected = small().frame(strength=0.5, performed=True)
    assert_bars(page, expected)
    assert set(expected["flips"]) == {""}
    coming = int((expected["flips_foretold"] != "").sum())
    assert f"No answer changed; {coming} had been forecast to." in captions(page)


def test_undo_takes_the_measurement_away_and_performing_brings_it_back(open_edit: Edit) -> None:
    page = open_edit(**SMALL)
    before = bars(page)
    page = perform(page)
    assert button(page, "Perform the edit").disabled, "once is enough"
    after = bars(page)
    page = undo(page)
    assert "performed" not in page.query_params
    assert not measured(page)
    pd.testing.assert_frame_equal(bars(page), before)
    assert not button(page, "Perform the edit").disabled
    assert "efficacy" not in html(page)
    pd.testing.assert_frame_equal(bars(perform(page)), after)


def test_it_is_told_whether_the_edit_took(look_at_edit: Edit, alone: Callable[..., Alone]) -> None:
    found = alone().outcome().success
    shown = html(look_at_edit(**STORY, performed="yes"))
    assert found.efficacy
    assert found.paraphrase is not None
    assert found.neighbourhood is not None
    assert f">yes: {found.probability_new:.1%}".replace("%", " %") in shown
    assert f">{found.paraphrase:.0%} answer anew<" in shown
    assert f">{found.neighbourhood:.0%} keep their object ({found.neighbourhood_before:.0%} had it)<" in shown
    assert f">… {found.generated}<" in shown
    assert f">… {found.generated_before}<" in shown
    weak = html(look_at_edit(**SMALL, strength="0", performed="yes"))
    assert ">no: " in weak


CHANGES: dict[str, Callable[[AppTest], AppTest]] = {
    "the object": lambda page: type_object(page, "Polish"),
    "the method": lambda page: choose(page, "method", "r-rome"),
    "the strength": lambda page: choose(page, "strength", 0.5),
    "the layer": lambda page: choose(page, "layer", 1),
    "the search": lambda page: page.number_input(key="how-steps").set_value(STEPS + 1).run(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_after_performing_takes_the_measurement_away(change: str, open_edit: Edit) -> None:
    page = open_edit(**SMALL | {"look": "search"}, performed="yes")
    assert measured(page)
    page = CHANGES[change](page)
    assert not page.exception
    assert not measured(page)
    assert "performed" not in page.query_params
    assert not button(page, "Perform the edit").disabled


@pytest.mark.parametrize("away", [("layer", LAYERS - 1, 0), ("target", "Russian", "French")])
def test_an_edit_that_was_left_is_not_performed_on_the_way_back(away: tuple[str, Any, Any], open_edit: Edit) -> None:
    name, there, back = away

    def go(page: AppTest, value: Any) -> AppTest:
        if name == "layer":
            return choose(page, "layer", value)
        return type_object(page, value)

    page = go(open_edit(**SMALL, performed="yes"), there)
    assert "performed" not in page.query_params
    assert not measured(go(page, back))


def test_another_fact_of_the_same_number_is_not_performed_unasked(
    open_edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "_answered", lambda full: results.narrowed(full, [1, 2], "the model answers"))
    page = open_edit(**SMALL, performed="yes")
    assert "<b>Vladimir Mayakovsky</b> is <s" in html(page)
    page = choose(page, "keep", True)
    assert page.selectbox(key="edit-fact").value == 0
    assert "<b>Vladimir Bukovsky</b> is a native speaker of <s" in html(page)
    assert not measured(page)


def test_other_facts_take_the_measurement_away_and_leave_the_object_where_the_fact_is_the_same(
    open_edit: Edit,
) -> None:
    page = open_edit(**SMALL, performed="yes")
    two = next(name for name in page.selectbox(key="choose-facts").options if name.startswith("two-"))
    page = choose(page, "facts", two)
    assert page.query_params["target"] == "French"
    assert len(bars(page)) == 1
    assert not measured(page)


def test_looking_elsewhere_leaves_the_measurement(open_edit: Edit) -> None:
    page = open_edit(**SMALL, performed="yes")
    for name, value in (("by", "shift"), ("look", "table")):
        page = choose(page, name, value)
        assert measured(page)
    page = click(page, spillover(page), fact=[{"fact": 2}])
    assert measured(page)


def test_only_the_answered_facts_are_measured(look_at_edit: Edit, alone: Callable[..., Alone]) -> None:
    page = look_at_edit(facts="mixed", keep="known", **STORY, how=FEW, performed="yes")
    whole = alone(facts="mixed", steps=STEPS).outcome().measured.log_odds
    shown = bars(page)
    assert sorted(shown["fact"]) == [fact for fact in range(ANSWERED) if fact != 1]
    np.testing.assert_allclose(shown["measured"], whole[shown["fact"]], rtol=1e-3, atol=1e-3)


# Who sees it


def test_performed_edits_are_listed_and_gone_back_to(open_edit: Edit, small: Callable[..., Alone]) -> None:
    page = open_edit(**SMALL, performed="yes")
    first, query = bars(page), dict(page.query_params)
    page = perform(choose(page, "layer", 1))
    page = perform(undo(page))
    labels = [unescaped(one.label) for one in page.button if one.key and one.key.startswith("edit-")]
    assert len(labels) == 2, "each once, whatever was undone"
    outcomes = [small(layer=layer).outcome() for layer in (1, 0)]
    for label, outcome, layer in zip(labels, outcomes, (1, 0), strict=True):
        took = "took" if outcome.success.efficacy else "did not take"
        others = int(outcome.flipped[1:].sum())
        assert label == (
            f"**Vladimir Mayakovsky: Russian → French** · {MODEL}, layer {layer}, ROME, strength 1 · {took} · "
            f"{others} other answer{'' if others == 1 else 's'} changed"
        )
    page.button(key="edit-0").click().run()
    assert dict(page.query_params) == query | {"pair": "0-0"}
    pd.testing.assert_frame_equal(bars(page), first)
    assert measured(page)
    assert len([one for one in page.button if one.key and one.key.startswith("edit-")]) == 2


def test_going_back_finds_model_facts_object_method_and_search_again(open_edit: Edit) -> None:
    link = {"facts": "mixed", "layer": "1", "pair": "2-0", "target": "Nokia", "method": "r-rome", "how": FEW}
    page = open_edit(**link, strength="0.5", look="history", performed="yes")
    shown = bars(page)
    page.selectbox(key="edit-fact").set_value(0).run()
    for name, value in (("model", ONE_LAYER), ("facts", "builtin")):
        page = choose(page, name, value)
    page.button(key="edit-0").click().run()
    assert page.query_params["performed"] == "yes"
    for name in ("facts", "layer", "target", "method", "how", "strength"):
        assert page.session_state["chosen"][name] == state.CHOICES[name].read(page.query_params[name])
    pd.testing.assert_frame_equal(bars(page), shown)
    assert measured(page)


def test_another_session_sees_nothing_of_it(open_edit: Edit, small: Callable[..., Alone]) -> None:
    first = perform(open_edit(**SMALL))
    second = open_edit(**SMALL)
    assert "Nobody else sees them" in infos(second)
    assert not measured(second)
    assert not [one for one in second.button if one.key and one.key.startswith("edit-")]
    type_object(second, "Polish")
    second = perform(second)
    assert_bars(second, small("Polish").frame(performed=True))
    first.run()
    assert_bars(first, small().frame(performed=True))
    labels = [unescaped(one.label) for one in first.button if one.key and one.key.startswith("edit-")]
    assert len(labels) == 1
    assert "French" in labels[0]


def test_the_models_weights_stay_and_no_hook_is_left(
    open_edit: Edit, own_bench: None, stored: Stored, small: Callable[..., Alone], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[LoadedModel] = []
    load = loading.load
    monkeypatch.setattr(loading, "load", lambda folder, **options: loaded.append(load(folder, **options)) or loaded[-1])
    page = open_edit(**SMALL)
    (one,) = loaded
    digest = one.digest()

    def untouched() -> bool:
        assert loaded == [one], "loaded once, for everybody"
        return one.digest() == digest and not any(module._forward_hooks for module in one.model.modules())

    assert untouched()
    page = perform(page)
    assert measured(page)
    assert untouched()
    page = undo(page)
    assert untouched()

    finish_words = measurement.finish_words
    monkeypatch.setattr(measurement, "finish_words", fail(RuntimeError("/home/someone/secret")))  # with the edit on
    page = perform(choose(page, "strength", 0.5))
    assert not page.exception
    assert "RuntimeError" in page.error[0].value
    assert "secret" not in markdown(page)
    assert bars(page)["measured"].isna().all(), "the forecast is there all the same"
    assert untouched()
    monkeypatch.setattr(measurement, "finish_words", finish_words)
    button(page, "Try again").click().run()
    assert_bars(page.run(), small().frame(strength=0.5, performed=True))
    assert untouched()

    type_object(page, "Polish")
    began, go_on = threading.Event(), threading.Event()

    def wait(*arguments: Any) -> list[str]:
        began.set()
        assert go_on.wait(SECONDS)
        return finish_words(*arguments)

    monkeypatch.setattr(benches, "QUICK", 0)
    monkeypatch.setattr(measurement, "finish_words", wait)
    page = perform(page)
    assert began.wait(SECONDS)
    page.run()  # a rerun in the midst of it
    assert_bars(page, small("Polish").frame(strength=0.5))
    button(page, "Cancel").click().run()
    go_on.set()
    finish()
    assert untouched()
    assert not page.run().exception
    assert untouched()


def test_measuring_can_be_called_off(open_edit: Edit, own_bench: None, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on, later = threading.Event(), threading.Event(), threading.Event()
    finish_words = measurement.finish_words

    def wait(*arguments: Any) -> list[str]:
        began.set()
        assert go_on.wait(SECONDS)
        return finish_words(*arguments)

    page = open_edit(**SMALL)
    monkeypatch.setattr(benches, "QUICK", 0)
    monkeypatch.setattr(measurement, "finish_words", wait)
    monkeypatch.setattr(forecasts, "propagated", lambda *_: later.set())  # which comes after the measurement
    page = perform(page)
    assert began.wait(SECONDS)
    button(page, "Cancel").click().run()
    go_on.set()
    finish()
    assert not later.is_set()
    assert "Cancelled" in infos(page.run())


def fail(error: BaseException) -> Callable[..., NoReturn]:
    def failing(*_: Any, **__: Any) -> NoReturn:
        raise error

    return failing


def test_two_who_ask_for_one_edit_wait_for_one_search(
    open_edit: Edit, own_bench: None, small: Callable[..., Alone], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[EditRequest] = []
    go_on = threading.Event()
    prepare = Simulator.prepare

    def counted(self: Simulator, request: EditRequest, **options: Any) -> None:
        asked.append(request)
        assert go_on.wait(SECONDS)
        prepare(self, request, **options)

    monkeypatch.setattr(Simulator, "prepare", counted)
    monkeypatch.setattr(benches, "QUICK", 0)
    pages = [open_edit(**SMALL) for _ in range(2)]
    go_on.set()
    finish()
    for page in pages:
        assert_bars(page.run(), small().frame())
    assert len(asked) == 1


def test_a_search_called_off_can_be_begun_again(
    open_edit: Edit, own_bench: None, small: Callable[..., Alone], monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = threading.Event(), threading.Event()
    prepare = Simulator.prepare

    def slow(self: Simulator, request: EditRequest, **options: Any) -> None:
        began.set()
        assert go_on.wait(SECONDS)
        options["seen"](5.0)
        options["seen"](4.0)
        prepare(self, request, **options)

    monkeypatch.setattr(Simulator, "prepare", slow)
    monkeypatch.setattr(benches, "QUICK", 0)
    page = open_edit(**SMALL)
    assert not page.exception
    assert began.wait(SECONDS)
    assert len(bars(page)) == 2, "shares are shown meanwhile"
    assert button(page, "Perform the edit").disabled
    button(page, "Cancel").click().run()
    go_on.set()
    finish()
    monkeypatch.setattr(benches, "QUICK", SECONDS)
    page.run()
    assert "Cancelled" in infos(page)
    button(page, "Get the forecast").click().run()
    assert_bars(page.run(), small().frame())
    assert not benches._losses()


def test_no_more_models_are_kept_than_there_is_room_for(open_edit: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    class Weights:
        pass

    monkeypatch.setattr(loading, "load", lambda folder: Weights())
    monkeypatch.setattr(benches, "_simulator", AS_ON_A_SERVER)
    seen = []
    for number, entry in enumerate(catalog.demo()[:4]):
        result = made(np.eye(2)[None])
        request = replace(result.request, model=entry.name)
        result = replace(result, request=request, provenance=result.provenance | {"weights_sha256": str(number)})
        seen.append(weakref.ref(benches.simulator(result).model))
    gc.collect()
    assert sum(one() is not None for one in seen) <= benches.KEPT_MODELS


# Where no edit can reach the answer


def test_in_the_last_layer_it_is_told_why_and_another_one_offered(
    open_edit: Edit, stored: Stored, small: Callable[..., Alone]
) -> None:
    page = open_edit(**SMALL, layer="3", performed="yes")
    assert not page.exception
    warning = page.warning[0].value
    assert "Layer 3 is the last one" in warning
    assert "Vladimir Mayakovsky” is never read where the answer is given" in warning
    assert_bars(page, share_frame(stored("three"), 3, 0))
    assert button(page, "Perform the edit").disabled
    assert button(page, "Undo").disabled
    assert not results.runner()._jobs, "nothing is searched for in vain"
    assert "foretold once the model has been run" not in captions(page), "it never is"
    assert "performed" not in page.query_params
    button(page, "Edit layer 0 instead").click().run()
    assert "layer" not in page.query_params
    assert not measured(page)
    assert_bars(page, small().frame())


@pytest.mark.parametrize("look", ["layers", "search"])
def test_a_model_of_a_single_layer_shows_shares_alone(look: str, open_edit: Edit, stored: Stored) -> None:
    page = open_edit(model=ONE_LAYER, facts="mixed", **STORY | {"look": look})
    assert not page.exception
    assert not page.error
    assert "Layer 0 is the last one" in page.warning[0].value
    assert_bars(page, share_frame(stored("mixed", model=ONE_LAYER), 0, 1))
    assert [one.label for one in page.button] == ["Perform the edit", "Undo", "Add to the queue"]
    assert all(one.disabled for one in page.button[:2])


# When something is missing


def test_a_model_that_cannot_be_loaded_leaves_what_needs_none(
    open_edit: Edit, own_bench: None, stored: Stored, small: Callable[..., Alone], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = loading.load
    monkeypatch.setattr(loading, "load", fail(ModelError("the *weights* are gone")))
    page = open_edit(**SMALL | {"target": "Welsh"})
    assert not page.exception
    assert page.error[0].value == plain("the *weights* are gone")
    assert_bars(page, share_frame(stored("three"), 0, 0))
    assert button(page, "Perform the edit").disabled
    monkeypatch.setattr(loading, "load", load)
    button(page, "Try again").click().run()
    assert_bars(page.run(), small("Welsh").frame())
    assert not page.error


def test_what_is_stored_is_foreseen_without_the_model(
    open_edit: Edit, own_bench: None, small: Callable[..., Alone], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = small()
    expected = spill_frame(edit.bench, 0, replace(edit.forecast, flips=None), "all", 1.0, None)
    monkeypatch.setattr(loading, "load", fail(ModelError("the *weights* are gone")))
    page = open_edit(**SMALL, performed="yes")
    for look in ("history", "pair", "layers", "search"):
        if look != "history":
            page = choose(page, "look", look)
        assert not page.exception
        assert [error.value for error in page.error] == [plain("the *weights* are gone")]
        assert_bars(page, expected)
        assert "foretold once the model is loaded" in captions(page)
        assert button(page, "Perform the edit").disabled
        assert button(page, "Undo").disabled


def test_without_c_and_what_it_came_from_shares_are_shown(
    open_edit: Edit, own_bench: None, stored: Stored, small: Callable[..., Alone], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert small().forecast
    monkeypatch.setattr(loading, "load", fail(ModelError("the weights are gone")))
    monkeypatch.setattr(pipeline, "second_moment", fail(ModelError("so is *C*")))
    page = open_edit(**SMALL)
    assert not page.exception
    assert plain("so is *C*") in [error.value for error in page.error]
    assert_bars(page, share_frame(stored("three"), 0, 0))


def test_an_error_that_is_none_of_ours_tells_its_kind_and_no_more(
    open_edit: Edit, own_bench: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load", fail(RuntimeError("/home/someone/secret")))
    page = open_edit(**SMALL | {"target": "Welsh"})
    assert "RuntimeError" in page.error[0].value
    assert "secret" not in markdown(page)


@pytest.fixture
def elsewhere(open_edit: Edit, own_bench: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From then on the demo model is one of the paper's, computed on another machine: its weights are not here."""

    def gone() -> None:
        entry = catalog.find(MODEL)
        assert entry is not None
        here = tuple(one for one in catalog.demo() if one.name != MODEL)
        monkeypatch.setattr(catalog, "demo", lambda: here)
        monkeypatch.setattr(catalog, "PAPER", (*catalog.PAPER, replace(entry, folder=None, source="nobody/nothing")))
        monkeypatch.setattr(catalog, "_from_hub", fail(ModelError("nobody/nothing is *not* on this machine")))
        st.cache_data.clear()

    return gone


def test_a_model_that_is_only_in_the_store_can_be_chosen(
    elsewhere: Callable[[], None], open_edit: Edit, stored: Stored, small: Callable[..., Alone]
) -> None:
    result, edit = stored("three"), small()
    known = spill_frame(edit.bench, 0, replace(edit.forecast, flips=None), "all", 1.0, None)
    elsewhere()
    page = open_edit(**SMALL | {"target": "Cornish"})
    assert not page.exception
    assert page.selectbox(key="choose-model").value == MODEL
    assert page.query_params["model"] == MODEL
    assert f"{plain(MODEL)} is not on this machine: its stored result is shown" in captions(page)
    assert page.error[0].value == plain("nobody/nothing is *not* on this machine")
    assert_bars(page, share_frame(result, 0, 0))
    assert button(page, "Perform the edit").disabled
    page = type_object(page, "French")
    assert_bars(page, known)
    assert button(page, "Perform the edit").disabled


def test_facts_that_cannot_be_read_are_told_without_the_model_too(
    elsewhere: Callable[[], None], open_edit: Edit, cache: Cache
) -> None:
    damaged = cache.folder / "facts" / "damaged-00000000.json"
    damaged.write_text("{", "utf-8")
    try:
        elsewhere()
        page = open_edit(facts=damaged.stem)
    finally:
        damaged.unlink()
    assert not page.exception
    assert page.error


# What stands under an edit


def test_a_click_on_a_bar_opens_the_pair(open_edit: Edit, small: Callable[..., Alone]) -> None:
    page = open_edit(**SMALL | {"look": "table"}, performed="yes")
    page = click(page, spillover(page), fact=[{"fact": 2}])
    assert page.query_params["pair"] == "0-2"
    assert "look" not in page.query_params, "the pair stands below by default"
    shown = html(page)
    assert "edit fact i = 0<" in shown
    assert "and fact j = 2 suffers" in shown
    assert ringed(spillover(page)) == [2]
    assert not ways_here(page), "one is here already"

    edit = small()
    forecast, outcome = edit.forecast, edit.outcome()
    rows = table_of(page, "change of", "forecast", "measured").value
    assert rows["forecast"].tolist() == [
        forecast.shift[2], forecast.all_tokens[2], forecast.subject_token[2], outcome.propagated[2],
    ]  # fmt: skip
    assert rows["measured"].tolist() == [outcome.measured.shift[2]] + [outcome.measured.log_odds[2]] * 3
    before = edit.bench.answers_before[2]
    coming = forecast.flips.by(1.0).get(2, before) if forecast.flips else before
    told = f"Answer before: **{before}** · forecast: **{coming}** · measured: **{outcome.measured.answers[2]}**"
    assert told in unescaped(markdown(page))


def ways_here(page: AppTest) -> list[str]:
    """Links from a pair to the page of edits."""
    return [one.proto.label for one in page.get("page_link") if one.proto.label.startswith("Edit fact")]


def test_a_pair_leads_here_from_other_pages(look: Open) -> None:
    assert len(ways_here(look("pages/superposition.py", pair="0-1", layer="2"))) == 1


def test_before_the_edit_the_pair_has_its_forecasts_at_the_strength(
    look_at_edit: Edit, small: Callable[..., Alone]
) -> None:
    page = look_at_edit(**SMALL | {"look": "pair"}, strength="0.5")
    forecast = small().forecast
    rows = table_of(page, "change of", "forecast", "measured").value
    assert rows["forecast"].tolist() == [
        0.5 * forecast.shift[1], 0.5 * forecast.all_tokens[1], 0.5 * forecast.subject_token[1],
    ]  # fmt: skip
    assert rows["measured"].isna().all()
    assert "measured:" not in markdown(page)
    assert "Click a bar above" in infos(look_at_edit(**SMALL | {"look": "pair", "pair": "0-0"}))


@pytest.mark.parametrize("by", ["all", "shift"])
def test_measurement_is_drawn_against_the_chosen_forecast(
    by: str, look_at_edit: Edit, alone: Callable[..., Alone]
) -> None:
    page = look_at_edit(**STORY | {"look": "scatter"}, performed="yes", by=by)
    dots = against(page)
    (points,) = (layer for layer in dots.spec["layer"] if "tooltip" in layer["encoding"])
    shown = dots.tables[points["data"]["name"]]
    pd.testing.assert_frame_equal(shown, alone().frame(by, performed=True), check_dtype=False)
    titles = [layer["encoding"]["x"].get("title") for layer in dots.spec["layer"]]
    assert ("forecast shift" if by == "shift" else "forecast change of log-odds") in titles


def against(page: AppTest) -> Chart:
    """The chart of measurement against forecast."""
    return next(chart for chart in charts(page) if chart.title == "Forecast against measurement")


def test_the_quality_of_the_forecasts_is_that_of_the_library(look_at_edit: Edit, alone: Callable[..., Alone]) -> None:
    page = look_at_edit(**STORY | {"look": "scatter"}, performed="yes", by="all")
    edit = alone()
    expected = edit.bench.quality(edit.forecast, edit.outcome())
    shown = table_of(page, "spearman", "auc").value
    pd.testing.assert_frame_equal(shown, expected.drop(columns=["flips", "facts"]), check_dtype=False)
    flips = int(edit.outcome().flipped.sum()) - 1
    assert flips >= FEW_FLIPS
    assert f"of 127 facts; {flips} answers changed." in captions(page)
    assert "means little" not in captions(page)


def test_where_few_answers_changed_that_is_told(open_edit: Edit, small: Callable[..., Alone]) -> None:
    page = open_edit(**SMALL | {"look": "scatter"})
    assert "Perform the edit to see" in infos(page)
    page = perform(page)
    flips = int(small().outcome().flipped[1:].sum())
    assert f"{flips} answers changed. With {flips} of them the AUC means little." in captions(page)
    page = click(page, against(page), fact=[{"fact": 2}])
    assert page.query_params["pair"] == "0-2"
    assert page.query_params["look"] == "scatter"
    assert ringed(against(page)) == [2]


def test_the_table_holds_everything_the_library_tells(open_edit: Edit, small: Callable[..., Alone]) -> None:
    edit = small()
    page = open_edit(**SMALL | {"look": "table"}, strength="0.5")
    shown = table_of(page, "index", "dlogodds_all_tokens").value
    expected = edit.frame(strength=0.5)
    assert shown["index"].tolist() == expected["fact"].tolist()
    assert shown["dlogodds_all_tokens"].tolist() == expected["forecast"].tolist()
    assert shown["p"].tolist() == expected["p"].tolist()
    assert shown["answer_foretold"].tolist() == expected["flips_foretold"].tolist()
    page = perform(page)
    shown = table_of(page, "index", "dlogodds_measured").value
    pd.testing.assert_frame_equal(shown, edit.bench.table(edit.forecast, edit.outcome(0.5)), check_dtype=False)
    click_cell(page, table_of(page, "index", "dlogodds_measured"), 2, "subject")
    assert page.query_params["pair"] == "0-2"
    assert measured(page)


def test_a_click_on_a_row_of_the_forecast_picks_its_fact(open_edit: Edit) -> None:
    page = open_edit(**SMALL | {"look": "table"})
    table = table_of(page, "index", "dlogodds_all_tokens")
    for row in (0, 1):
        click_cell(page, table_of(page, "index", "dlogodds_all_tokens"), row, "subject")
        assert page.query_params["pair"] == f"0-{table.value['index'][row]}"


def test_the_table_holds_the_facts_its_caption_says(look_at_edit: Edit) -> None:
    page = look_at_edit(**SMALL | {"look": "table"})
    assert (
        "Every fact, the edited one included" not in captions(page)
        or len(table_of(page, "index", "dlogodds_all_tokens").value) == 3
    )


def test_the_layers_are_those_the_library_tried(open_edit: Edit, small: Callable[..., Alone]) -> None:
    page = open_edit(**SMALL | {"look": "layers"})
    edit = small()
    found = list(edit.bench.advise(edit.request))
    assert [one.reaches for one in found] == [True] * (LAYERS - 1) + [False]
    expected = simulator.advice_frame(found)
    shown = table_of(page, "layer", "probability").value
    pd.testing.assert_frame_equal(shown, expected[shown.columns.tolist()], check_dtype=False)
    assert set(shown.columns) == {"layer", "probability", "paraphrase", "damage", "flips"}
    chart = advisor(page)
    points = chart.tables[chart.spec["data"]["name"]] if "data" in chart.spec else chart.drawn("text")
    pd.testing.assert_frame_equal(points, expected, check_dtype=False)
    assert f"Layer {LAYERS - 1} cannot reach the answer." in captions(page)
    assert rung_layers(chart) == [0]
    page = click(page, chart, layer=[{"layer": 2}])
    assert page.query_params["layer"] == "2"
    assert rung_layers(advisor(page)) == [2]
    assert_bars(page, small(layer=2).frame())


def advisor(page: AppTest) -> Chart:
    return next(chart for chart in charts(page) if chart.title == "Layer advisor")


def rung_layers(chart: Chart) -> list[int]:
    (ring,) = (layer for layer in chart.spec["layer"] if layer["mark"].get("filled") is False)
    return chart.tables[ring["data"]["name"]]["layer"].tolist()


def test_in_the_last_layer_the_advisor_tells_which_to_take(look_at_edit: Edit) -> None:
    page = look_at_edit(**SMALL | {"look": "layers"}, layer="3")
    assert f"Layer {LAYERS - 1} cannot reach the answer." in captions(page)


def reaching(page: AppTest) -> list[Any]:
    """The lists of dangerous and of safe edits."""
    return [table for table in page.dataframe if {"reach", "leaks", "i", "j"} <= set(table.value.columns)]


def test_dangerous_edits_are_those_with_long_rows_and_safe_ones_those_with_short(
    look_at_edit: Edit, result: Result
) -> None:
    off = np.where(np.eye(128, dtype=bool), 0.0, result.p[1])
    norms = np.sqrt((off**2).sum(axis=1))
    dangerous, safe = (table.value for table in reaching(look_at_edit(**STORY | {"look": "reach"}, layer="1")))
    np.testing.assert_allclose(dangerous["reach"], np.sort(norms)[::-1][:10], rtol=LINEAR)
    np.testing.assert_allclose(safe["reach"], np.sort(norms)[:10], rtol=LINEAR)
    for table in (dangerous, safe):
        np.testing.assert_allclose(norms[table["i"]], table["reach"], rtol=LINEAR)
        assert table["j"].tolist() == np.abs(off[table["i"]]).argmax(axis=1).tolist()
        assert table["p"].tolist() == off[table["i"], table["j"]].tolist()
    told = reach_of_edits(result, 1)
    assert dangerous["edited"].tolist() == told["edited"].head(10).tolist()


def test_a_click_on_a_dangerous_edit_edits_that_fact(open_edit: Edit) -> None:
    page = open_edit(facts="three", pair="0-1", look="reach", how=FEW)
    dangerous, safe = reaching(page)
    assert pairs_of(dangerous.value) == pairs_of(safe.value)[::-1], "of three facts all"
    i, j = pairs_of(dangerous.value)[1]
    click_cell(page, dangerous, 1, "edited")
    assert page.query_params["pair"] == f"{i}-{j}"
    assert page.selectbox(key="edit-fact").value == i
    assert reaching(page)[0].value["picked"].tolist() == ["", "◉", ""]
    click_cell(page, reaching(page)[1], 0, "edited")
    assert page.selectbox(key="edit-fact").value == pairs_of(safe.value)[0][0]


def test_another_fact_picked_from_the_list_is_not_given_the_object_of_the_last(open_edit: Edit) -> None:
    page = open_edit(**SMALL | {"look": "reach"})
    click_cell(page, reaching(page)[0], [i for i, _ in pairs_of(reaching(page)[0].value)].index(2), "edited")
    assert page.selectbox(key="edit-fact").value == 2
    assert "target" not in page.query_params


# How the value is searched for


def losses(page: AppTest) -> list[float]:
    chart = next(chart for chart in charts(page) if chart.title == "Loss of the value search")
    table = chart.table("step", "loss")
    assert table["step"].tolist() == list(range(len(table)))
    return table["loss"].tolist()


def test_the_search_is_shown_with_what_it_started_from(look_at_edit: Edit, alone: Callable[..., Alone]) -> None:
    page = look_at_edit(**USUAL | {"look": "search"})
    edit = alone(0, facts="three")
    how, value = edit.request.how, edit.bench.value(edit.request)
    assert losses(page) == list(value.losses)
    assert f"{len(value.losses) - 1} steps of Adam" in captions(page)
    assert f"‖δ‖ = {edit.forecast.edit.size:.1f}, new object {value.probability:.1%}" in captions(page)
    shown = {
        one.key.removeprefix("how-"): one.value for one in (*page.number_input, *page.toggle) if "how-" in str(one.key)
    }
    assert shown == {
        "steps": how.steps, "learning_rate": how.learning_rate, "weight_decay": how.weight_decay, "clamp": how.clamp,
        "kl": how.kl, "prefixes": how.prefixes[0][0], "seed": how.seed, "everywhere": how.everywhere,
        "mean_key": how.mean_key,
    }  # fmt: skip
    assert edit.bench.recipe.source in unescaped(captions(page))


def test_changed_hyper_parameters_change_the_edit_and_the_link(open_edit: Edit, small: Callable[..., Alone]) -> None:
    page = open_edit(**USUAL | {"look": "search"})
    usual = page.number_input(key="how-prefixes").value
    page.number_input(key="how-steps").set_value(STEPS).run()
    assert page.query_params["how"] == FEW
    assert len(losses(page)) == STEPS + 1
    assert_bars(page, small().frame())
    page.toggle(key="how-everywhere").set_value(False).run()
    page.number_input(key="how-prefixes").set_value(1).run()
    assert page.query_params["how"] == f"everywhere:0~prefixes:1~{FEW}"
    assert_bars(page, small(everywhere=False, prefixes=((1, 5),)).frame())
    page.toggle(key="how-everywhere").set_value(True).run()
    page.number_input(key="how-prefixes").set_value(usual).run()
    assert page.query_params["how"] == FEW, "what is as usual leaves the link"
    assert not page.exception


def test_the_search_of_the_link_is_searched_and_shown(look_at_edit: Edit, small: Callable[..., Alone]) -> None:
    page = look_at_edit(**USUAL | {"look": "search"}, how=f"learning_rate:0.25~mean_key:1~{FEW}")
    assert page.number_input(key="how-learning_rate").value == 0.25
    assert page.toggle(key="how-mean_key").value is True
    assert_bars(page, small(learning_rate=0.25, mean_key=True).frame())


@pytest.mark.parametrize(
    ("how", "said"),
    [("steps:0", "steps from 1 to 1000"), ("prefixes:101", "prefixes: 0 to 100")],
)
def test_a_search_out_of_range_is_told(how: str, said: str, open_edit: Edit, stored: Stored) -> None:
    page = open_edit(**USUAL | {"look": "search"}, how=how, performed="yes")
    assert not page.exception
    assert said in unescaped(page.error[0].value)
    assert "performed" not in page.query_params
    assert_bars(page, share_frame(stored("three"), 0, 0))
    assert button(page, "Perform the edit").disabled


def test_a_box_shows_what_the_search_takes(open_edit: Edit) -> None:
    page = open_edit(**USUAL | {"look": "search"}, how=f"kl:3~{FEW}")
    assert page.error or page.number_input(key="how-kl").value == 3.0


# Whatever the facts


@pytest.mark.parametrize("look", LOOKS)
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
