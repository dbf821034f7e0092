"""What a computation needs of a machine: memory for weights and second moments, passes over the text, and time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

FLOAT64_BYTES = 8


def moment_bytes(mlp_width: int) -> int:
    """Memory that the growing sum of one layer takes, (d_m, d_m) in float64."""
    return mlp_width * mlp_width * FLOAT64_BYTES


def grouped(layers: Sequence[int], mlp_width: int, budget: int) -> list[list[int]]:
    """Layers in rising order, in as few groups as the memory allows, of sizes as equal as can be; one pass a group.

    Args:
        layers: their numbers.
        mlp_width: d_m.
        budget: bytes there are for the sums of one group.

    Raises:
        MemoryError: not even one layer fits.
    """
    each = moment_bytes(mlp_width)
    most = min(budget // each, len(layers))
    if layers and most < 1:
        raise MemoryError(f"the second moment of one layer takes {each:,} bytes; {budget:,} are there")
    ordered = sorted(layers)
    count = -(-len(ordered) // most) if ordered else 0
    ends = [round(k * len(ordered) / count) for k in range(count + 1)]
    return [ordered[begin:end] for begin, end in pairwise(ends)]
