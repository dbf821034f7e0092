"""A result: the way of a report through JSON, pairs that prompts alone explain, pairs by size, and some facts of it."""

from __future__ import annotations

import json
import math
from dataclasses import fields

import numpy as np
import pytest

from kis_core.request import RequestError
from kis_core.results.result import LayerReport, Result
from kis_core.superposition import Interval, Moments, kurtosis_interval, moments, without
from kis_core.superposition.matrix import superposition
from tests.results.results_tools import MLP_WIDTH, made

P = np.array(
    [
        [[1.0, 0.1, 0.9, -0.2], [0.3, 1.0, -0.5, 0.0], [0.8, 0.25, 1.0, 0.4], [0.6, 0.7, 0.05, 1.0]],
        [[1.0, -0.7, 0.2, np.nan], [0.4, 1.0, 0.1, np.nan], [0.3, 0.15, 1.0, np.nan], [np.nan] * 4],
    ]
)


@pytest.fixture
def result() -> Result:
    """Facts 0 and 2 share their subject, facts 1 and 3 their last token, in layers 2 and 5."""
    return made(P, subjects=("Malta", "Oslo", "Malta", "Anna"), key_token_ids=(8, 7, 9, 7), layers=(2, 5))


@pytest.fixture
def large() -> Result:
    """Seven facts in two layers, facts 1 and 4 about one subject."""
    rng = np.random.default_rng(0)
    subjects = ("a", "b", "c", "d", "b", "e", "f")
    p = np.stack([superposition(rng.normal(size=(7, 9))) for _ in range(2)])
    return made(p, subjects=subjects, layers=(1, 4), whitening=p / 4)


class TestLayerReport:
    def test_comes_back_from_json_as_it_was(self) -> None:
        moments, clean = Moments(-0.1, 0.2, -0.3, 1 / 3, 2.0, 6, 1), Moments(0.0, 0.1, -0.2, 2 / 3, 1.0, 4, 3)
        report = LayerReport(3, 40, 1234.5, 1e-7, moments, Interval(0.1, 0.7), clean, Interval(-0.2, 1 / 7))
        assert LayerReport.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False))) == report

    def test_infinity_and_nan_come_back_too(self) -> None:
        shapeless = Moments(1.0, 0.0, math.nan, math.nan, -math.inf, 2, 0)
        report = LayerReport(
            0, 2, math.inf, 0.0, shapeless, Interval(math.nan, 4.0), shapeless, Interval(-1.0, math.inf)
        )
        again = LayerReport.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False)))
        assert again.condition_number == math.inf
        for found in (again.moments, again.clean_moments):
            assert math.isnan(found.skewness)
            assert math.isnan(found.kurtosis)
            assert found.max == -math.inf
            assert found.mean == 1.0
        assert math.isnan(again.interval.low)
        assert again.interval.high == 4.0
        assert again.clean_interval == Interval(-1.0, math.inf)

    def test_describes_all_pairs_and_those_that_are_no_artefacts(self) -> None:
        p, artefacts = superposition(np.random.default_rng(1).normal(size=(6, 9))), np.zeros((6, 6), dtype=bool)
        artefacts[0, 3] = artefacts[3, 0] = True
        clean = without(p, artefacts)
        found = LayerReport.describe(p, artefacts, layer=3, rank=7, condition_number=10.0, ridge=1e-3)
        assert found == LayerReport(
            layer=3,
            rank=7,
            condition_number=10.0,
            ridge=1e-3,
            moments=moments(p),
            interval=kurtosis_interval(p),
            clean_moments=moments(clean),
            clean_interval=kurtosis_interval(clean),
        )
        assert (found.moments.count, found.clean_moments.count) == (30, 28)
        assert found.interval != found.clean_interval


class TestArtefacts:
    def test_by_hand(self, result: Result) -> None:
        assert np.argwhere(result.same_subject).tolist() == [[0, 2], [2, 0]]
        assert np.argwhere(result.same_last_token).tolist() == [[1, 3], [3, 1]]
        assert np.argwhere(result.artefacts).tolist() == [[0, 2], [1, 3], [2, 0], [3, 1]]

    def test_clean_is_p_without_them(self, result: Result) -> None:
        expected = [[1.0, 0.1, np.nan, -0.2], [0.3, 1.0, -0.5, np.nan], [np.nan, 0.25, 1.0, 0.4],
                    [0.6, np.nan, 0.05, 1.0]]  # fmt: skip
        np.testing.assert_array_equal(result.clean(2), expected)
        np.testing.assert_array_equal(result.clean(5)[0], [1.0, -0.7, np.nan, np.nan])
        np.testing.assert_array_equal(result.p, P)

    def test_one_fact_has_none(self) -> None:
        assert made(np.ones((1, 1, 1))).artefacts.tolist() == [[False]]


