"""Methods that make one rank-one edit of one value in one layer: ROME and its kin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kis_core import progress
from kis_core.covariance import Whitener
from kis_core.editing.edit import Edit, EditError, applied
from kis_core.editing.hyperparameters import Hyperparameters
from kis_core.editing.method import Asked, Made, Site
from kis_core.editing.value import Value, search

Reach = Callable[[np.ndarray, np.ndarray, Whitener, Hyperparameters], np.ndarray]
"""u, (d_m,), from the prompt's key, the mean key over contexts, C and how the value is searched for."""


@dataclass(frozen=True, slots=True)
class RankOne:
    """A way to make a rank-one edit of a value; a `Method`.

    Attributes:
        name, told: see `Method`.
        reach: see there.
        delta: δ, (d,), from the value found.
    """

    name: str
    told: str
    reach: Reach
    delta: Callable[[Value], np.ndarray]
    batches: bool = False
    spreads: bool = False

    def edit(self, value: Value, whitener: Whitener, layer: int, how: Hyperparameters) -> Edit:
        """The edit of a layer, of the value that was found for it."""
        return Edit(layer, self.reach(value.key, value.mean_key, whitener, how), self.delta(value))

    def make(self, site: Site, asked: Sequence[Asked], report: progress.Report = progress.silent) -> list[Made]:
        """Eq. 4 and 5: the value is searched for on the model as the edits before left it, so δ_n = v_e - W_{n-1} k_e.

        Raises:
            EditError: more than one edit or layer, or an edit that cannot be made there.
        """
        if len(asked) != 1 or len(site.layers) != 1:
            raise EditError(f"{self.told} makes one edit at a time, in one layer")
        (layer,), (one,) = site.layers, asked
        whitener = site.whiteners[layer]
        with applied(site.loaded, *site.standing):
            value = search(
                site.loaded, one.fact, one.target, layer, site.how, prefixes=site.prefixes, report=report,
                reach=lambda key, mean: self.reach(key, mean, whitener, site.how),
            )  # fmt: skip
        return [
            Made(
                (self.edit(value, whitener, layer, site.how),),
                value.key[None],
                value.probability,
                len(value.losses) - 1,
            )
        ]
