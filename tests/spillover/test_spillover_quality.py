"""Rival scores against loops that form what the code avoids, and how good a forecast was: by hand, ties and NaN too."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core.editing import Edit
from kis_core.results.result import Result
from kis_core.spillover import Sensitivity, auc, correlations, quality
from kis_core.spillover.rivals import gradient_cosines, rivals
from tests.results.results_tools import made

EXACT = 1e-12  # the same float64 numbers summed in another order
NAMES = [
    *("|P|", "largest share of any token", "|Q| (C = I)", "cosine of keys", "GradSim", "CLaRE"),
    *("same last token", "same relation"),
]
QUALITY_COLUMNS = ["forecast", "spearman", "pearson", "spearman_size", "auc", "flips", "facts"]

LENGTHS = (3, 1, 5, 4, 2, 3)
M = len(LENGTHS)
RELATIONS = ("capital", "language", "capital", "", "", "language")
TOKENS = (7, 8, 9, 8, 7, 8)
LAYER = 4


def sensitivity(seed: int = 0, *, d: int = 4, d_m: int = 6) -> Sensitivity:
    """Random numbers of the right shapes; keys lean to one side."""
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0, *LENGTHS])
    n = starts[-1]
    return Sensitivity(
        layer=LAYER,
        starts=starts,
        key_rows=starts[:-1] + [rng.integers(length) for length in LENGTHS],
        keys=(rng.normal(size=(n, d_m)) + 0.2).astype(np.float32),
        gradients=rng.normal(size=(n, d)).astype(np.float32),
        outputs=rng.normal(size=(M, d)).astype(np.float32),
        hidden=rng.normal(size=(M, d)).astype(np.float32),
        log_odds=rng.normal(size=M),
        log_prob=-rng.uniform(size=M),
    )


def result(p: np.ndarray | None = None) -> Result:
    """Of two layers, the second one that of the edits; its P is not symmetric."""
    rng = np.random.default_rng(9)
    whole = rng.normal(size=(2, M, M)) if p is None else p
    return made(whole, relations=RELATIONS, key_token_ids=TOKENS, layers=(1, LAYER))


def edit(seed: int = 5, *, d: int = 4, d_m: int = 6) -> Edit:
    rng = np.random.default_rng(seed)
    return Edit(LAYER, rng.normal(size=d_m), rng.normal(size=d))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    dot, aa, bb = (sum(float(x) * float(y) for x, y in zip(u, v, strict=True)) for u, v in ((a, b), (a, a), (b, b)))
    return dot / (aa * bb) ** 0.5


def close(actual: np.ndarray, expected: Sequence[float] | np.ndarray) -> None:
    np.testing.assert_allclose(actual, expected, rtol=EXACT, atol=EXACT)


class TestRivals:
    @pytest.mark.parametrize("e", [0, 2, M - 1])
    def test_written_out(self, e: int) -> None:
        facts, whole, performed = sensitivity(), result(), edit()
        scores = rivals(whole, facts, performed, e)
        assert list(scores) == NAMES
        assert scores["|P|"].tolist() == [abs(whole.p[1, e, j]) for j in range(M)], "of the edited layer"
        keys = [facts.keys[row] for row in facts.key_rows]
        products = [sum(float(x) * float(y) for x, y in zip(keys[e], key, strict=True)) for key in keys]
        close(scores["|Q| (C = I)"], [abs(product) / products[e] for product in products])
        close(scores["cosine of keys"], [abs(cosine(keys[e], key)) for key in keys])
        close(scores["CLaRE"], [cosine(facts.hidden[e], state) for state in facts.hidden])
        assert scores["CLaRE"].min() < 0
        largest, matrices = [], []
        for j in range(M):
            shares, matrix = [], np.zeros((4, 6))
            for row in range(facts.starts[j], facts.starts[j + 1]):
                shares.append(sum(float(u) * float(k) for u, k in zip(performed.reach, facts.keys[row], strict=True)))
                matrix += np.outer(facts.gradients[row].astype(np.float64), facts.keys[row].astype(np.float64))
            largest.append(max(map(abs, shares)))
            matrices.append(matrix.ravel())
        close(scores["largest share of any token"], largest)
        gradients = np.array([cosine(matrices[e], matrix) for matrix in matrices])
        close(gradient_cosines(facts, e), gradients)
        close(scores["GradSim"], np.abs(gradients))
        assert gradients.min() < 0

    def test_flags_by_hand(self) -> None:
        for e, last_token, relation in (
            (0, [0, 0, 0, 0, 1, 0], [1, 0, 1, 0, 0, 0]),
            (3, [0, 1, 0, 0, 0, 1], [0] * M),  # facts without a relation have none in common
        ):
            scores = rivals(result(), sensitivity(), edit(), e)
            assert scores["same last token"].tolist() == last_token
            assert scores["same relation"].tolist() == relation

    def test_zero_keys_and_gradients_are_nan_without_a_warning(self) -> None:
        facts = sensitivity()
        facts.keys[facts.key_rows[2]] = 0
        facts.hidden[2] = 0
        facts.gradients[facts.starts[2] : facts.starts[3]] = 0
        others = [0, 1, 3, 4, 5]
        of_it, of_another = (rivals(result(), facts, edit(), e) for e in (2, 0))
        for name in ("cosine of keys", "CLaRE", "GradSim"):
            assert np.isnan(of_it[name]).all()
            assert np.isnan(of_another[name]).tolist() == [j == 2 for j in range(M)]
        assert np.isnan(of_it["|Q| (C = I)"]).all()
        assert of_another["|Q| (C = I)"][2] == 0
        assert np.isfinite(of_another["|Q| (C = I)"][others]).all()


class TestAuc:
    @given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30))
    def test_equals_a_count_of_pairs(self, drawn: list[tuple[int, bool]]) -> None:
        flips, rest = ([score for score, flag in drawn if flag is which] for which in (True, False))
        actual = auc(np.array([score for score, _ in drawn], dtype=float), np.array([flag for _, flag in drawn]))
        if not flips or not rest:
            assert np.isnan(actual)
            return
        won = sum((a > b) + (a == b) / 2 for a, b in itertools.product(flips, rest))
        assert actual == pytest.approx(won / (len(flips) * len(rest)), rel=EXACT)


class TestCorrelations:
    def test_by_hand(self) -> None:
        rank, line = correlations(np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0]))
        assert rank == pytest.approx(1 - 6 * 2 / (3 * 8), rel=EXACT)  # 1 - 6 Σ d² / n(n² - 1), ranks 1 2 3 and 1 3 2
        assert line == pytest.approx(1 / (14 / 3 * 2) ** 0.5, rel=EXACT)  # Σ xy = 1, Σ x² = 14/3, Σ y² = 2, centred
        rank, _ = correlations(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]))
        assert rank == pytest.approx((3 / 4) ** 0.5, rel=EXACT)  # ranks 1.5 1.5 3 and 1 2 3

    @pytest.mark.parametrize(
        ("x", "y"),
        [([1.0, 2.0], [2.0, 3.0]), ([], []), ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]), ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])],
    )
    def test_nan_where_there_is_none(self, x: list[float], y: list[float]) -> None:
        assert np.isnan(correlations(np.array(x), np.array(y))).all()


class TestQuality:
    DAMAGE = np.array([9.0, 1.0, 3.0, 2.0, -4.0])
    FLIPPED = np.array([True, False, True, False, False])

    def test_by_hand(self) -> None:
        score = np.array([np.pi, 1.0, 4.0, 2.0, 3.0])
        frame = quality({"one": score}, self.DAMAGE, self.FLIPPED, without=0)
        assert list(frame.columns) == QUALITY_COLUMNS
        [row] = frame.to_dict("records")
        # facts 1 to 4: scores rank 1 4 2 3, damage 2 4 3 1, its sizes 1 3 2 4
        assert row["spearman"] == pytest.approx(1 - 6 * (1 + 0 + 1 + 4) / 60, rel=EXACT)
        assert row["spearman_size"] == pytest.approx(1 - 6 * (0 + 1 + 0 + 1) / 60, rel=EXACT)
        # centred: scores -1.5 1.5 -.5 .5, damage .5 2.5 1.5 -4.5
        assert row["pearson"] == pytest.approx((-0.75 + 3.75 - 0.75 - 2.25) / (5 * 29) ** 0.5, abs=EXACT)
        assert (row["forecast"], row["auc"], row["flips"], row["facts"]) == ("one", 1.0, 1, 4)

    def test_the_size_of_a_score_with_a_sign(self) -> None:
        damage = np.array([0.0, 1.0, -2.0, 3.0, -4.0])
        frame = quality({"signless": np.abs(damage), "turned": -damage}, damage, self.FLIPPED, without=0)
        assert frame["spearman_size"].tolist() == pytest.approx([1.0, 1.0], rel=EXACT)
        assert frame["spearman"].tolist() == pytest.approx([-0.4, -1.0], rel=EXACT)  # ranks 1 2 3 4 and 3 2 4 1

    @pytest.mark.parametrize("without", [0, 2])
    def test_the_edited_fact_does_not_count_whatever_its_numbers(self, without: int) -> None:
        score = np.array([1.0, 5.0, 4.0, 2.0, 3.0])
        kept = np.arange(5) != without
        once = quality({"one": score}, self.DAMAGE, self.FLIPPED, without=without)
        changed, damaged, turned = score.copy(), self.DAMAGE.copy(), self.FLIPPED.copy()
        changed[without], damaged[without], turned[without] = -1e6, 1e6, not turned[without]
        again = quality({"one": changed}, damaged, turned, without=without)
        assert once.equals(again)
        score, damage, flipped = (np.append(x[kept], 0) for x in (score, self.DAMAGE, self.FLIPPED))
        alone = quality({"one": score}, damage, flipped.astype(bool), without=4)
        assert once.equals(alone)
        assert int(once["facts"][0]) == 4
        assert int(once["flips"][0]) == int(self.FLIPPED[kept].sum())

    def test_facts_without_a_finite_number_are_left_out(self) -> None:
        score = np.array([0.0, np.nan, 4.0, 2.0, np.inf, 1.0, 7.0])
        damage = np.array([9.0, 1.0, 3.0, np.nan, 2.0, 1.0, 5.0])
        flipped = np.array([False, True, True, False, True, False, False])
        frame = quality({"holes": score, "whole": np.arange(7.0)}, damage, flipped, without=0)
        holes, whole = frame.to_dict("records")
        assert (holes["facts"], holes["flips"]) == (3, 1)  # 2, 5 and 6
        assert holes["spearman"] == pytest.approx(1, rel=EXACT)
        assert holes["auc"] == 0.5
        assert (whole["facts"], whole["flips"]) == (5, 3)

    def test_constant_scores_and_damage_are_nan_and_without_flips_there_is_no_auc(self) -> None:
        varied, constant, none = np.arange(1.0, 6.0), np.ones(5), np.array([True, False, False, False, False])
        flat, signs = quality(
            {"flat": constant, "signs": np.array([1.0, -1, 1, -1, 1])}, self.DAMAGE, self.FLIPPED, without=0
        ).to_dict("records")
        assert np.isnan([flat["spearman"], flat["pearson"], flat["spearman_size"], signs["spearman_size"]]).all()
        assert (flat["auc"], np.isfinite(signs["spearman"])) == (0.5, True)
        [still] = quality({"varied": varied}, constant, none, without=0).to_dict("records")
        assert np.isnan([still["spearman"], still["pearson"], still["spearman_size"], still["auc"]]).all()
        assert still["flips"] == 0
