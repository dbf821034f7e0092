"""Waiting for work in the background: the one bar with its Cancel, and the one way to say what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn

import streamlit as st

from kis_core import jobs
from kis_core.errors import KisError
from kis_core.models.files import Gated
from kis_core.store.store import StoreError
from pages.parts.frame.text import duration, plain, volume
from pages.parts.jobs.background import alive, runner, store

if TYPE_CHECKING:
    from kis_core.covariance.settling import Look

LOOK_AGAIN = 0.5  # seconds between two looks at a running job
CANCELLED = "The computation was cancelled. What was already finished is kept."
RATES: dict[str, Callable[[float], str]] = {
    "Second moment of the keys": lambda rate: f"{rate:,.0f} tokens/s",
    "Downloading the model": lambda rate: f"{volume(rate)}/s",
}
"""How fast a stage goes, in words; the other stages are too short for a rate."""


@dataclass(frozen=True)
class Wait:
    """Jobs that a page waits for, and that are cancelled together.

    Attributes:
        keys: of the jobs, all of which were alive when the page looked.
        name: of the Cancel button, which sets it apart from others on the page.
        label: what is worked on, before the stage. Markdown.
        reached: how far the jobs are, where the page shows what they have found: it is drawn anew when this changes.
        show_notes: draws what the job at work has found so far.
    """

    keys: Sequence[str]
    name: str = "wait"
    label: str = ""
    reached: Callable[[], object] = lambda: None
    show_notes: Callable[[Sequence[Any]], object] | None = None


def progress_of(wait: Wait) -> None:
    """A bar with Cancel for jobs that wait or run; the page is drawn anew when one of them ends."""
    _progress(wait, wait.reached())


@st.fragment(run_every=LOOK_AGAIN)
def _progress(wait: Wait, drawn: object) -> None:
    working = list(alive(wait.keys).values())
    if len(working) < len(wait.keys) or wait.reached() != drawn:
        st.rerun()
    job = next((job for job in working if job.snapshot().state is jobs.State.RUNNING), working[0])
    snapshot = job.snapshot()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(snapshot.share, text=" · ".join(filter(None, (wait.label, stage_line(snapshot), _company(job)))))
        if st.button("Cancel", icon=":material/cancel:", key=f"cancel-{wait.name}"):
            for job in working:
                job.cancel()
    if wait.show_notes and (notes := list(job.notes)):
        wait.show_notes(notes)


def stage_line(snapshot: jobs.Snapshot) -> str:
    """How far a job is, in words: stage, time, rate and time left."""
    parts = [
        plain(snapshot.stage),
        f"{snapshot.seconds:.0f} s" if snapshot.seconds < 90 else duration(snapshot.seconds),
    ]
    if snapshot.rate and snapshot.stage in RATES:
        parts.append(RATES[snapshot.stage](snapshot.rate))
    if snapshot.seconds_left is not None:
        parts.append(f"about {duration(snapshot.seconds_left)} left")
    return " · ".join(parts)


def _company(job: jobs.Job) -> str:
    """How many other jobs run on the device of a running job, in words; empty if none."""
    others = runner().beside(job)
    device = "the processor" if job.lane.device == "cpu" else job.lane.device
    what = "1 other job" if others == 1 else f"{others} other jobs"
    return f"shares {device} with {what}: each is slower" if others else ""


def movement(looks: Sequence[Look]) -> str:
    """What the last looks at P say about whether the text is enough."""
    last = [look for look in looks if look.tokens == looks[-1].tokens]
    layers = ", ".join(f"{look.moved:.1%} in layer {look.layer}" for look in last if isfinite(look.moved))
    if not layers:
        return f"At {last[0].tokens:,} tokens P of these facts has no spread that it could move by."
    return (
        f"At {last[0].tokens:,} tokens the entries of P had moved by {layers} of their spread since two thirds of that "
        f"text."
    )


def show_movement(looks: Sequence[Look]) -> None:
    """Draw what a job that computes P has found about the text so far."""
    st.caption(movement(looks))


def reason(error: BaseException) -> str:
    """Why work ended, as Markdown; of an unexpected error only its kind, since its text may hold anything."""
    unexpected = f"An unexpected {type(error).__name__} ended the computation."
    return plain(str(error) if isinstance(error, KisError) else unexpected)


def complain(error: BaseException) -> None:
    """Say what went wrong; of a gated model also where its licence is."""
    st.error(reason(error), icon=":material/error:")
    if isinstance(error, Gated):
        st.link_button("Open the licence", error.page, icon=":material/gavel:")
        st.code("hf auth login", language="bash")


def failed(error: BaseException, key: str | None = None) -> NoReturn:
    """Say what went wrong and what to do; the page ends here. `key` is that of the job that failed."""
    complain(error)
    st.caption("Choose another model or other facts on the left, or correct what the message names and try again.")
    if st.button("Try again"):
        if key:
            runner().forget(key)
        st.rerun()
    st.stop()


def until_done(key: str, heading: str, again: Callable[[], object], there: Callable[[], bool]) -> NoReturn:
    """Show how far the job behind a page is, or how it ended; the page ends here.

    Args:
        key: of the job.
        heading: what is computed, above the bar. Markdown.
        again: submits the work again.
        there: whether its result is stored.
    """
    job = runner().find(key)
    if job is None:
        st.rerun()  # it was forgotten while this page was being drawn
    snapshot = job.snapshot()
    if snapshot.state is jobs.State.DONE:
        if not there():
            lost = f"There is no result in {store().root}: it could not be kept (disk full?) or was deleted."
            failed(StoreError(lost), key)
        st.rerun()  # it was stored while this page was being drawn
    if snapshot.error is not None:
        failed(snapshot.error, key)
    if snapshot.alive:
        st.markdown(heading)
        progress_of(Wait([key], show_notes=show_movement))
    else:
        st.info(CANCELLED, icon=":material/cancel:")
        if st.button("Compute", type="primary"):
            again()
            st.rerun()
    st.stop()
