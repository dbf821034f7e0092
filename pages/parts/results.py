"""The result a page shows: from the store if it is there, else computed before the reader's eyes."""

from __future__ import annotations

import gc
from typing import NoReturn

import streamlit as st

from kis_core import jobs, pipeline
from kis_core.errors import KisError
from kis_core.models import catalog, loading
from kis_core.pipeline import Ingredients
from kis_core.progress import Report
from kis_core.request import DEFAULT_TOKENS, Request
from kis_core.result import Result
from kis_core.store import Store
from pages.parts.text import count, duration, plain

START_BY_ITSELF = 50_000_000  # parameters up to which a first visit computes unasked: seconds to a minute of CPU
KEPT_RESULTS = 8  # in memory, for all sessions; the others are read again from disk in a moment
LOOK_AGAIN = 0.5  # seconds between two looks at a running job


class NotThere(Exception):
    """There is no such result yet; raised so that its absence is never kept."""


@st.cache_resource(show_spinner=False)
def store() -> Store:
    """The one store of this server."""
    return Store()


@st.cache_resource(show_spinner=False)
def runner() -> jobs.Runner:
    """The one worker of this server."""
    return jobs.Runner()


@st.cache_resource(show_spinner=False, max_entries=KEPT_RESULTS)
def _kept(key: str, _ingredients: Ingredients) -> Result:
    found = pipeline.cached(_ingredients, store())
    if found is None:
        raise NotThere(key)
    return found


def result(request: Request) -> Result:
    """The result of a request. Where there is none yet, shows progress or what went wrong, and ends the page here."""
    try:
        ingredients = pipeline.resolve(request, store())
        return _kept(ingredients.key, ingredients)
    except NotThere:
        _wait_for(request, ingredients.key)
    except KisError as error:
        _failed(str(error))


def _wait_for(request: Request, key: str) -> NoReturn:
    job = runner().find(key)
    if job is None:
        entry = catalog.find(request.model)
        if entry is None or entry.parameters <= START_BY_ITSELF or _asked_to_start(entry):
            _start(request, key)
        st.stop()
    state = job.snapshot()
    if state.state is jobs.State.FAILED:
        known = isinstance(state.error, KisError)
        message = str(state.error) if known else f"An unexpected {type(state.error).__name__} ended the computation."
        _failed(message, key)
    if state.state is jobs.State.CANCELLED:
        st.info("The computation was cancelled. What was already finished is kept.", icon=":material/cancel:")
        if st.button("Compute", type="primary"):
            _start(request, key)
        st.stop()
    if state.state is jobs.State.DONE:
        if pipeline.cached(pipeline.resolve(request, store()), store()) is None:
            _failed(f"There is no result in {store().root}: it could not be kept (disk full?) or was deleted.", key)
        st.rerun()  # it was stored while this page was being drawn
    _progress(key)
    st.stop()


def _start(request: Request, key: str) -> None:
    def work(report: Report) -> None:
        _settle()
        pipeline.run(request, store(), report=report)

    runner().submit(key, work)
    st.rerun()


@st.cache_resource(show_spinner=False)
def _settle() -> None:
    """Import what is heavy and take it out of the garbage collector's sight, once a server.

    Streamlit collects after every rerun. With a million objects of torch and transformers to look through, that holds
    the interpreter for a third of a second each time, and halves the speed of a computation in the background.
    """
    loading.import_all()
    gc.collect()
    gc.freeze()


def _asked_to_start(entry: catalog.Entry) -> bool:
    st.info(
        f"P of **{entry.name}** ({count(entry.parameters)} parameters) is not computed yet. It takes one pass over "
        f"{DEFAULT_TOKENS:,} tokens of text; without a GPU that can take long. You can cancel at any time.",
        icon=":material/hourglass_empty:",
    )
    return st.button("Compute", type="primary")


@st.fragment(run_every=LOOK_AGAIN)
def _progress(key: str) -> None:
    job = runner().find(key)
    snapshot = job.snapshot() if job else None
    if job is None or snapshot is None or snapshot.state not in (jobs.State.QUEUED, jobs.State.RUNNING):
        st.rerun()
        return
    st.markdown("**Computing this view for the first time.** The result is kept: next time it opens at once.")
    left = f" · about {duration(snapshot.seconds_left)} left" if snapshot.seconds_left is not None else ""
    st.progress(snapshot.share, text=f"{snapshot.stage} · {snapshot.seconds:.0f} s{left}")
    if st.button("Cancel", icon=":material/cancel:"):
        job.cancel()


def _failed(message: str, key: str | None = None) -> NoReturn:
    st.error(plain(message), icon=":material/error:")
    st.caption("Choose another model or fact set on the left, or mend what the message names and try again.")
    if st.button("Try again"):
        if key:
            runner().forget(key)
        st.rerun()
    st.stop()
