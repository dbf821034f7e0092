"""ROME: the rank-one edit of Hu et al. (arXiv 2408.07413), eq. 2; Meng et al. (arXiv 2202.05262), eq. 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kis_core.editing.rank_one import RankOne
from kis_core.editing.registry import register

if TYPE_CHECKING:
    import numpy as np

    from kis_core.covariance.whitener import Whitener


def direction(key: np.ndarray, whitener: Whitener) -> np.ndarray:
    """C⁻¹k.

    u = C⁻¹k_e / (k_eᵀC⁻¹k_e): the share that lands on fact j is exactly P[e, j]. With `mean_key`, u = C⁻¹k̄ / (k̄ᵀC⁻¹k_e)
    as in ROME's code: the mean key over contexts on the left, all contexts alike, the prompt's own on the right.
    """
    return whitener.solve(key)


METHOD = register(
    RankOne(
        name="rome",
        label="ROME",
        place=10,
        paper="arXiv 2202.05262",
        help="The rank-one edit of eq. 2; its spillover at the layer is P. With the mean key on the left, as in its "
        "authors’ code and by default on wide models, it spills by a share of its own.",
        direction=direction,
    )
)
