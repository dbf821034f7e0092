"""The server's work in the background: one queue for each device, how far each job is, and what went wrong."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import streamlit as st

from kis_core import jobs, machine
from kis_core.analysis import pipeline, unfinished, warm_up
from kis_core.analysis.requirements import choose
from kis_core.analysis.unfinished import UnfinishedRequest
from kis_core.errors import KisError
from kis_core.facts import BUILTIN_SETS
from kis_core.models.files import Gated
from kis_core.models.holder import LoadedModels
from kis_core.progress import Report
from kis_core.request import Request
from kis_core.store.store import Store, StoreError
from pages.parts.frame import state
from pages.parts.frame.text import duration, named, plain, text_behind, volume

if TYPE_CHECKING:
    from kis_core.covariance.settling import Look

RUNNING = jobs.State.RUNNING
LOOK_AGAIN = 0.5  # seconds between two looks at a running job
PACES: dict[str, Callable[[float], str]] = {
    "Second moment of the keys": lambda pace: f"{pace:,.0f} tokens/s",
    "Downloading the model": lambda pace: f"{volume(pace)}/s",
}
"""How fast a stage goes, in words; the others are too short to tell."""


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
    """The one worker of this server, but for runs of edits."""
    return registered(jobs.Runner())


@st.cache_resource(show_spinner=False)
def _runners() -> list[jobs.Runner]:
    return []


def registered(one: jobs.Runner) -> jobs.Runner:
    """Let its jobs be counted among those that share a device."""
    _runners().append(one)
    return one


@st.cache_resource(show_spinner=False)
def _first_device() -> str:
    return machine.devices()[0].name


def lane_of(model: str, device: str = "auto") -> str:
    """The device that work on a model queues for: with "auto" the first one that the model fits."""
    if device != "auto":
        return device
    entry = state.models().get(model)
    return choose(entry, machine.devices())[0] if entry else _first_device()


def submit(request: Request, device: str = "auto") -> jobs.Job:
    """Compute a request in the background, or join whoever does; the job goes by the key of its `Asked`.

    Args:
        request: what is wanted; its model may still have to be downloaded.
        device: where it is to run; each has a queue of its own.
    """
    wanted = UnfinishedRequest(request, device)

    def remember() -> None:
        """By whoever begins, and before the work can end: a record written later would stay when all is done."""
        with suppress(StoreError):  # then it cannot be taken up again after a crash; the work itself will say why
            unfinished.remember(store(), wanted)

    state.look_again()
    looks = _looks().setdefault(wanted.key, [])

    def work(report: Report) -> None:
        settle_imports()
        looks.clear()
        pipeline.run(request, store(), device=device, models=models(), report=report, looked=looks.append)
        unfinished.forget(store(), request)

    lane = lane_of(request.model, device)
    return runner().submit(wanted.key, work, label=told(request), lane=lane, before=remember)


def resume(one: UnfinishedRequest) -> None:
    """Go on with what was begun, unless it was finished or dropped since the button was drawn."""
    if store().holds(one.key):
        submit(one.request, one.device)


def told(request: Request) -> str:
    """What is computed, so that no two read alike: model, facts, and how C is taken."""
    facts = request.facts if request.facts in BUILTIN_SETS else Path(request.facts).stem
    return f"{named(request.model)} · {facts} facts · C over {text_behind(request.c_settings)}"


@st.cache_resource(show_spinner=False)
def _looks() -> dict[str, list[Look]]:
    """How far P still moved at each look, by the key of the job."""
    return {}


def looks_of(key: str) -> list[Look]:
    """How far P still moved at each look so far, of a job by its key."""
    return list(_looks().get(key, ()))


@st.cache_resource(show_spinner=False)
def settle_imports() -> None:
    """Import what is heavy and take it out of the garbage collector's sight, once a server.

    Streamlit collects after every rerun. With a million objects of torch and transformers to look through, that holds
    the interpreter for a third of a second each time, and halves the speed of a computation in the background.
    """
    warm_up.import_all()
    gc.collect()
    gc.freeze()


@st.fragment(run_every=LOOK_AGAIN)
def progress(key: str) -> None:
    """How far a job is, with its Cancel; the page is drawn anew when it ends."""
    job = runner().find(key)
    snapshot = job.snapshot() if job else None
    if job is None or snapshot is None or not snapshot.alive:
        st.rerun()
        return
    st.markdown("**Computing this view for the first time.** The result is kept: next time it opens at once.")
    st.progress(snapshot.share, text=telling(snapshot) + company(job))
    if looks := looks_of(key):
        st.caption(movement(looks))
    if st.button("Cancel", icon=":material/cancel:"):
        job.cancel()


def telling(snapshot: jobs.Snapshot) -> str:
    """How far a job is, in words: stage, time, pace and time left."""
    parts = [
        plain(snapshot.stage),
        f"{snapshot.seconds:.0f} s" if snapshot.seconds < 90 else duration(snapshot.seconds),
    ]
    if snapshot.rate and snapshot.stage in PACES:
        parts.append(PACES[snapshot.stage](snapshot.rate))
    if snapshot.seconds_left is not None:
        parts.append(f"about {duration(snapshot.seconds_left)} left")
    return " · ".join(parts)


def company(job: jobs.Job) -> str:
    """What else works on the device of a running job, in words that go on after `telling`; else nothing."""
    running = [one for each in _runners() for one in each.jobs().values() if one.snapshot().state is RUNNING]
    if job not in running or len(running) < 2:
        return ""
    device = job.lane or _first_device()
    others = sum((one.lane or _first_device()) == device for one in running) - 1
    what = "1 other job" if others == 1 else f"{others} other jobs"
    return f" · shares {'the processor' if device == 'cpu' else device} with {what}: each is slower" if others else ""


def movement(looks: Sequence[Look]) -> str:
    """What the last looks say about whether the text is enough."""
    last = [look for look in looks if look.tokens == looks[-1].tokens]
    layers = ", ".join(f"{look.moved:.1%} in layer {look.layer}" for look in last if isfinite(look.moved))
    if not layers:
        return f"At {last[0].tokens:,} tokens P of these facts has no spread that it could move by."
    return (
        f"At {last[0].tokens:,} tokens the entries of P had moved by {layers} of their spread since two thirds of that "
        f"text."
    )


def complain(error: BaseException) -> None:
    """Say what went wrong; of a gated model also where its licence is."""
    if isinstance(error, KisError):
        message = str(error)
    else:
        message = f"An unexpected {type(error).__name__} ended the computation."
    st.error(plain(message), icon=":material/error:")
    if isinstance(error, Gated):
        st.link_button("Open the licence", error.page, icon=":material/gavel:")
        st.code("hf auth login", language="bash")


def failed(error: BaseException, key: str | None = None) -> NoReturn:
    """Say what went wrong and what to do; the page ends here. `key` is that of the job it ended."""
    complain(error)
    st.caption("Choose another model or fact set on the left, or mend what the message names and try again.")
    if st.button("Try again"):
        if key:
            runner().forget(key)
        st.rerun()
    st.stop()
