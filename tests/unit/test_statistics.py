"""Moments of the off-diagonal entries of P: by hand, as scipy has them, and where there is nothing to describe."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from kis_core.statistics import Moments, moments, off_diagonal
from kis_core.superposition import superposition

ROUNDING = 1e-12  # a few float64 operations


def test_off_diagonal_by_hand() -> None:
    assert off_diagonal(np.arange(9).reshape(3, 3)).tolist() == [1, 2, 3, 5, 6, 7]


def test_moments_by_hand() -> None:
    found = moments(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 6.0, 1.0]]))
    # entries 0, 0, 0, 0, 0, 6: mean 1, variance (5 + 25) / 6 = 5, third moment (-5 + 125) / 6 = 20,
    # fourth (5 + 625) / 6 = 105
    assert found.mean == pytest.approx(1.0, rel=ROUNDING)
    assert found.std == pytest.approx(5**0.5, rel=ROUNDING)
    assert found.skewness == pytest.approx(20 / 5**1.5, rel=ROUNDING)
    assert found.kurtosis == pytest.approx(105 / 25 - 3, rel=ROUNDING)
    assert (found.max, found.count, found.masked) == (6.0, 6, 0)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 100_000), st.integers(3, 12))
def test_moments_are_scipys(seed: int, m: int) -> None:
    p = superposition(np.random.default_rng(seed).normal(size=(m, 6)))
    entries = p[np.triu_indices(m, 1)].tolist() + p[np.tril_indices(m, -1)].tolist()
    found = moments(p)
    assert found.mean == pytest.approx(np.mean(entries))
    assert found.std == pytest.approx(np.std(entries))
    assert found.skewness == pytest.approx(scipy.stats.skew(entries))
    assert found.kurtosis == pytest.approx(scipy.stats.kurtosis(entries))
    assert found.max == max(entries)
    assert found.count == m * (m - 1)


def test_the_diagonal_is_left_out() -> None:
    p = superposition(np.random.default_rng(0).normal(size=(5, 6)))
    other = p.copy()
    np.fill_diagonal(other, 1e6)
    assert moments(other) == moments(p)


def test_entries_of_a_zero_key_are_masked_and_counted() -> None:
    whitened = np.random.default_rng(1).normal(size=(6, 6))
    whitened[4] = 0.0
    kept = [0, 1, 2, 3, 5]
    found, expected = moments(superposition(whitened)), moments(superposition(whitened[kept]))
    assert (found.count, found.masked) == (20, 10)
    assert (expected.count, expected.masked) == (20, 0)
    for name in ("mean", "std", "skewness", "kurtosis", "max"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=ROUNDING)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.3])
@pytest.mark.parametrize("jitter", [0.0, 1e-15])
def test_constant_entries_have_no_shape(value: float, jitter: float) -> None:
    p = np.full((4, 4), value)
    p[1, 2] += jitter
    found = moments(p)
    assert found.mean == pytest.approx(value, abs=ROUNDING)
    assert found.std == pytest.approx(0.0, abs=ROUNDING)
    assert np.isnan([found.skewness, found.kurtosis]).all()
    assert found.count == 12


def test_small_but_real_spread_keeps_its_shape() -> None:
    rng = np.random.default_rng(2)
    p = 1.0 + 1e-9 * rng.normal(size=(9, 9))
    assert np.isfinite([moments(p).skewness, moments(p).kurtosis]).all()


def test_one_fact_has_no_pairs() -> None:
    found = moments(np.ones((1, 1)))
    assert np.isnan([found.mean, found.std, found.skewness, found.kurtosis, found.max]).all()
    assert (found.count, found.masked) == (0, 0)


def test_two_facts() -> None:
    assert moments(np.array([[1.0, 0.25], [0.75, 1.0]])) == Moments(0.5, 0.25, 0.0, -2.0, 0.75, 2, 0)


def test_only_zero_keys_leave_everything_masked() -> None:
    found = moments(superposition(np.zeros((3, 4))))
    assert (found.count, found.masked) == (0, 6)
    assert np.isnan(found.kurtosis)
