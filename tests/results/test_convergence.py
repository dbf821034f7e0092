"""Is it enough: densities over more facts, P over more text, and a real analysis of too little text."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core import superposition
from kis_core.request import RequestError
from kis_core.results import convergence
from kis_core.results.convergence import by_tokens, subset_densities, token_counts, token_densities
from tests.results.results_tools import MLP_WIDTH, made

ROUNDING = 1e-12  # of a few float64 operations
COLUMNS = ["x", "middle", "low", "high", "note"]
FAR = 100.0  # entries of a fact that shows in a density


def normal_p(seed: int = 0, *, m: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(m, m)) / 10


def sizes(frame: pd.DataFrame) -> list[int]:
    return [int(size) for size in frame["size"].unique()]


class TestSubsetDensities:
    @pytest.mark.parametrize(
        ("m", "expected"),
        [
            (2, [2]),
            (16, [16]),
            (17, [16, 17]),
            (96, [16, 32, 48, 64, 80, 96]),
            (128, [16, 32, 64, 80, 112, 128]),  # of eight sizes the ones at 0, 1.4, 2.8, 4.2, 5.6, 7
            (300, [16, 48, 80, 96, 128, 300]),  # of ten, 256 among them, the ones at 0, 1.8, 3.6, 5.4, 7.2, 9
        ],
    )
    def test_sizes_by_hand(self, m: int, expected: list[int]) -> None:
        assert sizes(subset_densities(normal_p(m=m), points=10)) == expected

    def test_subsets_hold_as_many_facts_as_told_and_lie_inside_each_other(self) -> None:
        m, p = 40, normal_p(m=40)
        holding: dict[int, set[int]] = {16: set(), 32: set(), 40: set()}
        for fact in range(m):
            marked = p.copy()
            marked[fact] = FAR + p[fact]
            furthest = subset_densities(marked, points=10).groupby("size")["at"].max()
            for size in holding:
                if furthest[size] > FAR / 2:
                    holding[size].add(fact)
        assert [len(facts) for facts in holding.values()] == [16, 32, 40]
        assert holding[16] < holding[32] < holding[40]
        assert holding[16] != set(range(16))

    def test_a_zero_key_is_left_out(self) -> None:
        p = normal_p(m=20)
        p[4] = p[:, 4] = np.nan
        actual = subset_densities(p)
        kept = np.delete(np.delete(p, 4, 0), 4, 1)
        assert np.isfinite(actual[["at", "density"]]).all(axis=None)
        np.testing.assert_allclose(
            actual[actual["size"] == 20]["density"], superposition.kde(kept, points=240).value, rtol=ROUNDING
        )

    def test_a_subset_of_constant_entries_has_no_curve(self) -> None:
        m = 17

        def only(fact: int) -> np.ndarray:
            p = np.zeros((m, m))
            p[fact] = np.arange(m)
            return p

        assert sorted(sizes(subset_densities(only(fact))) for fact in range(m)) == [[16, 17]] * 16 + [[17]]

    @pytest.mark.parametrize(
        "p", [np.ones((1, 1)), np.full((20, 20), 0.3), np.full((20, 20), np.nan)], ids=["one", "constant", "zero keys"]
    )
    def test_is_empty_where_there_is_no_density(self, p: np.ndarray) -> None:
        curves = subset_densities(p)
        assert (len(curves), curves.columns.tolist()) == (0, ["at", "density", "size"])


def test_token_counts_by_hand() -> None:
    assert token_counts(100_000) == (1000, 3000, 10_000, 30_000, 100_000)
    assert token_counts(17) == (1, 2, 5, 17)  # 0.17 and 0.51 both become one token, 1.7 two, 5.1 five
    assert token_counts(1) == (1,)


@given(st.integers(1, 10**9))
def test_token_counts_rise_from_at_least_one_to_all(tokens: int) -> None:
    counts = token_counts(tokens)
    assert counts[0] >= 1
    assert counts[-1] == tokens
    assert list(counts) == sorted(set(counts))
    assert len(counts) <= 5


def test_token_densities_are_those_of_their_p_fewest_tokens_first() -> None:
    results = {tokens: made(np.stack([normal_p(tokens), normal_p(tokens + 1)])) for tokens in (30, 10)}
    curves = token_densities(results, 1, points=50)
    assert sizes(curves) == [10, 30]
    for tokens, part in curves.groupby("size"):
        expected = superposition.kde(normal_p(int(str(tokens)) + 1), points=50)
        np.testing.assert_array_equal(part["at"], expected.at)
        np.testing.assert_array_equal(part["density"], expected.value)
    assert token_densities({5: made(np.zeros((1, 4, 4)))}, 0).empty, "a constant P has no curve"


class TestByTokens:
    def test_likeness_is_to_p_over_the_most_tokens(self) -> None:
        last = normal_p(0)
        ps = {10: normal_p(1), 300: last, 90: 0.3 - 2 * last}
        _, likeness = by_tokens({tokens: made(p[None]) for tokens, p in ps.items()}, 0)
        off = ~np.eye(len(last), dtype=bool)
        first = np.corrcoef(ps[10][off], last[off])[0, 1]
        assert likeness.columns.tolist() == COLUMNS
        assert likeness["x"].tolist() == [10, 90, 300]
        assert likeness["middle"].tolist() == pytest.approx([first, -1.0, 1.0], abs=ROUNDING)
        assert likeness["low"].tolist() == likeness["high"].tolist() == likeness["middle"].tolist(), "no interval"

    def test_notes_tell_the_ridge_and_rank_of_the_layer(self) -> None:
        results = {20: made(np.stack([normal_p(), normal_p(1)])), 10: made(normal_p(2)[None], layers=[1])}
        kurtosis, likeness = by_tokens(results, 1)
        assert kurtosis["note"].tolist() == likeness["note"].tolist() == [f"ridge 1.0e-09, rank {MLP_WIDTH - 1}"] * 2
        kurtosis, likeness = by_tokens({20: results[20]}, 0)
        assert kurtosis["note"].tolist() == likeness["note"].tolist() == ["no ridge"]

    def test_a_layer_is_found_by_its_number(self) -> None:
        last, few = normal_p(0), normal_p(1)
        results = {
            300: made(np.stack([normal_p(5), normal_p(6), last]), layers=[2, 3, 7]),
            10: made(np.stack([normal_p(8), few]), layers=[3, 7], subjects=["Malta", "Malta", *"abcdefghijklmnopqr"]),
        }
        kurtosis, likeness = by_tokens(results, 7)
        expected = superposition.correlation(few, last)
        assert likeness["middle"].tolist() == pytest.approx([expected, 1.0], abs=ROUNDING)
        assert kurtosis["middle"].tolist() == [superposition.moments(p).kurtosis for p in (few, last)], "of all pairs"
        interval = superposition.kurtosis_interval(few)
        assert (kurtosis["low"][0], kurtosis["high"][0]) == (interval.low, interval.high)
        with pytest.raises(RequestError, match="layer 4 was not computed"):
            by_tokens(results, 4)

    def test_a_zero_key_and_a_constant_p(self) -> None:
        zero_key, constant = normal_p(1), np.full((20, 20), 0.3)
        zero_key[4] = zero_key[:, 4] = np.nan
        results = {10: made(constant[None]), 20: made(zero_key[None]), 30: made(normal_p()[None])}
        kurtosis, likeness = by_tokens(results, 0)
        assert kurtosis["middle"].isna().tolist() == likeness["middle"].isna().tolist() == [True, False, False]
        assert kurtosis[["low", "high"]].isna().any(axis=1).tolist() == [True, False, False]


def test_looks_by_hand() -> None:
    looks = [[100, 0, 0.5], [100, 2, 0.3], [100, 4, 0.1], [150, 0, None], [150, 2, 0.2]]
    rows = convergence.settling(looks).itertuples(index=False, name=None)
    assert list(rows) == [(100, 0.3, 0.1, 0.5, "layers 0, 2, 4"), (150, 0.2, 0.2, 0.2, "layers 2")]
    assert list(convergence.settling([]).columns) == COLUMNS
