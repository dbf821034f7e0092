"""The off-diagonal entries of P, their moments, and the interval of the kurtosis over facts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CONSTANT_SPREAD = 1e-12  # relative spread below which entries count as constant: equal keys differ by rounding
DRAWS = 1000  # of the bootstrap: its percentiles move by a few per cent of the interval from seed to seed
LEVEL = 0.95  # of every interval


@dataclass(frozen=True, slots=True)
class Moments:
    """Moments of the off-diagonal entries of a P.

    Attributes:
        mean, std: std is the population one, as scipy's kurtosis uses.
        skewness, kurtosis: scipy's defaults (biased, excess: 0 for a normal); NaN for constant entries.
        max: largest entry.
        count: number of entries.
        masked: number of entries left out because a key was zero.
    """

    mean: float
    std: float
    skewness: float
    kurtosis: float
    max: float
    count: int
    masked: int


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`, both NaN where there is nothing to draw from."""

    low: float
    high: float


def off_diagonal(p: np.ndarray) -> np.ndarray:
    """The off-diagonal entries of an (m, m) matrix, row by row, (m(m-1),)."""
    return np.asarray(p[~np.eye(len(p), dtype=bool)])


def finite_entries(p: np.ndarray) -> np.ndarray:
    """The off-diagonal entries that have a value, row by row, (n,)."""
    entries = off_diagonal(p)
    return np.asarray(entries[np.isfinite(entries)])


def without(p: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """A copy of P with NaN in place of these pairs, (m, m) booleans, so that statistics leave them out."""
    return np.asarray(np.where(pairs, np.nan, p))


def moments(p: np.ndarray) -> Moments:
    """Moments of the off-diagonal entries; all NaN when there are none."""
    finite = finite_entries(p)
    masked = len(p) * (len(p) - 1) - len(finite)
    if not len(finite):
        return Moments(np.nan, np.nan, np.nan, np.nan, np.nan, 0, masked)
    from scipy import stats  # slow to import, and not needed to show a stored result

    shapeless = is_constant(finite)
    return Moments(
        float(finite.mean()),
        float(finite.std()),
        float("nan") if shapeless else float(stats.skew(finite)),
        float("nan") if shapeless else float(stats.kurtosis(finite)),
        float(finite.max()),
        len(finite),
        masked,
    )


def is_constant(entries: np.ndarray) -> bool:
    """Whether entries differ by rounding only, so that their distribution has no shape."""
    return bool(entries.std() <= CONSTANT_SPREAD * max(1.0, float(np.abs(entries).max())))


@dataclass(frozen=True, eq=False)
class MomentDraws:
    """Moments of P over bootstrap draws of its facts, (draws,) each; NaN where a draw has none.

    Attributes:
        mean, std, kurtosis: as in `Moments`.
    """

    mean: np.ndarray
    std: np.ndarray
    kurtosis: np.ndarray


def moment_draws(p: np.ndarray, *, draws: int = DRAWS, seed: int = 0) -> MomentDraws:
    """Moments of P when its facts are drawn anew; matrices over as many facts are drawn the same ones.

    Each draw takes m facts with replacement, and the entries between them. A fact that is drawn twice is paired with
    itself; such pairs are diagonal and left out. A draw is therefore the set of all entries, in which entry (i, j) is
    weighted with the number of times that i and j were drawn, and its power sums are quadratic forms wᵀ Pᵏ w.

    Args:
        p: (m, m), P or any other numbers of pairs of facts; fewer than three facts, or constant entries, give NaN.
        draws: how many.
        seed: of the draws.
    """
    finite = finite_entries(p)
    if len(p) < 3 or not len(finite) or is_constant(finite):
        nothing = np.full(draws, np.nan)
        return MomentDraws(nothing, nothing, nothing)
    m, middle = len(p), np.median(finite)
    weights = np.random.default_rng(seed).multinomial(m, np.full(m, 1 / m), size=draws).astype(np.float64)
    there = np.isfinite(p) & ~np.eye(m, dtype=bool)
    centred = np.where(there, p - middle, 0.0)  # powers of numbers near 0 keep their digits

    def summed(matrix: np.ndarray) -> np.ndarray:
        return np.asarray(((weights @ matrix) * weights).sum(axis=1))

    total = summed(there.astype(np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw may hold a single fact, or constant entries
        first, second, third, fourth = (summed(centred**k) / total for k in (1, 2, 3, 4))
        variance = second - first**2
        central = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
        kurtosis = np.where(variance > CONSTANT_SPREAD * second, central / variance**2 - 3, np.nan)
    return MomentDraws(first + middle, np.sqrt(np.clip(variance, 0, None)), kurtosis)


def interval_of(draws: np.ndarray, *, level: float = LEVEL) -> Interval:
    """The percentile interval of a number over its draws; NaN where no draw has it."""
    if np.isnan(draws).all():
        return Interval(np.nan, np.nan)
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def kurtosis_interval(p: np.ndarray, *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0) -> Interval:
    """Percentile bootstrap interval of the excess kurtosis, over facts; see `moment_draws`.

    Returns:
        the interval; NaN where P has fewer than three facts or its entries are constant.
    """
    return interval_of(moment_draws(p, draws=draws, seed=seed).kurtosis, level=level)
