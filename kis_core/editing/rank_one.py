"""Methods that make one rank-one edit of one value in one layer: ROME and its kin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kis_core import progress
from kis_core.covariance.whitener import Whitener
from kis_core.editing.edit import Edit, EditError, applied
from kis_core.editing.hyperparameters import Hyperparameters
from kis_core.editing.method import PerformedEdit, RequestedEdit, Site, agrees, check_key, reach_along
from kis_core.editing.value import Value, search


@dataclass(frozen=True, slots=True)
class RankOne:
    """A way to make a rank-one edit of a value; a `Method`.

    Where the mean key over contexts has next to nothing of the prompt's own (`method.agreement`), as for a subject that
    begins its sentence and elsewhere stands amid one, the prompt's own key takes its place: the edit is then that of
    eq. 2, or that with C = I. Else the edit would land on other facts many times over.

    Attributes:
        name, told: see `Method`.
        direction: M k, (d_m,), of a key and C: the direction in which an edit of that key reaches.
        delta: δ, (d,), from the value found.
        both_sides: the mean key is on both sides, whatever the hyper-parameters say.
    """

    name: str
    told: str
    direction: Callable[[np.ndarray, Whitener], np.ndarray]
    delta: Callable[[Value], np.ndarray]
    both_sides: bool = False
    batches: bool = False
    spreads: bool = False

    def edit(self, value: Value, whitener: Whitener, layer: int, how: Hyperparameters) -> Edit:
        """The edit of a layer, of the value that was found for it.

        Raises:
            EditError: the key is zero, or as good as zero.
        """
        if self.takes_own_key(value.key, value.mean_key, whitener, how):
            value = replace(value, mean_key=value.key, mean_output=value.output)
        return Edit(layer, self.reach(value.key, value.mean_key, whitener, how), self.delta(value))

    def takes_own_key(self, key: np.ndarray, mean_key: np.ndarray, whitener: Whitener, how: Hyperparameters) -> bool:
        """Whether the mean key was to be used, and the prompt's own takes its place; keys are (d_m,)."""
        wanted = self.both_sides or how.mean_key
        return wanted and not agrees(lambda one: self.direction(one, whitener), key, mean_key)

    def reach(self, key: np.ndarray, mean_key: np.ndarray, whitener: Whitener, how: Hyperparameters) -> np.ndarray:
        """u, (d_m,), from the prompt's key, the mean key over contexts, C and how the value is searched for.

        Raises:
            EditError: the key is zero, or as good as zero.
        """
        check_key(key, whitener)
        own = not (self.both_sides or how.mean_key) or self.takes_own_key(key, mean_key, whitener, how)
        left = key if own else mean_key
        return reach_along(self.direction(left, whitener), left if self.both_sides else key)

    def make(
        self, site: Site, asked: Sequence[RequestedEdit], report: progress.Report = progress.silent
    ) -> list[PerformedEdit]:
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
            PerformedEdit(
                (self.edit(value, whitener, layer, site.how),),
                value.key[None],
                value.probability,
                len(value.losses) - 1,
                self.takes_own_key(value.key, value.mean_key, whitener, site.how),
            )
        ]
