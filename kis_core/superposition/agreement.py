"""How alike two P over the same facts are, and which pairs differ most between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from kis_core.superposition.moments import is_constant

CELLS = 70  # along a side of the field in which pairs are counted
POINTS = 300  # of the pairs that differ most
MARGIN = 0.03  # of the span of all entries, around the field


@dataclass(frozen=True)
class PairCounts:
    """The pairs of two P, counted in the cells of a square field over their entries.

    Attributes:
        field: columns `x`, `x2`, `y`, `y2`, `pairs`; one row a cell that holds any pair.
        points: the pairs that differ most, as `differing` gives them.
        low, high: ends of both axes.
    """

    field: pd.DataFrame
    points: pd.DataFrame
    low: float
    high: float


def count_pairs(first: np.ndarray, second: np.ndarray) -> PairCounts:
    """Count the pairs of two P, (m, m) over the same facts, and find those that differ most."""
    a, b = _in_both(first, second)
    low, high = (float(min(a.min(), b.min())), float(max(a.max(), b.max()))) if len(a) else (0.0, 0.0)
    margin = MARGIN * (high - low) or 0.05
    low, high = low - margin, high + margin
    counts, edges, _ = np.histogram2d(a, b, bins=CELLS, range=[[low, high], [low, high]])
    rows, columns = np.nonzero(counts)
    field = {
        "x": edges[rows],
        "x2": edges[rows + 1],
        "y": edges[columns],
        "y2": edges[columns + 1],
        "pairs": counts[rows, columns].astype(int),
    }
    return PairCounts(pd.DataFrame(field), differing(first, second, POINTS), low, high)


def differing(first: np.ndarray, second: np.ndarray, count: int) -> pd.DataFrame:
    """The pairs whose P differs most between two matrices, most first.

    Returns:
        columns `i`, `j`, `x` (P in the first), `y` (P in the second).
    """
    difference = np.abs(first - second)
    np.fill_diagonal(difference, np.nan)
    order = np.argsort(-np.nan_to_num(difference, nan=-1.0), axis=None, kind="stable")
    order = order[: min(count, int(np.isfinite(difference).sum()))]
    i, j = np.unravel_index(order, difference.shape)
    return pd.DataFrame({"i": i.astype(int), "j": j.astype(int), "x": first[i, j], "y": second[i, j]})


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman correlation of the off-diagonal entries of two P over the same facts; NaN where one is constant."""
    from scipy.stats import rankdata

    a, b = _in_both(first, second)
    if not len(a) or is_constant(a) or is_constant(b):  # ranks would tell rounding apart
        return float("nan")
    return _correlation(rankdata(a), rankdata(b))


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson correlation of the off-diagonal entries of two P over the same facts; NaN where one is constant."""
    return _correlation(*_in_both(first, second))


def layer_similarity(p: np.ndarray) -> np.ndarray:
    """How alike the P of every two layers are: Spearman correlations, (L, L) from (L, m, m)."""
    count = len(p)
    similarity = np.eye(count)
    for a in range(count):
        for b in range(a + 1):
            similarity[a, b] = similarity[b, a] = rank_correlation(p[a], p[b])
    return similarity


def _in_both(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The off-diagonal entries that have a value in both matrices, row by row."""
    both = np.isfinite(first) & np.isfinite(second) & ~np.eye(len(first), dtype=bool)
    return first[both], second[both]


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if len(first) < 2 or is_constant(first) or is_constant(second):
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])
