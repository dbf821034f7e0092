"""Moments and correlations of off-diagonal entries of P: by hand, as scipy has them, and where there are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from kis_core.superposition import (
    Moments,
    angles,
    correlation,
    finite_entries,
    isotropic_std,
    layer_similarity,
    moments,
    off_diagonal,
    rank_correlation,
    without,
)
from kis_core.superposition.matrix import superposition

ROUNDING = 1e-12  # a few float64 operations
SAMPLED = 0.03  # relative, of a std over 8128 pairs: its standard error is 0.8 %
ZERO_KEY = 4  # the fact whose key is zero, where there is one

Correlation = Callable[[np.ndarray, np.ndarray], float]
CORRELATIONS = pytest.mark.parametrize(
    ("ours", "scipys"), [(rank_correlation, scipy.stats.spearmanr), (correlation, scipy.stats.pearsonr)]
)


def normal_p(seed: int, m: int = 9) -> np.ndarray:
    return superposition(np.random.default_rng(seed).normal(size=(m, 6)))


def with_zero_key(p: np.ndarray) -> np.ndarray:
    p = p.copy()
    p[ZERO_KEY] = p[:, ZERO_KEY] = np.nan
    return p


class TestMoments:
    def test_by_hand(self) -> None:
        actual = moments(np.array([[9.0, 0.0, 0.0], [0.0, 7.0, 0.0], [0.0, 6.0, 1.0]]))
        # entries 0, 0, 0, 0, 0, 6: mean 1, variance (5 + 25) / 6 = 5, third moment (-5 + 125) / 6 = 20,
        # fourth (5 + 625) / 6 = 105
        assert actual.mean == pytest.approx(1.0, rel=ROUNDING)
        assert actual.std == pytest.approx(5**0.5, rel=ROUNDING)
        assert actual.skewness == pytest.approx(20 / 5**1.5, rel=ROUNDING)
        assert actual.kurtosis == pytest.approx(105 / 25 - 3, rel=ROUNDING)
        assert (actual.max, actual.count, actual.masked) == (6.0, 6, 0)
        assert moments(np.array([[1.0, 0.25], [0.75, 1.0]])) == Moments(0.5, 0.25, 0.0, -2.0, 0.75, 2, 0)

    @given(st.integers(0, 100_000), st.integers(3, 12))
    def test_are_scipys(self, seed: int, m: int) -> None:
        p = normal_p(seed, m)
        entries = p[np.triu_indices(m, 1)].tolist() + p[np.tril_indices(m, -1)].tolist()
        actual = moments(p)
        assert actual.mean == pytest.approx(np.mean(entries))
        assert actual.std == pytest.approx(np.std(entries))
        assert actual.skewness == pytest.approx(scipy.stats.skew(entries))
        assert actual.kurtosis == pytest.approx(scipy.stats.kurtosis(entries))
        assert (actual.max, actual.count) == (max(entries), m * (m - 1))

    def test_entries_of_a_zero_key_are_masked_and_counted(self) -> None:
        p, kept = normal_p(1, 6), [0, 1, 2, 3, 5]
        actual, expected = moments(with_zero_key(p)), moments(p[np.ix_(kept, kept)])
        assert (actual.count, actual.masked) == (20, 10)
        for name in ("mean", "std", "skewness", "kurtosis", "max"):
            assert getattr(actual, name) == pytest.approx(getattr(expected, name), rel=ROUNDING)

    @pytest.mark.parametrize("value", [0.0, 1.0, -0.3])
    def test_constant_entries_have_no_shape(self, value: float) -> None:
        p = np.full((4, 4), value)
        p[1, 2] += 1e-15
        actual = moments(p)
        assert (actual.mean, actual.std, actual.count) == (pytest.approx(value, abs=ROUNDING), pytest.approx(0.0), 12)
        assert np.isnan([actual.skewness, actual.kurtosis]).all()
        spread = 1.0 + 1e-9 * np.random.default_rng(2).normal(size=(9, 9))  # small but real
        assert np.isfinite([moments(spread).skewness, moments(spread).kurtosis]).all()

    @pytest.mark.parametrize(
        ("p", "masked"),
        [(np.ones((1, 1)), 0), (superposition(np.zeros((3, 4))), 6), (without(np.eye(3), np.ones((3, 3), bool)), 6)],
        ids=["one fact", "zero keys", "all pairs taken out"],
    )
    def test_of_no_entries_are_nan(self, p: np.ndarray, masked: int) -> None:
        actual = moments(p)
        assert np.isnan([actual.mean, actual.std, actual.skewness, actual.kurtosis, actual.max]).all()
        assert (actual.count, actual.masked) == (0, masked)


def test_which_entries_count_by_hand() -> None:
    assert off_diagonal(np.arange(9).reshape(3, 3)).tolist() == [1, 2, 3, 5, 6, 7]
    holes = np.array([[9.0, 1.0, np.nan], [2.0, 9.0, -np.inf], [np.inf, 3.0, np.nan]])
    assert finite_entries(holes).tolist() == [1.0, 2.0, 3.0]
    p, pairs = np.arange(9.0).reshape(3, 3), np.zeros((3, 3), dtype=bool)
    pairs[0, 1] = pairs[2, 0] = True
    masked = without(p, pairs)
    assert finite_entries(masked).tolist() == [2.0, 3.0, 5.0, 7.0]
    masked[0, 2] = 99.0
    np.testing.assert_array_equal(p, np.arange(9.0).reshape(3, 3), "P itself stays as it is")


@pytest.mark.parametrize("mlp_width", [100, 400])
def test_isotropic_std_is_that_of_random_keys(mlp_width: int) -> None:
    assert isotropic_std(mlp_width) == {100: 0.1, 400: 0.05}[mlp_width]
    p = superposition(np.random.default_rng(0).normal(size=(128, mlp_width)))
    assert moments(p).std == pytest.approx(isotropic_std(mlp_width), rel=SAMPLED)


def test_angles_by_hand() -> None:
    cosine = np.array([[1.0, 0.5], [0.0, -0.5], [-1.0, np.nan]])
    np.testing.assert_allclose(angles(cosine), [[0.0, 60.0], [90.0, 120.0], [180.0, np.nan]], rtol=ROUNDING)


class TestCorrelations:
    @CORRELATIONS
    @given(seed=st.integers(0, 100_000), m=st.integers(3, 9), digits=st.sampled_from([1, 8]))
    def test_are_scipys_with_ties_and_without(
        self, ours: Correlation, scipys: Callable[..., Any], seed: int, m: int, digits: int
    ) -> None:
        first, noise = normal_p(seed, m).round(digits), normal_p(seed + 1, m).round(digits)
        second = first + noise
        if min(np.ptp(off_diagonal(first)), np.ptp(off_diagonal(second))) > 0.05:  # scipy warns of constants
            expected = scipys(off_diagonal(first), off_diagonal(second)).statistic
            np.fill_diagonal(second, np.arange(100.0, 100.0 + m))  # does not count
            assert ours(first, second) == pytest.approx(expected, abs=ROUNDING)

    @CORRELATIONS
    def test_pairs_without_a_value_in_either_are_left_out(self, ours: Correlation, scipys: Callable[..., Any]) -> None:
        first, second = with_zero_key(normal_p(0)), normal_p(1)
        second[0, 1] = np.inf
        there = np.isfinite(off_diagonal(first)) & np.isfinite(off_diagonal(second))
        expected = scipys(off_diagonal(first)[there], off_diagonal(second)[there]).statistic
        assert there.sum() == 8 * 7 - 1
        assert ours(first, second) == ours(second, first) == pytest.approx(expected, abs=ROUNDING)

    @CORRELATIONS
    def test_are_nan_where_there_are_none(self, ours: Correlation, scipys: Callable[..., Any]) -> None:
        constant = np.full((9, 9), 0.3)
        constant[1, 2] += 1e-15
        for shapeless in (constant, np.full((9, 9), np.nan)):
            assert np.isnan([ours(shapeless, normal_p(0)), ours(normal_p(0), shapeless)]).all()
        assert np.isnan(ours(np.ones((1, 1)), np.ones((1, 1))))


def test_layer_similarity_holds_the_rank_correlation_of_every_two_layers() -> None:
    p = np.stack([normal_p(0), with_zero_key(normal_p(1)), -(normal_p(0) ** 3), np.full((9, 9), 0.3)])
    expected = [[rank_correlation(first, second) for second in p] for first in p]
    assert expected[0][2] == pytest.approx(-1.0, abs=ROUNDING)
    assert np.isnan(expected[3]).all(), "a constant layer is like none, not even itself"
    np.testing.assert_allclose(layer_similarity(p), expected, rtol=0, atol=ROUNDING)
    assert np.isnan(layer_similarity(np.ones((2, 1, 1)))).all()
