"""What several forecasts come to: which run lasts longest, in words, and all in a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kis_core.editing import Hyperparameters, ModelScale, method
from kis_core.lifelong import Draw, LifelongRequest
from kis_core.lifelong.budget import Budget, half_life
from kis_core.lifelong.budget_advice import ForecastRun, advice, life, markdown, names, table
from kis_core.lifelong.pilots import Pilots

SCALE = ModelScale("demo-gpt2-32", 4, 32, 128)
PLANNED = 100
MOST_FIRST = Draw("most")


def run(
    lives: list[float], name: str = "rome", draw: Draw | None = None, *layers: int, model: str = "m"
) -> ForecastRun:
    """A run whose redraws forget half after so many edits; beyond `PLANNED` they do not."""
    steps = np.arange(PLANNED + 1)
    recall = np.clip(np.array(lives)[:, None] - steps + 0.5, 0, 1)
    other, no_facts = np.zeros_like(recall), np.zeros((PLANNED + 1, 0))
    pilots = Pilots(np.ones((2, 3)), np.zeros(2, int), np.zeros(2, int), np.zeros(2))
    budget = Budget(PLANNED, steps, recall, *[other] * 4, no_facts, no_facts, pilots=pilots, searches=18, seconds=3.0)
    kind: Any = method(name)
    drawn = draw or Draw()
    chosen = layers or (0,)
    request = LifelongRequest(chosen, name, PLANNED, drawn, 5, 1, Hyperparameters(), kind.settings.suited(SCALE))
    return ForecastRun(model, request, budget)


def test_the_best_run_is_named_by_what_tells_it_from_the_others() -> None:
    runs = [
        run([30, 34], "rome", None, 0),
        run([80, 90], "memit", None, 1),
        run([40, 45], "memit", MOST_FIRST, 1),
    ]
    assert names(runs) == [
        "layer 0 with ROME, at random",
        "layer 1 with MEMIT, at random",
        "layer 1 with MEMIT, most superposed first",
    ]
    assert names(runs[1:]) == ["at random", "most superposed first"]
    assert names([run([5, 6], model="a"), run([5, 6], model="b")]) == ["a", "b"]
    assert names([run([5, 6], "memit"), run([5, 6], "memit", None, 0, 1)]) == ["layer 0", "layers 0–1"]
    assert names([run([5, 6])] * 2) == [run([5, 6]).request.label] * 2


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (
            [run([80, 80.2]), run([40, 40.2], draw=MOST_FIRST)],
            "Of these, at random is forecast to last longest: 80 (79–82) edits; most superposed first would halve it.",
        ),
        (
            [run([20, 20]), run([80, 80], "memit")],
            "Of these, MEMIT is forecast to last longest: 80 (80–80) edits; ROME would cut it to 25%.",
        ),
        (
            [run([80, 80]), run([60, 90], "memit"), run([10, 10], "rect")],
            "Of these, ROME is forecast to last longest: 80 (80–80) edits; MEMIT may last as long, 73 (8–675); RECT "
            "would cut it to 13%.",
        ),
        (
            [run([80, 80]), *(run([60, 90], name) for name in ("memit", "rect", "emmet"))],
            "Of these, ROME is forecast to last longest: 80 (80–80) edits; 3 others may last as long within their "
            "intervals.",
        ),
        (
            [run([999, 999]), run([30, 30], "memit")],
            "Of these, ROME is forecast to last longest: more than 100 edits; MEMIT would last 30 (30–30).",
        ),
        (
            [run([999, 999]), run([999, 999], "rect"), run([50, 999], "memit"), run([9, 9], "emmet")],
            "Of these, ROME, RECT are forecast not to forget half within the run; MEMIT may last as long, more than 71 "
            "(from 2); EMMET would last 9 (9–9).",
        ),
        (
            [run([80, 80]), run([60, 60], draw=Draw(seed=1))],
            "These differ in their seed alone, by chance: half is forecast to be forgotten after 60 to 80 edits.",
        ),
    ],
)
def test_advice(runs: list[ForecastRun], expected: str) -> None:
    assert advice(runs) == expected


def test_one_forecast_is_nothing_to_choose_from() -> None:
    with pytest.raises(ValueError, match="two forecasts"):
        advice([run([5, 6])])


def test_the_table_has_a_row_a_run() -> None:
    runs = [run([30, 34], "rome", None, 0), run([50, 999], "memit", None, 0, 1)]
    frame = table(runs)
    assert frame[["layers", "method", "edits", "unreached", "searches"]].to_numpy().tolist() == [
        ["0", "rome", 100, 0, 18],
        ["0–1", "memit", 100, 1, 18],
    ]
    half = half_life(runs[0].budget)
    assert frame.loc[0, ["forecast", "low", "high", "share"]].tolist() == [half.middle, half.low, half.high, 0.18]
    assert frame["high"][1] == np.inf
    assert f"| layers 0–1 with MEMIT | m       | {life(half_life(runs[1].budget))}" in markdown(runs)
