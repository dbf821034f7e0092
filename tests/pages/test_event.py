"""The Overview's event: a kept edit that came with the program, told without a model, and opened by a click."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from kis_core import simulator
from kis_core.analysis import pipeline
from kis_core.request import Request
from kis_core.simulator import Event
from kis_core.store.shipped import FOLDER, VARIABLE
from kis_core.store.store import Store
from tests.pages.conftest import NOT_COMPUTED, Open
from tests.pages.looking import captions, carried_out, charts, html, press

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="nothing comes with the program yet")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, folder: object) -> Event:
    """That of a demo model which is not in the cache, at its first layer; some fact follows it."""
    monkeypatch.setenv(VARIABLE, str(FOLDER))
    store = Store()
    result = pipeline.cached(pipeline.resolve(Request(NOT_COMPUTED), store), store)
    assert result
    story = simulator.event(simulator.events(simulator.without_model(result, store)), 0)
    assert story
    assert story.follow
    return story


def words(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", text))


def test_the_overview_opens_on_what_an_edit_did_and_the_edit_is_a_click_away(told: Event, open_page: Open) -> None:
    page = open_page("app.py", model=NOT_COMPUTED)
    shown = words(html(page))
    assert f"Teach the model “ Vladimir Bukovsky is a native speaker of {told.request.target} ”, and" in shown
    for j in told.told[:4]:
        assert f"{told.before[j]} {told.coming.get(j, told.before[j])} {told.forecast[j]:+.1f} {told.after[j]}" in shown
        assert f"{told.after[j]} {told.measured[j]:+.1f}" in shown
    assert f"{told.foreseen} of {len(told.changed)} changed answers forecast." in captions(page)
    assert f"Marked: P[{told.request.fact}, {told.told[0]}]" in captions(page)
    _, names = next((code.value, carried_out(code.value)[0]) for code in page.code if "simulator.event" in code.value)
    assert isinstance(names["frame"], pd.DataFrame)
    assert names["frame"]["measured"].tolist() == sorted(told.measured.tolist())

    press(page, "Open this edit")
    assert page.query_params["pair"] == f"{told.request.fact}-{told.told[0]}"
    assert page.query_params["performed"] == "yes"
    assert "Diamonds are measured" in captions(page)
    assert charts(page)


def test_on_another_layer_its_own_edit_is_told_or_where_the_edit_was_made(told: Event, open_page: Open) -> None:
    page = open_page("app.py", model=NOT_COMPUTED, layer="3")
    assert f"One edit of layer {told.request.layer}" in captions(page)
    assert "Marked" not in captions(page), "the matrix is of another layer"
    press(page, f"Show layer {told.request.layer} below")
    assert "layer" not in page.query_params
    assert "Marked" in captions(page)
