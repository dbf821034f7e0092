"""The second moment C of keys over general text, for all layers in one pass, and its whitening.

C is the non-centred mean of k kᵀ over tokens (Meng et al., arXiv 2202.05262, section 3.1; Hu et al., arXiv
2408.07413, eq. 2). Every token of a document counts, special ones included; padding never.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from kis_core import progress
from kis_core.covariance.moment import SecondMoment, SecondMomentSum
from kis_core.keys import (
    TOKENS_PER_BATCH,
    NotFinite,
    batches,
    pad,
    watch_down_projections,
)

if TYPE_CHECKING:
    from kis_core.models.loading import LoadedModel

DOCUMENTS_AT_ONCE = 512  # tokenised together and sorted by length, to keep padding low


def tokenized_documents(
    tokenizer: object, documents: Sequence[str], *, context: int, tokens: int
) -> Iterator[list[list[int]]]:
    """Groups of tokenised documents, each cut at `context`, `tokens` in all (the last one is cut to fit)."""
    left = tokens
    for start in range(0, len(documents), DOCUMENTS_AT_ONCE):
        encoded = tokenizer(  # type: ignore[operator]
            list(documents[start : start + DOCUMENTS_AT_ONCE]), padding=False, truncation=False, verbose=False
        )["input_ids"]
        group = []
        for ids in encoded:
            ids = ids[: min(context, left)]
            if ids:
                group.append(ids)
                left -= len(ids)
        if group:
            yield group
        if left <= 0:
            return


@torch.inference_mode()
def second_moments(
    loaded: LoadedModel,
    documents: Sequence[str],
    *,
    tokens: int,
    layers: Sequence[int] | None = None,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    report: progress.Report = progress.silent,
) -> list[SecondMoment]:
    """C of the chosen layers (all by default) in one pass over the text.

    Args:
        loaded: the model.
        documents: texts; each is cut at the model's context length.
        tokens: stop after that many.
        layers: which layers to accumulate, in the order of the result.
        tokens_per_batch: padded tokens in one forward pass.
        report: called after every batch.

    Raises:
        NotFinite: an activation is NaN or infinite; names layer, batch and text.
        ValueError: the documents hold no token.
    """
    chosen = list(range(loaded.architecture.layers) if layers is None else layers)
    sums = {layer: SecondMomentSum() for layer in chosen}
    counted = number = 0
    for group in tokenized_documents(loaded.tokenizer, documents, context=loaded.context, tokens=tokens):
        for batch in batches([len(ids) for ids in group], tokens_per_batch=tokens_per_batch):
            rows = [group[k] for k in batch]
            ids, mask = pad(rows, loaded.device)
            counts = None if bool(mask.all()) else mask.bool().flatten()

            def add(
                layer: int, key: torch.Tensor, counts: torch.Tensor | None = counts,
                rows: list[list[int]] = rows, number: int = number,
            ) -> None:  # fmt: skip
                if layer not in sums:
                    return
                try:
                    sums[layer].add(key.flatten(0, 1), counts)
                except FloatingPointError as error:
                    raise NotFinite(_where(loaded, layer, number, rows)) from error

            with watch_down_projections(loaded, add):
                loaded.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
            counted += sum(map(len, rows))
            number += 1
            report("Second moment of the keys", counted, max(tokens, counted))
    if not counted:
        raise ValueError("the corpus holds no token for this tokenizer")
    return [sums[layer].mean() for layer in chosen]


def _where(loaded: LoadedModel, layer: int, batch: int, rows: list[list[int]]) -> str:
    text = loaded.tokenizer.decode(rows[0])
    return f"layer {layer}, batch {batch}: an activation is not finite; the batch begins with {text[:80]!r}"
