"""Measurement of an edit: against shares added by hand, and a slow float64 model with really edited weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kis_core import editing
from kis_core.facts import Fact
from kis_core.scoring.log_odds import tokenize_sentences
from kis_core.spillover import answers, measure
from tests.spillover.forecast_tools import PASS, SOME_EDITS, Bench, assert_close, bench, gpt2, weights_stay
from tests.spillover.test_sensitivity import FACTS, Slow

__all__ = ["bench", "gpt2", "weights_stay"]  # fixtures


class TestMeasurement:
    def test_equals_the_shares_added_at_all_tokens_by_hand(self, bench: Bench) -> None:
        slow, scale = bench.case.slow, np.abs(bench.case.layers[0].log_odds).max()
        for layer, e in SOME_EDITS:
            edit, facts = bench.edit(e, layer), bench.case.layers[layer]
            expected = [
                slow.log_odds(fact, layer, bench.added(edit, j)).item() - slow.log_odds(fact).item()
                for j, fact in enumerate(FACTS)
            ]
            found = measure(bench.case.loaded, bench.case.sentences, edit, facts)
            assert_close(found.log_odds, np.array(expected), PASS, scale=scale)
            assert np.abs(found.log_odds).max() > 100 * PASS * scale, "a test of nothing"

    @pytest.mark.parametrize(("method", "layer", "e"), [("rome", 0, 0), ("r-rome", 1, 3), ("identity", 0, 3)])
    def test_equals_the_model_with_really_edited_weights(self, bench: Bench, method: str, layer: int, e: int) -> None:
        edit, facts = bench.edit(e, layer, editing.rank_one_method(method)).scaled(4.0), bench.case.layers[layer]
        found = measure(bench.case.loaded, bench.case.sentences, edit, facts)
        edited, slow, scale = bench.edited(edit), bench.case.slow, np.abs(facts.log_odds).max()
        log_odds = [edited.log_odds(fact).item() - slow.log_odds(fact).item() for fact in FACTS]
        log_prob = [self.log_prob(edited, fact) - self.log_prob(slow, fact) for fact in FACTS]
        assert_close(found.log_odds, np.array(log_odds), PASS, scale=scale)
        assert_close(found.log_prob, np.array(log_prob), PASS, scale=scale)
        assert found.answers == tuple(self.answer(edited, fact) for fact in FACTS)
        assert found.answers != answers(bench.case.loaded, bench.case.sentences), "a test of nothing"

    def log_prob(self, slow: Slow, fact: Fact) -> float:
        return slow.log_prob(fact, slow.read(fact, 0).logits).item()

    def answer(self, slow: Slow, fact: Fact) -> str:
        """The first choice, and then what goes on within the same word, at most four tokens more."""
        ids = slow.tokenizer.encode(fact.text)
        begun = len(ids)
        while len(ids) < begun + 5:
            with torch.no_grad():
                token = int(slow.model(torch.tensor([ids])).logits[0, -1].argmax())
            piece = slow.tokenizer.convert_ids_to_tokens(token)
            if len(ids) > begun and (piece.startswith("Ġ") or not any(character.isalnum() for character in piece)):
                break
            ids.append(token)
        return slow.tokenizer.decode(ids[begun:]).strip()

    def test_answers_before(self, bench: Bench) -> None:
        told = answers(bench.case.loaded, bench.case.sentences)
        assert told == tuple(self.answer(bench.case.slow, fact) for fact in FACTS)

    def test_answers_before_where_the_space_is_a_token_of_its_own(self, gpt2: Bench) -> None:
        loaded, slow, fact = gpt2.case.loaded, gpt2.case.slow, Fact("Oslo", "{} lies in", "@Norway")
        assert slow.tokenizer.decode(slow.tokens(fact)[1][:1]) == " "
        [sentence] = tokenize_sentences(loaded.tokenizer, [fact], context=loaded.context)
        assert answers(loaded, [sentence]) == (self.answer(slow, fact),), "as the analysis has it"

    def test_an_edit_of_no_strength_changes_nothing(self, bench: Bench) -> None:
        facts = bench.case.layers[0]
        found = measure(bench.case.loaded, bench.case.sentences, bench.edit(3).scaled(0.0), facts)
        assert not found.shift.any()
        for change in (found.log_odds, found.log_prob):
            assert_close(change, np.zeros(len(FACTS)), PASS, scale=np.abs(facts.log_odds).max())
        assert found.answers == answers(bench.case.loaded, bench.case.sentences)
