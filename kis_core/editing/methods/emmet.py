"""EMMET: a batch of edits whose values are met exactly, as ROME's is (Gupta et al., arXiv 2403.14236).

MEMIT weighs new values against general text; EMMET keeps text as well as it can among the changes that put every key of
the batch on its value: Δ = R (KᵀC⁻¹K)⁻¹ KᵀC⁻¹. With one edit in one layer that is ROME's.

Keys that lie close together make KᵀC⁻¹K next to singular. The authors' code then adds a term to its diagonal, but for a
batch of one. They also multiply C by a weight w, and add λ: (KᵀC⁻¹K / w + λI)⁻¹ KᵀC⁻¹ / w = (KᵀC⁻¹K + wλI)⁻¹ KᵀC⁻¹, so
wλ is the one term here. A batch of several is therefore made as MEMIT with that λ would make it, which is small enough
for nearly all of an edit to land.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from kis_core.editing.method import reach_along
from kis_core.editing.methods.memit import damped_reaches
from kis_core.editing.registry import register
from kis_core.editing.settings import ModelScale, Settings, check_positive
from kis_core.editing.spread import SpreadMethod

if TYPE_CHECKING:
    import numpy as np

    from kis_core.covariance.whitener import Whitener

PUBLISHED_LAMBDA = {"gpt2-xl": 100.0, "gpt-j-6b": 1_000.0, "llama-2-7b": 0.1}
"""wλ in the authors' files: weights of 1,000, 10,000 and 1, times 0.1; by catalogue name."""
LAMBDA_SHARE = 0.01
"""wλ as a share of d_m elsewhere: kᵀC⁻¹k is about d_m for a key of general text, so 99 of 100 parts of an edit land.
In the first two of the published ones it is 0.016 and 0.06."""


@dataclass(frozen=True, slots=True)
class EmmetSettings(Settings):
    """EMMET's own term.

    Attributes:
        emmet_lambda: what is added to the diagonal of KᵀC⁻¹K for a batch of several, in units of kᵀC⁻¹k.
    """

    emmet_lambda: float

    def __post_init__(self) -> None:
        check_positive(emmet_lambda=self.emmet_lambda)

    @classmethod
    def suited(cls, scale: ModelScale) -> Self:
        """The published term, or else a share of d_m."""
        return cls(PUBLISHED_LAMBDA.get(scale.published or "", LAMBDA_SHARE * scale.mlp_width))


def reaches(keys: np.ndarray, past: np.ndarray, whitener: Whitener, settings: EmmetSettings) -> np.ndarray:
    """U, (b, d_m): all of an edit lands on its own key, and next to none on the others of the batch.

    Raises:
        EditError: the one key of the batch is zero.
    """
    if len(keys) == 1:
        return reach_along(whitener.solve(keys[0]), keys[0])[None]
    return damped_reaches(keys, whitener, settings.emmet_lambda)


METHOD = register(
    SpreadMethod(
        name="emmet",
        label="EMMET",
        place=44,
        paper="arXiv 2403.14236",
        help="Makes a batch of edits at once so that each value is met, where MEMIT weighs them against general text; "
        "one edit in one layer is ROME’s along the prompt’s own key.",
        settings=EmmetSettings,
        reaches=reaches,
    )
)
