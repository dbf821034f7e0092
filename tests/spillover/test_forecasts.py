"""Forecasts of an edit, and of answers that flip: against measurements, loops and a slow float64 model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kis_core import editing
from kis_core.editing import DenseEdit, Edit, Method
from kis_core.simulator import FlipForecast
from kis_core.spillover import forecast, measure
from tests import tiny
from tests.spillover.forecast_tools import (
    DIFFERENCE,
    LINEAR,
    PASS,
    SIZE,
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
EXACT = 1e-12  # the same float64 numbers summed in another order, relative to the largest
SHIFT = 1e-4
"""The measured shift, relative: it is read off float32 outputs."""
SHIFT_FLOOR = 5e-7
"""Below this share of the largest output it drowns in the rounding of the outputs themselves, 6e-8 each; seen 4e-8."""
every_method = pytest.mark.parametrize("method", editing.RANK_ONE, ids=lambda method: method.name)


class TestShift:
    @every_method
    def test_equals_what_is_measured(self, bench: Bench, method: Method) -> None:
        for layer, e in SOME_EDITS:
            facts, edit = bench.case.layers[layer], bench.edit(e, layer, method)
            forecast_shift = forecast.shift(edit, facts)
            actual = measure(bench.case.loaded, bench.case.sentences, edit, facts).shift
            floor = SHIFT_FLOOR * np.abs(facts.outputs).max()
            np.testing.assert_allclose(forecast_shift, actual, rtol=SHIFT, atol=floor)

    def test_is_p_times_the_size_for_an_edit_of_eq_2(self, bench: Bench) -> None:
        inverse = np.linalg.inv(bench.c)
        for layer, e in SOME_EDITS:
            facts, edit = bench.case.layers[layer], bench.edit(e, layer)
            keys = facts.subject_keys.astype(np.float64)
            p = np.array([keys[e] @ inverse @ k / (keys[e] @ inverse @ keys[e]) for k in keys])
            assert_close(forecast.shift(edit, facts), p * np.sqrt((edit.delta**2).sum()), 1e-9)  # C twice inverted
            assert forecast.shift(edit, facts)[e] == pytest.approx(SIZE, rel=1e-9)

    def test_has_the_sign_of_the_share_and_not_of_the_value(self, gpt2: Bench) -> None:
        facts, edit = gpt2.case.layers[0], gpt2.edit(0)
        shift = forecast.shift(edit, facts)
        assert (np.sign(shift) == np.sign(facts.subject_keys @ edit.reach)).all()
        turned = Edit(0, edit.reach, -edit.delta)
        assert np.array_equal(forecast.shift(turned, facts), shift)
        actual = measure(gpt2.case.loaded, gpt2.case.sentences, turned, facts).shift
        np.testing.assert_allclose(shift, actual, rtol=SHIFT, atol=SHIFT_FLOOR * np.abs(facts.outputs).max())


class TestFirstOrder:
    def test_of_a_full_edit_is_the_sum_over_the_thin_ones_it_is_made_of(self, bench: Bench) -> None:
        parts, facts = [bench.edit(e, 1) for e in range(4)], bench.case.layers[1]
        whole = DenseEdit(1, np.sum([np.outer(part.delta, part.reach) for part in parts], axis=0))
        for of in (forecast.subject_token, forecast.all_tokens):
            assert_close(of(whole, facts), np.sum([of(part, facts) for part in parts], axis=0), EXACT)

    def test_both_are_the_slow_models_derivatives_by_strength(self, bench: Bench) -> None:
        for layer, e in SOME_EDITS:
            edit, facts = bench.edit(e, layer), bench.case.layers[layer]
            slopes = np.array([self.slopes(bench, edit, j) for j in range(len(FACTS))])
            assert_close(forecast.subject_token(edit, facts), slopes[:, 0], LINEAR)
            assert_close(forecast.all_tokens(edit, facts), slopes.sum(axis=1), LINEAR)

    def slopes(self, bench: Bench, edit: Edit, j: int) -> list[float]:
        """Derivatives of fact j's log-odds by the strength at the subject's last token, and at all others; at 0."""
        at_subject = bench.at_subject(edit, j)
        elsewhere = bench.added(edit, j) - at_subject
        strengths = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        added = strengths[0] * at_subject + strengths[1] * elsewhere
        bench.case.slow.log_odds(FACTS[j], edit.layer, added).backward()
        assert strengths.grad is not None
        return strengths.grad.tolist()

    def test_in_the_last_layer_only_the_answers_own_tokens_count(self, gpt2: Bench) -> None:
        facts, edit = gpt2.case.layers[-1], gpt2.edit(0, 2)
        ends_with_subject = [fact.prompt.endswith("{}") for fact in FACTS]
        assert (forecast.subject_token(edit, facts) != 0).tolist() == ends_with_subject
        assert (forecast.all_tokens(edit, facts) != 0).all()


class TestPropagated:
    def test_equals_an_own_pass_for_every_fact(self, bench: Bench) -> None:
        slow, scale = bench.case.slow, np.abs(bench.case.layers[0].log_odds).max()
        for layer, e in SOME_EDITS:
            edit, facts = bench.edit(e, layer), bench.case.layers[layer]
            expected = [
                slow.log_odds(fact, layer, bench.at_subject(edit, j)).item() - slow.log_odds(fact).item()
                for j, fact in enumerate(FACTS)
            ]
            actual = forecast.propagated(bench.case.loaded, bench.case.sentences, edit, facts)
            assert_close(actual, np.array(expected), PASS, scale=scale)
            assert np.abs(actual).max() > 100 * PASS * scale, "a test of nothing"
            nothing = forecast.propagated(bench.case.loaded, bench.case.sentences, edit.scaled(0.0), facts)
            assert_close(nothing, np.zeros(len(FACTS)), PASS, scale=scale)


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
    actual = forecast.crossings(torch.tensor(logits), torch.tensor(change), up_to=up_to)
    return sorted(zip(*actual, strict=True))


class TestCrossings:
    @pytest.mark.parametrize(
        ("logits", "change", "expected"),
        [
            # 2, 1 + 2s and 3s: at 1/2 the second overtakes the first, at 1 the third the second
            ([2.0, 1.0, 0.0], [0.0, 2.0, 3.0], [(0, 0.5, 1), (0, 1.0, 2)]),
            # the third meets the first at 2/3, but by then the second is ahead of both, and stays
            ([2.0, 1.0, 0.0], [0.0, 6.0, 3.0], [(0, pytest.approx(1 / 6), 1)]),
            ([1.0, 0.0], [1.0, 1.0], []),  # parallel
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
