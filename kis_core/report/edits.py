"""What a report holds of edits of a result: those that are stored or came with the program, one by one and in runs.

A run names the result that it is of; one that came with the program is found as the run that the page of runs shows
first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kis_core import lifelong
from kis_core.editing import method
from kis_core.errors import KisError
from kis_core.lifelong import EditTrace
from kis_core.lifelong.trace import OF_RESULT, from_entry
from kis_core.report.packing import drawable
from kis_core.results.pairs import label_of
from kis_core.simulator import EditOutcome, EditRequest, Forecast, Simulator, kept_edits, spill_frame
from kis_core.studies.gallery import default_run
from kis_core.wording import counted, number, share

RUN = "lifelong"  # kind of the keys that runs are stored under
CHANGE = "+.3f"  # format of a change of log-odds, as in the tables of the dashboard
CURVE = {
    "recall": ".0%",
    "retention": ".0%",
    "dlogodds_measured": "+.2f",
    "dlogodds_all_tokens": "+.2f",
    "perplexity": ".3g",
}
"""Columns of `frames.curve` that a report plays, with their formats."""


def edits(bench: Simulator) -> list[dict[str, Any]]:
    """The edits of a result that are kept, by layer and fact, as JSON."""
    return [_edit(bench, request) for request in kept_edits(bench)]


def _edit(bench: Simulator, request: EditRequest) -> dict[str, Any]:
    forecast, outcome = bench.forecast(request), bench.perform(request)
    frame = spill_frame(bench, request.fact, forecast, "all", 1.0, outcome)
    coming = forecast.flips.by(1.0) if forecast.flips else {}
    before, after = bench.answers_before, outcome.measured.answers
    bars = [
        {
            "fact": int(j),
            "forecast": drawable([expected])[0],
            "measured": drawable([measured])[0],
            "texts": [number(expected, CHANGE), number(measured, CHANGE)],
            "answers": [before[j], coming.get(int(j), before[j]), after[j]],
            "flips": bool(outcome.flipped[j]),
        }
        for j, expected, measured in zip(frame["fact"], frame["forecast"], frame["measured"], strict=True)
    ]
    return {
        "fact": request.fact,
        "layer": request.layer,
        "name": f"{label_of(bench.facts[request.fact])}, edited to {request.target} · "
        f"{method(request.method).label}, layer {request.layer}",
        "target": request.target,
        "headline": _headline(bench, request, forecast, outcome),
        "said": [outcome.success.generated_before, outcome.success.generated],
        "success": _success(outcome),
        "quality": _quality(bench, forecast, outcome),
        "warnings": bench.warnings(forecast, outcome),
        "bars": bars,
    }


def _headline(bench: Simulator, request: EditRequest, forecast: Forecast, outcome: EditOutcome) -> str:
    """What the edit did, in a sentence or two."""
    others = {int(j) for j in np.flatnonzero(outcome.flipped)} - {request.fact}
    coming = set(forecast.flips.by(1.0) if forecast.flips else ()) - {request.fact}
    took = "takes" if outcome.success.efficacy else "does not take"
    changed = counted(len(others), "other answer changes", "other answers change")
    both = f"{changed}, {len(others & coming)} of them forecast" if others else "no other answer changes"
    false = coming - others
    wrong = f"; {counted(len(false), 'change')} forecast did not come" if false else ""
    return f"{bench.facts[request.fact].subject}: the edit to {request.target} {took}, and {both}{wrong}."


def _success(outcome: EditOutcome) -> list[tuple[str, str]]:
    success = outcome.success
    return [
        ("new object, probability after the edit", share(success.probability_new)),
        ("old object, probability after the edit", share(success.probability_old)),
        ("paraphrases answered with the new object", _written(success.paraphrase, ".0%")),
        ("neighbours that keep their answer", _written(success.neighbourhood, ".0%")),
    ]


def _written(value: float | None, form: str) -> str:
    """A number, with a blank before the sign of a share."""
    return number(value, form).replace("%", " %")


def _quality(bench: Simulator, forecast: Forecast, outcome: EditOutcome) -> list[tuple[str, str]]:
    """Rank correlation of each forecast with the measured loss."""
    quality = bench.quality(forecast, outcome)
    return [(name, number(rank, ".2f")) for name, rank in zip(quality["forecast"], quality["spearman"], strict=True)]


def runs(bench: Simulator) -> list[dict[str, Any]]:
    """The runs of edits of a result that are stored, as JSON."""
    played = []
    default = _default_key(bench)
    for item in sorted(bench.store.inventory(RUN), key=lambda item: item.key):
        about = item.meta.get("about", {})
        if item.key != default and about.get(OF_RESULT) != bench.result.identity:
            continue
        if entry := bench.store.get(item.key):
            trace = from_entry(entry)
            played.append(_run(bench, trace, about.get("name") or counted(trace.edits, "edit")))
    return played


def _default_key(bench: Simulator) -> str | None:
    """The key of the run that the page of runs shows first; None where the model cannot be edited."""
    try:
        return lifelong.key(bench, default_run(bench))
    except (KisError, IndexError):
        return None


def _run(bench: Simulator, trace: EditTrace, name: str) -> dict[str, Any]:
    curve, half = lifelong.frames.curve(trace), lifelong.summary.half_life(trace)
    lives = lifelong.summary.over_seeds([half])
    steps = []
    for row, made in enumerate(trace.steps.tolist()):
        lost, back = lifelong.frames.turned(trace, row)
        first = int(trace.steps[row - 1]) if row else 0
        steps.append(
            {
                "edits": [f"{edit[0]} → {edit[4]}" for edit in trace.queue[first:made]],
                "lost": lost,
                "regained": back,
                "words": [list(said) for said in trace.words[row]],
            }
        )
    return {
        "name": name,
        "made": trace.steps.tolist(),
        "text": trace.text,
        "half": f"{lives.label} until half of the unrelated facts are forgotten ({lives.certainty})",
        "values": {column: drawable(curve[column]) for column in CURVE},
        "texts": {column: [_written(value, form) for value in curve[column]] for column, form in CURVE.items()},
        "steps": steps,
    }
