"""Growth over a sequence of edits: edits damage the model, a damaged model takes larger edits, which damage more.

Liu et al. (arXiv 2602.02543) call this norm feedback, and show that norms then grow exponentially. ‖ΔW‖ of an edit is
‖δ‖ ‖u‖, and u is the same whatever was edited before in the layer: so it grows as ‖δ‖ does.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

DOUBLINGS = 2
LEAST_EDITS = 6  # in a window, for a slope with an interval
CERTAIN = 0.95  # one-sided


def exponential_from(sizes: np.ndarray) -> int | None:
    """How many edits had been made when their growth turned exponential, or None where it did not.

    At every edit a line is fitted to the logarithms of the sizes of the later half of the edits so far. Growth counts
    as exponential from the first edit at which sizes double more than twice within that half by this line, also at the
    lower end of its slope's 95 % interval. Sizes in proportion to the number of edits double once, and what grows more
    slowly does not double at all.

    Args:
        sizes: (n,) ‖ΔW‖ of each edit, in their order; those that are not above zero were not made, and do not count.
    """
    certain = stats.t.ppf(CERTAIN, np.arange(1, len(sizes) + 1))  # by degrees of freedom, from 1
    for made in range(2 * LEAST_EDITS, len(sizes) + 1):
        at = np.arange(made // 2, made)
        at = at[np.isfinite(sizes[at]) & (sizes[at] > 0)]
        if len(at) < LEAST_EDITS:
            continue
        x, y = at - at.mean(), np.log(sizes[at])
        slope = (x @ y) / (x @ x)
        rest = y - y.mean() - slope * x
        error = math.sqrt((rest @ rest) / (len(at) - 2) / (x @ x))
        if slope - certain[len(at) - 3] * error > DOUBLINGS * math.log(2) / (made - made // 2):
            return made
    return None
