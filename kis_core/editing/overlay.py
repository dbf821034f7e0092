"""A model run with edits on, which are gone afterwards.

W itself is never copied or written to: the down-projection's output is added to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kis_core.editing.edit import Change, DenseEdit, Edit, EditError
from kis_core.models.hooks import hooked

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel


@contextmanager
def applied(loaded: LoadedModel, *edits: Change) -> Iterator[None]:
    """Within the block, and in this thread alone, the model runs as if it were edited.

    Args:
        loaded: the model; its weights are the same bits during and after.
        edits: of any layers; those of one layer add up.

    Raises:
        EditError: an edit does not fit the model.
    """
    for edit in edits:
        _check(loaded, edit)
    layers = sorted({edit.layer for edit in edits})
    adders = [_adder([edit for edit in edits if edit.layer == layer], device_of(loaded, layer)) for layer in layers]

    def add(number: int, keys: Tensor, output: Tensor) -> Tensor:
        for adder in adders[number]:
            output = adder(keys, output)
        return output

    with hooked([loaded.architecture.down_projections[layer] for layer in layers], add):
        yield


def device_of(loaded: LoadedModel, layer: int) -> torch.device:
    """Where a layer computes: elsewhere than the inputs lie, maybe, if the model is spread over several devices."""
    return loaded.architecture.weight(layer).device


def _adder(edits: list[Change], device: torch.device) -> list[Callable[[Tensor, Tensor], Tensor]]:
    """How the edits of one layer are added to its output: rank-one ones together, full ones together."""
    thin = [edit for edit in edits if isinstance(edit, Edit)]
    full = [edit.matrix for edit in edits if isinstance(edit, DenseEdit)]
    adders: list[Callable[[Tensor, Tensor], Tensor]] = []
    if thin:
        reach = _tensor(np.stack([edit.reach for edit in thin]), device)
        deltas = _tensor(np.stack([edit.delta for edit in thin]), device)
        adders.append(partial(overlaid, reach=reach, deltas=deltas))
    if full:
        adders.append(partial(moved, matrix=_tensor(np.sum(full, axis=0), device)))
    return adders


def moved(keys: Tensor, output: Tensor, matrix: Tensor) -> Tensor:
    """A down-projection's output with a full ΔW on top, summed in the precision of the matrix as in `overlaid`.

    Args:
        keys: (…, d_m), its input.
        output: (…, d).
        matrix: (d, d_m).
    """
    return output + (keys.to(matrix.dtype) @ matrix.T).to(output.dtype)


def overlaid(keys: Tensor, output: Tensor, reach: Tensor, deltas: Tensor) -> Tensor:
    """A down-projection's output with r rank-one edits on top.

    The shares u·k are summed in the precision of `reach`: u is large where C is nearly singular, and in float32 small
    shares would drown in rounding.

    Args:
        keys: (…, d_m), its input.
        output: (…, d).
        reach: (r, d_m).
        deltas: (r, d).
    """
    shares = keys.to(reach.dtype) @ reach.T
    return output + (shares @ deltas).to(output.dtype)


def _tensor(factor: np.ndarray, device: torch.device) -> Tensor:
    dtype = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64
    return torch.tensor(factor, dtype=dtype, device=device)


def _check(loaded: LoadedModel, edit: Change) -> None:
    layers = loaded.architecture.layers
    if not 0 <= edit.layer < layers:
        raise EditError(f"layer {edit.layer} was to be edited; the model has layers 0 to {layers - 1}")
    width, mlp_width = loaded.architecture.widths
    parts = (edit.delta, edit.reach) if isinstance(edit, Edit) else (edit.matrix,)
    shapes: tuple[Any, ...] = tuple(part.shape for part in parts)
    if shapes != (((width,), (mlp_width,)) if isinstance(edit, Edit) else ((width, mlp_width),)):
        raise EditError(f"an edit of shapes {shapes} does not fit a layer of d = {width}, d_m = {mlp_width}")
    if not all(np.isfinite(part).all() for part in parts):
        raise EditError(f"the edit of layer {edit.layer} holds a NaN or an infinity")
