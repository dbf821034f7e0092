"""r-ROME: the mean key over contexts on both sides (Gupta et al., arXiv 2403.07175), which keeps it from collapsing.

u = C⁻¹k̄ / (k̄ᵀC⁻¹k̄), whatever `mean_key` says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kis_core.editing.methods.rome import direction
from kis_core.editing.rank_one import RankOne
from kis_core.editing.registry import register

if TYPE_CHECKING:
    import numpy as np

    from kis_core.editing.value import Value


def delta(value: Value) -> np.ndarray:
    """v* - W k̄ with v* = v₀ + δ; δ itself where it was searched for as the edit will act."""
    return value.delta if value.everywhere else value.output + value.delta - value.mean_output


METHOD = register(
    RankOne(
        name="r-rome",
        label="r-ROME",
        place=20,
        paper="arXiv 2403.07175",
        help="ROME with the mean key over several contexts on both sides, which keeps it from collapsing.",
        direction=direction,
        delta=delta,
        both_sides=True,
    )
)
