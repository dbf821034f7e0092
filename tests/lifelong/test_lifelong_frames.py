"""Traces of sequences of edits, and what is said of them, on one small enough to reckon by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kis_core.facts import Fact
from kis_core.lifelong import frames, summary
from kis_core.lifelong.summary import HalfLife
from kis_core.lifelong.trace import EDITS, OF_EDITS, STEPS, EditTrace, from_entry, to_entry
from kis_core.store.store import Store
from tests.lifelong.lifelong_tools import assert_same

NAN = math.nan
EXACT = 1e-12
FACTS = tuple(Fact(f"Subject {j}", "{} is", f"answer {j}", "kind") for j in range(6))
UNRELATED = (1, 2, 4, 5)


def lower(values: list[list[float]], width: int, fill: float) -> np.ndarray:
    return np.array([[*row, *([fill] * (width - len(row)))] for row in values])


def trace(**changed: Any) -> EditTrace:
    """Five edits, measured after 0, 2, 4 and 5; four unrelated facts, of which the third was never known."""
    queue = tuple((f"S{i}", "{} was", f"old {i}", "kind", f"new {i}") for i in range(5))
    made = [0, 2, 4, 5]
    ranks = [[], [1, 3], [1, 1, 2, 1], [2, 1, 2, 1, 1]]
    odds = [[], [1.0, -2.0], [2.0, 3.0, -1.0, 4.0], [-1.0, 2.5, -1.5, 3.0, 5.0]]
    moved = [[], [0.3, 0.0], [0.6, 0.2, 0.2, 0.0], [0.4, 0.3, 1.2, 0.0, 0.0]]
    parts: dict[str, Any] = {
        "queue": queue,
        "unrelated": np.array(UNRELATED),
        "steps": np.array(made),
        "log_odds": np.array([[4.0, 2, -1, 3], [3, 2.5, -1, 1], [1, 2, NAN, -1], [-1, 1, -2, -2]]),
        "log_prob": np.log([[0.9, 0.8, 0.1, 0.5], [0.4, 0.8, 0.1, 0.5], [0.25, 0.5, 0.5, 0.25], [0.1, 0.1, 0.1, 0.1]]),
        "rank": np.array([[1, 1, 9, 1], [1, 1, 1, 2], [2, 1, 1, 2], [3, 4, 1, 9]]),
        "subject_token": np.array([[0.0, 0, 0, 0], [-1, 0, 5, -2], [-2, 1, 5, -3], [-4, -1, 5, -2]]),
        "all_tokens": np.array([[0.0, 0, 0, 0], [-1, 1, 5, NAN], [-3, 1, 5, -5], [-6, -1, 5, -2]]),
        "renewed": np.array([[0.0, 0, 0, 0], [-1, 0, 4, -1], [-2, 0, 4, -3], [-4, -3, 1, -6]]),
        "shift": np.array([[0.0, 0, 0, 0], [1, 1, 1, 1], [3, 0, 4, 0], [6, 8, 0, 0]]),
        "shift_forecast": np.array([[0.0, 0, 0, 0], [1, 1, 1, 1], [3, 0, 4, 0], [5, 1, 9, 3]]),
        "shift_error": np.array([[0.0, 0, 0, 0], [0.1, 0.1, 0.1, 0.1], [0, 0, 0, 1], [0.6, 0.8, 0, 0]]),
        "edited_log_odds": lower(odds, 5, NAN),
        "edited_log_prob": -np.abs(lower(odds, 5, NAN)),
        "edited_rank": lower(ranks, 5, 0).astype(np.int64),
        "edited_shift": lower(moved, 5, NAN),
        "edited_shift_forecast": lower(moved, 5, NAN) * 2,
        "edited_shift_error": lower(moved, 5, NAN) / 4,
        "drift": np.array([[0.0, 0.0], [0.1, 0.5], [0.2, 0.6], [0.4, 0.7]]),
        "condition": np.array([[7.0, 1.0], [8, 1], [math.inf, 1], [NAN, 1]]),
        "perplexity": np.array([10.0, 12.0, 40.0, math.inf]),
        "words": tuple(((f"S{n} was", f" said {n}"), ("S0 was", " ü")) for n in made),
        "took": np.array([True, False, True, True, False]),
        "made": np.array([True, False, True, True, True]),
        "own_key": np.array([False, False, True, False, False]),
        "size": np.array([1.0, 0, 3, 4, 5]),
        "contributions": np.array([[-1.0, 1, 2, 0], [0, 0, 3, 0], [-4, 0, 0, NAN], [2, 0, 0, -3], [-3, -2, 0, 1]]),
        "shares": np.array([[0.1, 0.2, 0.3, 0.4], [0, 0, 0, 0], [0.5, 0, 0, NAN], [0.6, 0, 0, 0.7], [0.8, 0.9, 0, 0]]),
        "text": "some text",
    }
    return EditTrace(**parts | changed)


def recalled(shares: list[float], steps: list[int] | None = None) -> EditTrace:
    """A trace of ten facts known at first, of which that share is known at each step."""
    rank = np.array([[1] * round(10 * share) + [2] * round(10 - 10 * share) for share in shares])
    return trace(rank=rank, steps=np.array(steps or range(0, 10 * len(shares), 10)), log_odds=np.zeros(rank.shape))


class TestTrace:
    def test_can_be_stopped_anywhere(self) -> None:
        whole = trace()
        assert (whole.edits, whole.until(0).edits, replace(whole, steps=np.array([])).edits) == (5, 0, 0)
        for asked, rows, edits in ((0, 1, 0), (1, 1, 0), (2, 2, 2), (3, 2, 2), (4, 3, 4), (5, 4, 5), (99, 4, 5)):
            part = whole.until(asked)
            assert (len(part.steps), part.edits, len(part.words), len(part.queue)) == (rows, edits, rows, edits)
            for name in STEPS:
                expected = getattr(whole, name)[:rows]
                expected = expected[:, :edits] if name in OF_EDITS else expected
                np.testing.assert_array_equal(getattr(part, name), expected)
            for name in EDITS:
                np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[:edits])
            assert part.queue == whole.queue[:edits]
            assert part.words == whole.words[:rows]
            assert (part.text, part.unrelated.tolist()) == (whole.text, list(UNRELATED))

    def test_the_row_at_or_before_so_many_edits(self) -> None:
        assert [trace().at(step) for step in (-1, 0, 1, 2, 3, 4, 5, 1000)] == [0, 0, 0, 1, 1, 2, 3, 3]

    def test_through_the_store_and_back(self, tmp_path: Any) -> None:
        store = Store(tmp_path)
        for name, whole in (("trace", trace()), ("begun", trace().until(0))):
            written = to_entry(whole)
            store.put(name, written.meta, written.arrays | {"state.total": np.zeros(3)})
            assert_same(from_entry(store.get(name)), whole)


class TestSummary:
    def test_recall_retention_and_newest_by_hand(self) -> None:
        np.testing.assert_allclose(summary.recall(trace()), [1, 2 / 3, 1 / 3, 0], rtol=EXACT)  # of what was known
        np.testing.assert_allclose(summary.retention(trace()), [NAN, 1 / 2, 3 / 4, 3 / 5], rtol=EXACT)
        np.testing.assert_allclose(summary.newest(trace()), [NAN, 1 / 2, 1, 0], rtol=EXACT)
        unrelated, edited = summary.exactness(trace())
        assert (unrelated, edited) == (pytest.approx(0.1, rel=EXACT), pytest.approx(0.25, rel=EXACT))
        assert np.isnan(summary.exactness(trace(shift=np.zeros((4, 4))))[0])

    def test_where_nothing_was_known_or_nothing_is_edited_yet(self) -> None:
        for rank in (np.full((4, 4), 2), np.empty((4, 0), dtype=int)):
            assert np.isnan(summary.recall(trace(rank=rank))).all()
            assert summary.half_life(trace(rank=rank)) == HalfLife(5.0, False)
        begun = trace().until(0)
        assert summary.recall(begun).tolist() == [1.0]
        assert np.isnan([*summary.retention(begun), *summary.newest(begun), *summary.exactness(begun)]).all()
        assert summary.half_life(begun) == HalfLife(0.0, False)

    @pytest.mark.parametrize(
        ("shares", "steps", "edits", "reached"),
        [
            ([1, 0.8, 0.4, 0.2], [0, 10, 20, 30], 17.5, True),
            ([1, 0.5, 0.4], [0, 10, 20], 10, True),  # at a half it is forgotten
            ([1, 0], [0, 5], 2.5, True),  # before the first measurement
            ([1, 0.9, 0.6], [0, 10, 25], 25, False),  # never
            ([1, 0.4, 0.9, 0.1], [0, 10, 20, 30], 10 * 5 / 6, True),  # the first time counts
            ([1, 0.6, 0.3], [0, 10, 13], 11, True),  # steps of other lengths
        ],
    )
    def test_half_life(self, shares: list[float], steps: list[int], edits: float, reached: bool) -> None:
        actual = summary.half_life(recalled(shares, steps))
        assert (actual.edits, actual.reached) == (pytest.approx(edits, rel=EXACT), reached)

    def test_over_seeds_by_hand(self) -> None:
        """ln 2, ln 4, ln 16 in units of ln 2: mean 7/3, spread √(7/3); Student's t of 2 degrees at 97.5 % is 4.3027."""
        actual = summary.over_seeds([HalfLife(2, True), HalfLife(4, False), HalfLife(16, True)])
        reach = 4.302652729911275 * math.sqrt(7 / 3) / math.sqrt(3)
        assert actual.middle == pytest.approx(2 ** (7 / 3), rel=EXACT)
        ends = [2 ** (7 / 3 - reach), 2 ** (7 / 3 + reach)]
        assert [actual.low, actual.high] == pytest.approx(ends, rel=1e-9)
        assert (actual.runs, actual.unreached) == (3, 1)
        one = summary.over_seeds([HalfLife(12.5, False)])
        assert (one.middle, one.runs, one.unreached) == (pytest.approx(12.5, rel=EXACT), 1, 1)
        assert np.isnan([one.low, one.high]).all()
        short = summary.over_seeds([HalfLife(0.0, True), HalfLife(0.25, True)])  # less than one edit counts as one
        assert (short.middle, short.low, short.high, short.unreached) == (1, 1, 1, 0)
        with pytest.raises(ValueError, match="no run"):
            summary.over_seeds([])

    def test_forecasts_by_hand(self) -> None:
        """Of the known ones (0, 1, 3): loss 5, 1, 5 at the end."""
        actual = summary.forecasts(trace(), 3)
        loss = np.array([5.0, 1, 5])
        scores = {"shift": [5.0, 1, 3], "subject": [4.0, 1, 2], "all": [6.0, 1, 2], "renewed": [4.0, 3, 6]}
        ranks = {"shift": [3, 1, 2], "subject": [3, 1, 2], "all": [3, 1, 2], "renewed": [2, 1, 3]}
        assert list(actual) == ["shift", "subject", "all", "renewed"]
        for name, (rank, line) in actual.items():
            assert rank == pytest.approx(np.corrcoef(ranks[name], [2.5, 1, 2.5])[0, 1], rel=1e-9)
            assert line == pytest.approx(np.corrcoef(scores[name], loss)[0, 1], rel=1e-9)

    def test_stand_ins_and_their_ranks_added_to_those_of_renewed_gradients(self) -> None:
        actual = summary.forecasts(trace(), 3, np.array([-9.0, -1, NAN, -5]))
        assert actual["stand_ins"][0] == pytest.approx(np.corrcoef([3, 1, 2], [2.5, 1, 2.5])[0, 1], rel=1e-9)
        assert actual["both"][0] == pytest.approx(1), "stand-ins say 0 is the worst, renewed gradients 3: both lost 5"

    def test_forecasts_pass_over_what_is_no_number(self) -> None:
        at_first, later = summary.forecasts(trace(), 0), summary.forecasts(trace(), 1)
        assert np.isnan([*at_first.values()]).all()
        assert np.isnan(later["all"]).all(), "two facts are left"
        assert np.isfinite(later["subject"]).all()
        assert np.isnan(later["shift"]).all(), "all alike"


