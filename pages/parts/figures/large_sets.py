"""Many facts on the server: computed in the background, kept in memory, and looked at by a page."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import streamlit as st

from kis_core.analysis import large_sets, pipeline
from kis_core.analysis.large_sets import LargeSet, NothingKnown
from kis_core.errors import KisError
from kis_core.models.files import ModelError, NotHere
from kis_core.progress import Report
from pages.parts.frame import state
from pages.parts.frame.provenance import origin
from pages.parts.frame.public import not_offered
from pages.parts.frame.text import count, plain
from pages.parts.frame.views import View, python_request
from pages.parts.jobs import background, results
from pages.parts.jobs.background import runner, store
from pages.parts.jobs.estimate import estimate
from pages.parts.jobs.waiting import failed, until_done

KEPT = 3  # large sets in memory, for all sessions: the widest take gigabytes
COMPUTING = "What all pairs of these facts look like at this layer is not stored, and computing it"
HEADING = "**Looking at these facts for the first time.** The result is kept: next time it opens at once."


@dataclass(frozen=True, eq=False)
class LargeSetView(View):
    """Many facts at one layer as a page looks at them; a `FigureView`.

    Attributes:
        many: the facts and their sweep.
        clean: whether artefact pairs are left out.
        pair: the picked pair, or the strongest.
    """

    many: LargeSet
    clean: bool
    pair: tuple[int, int]

    npz_help = "counts and their edges, norms of rows and columns, and the strongest pairs"

    def origin(self, *, all_layers: bool = False) -> str:
        """Where its numbers come from, in one line."""
        return origin(self.many, self.many.layer)

    def npz(self) -> bytes:
        """The arrays of its sweep as a file."""
        stream = io.BytesIO()
        arrays: dict[str, Any] = dict(large_sets.arrays(self.many.sweep))
        np.savez_compressed(stream, **arrays)
        return stream.getvalue()

    def preamble(self, narrow: str = "", *, all_layers: bool = False) -> str:
        """Python lines that get `many`."""
        known = ", known_only=True" if self.known_only else ""
        return (
            "from kis_core.analysis import large_sets\n"
            "from kis_core.analysis.large_sets import sweep, tables\n"
            "from kis_core.request import Request\n"
            "from kis_core.store.store import Store\n\n"
            f"many = large_sets.run({python_request(self.request)}, {self.layer}, Store(){known})"
        )


def shown(view: View) -> LargeSet:
    """The facts a page shows. Where they are not computed yet, shows progress or what went wrong, and ends the page."""
    key = f"many-{view.request}-{view.layer}-{view.known_only}"  # what is stored without its model has no other name
    try:
        with suppress(ModelError):
            resolved = pipeline.resolve(view.request, store(), download=False)
            key = large_sets.key(resolved, view.layer, known_only=view.known_only)
        return _kept(key, view)
    except results.NotThere:
        _wait_for(key, view)
    except NotHere:
        _wait_for(key, view, here=False)
    except KisError as error:
        _failed(error)


@st.cache_resource(show_spinner=False, max_entries=KEPT)
def _kept(key: str, _view: View) -> LargeSet:
    stored = _stored(_view)
    if stored is None:
        raise results.NotThere(key)
    return stored


def _stored(view: View) -> LargeSet | None:
    return large_sets.find(view.request, view.layer, store(), known_only=view.known_only)


def _wait_for(key: str, view: View, *, here: bool = True) -> NoReturn:
    job = runner().find(key)
    if job is None:
        if view.known_only and (full := results.there(view.request)) and not any(full.known):
            _failed(NothingKnown(view.request.model, len(full.facts)))  # it is known already: no work needed
        if not_offered(COMPUTING):
            st.stop()
        if _confirmed(view, here=here):
            _start(key, view)
            st.rerun()
        st.stop()
    if isinstance(error := job.snapshot().error, NothingKnown):
        _failed(error)
    until_done(key, HEADING, lambda: _start(key, view), lambda: _stored(view) is not None)


def _confirmed(view: View, *, here: bool) -> bool:
    """Say what it takes to look at these facts; whether that is wanted."""
    model = view.request.model
    package = "" if here else results.installs(model)
    away = "" if here else f" The model is not on this machine{'.' if package else ' yet and would be downloaded.'}"
    st.info(
        f"These facts have not been looked at in **{plain(model)}** "
        f"({count(state.models()[model].parameters)} parameters) yet. It takes one pass over the text for C, unless "
        f"that is there already, and one over the prompts of the facts.{away}{package}",
        icon=":material/hourglass_empty:",
    )
    if package:
        return False
    wanted = st.button("Compute", type="primary")
    if not wanted:
        st.caption(estimate([replace(view.request, layers=(view.layer,))]))
    return wanted


def _start(key: str, view: View) -> None:
    lane = background.lane_of(view.request.model)

    def work(report: Report) -> None:
        large_sets.run(
            view.request,
            view.layer,
            store(),
            known_only=view.known_only,
            device=lane.device,
            models=background.models(),
            report=report,
        )

    label = f"Many facts, layer {view.layer} · {background.description(view.request)}"
    background.begin(key, work, lane, label, large_sets.STAGES)


def _failed(error: BaseException) -> NoReturn:
    if isinstance(error, ModelError) and not_offered(COMPUTING):
        st.stop()
    if isinstance(error, NothingKnown):
        st.warning(plain(str(error)), icon=":material/filter_alt_off:")
        st.stop()
    failed(error)
