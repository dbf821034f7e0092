"""How good a forecast of damage was: rank and linear correlation, and how well it tells the answers that flip."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

FEW_FLIPS = 10  # below this an AUC means little


def auc(scores: np.ndarray, flipped: np.ndarray) -> float:
    """Chance that a flipped fact has a higher score than one that did not flip, ties counted half; NaN without both."""
    count, others = int(flipped.sum()), int((~flipped).sum())
    if not count or not others:
        return float("nan")
    ranks = stats.rankdata(scores)
    return float((ranks[flipped].sum() - count * (count + 1) / 2) / (count * others))


def quality(scores: Mapping[str, np.ndarray], damage: np.ndarray, flipped: np.ndarray, *, without: int) -> pd.DataFrame:
    """One row a forecast.

    Args:
        scores: (m,) each; larger means more forecast damage.
        damage: (m,) measured loss of log-odds.
        flipped: (m,) booleans, the model's first choice changed.
        without: the edited fact, which is left out.

    Returns:
        columns `forecast`, `spearman`, `pearson`, `spearman_size` (of sizes, whatever the sign: fairer to scores that
        have none), `auc`, `flips`, `facts`; NaN where a score or the damage is constant.
    """
    kept = np.arange(len(damage)) != without
    rows = []
    for name, score in scores.items():
        there = kept & np.isfinite(score) & np.isfinite(damage)
        x, y, flips = score[there].astype(np.float64), damage[there], flipped[there]
        rank, line = correlations(x, y)
        size, _ = correlations(np.abs(x), np.abs(y))
        rows.append((name, rank, line, size, auc(x, flips), int(flips.sum()), int(there.sum())))
    return pd.DataFrame(rows, columns=["forecast", "spearman", "pearson", "spearman_size", "auc", "flips", "facts"])


def correlations(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Spearman's and Pearson's; NaN where one side is constant or there are fewer than three points."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan"), float("nan")
    return float(stats.spearmanr(x, y).statistic), float(stats.pearsonr(x, y).statistic)
