"""A rank-one edit, and its application to a model as a low-rank overlay that is gone afterwards.

Hu et al. (arXiv 2408.07413), eq. 2: Ŵ = W + Λ (C⁻¹k_e)ᵀ with Λ = (v_e - W k_e) / ((C⁻¹k_e)ᵀ k_e). With
u = C⁻¹k_e / (k_eᵀC⁻¹k_e) and δ = v_e - W k_e this is Ŵ = W + δ uᵀ: a token with key k gets (u·k) δ on top, and u·k is
p(k_e, k). W itself is never copied or written to: the down-projection's output is added to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kis_core.errors import KisError
from kis_core.models.hooks import hooked

if TYPE_CHECKING:
    from kis_core.models.loading import LoadedModel


class EditError(KisError):
    """An edit that makes no sense or cannot be made; the message says why and what can."""


@dataclass(frozen=True, eq=False)
class Edit:
    """ΔW = δ uᵀ at the down-projection of one layer.

    Attributes:
        layer: its number.
        reach: u, (d_m,) float64; u·k is the share of δ that lands on a token with key k.
        delta: δ, (d,) float64.
    """

    layer: int
    reach: np.ndarray
    delta: np.ndarray

    def coefficients(self, keys: np.ndarray) -> np.ndarray:
        """u·k of each key: p(k_e, k) of eq. 16-18, if u is that of eq. 2.

        Args:
            keys: (…, d_m).
        """
        result: np.ndarray = keys.astype(np.float64) @ self.reach
        return result

    @property
    def size(self) -> float:
        """‖δ‖."""
        return float(np.linalg.norm(self.delta))

    def scaled(self, strength: float) -> Edit:
        """The same edit, `strength` times as large."""
        return Edit(self.layer, self.reach, self.delta * strength)


@contextmanager
def applied(loaded: LoadedModel, *edits: Edit) -> Iterator[None]:
    """Within the block, and in this thread alone, the model runs as if it were edited.

    Args:
        loaded: the model; its weights are the same bits during and after.
        edits: of any layers; those of one layer add up.

    Raises:
        EditError: an edit does not fit the model.
    """
    layers = sorted({edit.layer for edit in edits})
    for edit in edits:
        _check(loaded, edit)
    factors = [
        (
            _tensor(np.stack([e.reach for e in edits if e.layer == layer]), loaded.device),
            _tensor(np.stack([e.delta for e in edits if e.layer == layer]), loaded.device),
        )
        for layer in layers
    ]

    def add(number: int, keys: Tensor, output: Tensor) -> Tensor:
        return overlaid(keys, output, *factors[number])

    with hooked([loaded.architecture.down_projections[layer] for layer in layers], add):
        yield


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


def _check(loaded: LoadedModel, edit: Edit) -> None:
    layers = loaded.architecture.layers
    if not 0 <= edit.layer < layers:
        raise EditError(f"layer {edit.layer} was to be edited; the model has layers 0 to {layers - 1}")
    width, mlp_width = loaded.architecture.widths
    found: tuple[Any, Any] = (edit.delta.shape, edit.reach.shape)
    if found != ((width,), (mlp_width,)):
        raise EditError(f"an edit of shapes {found} does not fit a layer of d = {width}, d_m = {mlp_width}")
    if not (np.isfinite(edit.delta).all() and np.isfinite(edit.reach).all()):
        raise EditError(f"the edit of layer {edit.layer} holds a NaN or an infinity")
