"""What a method of editing is: which way an edit reaches, and what it writes there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kis_core.covariance import Whitener
from kis_core.editing.edit import Edit
from kis_core.editing.hyperparameters import Hyperparameters
from kis_core.editing.value import Value

Reach = Callable[[np.ndarray, np.ndarray, Whitener, Hyperparameters], np.ndarray]
"""u, (d_m,), from the prompt's key, the mean key over contexts, C and how the value is searched for."""


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
