"""Many facts on the server: swept in the background, kept, and shown with what one can take home."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import numpy as np
import pandas as pd
import streamlit as st

from kis_core import charts, jobs
from kis_core.analysis import large_sets, pipeline
from kis_core.analysis.large_sets import ManyFacts, NothingKnown
from kis_core.errors import KisError
from kis_core.models import catalog
from kis_core.models.files import ModelError
from kis_core.progress import Report
from kis_core.results import export
from kis_core.results.result import Result
from kis_core.store.store import StoreError
from pages.parts.figures.drawing import Drawing
from pages.parts.figures.figure import asked
from pages.parts.frame import state
from pages.parts.frame.page import View
from pages.parts.frame.provenance import origin
from pages.parts.frame.text import count, plain
from pages.parts.jobs import background, results
from pages.parts.jobs.background import LOOK_AGAIN, runner, store

KEPT = 3  # sweeps in memory, for all sessions: the widest take gigabytes
KINDS = {
    "PNG": "the figure as a picture, with title and provenance",
    "SVG": "the figure as a drawing that scales",
    "CSV": "the numbers shown",
    "NPZ": "counts and their edges, norms of rows and columns, and the strongest pairs",
}


def swept(view: View) -> ManyFacts:
    """The sweep a page shows. Where there is none yet, shows progress or what went wrong, and ends the page here."""
    key = f"many-{view.request}-{view.layer}-{view.known_only}"  # what is stored without its model has no other name
    try:
        with suppress(ModelError):
            ingredients = pipeline.resolve(view.request, store(), download=False)
            key = large_sets.key(ingredients, view.layer, known_only=view.known_only)
        return _kept(key, view)
    except results.NotThere:
        _wait_for(key, view)
    except KisError as error:
        _failed(error)


@st.cache_resource(show_spinner=False, max_entries=KEPT)
def _kept(key: str, _view: View) -> ManyFacts:
    found = large_sets.find(_view.request, _view.layer, store(), known_only=_view.known_only)
    if found is None:
        raise results.NotThere(key)
    return found


def _wait_for(key: str, view: View) -> NoReturn:
    job = runner().find(key)
    if job is None:
        if view.known_only and (full := results.there(view.request)) and not any(full.known):
            _failed(NothingKnown(view.request.model, len(full.facts)))  # it is known already: no work needed
        if results.small(view.request.model) or _asked_to_start(state.models()[view.request.model]):
            _start(key, view)
        st.stop()
    at = job.snapshot()
    if at.state in (jobs.State.QUEUED, jobs.State.RUNNING):
        _progress(key)
        st.stop()
    if at.state is jobs.State.CANCELLED:
        st.info("The computation was cancelled. What was already finished is kept.", icon=":material/cancel:")
        if st.button("Compute", type="primary"):
            _start(key, view)
        st.stop()
    if at.error is not None:
        _failed(at.error, key)
    if large_sets.find(view.request, view.layer, store(), known_only=view.known_only) is None:
        lost = f"There is no result in {store().root}: it could not be kept (disk full?) or was deleted."
        _failed(StoreError(lost), key)
    runner().forget(key)
    st.rerun()  # it was stored while this page was being drawn


def _asked_to_start(entry: catalog.ModelEntry) -> bool:
    st.info(
        f"These facts have not been looked at in **{plain(entry.name)}** ({count(entry.parameters)} parameters) yet. "
        f"It takes one pass over the text for C, if that is not there already, and one over the prompts of the facts; "
        f"without a GPU that can take long. You can cancel at any time.",
        icon=":material/hourglass_empty:",
    )
    return st.button("Compute", type="primary")


def _start(key: str, view: View) -> NoReturn:
    def work(report: Report) -> None:
        background.settle_imports()
        models = background.models()
        large_sets.run(view.request, view.layer, store(), known_only=view.known_only, models=models, report=report)

    runner().forget(key)
    lane = background.lane_of(view.request.model)
    label = f"Many facts, layer {view.layer} · {background.told(view.request)}"
    runner().submit(key, work, large_sets.STAGES, label=label, lane=lane)
    st.rerun()


@st.fragment(run_every=LOOK_AGAIN)
def _progress(key: str) -> None:
    job = runner().find(key)
    at = job.snapshot() if job else None
    if job is None or at is None or at.state not in (jobs.State.QUEUED, jobs.State.RUNNING):
        st.rerun()
        return
    st.markdown("**Looking at these facts for the first time.** What is found is kept: next time it opens at once.")
    st.progress(at.share, text=background.telling(at) + background.company(job))
    if st.button("Cancel", icon=":material/cancel:"):
        job.cancel()


def _failed(error: BaseException, key: str | None = None) -> NoReturn:
    if isinstance(error, NothingKnown):
        st.warning(plain(str(error)), icon=":material/filter_alt_off:")
        st.stop()
    known = isinstance(error, KisError)
    message = str(error) if known else f"An unexpected {type(error).__name__} ended the computation."
    st.error(plain(message), icon=":material/error:")
    st.caption("Choose another model or fact set on the left, or mend what the message names and try again.")
    if st.button("Try again"):
        if key:
            runner().forget(key)
        st.rerun()
    st.stop()


@dataclass(frozen=True)
class LargeSetText:
    """What is said about a figure or table of many facts.

    Attributes:
        title: its name, also on exported pictures.
        caption: one line in plain words.
        help: equation of the paper, and how to read it. Markdown.
        data: the numbers shown.
        code: Python lines that give the same numbers from `found`, the `ManyFacts`.
    """

    title: str
    caption: str
    help: str
    data: Callable[[], pd.DataFrame]
    code: str


def figure(view: View, found: ManyFacts, chart: Drawing, about: LargeSetText, *, key: str, **options: Any) -> None:
    """Draw a chart with its caption, provenance, help and export; `options` are for `st.vega_lite_chart`."""
    chart.show(key=key, alt=_unmarked(f"{about.title}. {about.caption}"), **options)
    say(view, found, about, chart=chart, key=key)


def say(view: View, found: ManyFacts, about: LargeSetText, *, key: str, chart: Drawing | None = None) -> None:
    """The lines under a figure or a table, and its export."""
    source = origin(cast(Result, found), found.layer)  # which reads no more than both have
    words, export_at = st.columns([7.5, 1], gap="small")
    words.caption(f"{about.caption}  \n{plain(source)}", help=about.help)
    stem = re.sub(r"[^a-z0-9]+", "-", about.title.lower()).strip("-")
    kinds: list[tuple[str, str, Callable[[], bytes | str]]] = []
    if chart is not None:
        lines = [_unmarked(about.caption), source]
        kinds += [
            ("PNG", "image/png", lambda: charts.to_png(chart.make(), about.title, lines)),
            ("SVG", "image/svg+xml", lambda: charts.to_svg(chart.make(), about.title, lines)),
        ]
    kinds += [
        ("CSV", "text/csv", lambda: export.frame_csv(about.data())),
        ("NPZ", "application/octet-stream", lambda: _npz(found)),
    ]
    told = f"Export: {', '.join(kind for kind, *_ in kinds)}, Python"
    with export_at.popover(":material/download:", type="tertiary", key=f"export-{key}", help=told):
        with st.container(horizontal=True, gap="small"):
            for kind, mime, made in kinds:
                st.download_button(
                    kind, made, f"{stem}.{kind.lower()}", mime, key=f"download-{kind}-{key}", on_click="ignore",
                    help=KINDS[kind],
                )  # fmt: skip
        st.caption("The same numbers in Python:")
        st.code(f"{_preamble(view)}\n{about.code}", language="python")


def _preamble(view: View) -> str:
    known = ", known_only=True" if view.known_only else ""
    return (
        "from kis_core import charts, many\n"
        "from kis_core.analysis.large_sets import sweep\n"
        "from kis_core.analysis.large_sets import tables as many_tables\n"
        "from kis_core.request import Request\n"
        "from kis_core.store.store import Store\n\n"
        f"found = many.run(Request({asked(view.request)}), {view.layer}, Store(){known})"
    )


def _npz(found: ManyFacts) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **large_sets.arrays(found.sweep))
    return stream.getvalue()


def _unmarked(markdown: str) -> str:
    return re.sub(r"[*`\\]", "", markdown)
