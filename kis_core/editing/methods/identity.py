"""ROME without C, as EasyEdit and FastEdit run it by default: spillover then follows Q[i, j] = k_iᵀk_j / ‖k_i‖²."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kis_core.editing.rank_one import RankOne
from kis_core.editing.registry import register

if TYPE_CHECKING:
    from kis_core.covariance.whitener import Whitener


def direction(key: np.ndarray, whitener: Whitener) -> np.ndarray:
    """As ROME's, with the identity in the place of C."""
    return key.astype(np.float64)


METHOD = register(
    RankOne(
        name="identity",
        label="ROME with C = I",
        place=30,
        paper="",
        help="ROME as EasyEdit and FastEdit run it by default; it spills along Q[i, j] = kᵢᵀkⱼ/‖kᵢ‖², not P.",
        direction=direction,
    )
)
