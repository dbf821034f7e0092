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
from scipy import stats

from kis_core import charts, progress
from kis_core.files import atomic
from kis_core.lifelong import budget
from kis_core.lifelong.budget import LEVEL, Budget, curve, forecast, half_life, half_lives
from kis_core.lifelong.queue import draw_queue
from kis_core.lifelong.redraws import redraws
from kis_core.lifelong.request import LifelongRequest
from kis_core.lifelong.stand_ins import Plan, StandIns
from kis_core.results import export

if TYPE_CHECKING:
    from kis_core.simulator import Simulator

AS_FORECAST = "as forecast"
NO_GROWTH, NO_SUPERPOSITION, NEITHER = "δ does not grow", "keys of random directions", "neither"
WITHOUT = {
    NO_GROWTH: {"grows": False},
    NO_SUPERPOSITION: {"isotropic": True},
    NEITHER: {"grows": False, "isotropic": True},
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

    What is stored of it is not made again; each part is kept as soon as it is there.

    Raises:
        EditError, RequestError, Cancelled: see `budget.forecast`.
    """
    if stored := known(simulator, request):
        return stored
    whole = forecast(simulator, request, report=report)
    plan = plan_of(simulator, request, report)
    parts = {AS_FORECAST: whole}
    for done, (name, options) in enumerate(WITHOUT.items()):

        def of_all(stage: str, step: int, steps: int, before: int = done) -> None:
            report(stage, before * steps + step, len(WITHOUT) * steps)

        part = budget.known(simulator, request, name)
        if part is None:
            steps, curves = redraws(plan, whole.pilots, **options, report=of_all)
            part = replace(whole, steps=steps, **curves)
            budget.keep(plan, part, name)
        parts[name] = part
    return parts


def known(simulator: Simulator, request: LifelongRequest) -> dict[str, Budget] | None:
    """The decomposition if all of it is stored, or None; needs no model."""
    parts = {AS_FORECAST: budget.known(simulator, request)}
    parts |= {name: budget.known(simulator, request, name) for name in WITHOUT}
    return {name: part for name, part in parts.items() if part} if all(parts.values()) else None


def explanation(parts: dict[str, Budget]) -> str:
    """What the decomposition says, in one sentence with its numbers.

    A cause is said to make no clear difference where the mean of the redraws, in log edits, does not differ from that
    of the forecast at the level of intervals.
    """
    whole = parts[AS_FORECAST]
    lives = {name: half_life(part) for name, part in parts.items()}
    edits = {name: f"{'more than ' if half.unreached else ''}{half.middle:.0f}" for name, half in lives.items()}
    notes = {name: "" if _differs(part, whole) else " (no clear difference)" for name, part in parts.items()}
    return (
        f"Without superposition half would be forgotten after {edits[NO_SUPERPOSITION]} edits instead of "
        f"{edits[AS_FORECAST]}{notes[NO_SUPERPOSITION]}; without growing δ after {edits[NO_GROWTH]}{notes[NO_GROWTH]}; "
        f"without both after {edits[NEITHER]}{notes[NEITHER]}."
    )


def _differs(part: Budget, whole: Budget) -> bool:
    """Whether redraws of two forecasts differ on average (Welch's t-test on log half-lives, at `LEVEL`)."""
    logs = np.log([[max(life.edits, 1.0) for life in half_lives(one)] for one in (part, whole)])
    gap, count = abs(logs[0].mean() - logs[1].mean()), logs.shape[1]
    errors = logs.var(axis=1, ddof=1) / count  # of both means, squared
    if not errors.any():
        return bool(gap > 0)
    freedom = errors.sum() ** 2 * (count - 1) / (errors**2).sum()
    return bool(gap > stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(errors.sum()))


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
