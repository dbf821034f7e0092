"""The server's store and its one runner, and how work gets into a lane of it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from kis_core import jobs, machine, progress
from kis_core.analysis import pipeline, unfinished, warm_up
from kis_core.analysis.requirements import choose
from kis_core.analysis.unfinished import UnfinishedRequest
from kis_core.facts import BUILTIN_SETS
from kis_core.jobs import Lane
from kis_core.models.holder import LoadedModels
from kis_core.progress import Report
from kis_core.request import Request
from kis_core.store.store import Store, StoreError
from pages.parts.frame import state
from pages.parts.frame.text import named, text_behind

if TYPE_CHECKING:
    from kis_core.covariance.settling import Look


@st.cache_resource(show_spinner=False)
def store() -> Store:
    """The one store of this server."""
    return Store()


@st.cache_resource(show_spinner=False)
def models() -> LoadedModels:
    """The models in this server's memory, for all sessions."""
    return LoadedModels()


@st.cache_resource(show_spinner=False)
def runner() -> jobs.Runner:
    """The one runner of this server."""
    return jobs.Runner()


@st.cache_resource(show_spinner=False)
def _first_device() -> str:
    return machine.devices()[0].name


def lane_of(model: str, device: str = "auto", *, quick: bool = False) -> Lane:
    """The lane in which work on a model waits; "auto" stands for the first device that the model fits."""
    if device == "auto":
        entry = state.models().get(model)
        device = choose(entry, machine.devices())[0] if entry else _first_device()
    return Lane(device, quick)


def begin(
    key: str,
    work: Callable[[Report], object],
    lane: Lane,
    label: str,
    stages: Mapping[str, float] = progress.STAGES,
    **options: Any,
) -> jobs.Job:
    """Let work wait for its turn in a lane, or join the job of that key; `options` are those of `Runner.submit`."""

    def prepared(report: Report) -> None:
        settle_imports()
        work(report)

    return runner().submit(key, prepared, stages, label=label, lane=lane, **options)


def submit(request: Request, device: str = "auto") -> jobs.Job:
    """Compute a request in the background, or join its job; the job goes by the key of its `UnfinishedRequest`.

    Args:
        request: what is wanted; its model may still have to be downloaded.
        device: where it is to run.
    """
    wanted, lane = UnfinishedRequest(request, device), lane_of(request.model, device)
    looks: list[Look] = []

    def remember() -> None:
        """Before the work can end: a record written later would stay when all is done."""
        with suppress(StoreError):  # then it cannot be resumed after a crash; the work itself will say why
            unfinished.remember(store(), wanted)

    def work(report: Report) -> None:
        pipeline.run(request, store(), device=lane.device, models=models(), report=report, looked=looks.append)
        unfinished.forget(store(), request)

    state.look_again()
    return begin(wanted.key, work, lane, description(request), notes=looks, before=remember)


def resume(begun: UnfinishedRequest) -> None:
    """Resume what was begun, unless it was finished or discarded since the button was drawn."""
    if store().holds(begun.key):
        submit(begun.request, begun.device)


def description(request: Request) -> str:
    """What is computed, so that no two read alike: model, facts, and how C is taken."""
    facts = request.facts if request.facts in BUILTIN_SETS else Path(request.facts).stem
    return f"{named(request.model)} · {facts} facts · C over {text_behind(request.c_settings)}"


def alive(keys: Sequence[str]) -> dict[str, jobs.Job]:
    """Those jobs of these keys that wait or run."""
    return {key: job for key in keys if (job := runner().find(key)) and job.snapshot().alive}


@st.cache_resource(show_spinner=False)
def settle_imports() -> None:
    """Import what is heavy and take it out of the garbage collector's sight, once a server.

    Streamlit collects after every rerun. With a million objects of torch and transformers to look through, that holds
    the interpreter for a third of a second each time, and halves the speed of a computation in the background.
    """
    warm_up.import_all()
    gc.collect()
    gc.freeze()
