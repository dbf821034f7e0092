"""The result a page shows: from the store if it is there, else computed before the reader's eyes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
import streamlit as st

from kis_core import facts as fact_sets
from kis_core import jobs
from kis_core.analysis import pipeline, unfinished
from kis_core.analysis.pipeline import ResolvedRequest
from kis_core.analysis.unfinished import UnfinishedRequest
from kis_core.errors import KisError
from kis_core.facts import saved
from kis_core.models.files import ModelError, NotHere
from kis_core.request import BUILTIN_CORPUS, Request
from kis_core.results import archive
from kis_core.results.result import Result
from kis_core.superposition.ordering import order_facts
from kis_core.wording import counted
from pages.parts.frame import link, state
from pages.parts.frame.page import View, tell_missing
from pages.parts.frame.text import count, plain
from pages.parts.jobs.background import LOOK_AGAIN, company, failed, progress, runner, store, submit, telling

START_BY_ITSELF = 50_000_000  # parameters up to which a first visit computes unasked: seconds to a minute of CPU
KEPT_RESULTS = 8  # in memory, for all sessions; the others are read again from disk in a moment

T = TypeVar("T")


class NotThere(Exception):
    """There is no such result yet; raised so that its absence is never kept."""


@st.cache_resource(show_spinner=False, max_entries=KEPT_RESULTS)
def _kept(key: str, _ingredients: ResolvedRequest) -> Result:
    found = pipeline.cached(_ingredients, store())
    if found is None:
        raise NotThere(key)
    return found


def shown(view: View) -> Result:
    """The result a page shows. Where there is none yet, shows progress or what went wrong, and ends the page here."""
    found = _answered(result(view.request)) if view.known_only else result(view.request)
    tell_beyond(len(found.facts))
    return found


def tell_beyond(count: int) -> None:
    """Say that the picked pair is not among the so many facts that are shown, if so."""
    if (pair := state.get("pair")) and not state.picked(count):
        tell_missing([link.beyond(pair, count, f"{counted(count, 'fact is', 'facts are')} shown")])


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
    return _subset((full.identity, tuple(kept)), full, kept, why)


@st.cache_resource(show_spinner=False, max_entries=KEPT_RESULTS)
def _subset(key: tuple[Any, ...], _full: Result, _kept: list[int], _why: str) -> Result:
    return _full.subset(_kept, f"{_full.facts.name}, the {len(_kept)} of {len(_full.facts)} {_why}")


def result(request: Request) -> Result:
    """The result of a request, of all its facts; else as `shown`."""
    try:
        ingredients = pipeline.resolve(request, store(), download=False)
        _fits_every_page(ingredients)
        return _kept(ingredients.key, ingredients)
    except NotThere:
        _wait_for(request)
    except ModelError as error:
        return _without_model(request, error)
    except KisError as error:
        failed(error)


def _fits_every_page(ingredients: ResolvedRequest) -> None:
    """P of very many facts is never there whole: only one page shows them, and the others end here."""
    count = len(ingredients.facts)
    if count > saved.MOST_ON_EVERY_PAGE:
        st.info(
            f"{plain(ingredients.facts.name)} holds {count:,} facts; this page shows P of at most "
            f"{saved.MOST_ON_EVERY_PAGE:,}, whole. The page for so many goes over P in blocks.",
            icon=":material/blur_on:",
        )
        st.page_link(
            "pages/many_facts.py",
            label="Look at them on “Many facts”",
            icon=":material/blur_on:",
            query_params=state.link(),
        )
        st.stop()


def there(request: Request) -> Result | None:
    """The result of a request if it is stored, or None."""
    try:
        ingredients = pipeline.resolve(request, store(), download=False)
        return _kept(ingredients.key, ingredients)
    except (NotThere, KisError):
        return None


def _without_model(request: Request, error: ModelError) -> Result:
    """What is stored of a model whose weights cannot be had here."""
    try:
        facts = fact_sets.load(request.facts).fingerprint  # what the names in a request stand for may change
        found = _of_archive(request, facts, pipeline.text_here(request.corpus, store()))
    except NotThere:
        if isinstance(error, NotHere):
            _wait_for(request, here=False)
        failed(error)
    except KisError as wrong:
        failed(wrong)
    st.caption(f":material/cloud_off: {plain(request.model)} is not on this machine: its stored result is shown.")
    return found


@st.cache_resource(show_spinner=False, max_entries=KEPT_RESULTS)
def _of_archive(request: Request, facts: str, text: str | None) -> Result:
    found = archive.without_model(request, store(), text)
    if found is None:
        raise NotThere(request.model)
    return found


def subset_like(shown_one: Result, other: Result) -> Result:
    """Another result on the same fact set, of the facts that the shown one was narrowed to."""
    kept = shown_one.provenance.get("facts_kept")
    return narrowed(other, kept, "looked at") if kept else other


def remembered(result: Result, what: tuple[Any, ...], make: Callable[[], T]) -> T:
    """Something worked out of a result, once for each result and `what`; the maker must depend on nothing else."""
    return cast(T, _remembered(result.identity, what, make))


@st.cache_data(show_spinner=False, max_entries=256)
def _remembered(identity: str, what: tuple[Any, ...], _make: Callable[[], Any]) -> Any:
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
    ingredients = pipeline.resolve(request, store(), download=False)
    try:
        return _kept(ingredients.key, ingredients)
    except NotThere:
        return None


def forget_all() -> None:
    """Let go of every result in memory: the store was changed behind its back."""
    for remembered in (_kept, _of_archive):
        remembered.clear()
    state.look_again()


def compute(requests: Sequence[Request], what: str) -> None:
    """Compute in the background what of these is missing, one after the other, and show how far it is.

    Call it where the progress is to stand, after everything else is drawn: the page is drawn anew when one is done.

    Args:
        requests: what is wanted, of models small enough to start unasked or not.
        what: they are, in words, such as "models".
    """
    waiting, wrong = {}, {}
    for request in requests:
        try:
            if not store().holds(pipeline.resolve(request, store(), download=False).key):
                waiting[UnfinishedRequest(request).key] = request
        except KisError as error:
            wrong[request.model] = error  # told once a model
    for model, error in wrong.items():
        st.warning(f"{plain(model)}: {plain(str(error))}", icon=":material/error:")
    if not waiting:
        return
    jobs_of = {key: runner().find(key) for key in waiting}
    states = {key: job.snapshot() for key, job in jobs_of.items() if job}
    ended = [key for key, at in states.items() if at.state not in (jobs.State.QUEUED, jobs.State.RUNNING)]
    for key in ended:
        if isinstance(error := states[key].error, KisError):
            st.warning(f"{plain(waiting[key].model)}: {plain(str(error))}", icon=":material/error:")
    unasked = all(map(_by_itself, waiting.values()))
    missing = [key for key in waiting if key not in states]
    wanted = (ended or not unasked) and st.button(
        f"Compute the {len(waiting)} missing {what}", icon=":material/play_arrow:", key=f"compute-{what}"
    )
    for key in waiting if wanted else missing if unasked and not ended else ():
        submit(waiting[key])
    running = [key for key in waiting if (job := runner().find(key)) and job.snapshot().alive]
    if running:
        _progress_of(running, len(requests), what)


@st.fragment(run_every=LOOK_AGAIN)
def _progress_of(keys: list[str], total: int, what: str) -> None:
    alive = [job for key in keys if (job := runner().find(key)) and job.snapshot().alive]
    if len(alive) < len(keys):
        st.rerun()  # one more is there to be drawn
        return
    at = alive[0].snapshot()
    done = f"Computing {what}: {total - len(alive)} of {total} done"
    st.progress(at.share, text=f"{done} · {telling(at)}{company(alive[0])}")
    if st.button("Cancel", icon=":material/cancel:", key=f"cancel-{what}"):
        for job in alive:
            job.cancel()


def _wait_for(request: Request, *, here: bool = True) -> NoReturn:
    """Show how far the computation is, or begin it, or say what keeps it from being begun; the page ends here.

    Args:
        request: what is wanted.
        here: whether its model is on this machine already.
    """
    key = UnfinishedRequest(request).key
    job = runner().find(key)
    if job is None:
        _not_begun(request, here)
    snapshot = job.snapshot()
    if snapshot.state is jobs.State.FAILED and snapshot.error is not None:
        failed(snapshot.error, key)
    if snapshot.state is jobs.State.CANCELLED:
        st.info("The computation was cancelled. What was already finished is kept.", icon=":material/cancel:")
        if st.button("Compute", type="primary"):
            _start(request)
        st.stop()
    if snapshot.state is jobs.State.DONE:
        if there(request) is None:
            lost = f"There is no result in {store().root}: it could not be kept (disk full?) or was deleted."
            failed(KisError(lost), key)
        st.rerun()  # it was stored while this page was being drawn
    progress(key)
    st.stop()


def _not_begun(request: Request, here: bool) -> NoReturn:
    if here and _by_itself(request):
        _start(request)
    begun = next((one for one in unfinished.unfinished(store()) if one.request == request), None)
    if begun:
        st.info(
            f"P of **{plain(request.model)}** was begun and interrupted: what was read of the text is kept, and it "
            f"goes on from there.",
            icon=":material/pause_circle:",
        )
    else:
        what = "" if here else " The model is not on this machine yet and would be downloaded."
        st.info(
            f"P of **{plain(request.model)}**{_size(request.model)} is not computed yet.{what} The page **Models** "
            f"shows what it needs on this machine before anything is loaded. You can cancel at any time.",
            icon=":material/hourglass_empty:",
        )
    with st.container(horizontal=True):
        if st.button("Resume" if begun else "Compute", type="primary", icon=":material/play_arrow:"):
            _start(request, begun.device if begun else "auto")
        st.page_link(
            "pages/models.py", label="What it needs here", icon=":material/model_training:", query_params=state.link()
        )
    st.stop()


def small(model: str) -> bool:
    """Whether a model is small enough to be run unasked."""
    entry = state.models().get(model)
    return entry is not None and entry.parameters <= START_BY_ITSELF


def _by_itself(request: Request) -> bool:
    """Whether it is small, and reads nothing but what comes with the program: a link must not start more than that."""
    return small(request.model) and request.corpus == BUILTIN_CORPUS


def _size(model: str) -> str:
    entry = state.models().get(model)
    return f" ({count(entry.parameters)} parameters)" if entry else ""


def _start(request: Request, device: str = "auto") -> NoReturn:
    submit(request, device)
    st.rerun()
