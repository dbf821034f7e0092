"""Edit a fact where no edit reaches the answer, or where model, C or facts are missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import streamlit as st

from kis_core.analysis import pipeline
from kis_core.models import catalog, loading
from kis_core.models.files import ModelError
from kis_core.simulator import share_frame, spill_frame
from pages.parts.frame.text import plain
from pages.parts.jobs import results
from tests.pages.conftest import MODEL, ONE_LAYER, Cache, Stored
from tests.pages.edit_tools import SMALL, STORY, Alone, Edit, assert_bars, button, choose, fail, measured, type_object
from tests.pages.looking import (
    captions,
    markdown,
)

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
    assert "forecast once the model has been run" not in captions(page), "it never is"
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
        assert "forecast once the model is loaded" in captions(page)
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
        monkeypatch.setattr(catalog, "hub_files", fail(ModelError("nobody/nothing is *not* on this machine")))
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
