"""Edit a fact: what is to be edited, and what is foreseen of it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from kis_core import simulator
from kis_core.analysis.pipeline import Result
from kis_core.models import loading
from kis_core.models.loaded import LoadedModel
from kis_core.results.pairs import first_shown
from kis_core.simulator import FORECASTS, share_frame
from kis_core.spillover import landing
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
    Edit,
    Makes,
    assert_bars,
    bars,
    measured,
    perform,
    ringed,
    spillover,
    type_object,
    undo,
)
from tests.pages.looking import button, captions, choose, finish, html, infos, press


def test_it_opens_with_the_strongest_pair_or_the_picked_one(look_at_edit: Edit, result: Result) -> None:
    page = look_at_edit(how=FEW)
    i, j = first_shown(result, 0) or ()
    assert page.selectbox(key="edit-fact").value == i
    assert ringed(page) == [j]
    assert "pair" not in page.query_params, "a suggestion is no choice"
    page = look_at_edit(**STORY)
    assert page.selectbox(key="edit-fact").value == 1
    assert page.selectbox(key="edit-target").value == "French"
    assert ringed(page) == [0]
    assert re.search(r"is a native speaker of <s[^>]*>Russian</s> → <b>French</b>", html(page))


def test_an_object_chosen_or_typed_is_edited_in(open_edit: Edit, small: Makes) -> None:
    page = open_edit(**SMALL | {"target": "   "})
    assert not page.error
    assert page.selectbox(key="edit-target").value != "   ", "blanks are no object"
    type_object(page, "  Klingon ")
    assert page.query_params["target"] == "Klingon"
    assert "→ <b>Klingon</b>" in html(page)
    assert page.selectbox(key="edit-target").options[0] == "Klingon"
    assert_bars(page, small("Klingon").frame())
    type_object(page, "x" * 500)
    assert page.query_params["target"] == "x" * state.MOST_WORDS


def test_without_a_new_object_it_is_told_what_to_do(open_edit: Edit, stored: Stored) -> None:
    page = open_edit(facts="hostile", pair="1-0")
    assert page.selectbox(key="edit-target").value is None
    assert "Type a new object" in infos(page)
    assert_bars(page, share_frame(stored("hostile"), 0, 1))
    assert button(page, "Perform the edit").disabled
    page = open_edit(**SMALL | {"target": " Russian ", "look": "layers"}, performed="yes")
    assert not page.error
    assert "That is the object it has" in infos(page)
    assert "performed" not in page.query_params
    assert_bars(page, share_frame(stored("three"), 0, 0))
    assert button(page, "Perform the edit").disabled
    assert button(page, "Undo").disabled


def test_bars_are_the_librarys_forecast(look_at_edit: Edit, small: Makes) -> None:
    page, edit = look_at_edit(**SMALL, by="subject", layer="1"), small(layer=1)
    assert_bars(page, edit.frame("subject"))
    span = simulator.span(edit.forecast, 0, "subject", None)
    assert spillover(page).domains("y")[0] == pytest.approx(span, rel=LINEAR)
    assert not measured(page)


def test_the_shift_is_p_times_the_size_of_the_edit(look_at_edit: Edit, alone: Makes) -> None:
    edit = alone()
    page = look_at_edit(**STORY, by="shift")
    assert "from against δ to along it" in captions(page)
    assert "exact, eq. 11)" in captions(page)
    shown, size = bars(page), edit.forecast.edit.size
    p = edit.bench.result.p[0, 1, shown["fact"]]
    np.testing.assert_allclose(shown["forecast"], p * size, rtol=0, atol=SHARE * size)
    np.testing.assert_array_equal(shown["p"], p)


def test_with_c_left_out_the_edit_spills_along_plain_similarity(look_at_edit: Edit, small: Makes) -> None:
    page = look_at_edit(**SMALL, by="shift", method="identity")
    edit = small(method="identity")
    assert_bars(page, edit.frame("shift"))
    keys = edit.bench.sensitivity(0).subject_keys.astype(np.float64)
    q = keys[0] @ keys.T / (keys[0] @ keys[0])
    shown = bars(page)
    np.testing.assert_allclose(shown["forecast"], q[shown["fact"]] * edit.forecast.edit.size, rtol=SHARE)
    rome = small().frame("shift").set_index("fact")["forecast"]
    assert not np.isclose(shown["forecast"], rome[shown["fact"]], rtol=0.01).any()
    assert "a share of its own" in captions(page), "and it is said that it is not P"


def test_what_needs_the_edit_is_foreseen_after_it(open_edit: Edit, small: Makes) -> None:
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
    open_page: Open, stored: Stored, small: Makes, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load", lambda *_, **__: model)
    page = open_page("pages/edit.py", **SMALL | {"target": "Esperanto"})
    assert plain(MODEL) in infos(page)
    assert_bars(page, share_frame(stored("three"), 0, 0))
    assert "exact and known without the model" in captions(page)
    assert button(page, "Perform the edit").disabled
    assert not results.runner()._jobs
    press(page, "Get the forecast")
    finish()
    page.run()
    assert_bars(page, small("Esperanto").frame())
    assert not button(page, "Perform the edit").disabled


def test_an_edit_that_lands_many_times_over_is_warned_of(
    open_edit: Edit, small: Makes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not open_edit(**SMALL).warning
    monkeypatch.setattr(landing, "MANY_TIMES", 1e-3)  # of a demo model's edits far less lands elsewhere
    page, edit = open_edit(**SMALL), small()
    (said,) = edit.bench.warnings(edit.forecast)
    assert [warning.value for warning in page.warning] == [plain(said)]
    assert "This edit lands on “" in said
