"""Scores of edits by hand, as ROME's and EasyEdit's code define them, and their means over many edits."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest

from kis_core.editing.scores import SCORES, BothObjects, MeanScores, Readings, Scores, scores_of
from kis_core.scoring.answers import ObjectReading

HALF, QUARTER, EIGHTH = math.log(0.5), math.log(0.25), math.log(0.125)


def read(*log_probs: float, right: int = 0, choice: int = 99) -> ObjectReading:
    """Tokens 0, 1, …, of which the first `right` are the model's first choice; `choice` stands at all other places."""
    tokens = tuple(range(len(log_probs)))
    return ObjectReading(tokens, tuple(t if t < right else choice for t in tokens), log_probs)


NEW, OLD = read(HALF, EIGHTH, right=1), read(QUARTER, right=1)  # both are 1/4 a token: a tie
TIE = BothObjects(NEW, OLD)
WON = BothObjects(read(HALF, HALF, EIGHTH, EIGHTH, HALF, right=3), read(QUARTER))  # new: (1/512)^(1/5)
LOST = BothObjects(read(EIGHTH), read(HALF, HALF, HALF, right=2))
NEITHER = BothObjects(ObjectReading(), ObjectReading())  # a prompt too long for the model
FIFTH = 2 ** (-9 / 5)


def test_by_hand() -> None:
    before = Readings(WON, (), (TIE, BothObjects(LOST.new, read(HALF, HALF, HALF, right=3)), LOST, NEITHER))
    after = Readings(WON, (WON, TIE, NEITHER), (TIE, LOST, BothObjects(LOST.new, read(HALF, HALF, HALF)), NEITHER))
    expected = {
        "ES": 1.0,
        "EM": FIFTH - 1 / 4,
        "PS": 1 / 2,  # of a tie neither is the likelier; what cannot be read does not count
        "PM": (FIFTH - 1 / 4) / 2,
        "NS": 2 / 3,  # here the old object is the wanted one, and a tie is no success either
        "NM": 2 * (1 / 2 - 1 / 8) / 3,
        "rewrite_acc": 3 / 5,
        "rephrase_acc": (3 / 5 + 1 / 2) / 2,
        "locality_acc": (1 + 2 / 3 + 1 / 3) / 3,
    }
    actual = scores_of(after, before)
    assert {name: getattr(actual, name) for name in SCORES} == pytest.approx(expected, rel=1e-12)


def test_length_does_not_count_and_without_prompts_there_is_no_score() -> None:
    long_one = BothObjects(read(*[math.log(0.9)] * 9, right=9), read(QUARTER))  # 0.9^9 = 0.39; a token 0.9
    alone = Readings(long_one, (), ())
    scores = scores_of(alone, alone)
    assert (scores.ES, scores.EM, scores.rewrite_acc) == (1.0, pytest.approx(0.9 - 0.25), 1.0)
    assert {getattr(scores, name) for name in SCORES if name not in ("ES", "EM", "rewrite_acc")} == {None}


def test_an_edit_that_leaves_no_numbers_has_no_success() -> None:
    broken = BothObjects(read(math.nan), read(math.nan))
    scores = scores_of(Readings(broken, (broken,), (broken,)), Readings(WON, (WON,), (BothObjects(NEW, read(HALF)),)))
    assert (scores.ES, scores.PS, scores.NS) == (0, 0, 0)
    assert (scores.EM, scores.PM, scores.NM) == (0, 0, 0)


ONE = Scores(1.0, 0.5, 0.5, 0.25, 0.8, 0.3, 1.0, 0.5, 0.9)


def test_means_count_an_edit_once_and_only_where_it_has_the_score() -> None:
    few = replace(ONE, ES=0.0, EM=-0.5, PS=None, PM=math.nan)
    over = MeanScores.over([ONE, ONE, few])
    expected = asdict(ONE) | {"ES": 2 / 3, "EM": 0.5 / 3}
    assert asdict(over.means) == pytest.approx(expected)
    assert dict(over.edits) == {name: 2 if name in ("PS", "PM") else 3 for name in SCORES}
    s = 3 / (3 / 2 + 1 / 0.5 + 1 / 0.8)
    actual = over.S
    assert actual == pytest.approx(s), "of the means, not a mean of each edit's"


@pytest.mark.parametrize(("changed", "expected"), [({"PS": 0.0}, 0.0), ({"NS": None}, None), ({"ES": None}, None)])
def test_s_is_nothing_where_one_part_is(changed: dict[str, float | None], expected: float | None) -> None:
    actual = MeanScores.over([replace(ONE, **changed)]).S
    assert actual == expected
    assert MeanScores.over([]).S is None
