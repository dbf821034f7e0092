"""One pair in full, and the orders of facts along the axes, on a result written by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from kis_core.analysis.pipeline import Request, RequestError, Result
from kis_core.facts import Fact, FactSet
from kis_core.results.pairs import first_shown, inspect, partner, strongest_between_subjects
from kis_core.superposition.ordering import order_facts

ANGLE = 1e-9  # degrees; arccos of cosines that float64 holds to 1e-16, away from 0 and 180

FACTS = (
    Fact("malta", "The capital of {} is", "Valletta", "country_capital"),
    Fact("Oslo", "{} is in", "Norway", "city_country"),
    Fact("malta", "{} lies in", "Europe", "country_continent"),
    Fact("Anna", "{} sings", "songs"),
)
P = np.array(
    [
        [[1.0, 0.1, 0.9, -0.2], [0.3, 1.0, -0.5, 0.0], [0.8, 0.2, 1.0, 0.4], [0.6, 0.7, 0.05, 1.0]],
        [[1.0, -0.7, 0.2, np.nan], [0.4, 1.0, 0.1, np.nan], [0.3, 0.2, 1.0, np.nan], [np.nan] * 4],
    ]
)
COSINE = math.cos(math.radians(60))


@pytest.fixture
def result() -> Result:
    whitening, activation = np.full((2, 4, 4), COSINE), np.full((2, 4, 4), -COSINE)
    for cosines in (whitening, activation):
        cosines[:, range(4), range(4)] = 1.0
        cosines[1, 3] = cosines[1, :, 3] = np.nan
    return Result(
        request=Request(layers=(2, 5)),
        facts=FactSet("by hand", FACTS),
        layers=(2, 5),
        p=P,
        whitening_cosine=whitening,
        activation_cosine=activation,
        leverage=np.array([[2.0, 3.0, 0.5, 1.0], [1.0, 2.0, 3.0, 0.0]]),
        text_leverage=np.array([[0.5, 1.0, 2.0, 3.0, 4.0, 5.0], [np.nan] * 6]),
        reports=(),
        key_token_index=(3, 1, 0, 1),
        key_tokens=("ta", "slo", "ta", "slo"),
        key_token_ids=(8, 7, 9, 7),  # tokens 8 and 9 read the same and are not the same
        answers=(),
        known=(True, False, True, True),
        provenance={},
        key="superposition-0",
    )


class TestInspect:
    def test_by_hand(self, result: Result) -> None:
        pair = inspect(result, 2, 0, 2)
        assert (pair.i, pair.j) == (0, 2)
        assert (pair.p, pair.p_back) == (0.9, 0.8)
        assert pair.p_by_layer == (0.9, 0.2)
        assert pair.p_back_by_layer == (0.8, 0.3)
        assert pair.whitened_angle == pytest.approx(60.0, abs=ANGLE)
        assert pair.activation_angle == pytest.approx(120.0, abs=ANGLE)
        assert pair.tags == ("same subject",), "a token is known by its number"
        assert (pair.leverage, pair.leverage_back) == (2.0, 0.5)
        assert inspect(result, 2, 2, 0).tags == ("same subject", "first token", "weak key"), "of the edited fact"
        assert inspect(result, 5, 2, 0).tags == ("same subject", "first token"), "general text was not at hand there"
        other = inspect(result, 2, 1, 3)
        assert other.tags == ("same last token",)
        itself = inspect(result, 2, 1, 1)
        assert (itself.p, itself.p_back, itself.whitened_angle) == (1.0, 1.0, 0.0)
        assert itself.tags == inspect(result, 2, 2, 2).tags == (), "a fact with itself has no tag"
        empty = inspect(result, 5, 3, 0)
        assert np.isnan([empty.p, empty.p_back, empty.whitened_angle, empty.activation_angle]).all(), "of a zero key"
        assert empty.p_by_layer[0] == 0.6

    def test_a_layer_is_a_number_of_the_model_and_not_a_position(self, result: Result) -> None:
        assert (inspect(result, 5, 0, 1).p, inspect(result, 5, 0, 1).p_back) == (-0.7, 0.4)
        for layer in (0, 1, -1):
            with pytest.raises(RequestError, match=f"layer {layer} was not computed; there are 2, 5"):
                inspect(result, layer, 0, 1)

    @pytest.mark.parametrize(("i", "j"), [(4, 0), (0, -1)])
    def test_facts_that_are_not_there_are_refused(self, result: Result, i: int, j: int) -> None:
        with pytest.raises(RequestError, match=rf"from 0 to 3; the pair \({i}, {j}\)"):
            inspect(result, 2, i, j)


def test_the_strongest_between_subjects_by_falling_size_without_zero_keys(result: Result) -> None:
    assert strongest_between_subjects(result, 5).tolist() == [[0, 1], [1, 0], [2, 1], [1, 2]]
    pairs = strongest_between_subjects(result, 2).tolist()
    assert pairs[:3] == [[3, 1], [3, 0], [1, 2]]
    assert [0, 2] not in pairs
    assert len(pairs) == 10


def test_the_first_pair_shown_and_a_partner_have_no_tag_where_there_is_one_without(result: Result) -> None:
    """At layer 2 the strongest pairs are (0, 2) of one subject, (2, 0), and (3, 1) of one last token."""
    assert first_shown(result, 2) == (3, 0)
    assert [partner(result, 2, i) for i in range(4)] == [3, 2, 0, 0], "all pairs of fact 2 have a tag"
    assert first_shown(result, 5) == (0, 1)
    assert partner(result, 5, 3) == 3, "its key is zero"
    every = replace(result, facts=FactSet("one subject", (FACTS[0],) * 4))
    assert first_shown(every, 2) == (0, 2), "then the strongest"
    assert partner(every, 2, 0) == 2
    assert first_shown(replace(result, key_token_ids=(7,) * 4), 2) == (3, 1), "then the strongest between two subjects"
    assert first_shown(replace(result, p=np.full((2, 4, 4), np.nan)), 2) is None


class TestOrderFacts:
    def test_by_index_subject_or_relation_and_by_index_among_equals(self) -> None:
        order, labels = order_facts(FACTS, P[0], "index")
        assert (order.tolist(), labels) == ([0, 1, 2, 3], ["0 malta", "1 Oslo", "2 malta", "3 Anna"])
        order, labels = order_facts(FACTS, P[0], "subject")
        assert order.tolist() == [3, 0, 2, 1], "whatever its case"
        assert [labels[k] for k in order] == ["Anna", "malta", "malta", "Oslo"]
        order, labels = order_facts(FACTS, P[0], "relation")
        assert order.tolist() == [1, 0, 2, 3]
        assert [labels[k] for k in order] == ["city country", "country capital", "country continent", "no relation"]

    def test_by_similarity_puts_the_strongest_side_by_side(self) -> None:
        order, labels = order_facts(FACTS, P[0], "similarity")
        positions = order.tolist()
        assert sorted(positions) == [0, 1, 2, 3]
        assert abs(positions.index(0) - positions.index(2)) == 1
        assert abs(positions.index(1) - positions.index(3)) == 1
        assert labels == ["malta", "Oslo", "malta", "Anna"]
