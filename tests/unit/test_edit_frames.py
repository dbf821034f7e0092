"""What is drawn of an edit: forecasts and measurements as frames, reach of edits, and how links write an edit down."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core import archive, own_facts
from kis_core.editing import Edit, Hyperparameters, Success
from kis_core.facts import FactFileError, FactSet
from kis_core.pairs import NOTABLE, reach_of_edits
from kis_core.request import Request, RequestError
from kis_core.result import Result
from kis_core.simulator import (
    FORECASTS,
    MOST_STRENGTH,
    Advice,
    EditRequest,
    FlipForecast,
    Forecast,
    Outcome,
    Simulator,
    advice_frame,
    foretold,
    share_frame,
    span,
    spill_frame,
)
from kis_core.spillover import Measurement
from kis_core.store import Store, key_of
from pages.parts.choices import MOST_CHARACTERS, Number, Settings
from tests.unit.results_tools import made

ROUNDING = 1e-9  # relative, of a few float64 operations
ROOM = 0.06  # of its height that an axis leaves above and below
LEAST_SPAN = 1e-200  # below it six per cent of a height are no float64 number any more
WRITTEN = 0.005  # a strength is written with two digits
SIX_DIGITS = 5e-7  # a setting with six
NAN = float("nan")

P = np.array([[[1.0, 0.2, 0.3, 0.4], [0.05, 1.0, -0.9, NAN], [0.1, 0.2, 1.0, 0.3], [0.4, 0.5, 0.6, 1.0]]])
E = 1  # the edited fact of what follows
ALL = np.array([-0.5, 9.0, 0.25, -2.0])
SUBJECT = np.array([0.0, 9.0, -0.5, 1.0])
SHIFT = np.array([0.25, 5.0, -4.5, 0.0])
FLIPS = FlipForecast((0, 3, 3, 1), (0.5, 1.0, 1.25, 0.1), ("one", "two", "three", "new"))
COLUMNS = [
    "rank", "fact", "subject", "told", "p", "forecast", "measured", "kind", "flips", "flips_foretold", "answers",
    "outcome", "end",
]  # fmt: skip
NAMES = ("steps", "clamp", "mean_key")


def no_model() -> NoReturn:
    raise AssertionError("frames need no model")


def bench_of(result: Result, store: Store) -> Simulator:
    return Simulator(result, store, no_model)


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


def outcome_of(
    log_odds: Sequence[float], shift: Sequence[float], answers: Sequence[str], flipped: Sequence[bool]
) -> Outcome:
    measured = Measurement(np.array(shift), np.array(log_odds), np.array(log_odds) / 2, tuple(answers))
    return Outcome(
        EditRequest(E, "sea", 0, "rome", Hyperparameters()),
        1.0,
        measured,
        np.array([-0.75, 8.0, 0.5, -1.5]),
        Success(True, True, 0.9, 0.1, None, None, None, "sea", "land 1"),
        np.array(flipped),
    )


DONE = outcome_of(
    [-0.25, 7.0, 0.125, -6.0],
    [0.5, 5.0, -4.0, -0.125],
    ["land 0", "sea", "rock", "two"],
    [False, True, True, True],
)


class TestForetold:
    @pytest.mark.parametrize(("by", "values"), [("all", ALL), ("subject", SUBJECT), ("shift", SHIFT)])
    @pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 1.5])
    def test_grows_with_the_strength(self, by: str, values: np.ndarray, strength: float) -> None:
        for outcome in (None, DONE):
            found = foretold(forecast_of(), by, strength, outcome)
            assert found.tolist() == [strength * value for value in values.tolist()]

    def test_what_was_propagated_holds_for_its_own_strength(self) -> None:
        for strength in (0.5, 1.0):
            assert foretold(forecast_of(), "propagated", strength, DONE).tolist() == [-0.75, 8.0, 0.5, -1.5]

    @pytest.mark.parametrize(("by", "outcome"), [("propagated", None), ("best", None), ("best", DONE), ("", DONE)])
    def test_what_is_not_there_is_refused(self, by: str, outcome: Outcome | None) -> None:
        with pytest.raises(KeyError):
            foretold(forecast_of(), by, 1.0, outcome)

    def test_every_forecast_of_the_page_is_there(self) -> None:
        assert list(FORECASTS) == ["all", "subject", "propagated", "shift"]
        assert all(len(foretold(forecast_of(), by, 1.0, DONE)) == 4 for by in FORECASTS)


class TestSpillFrame:
    def test_before_the_edit_by_hand(self, bench: Simulator) -> None:
        found = spill_frame(bench, E, forecast_of(), "all", 1.0, None)
        assert found.columns.tolist() == COLUMNS
        assert found.index.tolist() == found["rank"].tolist() == [0, 1, 2]
        assert found["fact"].tolist() == [3, 0, 2], "the one it hurts most first, the edited one left out"
        assert found["subject"].tolist() == ["subject 3", "subject 0", "subject 2"]
        assert found["told"].tolist() == ["subject 3 → land 3", "subject 0 → land 0", "subject 2 → land 2"]
        np.testing.assert_array_equal(found["p"], [NAN, 0.05, -0.9])
        assert found["forecast"].tolist() == [-2.0, -0.5, 0.25]
        assert found["measured"].isna().all()
        assert found["measured"].dtype == np.float64
        assert found["kind"].tolist() == ["loses", "loses", "gains"]
        assert found["flips"].tolist() == found["flips_foretold"].tolist() == ["two", "one", ""]
        assert found["answers"].tolist() == ["land 3 → two", "land 0 → one", "land 2, stays"]
        assert found["outcome"].tolist() == ["flips", "flips", "stays"]
        assert found["end"].tolist() == [-2.0, -0.5, 0.25]

    def test_after_the_edit_by_hand(self, bench: Simulator) -> None:
        found = spill_frame(bench, E, forecast_of(), "all", 1.0, DONE)
        assert found["fact"].tolist() == [3, 0, 2], "ordered by the forecast still"
        assert found["forecast"].tolist() == [-2.0, -0.5, 0.25]
        assert found["measured"].tolist() == found["end"].tolist() == [-6.0, -0.25, 0.125]
        assert found["kind"].tolist() == ["loses", "loses", "gains"], "as foretold"
        assert found["flips"].tolist() == ["two", "", "rock"], "as measured"
        assert found["flips_foretold"].tolist() == ["two", "one", ""]
        assert found["answers"].tolist() == ["land 3 → two", "land 0, stays", "land 2 → rock"]
        assert found["outcome"].tolist() == ["flips", "stays", "flips"]

    def test_an_answer_that_did_not_change_is_none_to_tell(self, bench: Simulator) -> None:
        other_words = replace(DONE, flipped=np.array([False] * 4))
        found = spill_frame(bench, E, forecast_of(), "all", 1.0, other_words)
        assert found["flips"].tolist() == ["", "", ""]
        assert set(found["outcome"]) == {"stays"}

    @pytest.mark.parametrize(
        ("by", "facts", "kinds"),
        [
            ("subject", [2, 0, 3], ["loses", "gains", "gains"]),
            ("shift", [2, 3, 0], ["against", "along", "along"]),
            ("propagated", [3, 0, 2], ["loses", "loses", "gains"]),
        ],
    )
    def test_by_another_forecast(self, by: str, facts: list[int], kinds: list[str], bench: Simulator) -> None:
        found = spill_frame(bench, E, forecast_of(), by, 1.0, DONE)
        assert found["fact"].tolist() == facts
        assert found["kind"].tolist() == kinds
        measured = DONE.measured.shift if by == "shift" else DONE.measured.log_odds
        assert found["measured"].tolist() == found["end"].tolist() == measured[facts].tolist()
        assert found["forecast"].tolist() == foretold(forecast_of(), by, 1.0, DONE)[facts].tolist()

    @pytest.mark.parametrize(
        ("strength", "flips"),
        [
            (0.0, ["", "", ""]),
            (0.45, ["", "", ""]),
            (0.5, ["", "one", ""]),
            (1.0, ["two", "one", ""]),
            (1.25, ["three", "one", ""]),
        ],
    )
    def test_a_stronger_edit_changes_more_answers(
        self, strength: float, flips: list[str], bench: Simulator
    ) -> None:  # fmt: skip
        found = spill_frame(bench, E, forecast_of(), "all", strength, None).set_index("fact").loc[[3, 0, 2]]
        assert found["flips"].tolist() == found["flips_foretold"].tolist() == flips
        assert found["forecast"].tolist() == [-2.0 * strength, -0.5 * strength, 0.25 * strength]

    def test_of_no_strength_nobody_loses_and_the_facts_keep_their_order(self, bench: Simulator) -> None:
        found = spill_frame(bench, E, forecast_of(), "all", 0.0, None)
        assert found["fact"].tolist() == [0, 2, 3]
        assert set(found["kind"]) == {"gains"}
        assert set(spill_frame(bench, E, forecast_of(), "shift", 0.0, None)["kind"]) == {"along"}

    def test_equal_forecasts_keep_the_facts_in_order(self, store: Store) -> None:
        m = 40
        bench = bench_of(made(np.eye(m)[None]), store)
        same = forecast_of([1.0, 0.0] * 20, p=np.ones(m), flips=None)
        found = spill_frame(bench, 5, same, "all", 1.0, None)
        assert found["fact"].tolist() == [k for k in range(1, m, 2) if k != 5] + list(range(0, m, 2))

    def test_without_a_forecast_of_flips_none_is_told(self, bench: Simulator) -> None:
        found = spill_frame(bench, E, forecast_of(flips=None), "all", 1.5, None)
        assert found["flips"].tolist() == found["flips_foretold"].tolist() == ["", "", ""]

    @pytest.mark.parametrize("e", range(4))
    def test_any_fact_may_be_the_edited_one(self, e: int, bench: Simulator) -> None:
        found = spill_frame(bench, e, forecast_of(), "all", 1.0, DONE)
        assert sorted(found["fact"]) == [k for k in range(4) if k != e]
        assert found["forecast"].is_monotonic_increasing

    @pytest.mark.parametrize("m", [1, 2])
    def test_of_few_facts(self, m: int, store: Store) -> None:
        bench = bench_of(made(np.eye(m)[None]), store)
        found = spill_frame(bench, 0, forecast_of(ALL[:m], p=np.eye(m)[0], flips=FLIPS), "all", 1.0, None)
        assert (found["fact"].tolist(), found.columns.tolist()) == (list(range(1, m)), COLUMNS)


class TestSpan:
    @staticmethod
    def with_room(low: float, high: float) -> tuple[Any, ...]:
        room = ROOM * (high - low)
        return tuple(pytest.approx(end, rel=ROUNDING) for end in (low - room, high + room))

    def test_holds_the_forecast_at_full_strength_and_more(self) -> None:
        assert span(forecast_of(), E, "all", None) == self.with_room(-2.0 * MOST_STRENGTH, 0.25 * MOST_STRENGTH)
        assert span(forecast_of(), E, "shift", None) == self.with_room(-4.5 * MOST_STRENGTH, 0.25 * MOST_STRENGTH)

    def test_holds_zero_where_everyone_gains(self) -> None:
        assert span(forecast_of([1.0, -9.0, 2.0, 4.0]), E, "all", None) == self.with_room(0.0, 4.0 * MOST_STRENGTH)
        assert span(forecast_of([-1.0, 9.0, -2.0, -4.0]), E, "all", None) == self.with_room(-4.0 * MOST_STRENGTH, 0.0)

    def test_holds_the_measurement(self) -> None:
        assert span(forecast_of(), E, "all", DONE) == self.with_room(-6.0, 0.25 * MOST_STRENGTH)
        assert span(forecast_of(), E, "shift", DONE) == self.with_room(-4.5 * MOST_STRENGTH, 0.5)

    def test_of_what_was_propagated_knows_its_strength(self) -> None:
        assert span(forecast_of(), E, "propagated", DONE) == self.with_room(-6.0, 0.5)

    def test_of_what_was_propagated_holds_zero_too(self) -> None:
        gained = replace(
            outcome_of([2.0, 9.0, 1.0, 3.0], [0.0] * 4, [""] * 4, [False] * 4),
            propagated=np.array([1.0, 9.0, 2.0, 1.0]),
        )
        assert span(forecast_of(), E, "propagated", gained) == self.with_room(0.0, 3.0)

    def test_of_a_single_fact_there_is_one_all_the_same(self) -> None:
        assert span(forecast_of([2.0], p=np.ones(1)), 0, "all", None) == pytest.approx((-ROOM, ROOM), rel=ROUNDING)

    def test_of_nothing_has_a_height(self) -> None:
        assert span(forecast_of([0.0, 3.0, 0.0, 0.0]), E, "all", None) == pytest.approx((-ROOM, ROOM), rel=ROUNDING)

    @given(
        st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6), st.floats(0, MOST_STRENGTH), st.integers(0, 5)
    )  # fmt: skip
    def test_is_the_same_at_every_strength(self, values: list[float], strength: float, e: int) -> None:
        e %= len(values)
        forecast = forecast_of(values, p=np.ones(len(values)))
        low, high = span(forecast, e, "all", None)
        shown = np.delete(foretold(forecast, "all", strength, None), e)
        assert low <= min(shown.min(), 0.0)
        assert high >= max(shown.max(), 0.0)
        assert low < high or np.abs(shown).max() < LEAST_SPAN


class TestAdviceFrame:
    def test_by_hand(self) -> None:
        found = advice_frame(
            [
                Advice(2, True, True, 0.75, 0.5, 1.5, 3),
                Advice(4, False),
                Advice(5, True, False, 0.125, None, 0.25, 0),
            ]
        )
        assert found.columns.tolist() == ["layer", "damage", "probability", "took", "paraphrase", "flips", "note"]
        assert found[["layer", "damage", "probability", "took", "flips"]].to_numpy().tolist() == [
            [2, 1.5, 0.75, "takes", 3],
            [5, 0.25, 0.125, "does not take", 0],
        ]
        np.testing.assert_array_equal(found["paraphrase"], [0.5, NAN])
        assert found["note"].tolist() == [f"{n} other answers forecast to change" for n in (3, 0)]

    @pytest.mark.parametrize("found", [[], [Advice(0, False)]])
    def test_where_no_layer_reaches_the_answer_it_has_no_rows(self, found: list[Advice]) -> None:
        frame = advice_frame(found)
        assert frame.empty
        assert frame.columns.tolist() == ["layer", "damage", "probability", "took", "paraphrase", "flips", "note"]


class TestShareFrame:
    def test_by_hand(self) -> None:
        found = share_frame(made(P), 0, 3)
        assert found.columns.tolist() == COLUMNS, "those of the forecasts that need a model"
        assert found["fact"].tolist() == [2, 1, 0]
        assert found["rank"].tolist() == [0, 1, 2]
        for column in ("p", "forecast", "end"):
            assert found[column].tolist() == [0.6, 0.5, 0.4]
        assert found["subject"].tolist() == ["subject 2", "subject 1", "subject 0"]
        assert found["told"].tolist() == ["subject 2 → land 2", "subject 1 → land 1", "subject 0 → land 0"]
        assert found["measured"].isna().all()
        assert set(found["kind"]) == {"along"}
        for column in ("flips", "flips_foretold", "answers"):
            assert set(found[column]) == {""}
        assert set(found["outcome"]) == {"stays"}

    def test_leaves_out_what_has_no_value_and_tells_the_sign(self) -> None:
        found = share_frame(made(P), 0, 1)
        assert found["fact"].tolist() == [0, 2]
        assert found["rank"].tolist() == [0, 1]
        assert found["kind"].tolist() == ["along", "against"]

    def test_a_layer_is_asked_for_by_its_number(self) -> None:
        result = made(np.concatenate([P, np.swapaxes(P, 1, 2)]), layers=(2, 5))
        assert share_frame(result, 2, 3)["p"].tolist() == [0.6, 0.5, 0.4]
        assert share_frame(result, 5, 3)["p"].tolist() == [0.4, 0.3]
        with pytest.raises(RequestError, match="layer 0 was not computed"):
            share_frame(result, 0, 3)

    def test_equal_shares_keep_the_facts_in_order(self) -> None:
        assert share_frame(made(np.ones((1, 40, 40))), 0, 7)["fact"].tolist() == [k for k in range(40) if k != 7]

    @pytest.mark.parametrize("p", [np.ones((1, 1, 1)), np.full((1, 3, 3), NAN)], ids=["one fact", "zero keys"])
    def test_of_nothing_is_empty(self, p: np.ndarray) -> None:
        found = share_frame(made(p), 0, 0)
        assert found.empty
        assert found.columns.tolist() == COLUMNS


class TestReachOfEdits:
    def test_by_hand(self) -> None:
        p = np.array([[1.0, 0.3, -0.4, 0.0], [0.05, 1.0, -0.09, 0.0], [0.1, -0.1, 1.0, 0.7], [0.0, 0.0, 0.0, 1.0]])
        found = reach_of_edits(made(p[None], subjects=["a", "b", "c", "d"]), 0)
        assert found.columns.tolist() == ["i", "j", "edited", "suffers", "reach", "p", "leaks"]
        assert found.index.tolist() == [0, 1, 2, 3]
        assert found["i"].tolist() == [2, 0, 1, 3]
        assert found["j"].tolist()[:3] == [3, 2, 2], "the one it hits hardest, whatever the sign"
        assert found["p"].tolist() == [0.7, -0.4, -0.09, 0.0]
        reach = [np.sqrt(0.01 + 0.01 + 0.49), 0.5, np.sqrt(0.05**2 + 0.09**2), 0.0]
        np.testing.assert_allclose(found["reach"], reach, rtol=ROUNDING)
        assert found["leaks"].tolist() == [3, 2, 0, 0], f"{NOTABLE} and more counts, on either side of zero"
        assert found["edited"].tolist() == ["c → land 2", "a → land 0", "b → land 1", "d → land 3"]
        assert found["suffers"].tolist()[:3] == ["d → land 3", "c → land 2", "c → land 2"]

    def test_a_layer_is_asked_for_by_its_number(self) -> None:
        result = made(np.stack([np.array([[1.0, 0.5], [0.2, 1.0]]), np.array([[1.0, 0.1], [0.2, 1.0]])]), layers=(3, 8))
        assert reach_of_edits(result, 3)["i"].tolist() == [0, 1]
        assert reach_of_edits(result, 8)["i"].tolist() == [1, 0]

    def test_a_fact_whose_key_is_zero_is_left_out_and_hits_nobody(self) -> None:
        p = np.array([[1.0, 0.3, NAN], [0.2, 1.0, NAN], [NAN, NAN, NAN]])
        found = reach_of_edits(made(p[None]), 0)
        assert found[["i", "j", "reach", "p", "leaks"]].to_numpy().tolist() == [
            [0, 1, 0.3, 0.3, 1], [1, 0, 0.2, 0.2, 1],
        ]  # fmt: skip

    def test_equal_reach_keeps_the_facts_in_order(self) -> None:
        assert reach_of_edits(made(np.ones((1, 40, 40))), 0)["i"].tolist() == list(range(40))

    def test_the_result_stays_as_it_is(self) -> None:
        result = made(P)
        before = result.p.copy()
        reach_of_edits(result, 0)
        np.testing.assert_array_equal(result.p, before)

    @pytest.mark.parametrize(("p", "rows"), [(np.ones((1, 1, 1)), 1), (np.full((1, 3, 3), NAN), 0)])
    def test_of_a_single_fact_or_none(self, p: np.ndarray, rows: int) -> None:
        found = reach_of_edits(made(p), 0)
        assert found["reach"].tolist() == [0.0] * rows


class TestFlipForecast:
    FLIPS = FlipForecast((4, 7, 4, 9), (0.25, 0.0, 0.5, 1.5), ("early", "at once", "late", "last"))

    @pytest.mark.parametrize(
        ("strength", "told"),
        [
            (0.0, {7: "at once"}),
            (0.249, {7: "at once"}),
            (0.25, {7: "at once", 4: "early"}),
            (0.5, {7: "at once", 4: "late"}),
            (1.49, {7: "at once", 4: "late"}),
            (1.5, {7: "at once", 4: "late", 9: "last"}),
        ],
    )
    def test_the_last_change_up_to_a_strength_is_told(self, strength: float, told: dict[int, str]) -> None:
        assert self.FLIPS.by(strength) == told

    def test_of_changes_at_once_the_last_is_told(self) -> None:
        assert FlipForecast((4, 4, 4), (0.25, 0.5, 0.5), ("early", "one", "two")).by(0.5) == {4: "two"}

    def test_where_nothing_changes_nothing_is_told(self) -> None:
        assert FlipForecast((), (), ()).by(1.5) == {}

    def test_what_does_not_belong_together_is_refused(self) -> None:
        with pytest.raises(ValueError, match="zip"):
            FlipForecast((0, 1), (0.5,), ("a", "b")).by(1.0)


class TestWithoutModel:
    """A result found in the store by what its request names, though the model is not here."""

    @pytest.fixture
    def facts(self, tmp_path: Path) -> str:
        """A fact file with the facts of all results here, by another name."""
        return self.file_of(made(P).facts, tmp_path)

    @staticmethod
    def file_of(facts: FactSet, folder: Path) -> str:
        name = own_facts.save(folder, FactSet("mine", facts.facts))
        return str(own_facts.path_of(folder, name))

    @staticmethod
    def keep(store: Store, layers: Sequence[int] = (0,), p: np.ndarray = P, **asked: Any) -> Result:
        result = made(np.repeat(p, len(layers), axis=0), layers=layers)
        request = replace(result.request, **({"layers": None} | asked))
        fields = {name: getattr(request, name) for name in Request.__dataclass_fields__}
        result = replace(result, request=request, provenance=result.provenance | {"request": fields})
        entry = archive.to_entry(result)
        store.put(key_of(archive.KIND, {"layers": list(layers)} | asked), entry.meta, entry.arrays)
        return result

    def test_it_is_found_by_model_facts_text_and_tokens(self, store: Store, facts: str) -> None:
        kept = self.keep(store, model="gpt2", facts="/elsewhere/known.csv")
        found = archive.without_model(Request(model="gpt2", facts=facts), store)
        assert found is not None
        assert found.request == kept.request
        assert found.facts.facts == kept.facts.facts
        np.testing.assert_array_equal(found.p, kept.p)

    def test_of_several_that_with_most_layers_is_found(self, store: Store, facts: str) -> None:
        for layers in ((1,), (0, 1, 2), (0, 2)):
            self.keep(store, layers, model="gpt2")
        found = archive.without_model(Request(model="gpt2", facts=facts), store)
        assert found is not None
        assert found.layers == (0, 1, 2)

    @pytest.mark.parametrize(
        "other", [{"model": "gpt2-large"}, {"tokens": 5}, {"corpus": "mine.txt"}, {"revision": "0" * 40}], ids=str
    )
    def test_another_one_is_not_taken_for_it(self, other: dict[str, Any], store: Store, facts: str) -> None:
        wanted = Request(model="gpt2", facts=facts)
        self.keep(store, **{"model": "gpt2"} | other)
        assert archive.without_model(wanted, store) is None
        assert archive.without_model(replace(wanted, **other), store) is not None

    def test_that_of_other_facts_is_not_taken_for_it(self, store: Store, tmp_path: Path) -> None:
        self.keep(store, model="gpt2")
        others = self.file_of(made(np.eye(3)[None]).facts, tmp_path)
        assert archive.without_model(Request(model="gpt2", facts=others), store) is None

    def test_in_an_empty_store_there_is_none(self, store: Store, facts: str) -> None:
        assert archive.without_model(Request(model="gpt2", facts=facts), store) is None

    def test_facts_that_are_not_there_are_named(self, store: Store) -> None:
        with pytest.raises(FactFileError, match="No fact file"):
            archive.without_model(Request(model="gpt2", facts="/nowhere.csv"), store)


# Choices of an edit in a link


@given(st.integers(0, 150))
def test_a_strength_comes_back(hundredths: int) -> None:
    kind = Number(1.0, 0.0, 1.5)
    assert kind.read(kind.write(hundredths / 100)) == hundredths / 100


@given(st.floats(0, 999))
def test_a_number_comes_back_to_two_digits(value: float) -> None:
    kind = Number(0.0, 0.0, 999.0)
    assert kind.read(kind.write(value)) == pytest.approx(value, abs=WRITTEN + ROUNDING * value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (0.0, "0"), (0.05, "0.05"), (0.5, "0.5"), (10.0, "10"), (100.0, "100"), (1.5, "1.5")],
)
def test_a_number_is_written_as_people_write_it(value: float, text: str) -> None:
    assert Number(0.0, 0.0, 999.0).write(value) == text


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("0.33", 0.33), ("1.5", 1.5), ("001", 1.0), ("1.50", 1.5)])
def test_a_number_is_read(text: str, value: float) -> None:
    assert Number(1.0, 0.0, 1.5).read(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "-0.5", "1.51", "2", "0.001", "1e0", "1.", ".5", "nan", "inf", "1,5", " 1", "1\n", "+1", "1000", "one", "0x1"],
)
def test_a_number_out_of_its_range_or_none_is_refused_with_the_range(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("a number from 0 to 1.5")):
        Number(1.0, 0.0, 1.5).read(text)


@pytest.mark.parametrize("text", ["0.49", "4.01"])
def test_both_ends_of_a_range_count(text: str) -> None:
    kind = Number(1.0, 0.5, 4.0)
    assert (kind.read("0.5"), kind.read("4")) == (0.5, 4.0)
    with pytest.raises(ValueError, match=re.escape("from 0.5 to 4")):
        kind.read(text)


@given(st.text(max_size=300))
def test_any_text_is_read_as_a_number_or_refused(text: str) -> None:
    kind = Number(1.0, 0.0, 1.5)
    try:
        value = kind.read(text)
    except ValueError as refusal:
        said = str(refusal)
    else:
        assert kind.read(kind.write(value)) == value
        return
    assert "a number from" in said


@given(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 999_999_999_999), min_size=1))
def test_settings_come_back(millionths: dict[str, int]) -> None:
    kind = Settings(NAMES)
    settings = tuple(sorted((name, number / 1e6) for name, number in millionths.items()))
    found = kind.read(kind.write(settings))
    assert [name for name, _ in found] == [name for name, _ in settings]
    assert [number for _, number in found] == pytest.approx([number for _, number in settings], abs=SIX_DIGITS)
    assert kind.read(kind.write(found)) == found


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ((("steps", 20.0),), "steps:20"),
        ((("steps", 100),), "steps:100"),
        ((("clamp", 0.5), ("mean_key", 0.0)), "clamp:0.5~mean_key:0"),
        ((("clamp", 1 / 3),), "clamp:0.333333"),
        ((), ""),
    ],
)
def test_settings_are_written_as_people_write_them(settings: tuple[tuple[str, float], ...], text: str) -> None:
    assert Settings(NAMES).write(settings) == text


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("steps:20", (("steps", 20.0),)),
        ("steps:20~clamp:0.0625", (("clamp", 0.0625), ("steps", 20.0))),
        ("mean_key:1~mean_key:0", (("mean_key", 0.0),)),
    ],
)
def test_settings_are_read_by_name_the_last_one_counts(text: str, settings: tuple[tuple[str, float], ...]) -> None:
    assert Settings(NAMES).read(text) == settings


@pytest.mark.parametrize(
    "text",
    [
        "", "steps", "steps:", "steps:-1", "steps:1e3", "steps:nan", "steps:20~", "~steps:20", "steps=20", "Steps:20",
        "seed:1", "steps:1234567", "steps:1.", "steps:20\n", "steps:20~seed:1", "steps :20", "steps:20,clamp:1",
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused_with_the_names_there_are(text: str) -> None:
    with pytest.raises(ValueError, match=r"written like steps:20, with the names steps, clamp, mean_key$"):
        Settings(NAMES).read(text)


@given(
    st.one_of(st.text(max_size=300), st.from_regex(r"(steps|clamp):\d{1,9}(\.\d{0,8})?(~steps:\d)?", fullmatch=True))
)
def test_any_text_is_read_as_settings_or_refused(text: str) -> None:
    kind = Settings(NAMES)
    try:
        value = kind.read(text)
    except ValueError as refusal:
        said = str(refusal)
    else:
        assert kind.read(kind.write(value)) == value
        return
    assert "settings are written like" in said


def test_very_many_settings_are_read_whole_or_not_at_all() -> None:
    text = "steps:12~" * (MOST_CHARACTERS // len("steps:12~") - 1) + "clamp:123456"
    assert len(text) == MOST_CHARACTERS + 1
    with pytest.raises(ValueError, match=r"written like|at most"):
        Settings(NAMES).read(text)
