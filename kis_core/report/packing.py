"""Numbers for a browser: whole multiples of a decimal step in base64, and figures short enough for a chart."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import numpy as np

MISSING = np.iinfo(np.int16).min
"""What stands for a missing number among 16-bit ones; among 64-bit ones that is NaN."""
NEAR_TIE = 1e-9  # relative distance to the middle of two steps within which multiplication may round the other way
FIGURES = 5  # digits of a number that a chart draws: more than a screen has pixels


def packed(values: np.ndarray, decimals: int) -> dict[str, Any]:
    """Numbers as whole multiples of 10^-decimals, exactly those that `wording.number` writes with so many decimals.

    Args:
        values: any shape, row by row; what is not finite is missing.
        decimals: of a number.

    Returns:
        `bits` (16, or 64 where a number is too large for that) and `data`, little-endian integers of 16 or floats of
        64 bits in base64.
    """
    whole = rounded(values, decimals)
    if np.nanmax(np.abs(whole), initial=0) < -MISSING:
        return {"bits": 16, "data": encoded(np.where(np.isfinite(whole), whole, MISSING).astype("<i2"))}
    return {"bits": 64, "data": encoded(whole.astype("<f8"))}


def rounded(values: np.ndarray, decimals: int) -> np.ndarray:
    """Numbers times 10^decimals, rounded to whole ones as Python formats them; NaN for what is not finite."""
    scaled = np.where(np.isfinite(values), values, np.nan) * 10.0**decimals
    whole = np.rint(scaled)
    with np.errstate(invalid="ignore"):
        tied = np.abs(np.abs(scaled - np.trunc(scaled)) - 0.5) <= NEAR_TIE * np.maximum(1, np.abs(scaled))
    # a number just beside the middle is rounded by its own digits, not by those of its product
    whole[tied] = [round(float(f"{value:.{decimals}f}") * 10**decimals) for value in values[tied]]
    return np.asarray(whole)


def encoded(array: np.ndarray) -> str:
    """The bytes of an array, row by row, in base64."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def drawable(values: Iterable[float]) -> list[float | None]:
    """Numbers for a chart; None for what is not finite."""
    return [float(f"{value:.{FIGURES}g}") if np.isfinite(value) else None for value in values]
