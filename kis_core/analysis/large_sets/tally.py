"""Numbers that come in parts and are not kept: their moments, how many lie where, and the largest of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kis_core.superposition.moments import CONSTANT_SPREAD, Moments

REACH = 2  # P is counted in equal cells up to here; equal keys have P = 1, larger ones a key much longer than the other
CELLS = 2048  # to a unit: ten and more to a standard deviation of 1/√d_m up to d_m = 30,000
INNER = (np.arange(-REACH * CELLS, REACH * CELLS + 2) - 0.5) / CELLS
OUTER = 2.0 ** np.arange(2, 11)
EDGES = np.concatenate([[-np.inf], -OUTER[::-1], INNER, OUTER, [np.inf]])
"""Between each two of them P is counted. 0 and 1 lie amid cells, so that rounding splits neither."""
THRESHOLDS = (0.1, 0.25, 0.5, 0.9)  # of |P|, beyond which pairs are counted


@dataclass(frozen=True, slots=True)
class Sums:
    """Of some numbers: how many, their mean, and the sums of powers of their distances from it.

    The sum of two of them is that of all their numbers (Pébay, Sandia report SAND2008-6212): each
    part is centred on its own mean, so nothing is lost where the mean is large beside the spread.

    Attributes:
        count, mean: of the numbers.
        second, third, fourth: sums of the powers of x - mean.
        largest: of the numbers.
        size: the largest absolute value.
    """

    count: int = 0
    mean: float = 0.0
    second: float = 0.0
    third: float = 0.0
    fourth: float = 0.0
    largest: float = -np.inf
    size: float = 0.0

    @classmethod
    def of(cls, values: np.ndarray) -> Sums:
        """Of float64 numbers, (n,)."""
        if not len(values):
            return cls()
        mean = float(values.mean())
        apart = values - mean
        squares = apart * apart
        return cls(
            len(values),
            mean,
            float(squares.sum()),
            float(squares @ apart),
            float(squares @ squares),
            float(values.max()),
            max(abs(float(values.max())), abs(float(values.min()))),
        )

    def __add__(self, other: Sums) -> Sums:
        if not self.count or not other.count:
            return self if self.count else other
        a, b = self.count, other.count
        n, step = a + b, other.mean - self.mean
        return Sums(
            n,
            self.mean + step * b / n,
            self.second + other.second + step**2 * a * b / n,
            self.third
            + other.third
            + step**3 * a * b * (a - b) / n**2
            + 3 * step * (a * other.second - b * self.second) / n,
            self.fourth
            + other.fourth
            + step**4 * a * b * (a**2 - a * b + b**2) / n**3
            + 6 * step**2 * (a**2 * other.second + b**2 * self.second) / n**2
            + 4 * step * (a * other.third - b * self.third) / n,
            max(self.largest, other.largest),
            max(self.size, other.size),
        )

    def moments(self, masked: int = 0) -> Moments:
        """As `statistics.moments` defines them; `masked` entries were left out."""
        if not self.count:
            return Moments(np.nan, np.nan, np.nan, np.nan, np.nan, 0, masked)
        variance = self.second / self.count
        std = float(np.sqrt(variance))
        shapeless = std <= CONSTANT_SPREAD * max(1.0, self.size)
        return Moments(
            self.mean,
            std,
            float("nan") if shapeless else self.third / self.count / variance**1.5,
            float("nan") if shapeless else self.fourth / self.count / variance**2 - 3,
            self.largest,
            self.count,
            masked,
        )


NOTHING = Sums().moments()  # of no entries


class Tally:
    """What is counted over entries of P, whatever their place."""

    def __init__(self, strongest: int) -> None:
        self.keep = strongest
        self.sums = Sums()
        self.counts = np.zeros(len(EDGES) - 1, dtype=np.int64)
        self.beyond = np.zeros(len(THRESHOLDS), dtype=np.int64)
        self.values, self.flat = np.empty(0), np.empty(0, dtype=np.int64)

    def add(self, values: np.ndarray, at: np.ndarray | None, place: tuple[int, int, int, int]) -> None:
        """Entries of a tile, (n,): those `at` its flat indices, or all; `place` is where it lies in P."""
        if not len(values):
            return
        self.sums += Sums.of(values)
        self.counts += counted(values)
        size = np.abs(values)
        self.beyond += [np.count_nonzero(size >= threshold) for threshold in THRESHOLDS]
        least = np.abs(self.values[-1]) if len(self.values) == self.keep else 0.0
        if len(values) > self.keep:
            least = max(least, np.partition(size, len(size) - self.keep)[-self.keep])
        large = np.flatnonzero(size >= least)
        first_row, first_column, wide, m = place
        row, column = np.divmod(large if at is None else at[large], wide)
        self._keep(values[large], (row + first_row) * m + column + first_column)

    def merged(self, other: Tally) -> Tally:
        """The tally of the entries of both."""
        both = Tally(self.keep)
        both.sums = self.sums + other.sums
        both.counts, both.beyond = self.counts + other.counts, self.beyond + other.beyond
        for part in (self, other):
            both._keep(part.values, part.flat)
        return both

    def _keep(self, values: np.ndarray, flat: np.ndarray) -> None:
        values, flat = np.concatenate([self.values, values]), np.concatenate([self.flat, flat])
        order = np.lexsort((flat, -np.abs(values)))[: self.keep]
        self.values, self.flat = values[order], flat[order]


def counted(values: np.ndarray) -> np.ndarray:
    """How many values lie from each of `EDGES` up to the next, (len(EDGES) - 1,): as `np.histogram`, but quick.

    Exact: a cell is a power of two wide, so no division rounds.
    """
    half = np.floor(values * (2 * CELLS))  # cells are centred on multiples of their width
    np.clip(half, -2 * REACH * CELLS - 2, 2 * REACH * CELLS + 1, out=half)
    cells = (half.astype(np.intp) + 1 >> 1) + REACH * CELLS + 1
    inner = np.bincount(cells, minlength=len(INNER) + 1)
    result = np.zeros(len(EDGES) - 1, dtype=np.int64)
    result[len(OUTER) : -len(OUTER)] = inner
    if inner[0] or inner[-1]:
        far = values[(values < INNER[0]) | (values >= INNER[-1])]
        result[len(OUTER)] = result[-len(OUTER) - 1] = 0
        result += np.bincount(np.searchsorted(EDGES, far, side="right") - 1, minlength=len(result))
    return result
