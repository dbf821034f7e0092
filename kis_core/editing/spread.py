"""Methods that make a batch of edits at once, spread over a range of layers: MEMIT and AlphaEdit.

The values are searched for in the last layer of the range; z_i = h_i + δ_i is what the residual stream is to be after
it, at the subject's last token. Then, layer by layer, each writes its part of what is still missing: R = (z - h) /
(layers left), h taken anew each time (Meng et al., arXiv 2210.07229, section 4.3, algorithm 1).

As in the authors' code, h is that of the prompt alone, weight decay and clamp of the search are relative to ‖h‖, and
where `mean_key` says so an edit's key is the mean of the prompt's own and of the mean after random beginnings: the
prompt has half the weight, whatever their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kis_core import progress
from kis_core.covariance.whitener import Whitener
from kis_core.editing.contexts import contexts
from kis_core.editing.edit import Change, Edit, EditError, applied
from kis_core.editing.method import PerformedEdit, RequestedEdit, Site, agrees, check_key, reach_along
from kis_core.editing.value import check_asked, search, that_fit
from kis_core.editing.weights import Weights
from kis_core.models.batching import pad
from kis_core.models.checks import adds_plainly
from kis_core.models.hooks import hooked
from kis_core.scoring.log_odds import Sentence, tokenize_sentences

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel

Reaches = Callable[[np.ndarray, np.ndarray, Whitener, Weights], np.ndarray]
"""U, (b, d_m), one u a row, from the keys of the batch (b, d_m), those of earlier edits (n, d_m), C and the weights:
ΔW = R U, with one column of R an edit."""

LEAST_LANDS = 1e-12  # share of an edit on its own key: less is rounding of nothing, in float64


@dataclass(frozen=True, slots=True)
class SpreadMethod:
    """A way to make a batch of edits in a range of layers; a `Method`.

    Attributes:
        name, told: see `Method`.
        reaches: see there.
    """

    name: str
    told: str
    reaches: Reaches
    batches: bool = True
    spreads: bool = True

    def make(
        self, site: Site, asked: Sequence[RequestedEdit], report: progress.Report = progress.silent
    ) -> list[PerformedEdit]:
        """The whole batch; see `Method.make`.

        Raises:
            EditError: no edit, no layer, layers out of order, or an edit that cannot be made there.
        """
        if not asked or not site.layers or list(site.layers) != sorted(set(site.layers)):
            raise EditError(f"{self.told} needs an edit and layers in order; found {len(asked)} and {site.layers}")
        last = site.layers[-1]
        for one in asked:
            check_asked(site.loaded, one.target, last)
        if not adds_plainly(site.loaded, site.layers):
            raise EditError(
                f"{self.told} says what the residual stream is to be, but in this model the MLP’s output is scaled or "
                f"normed on its way there. Choose ROME, r-ROME or C = I."
            )
        none: np.ndarray = np.empty((0, site.loaded.architecture.widths[1]))
        own_key = [False for _ in asked]

        def reaches(layer: int, keys: np.ndarray) -> np.ndarray:
            return np.asarray(self.reaches(keys, site.past.get(layer, none), site.whiteners[layer], site.weights))

        def direction(key: np.ndarray) -> np.ndarray:
            return np.asarray(reaches(last, key[None])[0])

        def alone(at: int, key: np.ndarray, _: np.ndarray) -> np.ndarray:
            """How δ acts while it is searched for: as an edit by itself, all of which lands on the prompt's key."""
            own_key[at] = not agrees(direction, key, mean_keys[at])
            return reach_along(direction(key if own_key[at] else mean_keys[at]), key)

        told = _sentences(site, asked)
        with applied(site.loaded, *site.standing):
            mean_keys, hidden = _at_subjects(site.loaded, told, last, last)
            values = [
                search(
                    site.loaded, one.fact, one.target, last, site.how, prefixes=site.prefixes, reach=partial(alone, at),
                    size=float(np.linalg.norm(hidden[at])), report=report,
                )
                for at, one in enumerate(asked)
            ]  # fmt: skip
        wanted = hidden + np.stack([value.delta for value in values])

        changes: list[list[Edit]] = [[] for _ in asked]
        keys: list[np.ndarray] = []
        for done, layer in enumerate(site.layers):
            so_far: list[Change] = [*site.standing, *(edit for own in changes for edit in own)]
            with applied(site.loaded, *so_far):
                found, hidden = _at_subjects(site.loaded, told, layer, last)
            missing = (wanted - hidden) / (len(site.layers) - done)
            reach = reaches(layer, found)
            for one, key, u in zip(asked, found, reach, strict=True):
                self._check_lands(one, layer, key, u, site.whiteners[layer])
            for own, u, r in zip(changes, reach, missing, strict=True):
                own.append(Edit(layer, u, r))
            keys.append(found)
        return [
            PerformedEdit(
                tuple(own), np.stack([found[at] for found in keys]), value.probability, len(value.losses) - 1, its_own
            )
            for at, (own, value, its_own) in enumerate(zip(changes, values, own_key, strict=True))
        ]

    def _check_lands(
        self, one: RequestedEdit, layer: int, key: np.ndarray, reach: np.ndarray, whitener: Whitener
    ) -> None:
        """Whether an edit changes anything at its own key.

        Raises:
            EditError: the key is as good as zero, or the method has no room for it in this layer.
        """
        try:
            check_key(key, whitener)
        except EditError as error:
            raise EditError(f"{one.fact.subject!r}, layer {layer}: {error}") from error
        if not float(reach @ key) > LEAST_LANDS:
            raise EditError(
                f"{one.fact.subject!r}, layer {layer}: nothing of what {self.told} writes would land on the key of "
                f"this fact; choose another layer or method"
            )


