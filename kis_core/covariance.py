"""The second moment C of keys over general text, for all layers in one pass, and its whitening.

C is the non-centred mean of k kᵀ over tokens (Meng et al., arXiv 2202.05262, section 3.1; Hu et al., arXiv
2408.07413, eq. 2). Every token of a document counts, special ones included; padding never.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import torch

from kis_core import progress
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

COLUMN_BLOCKS = 4  # of the triangle: 5/8 of the full product's work; more blocks are too narrow to be fast

MAX_CONDITION = 1e10
"""Above this condition number C gets a ridge: float64 Cholesky would leave fewer than six digits of P."""
RIDGE_SHARE = 1e-7
"""The ridge, as a share of C's largest eigenvalue: brings the condition number to 1e7, so nine digits of P are sure."""


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


@dataclass(frozen=True, slots=True, eq=False)
class Whitener:
    """A Cholesky factor of C (plus ridge, if one was needed), never an inverse.

    Attributes:
        factor: lower triangular F with F Fᵀ = C + ridge·I, float64, (d_m, d_m).
        rank: numerical rank of C before any ridge.
        condition_number: largest over smallest eigenvalue of C before any ridge; inf when singular.
        ridge: what was added to C's diagonal, in units of C; 0 when C was well conditioned.
    """

    factor: np.ndarray
    rank: int
    condition_number: float
    ridge: float

    @classmethod
    def fit(cls, matrix: np.ndarray) -> Whitener:
        """Factorise a symmetric positive semidefinite matrix.

        Raises:
            ValueError: not a finite, non-zero square matrix.
        """
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"C has shape {matrix.shape}; a square matrix was expected")
        if not np.isfinite(matrix).all():
            raise ValueError("C holds a NaN or an infinity")
        eigenvalues = scipy.linalg.eigvalsh(matrix)
        largest, smallest = float(eigenvalues[-1]), float(eigenvalues[0])
        if largest <= 0:
            raise ValueError("C is zero: the corpus gave no keys, or the layer is dead")
        cutoff = largest * len(matrix) * np.finfo(np.float64).eps  # numpy's own rule for matrix_rank
        rank = int((eigenvalues > cutoff).sum())
        condition = largest / smallest if smallest > cutoff else float("inf")
        ridge = 0.0 if condition <= MAX_CONDITION else RIDGE_SHARE * largest
        factor = scipy.linalg.cholesky(matrix + ridge * np.eye(len(matrix)), lower=True)
        return cls(factor, rank, condition, ridge)

    def whiten(self, keys: np.ndarray) -> np.ndarray:
        """Rows F⁻¹k, so that plain inner products of the result are kᵀC⁻¹k'. Shape (m, d_m), float64."""
        return np.asarray(scipy.linalg.solve_triangular(self.factor, keys.astype(np.float64).T, lower=True).T)

    def solve(self, key: np.ndarray) -> np.ndarray:
        """C⁻¹k (with the ridge, if there is one). Shape (d_m,), float64."""
        return np.asarray(scipy.linalg.cho_solve((self.factor, True), key.astype(np.float64)))
