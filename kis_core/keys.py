"""The key of a fact, in every layer: the down-projection's input at the subject's last token.

Hu et al. (arXiv 2408.07413), section 3. All layers come from one forward pass over each batch of prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kis_core import progress
from kis_core.errors import KisError
from kis_core.facts import Fact
from kis_core.models.batching import TOKENS_PER_BATCH, batches, pad
from kis_core.models.finite import NotFinite, shown
from kis_core.models.hooks import hooked
from kis_core.models.tokens import encode

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel


class SubjectNotFound(KisError):
    """A prompt in which no token carries the subject, or that is too long for the model."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A tokenised prompt.

    Attributes:
        tokens: its ids, special tokens in front included; the last is the prompt's own last token.
        key_index: position of the subject's last token.
        key_token: that token as text.
    """

    tokens: list[int]
    key_index: int
    key_token: str


def tokenize_prompts(tokenizer: Any, facts: Sequence[Fact], *, context: int) -> list[Prompt]:
    """Tokenise each prompt once and find the last token whose characters overlap the subject's.

    Args:
        tokenizer: a fast tokenizer.
        facts: m facts.
        context: longest sequence the model takes.

    Raises:
        SubjectNotFound: names the fact and says what was found.
    """
    texts = [fact.text for fact in facts]
    prompts = []
    for index, (fact, encoded) in enumerate(zip(facts, encode(tokenizer, texts), strict=True)):
        tokens, offsets = encoded.ids, encoded.spans
        begin, end = fact.subject_span
        inside = [k for k, (first, last) in enumerate(offsets) if first < end and last > begin and last > first]
        if not inside:
            raise SubjectNotFound(f"fact {index}: no token of {fact.text[:80]!r} covers the subject {fact.subject!r}")
        if len(tokens) > context:
            problem = f"fact {index}: {len(tokens)} tokens, but this model reads at most {context}"
            raise SubjectNotFound(f"{problem}; its subject is {fact.subject[:80]!r}")
        key_index = inside[-1]
        prompts.append(Prompt(tokens, key_index, tokenizer.decode([tokens[key_index]])))
    return prompts


@contextmanager
def watch_down_projections(loaded: LoadedModel, seen: Callable[[int, torch.Tensor], None]) -> Iterator[None]:
    """Within the block, call `seen(layer, input)` with each down-projection's input, (B, T, d_m), as it happens."""
    with hooked(loaded.architecture.down_projections, lambda layer, key, _: seen(layer, key)):
        yield


@torch.inference_mode()
def fact_keys(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    *,
    layers: Sequence[int] | None = None,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    report: progress.Report = progress.silent,
) -> np.ndarray:
    """Keys of m facts in all L layers, or in some of them alone, one forward pass a batch.

    Returns:
        float32 array (L, m, d_m), L counting the layers asked for; row i belongs to `prompts[i]`.

    Raises:
        NotFinite: a key of any layer is NaN or infinite, also of one that was not asked for.
    """
    chosen = range(loaded.architecture.layers) if layers is None else layers
    collected: dict[int, list[torch.Tensor]] = {layer: [] for layer in chosen}
    order: list[int] = []
    for batch in batches([len(p.tokens) for p in prompts], tokens_per_batch=tokens_per_batch):
        tokens, mask = pad([prompts[k].tokens for k in batch], loaded.device)
        at = [prompts[k].key_index for k in batch]

        def keep(layer: int, key: torch.Tensor, at: list[int] = at, batch: list[int] = batch) -> None:
            numbers = key[list(range(len(at))), at].float()  # numbers, at home on any device; layers may lie on several
            bad = (~torch.isfinite(numbers).all(dim=1)).nonzero()
            if len(bad):
                index = batch[int(bad[0])]
                raise NotFinite(
                    f"layer {layer}: the key of fact {index} is not finite ({prompts[index].key_token!r} in "
                    f"{shown(loaded, prompts[index].tokens)}); are the weights damaged or out of range for "
                    f"{loaded.dtype}?"
                )
            if layer in collected:
                collected[layer].append(numbers.cpu())

        with watch_down_projections(loaded, keep):
            loaded.model.base_model(input_ids=tokens, attention_mask=mask, use_cache=False)
        order += batch
        report("Keys of the facts", len(order), len(prompts))
    keys = torch.stack([torch.cat(collected[layer]) for layer in chosen]).numpy()
    result = np.empty_like(keys)
    result[:, order] = keys
    return result


@torch.inference_mode()
def text_keys(
    loaded: LoadedModel, rows: Sequence[Sequence[int]], at: Sequence[Sequence[int]], *, layers: Sequence[int]
) -> np.ndarray:
    """Keys at some tokens of general text, in all the layers asked for, one forward pass a batch.

    Args:
        loaded: the model.
        rows: tokens of each text.
        at: the positions in each whose keys are taken.
        layers: L of them.

    Returns:
        float32 array (L, n, d_m), n counting the positions; the texts come in the order of their batches.
    """
    collected: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    for batch in batches(list(map(len, rows))):
        tokens, mask = pad([rows[k] for k in batch], loaded.device)
        row = [number for number, k in enumerate(batch) for _ in at[k]]
        position = [place for k in batch for place in at[k]]

        def keep(layer: int, key: torch.Tensor, row: list[int] = row, position: list[int] = position) -> None:
            if layer in collected:
                collected[layer].append(key[row, position].float().cpu())

        with watch_down_projections(loaded, keep):
            loaded.model.base_model(input_ids=tokens, attention_mask=mask, use_cache=False)
    return torch.stack([torch.cat(collected[layer]) for layer in layers]).numpy()
