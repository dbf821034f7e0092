"""Runs of edits on the server: started in the background, shown as far as they went, shared by all sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import streamlit as st

from kis_core import jobs, lifelong, progress
from kis_core.lifelong import EditTrace, LifelongRequest
from kis_core.progress import Report
from kis_core.simulator import Simulator
from pages.parts.frame.text import named, plain
from pages.parts.jobs import background
from pages.parts.jobs.background import runner
from pages.parts.jobs.waiting import Wait, progress_of, reason

KEPT_TRACES = 60  # in memory, for all sessions


@dataclass(frozen=True, eq=False)
class Run:
    """A run that is to be shown.

    Attributes:
        name: in the legend.
        bench: model, facts and C.
        request: which edits, and how they are made.
    """

    name: str
    bench: Simulator
    request: LifelongRequest

    @property
    def key(self) -> str:
        """What sets it apart from any other run."""
        return lifelong.key(self.bench, self.request)

    @property
    def job(self) -> str:
        """The key of its job."""
        return f"{self.key}-{self.request.edits}"


@st.cache_resource(show_spinner=False)
def _traces() -> dict[str, EditTrace]:
    """The newest trace of each run looked at, by its key."""
    return {}


def _keep(key: str, trace: EditTrace) -> None:
    traces = _traces()
    traces[key] = trace
    while len(traces) > KEPT_TRACES:
        traces.pop(next(iter(traces)))


def trace_of(run: Run) -> EditTrace | None:
    """The run as far as it went, or None if it was never begun."""
    key, edits = run.key, run.request.edits
    newest = _traces().get(key)
    if newest is None or (not alive([run]) and newest.edits < edits):
        stored = lifelong.known(run.bench, run.request)
        if stored is not None and (newest is None or stored.edits > newest.edits):
            newest = stored
            _keep(key, stored)
    return newest.until(edits) if newest is not None else None


def is_finished(run: Run) -> bool:
    """Whether all its edits were made and measured."""
    return lifelong.finished(trace_of(run), run.request)


def alive(runs: Sequence[Run]) -> list[str]:
    """The jobs of these runs that wait or run."""
    return list(background.alive([run.job for run in runs]))


def start(runs: Sequence[Run]) -> None:
    """Begin or resume the runs that are not finished, one after the other."""
    for run in runs:
        if not is_finished(run):
            _submit(run)


def _submit(run: Run) -> None:
    def work(report: Report) -> None:
        lifelong.run(run.bench, run.request, seen=lambda trace: _keep(run.key, trace), report=report)

    model = run.bench.result.request.model
    label = f"the run {run.name} on {named(model)}"
    background.begin(run.job, work, background.lane_of(model), label, progress.LIFELONG_STAGES)


def failures(runs: Sequence[Run]) -> list[str]:
    """Why runs ended, for those that failed. Markdown."""
    snapshots = [(run, job.snapshot()) for run in runs if (job := _unfinished(run))]
    return [f"{plain(run.name)}: {reason(at.error)}" for run, at in snapshots if at.error is not None]


def cancelled(runs: Sequence[Run]) -> bool:
    """Whether one of them was cancelled, by whomever, since the server started."""
    return any((job := _unfinished(run)) and job.snapshot().state is jobs.State.CANCELLED for run in runs)


def _unfinished(run: Run) -> jobs.Job | None:
    """The last job of a run, unless the run was finished since."""
    return None if is_finished(run) else runner().find(run.job)


def progress_of_runs(runs: Sequence[Run]) -> None:
    """A bar for the runs that wait or are at work, with a Cancel for all of them; nothing where there is none.

    The page is drawn anew whenever one of them has measured something, and when one ends.
    """
    if waiting := alive(runs):
        label = f"{len(waiting)} runs to go" if len(waiting) > 1 else ""
        progress_of(Wait(waiting, "runs", label, reached=lambda: _edits_made(runs)))


def _edits_made(runs: Sequence[Run]) -> list[int]:
    traces = _traces()
    return [traces[run.key].edits if run.key in traces else 0 for run in runs]


def of_other_seeds(run: Run, most: int) -> list[Run]:
    """The same run with other seeds, as far as something of it is stored."""
    draw = run.request.draw
    if draw.by == "hand":
        return []
    seeds = [seed for seed in range(most) if seed != draw.seed]
    others = [replace(run, request=replace(run.request, draw=replace(draw, seed=seed))) for seed in seeds]
    return [other for other in others if other.key in _traces() or run.bench.store.holds(other.key)]
