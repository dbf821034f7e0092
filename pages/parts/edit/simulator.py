"""Edits on the server: one simulator a result, one model for all sessions, long work in the background.

Nothing of an edit stays in the model or in the simulator but numbers that are the same for whoever asks: what a session
has performed is known to that session alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd
import streamlit as st

from kis_core import charts, jobs, progress
from kis_core.analysis import pipeline
from kis_core.errors import KisError
from kis_core.results.result import Result
from kis_core.simulator import EditRequest, Simulator
from pages.parts.frame.text import count, plain
from pages.parts.jobs import background, results
from pages.parts.jobs.background import LOOK_AGAIN, runner, store

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


@st.cache_resource(show_spinner=False)
def _losses() -> dict[str, list[float]]:
    """Of searches that run now, by their job."""
    return {}


def foretold(bench: Simulator, request: EditRequest) -> bool:
    """Whether the forecast of an edit is there. If not, gets it in the background and shows how far that is."""
    if bench.foretold(request):
        return True
    key = f"forecast-{bench.value_key(request)}-{bench.result.identity}"

    def work(report: progress.Report) -> None:
        background.settle_imports()
        seen = _losses()[key] = []
        try:
            bench.prepare(request, seen=seen.append, report=report)
        finally:
            _losses().pop(key, None)

    return _done(key, work, progress.EDIT_STAGES, "Get the forecast", _question(bench)) and bench.foretold(request)


def performed(bench: Simulator, request: EditRequest, strength: float) -> bool:
    """Whether the outcome of an edit is there. If not, makes the edit in the background, measures and takes it back."""
    if bench.performed(request, strength):
        return True
    key = f"outcome-{bench.value_key(request)}-{bench.result.identity}-{strength}"

    def work(report: progress.Report) -> None:
        bench.perform(request, strength, report)

    return _done(key, work, progress.MEASURE_STAGES, "Perform the edit") and bench.performed(request, strength)


def advised(bench: Simulator, request: EditRequest) -> bool:
    """Whether the advice on layers is there. If not, tries the edit in each in the background and shows progress."""
    if bench.advised(request):
        return True
    key = f"advice-{bench.value_key(request)}-{bench.result.identity}"

    def work(report: progress.Report) -> None:
        background.settle_imports()
        for _ in bench.advise(request, report=report):
            pass

    return _done(key, work, progress.ADVICE_STAGES, "Try the layers", _question(bench)) and bench.advised(request)


@st.cache_resource(show_spinner=False)
def _tables() -> dict[str, pd.DataFrame]:
    """What was worked out in the background, by key."""
    return {}


def table(
    bench: Simulator, key: str, make: Callable[[progress.Report], pd.DataFrame], stage: str
) -> pd.DataFrame | None:
    """A table that takes a model and a while, worked out in the background; None while it is not there."""
    if key in _tables():
        return _tables()[key]

    def work(report: progress.Report) -> None:
        background.settle_imports()
        found = make(report)
        while len(_tables()) >= KEPT_TABLES:
            _tables().pop(next(iter(_tables())))
        _tables()[key] = found

    done = _done(key, work, {"Loading the model": 0.3, stage: 0.7}, "Work it out", _question(bench))
    return _tables().get(key) if done else None


def _question(bench: Simulator) -> str | None:
    """What to ask before a large model is loaded."""
    model, parameters = bench.result.request.model, bench.result.provenance["parameters"]
    if results.small(model):
        return None
    return (
        f"To foretell log-odds, **{plain(model)}** has to be loaded "
        f"({count(parameters)} parameters) and run over the facts; without a GPU that can take long."
    )


def _done(
    key: str,
    work: Callable[[progress.Report], None],
    stages: Mapping[str, float],
    button: str,
    question: str | None = None,
) -> bool:
    job = runner().find(key)
    if job is None:
        if question:
            st.info(question, icon=":material/hourglass_empty:")
            if not st.button(button, type="primary", key=f"start-{button}"):
                return False
        job = runner().submit(key, work, stages)
    job.wait(QUICK)
    at = job.snapshot()
    if at.state is jobs.State.DONE:
        runner().forget(key)
        return True
    if at.state in (jobs.State.QUEUED, jobs.State.RUNNING):
        _progress(key)
        return False
    if at.state is jobs.State.FAILED:
        known = isinstance(at.error, KisError)
        message = str(at.error) if known else f"An unexpected {type(at.error).__name__} ended the work."
        st.error(plain(message), icon=":material/error:")
    else:
        st.info("Cancelled. What was already finished is kept.", icon=":material/cancel:")
    if st.button("Try again" if at.state is jobs.State.FAILED else button, key=f"again-{button}"):
        runner().forget(key)
        st.rerun()
    return False


@st.fragment(run_every=LOOK_AGAIN)
def _progress(key: str) -> None:
    job = runner().find(key)
    at = job.snapshot() if job else None
    if job is None or at is None or at.state not in (jobs.State.QUEUED, jobs.State.RUNNING):
        st.rerun()
        return
    st.progress(at.share, text=background.telling(at) + background.company(job))
    if found := list(_losses().get(key, ())):
        st.altair_chart(charts.losses(found, stop=0.0), key="losses-live")
    if st.button("Cancel", icon=":material/cancel:", key="cancel-edit"):
        job.cancel()
