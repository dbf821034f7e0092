"""Sequences of different lengths as padded batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

TOKENS_PER_BATCH = 2048  # padded tokens; bounds memory, and is enough to keep two cores busy


SENTENCE_TOKENS = 512  # the same for facts, whose lengths differ: larger batches are a third padding


def pad(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (B, T) padded on the right, and their mask; a causal model's real tokens never see the padding."""
    import torch

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
