"""Edit a fact where no edit reaches the answer, or where model, C or facts are missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import streamlit as st

from kis_core.analysis import pipeline
from kis_core.models import catalog, loading
from kis_core.models.files import ModelError
from kis_core.results import caveats
from kis_core.simulator import share_frame, spill_frame
from pages.parts.frame.text import plain
from pages.parts.jobs import results
from tests.pages.conftest import MODEL, Cache, Stored
from tests.pages.edit_tools import SMALL, Edit, Makes, assert_bars, fail, measured, type_object
from tests.pages.looking import button, captions, markdown, press


def test_in_the_last_layer_another_one_is_offered(open_edit: Edit, stored: Stored, small: Makes) -> None:
    page = open_edit(**SMALL, layer="3", performed="yes")
    warning = page.warning[0].value
    assert "Layer 3 is the last one" in warning
    assert "Vladimir Mayakovsky” is never read where the answer is given" in warning
    assert_bars(page, share_frame(stored("three"), 3, 0))
    assert button(page, "Perform the edit").disabled
    assert button(page, "Undo").disabled
    assert not results.runner()._jobs, "nothing is searched for in vain"
    assert "forecast once the model has been run" not in captions(page), "it never is"
    assert "performed" not in page.query_params
    press(page, "Edit layer 0 instead")
    assert "layer" not in page.query_params
    assert not measured(page)
    assert_bars(page, small().frame())


def test_an_odd_key_is_warned_of_before_anything_is_searched_for(open_edit: Edit, stored: Stored) -> None:
    said = [warning.value for warning in open_edit(facts="builtin", pair="92-3", layer="3").warning]
    assert said[0] == plain(" ".join(caveats.of_edit(stored(), 3, 92)))
    assert "taken at the first token" in said[0]
    assert len(said) == 2
    assert not results.runner()._jobs


def test_a_model_that_cannot_be_loaded_leaves_what_needs_none(
    open_edit: Edit, own_bench: None, stored: Stored, small: Makes, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = loading.load
    monkeypatch.setattr(loading, "load", fail(ModelError("the *weights* are gone")))
    page = open_edit(**SMALL | {"target": "Welsh"})
    assert page.error[0].value == plain("the *weights* are gone")
    assert_bars(page, share_frame(stored("three"), 0, 0))
    assert button(page, "Perform the edit").disabled
    monkeypatch.setattr(loading, "load", load)
    press(page, "Try again")
    assert_bars(page.run(), small("Welsh").frame())
    assert not page.error


def test_without_c_and_what_it_came_from_shares_are_shown(
    open_edit: Edit, own_bench: None, stored: Stored, small: Makes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert small().forecast
    monkeypatch.setattr(loading, "load", fail(RuntimeError("/home/someone/secret")))
    monkeypatch.setattr(pipeline, "second_moment", fail(ModelError("so is *C*")))
    page = open_edit(**SMALL)
    errors = [error.value for error in page.error]
    assert plain("so is *C*") in errors
    assert any("RuntimeError" in error for error in errors), "of what is none of ours the kind is told, and no more"
    assert "secret" not in markdown(page)
    assert_bars(page, share_frame(stored("three"), 0, 0))


def test_a_model_that_is_only_in_the_store_can_be_chosen(
    open_edit: Edit,
    own_bench: None,
    stored: Stored,
    small: Makes,
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result, edit, entry = stored("three"), small(), catalog.find(MODEL)
    assert entry is not None
    known = spill_frame(edit.bench, 0, replace(edit.forecast, flips=None), "all", 1.0, None)
    # from here on it is one of the paper's, computed on another machine
    here = tuple(demo for demo in catalog.demo() if demo.name != MODEL)
    monkeypatch.setattr(catalog, "demo", lambda: here)
    monkeypatch.setattr(catalog, "PAPER", (*catalog.PAPER, replace(entry, files=None, source="nobody/nothing")))
    monkeypatch.setattr(catalog, "hub_files", fail(ModelError("nobody/nothing is *not* on this machine")))
    st.cache_data.clear()
    page = open_edit(**SMALL | {"target": "Cornish"})
    assert page.selectbox(key="choose-model").value == MODEL
    assert page.query_params["model"] == MODEL
    assert f"{plain(MODEL)} is not on this machine: its stored result is shown" in captions(page)
    assert page.error[0].value == plain("nobody/nothing is *not* on this machine")
    assert_bars(page, share_frame(result, 0, 0))
    assert button(page, "Perform the edit").disabled
    page = type_object(page, "French")
    assert_bars(page, known)
    assert button(page, "Perform the edit").disabled
    damaged = cache.folder / "facts" / "damaged-00000000.json"
    damaged.write_text("{", "utf-8")
    try:
        assert open_edit(facts=damaged.stem).error, "facts that cannot be read are told too"
    finally:
        damaged.unlink()
