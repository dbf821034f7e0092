"""MEMIT with the keys of past edits in the objective (Wang et al., arXiv 2605.26670): Δ = R Kᵀ (λC + K_pK_pᵀ + KKᵀ)⁻¹.

What an edit writes is weighed against the values that edits made before, as AlphaEdit weighs it, beside general text.
In one layer, edits made one after another then change W as the same edits made at once would: with S_n = λC + the keys
so far, W_n = W_{n-1} + (V_n - W_{n-1}K_n) K_nᵀS_n⁻¹ is recursive least squares, whose result does not depend on how the
edits are cut into batches. That is so where the values V are given and the keys stay as they are. Here values are
searched for on the model as the edits before left it, so a run comes close to a batch and is not the same; above the
first layer that is edited, keys move as well. λ is MEMIT's, as in the authors' code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from kis_core.editing.methods.memit import MemitSettings
from kis_core.editing.registry import register
from kis_core.editing.spread import SpreadMethod

if TYPE_CHECKING:
    from kis_core.covariance.whitener import Whitener


def reaches(keys: np.ndarray, past: np.ndarray, whitener: Whitener, settings: MemitSettings) -> np.ndarray:
    """U, (b, d_m): MEMIT's for A = [K, K_p] all at once, of which the rows for K are taken.

    With W = F⁻¹A and C = FFᵀ: (λI + WᵀW)⁻¹ Wᵀ F⁻¹, by Woodbury's identity; thousands of past keys are whitened at once.
    """
    white = whitener.whiten(np.concatenate([keys, past]))
    damped = white @ white.T + settings.memit_lambda * np.eye(len(white))
    solved = scipy.linalg.solve(damped, np.eye(len(white), len(keys)), assume_a="pos")
    along = scipy.linalg.solve_triangular(whitener.factor, white.T @ solved, lower=True, trans="T")
    return np.asarray(along.T)


METHOD = register(
    SpreadMethod(
        name="memit-past",
        label="MEMIT with past keys",
        place=42,
        paper="arXiv 2605.26670",
        help="MEMIT that weighs an edit against the keys edited before as well: edits made one after another then come "
        "close to the same edits made at once.",
        settings=MemitSettings,
        reaches=reaches,
    )
)
