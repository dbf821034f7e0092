"""Why a model forgets, on the screen: the forecast of a run without each of its causes, made behind a button."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kis_core import charts, progress
from kis_core.lifelong import EditTrace, frames
from kis_core.lifelong import budget as forecasts
from kis_core.lifelong import why as causes
from kis_core.progress import Report
from kis_core.read_only import read_only
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure
from pages.parts.frame.text import named, plain
from pages.parts.frame.views import ResultView
from pages.parts.jobs import background
from pages.parts.jobs.background import runner
from pages.parts.jobs.waiting import Wait, progress_of, reason
from pages.parts.lifelong.runs import Run
from pages.parts.lifelong.view import request_line

HELP = (
    "The forecast is made again from the same pilot edits without one of its causes.\n"
    "- **δ does not grow**: every edit is as large as on the unedited model (no norm feedback).\n"
    "- **keys of random directions**: each edit reaches general text as far as before (uᵀCu stays), but facts have no "
    "directions in common (no superposition).\n"
    "- **neither**: what is left is that many edits add up to noise, and how much of it the model bears.\n"
    "- “no clear difference”: by the redraws, 90 % (Welch’s t-test on log edits)."
)


def why_look(seen: ResultView, run: Run, trace: EditTrace | None) -> None:
    """The causes of forgetting in a run whose forecast is there, or the button that works them out."""
    parts = causes.known(run.bench, run.request)
    if parts is None:
        _work_out(run)
        return
    frame = pd.concat([forecasts.curve(part).assign(run=name) for name, part in parts.items()], ignore_index=True)
    holding = frames.holding({causes.AS_FORECAST: trace} if trace else {})
    measured = holding[holding["series"] == "unrelated"].rename(columns={"share": "recall"})
    figure(
        seen,
        drawing(charts.budget, frame, measured[["run", "edits", "recall"]], most=run.request.edits),
        FigureText(
            title="Why it forgets: the forecast without its causes",
            caption=f"{plain(run.name)}: {causes.explanation(parts)} Approximate, as the forecast is.",
            help=HELP,
            data=lambda: frame,
            code="import pandas as pd\n\nfrom kis_core import lifelong, simulator\n"
            f"from kis_core.lifelong import why\n\nbench = simulator.of(result, Store())\n{request_line(run.request)}\n"
            "parts = why.decomposition(bench, request)\n"
            "frame = pd.concat([lifelong.budget.curve(part).assign(run=name) for name, part in parts.items()])",
        ),
        key="why",
    )


def _work_out(run: Run) -> None:
    """The button, or how far the work is."""
    job = f"why-{forecasts.key(run.bench, run.request)}"
    if alive := list(background.alive([job])):
        progress_of(Wait(alive, "why", "Taking the forecast apart"))
        return
    ended = runner().find(job)
    if ended and (error := ended.snapshot().error) is not None:
        st.error(reason(error), icon=":material/error:")
    if not read_only():
        st.button(
            "Why does it forget?",
            icon=":material/help_center:",
            on_click=_start,
            args=(job, run),
            key="why-forget",
            help="Makes the forecast again without growing δ, without superposition, and without both: no search, but "
            "about three times the stand-in edits of the forecast.",
        )


def _start(job: str, run: Run) -> None:
    def work(report: Report) -> None:
        causes.decomposition(run.bench, run.request, report)

    model = run.bench.result.request.model
    label = f"why {run.name} forgets, on {named(model)}"
    background.begin(job, work, background.lane_of(model), label, progress.BUDGET_STAGES)
