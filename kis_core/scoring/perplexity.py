"""Perplexity of a model on text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from kis_core.models import head
from kis_core.models.batching import TOKENS_PER_BATCH, batches, pad
from kis_core.models.tokens import ids_of

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel

AT_ONCE = 512  # rows of logits over the whole vocabulary


@torch.inference_mode()
def perplexity(
    loaded: LoadedModel, texts: Sequence[str], *, longest: int | None = None, tokens_per_batch: int = TOKENS_PER_BATCH
) -> float:
    """Exp of the mean negative log-probability of every token but the first of each text.

    Texts longer than `longest` tokens, or than the model's context, are cut. NaN where no text has a second token.
    """
    most = min(loaded.context, longest or loaded.context)
    rows = [ids[:most] for ids in ids_of(loaded.tokenizer, texts) if len(ids) > 1]
    total, count = 0.0, 0
    for batch in batches([len(row) for row in rows], tokens_per_batch=tokens_per_batch):
        ids, mask = pad([rows[k] for k in batch], loaded.device)
        hidden = loaded.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        real = mask[:, 1:].bool()
        states, targets = hidden[:, :-1][real], ids[:, 1:][real]
        for begin in range(0, len(targets), AT_ONCE):
            logits = head.logits(loaded, states[begin : begin + AT_ONCE])
            loss = torch.nn.functional.cross_entropy(logits, targets[begin : begin + AT_ONCE], reduction="sum")
            total += float(loss)
        count += len(targets)
    with np.errstate(over="ignore"):  # the perplexity of a ruined model can be infinite
        return float(np.exp(total / count)) if count else float("nan")
