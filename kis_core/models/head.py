"""From the last hidden states to logits, as the model itself gets there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel


def logits(loaded: LoadedModel, hidden: Tensor) -> Tensor:
    """Logits of the next token, (…, vocabulary), float32; differentiable.

    Args:
        loaded: the model.
        hidden: (…, d), as its base model puts it out.
    """
    scale, cap = loaded.architecture.logit_scale, loaded.architecture.logit_cap
    scores: Tensor = loaded.model.get_output_embeddings()(hidden).float()
    scores = scores if scale == 1 else scores * scale
    return scores if cap is None else cap * torch.tanh(scores / cap)
