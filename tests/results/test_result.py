"""A result: the way of a report through JSON, pairs that prompts alone explain, pairs by size, and some facts of it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from kis_core.request import RequestError
from kis_core.results.result import LayerReport, Result
from kis_core.superposition import Interval, Moments, kurtosis_interval
from kis_core.superposition.matrix import superposition
from tests.results.results_tools import made

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
        numbers = Moments(-0.1, 0.2, -0.3, 1 / 3, 2.0, 6, 1)
        shapeless = Moments(1.0, 0.0, math.nan, math.nan, -math.inf, 2, 0)
        for first, second, low in ((numbers, shapeless, 0.1), (shapeless, numbers, math.nan)):
            report = LayerReport(3, 40, math.inf, 1e-7, first, Interval(low, 0.7), second, Interval(-0.2, math.inf))
            again = LayerReport.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False)))
            np.testing.assert_equal(asdict(again), asdict(report))


class TestArtefacts:
    def test_by_hand(self, result: Result) -> None:
        assert np.argwhere(result.same_subject).tolist() == [[0, 2], [2, 0]]
        assert np.argwhere(result.same_last_token).tolist() == [[1, 3], [3, 1]]
        assert np.argwhere(result.artefacts).tolist() == [[0, 2], [1, 3], [2, 0], [3, 1]]
        assert made(np.ones((1, 1, 1))).artefacts.tolist() == [[False]]

    def test_an_edited_first_token_takes_its_whole_row(self) -> None:
        first = made(P, key_token_index=(0, 1, 2, 1), layers=(2, 5))
        assert np.argwhere(first.artefacts).tolist() == [[0, 1], [0, 2], [0, 3]]
        assert first.reports[0].clean_moments.count == 9
        assert np.argwhere(first.subset([2, 0], "two").artefacts).tolist() == [[1, 0]]

    def test_a_weak_key_is_no_artefact(self) -> None:
        sizes = np.array([[0.5, 2.0, 2.0, 2.0], [2.0, 2.0, 0.5, 2.0]])
        weak = made(P, layers=(2, 5), leverage=sizes, text_leverage=(0.1, 1.0, 2.0, 3.0, 4.0, 5.0))
        assert [weak.tags(layer).weak.tolist().index(True) for layer in (2, 5)] == [0, 2], "a layer's own"
        assert not weak.artefacts.any()
        assert weak.subset([3, 2], "two").tags(5).weak.tolist() == [False, True]
        assert weak.weak_below(5) == 1.0
        assert not made(P, layers=(2, 5), leverage=sizes).tags(2).weak.any(), "general text was not at hand"

    def test_clean_is_p_without_them(self, result: Result) -> None:
        expected = P[0].copy()
        expected[[0, 2, 1, 3], [2, 0, 3, 1]] = np.nan
        np.testing.assert_array_equal(result.clean(2), expected)
        np.testing.assert_array_equal(result.clean(5)[0], [1.0, -0.7, np.nan, np.nan])
        np.testing.assert_array_equal(result.p, P)


class TestRanking:
    def test_is_by_falling_size_and_row_by_row_among_equals(self, result: Result) -> None:
        expected = [[0, 2], [2, 0], [3, 1], [3, 0], [1, 2], [2, 3], [1, 0], [2, 1], [0, 3], [0, 1], [3, 2], [1, 3]]
        assert result.ranking(2).tolist() == expected

    def test_leaves_out_zero_keys_and_one_fact_has_no_pairs(self, result: Result) -> None:
        assert result.ranking(5).tolist() == [[0, 1], [1, 0], [2, 0], [0, 2], [2, 1], [1, 2]]
        assert made(np.ones((1, 1, 1))).ranking(0).shape == (0, 2)

    def test_a_layer_that_is_not_there_is_refused(self, result: Result) -> None:
        for ask in (result.ranking, result.clean):
            with pytest.raises(RequestError, match="layer 0 was not computed; there are 2, 5"):
                ask(0)


class TestSubset:
    KEPT = (5, 1, 4)

    def test_p_and_cosines_are_submatrices_in_the_order_asked_for(self, result: Result) -> None:
        part = result.subset([3, 0], "two")
        assert part.p.shape == (2, 2, 2)
        assert part.p[0].tolist() == [[1.0, 0.6], [-0.2, 1.0]]
        for name in ("p", "whitening_cosine", "activation_cosine"):
            np.testing.assert_array_equal(getattr(part, name), getattr(result, name)[:, [3, 0]][:, :, [3, 0]])

    def test_what_belongs_to_a_fact_stays_with_it_and_the_rest_as_it_was(self, large: Result) -> None:
        before = (large.artefacts, large.ranking(4))
        intervals = [(report.interval, report.clean_interval) for report in large.reports]
        ways = [(p, large.clean(layer)) for p, layer in zip(large.p, large.layers, strict=True)]
        assert intervals == [tuple(map(kurtosis_interval, each)) for each in ways]
        part = large.subset(self.KEPT, "three")
        assert part.facts.name == "three"
        assert [fact.subject for fact in part.facts.facts] == ["e", "b", "b"]
        for name in ("key_token_index", "key_tokens", "key_token_ids", "answers", "known"):
            assert getattr(part, name) == tuple(getattr(large, name)[k] for k in self.KEPT)
        assert (part.request, part.layers, part.facts.issues) == (large.request, large.layers, large.facts.issues)
        assert np.argwhere(part.artefacts).tolist() == [[1, 2], [2, 1]]
        assert len(part.ranking(4)) == 6
        assert large.artefacts is before[0]
        assert large.ranking(4) is before[1], "it is sorted once a layer"

    def test_the_provenance_tells_which_facts_were_kept_by_their_first_numbers(self, large: Result) -> None:
        part = large.subset(np.array(self.KEPT), "three")
        origin = json.loads(json.dumps(part.provenance))  # no number of numpy's is left in it
        assert (origin["facts"], origin["facts_count"], origin["facts_kept"]) == ("three", 3, [5, 1, 4])
        assert origin["facts_sha256"] == part.facts.fingerprint
        assert origin["facts_whole_sha256"] == large.facts.fingerprint != part.facts.fingerprint
        assert "facts_kept" not in large.provenance
        changed = {"facts", "facts_count", "facts_sha256", "facts_kept", "facts_whole_sha256"}
        unchanged = large.provenance.keys() - changed
        assert {name: part.provenance[name] for name in unchanged} == {n: large.provenance[n] for n in unchanged}
        of_part = part.subset([2, 0], "two")
        assert of_part.facts.facts == (large.facts.facts[4], large.facts.facts[5])
        assert of_part.provenance["facts_kept"] == [4, 5]

    def test_no_fact_one_twice_or_one_that_is_not_there_is_refused(self, large: Result) -> None:
        with pytest.raises(RequestError, match="no fact of made is left"):
            large.subset(np.array([], dtype=int), "none")
        for kept in ([0, 0], [7], [-1]):
            with pytest.raises(RequestError, match="facts count from 0 to 6, each once"):
                large.subset(kept, "none")
