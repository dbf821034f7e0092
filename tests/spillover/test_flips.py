"""Answers that are forecast to change: logits to first order, and the strengths at which lines cross."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kis_core.simulator import FlipForecast
from kis_core.spillover import forecast
from tests import tiny
from tests.spillover.forecast_tools import (
    DIFFERENCE,
    SOME_EDITS,
    STEP,
    Bench,
    assert_close,
    bench,
    gpt2,
    weights_stay,
)
from tests.spillover.test_sensitivity import FACTS

__all__ = ["bench", "gpt2", "weights_stay"]  # fixtures
LOGITS = 5e-6  # logits against the slow model's, relative to the largest: cancelling sums, not yet log-odds; seen 6e-7


class TestFirstOrderLogits:
    def test_equals_finite_differences_of_the_slow_model(self, bench: Bench) -> None:
        slow = bench.case.slow
        for layer, e in SOME_EDITS:
            edit = bench.edit(e, layer)
            logits, change = forecast.first_order_logits(bench.case.loaded, bench.case.sentences, edit)
            assert logits.shape == change.shape == (len(FACTS), tiny.VOCABULARY)
            assert {logits.dtype, change.dtype} == {torch.float32}
            for j, fact in enumerate(FACTS):
                at, added = len(slow.tokens(fact)[0]) - 1, bench.added(edit, j)
                up, none, down = (slow.read(fact, layer, step * added).logits[at].detach() for step in (STEP, 0, -STEP))
                assert_close(logits[j].numpy(), none.numpy(), LOGITS)
                assert_close(change[j].numpy(), ((up - down) / (2 * STEP)).numpy(), DIFFERENCE)

    def test_in_any_surroundings_and_where_the_edit_has_no_size(self, gpt2: Bench) -> None:
        whole = forecast.first_order_logits(gpt2.case.loaded, gpt2.case.sentences, gpt2.edit(0))
        with torch.inference_mode():
            inside = forecast.first_order_logits(gpt2.case.loaded, gpt2.case.sentences, gpt2.edit(0))
        assert all(torch.equal(a, b) for a, b in zip(whole, inside, strict=True))
        logits, change = forecast.first_order_logits(gpt2.case.loaded, gpt2.case.sentences, gpt2.edit(0).scaled(0.0))
        assert not change.any()
        assert torch.isfinite(logits).all()


def crossed(logits: list[list[float]], change: list[list[float]], *, up_to: float) -> list[tuple[int, float, int]]:
    found = forecast.crossings(torch.tensor(logits), torch.tensor(change), up_to=up_to)
    return sorted(zip(*found, strict=True))


class TestCrossings:
    @pytest.mark.parametrize(
        ("logits", "change", "expected"),
        [
            # 2, 1 + 2s and 3s: at 1/2 the second overtakes the first, at 1 the third the second
            ([2.0, 1.0, 0.0], [0.0, 2.0, 3.0], [(0, 0.5, 1), (0, 1.0, 2)]),
            # the third meets the first at 2/3, but by then the second is ahead of both, and stays
            ([2.0, 1.0, 0.0], [0.0, 6.0, 3.0], [(0, pytest.approx(1 / 6), 1)]),
            ([1.0, 0.0], [1.0, 1.0], []),  # parallel
            ([1.0, 0.0], [2.0, 1.0], []),  # apart
            ([1.0, 1.0], [0.0, 0.0], []),  # the same line twice
            ([1.0, 1.0], [1.0, 0.0], []),  # equal at 0, then apart
            ([1.0, 1.0], [0.0, 1.0], [(0, 0.0, 1)]),  # equal at 0, then the other
            ([1.0, 0.0], [-2.0, 0.0], [(0, 0.5, 1)]),  # falling below another
            ([1.5, 0.0], [0.0, 1.0], [(0, 1.5, 1)]),  # the last strength counts
            ([1.5001, 0.0], [0.0, 1.0], []),
            ([1.0], [5.0], []),
        ],
    )
    def test_by_hand(self, logits: list[float], change: list[float], expected: list[tuple[int, float, int]]) -> None:
        assert crossed([logits], [change], up_to=1.5) == expected

    def test_each_fact_has_its_own(self) -> None:
        logits = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [5.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
        change = [[0.0, 1.0, 2.0], [4.0, 0.0, 0.0], [0.0, 1.0, 2.0], [1.0, 4.0, 0.0]]
        assert crossed(logits, change, up_to=1.5) == [(0, 0.5, 2), (1, 0.25, 0), (3, 0.25, 1)]
        assert forecast.crossings(torch.zeros(0, 3), torch.zeros(0, 3), up_to=1.5) == ([], [], [])

    @given(st.integers(0, 100_000))
    def test_equals_the_first_choice_at_many_strengths(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        logits, change = torch.randn(2, 4, 7, generator=generator) * torch.tensor([1.0, 2.0])[:, None, None]
        before = logits.clone(), change.clone()
        facts, strengths, tokens = forecast.crossings(logits, change, up_to=1.5)
        assert torch.equal(logits, before[0])
        assert torch.equal(change, before[1])
        flips = FlipForecast(tuple(facts), tuple(strengths), tuple(map(str, tokens)))
        for s in np.linspace(0.0, 1.5, 31):
            if any(abs(s - since) < 1e-5 for since in strengths):
                continue  # on which side of a crossing it lies is a matter of rounding
            lines = logits.double() + s * change.double()
            first = {j: str(int(line.argmax())) for j, line in enumerate(lines)}
            moved = {j: word for j, word in first.items() if word != str(int(logits[j].argmax()))}
            assert flips.by(s) == moved


def forecast_of(logits: list[float], change: list[float]) -> FlipForecast:
    facts, strengths, tokens = forecast.crossings(torch.tensor([logits]), torch.tensor([change]), up_to=1.5)
    return FlipForecast(tuple(facts), tuple(strengths), tuple(map(str, tokens)))


class TestFlipsByStrength:
    def test_by_hand(self) -> None:
        flips = FlipForecast((3, 0, 3, 7), (0.25, 0.5, 1.0, 1.25), ("Oslo", "Rome", "Paris", "Bern"))
        assert flips.by(0.2) == FlipForecast((), (), ()).by(1.5) == {}
        assert flips.by(0.25) == {3: "Oslo"}
        assert flips.by(0.75) == {3: "Oslo", 0: "Rome"}
        assert flips.by(1.5) == {3: "Paris", 0: "Rome", 7: "Bern"}

    def test_two_changes_at_once_end_with_the_second(self) -> None:
        flips = forecast_of([2.0, 1.0, 0.0], [0.0, 1.0, 2.0])
        assert flips.by(1.5) == {0: "2"}, "2s beats 1 + s and 2 from strength 1 on"

    def test_two_changes_all_but_at_once_end_with_the_steepest(self) -> None:
        # in float32 the third is found to overtake the second 3e-8 before that overtakes the first
        logits = [1.3792468309402466, 1.484634280204773, 1.5362627506256104, 1.8525166511535645, 1.136396884918213]
        change = [0.5529940128326416, 0.1945880502462387, 0.0190078504383564, -1.0565214157104492, 1.3788881301879883]
        assert max(a + 1.5 * b for a, b in zip(logits, change, strict=True)) == logits[4] + 1.5 * change[4]
        assert forecast_of(logits, change).by(1.5) == {0: "4"}
