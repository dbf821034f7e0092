"""ROME without C, as EasyEdit and FastEdit run it by default: spillover then follows Q[i, j] = k_iᵀk_j / ‖k_i‖²."""

from __future__ import annotations

import numpy as np

from kis_core.covariance import Whitener
from kis_core.editing.hyperparameters import Hyperparameters
from kis_core.editing.method import reach_along
from kis_core.editing.rank_one import RankOne


def reach(key: np.ndarray, mean_key: np.ndarray, whitener: Whitener, how: Hyperparameters) -> np.ndarray:
    """As ROME's, with the identity in the place of C."""
    return reach_along(mean_key if how.mean_key else key, key)


METHOD = RankOne("identity", "ROME with C = I", reach, lambda value: value.delta)
