"""Distribution of the entries of P: density, tails, the kurtosis and its interval, and how it settles with m."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from kis_core.superposition import (
    TAILS,
    convergence,
    convergence_sizes,
    finite_entries,
    histogram,
    kde,
    kurtosis_interval,
    moments,
    tails,
    without,
)
from kis_core.superposition.matrix import superposition

ROUNDING = 1e-9  # relative, of kurtoses from power sums of entries of size 1
LOST_DIGITS = 1e-4  # relative, where power sums over eight orders of magnitude cost digits
BINNED = 1e-3  # of the peak: what counting in cells may cost
WHOLE = 2e-3  # a density is drawn to three bandwidths, in a few hundred points
TWO = np.array([[1.0, 0.25], [0.75, 1.0]])


def normal_p(seed: int = 0, *, m: int = 30, d: int = 40) -> np.ndarray:
    return superposition(np.random.default_rng(seed).normal(size=(m, d)))


def heavy_p(seed: int = 0, *, m: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(3, size=(m, m)) / 10


def with_zero_key(p: np.ndarray, at: int = 2) -> np.ndarray:
    p = p.copy()
    p[at] = p[:, at] = np.nan
    return p


def with_outlier(p: np.ndarray) -> np.ndarray:
    """One key of a millionth of the others' length."""
    p = p.copy()
    p[3] *= 1e6
    return p


def resampled(p: np.ndarray, *, draws: int, seed: int) -> list[float]:
    """Kurtosis of each draw, the slow way: lists of facts, and every entry between two different facts in them."""
    m, kurtoses = len(p), []
    for times in np.random.default_rng(seed).multinomial(m, np.full(m, 1 / m), size=draws):
        facts = np.repeat(np.arange(m), times)
        entries = [p[a, b] for a in facts for b in facts if a != b and np.isfinite(p[a, b])]
        constant = not entries or np.ptp(entries) == 0
        kurtoses.append(float("nan") if constant else float(scipy.stats.kurtosis(entries)))
    return kurtoses


NOTHING = {
    "one fact": np.ones((1, 1)),
    "constant": np.full((4, 4), 0.3),
    "constant but for rounding": np.full((4, 4), 0.3) + 1e-15 * np.arange(16).reshape(4, 4),
    "zero keys": np.full((4, 4), np.nan),
    "all pairs taken out": without(normal_p(m=4), np.ones((4, 4), dtype=bool)),
}
NOTHING_TO_DESCRIBE = pytest.mark.parametrize("p", NOTHING.values(), ids=NOTHING)


class TestKurtosisInterval:
    FEW_TAKEN_OUT = np.isin(np.arange(36).reshape(6, 6), [1, 6, 17])
    ONE_LENGTH = np.array([[1.0, 0.3, 0.1, 0.7], [0.3, 1.0, 0.2, 0.15], [0.1, 0.2, 1.0, 0.5], [0.7, 0.15, 0.5, 1.0]])
    CASES = {
        "many facts": (heavy_p(m=12), 0.95, ROUNDING),
        "another level": (heavy_p(m=8), 0.5, ROUNDING),
        "a zero key": (with_zero_key(heavy_p(m=8)), 0.95, ROUNDING),
        "pairs taken out": (without(heavy_p(3, m=6), FEW_TAKEN_OUT), 0.95, ROUNDING),
        "draws of two equal entries": (ONE_LENGTH, 1.0, ROUNDING),
        "three facts": (np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 6.0, 1.0]]), 0.95, ROUNDING),
        "an outlying key": (with_outlier(np.random.default_rng(0).normal(size=(10, 10)) / 10), 0.95, LOST_DIGITS),
    }

    @pytest.mark.parametrize("case", CASES)
    def test_is_that_of_facts_really_drawn_again(self, case: str) -> None:
        p, level, tolerance = self.CASES[case]
        actual = kurtosis_interval(p, draws=200, level=level, seed=1)
        expected = np.nanquantile(resampled(p, draws=200, seed=1), [0.5 - level / 2, 0.5 + level / 2])
        assert [actual.low, actual.high] == pytest.approx(expected.tolist(), rel=tolerance)

    @pytest.mark.parametrize("offset", [1e3, -1e3])
    def test_depends_neither_on_where_zero_is_nor_on_the_diagonal(self, offset: float) -> None:
        p = normal_p()
        moved = p + offset
        np.fill_diagonal(moved, 1e6)
        actual, expected = kurtosis_interval(moved), kurtosis_interval(p)
        assert [actual.low, actual.high] == pytest.approx([expected.low, expected.high], rel=ROUNDING)

    @pytest.mark.parametrize("p", [*NOTHING.values(), TWO], ids=[*NOTHING, "two facts"])
    def test_is_nan_where_there_is_no_kurtosis(self, p: np.ndarray) -> None:
        actual = kurtosis_interval(p)
        assert np.isnan([actual.low, actual.high]).all()

    def test_is_nan_if_every_draw_holds_one_fact(self) -> None:
        seeds = (s for s in range(1000) if np.random.default_rng(s).multinomial(3, np.full(3, 1 / 3)).max() == 3)
        actual = kurtosis_interval(normal_p(m=3), draws=1, seed=next(seeds))
        assert np.isnan([actual.low, actual.high]).all()


