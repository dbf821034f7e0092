"""Edits on the server: one simulator a result, one model for all sessions, long work in the background.

Nothing of an edit stays in the model or in the simulator but numbers that are the same for whoever edits: what a
session has performed is known to that session alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd
import streamlit as st

from kis_core import charts, jobs, progress
from kis_core.analysis import pipeline
from kis_core.progress import Report
from kis_core.results.result import Result
from kis_core.simulator import EditRequest, Simulator
from pages.parts.frame.public import not_offered
from pages.parts.frame.text import count, named, plain
from pages.parts.jobs import background, results
from pages.parts.jobs.background import runner, store
from pages.parts.jobs.waiting import CANCELLED, Wait, complain, progress_of

QUICK = 1.5  # seconds to wait for work before its progress is drawn: with the demo models it is done by then
KEPT_SIMULATORS = 12  # more than the demo family, which may be set against each other
KEPT_TABLES = 50


def simulator(result: Result) -> Simulator:
    """The simulator for a result, shared by all sessions."""
    return _simulator(result.identity, result)


@st.cache_resource(show_spinner=False, max_entries=KEPT_SIMULATORS)
def _simulator(identity: str, _result: Result) -> Simulator:
    background.settle_imports()  # what is drawn of an edit imports torch, whether a model is loaded or not
    return Simulator(_result, store(), lambda: pipeline.model_of(_result, store(), models=background.models()))


@dataclass(frozen=True)
class Task:
    """Work on an edit that takes seconds, once the model is there.

    Attributes:
        key: of its job.
        work: what is done.
        stages: of it, with their shares of the time.
        button: what it is, for the button that starts it.
        question: what to say before it is started; None where it starts by itself.
        notes: the losses of the search for a value so far, which the work fills.
    """

    key: str
    work: Callable[[Report], object]
    stages: Mapping[str, float]
    button: str
    question: str | None = None
    notes: Sequence[float] = ()


def forecast_ready(bench: Simulator, request: EditRequest) -> bool:
    """Whether the forecast of an edit is there. If not, gets it in the background and shows how far that is."""
    if bench.has_forecast(request):
        return True
    losses: list[float] = []

    def work(report: Report) -> None:
        bench.prepare(request, seen=losses.append, report=report)

    key = _key("forecast", bench, request)
    task = Task(key, work, progress.EDIT_STAGES, "Get the forecast", _question(bench), losses)
    return _done(bench, task) and bench.has_forecast(request)


def outcome_ready(bench: Simulator, request: EditRequest, strength: float) -> bool:
    """Whether the outcome of an edit is there. If not, makes the edit in the background, measures and takes it back."""
    if bench.performed(request, strength):
        return True
    key, work = f"{_key('outcome', bench, request)}-{strength}", partial(bench.perform, request, strength)
    task = Task(key, work, progress.MEASURE_STAGES, "Perform the edit")
    return _done(bench, task) and bench.performed(request, strength)


def advice_ready(bench: Simulator, request: EditRequest) -> bool:
    """Whether the advice on layers is there. If not, tries the edit in each in the background and shows progress."""
    if bench.advised(request):
        return True

    def work(report: Report) -> None:
        for _ in bench.advise(request, report=report):
            pass

    task = Task(_key("advice", bench, request), work, progress.ADVICE_STAGES, "Try the layers", _question(bench))
    return _done(bench, task) and bench.advised(request)


def _key(what: str, bench: Simulator, request: EditRequest) -> str:
    return f"{what}-{bench.value_key(request)}-{bench.result.identity}"


@st.cache_resource(show_spinner=False)
def _tables() -> dict[str, pd.DataFrame]:
    """What was worked out in the background, by key."""
    return {}


def table(bench: Simulator, key: str, make: Callable[[Report], pd.DataFrame], stage: str) -> pd.DataFrame | None:
    """A table that takes a model and a while, worked out in the background; None while it is not there."""

    def work(report: Report) -> None:
        made = make(report)
        while len(_tables()) >= KEPT_TABLES:
            _tables().pop(next(iter(_tables())))
        _tables()[key] = made

    if key not in _tables():
        stages = {"Loading the model": 0.3, stage: 0.7}
        _done(bench, Task(key, work, stages, "Compute this table", _question(bench)))
    return _tables().get(key)


def _question(bench: Simulator) -> str | None:
    """What to say before a large model is loaded."""
    model, parameters = bench.result.request.model, bench.result.provenance["parameters"]
    if results.small(model):
        return None
    return (
        f"To forecast log-odds, **{plain(model)}** has to be loaded "
        f"({count(parameters)} parameters) and run over the facts; without a GPU that can take long."
    )


def _done(bench: Simulator, task: Task) -> bool:
    """Whether the work has ended well; shows how far it is, or what keeps it from being begun."""
    job, model = runner().find(task.key), bench.result.request.model
    if job is None:
        if not_offered(f"“{task.button}”"):
            return False
        package = results.installs(model)
        if task.question or package:
            st.info(
                f"{task.question or 'The model is not on this machine.'}{package}", icon=":material/hourglass_empty:"
            )
            if package or not st.button(task.button, type="primary", key=f"start-{task.button}"):
                return False
        label, lane = f"“{task.button}” on {named(model)}", background.lane_of(model, quick=True)
        job = background.begin(task.key, task.work, lane, label, task.stages, notes=task.notes)
    job.wait(QUICK)
    snapshot = job.snapshot()
    if snapshot.state is jobs.State.DONE:
        runner().forget(task.key)
        return True
    if snapshot.alive:
        progress_of(Wait([task.key], "edit", show_notes=_show_losses))
        return False
    if snapshot.error is not None:
        complain(snapshot.error)
    else:
        st.info(CANCELLED, icon=":material/cancel:")
    if st.button("Try again" if snapshot.error else task.button, key=f"again-{task.button}"):
        runner().forget(task.key)
        st.rerun()
    return False


def _show_losses(losses: Sequence[float]) -> None:
    st.altair_chart(charts.losses(list(losses), stop=0.0), key="losses-live")
