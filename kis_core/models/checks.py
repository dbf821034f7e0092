"""What is taken for granted of an architecture, tried on the model itself rather than inferred from names.

A model may have its modules where a known architecture has them and still do something else with what they put out:
scale its logits, bend them, pass an MLP's output through a norm. Each check runs the model on a few tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kis_core.models import head
from kis_core.models.architecture import UnsupportedArchitecture
from kis_core.models.batching import pad
from kis_core.models.hooks import hooked

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel

TOKENS = 6  # of the text that is run: ids spread over the vocabulary, so that no tokenizer has a say in it
SHORTER = 4  # tokens of another text beside it, which is padded

HEAD = {"float32": 1e-4, "bfloat16": 2**-6, "float16": 2**-9}
"""Most that our logits may differ from the model's own from the same hidden states, relative to the largest. The same
product comes first, so what is left is a scale and a tanh: in half precision each rounds by 2^-9 or 2^-12 of the
largest, three times at most; seen 0, 0.003 and 0.0008. A factor that is missed changes logits by tens of per cent."""

PADDED = {"float32": 1e-2, "bfloat16": 0.25, "float16": 0.1}
"""The same for a row of a padded batch and the same text alone: sums may run in another order, and a deep model makes
more of it; seen 5e-7, 0.003 and 0.0008. A model whose tokens see the padding is off by the size of its logits."""

MOVED = {"float32": 1e-3, "bfloat16": 2**-4, "float16": 2**-7}
"""Most that the move of a block's output may differ from what was added to its down-projection's, relative to that,
which is as long as the output: two roundings of it, in a length of many numbers; seen below 1e-7, 0.01 and 0.001.
Granite's smallest factor and any norm change it by tens of per cent."""


@torch.inference_mode()
def check_logits(loaded: LoadedModel) -> None:
    """See that `head.logits` of the base model's last hidden states are the logits of the model's own forward pass.

    Where the model's own logits are not numbers, nothing is compared: whoever asks it for an answer gets an error that
    names the text (`finite.NotFinite`).

    Raises:
        UnsupportedArchitecture: they are not; names the largest difference.
    """
    texts = [_ids(loaded), _ids(loaded)[:SHORTER]]
    ids, mask = pad(texts, loaded.device)
    hidden = loaded.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    ours = head.logits(loaded, hidden)
    own = loaded.model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
    alone = [
        loaded.model(input_ids=ids[[row], : len(text)], use_cache=False).logits[0] for row, text in enumerate(texts)
    ]
    if not all(bool(torch.isfinite(logits).all()) for logits in (own[mask.bool()], *alone)):
        return
    _compare(loaded, ours[mask.bool()], own[mask.bool()], HEAD, "its output embeddings give")
    _compare(loaded, ours[mask.bool()], torch.cat(alone).float(), PADDED, "it gives with other texts beside it")


def _compare(loaded: LoadedModel, ours: Tensor, own: Tensor, most: dict[str, float], what: str) -> None:
    size = float(own.abs().max())
    difference = float((ours - own).abs().max()) if ours.shape == own.shape else float("nan")
    if difference <= most[loaded.dtype] * size:
        return
    raise UnsupportedArchitecture(
        f"Model type {loaded.model.config.model_type!r} has its modules where {loaded.architecture.name} has them, but "
        f"its logits are not what {what}: they differ by up to {difference:.3g}, where they reach {size:.3g}. "
        f"It changes them in a way this program does not know, so its answers, forecasts and edits would be wrong."
    )


@torch.inference_mode()
def adds_plainly(loaded: LoadedModel, layers: Sequence[int] | None = None) -> bool:
    """Whether what a down-projection puts out goes into the residual stream as it is: not scaled, not through a norm.

    One pass over a text and a copy of it for each layer, in which a vector is added to that layer's down-projection at
    one token: the layer's output has to move by that vector, there.

    Args:
        loaded: the model.
        layers: which are looked at; all by default.
    """
    chosen = list(range(loaded.architecture.layers) if layers is None else layers)
    text = _ids(loaded)[:SHORTER]
    at = len(text) - 1
    modules = [getattr(loaded.architecture, part)[layer] for part in ("down_projections", "blocks") for layer in chosen]
    sizes: list[Tensor] = []
    moves: list[tuple[Tensor, Tensor]] = []
    added: list[Tensor] = []

    def measure(which: int, _: Tensor, output: Tensor) -> None:
        if which >= len(chosen):
            sizes.append(output[0, at].float().norm())

    def move(which: int, _: Tensor, output: Tensor) -> Tensor | None:
        if which >= len(chosen):
            number = which - len(chosen)
            moves.append((output[number + 1, at].float() - output[0, at].float(), added[number]))
            return None
        vector = torch.randn(output.shape[-1], generator=torch.Generator().manual_seed(which)).to(output.device)
        vector = (vector * (sizes[which].to(output.device) / vector.norm())).to(output.dtype)
        output = output.clone()
        before = output[which + 1, at].clone()
        output[which + 1, at] += vector
        added.append((output[which + 1, at] - before).float())
        return output

    for rows, seen in ((1, measure), (len(chosen) + 1, move)):
        with hooked(modules, seen):
            loaded.model.base_model(input_ids=torch.tensor([text] * rows, device=loaded.device), use_cache=False)
    return all(float((moved - vector).norm()) <= MOVED[loaded.dtype] * float(vector.norm()) for moved, vector in moves)


def _ids(loaded: LoadedModel) -> list[int]:
    """A few tokens from all over the vocabulary, as many as the model reads."""
    known = loaded.model.get_input_embeddings().num_embeddings
    return [k * known // (TOKENS + 2) for k in range(1, TOKENS + 1)][: loaded.context]