class TestTails:
    def test_are_quantiles_beside_those_of_a_normal(self) -> None:
        p, levels = with_zero_key(heavy_p()), [0.01, 0.5, 0.8]
        actual, entries = tails(p, levels), finite_entries(p)
        assert actual.columns.tolist() == ["level", "value", "normal"]
        assert actual["level"].tolist() == levels
        assert actual["value"].tolist() == np.quantile(entries, levels).tolist()
        expected = scipy.stats.norm(entries.mean(), entries.std()).ppf(levels)
        np.testing.assert_allclose(actual["normal"], expected, rtol=ROUNDING)
        by_default = tails(p)["level"].to_numpy()
        assert by_default.tolist() == sorted(TAILS)
        np.testing.assert_allclose(by_default + by_default[::-1], 1.0)  # as far to both sides

    def test_of_constant_entries_of_two_facts_and_of_none(self) -> None:
        assert (tails(np.full((3, 3), 0.5))[["value", "normal"]] == 0.5).all(axis=None)
        assert tails(TWO, [0.0, 0.5, 1.0])["value"].tolist() == [0.25, 0.5, 0.75]
        for p in (NOTHING["one fact"], NOTHING["zero keys"]):
            assert tails(p)[["value", "normal"]].isna().all(axis=None)


class TestKde:
    PS = {
        "128 facts": heavy_p(m=128),
        "30 facts, tiny": 1e-9 * normal_p(m=30),
        "a zero key": with_zero_key(heavy_p(1)),
        "3 facts": normal_p(m=3),
    }

    @pytest.mark.parametrize("p", PS.values(), ids=PS)
    def test_is_scipys_and_reaches_a_little_beyond_all_entries(self, p: np.ndarray) -> None:
        entries = finite_entries(p)
        actual, expected = kde(p), scipy.stats.gaussian_kde(entries)
        values = expected(actual.at)
        np.testing.assert_allclose(actual.value, values, rtol=0, atol=BINNED * values.max())
        assert actual.bandwidth == pytest.approx(float(np.sqrt(expected.covariance[0, 0])), rel=ROUNDING)
        ends = [entries.min() - 3 * actual.bandwidth, entries.max() + 3 * actual.bandwidth]
        np.testing.assert_allclose(actual.at[[0, -1]], ends, rtol=ROUNDING)
        assert np.trapezoid(actual.value, actual.at) == pytest.approx(1.0, abs=WHOLE)

    @pytest.mark.parametrize("points", [20, 400])
    def test_points_rise_and_lie_densest_in_the_bulk(self, points: int) -> None:
        p = heavy_p()
        p[0, 1] = 1000 * p.std()
        p[1, 0] = -p[0, 1]
        actual, entries = kde(p, points=points), finite_entries(p)
        assert points - 3 <= len(actual.at) <= points
        assert (np.diff(actual.at) > 0).all()
        ends = entries.mean() + 4 * entries.std() * np.array([-1, 1])
        bulk = actual.at[(actual.at >= ends[0] - ROUNDING) & (actual.at <= ends[1] + ROUNDING)]
        assert len(bulk) >= points // 2
        np.testing.assert_allclose(bulk[[0, -1]], ends, rtol=ROUNDING)

    @pytest.mark.parametrize("span", [(-0.1, 0.2), (-5.0, 5.0), (0.05, 7.0), (5.0, 6.0), (-6.0, -5.0)])
    def test_is_the_same_density_in_a_span(self, span: tuple[float, float]) -> None:
        p = heavy_p()  # four standard deviations from its mean are 0.6
        actual, expected = kde(p, span=span), scipy.stats.gaussian_kde(finite_entries(p))
        assert (actual.at[0], actual.at[-1]) == span
        np.testing.assert_allclose(actual.value, expected(actual.at), rtol=0, atol=BINNED * float(expected(0.0)[0]))

    @NOTHING_TO_DESCRIBE
    def test_is_empty_where_there_is_no_spread(self, p: np.ndarray) -> None:
        actual = kde(p)
        assert (len(actual.at), len(actual.value)) == (0, 0)
        assert np.isnan(actual.bandwidth)


