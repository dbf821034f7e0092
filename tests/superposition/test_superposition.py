"""The superposition matrix P: by hand, its identities, zero keys, and the orders made from it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core.covariance.whitener import Whitener
from kis_core.superposition.matrix import (
    cluster_order,
    cosines,
    same,
    strongest_pairs,
    strongest_partner,
    superposition,
)

EXACT = 1e-12  # a few float64 roundings
SCALED = 1e-9  # another scale of C rounds its factor anew, at a condition below 1e3

seeds = st.integers(0, 100_000)


def whitened(seed: int, *, m: int = 7, d: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(m, d))


class TestSuperposition:
    def test_by_hand(self) -> None:
        keys, c = np.array([[1.0, 0.0], [1.0, 2.0]]), np.diag([1.0, 4.0])
        white = Whitener.fit(c).whiten(keys)
        np.testing.assert_allclose(superposition(white), [[1.0, 1.0], [0.5, 1.0]], rtol=0, atol=EXACT)
        np.testing.assert_allclose(cosines(white), [[1.0, 0.5**0.5], [0.5**0.5, 1.0]], rtol=0, atol=EXACT)
        np.testing.assert_allclose(cosines(keys), [[1.0, 0.2**0.5], [0.2**0.5, 1.0]], rtol=0, atol=EXACT)

        p = superposition(np.array([[1.0, 0.0], [10.0, 0.0]]))
        assert p.tolist() == [[1.0, 10.0], [0.1, 1.0]], "row = the edited fact: the small key moves the large tenfold"

    @given(seeds)
    def test_ones_on_the_diagonal_and_a_product_that_is_the_squared_cosine(self, seed: int) -> None:
        white = whitened(seed)
        p = superposition(white)
        assert (np.diag(p) == 1.0).all()
        np.testing.assert_allclose(p * p.T, cosines(white) ** 2, rtol=0, atol=EXACT)

    @given(seeds, st.floats(1e-8, 1e8))
    def test_unchanged_when_c_is_scaled(self, seed: int, scale: float) -> None:
        rng = np.random.default_rng(seed)
        sample, keys = rng.normal(size=(60, 5)), rng.normal(size=(6, 5))
        c = sample.T @ sample / 60
        once, scaled = (superposition(Whitener.fit(matrix).whiten(keys)) for matrix in (c, scale * c))
        np.testing.assert_allclose(scaled, once, rtol=SCALED, atol=SCALED)

    @given(seeds, st.permutations(range(7)))
    def test_permutes_with_the_facts(self, seed: int, order: list[int]) -> None:
        white = whitened(seed)
        for matrix in (superposition, cosines):
            expected = matrix(white)[np.ix_(order, order)]
            np.testing.assert_allclose(matrix(white[order]), expected, rtol=EXACT, atol=EXACT)

    @given(seeds)
    def test_orthogonal_whitened_keys_do_not_superpose(self, seed: int) -> None:
        basis, _ = np.linalg.qr(whitened(seed, m=6, d=6))
        lengths = np.random.default_rng(seed).uniform(0.5, 2, size=(6, 1))
        np.testing.assert_allclose(superposition(basis * lengths), np.eye(6), rtol=0, atol=EXACT)

    def test_a_zero_key_is_nan_in_row_and_column_and_nowhere_else(self) -> None:
        white = whitened(3, m=5)
        white[2] = 0.0
        kept = [0, 1, 3, 4]
        for matrix in (superposition, cosines):
            actual = matrix(white)
            assert np.isnan(actual[2]).all()
            assert np.isnan(actual[:, 2]).all()
            np.testing.assert_allclose(actual[np.ix_(kept, kept)], matrix(white[kept]), rtol=EXACT, atol=EXACT)

    def test_cosines_never_leave_their_range(self) -> None:
        vectors = whitened(0, m=50, d=33)  # so many that rounding takes some of their cosines past 1
        actual = cosines(np.concatenate([vectors, -vectors]))
        assert (np.abs(actual) <= 1.0).all()
        assert np.isfinite(np.arccos(actual)).all()
        np.testing.assert_allclose(np.diag(actual[:50, 50:]), -1.0, rtol=0, atol=EXACT)


def test_same_labels_by_hand() -> None:
    assert same(["a", "b", "a"]).tolist() == [[False, False, True], [False] * 3, [True, False, False]]
    assert same([5, "5", 5, (5,)]).sum() == 2


class TestStrongest:
    P = np.array([[1.0, 0.2, -0.9], [0.5, 1.0, np.nan], [-0.3, 0.4, 1.0]])

    def test_by_hand(self) -> None:
        before = self.P.copy()
        assert strongest_pairs(self.P).tolist() == [[0, 2], [1, 0], [2, 1], [2, 0], [0, 1]]
        assert [strongest_partner(self.P, i) for i in range(3)] == [2, 0, 1]
        np.testing.assert_array_equal(self.P, before, "P stays as it is")

    @pytest.mark.parametrize("m", [1, 2, 5])
    def test_all_pairs_once_by_falling_size(self, m: int) -> None:
        p = superposition(whitened(8, m=m))
        pairs = strongest_pairs(p)
        assert {tuple(pair) for pair in pairs.tolist()} == {(i, j) for i in range(m) for j in range(m) if i != j}
        sizes = [abs(p[i, j]) for i, j in pairs]
        assert sizes == sorted(sizes, reverse=True)

    def test_no_partner_where_there_is_none(self) -> None:
        assert strongest_partner(np.ones((1, 1)), 0) == 0
        assert strongest_partner(np.full((2, 2), np.nan), 1) == 1


class TestClusterOrder:
    def test_brings_blocks_together(self) -> None:
        block = np.array([0, 1, 0, 1, 0, 1])
        p = np.where(block[:, None] == block[None, :], 0.9, 0.01)
        np.fill_diagonal(p, 1.0)
        ordered = block[cluster_order(p)].tolist()
        assert ordered in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])

    @pytest.mark.parametrize("value", [0.9, -0.9])
    def test_sees_negative_and_one_sided_superposition(self, value: float) -> None:
        p = np.eye(4)
        p[2, 0] = p[3, 1] = value
        for one_sided in (p, p.T):
            order = cluster_order(one_sided).tolist()
            assert abs(order.index(0) - order.index(2)) == 1
            assert abs(order.index(1) - order.index(3)) == 1

    @pytest.mark.parametrize("m", [1, 2, 3, 9])
    def test_is_a_permutation_also_with_zero_keys_and_large_entries(self, m: int) -> None:
        white = whitened(4, m=m)
        white[0] = 0.0
        white[-1] *= 100
        assert sorted(cluster_order(superposition(white)).tolist()) == list(range(m))
