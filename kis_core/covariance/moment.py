"""The second moment C of a layer's keys: the mean of k kᵀ over tokens, and the sum it grows from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

COLUMN_BLOCKS = 4  # of the triangle: 5/8 of the full product's work; more blocks are too narrow to be fast


@dataclass(frozen=True, slots=True)
class SecondMoment:
    """C of one layer.

    Attributes:
        matrix: mean of k kᵀ over tokens, float64, (d_m, d_m), symmetric.
        tokens: how many keys were averaged.
    """

    matrix: np.ndarray
    tokens: int


class SecondMomentSum:
    """Streaming sum of k kᵀ for one layer, in float64."""

    def __init__(self) -> None:
        self._sum: torch.Tensor | None = None
        self.tokens = 0

    def add(self, keys: torch.Tensor, counted: torch.Tensor | None = None) -> None:
        """Add the keys of a batch.

        Args:
            keys: (n, d_m), any float dtype and device.
            counted: (n,) booleans, False for padding; None where every row counts.

        Raises:
            FloatingPointError: the sum is no longer finite; nothing after this batch means anything.
        """
        if keys.device.type == "mps":  # has no float64
            keys, counted = keys.cpu(), None if counted is None else counted.cpu()
        self.tokens += len(keys) if counted is None else int(counted.sum())
        # (d_m, n) with contiguous rows: the product below runs a quarter faster on it than on (n, d_m)
        columns = keys.T.to(torch.float64, memory_format=torch.contiguous_format, copy=True)
        if counted is not None:
            columns *= counted  # a key of padding becomes zero and adds nothing
        if self._sum is None:
            self._sum = torch.zeros(len(columns), len(columns), dtype=torch.float64, device=keys.device)
        # only the lower triangle, in column blocks: C is symmetric, and float64 products are what the pass costs
        width = -(-len(columns) // COLUMN_BLOCKS)
        for begin in range(0, len(columns), width):
            end = begin + width
            self._sum[begin:, begin:end].addmm_(columns[begin:], columns[begin:end].T)
        if not torch.isfinite(self._sum.diagonal()).all():
            raise FloatingPointError("the second moment is not finite")

    def mean(self) -> SecondMoment:
        """C over what was added so far.

        Raises:
            ValueError: nothing was added.
        """
        if self._sum is None or not self.tokens:
            raise ValueError("no keys were added")
        lower = self._sum.tril().cpu().numpy()
        return SecondMoment((lower + np.tril(lower, -1).T) / self.tokens, self.tokens)
