"""Leverage k_iᵀC⁻¹k_i, which P[i, j] divides by, and how large it is for general text: what makes a key a weak one."""

from __future__ import annotations

import numpy as np

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles of general text's leverage that are kept."""
WEAK = 0.05
"""A key whose leverage lies below this quantile of general text is weak: nineteen of twenty tokens of text have a
larger one, so an edit of it, which is divided by it, lands on them with larger shares than usual."""


def quantiles(leverage: np.ndarray) -> np.ndarray:
    """The `LEVELS` of the leverage of keys of general text, (n,); all NaN where there is none."""
    return np.quantile(leverage, LEVELS) if len(leverage) else np.full(len(LEVELS), np.nan)


def weak_below(text: np.ndarray) -> float:
    """The leverage below which a key is weak, from the `quantiles` of a layer; NaN where they are unknown."""
    return float(text[LEVELS.index(WEAK)])


def weak(leverage: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Which keys are weak, (m,) booleans; none where the `quantiles` of general text are unknown.

    A zero key is not weak but has no P at all.
    """
    return np.asarray((leverage > 0) & (leverage < weak_below(text)))


def place_in_text(leverage: float, text: np.ndarray) -> str:
    """Between which of the `LEVELS` of general text a leverage lies, in words; empty where they are unknown."""
    if np.isnan(text).any():
        return ""
    above = int(np.searchsorted(text, leverage, side="right"))
    if above == 0:
        return f"below {100 * LEVELS[0]:.0f} % of general text"
    if above == len(LEVELS):
        return f"above {100 * LEVELS[-1]:.0f} % of general text"
    return f"between {100 * LEVELS[above - 1]:.0f} and {100 * LEVELS[above]:.0f} % of general text"
