"""P of many facts in one sweep: everything a page tells of P, without the (m, m) matrix ever being there.

The whitened keys are taken in blocks of facts; each pair of blocks gives a tile of kᵢᵀC⁻¹kⱼ, which is symmetric and
so makes two tiles of P (Hu et al., arXiv 2408.07413, eq. 16-18). A tile is counted, summed and searched, and dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kis_core import progress
from kis_core.analysis.large_sets.tally import INNER, OUTER, Tally
from kis_core.superposition import ISOTROPIC, SAME_STD, Moments, isotropic_std, matrix

STAGE = "Sweeping the pairs"
WORKING_BYTES = 64 * 2**20  # of memory beside the keys: some tiles' worth, whatever the number of facts
TILES_HELD = 8  # arrays as large as a tile that are alive at the same time
LEAST_SIDE = 16  # facts a block, however wide the keys
STRONGEST = 500  # pairs that are kept: as many as a page lists


@dataclass(frozen=True, eq=False)
class Reach:
    """How far each of m facts reaches along its row of P, or is reached along its column.

    Attributes:
        rms: root mean square of P over the other facts; NaN where there are none, or the key is zero.
        largest: the largest |P|; NaN likewise.
        partner: the fact it is with, the first of equals; -1 likewise.
    """

    rms: np.ndarray
    largest: np.ndarray
    partner: np.ndarray


@dataclass(frozen=True, eq=False)
class EntrySpread:
    """The off-diagonal entries of P over some pairs.

    Attributes:
        moments: as `statistics.moments` defines them.
        counts: (len(EDGES) - 1,) entries from each edge up to the next.
        beyond: entries with |P| at or above each of `THRESHOLDS`.
        pairs: (n, 2), the strongest (i, j) by falling |P[i, j]|, equals by index.
        values: (n,) their P[i, j].
        leaks: along the rows: how far an edit of a fact reaches.
        suffers: along the columns: how much a fact gets of the edits of others.
    """

    moments: Moments
    counts: np.ndarray
    beyond: np.ndarray
    pairs: np.ndarray
    values: np.ndarray
    leaks: Reach
    suffers: Reach


@dataclass(frozen=True, eq=False)
class Sweep:
    """What one sweep over P tells.

    Attributes:
        squares: (m,) kᵢᵀC⁻¹kᵢ; zero keys have no P and are left out of everything.
        every: all off-diagonal entries.
        clean: those without artefact pairs.
    """

    squares: np.ndarray
    every: EntrySpread
    clean: EntrySpread

    @property
    def zero_keys(self) -> int:
        """How many facts have a zero key."""
        return int((self.squares <= 0).sum())

    def back(self, pairs: np.ndarray, values: np.ndarray) -> np.ndarray:
        """P[j, i] of pairs (n, 2) whose P[i, j] are given, (n,): both share one inner product."""
        return np.asarray(values * self.squares[pairs[:, 0]] / self.squares[pairs[:, 1]])


def window(whitened: np.ndarray, rows: Sequence[int] | np.ndarray, columns: Sequence[int] | np.ndarray) -> np.ndarray:
    """A part of P.

    Args:
        whitened: (m, d_m).
        rows: facts that are edited.
        columns: facts that suffer.

    Returns:
        (rows, columns) float64; NaN at zero keys.
    """
    edited, suffering = (whitened[np.asarray(facts, dtype=np.intp)].astype(np.float64) for facts in (rows, columns))
    return matrix.superposition(edited, suffering)


def sweep(
    whitened: np.ndarray,
    labels: Sequence[np.ndarray] = (),
    *,
    rows: np.ndarray | None = None,
    strongest: int = STRONGEST,
    side: int | None = None,
    report: progress.Report = progress.silent,
) -> Sweep:
    """Go over P once.

    Args:
        whitened: (m, d_m), as `Whitener.whiten` gives them, in float64 or float32; sums are float64 in any case.
        labels: whole numbers (m,) each; two facts with the same one, such as the subject, are an artefact pair.
        rows: (m,) booleans, the facts whose whole row is artefact pairs; none by default.
        strongest: how many of the strongest pairs are kept.
        side: facts a block; by default as many as `WORKING_BYTES` allow.
        report: called after each row of blocks.

    Raises:
        ValueError: labels of another length, or a key that is not finite.
    """
    m = len(whitened)
    for label in labels:
        if np.shape(label) != (m,):
            raise ValueError(
                f"there are {m} keys, but labels of shape {np.shape(label)}; one number a key was expected"
            )
    side = side or block_side(whitened.shape[1])
    squares = _squares(whitened, side)
    live = np.flatnonzero(squares > 0)
    keys = whitened if len(live) == m else whitened[live]
    codes = [np.asarray(label)[live] for label in labels]
    whole = np.zeros(len(live), dtype=bool) if rows is None else rows[live]
    count = len(live)
    artefacts, clean = Tally(strongest), Tally(strongest)
    norms = tuple(_Norms(count) for _ in range(4))
    for across, columns, tile in _tiles(keys, squares[live], side, report):
        mask = np.repeat(whole[across, None], tile.shape[1], axis=1)
        for code in codes:
            mask |= code[across, None] == code[None, columns]
        _take(tile, mask, across, columns, count, artefacts, clean, norms)
    every = artefacts.merged(clean)
    masked = m * (m - 1) - count * (count - 1)
    hidden = masked + artefacts.sums.count
    leaks, suffers, clean_leaks, clean_suffers = (norm.reach(live, m) for norm in norms)
    return Sweep(
        squares, _spread(every, live, masked, leaks, suffers), _spread(clean, live, hidden, clean_leaks, clean_suffers)
    )


def _spread(tally: Tally, live: np.ndarray, masked: int, leaks: Reach, suffers: Reach) -> EntrySpread:
    pairs = live[np.column_stack(np.divmod(tally.flat, max(1, len(live))))]
    return EntrySpread(tally.sums.moments(masked), tally.counts, tally.beyond, pairs, tally.values, leaks, suffers)


def block_side(width: int) -> int:
    """Facts a block so that two blocks of float64 keys of that width, and the tiles, fit `WORKING_BYTES`."""
    keys, tiles = 2 * 8 * width, 8 * TILES_HELD  # bytes: keys · side + tiles · side² = WORKING_BYTES
    return max(LEAST_SIDE, int((-keys + np.sqrt(keys**2 + 4 * tiles * WORKING_BYTES)) / (2 * tiles)))


def bars(spread: EntrySpread, mlp_width: int, *, most: int = 160) -> pd.DataFrame:
    """The counts in at most so many bars of equal width, beside what two normal distributions would give.

    Returns:
        columns `low`, `high`, `count`, and the counts expected of `SAME_STD` (same mean and std) and `ISOTROPIC`
        (mean 0, std 1/√d_m); from the first bar with an entry to the last. Entries beyond ±`REACH` are in no bar.
    """
    from scipy.special import ndtr

    counts = spread.counts[len(OUTER) + 1 : -len(OUTER) - 1]
    filled = np.flatnonzero(counts)
    if not len(filled):
        return pd.DataFrame({"low": [], "high": [], "count": [], SAME_STD: [], ISOTROPIC: []})
    wide = -(-(int(filled[-1]) + 1 - int(filled[0])) // most)
    begins = np.arange(filled[0], filled[-1] + 1, wide)
    ends = np.minimum(begins + wide, len(counts))
    low, high, moments = INNER[begins], INNER[ends], spread.moments

    def expected(mean: float, std: float) -> np.ndarray:
        if not std > 0:
            return np.full(len(low), np.nan)
        return np.asarray(moments.count * (ndtr((high - mean) / std) - ndtr((low - mean) / std)))

    return pd.DataFrame(
        {
            "low": low,
            "high": high,
            "count": np.add.reduceat(counts, begins),
            SAME_STD: expected(moments.mean, moments.std),
            ISOTROPIC: expected(0.0, isotropic_std(mlp_width)),
        }
    )


def outside(spread: EntrySpread) -> int:
    """How many entries lie beyond ±`REACH`, in no bar."""
    return int(spread.counts.sum() - spread.counts[len(OUTER) + 1 : -len(OUTER) - 1].sum())


def _squares(whitened: np.ndarray, side: int) -> np.ndarray:
    squares = np.empty(len(whitened))
    for begin in range(0, len(whitened), side):
        keys = whitened[begin : begin + side].astype(np.float64)
        squares[begin : begin + side] = matrix.leverage(keys)
    if not np.isfinite(squares).all():
        raise ValueError(f"the whitened key of fact {np.flatnonzero(~np.isfinite(squares))[0]} is not finite")
    return squares


def _tiles(
    keys: np.ndarray, squares: np.ndarray, side: int, report: progress.Report
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Rows, columns and P of every tile. Whichever row or column one looks at, its tiles come in order."""
    blocks = [slice(begin, min(begin + side, len(keys))) for begin in range(0, len(keys), side)]
    total = len(blocks) * (len(blocks) + 1) // 2
    for at, rows in enumerate(blocks):
        edited = keys[rows].astype(np.float64, copy=False)
        for columns in blocks[at:]:
            inner = edited @ keys[columns].astype(np.float64, copy=False).T
            yield rows, columns, matrix.from_products(inner, squares[rows])
            if columns != rows:
                yield columns, rows, matrix.from_products(inner.T, squares[columns])
        left = len(blocks) - at - 1
        report(STAGE, total - left * (left + 1) // 2, total)
    report(STAGE, 1, 1)


def _take(
    tile: np.ndarray,
    mask: np.ndarray,
    rows: slice,
    columns: slice,
    count: int,
    artefacts: Tally,
    clean: Tally,
    norms: tuple[_Norms, ...],
) -> None:
    """Put a tile to the tallies and norms; `mask` tells its artefact pairs."""
    kept = ~mask
    if rows == columns:
        np.fill_diagonal(mask, False)
        np.fill_diagonal(kept, False)
        np.fill_diagonal(tile, 0.0)
    place = (rows.start, columns.start, tile.shape[1], count)
    if kept.all():
        clean.add(tile.ravel(), None, place)
    else:
        at, flat = np.flatnonzero(kept), tile.ravel()
        clean.add(flat[at], at, place)
        at = np.flatnonzero(mask)
        artefacts.add(flat[at], at, place)
    size = np.abs(tile)
    if rows == columns:
        np.fill_diagonal(size, NO_SIZE)
    norms[0].add(rows, tile, size)
    norms[1].add(columns, tile.T, size.T)
    tile[mask], size[mask] = 0.0, NO_SIZE
    norms[2].add(rows, tile, size)
    norms[3].add(columns, tile.T, size.T)


NO_SIZE = -1.0  # in the place of |P| where there is none: below every size


class _Norms:
    """What is summed up along rows of P, or along columns when tiles come transposed."""

    def __init__(self, m: int) -> None:
        self.squares, self.counts = np.zeros(m), np.zeros(m, dtype=np.int64)
        self.largest, self.partner = np.full(m, NO_SIZE), np.full(m, -1, dtype=np.int64)
        self.seen = np.zeros(m, dtype=np.int64)  # how far along the row the tiles have come

    def add(self, rows: slice, tile: np.ndarray, size: np.ndarray) -> None:
        """Go on along these rows; entries that do not count are 0 in the tile and have `NO_SIZE`."""
        self.squares[rows] += np.einsum("ij,ij->i", tile, tile)
        self.counts[rows] += (size >= 0).sum(axis=1)
        largest = size.max(axis=1)
        better = np.flatnonzero(largest > self.largest[rows])
        at = better + rows.start
        self.largest[at] = largest[better]
        self.partner[at] = size[better].argmax(axis=1) + self.seen[at]
        self.seen[rows] += tile.shape[1]

    def reach(self, live: np.ndarray, m: int) -> Reach:
        """The norms of all m facts, of which the live ones were summed up."""
        some = self.counts > 0
        rms, largest, partner = np.full(m, np.nan), np.full(m, np.nan), np.full(m, -1, dtype=np.int64)
        rms[live[some]] = np.sqrt(self.squares[some] / self.counts[some])
        largest[live[some]] = self.largest[some]
        partner[live[some]] = live[self.partner[some]]
        return Reach(rms, largest, partner)
