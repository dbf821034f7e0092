"""A sequence of edits by its request: its name in the store, what is stored of it, and making it.

A run is kept in the store as far as it was measured: cancelled or killed, it resumes where it stopped and comes to the
same numbers.
"""

from __future__ import annotations

from collections.abc import Callable

from kis_core import progress
from kis_core.lifelong.queue import draw_queue
from kis_core.lifelong.request import LifelongRequest
from kis_core.lifelong.sequence_run import Seen, SequenceRun
from kis_core.lifelong.trace import EditTrace, from_entry
from kis_core.simulator import Simulator
from kis_core.store.store import Entry, key_of

FORMAT = 4  # raise it when the meaning of a stored run changes


def key(simulator: Simulator, request: LifelongRequest) -> str:
    """Name of a run in the store. A run of more edits holds one of fewer, unless their number changes the edits."""
    determined, known_facts = request.to_json(simulator.scale), simulator.known_facts
    apart = known_facts.apart  # else the facts that are not edited are fewer, the more are
    whole = request.edits % request.batch == 0 and request.edits % request.every == 0
    if apart and request.draw.order == "drawn" and request.draw.by != "hand" and whole:
        del determined["edits"]
    determined_by = {"of": simulator.result.identity, "format": FORMAT, "request": determined}
    return key_of("lifelong", determined_by | {"drawn_from": known_facts.fingerprint})


def stored(simulator: Simulator, request: LifelongRequest) -> Entry | None:
    """A run as it lies in the store, or None."""
    sizes = {"k": len(request.layers), "facts": len(simulator.facts)} | simulator.widths
    return simulator.store.get(key(simulator, request), **sizes)


def known(simulator: Simulator, request: LifelongRequest) -> EditTrace | None:
    """The run as far as it is stored, or None if nothing of it is; needs no model."""
    entry = stored(simulator, request)
    return from_entry(entry).until(request.edits) if entry else None


def finished(trace: EditTrace | None, request: LifelongRequest) -> bool:
    """Whether a run went as far as its request."""
    return trace is not None and trace.edits >= request.edits


def run(
    simulator: Simulator,
    request: LifelongRequest,
    *,
    seen: Seen | None = None,
    until: Callable[[EditTrace], bool] | None = None,
    report: progress.Report = progress.silent,
) -> EditTrace:
    """Make the edits and measure; what is stored of the run already is not done again.

    Args:
        simulator: model, facts and C.
        request: what to do.
        seen: called with the trace after every measurement, and with the stored one at first.
        until: called with the trace after every measurement; the run ends early when it is true.
        report: called after every step of a search.

    Returns:
        the trace, up to as many edits as were requested.

    Raises:
        RequestError: there are not that many edits.
        Cancelled: `report` called it off; what was measured is kept.
    """
    name = key(simulator, request)
    with simulator.store.alone(name, report):
        entry = stored(simulator, request)
        if entry:
            trace = from_entry(entry).until(request.edits)
            if finished(trace, request) or (until and until(trace)):
                if seen:
                    seen(trace)
                return trace
        report("Loading the model", 0, 1)
        _ = simulator.model
        report("Loading the model", 1, 1)
        queue = draw_queue(simulator, request.draw, request.edits, request.layers[0], report)
        going = SequenceRun(simulator, request, queue, name, report)
        if entry is None or not going.resume(entry):
            going.begin()
        for _ in going.go(seen):
            if until and until(going.trace):
                break
        return going.trace.until(request.edits)
