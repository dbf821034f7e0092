"""The network of a result: which links there are, what its facts are counted by, and where they stand."""

from __future__ import annotations

import numpy as np
import pytest

from kis_core.results import network
from kis_core.results.pairs import label_of
from kis_core.results.result import Result
from tests.results.results_tools import made

P = np.array([[[1.0, 0.6, -0.3, 0.1], [0.5, 1.0, 0.2, 0.0], [-0.4, 0.05, 1.0, np.nan], [0.1, 0.3, 0.01, 1.0]]])
AT = np.array([[0.0, 0.1], [1.0, 1.1], [2.0, 2.1], [3.0, 3.1]])


@pytest.fixture
def result() -> Result:
    return made(P, relations=["a", "b", "", "b_c"])


def test_links_are_the_pairs_from_a_least_size_on_the_strongest_first(result: Result) -> None:
    frame, count = network.links(result, 0, AT, 0.3)
    assert count == 5
    assert frame[["i", "j"]].to_numpy().tolist() == [[0, 1], [1, 0], [2, 0], [0, 2], [3, 1]]
    assert frame["p"].tolist() == [0.6, 0.5, -0.4, -0.3, 0.3]
    np.testing.assert_array_equal(frame[["x", "y", "x2", "y2"]], np.hstack([AT[frame["i"]], AT[frame["j"]]]))
    assert frame["edited"][4] == label_of(result.facts.facts[3])
    assert frame["suffers"][4] == label_of(result.facts.facts[1])
    few, all_of_them = network.links(result, 0, AT, 0.3, most=2)
    assert all_of_them == 5
    assert few["p"].tolist() == [0.6, 0.5]
    assert network.links(result, 0, AT, 0.7)[0].empty


def test_facts_count_whom_they_reach_and_who_reaches_them(result: Result) -> None:
    frame = network.nodes(result, 0, AT, 0.3)
    assert frame["reaches"].tolist() == [2, 1, 1, 1]
    assert frame["reached"].tolist() == [2, 2, 1, 0]
    assert frame["group"].tolist() == ["a", "b", "no relation", "b c"]
    assert frame["reaches"].sum() == network.links(result, 0, AT, 0.3)[1]


def test_at_first_there_are_about_as_many_links_as_facts(result: Result) -> None:
    assert network.usual_least(result, 0) == 0.3
    assert network.usual_least(made(np.full((1, 2, 2), np.nan)), 0) == network.LEAST
    assert network.usual_least(made(P * 9), 0) == network.MOST


def test_beyond_eight_relations_the_most_frequent_have_a_group_of_their_own() -> None:
    few = made(np.eye(8)[None], relations=[f"r{k}" for k in range(8)]).facts.facts
    assert network.groups(few) == [f"r{k}" for k in range(8)]
    many = made(np.eye(12)[None], relations=["z", "z", "", "", *"abcdefgh"]).facts.facts
    named = ["z", "z", "no relation", "no relation", *"abcde"]
    assert network.groups(many) == [*named, *[network.OTHERS] * 3]


def test_facts_that_are_alike_in_any_order_stand_where_they_stood(result: Result) -> None:
    whitening = np.tile(np.corrcoef(np.random.default_rng(0).normal(size=(4, 9))), (2, 1, 1))
    whole = made(np.tile(P, (2, 1, 1)), whitening=whitening)
    turned = whole.subset([2, 0, 3, 1], "turned")
    np.testing.assert_array_equal(network.places(turned), network.places(whole)[[2, 0, 3, 1]])
