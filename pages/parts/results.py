"""The result a page shows: from the store if it is there, else computed before the reader's eyes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
import streamlit as st

from kis_core import archive, jobs, own_facts, pipeline
from kis_core.errors import KisError
from kis_core.models import catalog, loading
from kis_core.models.files import ModelError
from kis_core.ordering import order_facts
from kis_core.pipeline import Ingredients
from kis_core.progress import Report
from kis_core.request import DEFAULT_TOKENS, Request
from kis_core.result import Result
from kis_core.store import Store
from pages.parts.frame import View
from pages.parts.text import count, duration, plain

START_BY_ITSELF = 50_000_000  # parameters up to which a first visit computes unasked: seconds to a minute of CPU
KEPT_RESULTS = 8  # in memory, for all sessions; the others are read again from disk in a moment
LOOK_AGAIN = 0.5  # seconds between two looks at a running job

T = TypeVar("T")


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


def shown(view: View) -> Result:
    """The result a page shows. Where there is none yet, shows progress or what went wrong, and ends the page here."""
    return _answered(result(view.request)) if view.known_only else result(view.request)


def _answered(full: Result) -> Result:
    kept = [fact for fact, known in enumerate(full.known) if known]
    if not kept:
        st.warning(
            f"{plain(full.request.model)} answers none of these {len(full.facts)} facts, so there is nothing to show. "
            f"Switch off “Only facts the model answers” on the left, or choose other facts.",
            icon=":material/filter_alt_off:",
        )
        st.stop()
    return narrowed(full, kept, "the model answers")


def narrowed(full: Result, kept: list[int], why: str) -> Result:
    """The result for some of its facts, worked out once; `why` says which those are."""
    if len(kept) == len(full.facts):
        return full
    return _subset((*identity(full), tuple(kept)), full, kept, why)


@st.cache_resource(show_spinner=False, max_entries=KEPT_RESULTS)
def _subset(key: tuple[Any, ...], _full: Result, _kept: list[int], _why: str) -> Result:
    return _full.subset(_kept, f"{_full.facts.name}, the {len(_kept)} of {len(_full.facts)} {_why}")


def result(request: Request) -> Result:
    """The result of a request, of all its facts; else as `shown`."""
    try:
        ingredients = pipeline.resolve(request, store())
        _fits_every_page(ingredients)
        return _kept(ingredients.key, ingredients)
    except NotThere:
        _wait_for(request, ingredients.key)
    except ModelError as error:
        return _without_model(request, error)
    except KisError as error:
        _failed(str(error))


def _fits_every_page(ingredients: Ingredients) -> None:
    """P of very many facts is never there whole: only one page shows them, and the others end here."""
    count = len(ingredients.facts)
    if count > own_facts.MOST_ON_EVERY_PAGE:
        st.info(
            f"{plain(ingredients.facts.name)} holds {count:,} facts; this page shows P of at most "
            f"{own_facts.MOST_ON_EVERY_PAGE:,}, whole. The page for so many goes over P in blocks.",
            icon=":material/blur_on:",
        )
        st.page_link("pages/many_facts.py", label="Look at them on “Many facts”", icon=":material/blur_on:")
        st.stop()


def there(request: Request) -> Result | None:
    """The result of a request if it is stored, or None."""
    try:
        ingredients = pipeline.resolve(request, store())
        return _kept(ingredients.key, ingredients)
    except (NotThere, KisError):
        return None


def _without_model(request: Request, error: ModelError) -> Result:
    """What is stored of a model whose weights cannot be had here."""
    try:
        found = _of_archive(request)
    except NotThere:
        _failed(str(error))
    except KisError as wrong:
        _failed(str(wrong))
    st.caption(f":material/cloud_off: {plain(request.model)} is not on this machine: its stored result is shown.")
    return found


@st.cache_resource(show_spinner=False, max_entries=KEPT_RESULTS)
def _of_archive(request: Request) -> Result:
    found = archive.without_model(request, store())
    if found is None:
        raise NotThere(request.model)
    return found


def subset_like(shown_one: Result, other: Result) -> Result:
    """Another result on the same fact set, of the facts that the shown one was narrowed to."""
    kept = shown_one.provenance.get("facts_kept")
    return narrowed(other, kept, "looked at") if kept else other


def identity(result: Result) -> tuple[Any, ...]:
    """What tells a result from any other."""
    source = result.provenance
    names = ("weights_sha256", "corpus_sha256", "tokens_counted", "facts_sha256")
    return (*(source[name] for name in names), result.layers)


def remembered(result: Result, what: tuple[Any, ...], make: Callable[[], T]) -> T:
    """Something worked out of a result, once for each result and `what`; the maker must depend on nothing else."""
    return cast(T, _remembered(identity(result), what, make))


@st.cache_data(show_spinner=False, max_entries=256)
def _remembered(identity: tuple[Any, ...], what: tuple[Any, ...], _make: Callable[[], Any]) -> Any:
    return _make()


def ordered(result: Result, layer: int, how: str) -> tuple[np.ndarray, list[str]]:
    """Facts in an order, and their labels."""
    p = result.p[result.at(layer)]
    return remembered(result, ("order", layer, how), lambda: order_facts(result.facts.facts, p, how))


def stored(request: Request) -> Result | None:
    """The result of a request, if it is there; draws nothing.

    Raises:
        KisError: what the request names is not there or not usable.
    """
    ingredients = pipeline.resolve(request, store())
    try:
        return _kept(ingredients.key, ingredients)
    except NotThere:
        return None


def compute(requests: Sequence[Request], what: str) -> None:
    """Compute in the background what of these is missing, one after the other, and show how far it is.

    Call it where the progress is to stand, after everything else is drawn: the page is drawn anew when one is done.

    Args:
        requests: what is wanted, of models small enough to start unasked or not.
        what: they are, in words, such as "models".
    """
    waiting = {}
    for request in requests:
        try:
            key = pipeline.resolve(request, store()).key
        except KisError as error:
            st.warning(f"{plain(request.model)}: {plain(str(error))}", icon=":material/error:")
            continue
        if not store().holds(key):
            waiting[key] = request
    if not waiting:
        return
    jobs_of = {key: runner().find(key) for key in waiting}
    states = {key: job.snapshot() for key, job in jobs_of.items() if job}
    ended = [key for key, at in states.items() if at.state not in (jobs.State.QUEUED, jobs.State.RUNNING)]
    for key in ended:
        if isinstance(error := states[key].error, KisError):
            st.warning(f"{plain(waiting[key].model)}: {plain(str(error))}", icon=":material/error:")
    small = all((entry := catalog.find(r.model)) and entry.parameters <= START_BY_ITSELF for r in waiting.values())
    missing = [key for key in waiting if key not in states]
    asked = (ended or not small) and st.button(
        f"Compute the {len(waiting)} missing {what}", icon=":material/play_arrow:", key=f"compute-{what}"
    )
    for key in waiting if asked else missing if small and not ended else ():
        _submit(waiting[key], key)
    running = [key for key in waiting if (job := runner().find(key)) and _alive(job)]
    if running:
        _progress_of(running, len(requests), what)


def _alive(job: jobs.Job) -> bool:
    return job.snapshot().state in (jobs.State.QUEUED, jobs.State.RUNNING)


@st.fragment(run_every=LOOK_AGAIN)
def _progress_of(keys: list[str], total: int, what: str) -> None:
    alive = [job for key in keys if (job := runner().find(key)) and _alive(job)]
    if len(alive) < len(keys):
        st.rerun()  # one more is there to be drawn
        return
    at = alive[0].snapshot()
    st.progress(
        at.share, text=f"Computing {what}: {total - len(alive)} of {total} done · {at.stage} · {at.seconds:.0f} s"
    )
    if st.button("Cancel", icon=":material/cancel:", key=f"cancel-{what}"):
        for job in alive:
            job.cancel()


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
    _submit(request, key)
    st.rerun()


def _submit(request: Request, key: str) -> None:
    def work(report: Report) -> None:
        settle_imports()
        pipeline.run(request, store(), report=report)

    runner().submit(key, work)


@st.cache_resource(show_spinner=False)
def settle_imports() -> None:
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
