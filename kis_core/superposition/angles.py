"""The angles between keys, with and without whitening (Fig. 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from kis_core.superposition.moments import finite_entries

SMALLEST = 0.001  # share of the pairs that are looked at as those of the smallest angles
STRIP_WIDTH = 2.0  # degrees of a bin where every layer has a strip of its own


def histogram(p: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Share of the off-diagonal entries between neighbouring edges, (len(edges) - 1,); zeros without entries."""
    finite = finite_entries(p)
    counts, _ = np.histogram(finite, edges)
    return counts / max(1, len(finite))


def angles(cosine: np.ndarray) -> np.ndarray:
    """Angles in degrees from cosines (Fig. 6)."""
    return np.asarray(np.degrees(np.arccos(cosine)))


def angle_shares(cosines: Mapping[str, np.ndarray], *, width: float = 1.0) -> pd.DataFrame:
    """Histograms of the angles off the diagonal in several spaces (Fig. 6).

    Args:
        cosines: (m, m) cosines by the name of their space.
        width: of a bar in degrees; rounded so that a whole number of bars fits 180.

    Returns:
        columns `low`, `high`, `share`, `space`; one row a bar from 0 to 180 degrees.
    """
    edges = np.linspace(0, 180, round(180 / width) + 1)
    return pd.concat(
        [
            pd.DataFrame({"low": edges[:-1], "high": edges[1:], "share": histogram(angles(c), edges), "space": space})
            for space, c in cosines.items()
        ],
        ignore_index=True,
    )


def angle_spreads(cosines: Mapping[str, np.ndarray], layers: Sequence[int]) -> pd.DataFrame:
    """Mean and standard deviation of the angles off the diagonal, in every layer and space.

    Args:
        cosines: (L, m, m) cosines by the name of their space.
        layers: the L layer numbers.

    Returns:
        columns `layer`, `space`, `mean`, `std`, in degrees.
    """
    rows = []
    for space, by_layer in cosines.items():
        for layer, cosine in zip(layers, by_layer, strict=True):
            degrees = finite_entries(angles(cosine))
            rows.append((layer, space, *((degrees.mean(), degrees.std()) if len(degrees) else (np.nan, np.nan))))
    return pd.DataFrame(rows, columns=["layer", "space", "mean", "std"])


def smallest_angles(angle: np.ndarray, quantile: float = SMALLEST) -> tuple[float, float]:
    """From 0 to the angle below which so large a share of the pairs lies, in degrees; two zeros if there is no pair."""
    entries = finite_entries(angle)
    return 0.0, float(np.quantile(entries, quantile)) if len(entries) else 0.0


def angle_strips(cosines: Mapping[str, np.ndarray], layers: Sequence[int]) -> pd.DataFrame:
    """Shares of the pairs by their angle, in bins of `STRIP_WIDTH`, for every layer.

    Args:
        cosines: (L, m, m) each, by the name of the space.
        layers: their numbers.

    Returns:
        columns `layer`, `at` (the middle of the bin), `density` (the share), `curve` (the space).
    """
    parts = []
    for at, layer in enumerate(layers):
        shares = angle_shares({space: cosine[at] for space, cosine in cosines.items()}, width=STRIP_WIDTH)
        middle = (shares["low"] + shares["high"]) / 2
        columns = {"layer": layer, "at": middle, "density": shares["share"], "curve": shares["space"]}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)
