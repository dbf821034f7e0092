"""The superposition matrix P, whole or in blocks, and the angles behind it: pure functions on arrays.

P[i, j] = k_iᵀC⁻¹k_j / k_iᵀC⁻¹k_i (Hu et al., arXiv 2408.07413, eq. 16-18). Row i is the fact that is edited, column j
the one that suffers. Whoever needs P takes it from `superposition`, or from `from_products` where the inner products
of whitened keys are there already.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def superposition(
    edited: np.ndarray, suffering: np.ndarray | None = None, *, squares: np.ndarray | None = None
) -> np.ndarray:
    """P from whitened keys, as `Whitener.whiten` gives them.

    Args:
        edited: (n, d_m), keys of the facts that are edited.
        suffering: (m, d_m), keys of the facts that suffer; by default the same.
        squares: (n,) k_iᵀC⁻¹k_i of the edited facts; by default the diagonal of their inner products.

    Returns:
        (n, m) with ones where a fact meets itself; the row and column of a zero key are NaN.
    """
    products = edited @ (edited if suffering is None else suffering).T
    if squares is None:
        squares = np.diag(products) if suffering is None else leverage(edited)
    p = from_products(products, squares)
    p[:, ~(squares > 0 if suffering is None else suffering.any(axis=1))] = np.nan
    return p


def from_products(products: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """P from inner products of whitened keys.

    Args:
        products: k_iᵀC⁻¹k_j, (n, m); or (m,) of one edited fact, or of m pairs.
        squares: k_iᵀC⁻¹k_i of the edited facts, (n,); a number, or (m,).

    Returns:
        P, of the products' shape; NaN where k_iᵀC⁻¹k_i is not positive.
    """
    divisors = np.where(squares > 0, squares, np.nan)
    p: np.ndarray = np.divide(products, divisors[:, None] if products.ndim == 2 else divisors, order="C")
    return p


def leverage(whitened: np.ndarray) -> np.ndarray:
    """k_iᵀC⁻¹k_i of each fact, (m,), from whitened keys (m, d_m)."""
    squares: np.ndarray = np.einsum("id,id->i", whitened, whitened)
    return squares


def cosines(vectors: np.ndarray) -> np.ndarray:
    """Cosines between rows: of whitened keys (Fig. 6, whitening space) or of plain ones (activation space).

    Returns:
        (m, m) float64 within [-1, 1]; the row and column of a zero vector are NaN.
    """
    vectors = vectors.astype(np.float64)
    norms = np.linalg.norm(vectors, axis=1)
    norms[norms == 0] = np.nan
    unit = vectors / norms[:, None]
    result: np.ndarray = np.clip(unit @ unit.T, -1.0, 1.0)
    return result


def same(labels: Sequence[Hashable]) -> np.ndarray:
    """(m, m) booleans: do facts i and j carry the same label? Never true on the diagonal."""
    numbers: dict[Hashable, int] = {}
    codes = np.array([numbers.setdefault(label, len(numbers)) for label in labels])
    equal: np.ndarray = codes[:, None] == codes[None, :]
    np.fill_diagonal(equal, False)
    return equal


def strongest_pairs(p: np.ndarray) -> np.ndarray:
    """Off-diagonal pairs (i, j) by falling |P[i, j]|, shape (m(m-1), 2); pairs without a value are left out."""
    size = np.abs(p)
    np.fill_diagonal(size, np.nan)
    order = np.argsort(-size, axis=None, kind="stable")[: int(np.isfinite(size).sum())]
    return np.column_stack(np.unravel_index(order, p.shape))


def cluster_order(p: np.ndarray) -> np.ndarray:
    """An order of the facts that puts strongly superposed ones side by side.

    Average-linkage clustering with optimal leaf order, on the distance 1 - max(|P[i,j]|, |P[j,i]|) clipped at 0.

    Returns:
        (m,) indices.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(p) < 3:
        return np.arange(len(p))
    size = np.nan_to_num(np.abs(p))
    distance = np.clip(1.0 - np.maximum(size, size.T), 0.0, None)
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    return np.asarray(leaves_list(tree))


def strongest_partner(p: np.ndarray, i: int) -> int:
    """The fact other than i with the largest |P[i, j]|; i itself where there is no other with a value."""
    size = np.abs(p[i]).astype(np.float64)
    size[i] = np.nan
    return i if np.isnan(size).all() else int(np.nanargmax(size))
