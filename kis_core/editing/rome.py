"""ROME: the rank-one edit of Hu et al. (arXiv 2408.07413), eq. 2; Meng et al. (arXiv 2202.05262), eq. 2."""

from __future__ import annotations

import numpy as np

from kis_core.covariance import Whitener
from kis_core.editing.hyperparameters import Hyperparameters
from kis_core.editing.method import reach_along
from kis_core.editing.rank_one import RankOne


def reach(key: np.ndarray, mean_key: np.ndarray, whitener: Whitener, how: Hyperparameters) -> np.ndarray:
    """C⁻¹k_e / (k_eᵀC⁻¹k_e): the share that lands on fact j is exactly P[e, j].

    With `how.mean_key`, C⁻¹k̄ / (k̄ᵀC⁻¹k_e) as in ROME's code: the mean key over contexts on the left, the prompt's own
    on the right.
    """
    return reach_along(whitener.solve(mean_key if how.mean_key else key), key)


METHOD = RankOne("rome", "ROME", reach, lambda value: value.delta)
