"""What a run comes to: how fast it forgets, and how well the theory foretold which facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import stats

from kis_core.lifelong.trace import EditTrace
from kis_core.spillover import correlations

HALF = 0.5
LEVEL = 0.95


def recall(film: EditTrace) -> np.ndarray:
    """(s,) share of the unrelated facts answered right at first that still are; NaN where none was."""
    known = film.rank[0] == 1
    if not known.any():
        return np.full(len(film.steps), np.nan)
    return np.asarray((film.rank[:, known] == 1).mean(axis=1))


def retention(film: EditTrace) -> np.ndarray:
    """(s,) share of the edits made so far whose new object is the model's first choice; NaN before the first."""
    return np.array([
        float((row[:made] == 1).mean()) if made else np.nan
        for row, made in zip(film.edited_rank, film.steps.tolist(), strict=True)
    ])  # fmt: skip


def newest(film: EditTrace) -> np.ndarray:
    """(s,) share of the edits since the step before that took, right after they were made; NaN before the first."""
    ends = film.steps.tolist()
    return np.array([np.nan, *(float(film.took[a:b].mean()) for a, b in pairwise(ends))])


@dataclass(frozen=True, slots=True)
class HalfLife:
    """Edits until half of the unrelated facts are forgotten.

    Attributes:
        edits: how many; where `reached` is False the run ended before, after this many.
        reached: the run went that far.
    """

    edits: float
    reached: bool


def half_life(film: EditTrace) -> HalfLife:
    """Where recall first crosses a half, on a straight line between two measurements."""
    shares = recall(film)
    below = np.flatnonzero(shares <= HALF)
    if not len(below):
        return HalfLife(float(film.edits), False)
    at = int(below[0])
    if at == 0:
        return HalfLife(0.0, True)
    (x0, x1), (y0, y1) = film.steps[at - 1 : at + 1], shares[at - 1 : at + 1]
    return HalfLife(float(x0 + (x1 - x0) * (y0 - HALF) / (y0 - y1)), True)


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


def over_seeds(found: Sequence[HalfLife]) -> Lifetimes:
    """The half-lives of several seeds as one number with its interval.

    Raises:
        ValueError: there is none.
    """
    if not found:
        raise ValueError("no run to take the half-life of")
    logs = np.log([max(one.edits, 1.0) for one in found])
    middle, unreached = float(np.exp(logs.mean())), sum(not one.reached for one in found)
    if len(found) == 1:
        return Lifetimes(middle, float("nan"), float("nan"), 1, unreached)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(found) - 1) * logs.std(ddof=1) / np.sqrt(len(found)))
    return Lifetimes(middle, middle * float(np.exp(-reach)), middle * float(np.exp(reach)), len(found), unreached)


def forecasts(film: EditTrace, row: int) -> dict[str, tuple[float, float]]:
    """How well each forecast foretold the loss of log-odds of the unrelated facts known at first, at one step.

    Returns:
        Spearman's and Pearson's correlation by forecast: "shift" is ‖Σ p δ‖ (eq. 11), "subject", "all" and "renewed"
        the summed first-order forecasts.
    """
    loss = film.log_odds[0] - film.log_odds[row]
    scores = {
        "shift": film.shift_forecast[row], "subject": -film.subject_token[row], "all": -film.all_tokens[row],
        "renewed": -film.renewed[row],
    }  # fmt: skip
    kept = (film.rank[0] == 1) & np.isfinite(loss)
    return {
        name: correlations(score[kept & np.isfinite(score)], loss[kept & np.isfinite(score)])
        for name, score in scores.items()
    }


def exactness(film: EditTrace) -> tuple[float, float]:
    """‖predicted - measured‖ / ‖measured‖ of Δo and of Δe at the last step, over all facts; NaN where nothing moved."""
    found = []
    for error, moved in ((film.shift_error, film.shift), (film.edited_shift_error, film.edited_shift)):
        size = float(np.linalg.norm(moved[-1]))
        found.append(float(np.linalg.norm(error[-1])) / size if size else float("nan"))
    return found[0], found[1]
