"""What a method of editing is: which way an edit reaches, and what it writes there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kis_core.covariance import Whitener
from kis_core.editing.edit import Edit, EditError
from kis_core.editing.hyperparameters import Hyperparameters
from kis_core.editing.value import Value

Reach = Callable[[np.ndarray, np.ndarray, Whitener, Hyperparameters], np.ndarray]
"""u, (d_m,), from the prompt's key, the mean key over contexts, C and how the value is searched for."""


def reach_along(direction: np.ndarray, key: np.ndarray) -> np.ndarray:
    """A direction scaled so that all of the edit lands on `key`; both (d_m,).

    Raises:
        EditError: the key is zero, or nothing of it lies along the direction.
    """
    share = float(direction @ key)
    if not np.isfinite(share) or share == 0:
        found = "zero" if share == 0 else "not finite"
        raise EditError(f"the key of this fact is {found} at this layer, so no edit can reach it; choose another layer")
    return np.asarray(direction / share)


@dataclass(frozen=True, slots=True)
class Method:
    """A way to make a rank-one edit of a value.

    Attributes:
        name: for command line and links.
        told: for people.
        reach: see there.
        delta: δ, (d,), from the value found.
    """

    name: str
    told: str
    reach: Reach
    delta: Callable[[Value], np.ndarray]

    def edit(self, value: Value, whitener: Whitener, layer: int, how: Hyperparameters) -> Edit:
        """The edit of a layer, of the value that was found for it."""
        return Edit(layer, self.reach(value.key, value.mean_key, whitener, how), self.delta(value))
