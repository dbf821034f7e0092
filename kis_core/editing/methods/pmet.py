"""PMET: the value is searched for with another one at the attention's output (Li et al., arXiv 2308.08742).

MEMIT says what the residual stream is to be, of which the MLP writes one part. PMET searches for two δ's at once in
the last layer of the range, at the output of the attention and at that of the MLP. It drops the first, as attention
extracts in ways that a new fact need not change, and writes the second: z = v₀ + δ is what the MLP's output there is to
be. In each layer, what is still missing of it, R = z - v, is divided by the square root of the number of layers left,
where MEMIT divides by the number; Δ = R Kᵀ (λC + KKᵀ)⁻¹ as for MEMIT.

As in the authors' code: weight decay and clamp are relative to ‖v₀‖ of each output; v is that of the prompt alone; keys
are MEMIT's; once the new object is the first choice in all contexts, it counts a tenth in the loss, and the search ends
where the KL term is below 0.01. What is left open: without a KL term, as on narrow models here, that rule would end a
search at its first success, so it is left out. Where δ acts everywhere during the search, the MLP's does, by the share
of every token's key as it is without the attention's δ, which no edit writes and which acts at the subject alone.

In one layer it is right whatever norm or factor stands between the two outputs and the residual stream, and whether
attention and MLP are parallel or not: both δ's are added before all that. Several layers share what is missing in one
of them, which only means something where they all add to the stream as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from kis_core.editing.edit import EditError
from kis_core.editing.methods.memit import LAMBDA_SHARE, damped_reaches
from kis_core.editing.registry import register
from kis_core.editing.settings import ModelScale, Settings, check_positive
from kis_core.editing.spread import SpreadMethod

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from kis_core.covariance.whitener import Whitener
    from kis_core.models.loaded import LoadedModel

PUBLISHED_LAMBDA = {"gpt-j-6b": 6_000.0, "llama-2-7b": 15_000.0}
"""In the authors' file and in EasyEdit's; by catalogue name."""


@dataclass(frozen=True, slots=True)
class PmetSettings(Settings):
    """PMET's own term.

    Attributes:
        pmet_lambda: λ: as how many tokens general text counts against the batch.
    """

    pmet_lambda: float

    def __post_init__(self) -> None:
        check_positive(pmet_lambda=self.pmet_lambda)

    @classmethod
    def suited(cls, scale: ModelScale) -> Self:
        """The published λ, or else MEMIT's share of d_m."""
        return cls(PUBLISHED_LAMBDA.get(scale.published or "", LAMBDA_SHARE * scale.mlp_width))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pmet(SpreadMethod):
    """See the module."""

    def target(self, loaded: LoadedModel, last: int) -> nn.Module:
        """The down-projection."""
        return loaded.architecture.down_projections[last]

    def layers_share(self, left: int) -> float:
        """The square root of the layers left."""
        return math.sqrt(left)

    def search_options(self, hidden: np.ndarray) -> dict[str, Any]:
        """The other δ; sizes are those of the outputs."""
        return {"with_attention": True}

    def check_model(self, loaded: LoadedModel, layers: Sequence[int]) -> None:
        """Whether attention outputs are known, and several layers add to one stream.

        Raises:
            EditError: they are not, or do not.
        """
        from kis_core.models.checks import adds_plainly

        architecture = loaded.architecture
        if not architecture.attention_outputs:
            raise EditError(
                f"{self.label} also searches at the attention’s output, which is not where {architecture.name} has it. "
                f"Choose MEMIT or ROME."
            )
        if len(layers) > 1 and not adds_plainly(loaded, layers):
            raise EditError(
                f"{self.label} spreads what one layer’s MLP is to write over several, but in this model the MLP’s "
                f"output is scaled or normed on its way to the residual stream. Choose one layer, or ROME."
            )


def reaches(keys: np.ndarray, past: np.ndarray, whitener: Whitener, settings: PmetSettings) -> np.ndarray:
    """U = Kᵀ(λC + KKᵀ)⁻¹, (b, d_m)."""
    return damped_reaches(keys, whitener, settings.pmet_lambda)


METHOD = register(
    Pmet(
        name="pmet",
        label="PMET",
        place=46,
        paper="arXiv 2308.08742",
        help="MEMIT with values that are searched for together with a change at the attention’s output, which is then "
        "dropped; of several layers, the earlier ones write more.",
        settings=PmetSettings,
        reaches=reaches,
    )
)
