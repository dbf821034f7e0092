"""The edit budget: the law of growth, stand-ins that are the run itself when given its own δ's, and what is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from kis_core import lifelong, progress
from kis_core.editing import METHODS, Edit, EditError
from kis_core.editing.finding import Found, found_by
from kis_core.lifelong import budget, summary, why
from kis_core.lifelong.budget import Budget
from kis_core.lifelong.pilots import Growth, Pilots, Population
from kis_core.lifelong.queue import draw_queue
from kis_core.lifelong.redraws import BY_FACT, CURVES, redraws
from kis_core.lifelong.request import LifelongRequest
from kis_core.lifelong.stand_ins import Health, Plan, StandIns
from kis_core.simulator import Simulator
from tests.lifelong.lifelong_tools import asked, weights_stay

__all__ = ["weights_stay"]  # fixture

SIZE, GAIN = 30.0, 1.7  # of a made-up layer
HALVED = np.array([[1.0, 0.75, 0.25], [1.0, 0.5, 0.0]])  # recall of two redraws: half after 15 and 10 edits


def law(carried: np.ndarray, width: int = 5) -> Pilots:
    """Pilots that follow the law exactly, each in a direction of its own."""
    directions = np.random.default_rng(0).normal(size=(len(carried), width))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    sizes = np.sqrt(SIZE**2 + (GAIN * carried) ** 2)
    layers = np.zeros(len(carried), dtype=np.int64)
    return Pilots(directions * sizes[:, None], layers, (carried > 0).astype(np.int64), carried)


def plan_of(bench: Simulator, request: LifelongRequest) -> Plan:
    return Plan(bench, request, draw_queue(bench, request.draw, request.edits, request.layers[0]))


def test_growth_is_fitted_and_a_drawn_value_is_resized_by_it() -> None:
    pilots = law(np.array([0, 0, 0, *np.linspace(5, 120, 20)]))
    fitted = Growth.fitted(pilots)
    assert (fitted.size, fitted.gain) == (pytest.approx(SIZE, rel=0.05), pytest.approx(GAIN, rel=0.05))
    rng = np.random.default_rng(1)
    population = Population.of(pilots)
    sizes = [np.linalg.norm(population.draw(0, 60.0, rng)) for _ in range(30)]
    np.testing.assert_allclose(sizes, np.hypot(SIZE, GAIN * 60), rtol=0.05)


def test_without_pilots_of_a_damaged_model_growth_is_the_usual_one() -> None:
    fitted = Growth.fitted(law(np.zeros(4)))
    assert (fitted.size, fitted.gain) == (pytest.approx(SIZE), pytest.approx(2.0, rel=0.03))


def test_pilots_are_redrawn_within_their_checkpoints() -> None:
    pilots = law(np.array([0.0, 0.0, 0.0, 9.0, 9.0]))
    redrawn = pilots.redrawn(np.random.default_rng(3))
    assert redrawn.at.tolist() == pilots.at.tolist()
    there = {tuple(row) for row in pilots.deltas.round(9)}
    assert {tuple(row) for row in redrawn.deltas.round(9)} < there


def test_a_fifth_of_the_searches_at_places_that_double() -> None:
    assert budget.checkpoints(100) == [(0, 3), (5, 3), (10, 3), (20, 3), (40, 3), (80, 3)]
    assert budget.checkpoints(20) == [(0, 2), (5, 2)]
    for edits in (20, 35, 50, 100, 300, 2000):
        assert 2 <= sum(count for _, count in budget.checkpoints(edits)) <= edits / 5
    assert budget.checkpoints(1) == [(0, 1)]


@pytest.mark.parametrize(
    ("method", "options"),
    [("rome", {}), ("memit", {"layers": (0, 1), "batch": 2}), ("alphaedit", {"batch": 2})],
)
def test_stand_ins_with_the_values_of_the_run_are_the_run(bench: Simulator, method: str, options: dict) -> None:
    request = asked(bench, method, 4, **options)
    real: list[np.ndarray] = []

    def noted(_: int, search: Callable[[], Found]) -> Found:
        found = search()
        real.append(found.delta)
        return found

    with found_by(noted):
        trace = lifelong.run(bench, request)
    given = iter(real)
    going = StandIns(plan_of(bench, request))
    assert going.carried == 0
    for row, step in enumerate(trace.steps.tolist()):
        going.make(step, lambda layer, carried: next(given))
        actual = going.health()
        assert actual.recall == summary.recall(trace)[row]
        assert actual.log_odds == pytest.approx(trace.log_odds[row].mean(), rel=1e-6)
        assert actual.perplexity == pytest.approx(trace.perplexity[row], rel=1e-6)
        np.testing.assert_allclose(actual.by_fact, trace.log_odds[row], rtol=1e-6)
    if len(request.layers) == 1:  # eq. 11: what the layer carries is Δo
        assert going.carried == pytest.approx(np.sqrt((trace.shift[-1] ** 2).mean()), rel=1e-4)
    assert going.sizes == pytest.approx([np.linalg.norm(delta) for delta in real])


def test_a_key_of_random_direction_reaches_general_text_as_far(bench: Simulator) -> None:
    plan = plan_of(bench, asked(bench, edits=1))
    rng = np.random.default_rng(0)
    edit = Edit(0, plan.whiteners[0].solve(plan.subject_keys[0][3]), rng.normal(size=bench.scale.width))
    turned = StandIns(plan, rng)._turned(edit)
    moment = plan.whiteners[0].factor @ plan.whiteners[0].factor.T
    assert isinstance(turned, Edit)
    assert turned.reach @ moment @ turned.reach == pytest.approx(edit.reach @ moment @ edit.reach)
    assert abs(np.corrcoef(turned.reach, edit.reach)[0, 1]) < 0.5
    assert turned.delta is edit.delta
    assert StandIns(plan)._turned(edit) is edit


def test_what_the_model_bears_falls_with_the_push(bench: Simulator) -> None:
    plan = plan_of(bench, asked(bench, edits=1))
    pushed = StandIns(plan)
    pushed.push(7.0, np.random.default_rng(0))
    assert pushed.carried == pytest.approx(7.0)
    frame = why.tolerance(plan, [1e-3, 5.0, 500.0])
    assert frame["recall"].iloc[0] == 1
    assert (np.diff(frame["log_odds"]) < 0).all()


def test_the_parts_of_a_decomposition_differ(bench: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kis_core.lifelong.redraws.REDRAWS", 2)
    request = asked(bench, edits=4, every=4, steps=8)
    budget.forecast(bench, request)
    stopped: list[float] = []

    def until_the_second(stage: str, done: int, total: int) -> None:
        if stage == "Making stand-in edits" and (not stopped or done / total >= stopped[-1]):
            stopped.append(done / total)
            if done / total > 0.4:
                raise progress.Cancelled

    with pytest.raises(progress.Cancelled):
        why.decomposition(bench, request, until_the_second)
    assert stopped == sorted(stopped)
    assert budget.known(bench, request, why.NO_GROWTH)
    assert why.known(bench, request) is None
    parts = why.decomposition(bench, request)
    assert list(parts) == [why.AS_FORECAST, *why.WITHOUT]
    stored = why.known(replace(bench, load=partial(pytest.fail, "the model was loaded")), request)
    assert stored is not None
    for name, part in parts.items():
        np.testing.assert_array_equal(stored[name].recall, part.recall)
    whole, fixed = parts[why.AS_FORECAST], parts[why.NO_GROWTH]
    sizes = np.linalg.norm(whole.pilots.deltas, axis=1)
    assert (fixed.delta_norm[:, -1] <= sizes.max()).all()
    assert (whole.delta_norm[:, -1] > fixed.delta_norm[:, -1]).all()  # the same pilots are drawn, and grow
    assert len({part.carried[0, -1] for part in parts.values()}) == 4


def test_the_explanation_counts_what_each_cause_takes() -> None:
    nothing = np.zeros((3, 0))
    steady, late = np.array([[1.0, 0.75, 0.25], [1.0, 0.74, 0.25]]), np.array([[1.0, 0.9, 0.8], [1.0, 0.9, 0.8]])
    curves = {why.AS_FORECAST: steady, why.NO_GROWTH: HALVED, why.NO_SUPERPOSITION: late, why.NEITHER: late}
    assert why.explanation({name: made_up(recall, nothing) for name, recall in curves.items()}) == (
        "Without superposition half would be forgotten after more than 20 edits instead of 15; without growing δ after "
        "12 (no clear difference); without both after more than 20."
    )


def test_methods_that_search_say_so(bench: Simulator) -> None:
    for known in METHODS:
        plan = plan_of(bench, asked(bench, known.name, 1, steps=1))
        assert bool(StandIns(plan).searched(plan.queue.edits[0], progress.silent)) == known.searches, known.name
    with pytest.raises(EditError, match="searches for no value"):
        budget.forecast(bench, asked(bench, "fine-tuning"))


def test_a_forecast_is_kept_resumed_and_the_same_again(
    bench: Simulator, demo: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kis_core.lifelong.redraws.REDRAWS", 2)
    request = asked(bench, edits=6, every=3, steps=1)
    searched: list[str] = []

    def until_second_place(stage: str, done: int, total: int) -> None:
        if stage == budget.STAGE:
            searched.append(f"{done} of {total}")
            if done == 3:
                raise progress.Cancelled

    with pytest.raises(progress.Cancelled):
        budget.forecast(bench, request, report=until_second_place)
    assert budget.known(bench, request) is None
    assert "4 of 3" not in searched
    whole = budget.forecast(bench, request)
    assert (whole.searches, whole.pilots.at.tolist()) == (3, [0, 0, 5])
    assert whole.steps.tolist() == [0, 3, 6]
    assert (whole.recall[:, 0] == 1).all()
    assert np.isfinite(whole.delta_norm[:, 1:]).all()
    stored = budget.known(replace(bench, load=partial(pytest.fail, "the model was loaded")), request)
    assert stored is not None
    name = budget.key(bench, request)
    entry = bench.store.get(name)
    assert entry is not None
    early = {part: array for part, array in entry.arrays.items() if part not in BY_FACT}
    bench.store.put(name, entry.meta, early)  # as an early version stored it
    assert budget.known(bench, request) is None
    searched.clear()
    completed = budget.forecast(bench, request, report=lambda stage, *_: searched.append(stage))
    assert budget.STAGE not in searched, "its pilots are kept"
    bench.store.delete(name)
    again = budget.forecast(bench, request)
    for other in (stored, completed, again):
        for part in ("steps", *CURVES, *BY_FACT):
            np.testing.assert_array_equal(getattr(other, part), getattr(whole, part))
    other_seed = asked(bench, edits=6, every=3, steps=1, draw=lifelong.Draw(seed=1))
    assert budget.key(bench, other_seed) != budget.key(bench, request)


def test_what_becomes_of_each_fact_is_the_mean_over_redraws(bench: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter(np.array([[[0, 4, 1], [0, 4, 1]], [[-2, 4, np.nan], [-6, 5, 3]], [[-4, 4, np.nan], [-6, 5, np.nan]]]))

    def health(_: StandIns, now: list[np.ndarray] = []) -> Health:  # noqa: B006 - one list for all calls, on purpose
        now.extend([] if now else next(seen))
        return Health(1.0, 0.0, 1.0, now.pop(0))

    monkeypatch.setattr("kis_core.lifelong.redraws.REDRAWS", 2)
    monkeypatch.setattr(StandIns, "health", health)
    monkeypatch.setattr(StandIns, "make", lambda *_: None)
    steps, parts = redraws(plan_of(bench, asked(bench, edits=4)), law(np.zeros(2)))
    assert steps.tolist() == [0, 2, 4]
    np.testing.assert_array_equal(parts["fact_change"], [[0, 0, 0], [-4, 0.5, 2], [-5, 0.5, np.nan]])
    np.testing.assert_allclose(parts["fact_spread"][1], [np.sqrt(8), np.sqrt(0.5), np.nan])
    forecast = made_up(np.ones((2, 3)), parts["fact_change"])
    assert budget.fact_changes(forecast, 5).tolist() == [-2, 0.25, 1]
    assert budget.fact_changes(forecast, 50).tolist()[:2] == [-5, 0.5], "after its end, that of its end"


def made_up(recall: np.ndarray, fact_change: np.ndarray) -> Budget:
    """A forecast of 40 edits, two redraws to 0, 10 and 20 of them."""
    other = np.ones((2, 3))
    curves = (recall, other, other, other, other, fact_change, np.zeros_like(fact_change))
    return Budget(40, np.array([0, 10, 20]), *curves, law(np.zeros(2)), 4, 1.0)


def test_half_life_and_its_interval_by_hand() -> None:
    forecast = made_up(HALVED, np.zeros((3, 0)))
    half = budget.half_life(forecast)
    assert (half.middle, half.unreached, forecast.share) == (pytest.approx(np.sqrt(150)), 0, 0.1)
    spread = np.log(15 / 10) / np.sqrt(2)  # of two logarithms, about their mean
    assert half.high / half.middle == pytest.approx(np.exp(6.3138 * spread * np.sqrt(1.5)), rel=1e-3)  # t, 1 degree
    frame = budget.curve(forecast)
    assert frame["recall"].tolist() == [1.0, 0.625, 0.125]
    assert frame["recall_low"].tolist()[0] == frame["recall_high"].tolist()[0] == 1.0
    assert frame["recall_low"].between(0, 1).all()
    late = replace(forecast, recall=np.array([[1.0, 0.9, 0.6], [1.0, 0.5, 0.0]]))
    assert (budget.half_life(late).unreached, budget.half_life(late).high) == (1, float("inf"))
