"""The second moment C, exact to the token, and its whitening, singular C included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kis_core.covariance import whitener
from kis_core.covariance.moment import SecondMomentSum
from kis_core.covariance.whitener import MAX_CONDITION, RIDGE_SHARE, Whitener
from kis_core.superposition.matrix import superposition

EXACT = 1e-12  # float64 sums of a few hundred terms in another order
REFERENCE = 1e-8  # RELIABILITY case 13: the ridge keeps the condition at 1e7, which leaves nine digits
DIAGONAL = 1e-6  # RELIABILITY case 13
ENDS = 1e-4  # of a condition number whose two ends are found by Lanczos

D = 12


class TestSecondMomentSum:
    def test_by_hand(self) -> None:
        total = SecondMomentSum()
        total.add(torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16))
        total.add(torch.tensor([[3.0, 4.0]]))
        moment = total.mean()
        assert moment.matrix.tolist() == [[5.0, 7.0], [7.0, 10.0]]
        assert moment.tokens == 2

    @pytest.mark.parametrize("value", [float("nan"), -float("inf"), None])
    def test_what_is_not_finite_is_refused_and_so_is_nothing_at_all(self, value: float | None) -> None:
        total, keys = SecondMomentSum(), torch.ones(4, D)
        if value is None:
            with pytest.raises(ValueError, match="no keys were added"):
                total.mean()
            return
        keys[2, D - 1] = value
        with pytest.raises(FloatingPointError):
            total.add(keys)


def c_of(case: str, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """A hard C and its rank."""
    keys = rng.normal(size=(50 * D, D))
    if case == "fewer tokens than d_m":
        keys = keys[: D - 5]
    if case == "zero column":
        keys[:, 3] = 0
    if case == "duplicate column":
        keys[:, 7] = keys[:, 2]
    c = keys.T @ keys / len(keys)
    if case == "condition 1e16":
        basis, _ = np.linalg.qr(rng.normal(size=(D, D)))
        c = basis @ np.diag([*np.linspace(1, 0.1, D - 1), 1e-16]) @ basis.T
        c = (c + c.T) / 2
    return c, D - 5 if case == "fewer tokens than d_m" else D - 1


SINGULAR = ("fewer tokens than d_m", "zero column", "duplicate column", "condition 1e16")


class TestWhitenerOfASingularC:
    @pytest.mark.parametrize("case", SINGULAR)
    @pytest.mark.parametrize("scale", [1.0, 1e6])
    def test_rank_and_ridge_are_told_and_p_is_right(self, case: str, scale: float) -> None:
        rng = np.random.default_rng(13)
        c, rank = c_of(case, rng)
        keys = rng.normal(size=(9, D))
        scaled = c * scale
        whitener = Whitener.fit(scaled)
        assert (scaled == c * scale).all(), "C is left as it is"
        assert whitener.rank == rank
        assert whitener.condition_number == float("inf")
        assert whitener.ridge == pytest.approx(RIDGE_SHARE * scale * np.linalg.norm(c, 2), rel=EXACT)

        p = superposition(whitener.whiten(keys))
        assert np.isfinite(p).all()
        np.testing.assert_allclose(np.diag(p), 1.0, rtol=0, atol=DIAGONAL)
        inverse_times_keys = np.linalg.solve(c * scale + whitener.ridge * np.eye(D), keys.T)
        gram = keys @ inverse_times_keys
        np.testing.assert_allclose(p, gram / np.diag(gram)[:, None], rtol=0, atol=REFERENCE)


class TestWhitener:
    def test_by_hand(self) -> None:
        whitener = Whitener.fit(np.array([[4.0, 2.0], [2.0, 3.0]]))
        np.testing.assert_allclose(whitener.factor, [[2.0, 0.0], [1.0, np.sqrt(2)]], atol=EXACT)
        np.testing.assert_allclose(whitener.whiten(np.array([[2.0, 3.0]])), [[1.0, np.sqrt(2)]], atol=EXACT)

    @pytest.mark.parametrize(("share", "ridged"), [(0.1, False), (10.0, True)])
    def test_the_condition_decides_about_the_ridge(self, share: float, ridged: bool) -> None:
        c = np.diag([1.0, 1.0 / (MAX_CONDITION * share)])
        whitener = Whitener.fit(c)
        assert whitener.condition_number == pytest.approx(MAX_CONDITION * share)
        assert whitener.rank == 2
        assert whitener.ridge == (RIDGE_SHARE if ridged else 0.0)

    @given(st.integers(0, 10_000), st.integers(2, 16), st.integers(1, 8))
    def test_inner_products_of_whitened_keys_are_those_of_the_inverse(self, seed: int, d: int, m: int) -> None:
        rng = np.random.default_rng(seed)
        sample = rng.normal(size=(40 * d, d)) * rng.uniform(0.1, 10, size=d)
        c, keys = sample.T @ sample / len(sample), rng.normal(size=(m, d)).astype(np.float32)
        whitened = Whitener.fit(c).whiten(keys)
        assert whitened.dtype == np.float64
        expected = keys.astype(np.float64) @ np.linalg.inv(c) @ keys.astype(np.float64).T
        np.testing.assert_allclose(whitened @ whitened.T, expected, rtol=REFERENCE, atol=REFERENCE)

    @pytest.mark.parametrize("share", [1e-9, 1e-7, 1e-4])
    def test_what_rounding_of_float32_has_left_below_zero_gets_a_ridge_large_enough(self, share: float) -> None:
        rng = np.random.default_rng(2)
        basis, _ = np.linalg.qr(rng.normal(size=(D, D)))
        c = basis @ np.diag([*np.linspace(3, 1, D - 1), -3 * share]) @ basis.T
        whitener = Whitener.fit((c + c.T) / 2)
        assert (whitener.rank, whitener.condition_number) == (D - 1, float("inf"))
        assert whitener.ridge == pytest.approx(3 * (RIDGE_SHARE + share), rel=REFERENCE)
        p = superposition(whitener.whiten(rng.normal(size=(9, D))))
        assert np.isfinite(p).all()
        np.testing.assert_allclose(np.diag(p), 1.0, rtol=0, atol=DIAGONAL)

    @pytest.mark.parametrize(
        ("matrix", "reason"),
        [
            (np.ones((2, 3)), r"shape \(2, 3\); a square matrix"),
            (np.diag([1.0, np.nan]), "NaN or an infinity"),
            (np.zeros((3, 3)), "C is zero"),
            (np.diag([1.0, -0.02]), r"no second moment: its eigenvalues go from -0\.02 to 1$"),
        ],
    )
    def test_what_is_no_second_moment_is_refused(self, matrix: np.ndarray, reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            Whitener.fit(matrix)


class TestWhitenerOfAWideC:
    """Above a width, not all eigenvalues are computed: the widest C of the tests goes that way."""

    @pytest.mark.parametrize("condition", [1.0, 1e3, 9e9])
    def test_is_that_of_all_eigenvalues(self, monkeypatch: pytest.MonkeyPatch, condition: float) -> None:
        basis, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(60, 60)))
        c = 1e5 * (basis * np.geomspace(1, 1 / condition, 60)) @ basis.T
        singular, rank = c_of("zero column", np.random.default_rng(13))
        # all alike, along the axes, and the largest along the vector of ones: hard for Lanczos
        hard = (np.eye(20), np.diag(np.arange(1.0, 21)), np.full((20, 20), 0.5) + np.eye(20))
        given_c = ((c + c.T) / 2, singular, *hard)
        every = [Whitener.fit(each) for each in given_c]
        monkeypatch.setattr(whitener, "ALL_EIGENVALUES", 8)
        ends = [Whitener.fit(each) for each in given_c]
        for one, other in zip(every, ends, strict=True):
            assert (one.factor == other.factor).all()
            assert (one.rank, one.ridge) == (other.rank, other.ridge)
            assert one.condition_number == pytest.approx(other.condition_number, rel=ENDS)
        assert (ends[0].rank, ends[0].ridge, ends[1].rank) == (60, 0.0, rank)
