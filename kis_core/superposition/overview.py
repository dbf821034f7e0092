"""What can be seen of a P at once: limits of colours, and the strongest entry of each block of facts."""

from __future__ import annotations

import numpy as np

from kis_core.superposition.moments import finite_entries, off_diagonal

COLOUR_LIMIT_QUANTILE = 0.998  # of |P| off the diagonal: the few entries beyond it would bleach all others
CHANGE_LIMIT_QUANTILE = 0.9  # of changes by edits, a tenth of which may be beyond what colours tell apart
COLOUR_LIMITS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
DETAIL = 128  # facts a side that are drawn cell by cell; more take the browser seconds


def colour_limit(p: np.ndarray) -> float:
    """A symmetric limit for the colours of P: the first of `COLOUR_LIMITS` that all but a few entries keep to."""
    sizes = np.abs(finite_entries(p))
    top = float(np.quantile(sizes, COLOUR_LIMIT_QUANTILE)) if len(sizes) else 0.0
    return next((limit for limit in COLOUR_LIMITS if limit >= top), COLOUR_LIMITS[-1])


def beyond(p: np.ndarray, limit: float) -> int:
    """How many off-diagonal entries lie outside a colour scale from -limit to limit."""
    return int((np.abs(off_diagonal(p)) > limit).sum())


def limit_of_changes(changes: np.ndarray) -> float:
    """A symmetric limit for the colours of changes, which most of them keep to; 1 where it would be 0."""
    sizes = np.abs(changes[np.isfinite(changes)])
    return (float(np.quantile(sizes, CHANGE_LIMIT_QUANTILE)) if len(sizes) else 0.0) or 1.0


def block_side(m: int, most: int = DETAIL) -> int:
    """Facts along the side of a block, so that at most `most` blocks make a side of the overview."""
    return -(-m // most)


def blocks(p: np.ndarray, order: np.ndarray, *, most: int = DETAIL) -> tuple[np.ndarray, int]:
    """P in square blocks of facts, at most `most` a side; each block shows its off-diagonal entry of largest |P|.

    It does not show the mean: superposition lives in the tails, which a mean would level.

    Returns:
        (n, n) the entries, NaN where a block has none; and the number of facts along the side of a block.
    """
    m, order = len(p), np.asarray(order)
    side = block_side(m, most)
    n = -(-m // side)
    padded = np.full((n * side, n * side), np.nan)
    padded[:m, :m] = p[np.ix_(order, order)]
    np.fill_diagonal(padded, np.nan)
    cut = padded.reshape(n, side, n, side).swapaxes(1, 2).reshape(n, n, side * side)
    largest = np.where(np.isfinite(cut), np.abs(cut), -1.0).argmax(axis=2)
    return np.take_along_axis(cut, largest[:, :, None], axis=2)[:, :, 0], side


def strongest_in_block(p: np.ndarray, order: np.ndarray, row: int, column: int) -> tuple[int, int]:
    """The pair (i, j) of largest |P| off the diagonal in the block whose first positions are these."""
    side = block_side(len(p))
    i, j = order[row : row + side], order[column : column + side]
    part = np.where(i[:, None] == j[None, :], np.nan, np.abs(p[np.ix_(i, j)]))
    a, b = np.unravel_index(np.nan_to_num(part, nan=-1.0).argmax(), part.shape)
    return int(i[a]), int(j[b])
