"""AlphaEdit: edits in the null space of general text, with the keys edited before kept (Fang et al., arXiv 2410.02355).

Δᵀ = [Π(KKᵀ + K_pK_pᵀ) + L2·I]⁻¹ Π K Rᵀ, with Π the projection onto the eigenvectors of C whose eigenvalues lie below
a threshold, which general text hardly uses, and K_p the keys of the edits before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Self

import numpy as np
import scipy.linalg

from kis_core.editing.edit import EditError
from kis_core.editing.registry import register
from kis_core.editing.settings import ModelScale, Settings, check_positive
from kis_core.editing.spread import SpreadMethod

if TYPE_CHECKING:
    from kis_core.covariance.whitener import Whitener

NULL_BELOW, NULL_L2 = 0.02, 10.0  # the authors' own (Fang et al., arXiv 2410.02355, and its code)
NULL_L2_OF = {"llama-3-8b": 1.0}
KEPT_SPACES = 8  # in memory: eigenvectors of that many layers
LEAST_USED = 0.75  # of the eigenvectors, where no threshold is given
LEAST_SHARE = 1e-6  # of tr C that counts as used, where text uses nothing there: keeps what is solved regular
L2_SHARE = 0.25  # of tr ΠC, the mean of ‖Πk‖² over general text, where no L2 is given


@dataclass(frozen=True, slots=True)
class AlphaEditSettings(Settings):
    """AlphaEdit's own terms.

    Attributes:
        null_below: the null space is spanned by the eigenvectors of C with an eigenvalue below this; None for the three
            quarters of them that general text uses least.
        null_l2: L2, in units of ‖k‖²; None for a quarter of what general text has in the null space.
    """

    null_below: float | None
    null_l2: float | None

    def __post_init__(self) -> None:
        given = {"null_below": self.null_below, "null_l2": self.null_l2}
        check_positive(**{name: value for name, value in given.items() if value is not None})

    @classmethod
    def suited(cls, scale: ModelScale) -> Self:
        """The published terms, or else none, which leaves them to the scale of C."""
        name = scale.published
        return cls(None, None) if name is None else cls(NULL_BELOW, NULL_L2_OF.get(name, NULL_L2))


@lru_cache(maxsize=KEPT_SPACES)
def null_space(whitener: Whitener, below: float | None) -> tuple[np.ndarray, float]:
    """Eigenvectors of C with an eigenvalue below the threshold, as columns, (d_m, n), and the sum of these eigenvalues.

    Where text uses next to nothing there, the sum is a little more than nothing.

    Raises:
        EditError: there are none, or nothing else.
    """
    matrix = whitener.factor @ whitener.factor.T - whitener.ridge * np.eye(len(whitener.factor))
    values, vectors = scipy.linalg.eigh(matrix)
    count = int(LEAST_USED * len(values)) if below is None else int((values < below).sum())
    if not 0 < count < len(values):
        what = "every" if count else "no"
        raise EditError(
            f"AlphaEdit: {what} eigenvalue of C lies below {below} (they go from {values[0]:.2g} to "
            f"{values[-1]:.2g}); choose another threshold"
        )
    used = float(values[:count].clip(min=0).sum())
    return np.asarray(vectors[:, :count]), max(used, LEAST_SHARE * float(values.sum()))


def reaches(keys: np.ndarray, past: np.ndarray, whitener: Whitener, settings: AlphaEditSettings) -> np.ndarray:
    """U, (b, d_m): the rows of the solution that belong to K, found inside the null space.

    With A = [K, K_p] and B = ΠA the solution lies in the range of Π, and is B (BᵀB + L2·I)⁻¹, its columns for K.
    """
    basis, used = null_space(whitener, settings.null_below)
    penalty = L2_SHARE * used if settings.null_l2 is None else settings.null_l2
    inside = np.concatenate([keys, past]).astype(np.float64) @ basis
    damped = inside @ inside.T + penalty * np.eye(len(inside))
    solved = scipy.linalg.solve(damped, np.eye(len(inside))[:, : len(keys)], assume_a="pos")
    return np.asarray((solved.T @ inside) @ basis.T)


METHOD = register(
    SpreadMethod(
        name="alphaedit",
        label="AlphaEdit",
        place=50,
        paper="arXiv 2410.02355",
        help="Makes a batch of edits in the null space of C, which general text hardly uses, and keeps the keys edited "
        "before.",
        settings=AlphaEditSettings,
        reaches=reaches,
    )
)
