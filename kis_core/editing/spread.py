"""Methods that make a batch of edits at once, spread over a range of layers: MEMIT, AlphaEdit and their kin.

The values are searched for in the last layer of the range; z_i = h_i + δ_i is what the residual stream is to be after
it, at the subject's last token. Then, layer by layer, each writes its part of what is still missing: R = (z - h) /
(layers left), h taken anew each time (Meng et al., arXiv 2210.07229, section 4.3, algorithm 1).

As in the authors' code, h is that of the prompt alone, weight decay and clamp of the search are relative to ‖h‖, and
where `mean_key` says so an edit's key is the mean of the prompt's own and of the mean after random beginnings: the
prompt has half the weight, whatever their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from kis_core import progress
from kis_core.editing.edit import Change, Edit, EditError
from kis_core.editing.method import Method, PerformedEdit, RequestedEdit, Site, agrees, check_key, reach_along

if TYPE_CHECKING:
    from torch import nn

    from kis_core.covariance.whitener import Whitener
    from kis_core.models.loaded import LoadedModel

MOST_ANCHORS = 2.0
"""A value so many times the anchor writes nothing: in AlphaEdit's place, as the code of norm-anchor scaling has it."""
LEAST_LANDS = 1e-12  # share of an edit on its own key: less is rounding of nothing, in float64


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadMethod(Method):
    """A way to make a batch of edits in a range of layers.

    Attributes:
        reaches: U, (b, d_m), one u a row, from the keys of the batch (b, d_m), those of earlier edits (n, d_m), C and
            the method's own settings: ΔW = R U, with one column of R an edit.
    """

    reaches: Callable[[np.ndarray, np.ndarray, Whitener, Any], np.ndarray]
    batches: bool = True
    spreads: bool = True

    def target(self, loaded: LoadedModel, last: int) -> nn.Module:
        """The module whose output, at the subject's last token, is to be z_i = h_i + δ_i."""
        return loaded.architecture.blocks[last]

    def layers_share(self, left: int) -> float:
        """By what the missing part is divided in a layer, of those that are left with it."""
        return left

    def search_options(self, hidden: np.ndarray) -> dict[str, Any]:
        """What the search for a value is told beside the edit, from h_i, (d,)."""
        return {"size": float(np.linalg.norm(hidden))}

    def check_model(self, loaded: LoadedModel, layers: Sequence[int]) -> None:
        """Whether the MLPs add to the residual stream what they put out; see `Method.check_model`.

        Raises:
            EditError: they do not.
        """
        from kis_core.models.checks import adds_plainly

        if not adds_plainly(loaded, layers):
            raise EditError(
                f"{self.label} says what the residual stream is to be, but in this model the MLP’s output is scaled or "
                f"normed on its way there. Choose ROME, r-ROME or C = I."
            )

    def perform(
        self, site: Site, requested: Sequence[RequestedEdit], report: progress.Report = progress.silent
    ) -> list[PerformedEdit]:
        """The whole batch; see `Method.perform`.

        Raises:
            EditError: no edit, no layer, layers out of order, or an edit that cannot be made there.
        """
        from kis_core.editing.overlay import applied
        from kis_core.editing.subject_states import at_subjects, key_sentences
        from kis_core.editing.value import search

        self._check(site, requested)
        last, settings = site.layers[-1], self.own_settings(site)
        target = self.target(site.loaded, last)
        anchor = site.anchor(last)
        no_keys: np.ndarray = np.empty((0, site.loaded.architecture.widths[1]))
        own_key = [False for _ in requested]

        def reaches(layer: int, keys: np.ndarray) -> np.ndarray:
            return np.asarray(self.reaches(keys, site.past.get(layer, no_keys), site.whiteners[layer], settings))

        def direction(key: np.ndarray) -> np.ndarray:
            return np.asarray(reaches(last, key[None])[0])

        def alone(at: int, key: np.ndarray, _: np.ndarray) -> np.ndarray:
            """How δ acts while it is searched for: as an edit by itself, all of which lands on the prompt's key."""
            own_key[at] = not agrees(direction, key, mean_keys[at])
            return reach_along(direction(key if own_key[at] else mean_keys[at]), key)

        sentences = key_sentences(site, requested)
        with applied(site.loaded, *site.standing):
            mean_keys, hidden = at_subjects(site.loaded, sentences, last, target)
            values = [
                search(
                    site.loaded,
                    edit.fact,
                    edit.target,
                    last,
                    site.hyperparameters,
                    prefixes=site.prefixes,
                    reach=partial(alone, at),
                    report=report,
                    **self.search_options(hidden[at]),
                ).rescaled(anchor, MOST_ANCHORS)
                for at, edit in enumerate(requested)
            ]
        wanted = hidden + np.stack([value.delta for value in values])

        changes: list[list[Edit]] = [[] for _ in requested]
        keys: list[np.ndarray] = []
        for done, layer in enumerate(site.layers):
            so_far: list[Change] = [*site.standing, *(change for own in changes for change in own)]
            with applied(site.loaded, *so_far):
                keys_here, hidden = at_subjects(site.loaded, sentences, layer, target)
            missing = (wanted - hidden) / self.layers_share(len(site.layers) - done)
            reach = reaches(layer, keys_here)
            for edit, key, u in zip(requested, keys_here, reach, strict=True):
                self._check_lands(edit, layer, key, u, site.whiteners[layer])
            for own, u, r in zip(changes, reach, missing, strict=True):
                own.append(Edit(layer, u, r))
            keys.append(keys_here)
        return [
            PerformedEdit(
                tuple(own),
                np.stack([layer[at] for layer in keys]),
                value.probability,
                len(value.losses) - 1,
                its_own,
                value.norm,
            )
            for at, (own, value, its_own) in enumerate(zip(changes, values, own_key, strict=True))
        ]

    def _check(self, site: Site, requested: Sequence[RequestedEdit]) -> None:
        """Whether a batch makes sense there; see `perform` for what is raised."""
        from kis_core.editing.value import check_target

        if not requested or not site.layers or list(site.layers) != sorted(set(site.layers)):
            raise EditError(f"{self.label} needs an edit and layers in order; found {len(requested)} and {site.layers}")
        for edit in requested:
            check_target(site.loaded, edit.target, site.layers[-1])
        self.check_model(site.loaded, site.layers)

    def _check_lands(
        self, edit: RequestedEdit, layer: int, key: np.ndarray, reach: np.ndarray, whitener: Whitener
    ) -> None:
        """Whether an edit changes anything at its own key.

        Raises:
            EditError: the key is as good as zero, or the method has no room for it in this layer.
        """
        try:
            check_key(key, whitener)
        except EditError as error:
            raise EditError(f"{edit.fact.subject!r}, layer {layer}: {error}") from error
        if not float(reach @ key) > LEAST_LANDS:
            raise EditError(
                f"{edit.fact.subject!r}, layer {layer}: nothing of what {self.label} writes would land on the key of "
                f"this fact; choose another layer or method"
            )
