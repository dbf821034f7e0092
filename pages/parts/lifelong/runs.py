"""Runs of edits on the server: started in the background, shown as far as they went, shared by all sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import streamlit as st

from kis_core import jobs, lifelong, progress
from kis_core.errors import KisError
from kis_core.lifelong import EditTrace, LifelongRequest
from kis_core.simulator import Simulator
from pages.parts.frame.text import named, plain
from pages.parts.jobs import background, results
from pages.parts.jobs.background import LOOK_AGAIN

KEPT_FILMS = 60  # in memory, for all sessions


@dataclass(frozen=True, eq=False)
class Run:
    """A run that is to be shown.

    Attributes:
        name: in the legend.
        bench: model, facts and C.
        asked: what to do.
    """

    name: str
    bench: Simulator
    asked: LifelongRequest

    @property
    def key(self) -> str:
        """What tells it from any other."""
        return lifelong.key(self.bench, self.asked)

    @property
    def job(self) -> str:
        """The key of its job."""
        return f"{self.key}-{self.asked.edits}"


@st.cache_resource(show_spinner=False)
def runner() -> jobs.Runner:
    """The worker for runs: one of their own, so that what takes seconds need not wait for what takes minutes."""
    return background.registered(jobs.Runner())


@st.cache_resource(show_spinner=False)
def _films() -> dict[str, EditTrace]:
    """The newest film of each run looked at, by its key."""
    return {}


def _keep(key: str, film: EditTrace) -> None:
    films = _films()
    films[key] = film
    while len(films) > KEPT_FILMS:
        films.pop(next(iter(films)))


def film(run: Run) -> EditTrace | None:
    """The run as far as it went, or None if it was never begun."""
    key = run.key
    found = _films().get(key)
    if found is None or (not alive([run]) and found.edits < run.asked.edits):
        stored = lifelong.known(run.bench, run.asked)
        if stored is not None and (found is None or stored.edits > found.edits):
            found = stored
            _keep(key, found)
    return found.until(run.asked.edits) if found is not None else None


def alive(runs: Sequence[Run]) -> list[jobs.Job]:
    """The jobs of these runs that wait or work."""
    found = [job for run in runs if (job := runner().find(run.job))]
    return [job for job in found if job.snapshot().state in (jobs.State.QUEUED, jobs.State.RUNNING)]


def start(runs: Sequence[Run]) -> None:
    """Begin, or go on with, the runs that are not finished; one after the other."""
    for run in runs:
        if not lifelong.finished(film(run), run.asked):
            _submit(run)


def _submit(run: Run) -> None:
    def work(report: progress.Report) -> None:
        background.settle_imports()
        lifelong.run(run.bench, run.asked, seen=lambda found: _keep(run.key, found), report=report)

    label = f"the run {run.name} on {named(run.bench.result.request.model)}"
    runner().submit(run.job, work, progress.LIFELONG_STAGES, label=label)


def starts_by_itself(run: Run) -> bool:
    """Whether its model is small enough to be run unasked."""
    return results.small(run.bench.result.request.model)


def failures(runs: Sequence[Run]) -> list[str]:
    """Why runs ended, for those that failed."""
    found = []
    for run in runs:
        job = _unfinished(run)
        error = job.snapshot().error if job else None
        if error is not None:
            known = isinstance(error, KisError)
            why = str(error) if known else f"an unexpected {type(error).__name__} ended the run"
            found.append(f"{plain(run.name)}: {plain(why)}")
    return found


def cancelled(runs: Sequence[Run]) -> bool:
    """Whether one of them was called off, by whomever, since the server started."""
    return any((job := _unfinished(run)) and job.snapshot().state is jobs.State.CANCELLED for run in runs)


def _unfinished(run: Run) -> jobs.Job | None:
    """The last job of a run, unless the run was finished since."""
    return None if lifelong.finished(film(run), run.asked) else runner().find(run.job)


def progress_of(runs: Sequence[Run]) -> None:
    """A bar for the runs that wait or work, with a Cancel for all of them; nothing where none does.

    The page is drawn anew whenever one of them has measured something, and when one ends.
    """
    if alive(runs):
        _progress(list(runs), _came_to(runs))


def _came_to(runs: Sequence[Run]) -> tuple[int, ...]:
    """How far each run is; -1 once it waits and works no more."""
    films = _films()
    return tuple((films[run.key].edits if run.key in films else 0) if alive([run]) else -1 for run in runs)


@st.fragment(run_every=LOOK_AGAIN)
def _progress(runs: list[Run], drawn: tuple[int, ...]) -> None:
    if _came_to(runs) != drawn:
        st.rerun()
        return
    working = alive(runs)
    first = next((job for job in working if job.snapshot().state is jobs.State.RUNNING), working[0])
    at, count = first.snapshot(), f" · {len(working)} runs to go" if len(working) > 1 else ""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(at.share, text=background.telling(at) + count + background.company(first))
        if st.button("Cancel", icon=":material/cancel:", key="cancel-runs"):
            for job in working:
                job.cancel()


def of_other_seeds(run: Run, most: int) -> list[Run]:
    """The same run with other seeds, as far as something of it is stored."""
    draw = run.asked.draw
    if draw.by == "hand":
        return []
    others = [
        replace(run, asked=replace(run.asked, draw=replace(draw, seed=seed)))
        for seed in range(most)
        if seed != draw.seed
    ]
    return [other for other in others if other.key in _films() or run.bench.store.holds(other.key)]
