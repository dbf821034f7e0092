"""How alike two P over the same facts are."""

from __future__ import annotations

import numpy as np

from kis_core.superposition.moments import is_constant


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman correlation of the off-diagonal entries of two P over the same facts; NaN where one is constant."""
    from scipy.stats import rankdata

    both = np.isfinite(first) & np.isfinite(second) & ~np.eye(len(first), dtype=bool)
    a, b = first[both], second[both]
    if not len(a) or is_constant(a) or is_constant(b):  # ranks would tell rounding apart
        return float("nan")
    return _correlation(rankdata(a), rankdata(b))


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson correlation of the off-diagonal entries of two P over the same facts; NaN where one is constant."""
    both = np.isfinite(first) & np.isfinite(second) & ~np.eye(len(first), dtype=bool)
    return _correlation(first[both], second[both])


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if len(first) < 2 or is_constant(first) or is_constant(second):
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def layer_similarity(p: np.ndarray) -> np.ndarray:
    """How alike the P of every two layers are: Spearman correlations, (L, L) from (L, m, m)."""
    count = len(p)
    similarity = np.eye(count)
    for a in range(count):
        similarity[a, a] = rank_correlation(p[a], p[a])
        for b in range(a):
            similarity[a, b] = similarity[b, a] = rank_correlation(p[a], p[b])
    return similarity
