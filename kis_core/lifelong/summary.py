"""What a sequence of edits comes to: how fast the model forgets, and how good the forecasts of which facts were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import stats

from kis_core.lifelong.trace import EditTrace
from kis_core.spillover import correlations
from kis_core.wording import number

HALF = 0.5
LEVEL = 0.95


def recall(trace: EditTrace) -> np.ndarray:
    """(s,) share of the unrelated facts answered right at first that still are; NaN where none was."""
    known = trace.rank[0] == 1
    if not known.any():
        return np.full(len(trace.steps), np.nan)
    return np.asarray((trace.rank[:, known] == 1).mean(axis=1))


def retention(trace: EditTrace) -> np.ndarray:
    """(s,) share of the edits made so far whose new object is the model's first choice; NaN before the first."""
    return np.array(
        [
            float((row[:made] == 1).mean()) if made else np.nan
            for row, made in zip(trace.edited_rank, trace.steps.tolist(), strict=True)
        ]
    )


def newest(trace: EditTrace) -> np.ndarray:
    """(s,) share of the edits since the step before that took, right after they were made; NaN before the first."""
    ends = trace.steps.tolist()
    return np.array([np.nan, *(float(trace.took[a:b].mean()) for a, b in pairwise(ends))])


@dataclass(frozen=True, slots=True)
class HalfLife:
    """Edits until half of the unrelated facts are forgotten.

    Attributes:
        edits: how many; where `reached` is False the run ended before, after this many.
        reached: the run went that far.
    """

    edits: float
    reached: bool


def half_life(trace: EditTrace) -> HalfLife:
    """Where recall first crosses a half, on a straight line between two measurements."""
    return crossing(trace.steps, recall(trace))


def crossing(steps: np.ndarray, shares: np.ndarray) -> HalfLife:
    """Where a share first crosses a half, on a straight line between two steps.

    Args:
        steps: (s,) numbers of edits, rising.
        shares: (s,) the share after each.
    """
    below = np.flatnonzero(shares <= HALF)
    if not len(below):
        return HalfLife(float(steps[-1]), False)
    at = int(below[0])
    if at == 0:
        return HalfLife(0.0, True)
    (x0, x1), (y0, y1) = steps[at - 1 : at + 1], shares[at - 1 : at + 1]
    return HalfLife(float(x0 + (x1 - x0) * (y0 - HALF) / (y0 - y1)), True)


def forgotten_at(trace: EditTrace) -> int | None:
    """The first measured step at which half of the unrelated facts are forgotten, or None."""
    below = np.flatnonzero(recall(trace) <= HALF)
    return int(below[0]) if len(below) else None


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Half-lives of runs that differ in their seed alone.

    Attributes:
        middle: their geometric mean; a lower bound where some were not reached.
        low, high: 95 % interval of it (Student's t on the logarithms); NaN for a single run.
        runs: how many.
        unreached: how many of them ended before half was forgotten.
    """

    middle: float
    low: float
    high: float
    runs: int
    unreached: int

    @property
    def label(self) -> str:
        """The half-life in words, as a lower bound where some runs ended before half was forgotten."""
        return f"{'> ' if self.unreached else ''}{number(self.middle, '.0f')} edits"

    @property
    def certainty(self) -> str:
        """How certain it is, in words: its interval, or which runs ended too early."""
        if self.unreached:
            return "not reached" if self.runs == 1 else f"not reached in {self.unreached} of {self.runs} runs"
        return f"{self.low:.0f}–{self.high:.0f} ({100 * LEVEL:.0f} %, {self.runs} seeds)" if self.runs > 1 else "1 seed"


def over_seeds(lives: Sequence[HalfLife]) -> Lifetimes:
    """The half-lives of several seeds as one number with its interval.

    Raises:
        ValueError: there is none.
    """
    if not lives:
        raise ValueError("no run to take the half-life of")
    logs = np.log([max(life.edits, 1.0) for life in lives])
    middle, unreached = float(np.exp(logs.mean())), sum(not life.reached for life in lives)
    if len(lives) == 1:
        return Lifetimes(middle, float("nan"), float("nan"), 1, unreached)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(lives) - 1) * logs.std(ddof=1) / np.sqrt(len(lives)))
    return Lifetimes(middle, middle * float(np.exp(-reach)), middle * float(np.exp(reach)), len(lives), unreached)


def forecasts(trace: EditTrace, row: int, stand_ins: np.ndarray | None = None) -> dict[str, tuple[float, float]]:
    """How well each forecast goes with the loss of log-odds of the unrelated facts known at first, at one step.

    Args:
        trace: the run.
        row: of the step.
        stand_ins: (m,) change of log-odds as the run's budget has it (`budget.fact_changes`), if there is one.

    Returns:
        Spearman's and Pearson's correlation by forecast: "shift" is ‖Σ p δ‖ (eq. 11), "subject", "all" and "renewed"
        the summed first-order forecasts, all of the δ's of the run; "stand_ins" knew none of them, and "both" adds a
        fact's rank by them to its rank by "renewed".
    """
    loss = trace.log_odds[0] - trace.log_odds[row]
    scores = {
        "shift": trace.shift_forecast[row],
        "subject": -trace.subject_token[row],
        "all": -trace.all_tokens[row],
        "renewed": -trace.renewed[row],
    }
    if stand_ins is not None:
        ranks = [stats.rankdata(score, nan_policy="omit") for score in (-stand_ins, scores["renewed"])]
        scores |= {"stand_ins": -stand_ins, "both": ranks[0] + ranks[1]}
    kept = (trace.rank[0] == 1) & np.isfinite(loss)
    return {
        name: correlations(score[kept & np.isfinite(score)], loss[kept & np.isfinite(score)])
        for name, score in scores.items()
    }


def exactness(trace: EditTrace) -> tuple[float, float]:
    """‖forecast - measured‖ / ‖measured‖ of Δo and of Δe at the last step, over all facts; NaN where nothing moved.

    Where the forecast is that nothing moves, what is measured is rounding: no edit was made in the first layer.
    """
    errors = []
    for error, forecast, moved in (
        (trace.shift_error, trace.shift_forecast, trace.shift),
        (trace.edited_shift_error, trace.edited_shift_forecast, trace.edited_shift),
    ):
        size = float(np.linalg.norm(moved[-1])) if forecast[-1].any() else 0.0
        errors.append(float(np.linalg.norm(error[-1])) / size if size else float("nan"))
    return errors[0], errors[1]
