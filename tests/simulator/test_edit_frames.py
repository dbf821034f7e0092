"""What is drawn of an edit: forecasts and measurements of every fact as frames, axes, layers beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core.editing import Edit, Hyperparameters, Success
from kis_core.editing.scores import SCORES, Scores
from kis_core.request import RequestError
from kis_core.results.result import Result
from kis_core.simulator import (
    FORECASTS,
    MOST_STRENGTH,
    Advice,
    EditOutcome,
    EditRequest,
    FlipForecast,
    Forecast,
    Simulator,
    advice_frame,
    forecast_values,
    share_frame,
    span,
    spill_frame,
)
from kis_core.spillover import Measurement
from kis_core.store.store import Store
from tests.results.results_tools import made
from tests.simulator.edit_frame_tools import FLIPS, NAN, ROUNDING, P

ROOM = 0.06  # of its height that an axis leaves above and below
LEAST_SPAN = 1e-200  # below it six per cent of a height are no float64 number any more
E = 1  # the edited fact of what follows
ALL = np.array([-0.5, 9.0, 0.25, -2.0])
SUBJECT = np.array([0.0, 9.0, -0.5, 1.0])
SHIFT = np.array([0.25, 5.0, -4.5, 0.0])
COLUMNS = [
    "rank", "fact", "subject", "told", "p", "share", "forecast", "measured", "kind", "flips", "flips_foretold",
    "answers", "outcome", "end",
]  # fmt: skip


def no_model() -> NoReturn:
    raise AssertionError("frames need no model")


def bench_of(result: Result, store: Store) -> Simulator:
    return Simulator(result, store, no_model)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture
def bench(store: Store) -> Simulator:
    """Four facts; before, each is answered with its land."""
    return bench_of(made(P), store)


def forecast_of(
    every: Sequence[float] = ALL,
    subject: Sequence[float] = SUBJECT,
    shift: Sequence[float] = SHIFT,
    *,
    p: np.ndarray = P[0, E],
    flips: FlipForecast | None = FLIPS,
) -> Forecast:
    edit = Edit(0, np.ones(3), np.array([3.0, 4.0]))
    return Forecast(edit, p, p, np.asarray(shift), np.asarray(subject), np.asarray(every), flips)


UNSCORED = Scores(*[None] * len(SCORES))


def outcome_of(
    log_odds: Sequence[float], shift: Sequence[float], answers: Sequence[str], flipped: Sequence[bool]
) -> EditOutcome:
    measured = Measurement(np.array(shift), np.array(log_odds), np.array(log_odds) / 2, tuple(answers))
    return EditOutcome(
        EditRequest(E, "sea", 0, "rome", Hyperparameters()),
        1.0,
        measured,
        np.array([-0.75, 8.0, 0.5, -1.5]),
        Success(True, True, 0.9, 0.1, None, None, None, "sea", "land 1", UNSCORED, UNSCORED),
        np.array(flipped),
    )


DONE = outcome_of(
    [-0.25, 7.0, 0.125, -6.0], [0.5, 5.0, -4.0, -0.125], ["land 0", "sea", "rock", "two"], [False, True, True, True]
)


class TestForecastValues:
    def test_what_was_propagated_holds_for_its_own_strength(self) -> None:
        assert forecast_values(forecast_of(), "propagated", 0.5, DONE).tolist() == [-0.75, 8.0, 0.5, -1.5]

    @pytest.mark.parametrize(("by", "outcome"), [("propagated", None), ("best", DONE)])
    def test_what_is_not_there_is_refused(self, by: str, outcome: EditOutcome | None) -> None:
        with pytest.raises(KeyError):
            forecast_values(forecast_of(), by, 1.0, outcome)
        assert list(FORECASTS) == ["all", "subject", "propagated", "shift"]


class TestSpillFrame:
    def test_before_the_edit_by_hand(self, bench: Simulator) -> None:
        actual = spill_frame(bench, E, forecast_of(), "all", 1.0, None)
        assert actual.columns.tolist() == COLUMNS
        assert actual.index.tolist() == actual["rank"].tolist() == [0, 1, 2]
        assert actual["fact"].tolist() == [3, 0, 2], "the one it hurts most first, the edited one left out"
        assert actual["told"].tolist() == ["subject 3 → land 3", "subject 0 → land 0", "subject 2 → land 2"]
        np.testing.assert_array_equal(actual["p"], [NAN, 0.05, -0.9])
        assert actual["forecast"].tolist() == [-2.0, -0.5, 0.25]
        assert actual["measured"].isna().all()
        assert actual["kind"].tolist() == ["loses", "loses", "gains"]
        assert actual["flips"].tolist() == actual["flips_foretold"].tolist() == ["two", "one", ""]
        assert actual["answers"].tolist() == ["land 3 → two", "land 0 → one", "land 2, stays"]
        assert actual["end"].tolist() == [-2.0, -0.5, 0.25]

    def test_after_the_edit_by_hand(self, bench: Simulator) -> None:
        actual = spill_frame(bench, E, forecast_of(), "all", 1.0, DONE)
        assert actual["fact"].tolist() == [3, 0, 2], "ordered by the forecast still"
        assert actual["forecast"].tolist() == [-2.0, -0.5, 0.25]
        assert actual["measured"].tolist() == actual["end"].tolist() == [-6.0, -0.25, 0.125]
        assert actual["kind"].tolist() == ["loses", "loses", "gains"], "as forecast"
        assert actual["flips"].tolist() == ["two", "", "rock"], "as measured"
        assert actual["flips_foretold"].tolist() == ["two", "one", ""]
        assert actual["answers"].tolist() == ["land 3 → two", "land 0, stays", "land 2 → rock"]
        assert actual["outcome"].tolist() == ["flips", "stays", "flips"]

    def test_an_answer_that_did_not_change_stays(self, bench: Simulator) -> None:
        other_words = replace(DONE, flipped=np.array([False] * 4))
        actual = spill_frame(bench, E, forecast_of(), "all", 1.0, other_words)
        assert actual["flips"].tolist() == ["", "", ""]
        assert set(actual["outcome"]) == {"stays"}
        without = spill_frame(bench, E, forecast_of(flips=None), "all", 1.5, None)
        assert without["flips"].tolist() == without["flips_foretold"].tolist() == ["", "", ""]

    @pytest.mark.parametrize(
        ("by", "facts", "kinds"),
        [
            ("subject", [2, 0, 3], ["loses", "gains", "gains"]),
            ("shift", [2, 3, 0], ["against", "along", "along"]),
            ("propagated", [3, 0, 2], ["loses", "loses", "gains"]),
        ],
    )
    def test_by_another_forecast(self, by: str, facts: list[int], kinds: list[str], bench: Simulator) -> None:
        actual = spill_frame(bench, E, forecast_of(), by, 1.0, DONE)
        assert actual["fact"].tolist() == facts
        assert actual["kind"].tolist() == kinds
        measured = DONE.measured.shift if by == "shift" else DONE.measured.log_odds
        assert actual["measured"].tolist() == actual["end"].tolist() == measured[facts].tolist()
        assert actual["forecast"].tolist() == forecast_values(forecast_of(), by, 1.0, DONE)[facts].tolist()

    @pytest.mark.parametrize(
        ("strength", "flips"),
        [(0.45, ["", "", ""]), (0.5, ["", "one", ""]), (1.0, ["two", "one", ""]), (1.25, ["three", "one", ""])],
    )
    def test_a_stronger_edit_changes_more_answers(self, strength: float, flips: list[str], bench: Simulator) -> None:
        actual = spill_frame(bench, E, forecast_of(), "all", strength, None).set_index("fact").loc[[3, 0, 2]]
        assert actual["flips"].tolist() == actual["flips_foretold"].tolist() == flips
        assert actual["forecast"].tolist() == [-2.0 * strength, -0.5 * strength, 0.25 * strength]

    def test_of_no_strength_nobody_loses_and_the_facts_keep_their_order(self, bench: Simulator) -> None:
        actual = spill_frame(bench, E, forecast_of(), "all", 0.0, None)
        assert actual["fact"].tolist() == [0, 2, 3]
        assert set(actual["kind"]) == {"gains"}
        assert set(spill_frame(bench, E, forecast_of(), "shift", 0.0, None)["kind"]) == {"along"}


class TestSpan:
    @staticmethod
    def with_room(low: float, high: float) -> tuple[Any, ...]:
        room = ROOM * (high - low)
        return tuple(pytest.approx(end, rel=ROUNDING) for end in (low - room, high + room))

    def test_holds_zero_the_forecast_at_any_strength_and_the_measurement(self) -> None:
        most, low, high = MOST_STRENGTH, [-1.0, 9.0, -2.0, -4.0], [1.0, -9.0, 2.0, 4.0]
        gained = outcome_of([2.0, 9.0, 1.0, 3.0], [0.0] * 4, [""] * 4, [False] * 4)
        gained = replace(gained, propagated=np.array([1.0, 9.0, 2.0, 1.0]))
        for forecast, by, outcome, ends in (
            (forecast_of(), "all", None, (-2.0 * most, 0.25 * most)),
            (forecast_of(), "shift", None, (-4.5 * most, 0.25 * most)),
            (forecast_of(high), "all", None, (0.0, 4.0 * most)),
            (forecast_of(low), "all", None, (-4.0 * most, 0.0)),
            (forecast_of(), "all", DONE, (-6.0, 0.25 * most)),
            (forecast_of(), "shift", DONE, (-4.5 * most, 0.5)),
            (forecast_of(), "propagated", DONE, (-6.0, 0.5)),  # it knows its own strength
            (forecast_of(), "propagated", gained, (0.0, 3.0)),
        ):
            assert span(forecast, E, by, outcome) == self.with_room(*ends)

    def test_of_a_single_fact_or_of_nothing_has_a_height(self) -> None:
        for forecast, e in ((forecast_of([2.0], p=np.ones(1)), 0), (forecast_of([0.0, 3.0, 0.0, 0.0]), E)):
            assert span(forecast, e, "all", None) == pytest.approx((-ROOM, ROOM), rel=ROUNDING)

    @given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6), st.floats(0, MOST_STRENGTH), st.integers(0, 5))
    def test_is_the_same_at_every_strength(self, values: list[float], strength: float, e: int) -> None:
        e %= len(values)
        forecast = forecast_of(values, p=np.ones(len(values)))
        low, high = span(forecast, e, "all", None)
        shown = np.delete(forecast_values(forecast, "all", strength, None), e)
        assert low <= min(shown.min(), 0.0)
        assert high >= max(shown.max(), 0.0)
        assert low < high or np.abs(shown).max() < LEAST_SPAN


class TestAdviceFrame:
    def test_by_hand(self) -> None:
        takes, fails = Advice(2, True, True, 0.75, 0.5, 1.5, 3), Advice(5, True, False, 0.125, None, 0.25, 0)
        actual = advice_frame([takes, Advice(4, False), fails])
        assert actual.columns.tolist() == ["layer", "damage", "probability", "took", "paraphrase", "flips", "note"]
        assert actual[["layer", "damage", "probability", "took", "flips"]].to_numpy().tolist() == [
            [2, 1.5, 0.75, "takes", 3],
            [5, 0.25, 0.125, "does not take", 0],
        ]
        np.testing.assert_array_equal(actual["paraphrase"], [0.5, NAN])
        assert actual["note"].tolist() == [f"{n} other answers forecast to change" for n in (3, 0)]
        nowhere = advice_frame([Advice(0, False)])
        assert (len(nowhere), nowhere.columns.tolist()) == (0, actual.columns.tolist())


class TestShareFrame:
    def test_by_hand(self) -> None:
        actual = share_frame(made(P), 0, 3)
        assert actual.columns.tolist() == COLUMNS, "those of the forecasts that need a model"
        assert actual["fact"].tolist() == [2, 1, 0]
        assert actual["rank"].tolist() == [0, 1, 2]
        for column in ("p", "forecast", "end"):
            assert actual[column].tolist() == [0.6, 0.5, 0.4]
        assert actual["told"].tolist() == ["subject 2 → land 2", "subject 1 → land 1", "subject 0 → land 0"]
        assert actual["measured"].isna().all()
        assert set(actual["kind"]) == {"along"}

    def test_leaves_out_what_has_no_value_and_tells_the_sign(self) -> None:
        actual = share_frame(made(P), 0, 1)
        assert actual["fact"].tolist() == [0, 2]
        assert actual["rank"].tolist() == [0, 1]
        assert actual["kind"].tolist() == ["along", "against"]

    def test_a_layer_is_asked_for_by_its_number(self) -> None:
        result = made(np.concatenate([P, np.swapaxes(P, 1, 2)]), layers=(2, 5))
        assert share_frame(result, 2, 3)["p"].tolist() == [0.6, 0.5, 0.4]
        assert share_frame(result, 5, 3)["p"].tolist() == [0.4, 0.3]
        with pytest.raises(RequestError, match="layer 0 was not computed"):
            share_frame(result, 0, 3)

    def test_equal_shares_keep_the_facts_in_order_and_of_nothing_it_is_empty(self) -> None:
        assert share_frame(made(np.ones((1, 40, 40))), 0, 7)["fact"].tolist() == [k for k in range(40) if k != 7]
        for nothing in (np.ones((1, 1, 1)), np.full((1, 3, 3), NAN)):
            assert share_frame(made(nothing), 0, 0).empty