def _sentences(site: Site, asked: Sequence[RequestedEdit]) -> list[list[Sentence]]:
    """The contexts in which the key of each edit is taken: its prompt alone, or all, where `mean_key` says so."""
    prefixes = list(site.prefixes) if site.how.mean_key else []
    told = []
    for one in asked:
        texts = contexts(replace(one.fact, target=one.target.strip()), prefixes)
        fitting = [texts[0], *that_fit(site.loaded, texts[1:])]
        told.append(tokenize_sentences(site.loaded.tokenizer, fitting, context=site.loaded.context))
    return told


@torch.no_grad()
def _at_subjects(
    loaded: LoadedModel, told: Sequence[Sequence[Sentence]], layer: int, last: int
) -> tuple[np.ndarray, np.ndarray]:
    """Keys at `layer`, (b, d_m), and the residual stream after `last`, (b, d), at each subject's last token; float64.

    A key is the mean over the two types of contexts, the prompt alone and the prompt after beginnings, of the mean
    within each; the residual stream is that of the prompt alone.
    """
    sentences = [sentence for own in told for sentence in own]
    at = [sentence.key_index for sentence in sentences]
    rows = list(range(len(at)))
    found: dict[int, Tensor] = {}

    def keep(which: int, inputs: Tensor, output: Tensor) -> None:
        found[which] = (output if which else inputs)[rows, at].cpu().double()

    ids, mask = pad([sentence.tokens for sentence in sentences], loaded.device)
    modules = [loaded.architecture.down_projections[layer], loaded.architecture.blocks[last]]
    with hooked(modules, keep):
        loaded.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    ends = np.cumsum([len(own) for own in told])[:-1]
    keys, hidden = (np.split(found[which].numpy(), ends) for which in (0, 1))
    return np.stack([_over_types(own) for own in keys]), np.stack([own[0] for own in hidden])


def _over_types(keys: np.ndarray) -> np.ndarray:
    """The mean over both types of contexts of keys (n, d_m), the prompt's own first."""
    return np.asarray((keys[0] + keys[1:].mean(axis=0)) / 2 if len(keys) > 1 else keys[0])
