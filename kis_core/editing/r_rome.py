"""r-ROME: the mean key over contexts on both sides (Gupta et al., arXiv 2403.07175), which keeps it from collapsing."""

from __future__ import annotations

import numpy as np

from kis_core.covariance import Whitener
from kis_core.editing.hyperparameters import Hyperparameters
from kis_core.editing.method import reach_along
from kis_core.editing.rank_one import RankOne
from kis_core.editing.value import Value


def reach(key: np.ndarray, mean_key: np.ndarray, whitener: Whitener, how: Hyperparameters) -> np.ndarray:
    """C⁻¹k̄ / (k̄ᵀC⁻¹k̄), whatever `how` says."""
    return reach_along(whitener.solve(mean_key), mean_key)


def delta(value: Value) -> np.ndarray:
    """v* - W k̄ with v* = v₀ + δ; δ itself where it was searched for as the edit will act."""
    return value.delta if value.everywhere else value.output + value.delta - value.mean_output


METHOD = RankOne("r-rome", "r-ROME", reach, delta)
