"""Edit a fact: what is performed, measured and undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from kis_core import simulator
from kis_core.facts import saved
from kis_core.store.store import default_root
from pages.parts.jobs import results
from tests.pages.conftest import ANSWERED, LAYERS
from tests.pages.edit_tools import (
    FEW,
    LINEAR,
    SMALL,
    STEPS,
    STORY,
    Alone,
    Edit,
    assert_bars,
    bars,
    button,
    choose,
    measured,
    perform,
    spillover,
    type_object,
    undo,
)
from tests.pages.looking import (
    captions,
    click,
    html,
    unescaped,
)


def test_the_edit_performed_is_measured_as_the_library_alone_does(open_edit: Edit, alone: Callable[..., Alone]) -> None:
    page = perform(open_edit(**STORY, strength="1.5"))
    assert page.query_params["performed"] == "yes"
    expected = alone().frame(strength=1.5, performed=True)
    assert measured(page)
    assert_bars(page, expected)
    changed = expected[expected["flips"] != ""]
    forecast = int((changed["flips_foretold"] != "").sum())
    wrong = int((expected["flips_foretold"] != "").sum()) - forecast
    assert wrong > 0
    assert f"{forecast} of these {len(changed)} forecast, {wrong} more forecast wrongly." in captions(page)
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
    assert f">{found.paraphrase:.0%} give the new object<" in shown
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
    monkeypatch.setattr(results, "answered", lambda full: results.narrowed(full, [1, 2], "the model answers"))
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
    two = next(name for name in saved.names(default_root()) if name.startswith("two-"))
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
