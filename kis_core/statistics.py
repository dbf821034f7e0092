"""Numbers that describe the off-diagonal entries of P (Hu et al., arXiv 2408.07413, Fig. 4 and 5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CONSTANT_SPREAD = 1e-12  # relative spread below which entries count as one constant: rounding of equal keys


@dataclass(frozen=True, slots=True)
class Moments:
    """Description of the off-diagonal entries of a P.

    Attributes:
        mean, std: std is the population one, as scipy's kurtosis uses.
        skewness, kurtosis: scipy's defaults (biased, excess: 0 for a normal); NaN for constant entries.
        max: largest entry.
        count: entries described.
        masked: entries left out because a key was zero.
    """

    mean: float
    std: float
    skewness: float
    kurtosis: float
    max: float
    count: int
    masked: int


def off_diagonal(p: np.ndarray) -> np.ndarray:
    """The off-diagonal entries of an (m, m) matrix, row by row, (m(m-1),)."""
    return p[~np.eye(len(p), dtype=bool)]


def moments(p: np.ndarray) -> Moments:
    """Moments of the off-diagonal entries; all NaN when there are none."""
    entries = off_diagonal(p)
    finite = entries[np.isfinite(entries)]
    masked = len(entries) - len(finite)
    if not len(finite):
        return Moments(np.nan, np.nan, np.nan, np.nan, np.nan, 0, masked)
    from scipy import stats  # slow to import, and not needed to show a stored result

    mean, std = float(finite.mean()), float(finite.std())
    constant = std <= CONSTANT_SPREAD * max(1.0, float(np.abs(finite).max()))
    return Moments(
        mean,
        std,
        float("nan") if constant else float(stats.skew(finite)),
        float("nan") if constant else float(stats.kurtosis(finite)),
        float(finite.max()),
        len(finite),
        masked,
    )
