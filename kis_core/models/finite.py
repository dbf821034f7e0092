"""Numbers that are not finite: where in a model they begin, and the error that says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kis_core.errors import KisError
from kis_core.models.hooks import hooked

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel

SHOWN = 80  # characters of a text in a message


class NotFinite(KisError):
    """A NaN or an infinity in the activations. The message names layer and text."""


def check_logits(loaded: LoadedModel, logits: Tensor, texts: Sequence[Sequence[int]]) -> None:
    """See that logits are finite.

    Args:
        loaded: the model.
        logits: (n, vocabulary).
        texts: the tokens behind each row.

    Raises:
        NotFinite: some are not; names the first such text, and the layer where it begins.
    """
    bad = (~torch.isfinite(logits).all(dim=-1)).nonzero()
    if len(bad):
        text = texts[int(bad[0])]
        raise NotFinite(
            f"What the model answers to {shown(loaded, text)} is not finite: {_origin(loaded, text)}. Are the weights "
            f"damaged or out of range for {loaded.dtype}?"
        )


def shown(loaded: LoadedModel, text: Sequence[int]) -> str:
    """A tokenised text, for a message."""
    return repr(loaded.tokenizer.decode(list(text))[:SHOWN])


@torch.inference_mode()
def _origin(loaded: LoadedModel, text: Sequence[int]) -> str:
    """Where numbers that are not finite come up first, as the model reads the text alone."""
    shape = loaded.architecture
    modules = [module for pair in zip(shape.down_projections, shape.blocks, strict=True) for module in pair]
    places: list[str] = []

    def look(number: int, inputs: Tensor, output: Tensor) -> None:
        layer, is_block = divmod(number, 2)
        parts = (("output", output),) if is_block else (("key", inputs), ("output of the down-projection", output))
        for name, tensor in parts:
            if not places and not bool(torch.isfinite(tensor).all()):
                places.append(f"layer {layer} is the first where it is not, in its {name}")

    with hooked(modules, look):
        ids = torch.tensor([list(text)], device=loaded.device)
        loaded.model.base_model(input_ids=ids, use_cache=False)
    return places[0] if places else "all layers are, so it is the final norm or the output embeddings"
