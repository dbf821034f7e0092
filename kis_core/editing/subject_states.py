"""Keys and a module's outputs at the subjects' last tokens: what methods that make a batch read of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from kis_core.editing.contexts import contexts
from kis_core.editing.method import RequestedEdit, Site
from kis_core.editing.value import that_fit
from kis_core.models.batching import pad
from kis_core.models.hooks import hooked
from kis_core.scoring.log_odds import Sentence, tokenize_sentences

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel


def key_sentences(site: Site, requested: Sequence[RequestedEdit]) -> list[list[Sentence]]:
    """The contexts in which the key of each edit is taken: its prompt alone, or all, where `mean_key` says so."""
    prefixes = list(site.prefixes) if site.hyperparameters.mean_key else []
    sentences = []
    for edit in requested:
        texts = contexts(replace(edit.fact, target=edit.target.strip()), prefixes)
        fitting = [texts[0], *that_fit(site.loaded, texts[1:])]
        sentences.append(tokenize_sentences(site.loaded.tokenizer, fitting, context=site.loaded.context))
    return sentences


@torch.no_grad()
def at_subjects(
    loaded: LoadedModel, by_edit: Sequence[Sequence[Sentence]], layer: int, target: nn.Module
) -> tuple[np.ndarray, np.ndarray]:
    """Keys at `layer`, (b, d_m), and the output of a module, (b, d), at each subject's last token; float64.

    A key is the mean over the two types of contexts, the prompt alone and the prompt after beginnings, of the mean
    within each; the output is that of the prompt alone.
    """
    sentences = [sentence for own in by_edit for sentence in own]
    at = [sentence.key_index for sentence in sentences]
    rows = list(range(len(at)))
    kept: dict[int, Tensor] = {}

    def keep(which: int, inputs: Tensor, output: Tensor) -> None:
        kept[which] = (output if which else inputs)[rows, at].cpu().double()

    ids, mask = pad([sentence.tokens for sentence in sentences], loaded.device)
    with hooked([loaded.architecture.down_projections[layer], target], keep):
        loaded.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    ends = np.cumsum([len(own) for own in by_edit])[:-1]
    keys, outputs = (np.split(kept[which].numpy(), ends) for which in (0, 1))
    return np.stack([_over_types(own) for own in keys]), np.stack([own[0] for own in outputs])


def _over_types(keys: np.ndarray) -> np.ndarray:
    """The mean over both types of contexts of keys (n, d_m), the prompt's own first."""
    return np.asarray((keys[0] + keys[1:].mean(axis=0)) / 2 if len(keys) > 1 else keys[0])
