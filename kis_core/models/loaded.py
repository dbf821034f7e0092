"""A model in memory, ready to be read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kis_core.models.files import ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

    from kis_core.models.architecture import Architecture


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to be read.

    Attributes:
        model: in evaluation mode; its weights are never written to.
        tokenizer: a fast tokenizer, for character offsets.
        architecture: where its down-projections are.
        device: where its inputs go and its outputs come back; the layers may lie elsewhere if it is spread out.
        dtype: what it computes in, one of `DTYPE_BYTES`.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    architecture: Architecture
    device: torch.device
    dtype: str = "float32"

    @property
    def context(self) -> int:
        """Longest sequence, in tokens, that the model was built for.

        Raises:
            ModelError: its configuration doesn't tell.
        """
        return context_of(self.model.config)

    def digest(self) -> str:
        """SHA-256 over the bits of all weights, by name: the same before and after anything this program does."""
        import torch

        sha = hashlib.sha256()
        for name, weight in sorted(self.model.state_dict().items()):
            sha.update(name.encode())
            sha.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return sha.hexdigest()


def context_of(config: PretrainedConfig) -> int:
    """Longest sequence, in tokens, that a configuration is for.

    Raises:
        ModelError: it does not say.
    """
    longest = getattr(config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(longest, int) or longest < 1:
        raise ModelError(
            f"The configuration of this {config.model_type!r} model gives {longest!r} as max_position_embeddings, the "
            f"longest text it reads; set it in config.json."
        )
    return longest