class TestCurve:
    def test_by_hand(self) -> None:
        table = frames.curve(trace())
        expected = {
            "edits": [0, 2, 4, 5],
            "recall": [1, 2 / 3, 1 / 3, 0],
            "probability": [0.036**0.25, 0.016**0.25, 0.015625**0.25, 0.1],
            "rank": [1, 1, 1.5, 3.5],
            "retention": [NAN, 0.5, 0.75, 0.6],
            "edited_probability": [NAN, math.exp(-1.5), math.exp(-2.5), math.exp(-2.6)],
            "newest_took": [NAN, 0.5, 1, 0],
            "dlogodds_measured": [0, -0.625, -7 / 3, -3],
            "dlogodds_subject_token": [0, 0.5, 0.25, -0.5],
            "dlogodds_all_tokens": [0, 5 / 3, -0.5, -1],
            "dlogodds_renewed": [0, 0.5, -0.25, -3],
            "shift_measured": [0, 1, 2.5, 5],
            "shift_forecast": [0, 1, 2.5, math.sqrt(116) / 2],
            "shift_error": [NAN, 0.1, 0.2, 0.1],
            "edited_shift_measured": [0, 0.3 / math.sqrt(2), math.sqrt(0.44) / 2, 1.3 / math.sqrt(5)],
            "edited_shift_forecast": [0, 0.6 / math.sqrt(2), math.sqrt(0.44), 2.6 / math.sqrt(5)],
            "edited_shift_error": [NAN, 0.25, 0.25, 0.25],
            "drift": [0, 0.1, 0.2, 0.4],
            "condition": [7, 8, math.inf, NAN],
            "perplexity": [10, 12, 40, math.inf],
            "edit_size": [NAN, 1, 3.5, 5],
        }
        assert list(table.columns) == list(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(table[name], values, rtol=1e-9, atol=EXACT, err_msg=name)

    def test_with_every_fact_edited(self) -> None:
        of_facts = ("log_odds", "log_prob", "rank", "subject_token", "all_tokens", "renewed", "shift", "shift_forecast")
        none = {name: np.empty((4, 0)) for name in (*of_facts, "shift_error")}
        empty = trace(**none | {name: np.empty((5, 0)) for name in ("contributions", "shares")}, unrelated=np.array([]))
        table = frames.curve(empty)
        for name in ("recall", "probability", "rank", "dlogodds_measured", "dlogodds_all_tokens", "shift_error"):
            assert table[name].isna().all(), name
        assert table["shift_measured"].tolist() == [0, 0, 0, 0]
        assert table["retention"].tolist()[1:] == [0.5, 0.75, 0.6]
        assert not len(frames.damage(empty, FACTS))


class TestFacts:
    def test_by_hand(self) -> None:
        table = frames.facts(trace(), FACTS)
        assert len(table) == 4 * 4 + (0 + 2 + 4 + 5)
        last = table[(table["edits"] == 5) & (table["kind"] == "unrelated")].reset_index(drop=True)
        assert last["index"].tolist() == list(UNRELATED)
        assert last["subject"].tolist() == [FACTS[j].subject for j in UNRELATED]
        assert last["answer"].tolist() == [FACTS[j].target for j in UNRELATED]
        assert last["age"].isna().all()
        np.testing.assert_allclose(last["probability"], 0.1)
        assert last["rank"].tolist() == [3, 4, 1, 9]
        assert last["dlogodds_measured"].tolist() == [-5, -1, -1, -5]
        assert last["dlogodds_subject_token"].tolist() == [-4, -1, 5, -2]
        assert last["dlogodds_all_tokens"].tolist() == [-6, -1, 5, -2]
        assert last["dlogodds_renewed"].tolist() == [-4, -3, 1, -6]
        assert last["shift_measured"].tolist() == [6, 8, 0, 0]
        assert last["shift_forecast"].tolist() == [5, 1, 9, 3]

    def test_edited_facts_by_hand(self) -> None:
        table = frames.facts(trace(), FACTS, [3])
        edited = table[table["kind"] == "edited"].reset_index(drop=True)
        assert set(table["edits"]) == {5}
        assert edited["index"].tolist() == [0, 1, 2, 3, 4]
        assert edited["subject"].tolist() == ["S0", "S1", "S2", "S3", "S4"]
        assert edited["answer"].tolist() == ["new 0", "new 1", "new 2", "new 3", "new 4"]
        assert edited["age"].tolist() == [4, 3, 2, 1, 0]
        assert edited["rank"].tolist() == [2, 1, 2, 1, 1]
        assert edited["dlogodds_measured"].tolist() == [-2, 4.5, -0.5, -1, 0], "since first measured"
        assert edited["dlogodds_all_tokens"].isna().all()
        np.testing.assert_allclose(edited["probability"], np.exp([-1, -2.5, -1.5, -3, -5]))
        np.testing.assert_allclose(edited["shift_measured"], [0.4, 0.3, 1.2, 0, 0])
        np.testing.assert_allclose(edited["shift_forecast"], [0.8, 0.6, 2.4, 0, 0])
        assert set(frames.facts(trace(), FACTS, [0])["kind"]) == {"unrelated"}


class TestByAge:
    def test_by_hand(self) -> None:
        rank = np.ones((2, 60), dtype=np.int64)
        rank[1, [0, 1, 2, 20, 59]] = 2  # ages 59, 58, 57, 39 and 0
        table = frames.by_age(trace(steps=np.array([0, 60]), edited_rank=rank))
        assert table.to_numpy().tolist() == [
            [60, "0–9 edits ago", 9 / 10, 10],
            [60, "10–24 edits ago", 1.0, 15],
            [60, "25–49 edits ago", 24 / 25, 25],
            [60, "50–99 edits ago", 7 / 10, 10],
        ]
        every = frames.by_age(trace(steps=np.array([0, 2000]), edited_rank=np.ones((2, 2000), dtype=np.int64)))
        assert every["count"].tolist() == [10, 15, 25, 50, 100, 1800]
        assert every["age"].iloc[-1] == "200+ edits ago"
        empty = frames.by_age(trace().until(0))
        assert (len(empty), list(empty.columns)) == (0, ["edits", "age", "share", "count"])


class TestOfFacts:
    def test_theory(self) -> None:
        table = frames.theory(trace()).set_index(["kind", "edits"])["change"]
        for kind, values in {
            "measured": [0, -0.625, -7 / 3, -3],
            "forecast, gradients renewed": [0, 0.5, -0.25, -3],
            "forecast, all tokens": [0, 5 / 3, -0.5, -1],
            "forecast, subject token": [0, 0.5, 0.25, -0.5],
        }.items():
            np.testing.assert_allclose(table[kind], values, rtol=EXACT)

    def test_the_first_to_fall_is_on_top(self) -> None:
        """Wrong at 2, 1, 1 and 3 steps; of the two alike, the one with the lower log-odds at the end."""
        assert frames.falling_order(trace()).tolist() == [3, 0, 2, 1]
        lost = trace(log_odds=np.where(np.arange(4) == 1, NAN, trace().log_odds))
        assert frames.falling_order(lost).tolist() == [3, 0, 1, 2], "what is no number fell lowest"

    def test_damage(self) -> None:
        whole = trace()
        for by, changes in (("renewed", whole.renewed), ("all", whole.all_tokens), ("subject", whole.subject_token)):
            np.testing.assert_array_equal(frames.damage(whole, FACTS, by)["change"], changes.ravel())
        table, changes = frames.damage(whole, FACTS, "measured"), whole.log_odds - whole.log_odds[0]
        assert len(table) == 16
        for (edits, end), values, rank in zip([(0, 2), (2, 4), (4, 5), (5, 6)], changes, whole.rank, strict=True):
            cells = table[table["from"] == edits]
            assert set(cells["to"]) == {end}
            assert cells["row"].tolist() == [1, 3, 2, 0]
            assert cells["fact"].tolist() == list(UNRELATED)
            np.testing.assert_array_equal(cells["change"], values)
            assert cells["rank"].tolist() == rank.tolist()
            assert cells["answers"].tolist() == ["right" if r == 1 else "wrong" for r in rank]
            assert all(FACTS[j].subject in name for j, name in zip(UNRELATED, cells["told"], strict=True))
        assert set(frames.damage(whole.until(0), FACTS)["to"]) == {1}

    def test_history(self) -> None:
        table = frames.history(trace(), 3).set_index(["kind", "edits"])["change"]
        assert table["measured"].tolist() == [0, -2, -4, -5]
        assert table["forecast, subject token"].tolist() == [0, -2, -3, -2]
        np.testing.assert_array_equal(table["forecast, all tokens"], [0, NAN, -5, -2])

    def test_culprits_worst_first_of_the_edits_so_far(self) -> None:
        table = frames.culprits(trace(), 0, 3, most=3)
        assert table["edit"].tolist() == [3, 5, 1]
        assert table["subject"].tolist() == ["S2", "S4", "S0"]
        assert table["change"].tolist() == ["old 2 → new 2", "old 4 → new 4", "old 0 → new 0"]
        assert table["p"].tolist() == [0.5, 0.8, 0.1]
        assert table["dlogodds_all_tokens"].tolist() == [-4, -3, -1]
        assert frames.culprits(trace(), 0, 2)["edit"].tolist() == [3, 1, 2, 4]
        assert not len(frames.culprits(trace(), 0, 0))
        assert frames.culprits(trace(), 3, 3)["edit"].tolist() == [4, 1, 2, 5, 3]

    def test_whose_answers_turned(self) -> None:
        one, two, three, four = UNRELATED
        assert frames.turned(trace(), 0) == ([], [])
        assert frames.turned(trace(), 1) == ([four], [three])
        assert frames.turned(trace(), 2) == ([one], [])
        assert frames.turned(trace(), 3) == ([two], [])
