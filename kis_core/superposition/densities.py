"""The density of P, the nulls to draw behind it, and its tails (Fig. 4, App. E)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kis_core.superposition.moments import Interval, Moments, finite_entries, is_constant

TAILS = (0.001, 0.01, 0.05, 0.5, 0.95, 0.99, 0.999)  # quantiles in which a heavy tail differs from a normal one
CELLS_A_BANDWIDTH = 20  # entries are counted in cells this much finer than the kernel: its density moves by < 0.1 %
UPPER_TAIL = 0.999  # quantile from which on the pairs of the tail are looked at
FLOOR = 0.2  # of the density of a single entry: where a logarithmic axis ends
KDE_REACH = 3  # bandwidths drawn beyond the outermost entry
MEASURED, SAME_STD, ISOTROPIC = "measured", "normal, same std", "isotropic keys"


@dataclass(frozen=True, slots=True)
class Density:
    """A Gaussian kernel density estimate.

    Attributes:
        at, value: (points,) places, and the density there.
        bandwidth: standard deviation of the kernel (Scott's rule); NaN for constant entries, which have no density.
    """

    at: np.ndarray
    value: np.ndarray
    bandwidth: float


def isotropic_std(mlp_width: int) -> float:
    """Standard deviation of P off the diagonal if the whitened keys were isotropic random vectors: 1/√d_m."""
    return float(1 / np.sqrt(mlp_width))


def normal_density(at: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Density of a normal distribution, to draw behind a measured one."""
    return np.asarray(np.exp(-0.5 * ((at - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi)))


def tails(p: np.ndarray, levels: Sequence[float] = TAILS) -> pd.DataFrame:
    """Quantiles of the off-diagonal entries beside those of a normal of the same mean and std.

    Returns:
        columns `level`, `value`, `normal`; one row a level; NaN where P has no entries.
    """
    from scipy.stats import norm

    finite = finite_entries(p)
    values = np.quantile(finite, levels) if len(finite) else np.full(len(levels), np.nan)
    mean, std = (finite.mean(), finite.std()) if len(finite) else (np.nan, np.nan)
    return pd.DataFrame({"level": levels, "value": values, "normal": mean + std * norm.ppf(levels)})


def kde(p: np.ndarray, *, points: int = 400, span: tuple[float, float] | None = None) -> Density:
    """Gaussian kernel density estimate of the off-diagonal entries, as in Fig. 4 (Scott's bandwidth).

    It equals `scipy.stats.gaussian_kde` within 0.1 %, but counts entries in fine cells first, so that a million of them
    take milliseconds. Half of the points lie within four standard deviations of the mean, as the bulk is narrow and
    the tail is long.

    Args:
        p: (m, m).
        points: rough number of places at which the density is computed.
        span: first and last point; by default all entries and a little beyond.
    """
    finite = finite_entries(p)
    if not len(finite) or is_constant(finite):
        return Density(np.empty(0), np.empty(0), float("nan"))
    bandwidth = float(finite.std(ddof=1)) * len(finite) ** -0.2
    reach = KDE_REACH * bandwidth
    low, high = span or (float(finite.min()) - reach, float(finite.max()) + reach)
    mean, bulk = float(finite.mean()), 4 * float(finite.std())
    begin, end = (min(max(bound, low), high) for bound in (mean - bulk, mean + bulk))
    if (begin, end) == (low, high):
        at = np.linspace(low, high, points)
    else:
        at = np.union1d(np.linspace(low, high, points // 2), np.linspace(begin, end, points // 2))
    cell = bandwidth / CELLS_A_BANDWIDTH
    first = float(finite.min())
    share, left = np.modf((finite - first) / cell)  # an entry between two cells counts to both, by its nearness
    cells = np.concatenate([left, left + 1]).astype(np.int64)
    counts = np.bincount(cells, np.concatenate([1 - share, share]))
    filled = np.flatnonzero(counts)
    places, weights = first + filled * cell, counts[filled] / len(finite)
    value = np.array([weights @ normal_density(x - places, 0.0, bandwidth) for x in at])
    return Density(at, value, bandwidth)


def density_curves(p: np.ndarray, mlp_width: int, *, span: tuple[float, float] | None = None) -> pd.DataFrame:
    """The density of P and its two nulls at the same places (Fig. 4).

    Returns:
        columns `at`, `density`, `curve`, the measured one first; empty where P has no density.
    """
    measured = kde(p, span=span)
    at = measured.at
    if not len(at):
        return pd.DataFrame({"at": [], "density": [], "curve": []})
    entries = finite_entries(p)
    curves = {
        MEASURED: measured.value,
        SAME_STD: normal_density(at, float(entries.mean()), float(entries.std())),
        ISOTROPIC: normal_density(at, 0.0, isotropic_std(mlp_width)),
    }
    parts = [pd.DataFrame({"at": at, "density": values, "curve": name}) for name, values in curves.items()]
    return pd.concat(parts, ignore_index=True)


def density_floor(p: np.ndarray) -> float:
    """A fifth of the density of a single entry: below it, a logarithmic axis would only show the kernel."""
    count, bandwidth = len(finite_entries(p)), kde(p, points=2).bandwidth
    return float(FLOOR / (count * bandwidth * np.sqrt(2 * np.pi))) if np.isfinite(bandwidth) else float("nan")


def layer_densities(
    p: np.ndarray, layers: Sequence[int], *, span: tuple[float, float], points: int = 160
) -> pd.DataFrame:
    """The density of every layer's P over one span (App. E), from (L, m, m): columns `layer`, `at`, `density`."""
    densities = [kde(layer_p, points=points, span=span) for layer_p in p]
    parts = [
        pd.DataFrame({"layer": layer, "at": density.at, "density": density.value})
        for layer, density in zip(layers, densities, strict=True)
        if len(density.at)
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"layer": [], "at": [], "density": []})


def description(p: np.ndarray, moments: Moments, interval: Interval) -> dict[str, float]:
    """The moments of a P, the interval of its kurtosis and its tail quantiles in one row, by their names."""
    row = {
        "pairs": float(moments.count),
        "mean": moments.mean,
        "std": moments.std,
        "skewness": moments.skewness,
        "excess kurtosis": moments.kurtosis,
        "from": interval.low,
        "to": interval.high,
    }
    return row | {f"{level:.1%}": value for level, value in tails(p)[["level", "value"]].itertuples(index=False)}


def upper_tail(p: np.ndarray, quantile: float = UPPER_TAIL) -> tuple[float, float]:
    """From which entry of P on the upper tail is looked at, and the largest entry; two zeros if there is no entry."""
    entries = finite_entries(p)
    return (float(np.quantile(entries, quantile)), float(entries.max())) if len(entries) else (0.0, 0.0)
