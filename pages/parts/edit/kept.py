"""The kept edits of a result on a page: found once a server, and shown without a model."""

from __future__ import annotations

from kis_core import simulator
from kis_core.results.result import Result
from kis_core.simulator import Event
from pages.parts.frame.views import ResultView
from pages.parts.jobs.background import store
from pages.parts.jobs.results import remembered


def events(result: Result) -> list[Event]:
    """What the kept edits of a result tell of."""
    return remembered(result, ("events",), lambda: simulator.events(simulator.without_model(result, store())))


def first_edited(view: ResultView) -> tuple[int, int] | None:
    """The pair that an edit of the layer is shown of before any is picked; None where there are no pairs."""
    return simulator.first_edited(view.result, events(view.result), view.layer)
