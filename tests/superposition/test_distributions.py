"""Distribution of the entries of P: density, tails, the kurtosis and its interval, and how it settles with m."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from kis_core.superposition import (
    DRAWS,
    LEVEL,
    TAILS,
    Interval,
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


def normal_p(seed: int = 0, *, m: int = 30, d: int = 40) -> np.ndarray:
    return superposition(np.random.default_rng(seed).normal(size=(m, d)))


def heavy_p(seed: int = 0, *, m: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(3, size=(m, m)) / 10


def with_zero_key(p: np.ndarray, at: int = 2) -> np.ndarray:
    p = p.copy()
    p[at] = p[:, at] = np.nan
    return p


def resampled(p: np.ndarray, *, draws: int, seed: int) -> list[float]:
    """Kurtosis of each draw, the slow way: lists of facts, and every entry between two different facts in them."""
    m, found = len(p), []
    for times in np.random.default_rng(seed).multinomial(m, np.full(m, 1 / m), size=draws):
        facts = np.repeat(np.arange(m), times)
        entries = [p[a, b] for a in facts for b in facts if a != b and np.isfinite(p[a, b])]
        constant = not entries or np.ptp(entries) == 0
        found.append(float("nan") if constant else float(scipy.stats.kurtosis(entries)))
    return found


def quantiles(kurtoses: list[float], level: float) -> list[float]:
    return np.nanquantile(kurtoses, [0.5 - level / 2, 0.5 + level / 2]).tolist()


NOTHING_TO_DESCRIBE = pytest.mark.parametrize(
    "p",
    [
        np.ones((1, 1)),
        np.full((4, 4), 0.3),
        np.full((4, 4), 0.3) + 1e-15 * np.arange(16).reshape(4, 4),
        np.full((4, 4), np.nan),
        without(normal_p(m=4), np.ones((4, 4), dtype=bool)),
    ],
    ids=["one fact", "constant", "constant but for rounding", "zero keys", "all pairs taken out"],
)


class TestKurtosisInterval:
    @pytest.mark.parametrize("level", [0.5, 0.95, 1.0])
    @pytest.mark.parametrize("zero_key", [False, True])
    @pytest.mark.parametrize("m", [4, 5, 8, 12])
    def test_is_that_of_facts_really_drawn_again(self, m: int, zero_key: bool, level: float) -> None:
        p = with_zero_key(heavy_p(m=m)) if zero_key else heavy_p(m=m)
        found = kurtosis_interval(p, draws=40, level=level, seed=m)
        expected = quantiles(resampled(p, draws=40, seed=m), level)
        assert [found.low, found.high] == pytest.approx(expected, rel=ROUNDING)

    def test_leaves_out_pairs_taken_out_of_the_statistics(self) -> None:
        pairs = np.zeros((6, 6), dtype=bool)
        pairs[0, 1] = pairs[1, 0] = pairs[2, 5] = True
        p = without(heavy_p(3, m=6), pairs)
        found = kurtosis_interval(p, draws=50, seed=1)
        assert [found.low, found.high] == pytest.approx(quantiles(resampled(p, draws=50, seed=1), 0.95), rel=ROUNDING)

    def test_draws_of_constant_entries_have_no_kurtosis(self) -> None:
        p = np.array([[1.0, 0.3, 0.1, 0.7], [0.3, 1.0, 0.2, 0.15], [0.1, 0.2, 1.0, 0.5], [0.7, 0.15, 0.5, 1.0]])
        found = kurtosis_interval(p, level=1.0)  # keys of one length: two facts alone have two equal entries
        assert [found.low, found.high] == pytest.approx(quantiles(resampled(p, draws=1000, seed=0), 1.0), rel=ROUNDING)

    def test_an_outlying_key_does_not_cost_the_others_their_digits(self) -> None:
        p = np.random.default_rng(0).normal(size=(10, 10)) / 10
        p[3] *= 1e6  # a key of a thousandth of the others' length
        found = kurtosis_interval(p, draws=100)
        expected = quantiles(resampled(p, draws=100, seed=0), 0.95)
        assert [found.low, found.high] == pytest.approx(expected, rel=LOST_DIGITS)

    @pytest.mark.parametrize("offset", [1e3, -1e3])
    def test_does_not_depend_on_where_zero_is(self, offset: float) -> None:
        p = normal_p()
        found, expected = kurtosis_interval(p + offset), kurtosis_interval(p)
        assert [found.low, found.high] == pytest.approx([expected.low, expected.high], rel=ROUNDING)

    def test_the_diagonal_is_left_out(self) -> None:
        p = normal_p()
        other = p.copy()
        np.fill_diagonal(other, 1e6)
        assert kurtosis_interval(other) == kurtosis_interval(p)

    @pytest.mark.parametrize("seed", range(3))
    def test_holds_the_kurtosis_of_a_well_behaved_p(self, seed: int) -> None:
        p = normal_p(seed)
        found = kurtosis_interval(p)
        assert found.low < moments(p).kurtosis < found.high

    def test_widens_with_the_level(self) -> None:
        narrow, middle, wide = (kurtosis_interval(heavy_p(), level=level) for level in (0.5, 0.9, 0.99))
        assert wide.low < middle.low < narrow.low < narrow.high < middle.high < wide.high

    def test_is_the_same_for_the_same_seed_only(self) -> None:
        p = heavy_p()
        assert kurtosis_interval(p, seed=1) == kurtosis_interval(p, seed=1)
        assert kurtosis_interval(p, seed=1) != kurtosis_interval(p, seed=2)

    def test_its_defaults_are_the_named_ones(self) -> None:
        p = heavy_p()
        assert (DRAWS, LEVEL) == (1000, 0.95)
        assert kurtosis_interval(p) == kurtosis_interval(p, draws=1000, level=0.95, seed=0)

    @NOTHING_TO_DESCRIBE
    def test_is_nan_where_there_is_no_kurtosis(self, p: np.ndarray) -> None:
        found = kurtosis_interval(p)
        assert np.isnan([found.low, found.high]).all()

    def test_is_nan_for_two_facts(self) -> None:
        found = kurtosis_interval(np.array([[1.0, 0.25], [0.75, 1.0]]))
        assert np.isnan([found.low, found.high]).all()

    def test_three_facts_are_enough(self) -> None:
        p = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 6.0, 1.0]])
        found = kurtosis_interval(p)
        assert [found.low, found.high] == pytest.approx(quantiles(resampled(p, draws=1000, seed=0), 0.95), rel=ROUNDING)

    def test_is_nan_if_every_draw_holds_one_fact(self) -> None:
        def lonely(seed: int) -> bool:
            return np.random.default_rng(seed).multinomial(3, np.full(3, 1 / 3)).max() == 3

        seed = next(seed for seed in range(1000) if lonely(seed))
        found = kurtosis_interval(normal_p(m=3), draws=1, seed=seed)
        assert isinstance(found, Interval)
        assert np.isnan([found.low, found.high]).all()


class TestTails:
    @pytest.mark.parametrize("p", [normal_p(), with_zero_key(heavy_p())], ids=["normal", "heavy, a zero key"])
    def test_are_quantiles_beside_those_of_a_normal(self, p: np.ndarray) -> None:
        found, entries = tails(p, [0.01, 0.5, 0.8]), finite_entries(p)
        assert found.columns.tolist() == ["level", "value", "normal"]
        assert found["level"].tolist() == [0.01, 0.5, 0.8]
        assert found["value"].tolist() == [np.quantile(entries, level) for level in (0.01, 0.5, 0.8)]
        expected = scipy.stats.norm(entries.mean(), entries.std()).ppf([0.01, 0.5, 0.8])
        np.testing.assert_allclose(found["normal"], expected, rtol=ROUNDING)

    def test_reach_as_far_to_both_sides_by_default(self) -> None:
        levels = tails(normal_p())["level"].to_numpy()
        assert levels.tolist() == list(TAILS) == sorted(TAILS)
        np.testing.assert_allclose(levels + levels[::-1], 1.0)

    @pytest.mark.parametrize("p", [np.ones((1, 1)), np.full((4, 4), np.nan)], ids=["one fact", "zero keys"])
    def test_are_nan_without_entries(self, p: np.ndarray) -> None:
        found = tails(p)
        assert found["level"].tolist() == list(TAILS)
        assert found[["value", "normal"]].isna().all(axis=None)

    def test_of_constant_entries_and_of_two_facts(self) -> None:
        constant = tails(np.full((3, 3), 0.5))
        assert (constant["value"] == 0.5).all()
        assert (constant["normal"] == 0.5).all()
        assert tails(np.array([[1.0, 0.25], [0.75, 1.0]]), [0.0, 0.5, 1.0])["value"].tolist() == [0.25, 0.5, 0.75]


class TestKde:
    @pytest.mark.parametrize(
        "p",
        [heavy_p(m=128), normal_p(m=30), heavy_p(m=30), with_zero_key(heavy_p(1)), normal_p(m=3)],
        ids=["128 facts", "30 facts", "heavy tails", "a zero key", "3 facts"],
    )
    @pytest.mark.parametrize("scale", [1.0, 1e-9])
    def test_is_scipys(self, p: np.ndarray, scale: float) -> None:
        found, expected = kde(scale * p), scipy.stats.gaussian_kde(scale * finite_entries(p))
        values = expected(found.at)
        np.testing.assert_allclose(found.value, values, rtol=0, atol=BINNED * values.max())
        assert found.bandwidth == pytest.approx(float(np.sqrt(expected.covariance[0, 0])), rel=ROUNDING)

    @pytest.mark.parametrize("p", [normal_p(), with_zero_key(heavy_p())], ids=["normal", "heavy, a zero key"])
    def test_integrates_to_one(self, p: np.ndarray) -> None:
        found = kde(p)
        assert np.trapezoid(found.value, found.at) == pytest.approx(1.0, abs=WHOLE)

    def test_reaches_a_little_beyond_all_entries(self) -> None:
        found, entries = kde(heavy_p()), finite_entries(heavy_p())
        beyond = 3 * found.bandwidth
        assert found.at[0] == pytest.approx(entries.min() - beyond, rel=ROUNDING)
        assert found.at[-1] == pytest.approx(entries.max() + beyond, rel=ROUNDING)

    @pytest.mark.parametrize("points", [20, 400])
    def test_points_rise_and_lie_densest_in_the_bulk(self, points: int) -> None:
        p = heavy_p()
        p[0, 1] = 1000 * p.std()
        p[1, 0] = -p[0, 1]
        found, entries = kde(p, points=points), finite_entries(p)
        assert points - 3 <= len(found.at) <= points
        assert (np.diff(found.at) > 0).all()
        ends = entries.mean() + 4 * entries.std() * np.array([-1, 1])
        bulk = found.at[(found.at >= ends[0] - ROUNDING) & (found.at <= ends[1] + ROUNDING)]
        assert len(bulk) >= points // 2
        np.testing.assert_allclose(bulk[[0, -1]], ends, rtol=ROUNDING)

    @pytest.mark.parametrize("span", [(-0.1, 0.1), (-5.0, 5.0), (0.05, 7.0), (5.0, 6.0), (-6.0, -5.0)])
    def test_keeps_to_the_span_asked_for(self, span: tuple[float, float]) -> None:
        found = kde(heavy_p(), span=span)  # four standard deviations from the mean are 0.6
        assert (found.at[0], found.at[-1]) == span

    def test_is_the_same_density_in_a_narrower_span(self) -> None:
        found, expected = (
            kde(heavy_p(m=128), span=(-0.1, 0.2)),
            scipy.stats.gaussian_kde(finite_entries(heavy_p(m=128))),
        )
        np.testing.assert_allclose(found.value, expected(found.at), rtol=0, atol=BINNED * float(expected(0.0)[0]))

    @NOTHING_TO_DESCRIBE
    def test_is_empty_where_there_is_no_spread(self, p: np.ndarray) -> None:
        found = kde(p)
        assert (len(found.at), len(found.value)) == (0, 0)
        assert np.isnan(found.bandwidth)

    def test_two_facts(self) -> None:
        found = kde(np.array([[1.0, 0.25], [0.75, 1.0]]))
        # std with n - 1 of 0.25 and 0.75 is sqrt(1/8); two entries: 2^(-1/5) of it
        assert found.bandwidth == pytest.approx(0.125**0.5 * 2**-0.2, rel=ROUNDING)


class TestHistogram:
    def test_by_hand(self) -> None:
        p = np.array([[9.0, 0.0, 0.1], [0.5, 9.0, 1.0], [1.5, -1.0, 9.0]])
        # [0, 0.5) holds 0 and 0.1; [0.5, 1] holds 0.5 and 1; 1.5 and -1 lie outside and count among the six
        assert histogram(p, np.array([0.0, 0.5, 1.0])).tolist() == [2 / 6, 2 / 6]

    def test_shares_are_of_the_entries_that_have_a_value(self) -> None:
        p = with_zero_key(np.full((4, 4), 0.3))
        assert histogram(p, np.array([0.0, 0.2, 1.0])).tolist() == [0.0, 1.0]

    @pytest.mark.parametrize("p", [np.ones((1, 1)), np.full((4, 4), np.nan)], ids=["one fact", "zero keys"])
    def test_is_zero_without_entries(self, p: np.ndarray) -> None:
        assert histogram(p, np.array([0.0, 0.5, 1.0])).tolist() == [0.0, 0.0]


APP_C = (16, 32, 48, 64, 80, 96, 112, 128)


@pytest.mark.parametrize(
    ("m", "sizes"),
    [
        (1, (1,)),
        (2, (2,)),
        (16, (16,)),
        (17, (16, 17)),
        (100, (*APP_C[:6], 100)),
        (128, APP_C),
        (129, (*APP_C, 129)),
        (256, (*APP_C, 256)),
        (257, (*APP_C, 256, 257)),
        (436, (*APP_C, 256, 436)),
        (1000, (*APP_C, 256, 512, 1000)),
    ],
)
def test_convergence_sizes_by_hand(m: int, sizes: tuple[int, ...]) -> None:
    assert convergence_sizes(m) == sizes


@pytest.fixture(scope="module")
def facts_of() -> Callable[[int, float], set[int]]:
    """Which n facts a subset held, told by the mean of its P if P[i, j] is 2^i + 2^j: twice that of n powers."""

    def told(n: int, mean: float) -> set[int]:
        total = round(mean * n / 2)
        return {fact for fact in range(total.bit_length()) if total >> fact & 1}

    return told


class TestConvergence:
    M = 40  # powers up to 2^40 keep every bit of their sums

    def powers(self) -> np.ndarray:
        return 2.0 ** np.arange(self.M)[:, None] + 2.0 ** np.arange(self.M)

    def test_has_so_many_draws_a_size_and_one_of_all_facts(self) -> None:
        found = convergence(normal_p(m=self.M), draws=7)
        assert found.columns.tolist() == ["m", "draw", "mean", "std", "kurtosis"]
        assert found["m"].tolist() == [16] * 7 + [32] * 7 + [40]
        assert found["draw"].tolist() == [*range(7), *range(7), 0]

    def test_subsets_of_a_draw_lie_inside_each_other(self, facts_of: Callable[[int, float], set[int]]) -> None:
        found = convergence(self.powers(), draws=7).set_index(["m", "draw"])["mean"]
        for draw in range(7):
            small, large = facts_of(16, found[16, draw]), facts_of(32, found[32, draw])
            assert (len(small), len(large)) == (16, 32)
            assert small < large <= set(range(self.M))

    def test_draws_differ(self, facts_of: Callable[[int, float], set[int]]) -> None:
        found = convergence(self.powers(), draws=7).set_index(["m", "draw"])["mean"]
        assert len({frozenset(facts_of(16, found[16, draw])) for draw in range(7)}) == 7

    def test_rows_are_moments_of_their_subsets(self, facts_of: Callable[[int, float], set[int]]) -> None:
        found = convergence(self.powers(), draws=2, seed=3)
        for row in found.itertuples():
            kept = sorted(facts_of(row.m, row.mean))
            expected = moments(self.powers()[np.ix_(kept, kept)])
            assert [row.std, row.kurtosis] == pytest.approx([expected.std, expected.kurtosis], rel=ROUNDING)

    def test_the_last_row_describes_all_facts(self) -> None:
        p = with_zero_key(heavy_p(m=self.M))
        last, expected = convergence(p, draws=2).iloc[-1], moments(p)
        described = [last["mean"], last["std"], last["kurtosis"]]
        assert last["m"] == self.M
        assert described == pytest.approx([expected.mean, expected.std, expected.kurtosis], rel=ROUNDING)

    def test_is_the_same_for_the_same_seed_only(self) -> None:
        p = heavy_p(m=self.M)
        once, again, other = (convergence(p, draws=3, seed=seed) for seed in (1, 1, 2))
        assert once.equals(again)
        assert not once.equals(other)
        assert convergence(p).equals(convergence(p, draws=50, seed=0))

    @NOTHING_TO_DESCRIBE
    def test_has_one_row_without_a_kurtosis_where_there_is_none(self, p: np.ndarray) -> None:
        [row] = convergence(p).to_dict("records")
        assert (row["m"], row["draw"]) == (len(p), 0)
        assert np.isnan(row["kurtosis"])

    def test_two_facts(self) -> None:
        [row] = convergence(np.array([[1.0, 0.25], [0.75, 1.0]])).to_dict("records")
        assert row == {"m": 2, "draw": 0, "mean": 0.5, "std": 0.25, "kurtosis": -2.0}
