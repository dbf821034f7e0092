"""The edit budget on the screen: forgetting curves forecast before the edits are made, and what was measured then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from kis_core import charts, progress
from kis_core.lifelong import EditTrace, frames, summary
from kis_core.lifelong import budget as forecasts
from kis_core.lifelong.budget import Budget
from kis_core.lifelong.budget_advice import ForecastRun, advice
from kis_core.progress import Report
from kis_core.read_only import read_only
from kis_core.wording import counted, number
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure
from pages.parts.frame.glossary import explain
from pages.parts.frame.text import duration, named, plain
from pages.parts.frame.views import ResultView
from pages.parts.jobs import background
from pages.parts.jobs.background import runner
from pages.parts.jobs.waiting import Wait, progress_of, reason
from pages.parts.lifelong.runs import Run
from pages.parts.lifelong.view import RunPlan, RunView, request_line
from pages.parts.lifelong.why import why_look

KEPT_BUDGETS = 60  # in memory, for all sessions
HELP = (
    "**Paper, eq. 11.** What lands on an unrelated fact is Σᵢ p(kₑᵢ, kⱼ) δᵢ. Every planned edit gets its own key, "
    "which gives p exactly, and a δ drawn from those of a few **pilot edits**, whose values are really searched for: "
    "the next edits of the queue on the unedited model and after 5, 10, 20, … stand-in edits. Later pilots have larger "
    "δ, as a damaged model needs; how their size grows with what the layer carries is fitted to them. The model is "
    "then run with the sum.\n"
    "- **band**: where one run is to lie with 90 % probability, from runs with other pilots and other δ’s.\n"
    "- **approximate**: a real δ is found for its own key on the very model that the edits before it left; here it is "
    "drawn. docs/budget.md says how well that does."
)


@st.cache_resource(show_spinner=False)
def _budgets() -> dict[str, Budget]:
    """The forecasts looked at, by the names they are stored under."""
    return {}


def budget_of(run: Run) -> Budget | None:
    """The forecast of a run, or None if it was never made."""
    key, kept = forecasts.key(run.bench, run.request), _budgets()
    if key not in kept and (stored := forecasts.known(run.bench, run.request)) is not None:
        kept[key] = stored
        while len(kept) > KEPT_BUDGETS:
            kept.pop(next(iter(kept)))
    return kept.get(key)


def forecast_button(planned: RunPlan) -> None:
    """Forecast all runs of the plan that can be, in the background."""
    if read_only():
        return
    possible = [run for run in planned.runs if forecasts.refusal(run.request.method) is None]
    missing = [run for run in possible if budget_of(run) is None]
    why = forecasts.refusal(planned.main.request.method)
    st.button(
        "Forecast the budget" if missing or not possible else "Budget forecast",
        icon=":material/online_prediction:",
        disabled=not missing or bool(_alive(planned)),
        on_click=_start,
        args=(missing,),
        width="stretch",
        key="forecast-budget",
        help=why or f"{explain('edit budget')} It takes at most a fifth of the run’s searches.",
    )


def _job(run: Run) -> str:
    return forecasts.key(run.bench, run.request)


def _alive(planned: RunPlan) -> list[str]:
    return list(background.alive([_job(run) for run in planned.runs]))


def _start(missing: Sequence[Run]) -> None:
    for run in missing:

        def work(report: Report, run: Run = run) -> None:
            forecasts.forecast(run.bench, run.request, report=report)

        model = run.bench.result.request.model
        label = f"the forecast of {run.name} on {named(model)}"
        background.begin(_job(run), work, background.lane_of(model), label, progress.BUDGET_STAGES)


def progress_of_budget(planned: RunPlan) -> None:
    """A bar with Cancel while forecasts are made, and why those failed that did."""
    for run in planned.runs:
        job = runner().find(_job(run))
        if job and budget_of(run) is None and (error := job.snapshot().error) is not None:
            st.error(f"{plain(run.name)}: {reason(error)}", icon=":material/error:")
    if waiting := _alive(planned):
        progress_of(Wait(waiting, "budget", "Forecasting the budget"))


def budget_figure(seen: ResultView, planned: RunPlan, traces: Mapping[Run, EditTrace]) -> None:
    """The forecast curves, with the measured ones over them as far as runs were made; nothing without a forecast."""
    budgets = {run: budget for run in planned.runs if (budget := budget_of(run)) is not None}
    if not budgets:
        return
    frame = pd.concat([forecasts.curve(budget).assign(run=run.name) for run, budget in budgets.items()])
    holding = frames.holding({run.name: traces[run] for run in budgets if run in traces})
    measured = holding[holding["series"] == "unrelated"].rename(columns={"share": "recall"})
    most = max(run.request.edits for run in budgets)
    main = next(iter(budgets))
    figure(
        seen,
        drawing(charts.budget, frame, measured[["run", "edits", "recall"]], most=most),
        FigureText(
            title="The edit budget, forecast before the edits",
            caption=_caption(budgets, traces),
            help=f"{HELP}\n\n{explain('edit budget')}",
            data=lambda: frame,
            code="from kis_core import lifelong, simulator\n\nbench = simulator.of(result, Store())\n"
            f"{request_line(main.request)}\nforecast = lifelong.budget.forecast(bench, request)\n"
            "frame = lifelong.budget.curve(forecast)",
        ),
        key="budget",
    )
    if planned.main in budgets:
        why_look(seen, planned.main, traces.get(planned.main))


def _caption(budgets: Mapping[Run, Budget], traces: Mapping[Run, EditTrace]) -> str:
    """What is forecast, how certain it is, what it took, and what was measured where it was."""
    main = next(iter(budgets))
    budget = budgets[main]
    words = (
        f"{plain(main.name)}: half of the unrelated facts are forecast to be forgotten after {_half(budget)}. "
        f"Approximate: the planned edits’ own keys, with values drawn from {counted(budget.searches, 'pilot edit')} "
        f"({number(budget.share, '.0%')} of the run’s searches, {duration(budget.seconds)})."
    )
    if main in traces and (half := summary.half_life(traces[main])).reached:
        words += f" Measured: {counted(round(half.edits), 'edit')}."
    if len(budgets) > 1:
        compared = [ForecastRun(run.bench.result.request.model, run.request, at) for run, at in budgets.items()]
        words += f" {plain(advice(compared))}"
    return words


def _half(budget: Budget) -> str:
    half = forecasts.half_life(budget)
    if half.unreached:
        return (
            f"more than {number(half.low, '.0f')} edits (in {half.unreached} of {half.runs} redraws not within the run)"
        )
    return f"{number(half.middle, '.0f')} edits ({half.low:.0f}–{half.high:.0f}, 90 %)"


def budget_look(view: RunView) -> None:
    """The forecast under a run, or how to get it."""
    if why := forecasts.refusal(view.run.request.method):
        st.info(plain(why), icon=":material/block:")
    elif budget_of(view.run) is None:
        st.info("Press **Forecast the budget** on the left to set a forecast beside this run.", icon=":material/info:")
    else:
        budget_figure(view, view.plan, view.traces)
