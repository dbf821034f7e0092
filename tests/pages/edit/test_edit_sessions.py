"""Edits of several people on one server: who sees them, what they leave behind, and who waits for whom."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from kis_core.analysis import pipeline
from kis_core.models import loading
from kis_core.models.loaded import LoadedModel
from kis_core.request import Request
from kis_core.simulator import EditRequest, Simulator
from kis_core.spillover import forecast as forecasts
from kis_core.spillover import measurement
from pages.parts.edit import simulator as benches
from pages.parts.frame import state
from tests.pages.conftest import MODEL, ONE_LAYER, SECONDS
from tests.pages.edit_tools import (
    AS_ON_A_SERVER,
    FEW,
    SMALL,
    Edit,
    Makes,
    assert_bars,
    bars,
    fail,
    measured,
    perform,
    type_object,
    undo,
)
from tests.pages.looking import button, choose, finish, infos, markdown, press, unescaped
from tests.results.results_tools import made


def listed(page: AppTest) -> list[str]:
    """The labels of the edits that this session has performed."""
    return [unescaped(button.label) for button in page.button if button.key and button.key.startswith("edit-")]


def test_models_in_two_kinds_of_arithmetic_are_two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "load", lambda _, **how: SimpleNamespace(**how))
    monkeypatch.setattr(pipeline, "weights_fingerprint", lambda *_: "of a test")
    monkeypatch.setattr(benches, "store", lambda: None)
    whole = made(np.eye(3)[None])
    whole = replace(whole, provenance=whole.provenance | {"weights_sha256": "of a test"})
    for dtype in ("bfloat16", "float32"):
        simulator = AS_ON_A_SERVER.__wrapped__((), replace(whole, request=Request(dtype=dtype)))  # type: ignore[attr-defined]
        assert vars(simulator.model) == {"device": "auto", "dtype": dtype}


def test_performed_edits_are_listed_and_gone_back_to(open_edit: Edit, small: Makes) -> None:
    page = open_edit(**SMALL, performed="yes")
    first, query = bars(page), dict(page.query_params)
    page = perform(choose(page, "layer", 1))
    page = perform(undo(page))
    assert len(listed(page)) == 2, "each once, whatever was undone"
    outcome = small().outcome()
    took = "took" if outcome.success.efficacy else "did not take"
    label = f"**Vladimir Mayakovsky: Russian → French** · {MODEL}, layer 0, ROME, strength 1 · {took} · "
    assert listed(page)[1].startswith(f"{label}{int(outcome.flipped[1:].sum())} other answer")
    page.button(key="edit-0").click().run()
    assert dict(page.query_params) == query | {"pair": "0-0"}
    pd.testing.assert_frame_equal(bars(page), first)
    assert measured(page)
    assert len(listed(page)) == 2


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


def test_another_session_sees_nothing_of_it(open_edit: Edit, small: Makes) -> None:
    first = perform(open_edit(**SMALL))
    second = open_edit(**SMALL)
    assert "Nobody else sees them" in infos(second)
    assert not measured(second)
    assert not listed(second)
    type_object(second, "Polish")
    second = perform(second)
    assert_bars(second, small("Polish").frame(performed=True))
    first.run()
    assert_bars(first, small().frame(performed=True))
    (label,) = listed(first)
    assert "French" in label


def test_the_models_weights_stay(
    open_edit: Edit, own_bench: None, small: Makes, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[LoadedModel] = []
    load = loading.load
    monkeypatch.setattr(loading, "load", lambda folder, **options: loaded.append(load(folder, **options)) or loaded[-1])
    page = open_edit(**SMALL)
    (model,) = loaded
    digest = model.digest()

    def untouched() -> bool:
        assert loaded == [model], "loaded once, for everybody"
        return model.digest() == digest and not any(module._forward_hooks for module in model.model.modules())

    assert untouched()
    page = perform(page)
    assert measured(page)
    assert untouched()

    finish_words = measurement.finish_words
    monkeypatch.setattr(measurement, "finish_words", fail(RuntimeError("/home/someone/secret")))  # with the edit on
    page = perform(choose(page, "strength", 0.5))
    assert "RuntimeError" in page.error[0].value
    assert "secret" not in markdown(page)
    assert bars(page)["measured"].isna().all(), "the forecast is there all the same"
    assert untouched()
    monkeypatch.setattr(measurement, "finish_words", finish_words)
    press(page, "Try again")
    assert_bars(page.run(), small().frame(strength=0.5, performed=True))
    assert untouched()

    type_object(page, "Polish")
    began, go_on, later = threading.Event(), threading.Event(), threading.Event()

    def wait(*arguments: Any) -> list[str]:
        began.set()
        assert go_on.wait(SECONDS)
        return finish_words(*arguments)

    monkeypatch.setattr(benches, "QUICK", 0)
    monkeypatch.setattr(measurement, "finish_words", wait)
    monkeypatch.setattr(forecasts, "propagated", lambda *_: later.set())  # which comes after the measurement
    page = perform(page)
    assert began.wait(SECONDS)
    page.run()  # a rerun in the midst of it
    assert_bars(page, small("Polish").frame(strength=0.5))
    press(page, "Cancel")
    go_on.set()
    finish()
    assert not later.is_set()
    assert untouched()
    page.run()
    assert "was cancelled" in infos(page)
    assert untouched()


def test_two_who_ask_wait_for_one_search(
    open_edit: Edit, own_bench: None, small: Makes, monkeypatch: pytest.MonkeyPatch
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


def test_a_search_called_off_is_begun_again(
    open_edit: Edit, own_bench: None, small: Makes, monkeypatch: pytest.MonkeyPatch
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
    assert began.wait(SECONDS)
    assert len(bars(page)) == 2, "shares are shown meanwhile"
    assert button(page, "Perform the edit").disabled
    press(page, "Cancel")
    go_on.set()
    finish()
    monkeypatch.setattr(benches, "QUICK", SECONDS)
    page.run()
    assert "was cancelled" in infos(page)
    press(page, "Get the forecast")
    assert_bars(page.run(), small().frame())
