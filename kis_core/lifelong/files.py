"""A run, the forecast of one, and forecasts of several, as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kis_core.files import atomic
from kis_core.lifelong import budget, budget_advice, frames, growth, summary
from kis_core.lifelong.budget import Budget
from kis_core.lifelong.budget_advice import ForecastRun
from kis_core.lifelong.pilots import Population
from kis_core.lifelong.request import LifelongRequest
from kis_core.lifelong.trace import EditTrace
from kis_core.results import export

if TYPE_CHECKING:
    from kis_core.simulator import Simulator


def write(simulator: Simulator, request: LifelongRequest, trace: EditTrace, folder: Path) -> list[Path]:
    """Write `curve.csv` (one row a measured step), `facts.csv` (one row a fact and step) and `lifelong.json`.

    Returns:
        the files written.
    """
    half, (shift, edited_shift) = summary.half_life(trace), summary.exactness(trace)
    about = {
        "request": request.to_json(simulator.scale),
        "edits_made": trace.edits,
        "queue": [
            dict(zip(("subject", "prompt", "target", "relation", "new_target"), edit, strict=True))
            for edit in trace.queue
        ],
        "took": trace.took.tolist(),
        "passed_over": [int(i) for i in (~trace.made).nonzero()[0]],
        "own_key_instead_of_mean_key": [int(i) for i in trace.own_key.nonzero()[0]],
        "edits_until_half_is_forgotten": half.edits if half.reached else None,
        "growth_exponential_from": growth.exponential_from(trace.size),
        "shift_relative_error": {"unrelated": shift, "edited": edited_shift},
        "forecasts_at_the_end": summary.forecasts(trace, len(trace.steps) - 1),
        "perplexity_on": trace.text,
        "words": [{"edits": int(n), "said": said} for n, said in zip(trace.steps, trace.words, strict=True)],
        "provenance": simulator.result.provenance,
    }
    contents = {
        "curve.csv": export.frame_csv(frames.curve(trace)),
        "facts.csv": export.frame_csv(frames.facts(trace, simulator.facts)),
        "lifelong.json": json.dumps(export.plain(about), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
    }
    return atomic.write(folder, contents)


def write_budget(simulator: Simulator, request: LifelongRequest, forecast: Budget, folder: Path) -> list[Path]:
    """Write `budget.csv` (one row a step, see `budget.curve`) and `budget.json`.

    Returns:
        the files written.
    """
    half, pilots = budget.half_life(forecast), forecast.pilots
    about = {
        "request": request.to_json(simulator.scale),
        "edits_until_half_is_forgotten": {
            "forecast": half.middle,
            "low": half.low,
            "high": None if half.unreached else half.high,
            "level": budget.LEVEL,
            "redraws": half.runs,
            "not_reached_in": half.unreached,
        },
        "pilots": {
            "searches": forecast.searches,
            "share_of_the_run": forecast.share,
            "after_edits": pilots.at.tolist(),
            "layers": pilots.layers.tolist(),
            "carried": pilots.carried.tolist(),
            "delta_norm": np.linalg.norm(pilots.deltas, axis=1).tolist(),
        },
        "growth": [{"layer": layer, **asdict(law)} for layer, law in Population.of(pilots).growth.items()],
        "seconds": forecast.seconds,
        "provenance": simulator.result.provenance,
    }
    contents = {
        "budget.csv": export.frame_csv(budget.curve(forecast)),
        "budget.json": json.dumps(export.plain(about), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
    }
    return atomic.write(folder, contents)


def write_comparison(runs: Sequence[ForecastRun], folder: Path) -> list[Path]:
    """Write `compared.csv` (one row a run, see `budget_advice.table`) and `compared.md` (the advice, and the table).

    Returns:
        the files written.
    """
    text = f"{budget_advice.advice(runs)}\n\n{budget_advice.markdown(runs)}\n"
    frame = export.frame_csv(budget_advice.table(runs))
    return atomic.write(folder, {"compared.csv": frame, "compared.md": text})
