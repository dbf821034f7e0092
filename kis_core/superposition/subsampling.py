"""P over random subsets of its facts, which show whether there are enough of them (App. C)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kis_core.superposition.moments import LEVEL, moments
from kis_core.wording import counted

SIZES = (16, 32, 48, 64, 80, 96, 112, 128)  # App. C


def convergence_sizes(m: int) -> tuple[int, ...]:
    """Numbers of facts at which App. C looks, up to m; above its largest they double, and m itself is the last."""
    sizes = [size for size in SIZES if size < m]
    while sizes and sizes[-1] >= SIZES[-1] and 2 * sizes[-1] < m:
        sizes.append(2 * sizes[-1])
    return (*sizes, m)


def convergence(p: np.ndarray, *, draws: int = 50, seed: int = 0) -> pd.DataFrame:
    """Moments of P over random subsets of its facts, by the size of the subset (App. C).

    Each draw is one random order of the facts, of which the first n are taken. The subsets of a draw are nested, and
    those of different draws overlap more the nearer n comes to m, so the spread at n near m says little.

    Returns:
        columns `m`, `draw`, `mean`, `std`, `kurtosis`; `draws` rows for each of `convergence_sizes`, one for all facts.
    """
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(p)) for _ in range(draws)]
    rows = []
    for size in convergence_sizes(len(p)):
        for draw, order in enumerate(orders if size < len(p) else orders[:1]):
            subset = moments(p[np.ix_(order[:size], order[:size])])
            rows.append((size, draw, subset.mean, subset.std, subset.kurtosis))
    return pd.DataFrame(rows, columns=["m", "draw", "mean", "std", "kurtosis"])


def bands(frame: pd.DataFrame, level: float = LEVEL) -> pd.DataFrame:
    """The result of `convergence`, summarised by median and percentiles over the draws.

    Returns:
        columns `x` (the number of facts), `middle`, `low`, `high`, `note`.
    """
    levels = ((1 - level) / 2, 0.5, (1 + level) / 2)
    rows = []
    for size, part in frame.groupby("m"):
        values = part["kurtosis"].dropna()
        low, middle, high = values.quantile(levels) if len(values) else (np.nan,) * 3
        note = "all facts" if size == frame["m"].max() else counted(len(part), "random subset")
        rows.append((size, middle, low, high, note))
    return pd.DataFrame(rows, columns=["x", "middle", "low", "high", "note"])
