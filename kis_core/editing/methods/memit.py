"""MEMIT: many facts at once, spread over layers (Meng et al., arXiv 2210.07229, eq. 14): Δ = R Kᵀ (λC + KKᵀ)⁻¹.

C is the mean of k kᵀ over general text, so λ says how many tokens of it weigh against the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import scipy.linalg

from kis_core.editing.registry import register
from kis_core.editing.settings import ModelScale, Settings, check_positive
from kis_core.editing.spread import SpreadMethod

if TYPE_CHECKING:
    from kis_core.covariance.whitener import Whitener

PUBLISHED_LAMBDA = {"gpt2-xl": 20_000.0, "gpt-j-6b": 15_000.0, "llama-3-8b": 15_000.0}
"""As MEMIT's authors run it (Meng et al., arXiv 2210.07229, and its code), and AlphaEdit's; by catalogue name."""
LAMBDA_SHARE = 0.1
"""λ as a share of d_m elsewhere: kᵀC⁻¹k is about d_m for a key of general text, so nine tenths of an edit land."""


@dataclass(frozen=True, slots=True)
class MemitSettings(Settings):
    """MEMIT's own term.

    Attributes:
        memit_lambda: λ: as how many tokens general text counts against the batch.
    """

    memit_lambda: float

    def __post_init__(self) -> None:
        check_positive(memit_lambda=self.memit_lambda)

    @classmethod
    def suited(cls, scale: ModelScale) -> Self:
        """The published λ, or else a share of d_m."""
        return cls(PUBLISHED_LAMBDA.get(scale.published or "", LAMBDA_SHARE * scale.mlp_width))


def reaches(keys: np.ndarray, past: np.ndarray, whitener: Whitener, settings: MemitSettings) -> np.ndarray:
    """U = Kᵀ(λC + KKᵀ)⁻¹, (b, d_m)."""
    return damped_reaches(keys, whitener, settings.memit_lambda)


def damped_reaches(keys: np.ndarray, whitener: Whitener, damping: float) -> np.ndarray:
    """The same without a matrix of d_m × d_m: (λI + KᵀC⁻¹K)⁻¹ (C⁻¹K)ᵀ, by Woodbury's identity; keys are (b, d_m)."""
    solved = np.stack([whitener.solve(key) for key in keys])
    inner = keys.astype(np.float64) @ solved.T
    damped = inner + damping * np.eye(len(keys))
    return np.asarray(scipy.linalg.solve(damped, solved, assume_a="pos"))


METHOD = register(
    SpreadMethod(
        name="memit",
        label="MEMIT",
        place=40,
        paper="arXiv 2210.07229",
        help="Makes a batch of edits at once and can spread each of them over several layers.",
        settings=MemitSettings,
        reaches=reaches,
    )
)
