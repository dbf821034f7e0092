"""What the server is working on, what waits, and what was interrupted: with Cancel, Resume and Discard."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import streamlit as st

from kis_core import jobs
from kis_core.analysis import pipeline, unfinished
from kis_core.analysis.unfinished import UnfinishedRequest
from kis_core.covariance import checkpoint
from kis_core.request import Request
from pages.parts.frame import state
from pages.parts.frame.text import plain
from pages.parts.jobs.background import (
    LOOK_AGAIN,
    company,
    complain,
    looks_of,
    movement,
    resume,
    runner,
    store,
    telling,
    told,
)


def running(where: str) -> None:
    """The jobs alive and what was interrupted; nothing where there is neither.

    Args:
        where: the page, for the keys of its buttons.
    """
    alive = _alive()
    if alive:
        _jobs(where, sorted(alive))
    for begun in _interrupted():
        _offer(begun, where)


def _alive() -> dict[str, jobs.Job]:
    return {key: job for key, job in runner().jobs().items() if job.label and job.snapshot().alive}


@st.fragment(run_every=LOOK_AGAIN)
def _jobs(where: str, drawn: list[str]) -> None:
    alive = _alive()
    if sorted(alive) != drawn:
        st.rerun()  # one ended or came: the page may have more to show
    with st.container(border=True):
        for key, job in alive.items():
            left, right = st.columns([6, 1], vertical_alignment="center")
            snapshot = job.snapshot()
            on = f" on {job.lane}" if job.lane else ""
            left.progress(snapshot.share, text=f"**{plain(job.label)}**{on} · {telling(snapshot)}{company(job)}")
            if right.button("Cancel", key=f"{where}-cancel-{key}", icon=":material/cancel:", width="stretch"):
                job.cancel()
            if looks := looks_of(key):
                st.caption(movement(looks))


def _interrupted() -> list[UnfinishedRequest]:
    """Begun, not finished, and nobody here is at work on it: after a crash, a restart or a Cancel."""
    alive = _alive()
    return [one for one in pipeline.unfinished(store()) if one.key not in alive]


def _tokens_read(request: Request) -> int:
    """How many tokens of a pass over the text are kept, at least; 0 where none is."""
    wanted = asdict(request) | {"corpus": Path(request.corpus).name}
    of = ("model", "corpus", "tokens", "documents", "dtype")
    passes = [begun for begun in checkpoint.unfinished(store()) if all(begun.get(k) == wanted[k] for k in of)]
    return max((begun["tokens_read"] for begun in passes), default=0)


def _offer(one: UnfinishedRequest, where: str) -> None:
    job = runner().find(one.key)
    with st.container(border=True):
        if job and (error := job.snapshot().error):
            complain(error)
        text, again, discard = st.columns([5, 1.2, 1.2], vertical_alignment="center")
        when = f" on {datetime.fromtimestamp(one.when):%-d %B at %H:%M}" if one.when else ""
        read = _tokens_read(one.request)
        far = f"{read:,} tokens are read; it" if read else "It"
        text.markdown(
            f":material/pause_circle: **{plain(told(one.request))}** was begun{when} and not finished. {far} goes on "
            f"from there."
        )
        if again.button("Resume", key=f"{where}-resume-{one.key}", icon=":material/play_arrow:", width="stretch"):
            resume(one)
            st.rerun()
        if discard.button("Discard", key=f"{where}-discard-{one.key}", icon=":material/delete:", width="stretch"):
            unfinished.forget(store(), one.request)
            runner().forget(one.key)
            state.look_again()
            st.rerun()
