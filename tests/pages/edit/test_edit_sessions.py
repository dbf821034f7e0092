"""Edits of several people on one server: who sees them, what they leave behind, and who waits for whom."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from kis_core.models import loading
from kis_core.models.loaded import LoadedModel
from kis_core.simulator import EditRequest, Simulator
from kis_core.spillover import forecast as forecasts
from kis_core.spillover import measurement
from pages.parts.edit import simulator as benches
from pages.parts.frame import state
from tests.pages.conftest import MODEL, ONE_LAYER, SECONDS, Stored
from tests.pages.edit_tools import (
    FEW,
    SMALL,
    Alone,
    Edit,
    assert_bars,
    bars,
    button,
    choose,
    fail,
    finish,
    infos,
    measured,
    perform,
    type_object,
    undo,
)
from tests.pages.looking import (
    markdown,
    unescaped,
)


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
    assert "was cancelled" in infos(page.run())


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
    assert "was cancelled" in infos(page)
    button(page, "Get the forecast").click().run()
    assert_bars(page.run(), small().frame())
