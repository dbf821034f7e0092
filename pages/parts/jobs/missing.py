"""Further results that a page would show, such as those of other models: computed when a button is pressed."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from kis_core.analysis import pipeline
from kis_core.analysis.unfinished import UnfinishedRequest
from kis_core.errors import KisError
from kis_core.models.files import NotHere
from kis_core.request import Request
from pages.parts.frame.public import not_offered
from pages.parts.frame.text import plain
from pages.parts.jobs.background import alive, runner, store, submit
from pages.parts.jobs.estimate import estimate
from pages.parts.jobs.results import installs
from pages.parts.jobs.waiting import Wait, progress_of, reason


def compute(requests: Sequence[Request], what: str) -> None:
    """Offer to compute in the background what of these is missing, one after the other, and show how far it is.

    Call it where the progress is to stand, after everything else is drawn: the page is drawn anew when one is done.

    Args:
        requests: what is wanted.
        what: they are, in words, such as "models".
    """
    waiting: dict[str, Request] = {}
    errors: dict[str, BaseException] = {}
    absent: dict[str, None] = {}
    for request in requests:
        try:
            if not store().holds(pipeline.resolve(request, store(), download=False).key):
                waiting[UnfinishedRequest(request).key] = request
        except NotHere:
            absent[request.model] = None
        except KisError as error:
            errors[request.model] = error  # one message a model
    jobs = {key: job for key in waiting if (job := runner().find(key))}
    errors |= {waiting[key].model: wrong for key, job in jobs.items() if (wrong := job.snapshot().error)}
    for model, wrong in errors.items():
        st.warning(f"{plain(model)}: {reason(wrong)}", icon=":material/error:")
    for model in absent:
        st.info(
            f"**{plain(model)}** is not on this machine, which computing more {what} takes.{installs(model)}",
            icon=":material/cloud_off:",
        )
    running = list(alive(list(waiting)))
    if idle := [request for key, request in waiting.items() if key not in running]:
        label = f"Compute the {len(idle)} missing {what}"
        if not_offered(f"Computing the {len(idle)} missing {what}"):
            return
        if st.button(label, icon=":material/play_arrow:", key=f"compute-{what}"):
            for request in idle:
                submit(request)
            st.rerun()
        st.caption(estimate(idle))
    if running:
        done = len(requests) - len(running)
        progress_of(Wait(running, what, f"Computing {what}: {done} of {len(requests)} done"))
