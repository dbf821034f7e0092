"""Methods that make one rank-one edit of one value in one layer: ROME and its kin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from kis_core import progress
from kis_core.editing.edit import Edit
from kis_core.editing.hyperparameters import Hyperparameters
from kis_core.editing.method import Method, PerformedEdit, RequestedEdit, Site, agrees, check_key, reach_along
from kis_core.editing.settings import Settings

if TYPE_CHECKING:
    from kis_core.covariance.whitener import Whitener
    from kis_core.editing.value import Value


MOST_ANCHORS = 5.0
"""A value so many times the anchor writes nothing: in ROME's place, as the code of norm-anchor scaling has it."""


def delta_as_found(value: Value) -> np.ndarray:
    """δ as the search found it, (d,)."""
    return value.delta


@dataclass(frozen=True, slots=True, kw_only=True)
class RankOne(Method):
    """A way to make a rank-one edit of a value.

    Where the mean key over contexts has next to nothing of the prompt's own (`method.agreement`), as for a subject that
    begins its sentence and elsewhere stands amid one, the prompt's own key takes its place: the edit is then that of
    eq. 2, or that with C = I. Else the edit would land on other facts many times over. The third way, the mean key on
    both sides, would do no harm and nothing else: the edited prompt gets next to nothing of it. So the own key is what
    makes an edit at all; that its row of P is large is said beforehand (`results.caveats.of_edit`). Numbers of all
    three are in docs/edits.md.

    Attributes:
        direction: M k, (d_m,), of a key and C: the direction in which an edit of that key reaches.
        delta: δ, (d,), from the value found.
        both_sides: the mean key is on both sides, whatever the hyper-parameters say.
    """

    direction: Callable[[np.ndarray, Whitener], np.ndarray]
    delta: Callable[[Value], np.ndarray] = delta_as_found
    both_sides: bool = False

    def edit(self, value: Value, whitener: Whitener, layer: int, hyperparameters: Hyperparameters) -> Edit:
        """The edit of a layer, of the value that was found for it.

        Raises:
            EditError: the key is zero, or as good as zero.
        """
        if self.takes_own_key(value.key, value.mean_key, whitener, hyperparameters):
            value = replace(value, mean_key=value.key, mean_output=value.output)
        return Edit(layer, self.reach(value.key, value.mean_key, whitener, hyperparameters), self.delta(value))

    def takes_own_key(self, key: np.ndarray, mean_key: np.ndarray, whitener: Whitener, search: Hyperparameters) -> bool:
        """Whether the mean key was to be used, and the prompt's own takes its place; keys are (d_m,)."""
        wanted = self.both_sides or search.mean_key
        return wanted and not agrees(lambda some_key: self.direction(some_key, whitener), key, mean_key)

    def reach(self, key: np.ndarray, mean_key: np.ndarray, whitener: Whitener, search: Hyperparameters) -> np.ndarray:
        """u, (d_m,), from the prompt's key, the mean key over contexts, C and how the value is searched for.

        Raises:
            EditError: the key is zero, or as good as zero.
        """
        check_key(key, whitener)
        own = not (self.both_sides or search.mean_key) or self.takes_own_key(key, mean_key, whitener, search)
        left = key if own else mean_key
        return reach_along(self.direction(left, whitener), left if self.both_sides else key)

    def perform(
        self, site: Site, requested: Sequence[RequestedEdit], report: progress.Report = progress.silent
    ) -> list[PerformedEdit]:
        """Eq. 4 and 5: the value is searched for on the model as the edits before left it, so δ_n = v_e - W_{n-1} k_e.

        Raises:
            EditError: more than one edit or layer, or an edit that cannot be made there.
        """
        from kis_core.editing.overlay import applied
        from kis_core.editing.value import search

        layer, wanted = self.check_single(site, requested)
        whitener, hyperparameters, anchor = site.whiteners[layer], site.hyperparameters, site.anchor(layer)
        with applied(site.loaded, *site.standing):
            value = search(
                site.loaded,
                wanted.fact,
                wanted.target,
                layer,
                hyperparameters,
                prefixes=site.prefixes,
                report=report,
                reach=lambda key, mean: self.reach(key, mean, whitener, hyperparameters),
            ).rescaled(anchor, MOST_ANCHORS)
        edit = self.edit(value, whitener, layer, hyperparameters)
        own_key = self.takes_own_key(value.key, value.mean_key, whitener, hyperparameters)
        steps = len(value.losses) - 1
        return [PerformedEdit((edit,), value.key[None], value.probability, steps, own_key, value.norm)]

    def alone(self, edit: Edit, weight: np.ndarray, settings: Settings) -> Edit:
        """A single edit as the model has it: a `restrain` leaves its directions, and makes it smaller.

        Args:
            edit: of full strength.
            weight: W, (d, d_m).
            settings: the method's own.
        """
        if self.restrain is None or not edit.size:
            return edit
        kept = self.restrain(weight, edit.matrix, settings)
        return edit.scaled(float(np.linalg.norm(kept) / np.linalg.norm(edit.matrix)))
