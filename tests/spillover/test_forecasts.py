"""Forecasts of an edit: against what is measured, loops written out, and a slow float64 model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kis_core import editing
from kis_core.editing import DenseEdit, Edit, Method
from kis_core.spillover import forecast, measure
from tests.spillover.forecast_tools import (
    LINEAR,
    PASS,
    SIZE,
    SOME_EDITS,
    Bench,
    assert_close,
    bench,
    gpt2,
    weights_stay,
)
from tests.spillover.test_sensitivity import FACTS

__all__ = ["bench", "gpt2", "weights_stay"]  # fixtures
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
            found = measure(bench.case.loaded, bench.case.sentences, edit, facts).shift
            floor = SHIFT_FLOOR * np.abs(facts.outputs).max()
            np.testing.assert_allclose(forecast_shift, found, rtol=SHIFT, atol=floor)

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
        found = measure(gpt2.case.loaded, gpt2.case.sentences, turned, facts).shift
        np.testing.assert_allclose(shift, found, rtol=SHIFT, atol=SHIFT_FLOOR * np.abs(facts.outputs).max())


class TestFirstOrder:
    def test_written_out(self, bench: Bench) -> None:
        for layer, e in SOME_EDITS:
            facts, edit = bench.case.layers[layer], bench.edit(e, layer)
            at_subject, changes, largest = [], [], []
            for j in range(len(FACTS)):
                rows = range(facts.starts[j], facts.starts[j + 1])
                shares = [float(facts.keys[row].astype(np.float64) @ edit.reach) for row in rows]
                slopes = [float(facts.gradients[row].astype(np.float64) @ edit.delta) for row in rows]
                at = bench.case.slow.subject_at(FACTS[j])
                at_subject.append(shares[at] * slopes[at])
                changes.append(sum(share * slope for share, slope in zip(shares, slopes, strict=True)))
                largest.append(max(map(abs, shares)))
            assert_close(forecast.subject_token(edit, facts), np.array(at_subject), EXACT)
            assert_close(forecast.all_tokens(edit, facts), np.array(changes), EXACT)
            assert_close(forecast.largest_share(edit, facts), np.array(largest), EXACT)

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
            found = forecast.propagated(bench.case.loaded, bench.case.sentences, edit, facts)
            assert_close(found, np.array(expected), PASS, scale=scale)
            assert np.abs(found).max() > 100 * PASS * scale, "a test of nothing"
            nothing = forecast.propagated(bench.case.loaded, bench.case.sentences, edit.scaled(0.0), facts)
            assert_close(nothing, np.zeros(len(FACTS)), PASS, scale=scale)
