"""Methods that make a batch of edits at once, spread over a range of layers: MEMIT and AlphaEdit.

The values are searched for in the last layer of the range; z_i = h_i + δ_i is what the residual stream is to be after
it, at the subject's last token. Then, layer by layer, each writes its part of what is still missing: R = (z - h) /
(layers left), h taken anew each time (Meng et al., arXiv 2210.07229, section 4.3, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kis_core import progress
from kis_core.covariance import Whitener
from kis_core.editing.contexts import contexts
from kis_core.editing.edit import Change, Edit, EditError, applied
from kis_core.editing.method import Asked, Made, Site, reach_along
from kis_core.editing.value import search, that_fit
from kis_core.editing.weights import Weights
from kis_core.keys import pad
from kis_core.log_odds import Sentence, tokenize_sentences
from kis_core.models.checks import adds_plainly
from kis_core.models.hooks import hooked

if TYPE_CHECKING:
    from kis_core.models.loading import LoadedModel

Reaches = Callable[[np.ndarray, np.ndarray, Whitener, Weights], np.ndarray]
"""U, (b, d_m), one u a row, from the keys of the batch (b, d_m), those of earlier edits (n, d_m), C and the weights:
ΔW = R U, with one column of R an edit."""


@dataclass(frozen=True, slots=True)
class Spread:
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

    def make(self, site: Site, asked: Sequence[Asked], report: progress.Report = progress.silent) -> list[Made]:
        """The whole batch; see `Method.make`.

        Raises:
            EditError: no edit, no layer, layers out of order, or an edit that cannot be made there.
        """
        if not asked or not site.layers or list(site.layers) != sorted(set(site.layers)):
            raise EditError(f"{self.told} needs an edit and layers in order; found {len(asked)} and {site.layers}")
        if not adds_plainly(site.loaded, site.layers):
            raise EditError(
                f"{self.told} says what the residual stream is to be, but in this model the MLP’s output is scaled or "
                f"normed on its way there. Choose ROME, r-ROME or C = I."
            )
        last = site.layers[-1]
        none: np.ndarray = np.empty((0, site.loaded.architecture.widths[1]))

        def alone(key: np.ndarray, mean_key: np.ndarray) -> np.ndarray:
            past, left = site.past.get(last, none), mean_key if site.how.mean_key else key
            return reach_along(self.reaches(left[None], past, site.whiteners[last], site.weights)[0], key)

        with applied(site.loaded, *site.standing):
            values = [
                search(
                    site.loaded, one.fact, one.target, last, site.how, prefixes=site.prefixes, reach=alone,
                    report=report,
                )
                for one in asked
            ]  # fmt: skip
            told = _sentences(site, asked)
            _, hidden = _at_subjects(site.loaded, told, last, last)
        wanted = hidden + np.stack([value.delta for value in values])

        changes: list[list[Edit]] = [[] for _ in asked]
        keys: list[np.ndarray] = []
        for done, layer in enumerate(site.layers):
            so_far: list[Change] = [*site.standing, *(edit for own in changes for edit in own)]
            with applied(site.loaded, *so_far):
                found, hidden = _at_subjects(site.loaded, told, layer, last)
            missing = (wanted - hidden) / (len(site.layers) - done)
            reach = self.reaches(found, site.past.get(layer, none), site.whiteners[layer], site.weights)
            for own, u, r in zip(changes, reach, missing, strict=True):
                own.append(Edit(layer, u, r))
            keys.append(found)
        return [
            Made(tuple(own), np.stack([found[at] for found in keys]), value.probability, len(value.losses) - 1)
            for at, (own, value) in enumerate(zip(changes, values, strict=True))
        ]


def _sentences(site: Site, asked: Sequence[Asked]) -> list[list[Sentence]]:
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
    """Keys at `layer`, (b, d_m), and the residual stream after `last`, (b, d), at each subject's last token.

    Both are means over an edit's contexts, in float64.
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
    keys, hidden = (
        np.stack([part.mean(axis=0) for part in np.split(found[which].numpy(), ends)]) for which in (0, 1)
    )  # fmt: skip
    return keys, hidden
