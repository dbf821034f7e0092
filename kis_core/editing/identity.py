"""ROME without C, as EasyEdit and FastEdit run it by default: spillover then follows Q[i, j] = k_iᵀk_j / ‖k_i‖²."""

from __future__ import annotations

import numpy as np

from kis_core.covariance.whitener import Whitener
from kis_core.editing.rank_one import RankOne


def direction(key: np.ndarray, whitener: Whitener) -> np.ndarray:
    """As ROME's, with the identity in the place of C."""
    return key.astype(np.float64)


METHOD = RankOne("identity", "ROME with C = I", direction, lambda value: value.delta)
