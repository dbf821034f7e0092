"""What the server works on, what waits, and what was interrupted: with Cancel, Resume and Discard."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import streamlit as st

from kis_core.analysis import pipeline, unfinished
from kis_core.analysis.unfinished import UnfinishedRequest
from kis_core.covariance import checkpoint
from kis_core.jobs import Job
from kis_core.request import Request
from kis_core.wording import counted
from pages.parts.frame import state
from pages.parts.frame.text import plain
from pages.parts.jobs.background import description, resume, runner, store
from pages.parts.jobs.waiting import LOOK_AGAIN, Wait, complain, progress_of, show_movement, stage_line


def running(where: str) -> None:
    """The jobs that wait or run, and what was interrupted; nothing where there is neither.

    Args:
        where: the page, for the keys of its buttons.
    """
    if listed := _listed():
        with st.container(border=True):
            for key, job in listed.items():
                label = f"**{plain(job.label)}** on {job.lane.device}"
                progress_of(Wait([key], f"{where}-{key}", label, reached=_listed, show_notes=show_movement))
    for begun in _interrupted():
        _offer(begun, where)


def tray() -> None:
    """In the side bar of every page: what the server works on and what waits for it, each with Cancel; or nothing."""
    if listed := _listed():
        with st.popover(f"{counted(len(listed), 'job')} at work", icon=":material/pending:", width="stretch"):
            _tray(list(listed))


@st.fragment(run_every=LOOK_AGAIN)
def _tray(drawn: list[str]) -> None:
    listed = _listed()
    if list(listed) != drawn:
        st.rerun()
    for key, job in listed.items():
        snapshot = job.snapshot()
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(job.label)}** on {job.lane.device}  \n{snapshot.share:.0%} · {stage_line(snapshot)}")
            st.button("", icon=":material/cancel:", key=f"tray-{key}", help="Cancel", on_click=job.cancel)


def _listed() -> dict[str, Job]:
    """Jobs that wait or run, but for those of seconds."""
    return {key: job for key, job in runner().alive().items() if not job.lane.quick}


def _interrupted() -> list[UnfinishedRequest]:
    """Begun, not finished, and not worked on here: after a crash, a restart or a Cancel."""
    alive = runner().alive()
    return [begun for begun in pipeline.unfinished(store()) if begun.key not in alive]


def _tokens_read(request: Request) -> int:
    """How many tokens of a pass over the text are kept, at least; 0 where none is."""
    wanted = asdict(request) | {"corpus": Path(request.corpus).name}
    of = ("model", "corpus", "tokens", "documents", "dtype")
    passes = [begun for begun in checkpoint.unfinished(store()) if all(begun.get(k) == wanted[k] for k in of)]
    return max((begun["tokens_read"] for begun in passes), default=0)


def _offer(begun: UnfinishedRequest, where: str) -> None:
    job = runner().find(begun.key)
    with st.container(border=True):
        if job and (error := job.snapshot().error):
            complain(error)
        text, again, discard = st.columns([5, 1.2, 1.2], vertical_alignment="center")
        when = f" on {datetime.fromtimestamp(begun.when):%-d %B at %H:%M}" if begun.when else ""
        read = _tokens_read(begun.request)
        far = f"{read:,} tokens are read; it" if read else "It"
        text.markdown(
            f":material/pause_circle: **{plain(description(begun.request))}** was begun{when} and not finished. {far} "
            f"resumes from there."
        )
        if again.button("Resume", key=f"{where}-resume-{begun.key}", icon=":material/play_arrow:", width="stretch"):
            resume(begun)
            st.rerun()
        if discard.button("Discard", key=f"{where}-discard-{begun.key}", icon=":material/delete:", width="stretch"):
            unfinished.forget(store(), begun.request)
            runner().forget(begun.key)
            state.look_again()
            st.rerun()
