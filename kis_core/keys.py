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
from kis_core.models.hooks import hooked

if TYPE_CHECKING:
    from kis_core.models.loading import LoadedModel

TOKENS_PER_BATCH = 2048  # padded tokens; bounds memory, and is enough to keep two cores busy


class SubjectNotFound(KisError):
    """A prompt in which no token carries the subject, or that is too long for the model."""


class NotFinite(KisError):
    """A NaN or an infinity in the activations. The message names layer and text."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A tokenised prompt.

    Attributes:
        tokens: its ids, special tokens included.
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
    # verbose=False: over-long prompts get this module's own error, not the tokenizer's warning
    encoded = tokenizer(texts, return_offsets_mapping=True, padding=False, truncation=False, verbose=False)
    prompts = []
    for index, (fact, tokens, offsets) in enumerate(
        zip(facts, encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ):
        begin, end = fact.subject_span
        inside = [k for k, (first, last) in enumerate(offsets) if first < end and last > begin and last > first]
        if not inside:
            raise SubjectNotFound(f"fact {index}: no token of {fact.text[:80]!r} covers the subject {fact.subject!r}")
        if len(tokens) > context:
            told = f"fact {index}: {len(tokens)} tokens, but this model reads at most {context}"
            raise SubjectNotFound(f"{told}; its subject is {fact.subject[:80]!r}")
        key_index = inside[-1]
        prompts.append(Prompt(tokens, key_index, tokenizer.decode([tokens[key_index]])))
    return prompts


def pad(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (B, T) padded on the right, and their mask; a causal model's real tokens never see the padding."""
    width = max(map(len, sequences))
    tokens = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros(len(sequences), width, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    return tokens.to(device), mask.to(device)


def batches(lengths: Sequence[int], *, tokens_per_batch: int = TOKENS_PER_BATCH) -> Iterator[list[int]]:
    """Indices grouped by similar length, so that each padded batch stays within `tokens_per_batch`."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda k: lengths[k]):
        if batch and lengths[index] * (len(batch) + 1) > tokens_per_batch:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


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
        NotFinite: an activation is NaN or infinite.
    """
    chosen = range(loaded.architecture.layers) if layers is None else layers
    collected: dict[int, list[torch.Tensor]] = {layer: [] for layer in chosen}
    order: list[int] = []
    for batch in batches([len(p.tokens) for p in prompts], tokens_per_batch=tokens_per_batch):
        tokens, mask = pad([prompts[k].tokens for k in batch], loaded.device)
        at = [prompts[k].key_index for k in batch]

        def keep(layer: int, key: torch.Tensor, at: list[int] = at) -> None:
            if layer in collected:  # numbers, which are at home on any device; the layers may lie on several
                collected[layer].append(key[list(range(len(at))), at].float().cpu())

        with watch_down_projections(loaded, keep):
            loaded.model.base_model(input_ids=tokens, attention_mask=mask, use_cache=False)
        order += batch
        report("Keys of the facts", len(order), len(prompts))
    keys = torch.stack([torch.cat(collected[layer]) for layer in chosen]).numpy()
    result = np.empty_like(keys)
    result[:, order] = keys
    bad = np.argwhere(~np.isfinite(result).all(axis=2))
    if len(bad):
        layer, index = bad[0]
        raise NotFinite(
            f"layer {chosen[layer]}: the key of fact {index} is not finite ({prompts[index].key_token!r}); "
            f"are the weights damaged or out of range for {loaded.dtype}?"
        )
    return result
