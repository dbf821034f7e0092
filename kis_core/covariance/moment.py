"""The second moment C of a layer's keys: the mean of k kᵀ over tokens, and the sum it grows from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

COLUMN_BLOCKS = 4  # of the triangle: 5/8 of the full product's work; more blocks are too narrow to be fast
FAST_FLOAT64 = ((8, 0), (9, 0), (10, 0))
"""Compute capabilities of NVIDIA's data-centre chips; others do float64 32 to 64 times slower than float32."""


@dataclass(frozen=True, slots=True)
class SecondMoment:
    """C of one layer.

    Attributes:
        matrix: mean of k kᵀ over tokens, float64, (d_m, d_m), symmetric.
        tokens: number of keys that were averaged.
    """

    matrix: np.ndarray
    tokens: int


class SecondMomentSum:
    """Streaming sum of k kᵀ for one layer, kept in float64 on the device its keys come from.

    Products of a batch are computed in float64 where the device is fast at it, else in float32.
    """

    def __init__(self) -> None:
        self._sum: torch.Tensor | None = None
        self.tokens = 0
        self.torn = False  # an error interrupted the adding: the sum is useless

    def add(self, keys: torch.Tensor, counted: torch.Tensor | None = None) -> None:
        """Add the keys of a batch.

        Args:
            keys: (n, d_m), any float dtype and device.
            counted: (n,) booleans, False for padding; None where every row counts.

        Raises:
            FloatingPointError: the sum is no longer finite; nothing after this batch means anything.
        """
        where = home(keys.device)  # MPS has no float64
        keys, counted = keys.to(where), None if counted is None else counted.to(where)
        dtype = product_dtype(keys.device)
        # (d_m, n) with contiguous rows: the product below runs a quarter faster on it than on (n, d_m)
        columns = keys.T.to(dtype, memory_format=torch.contiguous_format, copy=True)
        if counted is not None:
            columns.masked_fill_(~counted, 0)  # not a product: keys of padding need not even be finite
        if self._sum is None:
            self._sum = torch.zeros(len(columns), len(columns), dtype=torch.float64, device=keys.device)
        # only the lower triangle, in column blocks: C is symmetric, and these products are what the pass costs
        width = -(-len(columns) // COLUMN_BLOCKS)
        product = None if dtype is torch.float64 else torch.empty(len(columns), width, dtype=dtype, device=keys.device)
        self.torn = True  # from here on nothing is allocated
        for begin in range(0, len(columns), width):
            block = self._sum[begin:, begin : begin + width]
            left, right = columns[begin:], columns[begin : begin + width].T
            if product is None:
                block.addmm_(left, right)
            else:
                block += torch.mm(left, right, out=product[begin:, : right.shape[1]])
        self.tokens += len(keys) if counted is None else int(counted.sum())
        self.torn = False
        if not torch.isfinite(self._sum.diagonal()).all():
            raise FloatingPointError("the second moment is not finite")

    def mean(self) -> SecondMoment:
        """C over what was added so far.

        Raises:
            ValueError: nothing was added.
        """
        if self._sum is None or not self.tokens:
            raise ValueError("no keys were added")
        lower = self._sum.cpu().tril().numpy()  # in this order: a GPU full of sums has no room for a copy
        lower += np.tril(lower, -1).T
        lower /= self.tokens
        return SecondMoment(lower, self.tokens)

    def total(self, like: torch.device, width: int) -> torch.Tensor:
        """The sum itself, (d_m, d_m) float64 with its lower triangle filled; zeros on a device if nothing was added."""
        if self._sum is None:
            self._sum = torch.zeros(width, width, dtype=torch.float64, device=home(like))
        return self._sum

    @classmethod
    def of(cls, total: torch.Tensor, tokens: int) -> SecondMomentSum:
        """The sum whose `total` over so many tokens is known; it owns the tensor from then on."""
        resumed = cls()
        resumed._sum, resumed.tokens = total, tokens
        return resumed


def product_dtype(device: torch.device) -> torch.dtype:
    """The dtype in which products of keys are computed on a device."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) not in FAST_FLOAT64:
        return torch.float32
    return torch.float64


def home(device: torch.device) -> torch.device:
    """The device that holds the float64 sum of keys from this device."""
    return torch.device("cpu") if device.type == "mps" else device