class TestRanking:
    def test_is_by_falling_size_and_row_by_row_among_equals(self, result: Result) -> None:
        expected = [[0, 2], [2, 0], [3, 1], [3, 0], [1, 2], [2, 3], [1, 0], [2, 1], [0, 3], [0, 1], [3, 2], [1, 3]]
        assert result.ranking(2).tolist() == expected

    def test_leaves_out_zero_keys(self, result: Result) -> None:
        assert result.ranking(5).tolist() == [[0, 1], [1, 0], [2, 0], [0, 2], [2, 1], [1, 2]]

    def test_is_sorted_once_a_layer(self, result: Result) -> None:
        first = result.ranking(2)
        result.ranking(5)
        assert result.ranking(2) is first

    def test_a_layer_that_is_not_there_is_refused(self, result: Result) -> None:
        for ask in (result.ranking, result.clean):
            with pytest.raises(RequestError, match="layer 0 was not computed; there are 2, 5"):
                ask(0)

    def test_one_fact_has_no_pairs(self) -> None:
        assert made(np.ones((1, 1, 1))).ranking(0).shape == (0, 2)


def test_the_length_of_a_key_is_that_of_the_provenance(result: Result) -> None:
    assert result.mlp_width == MLP_WIDTH


class TestSubset:
    KEPT = (5, 1, 4)

    def test_p_and_cosines_are_submatrices_in_the_order_asked_for(self, result: Result) -> None:
        found = result.subset([3, 0], "two")
        assert found.p.shape == (2, 2, 2)
        assert found.p[0].tolist() == [[1.0, 0.6], [-0.2, 1.0]]
        for name in ("p", "whitening_cosine", "activation_cosine"):
            whole = getattr(result, name)
            np.testing.assert_array_equal(getattr(found, name), whole[:, [3, 0]][:, :, [3, 0]])

    def test_what_belongs_to_a_fact_stays_with_it(self, large: Result) -> None:
        found = large.subset(self.KEPT, "three")
        assert found.facts.name == "three"
        assert found.facts.facts == tuple(large.facts.facts[k] for k in self.KEPT)
        assert [fact.subject for fact in found.facts.facts] == ["e", "b", "b"]
        for name in ("key_token_index", "key_tokens", "key_token_ids", "answers", "known"):
            assert getattr(found, name) == tuple(getattr(large, name)[k] for k in self.KEPT)
        assert found.answers[0][0] == ("land 5", 0.5)

    def test_what_belongs_to_the_whole_stays(self, large: Result) -> None:
        found = large.subset(self.KEPT, "three")
        assert (found.request, found.layers, found.facts.issues) == (large.request, large.layers, large.facts.issues)
        changed = {"facts", "facts_count", "facts_sha256", "facts_kept", "facts_whole_sha256"}
        assert found.provenance["facts_whole_sha256"] == large.facts.fingerprint
        kept, before = found.provenance, large.provenance
        assert {name: kept[name] for name in kept.keys() - changed} == {n: before[n] for n in before.keys() - changed}

    def test_artefacts_and_ranking_are_its_own(self, large: Result) -> None:
        before = (large.artefacts, large.ranking(4))
        found = large.subset(self.KEPT, "three")
        assert np.argwhere(found.artefacts).tolist() == [[1, 2], [2, 1]]
        assert len(found.ranking(4)) == 6
        assert large.artefacts is before[0]
        assert large.ranking(4) is before[1]

    @pytest.mark.parametrize("kept", [KEPT, (6, 5, 4, 3, 2, 1), (2,), (2, 0)])
    def test_reports_are_those_of_a_result_made_afresh(self, large: Result, kept: tuple[int, ...]) -> None:
        found = large.subset(kept, "some")
        facts = [large.facts.facts[k] for k in kept]
        afresh = made(found.p, subjects=[fact.subject for fact in facts], layers=large.layers)
        assert [one.to_json() for one in found.reports] == [one.to_json() for one in afresh.reports]

    def test_all_facts_give_the_same_numbers(self, large: Result) -> None:
        found = large.subset(range(7), "all")
        for field in fields(Result):
            if field.name not in ("facts", "provenance"):
                np.testing.assert_equal(getattr(found, field.name), getattr(large, field.name))

    def test_the_provenance_tells_which_facts_were_kept(self, large: Result) -> None:
        found = large.subset(self.KEPT, "three")
        origin = found.provenance
        assert (origin["facts"], origin["facts_count"], origin["facts_kept"]) == ("three", 3, [5, 1, 4])
        assert origin["facts_sha256"] == found.facts.fingerprint != large.facts.fingerprint
        assert "facts_kept" not in large.provenance

    def test_facts_kept_of_facts_kept_are_told_by_their_first_numbers(self, large: Result) -> None:
        found = large.subset(self.KEPT, "three").subset([2, 0], "two")
        assert found.facts.facts == (large.facts.facts[4], large.facts.facts[5])
        assert found.provenance["facts_kept"] == [4, 5]

    def test_numbers_from_numpy_leave_a_provenance_that_is_json(self, large: Result) -> None:
        kept = np.flatnonzero([False, True, False, False, True, True, False])
        found = large.subset(kept, "known")
        assert json.loads(json.dumps(found.provenance))["facts_kept"] == [1, 4, 5]

    @pytest.mark.parametrize("kept", [[], np.array([], dtype=int)], ids=["list", "array"])
    def test_no_fact_left_is_refused(self, large: Result, kept: list[int]) -> None:
        with pytest.raises(RequestError, match="no fact of made is left"):
            large.subset(kept, "none")
