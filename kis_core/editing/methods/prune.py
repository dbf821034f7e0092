"""PRUNE: what edits have added up to is restrained, not each edit (Ma et al., arXiv 2405.16821, section 4).

The model that is used is W + Σ F(σ̂ᵢ) ûᵢ v̂ᵢᵀ, with σ̂ᵢ the singular values of the ΔW of all edits so far. Those up to
the largest singular value σ of W stay as they are; beyond it,

    F(σ̂) = log_α σ̂ - log_α σ + σ.

As in the authors' code, every edit is ROME's on the model that has all of ΔW, and the restraint is put on what the
edits have come to when the model is used: here, whenever it is measured. Just beyond σ, F grows by 1 / (σ ln α), which
is faster than σ̂ itself where σ < 1 / ln α (5.5 for α = 1.2), as it is in narrow models; since the paper wants singular
values made smaller, the smaller one of F(σ̂) and σ̂ is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.linalg

from kis_core.editing.edit import EditError
from kis_core.editing.methods.rome import direction
from kis_core.editing.rank_one import RankOne
from kis_core.editing.registry import register
from kis_core.editing.settings import ModelScale, Settings

BASE = 1.2  # α, as the authors run it and others after them


@dataclass(frozen=True, slots=True)
class PruneSettings(Settings):
    """PRUNE's own term.

    Attributes:
        prune_base: α, the base of the logarithm; the larger, the stronger the restraint.
    """

    prune_base: float

    def __post_init__(self) -> None:
        if not (isinstance(self.prune_base, float | int) and 1 < self.prune_base < math.inf):
            raise EditError(f"prune_base is the base of a logarithm, a number above 1; found {self.prune_base}")

    @classmethod
    def suited(cls, scale: ModelScale) -> Self:
        """The published base, whatever the model."""
        return cls(BASE)


def restrained(weight: np.ndarray, total: np.ndarray, settings: PruneSettings) -> np.ndarray:
    """ΔW with its singular values beyond the largest one of W restrained; all are (d, d_m)."""
    largest = float(scipy.linalg.svdvals(weight)[0])
    left, values, right = scipy.linalg.svd(total, full_matrices=False)
    beyond = values > largest
    over = values[beyond]
    compressed = np.minimum(over, np.log(over / largest) / math.log(settings.prune_base) + largest)
    return np.asarray(total - (left[:, beyond] * (over - compressed)) @ right[beyond])


METHOD = register(
    RankOne(
        name="prune",
        label="PRUNE",
        place=32,
        paper="arXiv 2405.16821",
        help="ROME’s edits, whose sum is restrained: its singular values beyond the largest one of W grow as a "
        "logarithm from there on.",
        settings=PruneSettings,
        direction=direction,
        restrain=restrained,
    )
)
