"""Numbers and counts in texts for people, written in the same way everywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence

MISSING = "–"
"""What stands where a number is missing."""


def number(value: float | None, form: str = ".3f") -> str:
    """A number as text: `MISSING` for None and NaN, never -0, and the minus sign that programs read.

    Args:
        value: the number.
        form: a format specification with an optional sign, such as `+.3f` or `.1%`.
    """
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    sign = form[0] if form[:1] in ("+", "-", " ") else ""
    return format(float(value), f"{sign}z{form[len(sign) :]}")


def share(probability: float) -> str:
    """A probability in per cent, never rounded to a false 0 or 100."""
    if probability < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if probability > 0.999 else f"{probability:.1%}".replace("%", " %")


def counted(count: int, singular: str, plural: str = "") -> str:
    """A count with its noun: 1 pair, 2 pairs, 1,200 pairs.

    Args:
        count: the number.
        singular: the noun for a count of 1, with the words that belong to it.
        plural: the noun for any other count; by default the singular with an s.
    """
    return f"{count:,} {singular if count == 1 else plural or f'{singular}s'}"


def ranges(numbers: Sequence[int]) -> str:
    """Rising whole numbers as people write them: 0–3, 5."""
    ends: list[list[int]] = []
    for number in numbers:
        if ends and number == ends[-1][-1] + 1:
            ends[-1][1:] = [number]
        else:
            ends.append([number])
    return ", ".join("–".join(map(str, pair)) for pair in ends)
