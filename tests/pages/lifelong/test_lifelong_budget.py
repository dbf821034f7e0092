"""The edit budget on Lifelong: forecast by a click, then shown with the measured curve over it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from kis_core import lifelong
from kis_core.lifelong import EditTrace, budget, summary
from tests.pages.lifelong_runs import EDITS, Runs, chart, settled
from tests.pages.looking import captions, infos


def test_a_forecast_by_a_click_and_the_run_over_it(
    runs: Runs, opened: Callable[..., AppTest], trace: EditTrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "REDRAWS", 2)
    page = opened(chronicle="budget")
    assert "Press **Forecast the budget** on the left" in infos(page)
    page.button(key="forecast-budget").click().run()
    page = settled(page)
    assert not page.exception
    bench = runs.bench()
    forecast = budget.known(bench, lifelong.ask(bench, 0, "rome", EDITS))
    assert forecast is not None
    assert chart(page, "The edit budget, forecast before the edits")
    assert f"{forecast.searches} pilot edits" in captions(page)
    half = summary.half_life(trace)
    assert (f"Measured: {round(half.edits)} edits" in captions(page)) == half.reached
    assert page.button(key="forecast-budget").disabled


def test_fine_tuning_says_why_it_has_no_budget(opened: Callable[..., AppTest]) -> None:
    page = opened(editor="fine-tuning", edits="5", chronicle="budget")
    assert page.button(key="forecast-budget").disabled
    assert "searches for no value" in infos(page)