def test_a_histogram_by_hand() -> None:
    p = np.array([[9.0, 0.0, 0.1], [0.5, 9.0, 1.0], [1.5, -1.0, 9.0]])
    # [0, 0.5) holds 0 and 0.1; [0.5, 1] holds 0.5 and 1; 1.5 and -1 lie outside and count among the six
    assert histogram(p, np.array([0.0, 0.5, 1.0])).tolist() == [2 / 6, 2 / 6]
    assert histogram(with_zero_key(np.full((4, 4), 0.3)), np.array([0.0, 0.2, 1.0])).tolist() == [0.0, 1.0]
    for nothing in (NOTHING["one fact"], NOTHING["zero keys"]):
        assert histogram(nothing, np.array([0.0, 0.5, 1.0])).tolist() == [0.0, 0.0]


APP_C = (16, 32, 48, 64, 80, 96, 112, 128)
SIZES = {1: (1,), 16: (16,), 17: (16, 17), 128: APP_C, 257: (*APP_C, 256, 257), 1000: (*APP_C, 256, 512, 1000)}


def test_convergence_sizes_by_hand() -> None:
    assert {m: convergence_sizes(m) for m in SIZES} == SIZES


class TestConvergence:
    M, DRAWS = 40, 7
    POWERS = 2.0 ** np.arange(M)[:, None] + 2.0 ** np.arange(M)  # every bit of their sums is kept

    def facts_of(self, n: int, mean: float) -> set[int]:
        """Which n facts a subset of `POWERS` held, as the mean of its P says: twice that of n powers."""
        total = round(mean * n / 2)
        return {fact for fact in range(total.bit_length()) if total >> fact & 1}

    def test_rows_are_moments_of_nested_subsets_that_differ_between_draws(self) -> None:
        actual = convergence(self.POWERS, draws=self.DRAWS, seed=3)
        assert actual.columns.tolist() == ["m", "draw", "mean", "std", "kurtosis"]
        assert actual["m"].tolist() == [16] * self.DRAWS + [32] * self.DRAWS + [40]
        assert actual["draw"].tolist() == [*range(self.DRAWS), *range(self.DRAWS), 0]
        for row in actual.itertuples():
            kept = sorted(self.facts_of(row.m, row.mean))
            assert len(kept) == row.m
            expected = moments(self.POWERS[np.ix_(kept, kept)])
            assert [row.std, row.kurtosis] == pytest.approx([expected.std, expected.kurtosis], rel=ROUNDING)
        means = actual.set_index(["m", "draw"])["mean"]
        small = [self.facts_of(16, means[16, draw]) for draw in range(self.DRAWS)]
        assert all(facts < self.facts_of(32, means[32, draw]) for draw, facts in enumerate(small))
        assert len(set(map(frozenset, small))) == self.DRAWS

    def test_the_last_row_describes_all_facts_with_a_value(self) -> None:
        p = with_zero_key(heavy_p(m=self.M))
        last, expected = convergence(p, draws=2).iloc[-1], moments(p)
        described = [last["mean"], last["std"], last["kurtosis"]]
        assert described == pytest.approx([expected.mean, expected.std, expected.kurtosis], rel=ROUNDING)

    @NOTHING_TO_DESCRIBE
    def test_has_one_row_without_a_kurtosis_where_there_is_none(self, p: np.ndarray) -> None:
        [row] = convergence(p).to_dict("records")
        assert (row["m"], row["draw"]) == (len(p), 0)
        assert np.isnan(row["kurtosis"])

    def test_of_two_facts_by_hand(self) -> None:
        [row] = convergence(TWO).to_dict("records")
        assert row == {"m": 2, "draw": 0, "mean": 0.5, "std": 0.25, "kurtosis": -2.0}
