"""Convergence of P with the number of facts, and with the amount of text behind C (Hu et al., App. C)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from kis_core import superposition
from kis_core.results.result import Result
from kis_core.wording import number

LEAST_FACTS = 17  # one more than the smallest subset of App. C
TOKEN_STEPS = (0.01, 0.03, 0.1, 0.3, 1.0)  # shares of the tokens requested
CURVES = 6  # the most densities that the eye can distinguish in a figure


def subset_densities(p: np.ndarray, *, seed: int = 0, points: int = 240) -> pd.DataFrame:
    """Densities of P for subsets of one random order of its facts, each inside the next (App. C).

    Returns:
        columns `at`, `density`, `size`; at most `CURVES` sizes, the smallest and all facts among them.
    """
    sizes = superposition.convergence_sizes(len(p))
    chosen = sorted({sizes[round(at)] for at in np.linspace(0, len(sizes) - 1, CURVES)})
    order = np.random.default_rng(seed).permutation(len(p))
    return _densities({size: p[np.ix_(order[:size], order[:size])] for size in chosen}, points)


def _densities(matrices: Mapping[int, np.ndarray], points: int) -> pd.DataFrame:
    """The density of every P, with columns `at`, `density`, and `size` by which the matrices are given."""
    densities = {size: superposition.kde(p, points=points) for size, p in matrices.items()}
    parts = [pd.DataFrame({"at": d.at, "density": d.value, "size": size}) for size, d in densities.items()]
    return pd.concat(parts, ignore_index=True)


def token_counts(tokens: int) -> tuple[int, ...]:
    """Amounts of text to look at, up to the requested one."""
    return tuple(sorted({max(1, round(tokens * step)) for step in TOKEN_STEPS}))


def token_densities(results: Mapping[int, Result], layer: int, *, points: int = 240) -> pd.DataFrame:
    """Densities of P by the tokens behind C.

    Args:
        results: of the same model and facts, by the tokens that were counted.
        layer: of them.
        points: see `superposition.kde`.

    Returns:
        columns `at`, `density`, `size` (the tokens).
    """
    return _densities({tokens: result.p[result.at(layer)] for tokens, result in sorted(results.items())}, points)


def by_tokens(results: Mapping[int, Result], layer: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Kurtosis of P by the tokens behind C, and its correlation with the P over the most tokens.

    Args:
        results: of the same model and facts, by the tokens that were counted.
        layer: of them.

    Returns:
        two frames with the columns `x` (tokens), `middle`, `low`, `high`, `note`; the second has no interval.
    """
    last = results[max(results)]
    kurtosis, likeness = [], []
    for tokens, result in sorted(results.items()):
        report = result.reports[result.at(layer)]
        note = f"ridge {report.ridge:.1e}, rank {report.rank}" if report.ridge else "no ridge"
        kurtosis.append((tokens, report.moments.kurtosis, report.interval.low, report.interval.high, note))
        alike = superposition.correlation(result.p[result.at(layer)], last.p[last.at(layer)])
        likeness.append((tokens, alike, alike, alike, note))
    columns = ["x", "middle", "low", "high", "note"]
    return pd.DataFrame(kurtosis, columns=columns), pd.DataFrame(likeness, columns=columns)


def settling(looks: Sequence[Sequence[float | None]]) -> pd.DataFrame:
    """How far P moved from look to look while C grew, over the watched layers.

    Args:
        looks: tokens, layer and movement of each look, as a result's provenance has them.

    Returns:
        frame with the columns `x` (tokens), `middle`, `low`, `high` over the layers, and `note`.
    """
    frame = pd.DataFrame(list(looks), columns=["x", "layer", "moved"]).dropna()
    rows = []
    for tokens, part in frame.groupby("x"):
        moved, layers = part["moved"], ", ".join(f"{layer:.0f}" for layer in part["layer"])
        rows.append((tokens, moved.median(), moved.min(), moved.max(), f"layers {layers}"))
    return pd.DataFrame(rows, columns=["x", "middle", "low", "high", "note"])


def enough_facts(bands: pd.DataFrame, m: int) -> str:
    """What subsets of half of the m facts say about whether m facts are enough (App. C), in words.

    Args:
        bands: as `superposition.bands` gives them.
        m: the number of facts.
    """
    final, half = bands["middle"].iloc[-1], bands[bands["x"] <= m / 2]
    if half.empty or pd.isna(final):
        return "Line: median of 50 random subsets; band: 95 % of them (App. C)."
    row = half.iloc[-1]
    low, high = number(row["low"], ".1f"), number(row["high"], ".1f")
    return (
        f"With {row['x']:.0f} of the {m} facts, 95 % of 50 random subsets have a kurtosis from {low} to {high}; all "
        f"facts together {number(final, '.1f')} (App. C)."
    )
