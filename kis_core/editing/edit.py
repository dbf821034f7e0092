"""An edit of one layer as numbers: a rank-one ΔW, or a full one. `overlay` runs a model with it.

Hu et al. (arXiv 2408.07413), eq. 2: Ŵ = W + Λ (C⁻¹k_e)ᵀ with Λ = (v_e - W k_e) / ((C⁻¹k_e)ᵀ k_e). With
u = C⁻¹k_e / (k_eᵀC⁻¹k_e) and δ = v_e - W k_e this is Ŵ = W + δ uᵀ: a token with key k gets (u·k) δ on top, and u·k is
p(k_e, k).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kis_core.errors import KisError


class EditError(KisError):
    """An edit that makes no sense or cannot be made; the message says why and what can."""


@dataclass(frozen=True, eq=False)
class Edit:
    """ΔW = δ uᵀ at the down-projection of one layer.

    Attributes:
        layer: its number.
        reach: u, (d_m,) float64; u·k is the share of δ that lands on a token with key k.
        delta: δ, (d,) float64.
    """

    layer: int
    reach: np.ndarray
    delta: np.ndarray

    def coefficients(self, keys: np.ndarray) -> np.ndarray:
        """u·k of each key: p(k_e, k) of eq. 16-18, if u is that of eq. 2.

        Args:
            keys: (…, d_m).
        """
        result: np.ndarray = keys.astype(np.float64) @ self.reach
        return result

    @property
    def size(self) -> float:
        """‖δ‖."""
        return float(np.linalg.norm(self.delta))

    def scaled(self, strength: float) -> Edit:
        """The same edit, `strength` times as large."""
        return Edit(self.layer, self.reach, self.delta * strength)

    def moves(self, keys: np.ndarray) -> np.ndarray:
        """What the edit adds to the output at each key, ΔW k = (u·k) δ, (…, d).

        Args:
            keys: (…, d_m).
        """
        result: np.ndarray = self.coefficients(keys)[..., None] * self.delta
        return result

    @property
    def matrix(self) -> np.ndarray:
        """ΔW, (d, d_m)."""
        return np.outer(self.delta, self.reach)


@dataclass(frozen=True, eq=False)
class DenseEdit:
    """Any ΔW at the down-projection of one layer: what fine-tuning finds, or many edits added up.

    Attributes:
        layer: its number.
        matrix: ΔW, (d, d_m) float64.
    """

    layer: int
    matrix: np.ndarray

    def moves(self, keys: np.ndarray) -> np.ndarray:
        """ΔW k of each key, (…, d); keys are (…, d_m)."""
        result: np.ndarray = keys.astype(np.float64) @ self.matrix.T
        return result

    @property
    def size(self) -> float:
        """‖ΔW‖, of Frobenius."""
        return float(np.linalg.norm(self.matrix))


Change = Edit | DenseEdit
"""A change of one layer's down-projection, as an overlay."""
