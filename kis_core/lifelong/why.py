"""Why a model forgets: how far it is superposition, growing edits, or how little the model bears.

The forecast of a run is made again with one part of it taken away: δ's that do not grow; keys of random directions
after whitening, which facts do not share; both. Beside it stands what the model bears: its answers under a random ΔW of
rising size, which no edit made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kis_core import charts, progress
from kis_core.files import atomic
from kis_core.lifelong.budget import Budget, curve, forecast, redraws
from kis_core.lifelong.queue import draw_queue
from kis_core.lifelong.request import LifelongRequest
from kis_core.lifelong.stand_ins import Plan, StandIns
from kis_core.results import export

if TYPE_CHECKING:
    from kis_core.simulator import Simulator

AS_FORECAST = "as forecast"
WITHOUT = {
    "δ does not grow": {"grows": False},
    "keys of random directions": {"isotropic": True},
    "neither": {"grows": False, "isotropic": True},
}
"""What is taken away, in words, with how `redraws` does it."""
PUSHES = 3  # random ΔW of each size


def plan_of(simulator: Simulator, request: LifelongRequest, report: progress.Report = progress.silent) -> Plan:
    """The run as it is planned."""
    queue = draw_queue(simulator, request.draw, request.edits, request.layers[0], report)
    return Plan(simulator, request, queue, report)


def decomposition(
    simulator: Simulator, request: LifelongRequest, report: progress.Report = progress.silent
) -> dict[str, Budget]:
    """The forecast of a run, and what it would be without each of its causes, by name; all of the same pilots.

    Raises:
        EditError, RequestError, Cancelled: see `budget.forecast`.
    """
    whole = forecast(simulator, request, report=report)
    plan = plan_of(simulator, request, report)
    parts = {AS_FORECAST: whole}
    for name, options in WITHOUT.items():
        steps, curves = redraws(plan, whole.pilots, **options, report=report)
        parts[name] = replace(whole, steps=steps, **curves)
    return parts


def write(parts: dict[str, Budget], folder: Path) -> list[Path]:
    """Write `why.csv` (`budget.curve` of each part, by `run`) and `why.png`.

    Returns:
        the files written.
    """
    frame = pd.concat([curve(part).assign(run=name) for name, part in parts.items()], ignore_index=True)
    most = max(part.planned for part in parts.values())
    figure = charts.budget(frame, frame.iloc[:0][["run", "edits", "recall"]], most=most)
    lines = ["The forecast forgetting curve, and what it would be without its causes; bands: 90 % of single runs."]
    picture = charts.to_png(figure, "Why the model forgets", lines)
    return atomic.write(folder, {"why.csv": export.frame_csv(frame), "why.png": picture})


def tolerance(plan: Plan, carried: Sequence[float]) -> pd.DataFrame:
    """What a model bears: its answers under random ΔW.

    Args:
        plan: a run, for its last layer and its unrelated facts.
        carried: sizes x of the push, as `StandIns.carried` has them.

    Returns:
        one row a size; columns `carried`, `recall`, `log_odds` and `perplexity`, means over a few pushes (geometric of
        the perplexity).
    """
    rows = []
    for size in carried:
        seen = []
        for number in range(PUSHES):
            pushed = StandIns(plan)
            pushed.push(size, np.random.default_rng([plan.request.draw.seed, number]))
            seen.append(pushed.health())
        means = [float(np.mean([getattr(health, name) for health in seen])) for name in ("recall", "log_odds")]
        rows.append((size, *means, float(np.exp(np.mean([np.log(health.perplexity) for health in seen])))))
    return pd.DataFrame(rows, columns=["carried", "recall", "log_odds", "perplexity"])
