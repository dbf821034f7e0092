"""MEMIT: many facts at once, spread over layers (Meng et al., arXiv 2210.07229, eq. 14): Δ = R Kᵀ (λC + KKᵀ)⁻¹.

C is the mean of k kᵀ over general text, so λ says how many tokens of it weigh against the batch.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from kis_core.covariance.whitener import Whitener
from kis_core.editing.spread import SpreadMethod
from kis_core.editing.weights import Weights


def reaches(keys: np.ndarray, past: np.ndarray, whitener: Whitener, weights: Weights) -> np.ndarray:
    """U = Kᵀ(λC + KKᵀ)⁻¹, (b, d_m), without a matrix of d_m × d_m: (λI + KᵀC⁻¹K)⁻¹ (C⁻¹K)ᵀ, by Woodbury's identity."""
    solved = np.stack([whitener.solve(key) for key in keys])
    inner = keys.astype(np.float64) @ solved.T
    damped = inner + weights.memit_lambda * np.eye(len(keys))
    return np.asarray(scipy.linalg.solve(damped, solved, assume_a="pos"))


METHOD = SpreadMethod("memit", "MEMIT", reaches)
