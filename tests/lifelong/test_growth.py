"""Where growth turns exponential, on series made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kis_core.lifelong.growth import LEAST_EDITS, exponential_from

N = np.arange(1.0, 101)
NOISE = np.exp(np.random.default_rng(3).normal(size=100) / 3)


@pytest.mark.parametrize(
    "sizes",
    [
        np.full(100, 7.0),
        NOISE * 40,
        np.sqrt(N),
        N,  # doubles once over the later half, and no oftener
        N * NOISE,
        2.0 ** -(N / 5),
        2.0 ** (N / 30),  # doubles within 30 edits, which is more than half of the later half of a hundred
        2.0 ** (N[: 2 * LEAST_EDITS - 1]),  # too few
        np.zeros(100),
        np.empty(0),
    ],
)
def test_nothing_grows_exponentially(sizes: np.ndarray) -> None:
    assert exponential_from(sizes) is None


def test_from_where_the_later_half_doubles_more_than_twice() -> None:
    assert exponential_from(2.0 ** (N / 2.5)) == 2 * LEAST_EDITS, "seen as soon as it can be"
    assert exponential_from(2.0 ** (N / 10.2)) == 41, "when its half is longer than 20.4 edits"
    assert exponential_from(N**4) == 2 * LEAST_EDITS
    turning = np.where(N < 50, 10.0, 10 * 2 ** ((N - 50) / 8)) * NOISE
    turned = exponential_from(turning)
    assert turned is not None
    assert 55 < turned < 90
    assert exponential_from(turning[:turned]) == turned
    assert exponential_from(turning[: turned - 1]) is None
    assert exponential_from(turning * 1e-6) == turned, "in whatever unit"


def test_edits_that_were_not_made_do_not_count() -> None:
    sizes = 2.0 ** (N / 2.5)
    sizes[[0, 3, 8]] = [0, np.nan, 0]
    assert exponential_from(sizes) == 2 * LEAST_EDITS + 1, "from then on there are enough"
