"""The edit budget on Lifelong: forecast by a click, then shown with the measured curve over it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from kis_core import lifelong
from kis_core.lifelong import EditTrace, budget, summary, why
from kis_core.lifelong.budget_advice import ForecastRun, advice
from kis_core.wording import number
from pages.parts.frame.text import plain
from tests.pages.lifelong_runs import EDITS, Runs, chart, settled
from tests.pages.looking import captions, charts, infos


def test_a_forecast_by_a_click_and_the_run_over_it(
    runs: Runs, opened: Callable[..., AppTest], trace: EditTrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kis_core.lifelong.redraws.REDRAWS", 2)
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


def test_why_by_a_click_then_one_figure_and_one_sentence(
    runs: Runs, opened: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kis_core.lifelong.redraws.REDRAWS", 2)
    bench = runs.bench()
    request = lifelong.ask(bench, 0, "rome", EDITS)
    budget.forecast(bench, request)
    page = opened(chronicle="budget")
    assert not any(one.title.startswith("Why it forgets") for one in charts(page))
    page.button(key="why-forget").click().run()
    page = settled(page)
    assert not page.exception
    parts = why.known(bench, request)
    assert parts is not None
    assert why.explanation(parts) in captions(page)
    assert chart(page, "Why it forgets: the forecast without its causes")
    assert "why-forget" not in [button.key for button in page.button]


def test_all_forecasts_of_a_plan_are_weighed_and_the_facts_that_fall_are_forecast(
    runs: Runs, opened: Callable[..., AppTest], trace: EditTrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kis_core.lifelong.redraws.REDRAWS", 2)
    bench = runs.bench()
    request = lifelong.ask(bench, 0, "rome", EDITS)
    most = replace(request, draw=lifelong.Draw("most"))
    made = [ForecastRun(bench.result.request.model, each, budget.forecast(bench, each)) for each in (request, most)]
    page = opened(chronicle="budget", against="draws")
    assert plain(advice(made)) in captions(page)
    step = int(trace.steps[-1])
    ranks = summary.forecasts(trace, len(trace.steps) - 1, budget.fact_changes(made[0].budget, step))
    page = opened(chronicle="theory")
    text = " ".join(each.value for each in page.markdown)
    for name in ("stand_ins", "both"):
        assert f"**{number(ranks[name][0], '.2f')}**" in text
    assert "stand-ins, before any edit was made" in text


def test_fine_tuning_says_why_it_has_no_budget(opened: Callable[..., AppTest]) -> None:
    page = opened(editor="fine-tuning", edits="5", chronicle="budget")
    assert page.button(key="forecast-budget").disabled
    assert "searches for no value" in infos(page)
