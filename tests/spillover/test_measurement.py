"""Measurement of edits: against shares added by hand, and a slow float64 model with really edited weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kis_core import editing
from kis_core.editing import DenseEdit, Edit, applied
from kis_core.facts import Fact
from kis_core.scoring.log_odds import Sentence, tokenize_sentences
from kis_core.spillover import measure, observe, sensitivity
from tests import tiny
from tests.spillover.forecast_tools import PASS, Bench, assert_close, bench, gpt2, weights_stay
from tests.spillover.test_sensitivity import FACTS, Slow

__all__ = ["bench", "gpt2", "weights_stay"]  # fixtures


class TestMeasurement:
    @pytest.mark.parametrize(("method", "layer", "e"), [("rome", 0, 0), ("r-rome", 1, 3), ("identity", 0, 3)])
    def test_equals_the_model_with_really_edited_weights(self, gpt2: Bench, method: str, layer: int, e: int) -> None:
        edit, facts = gpt2.edit(e, layer, editing.rank_one_method(method)).scaled(4.0), gpt2.case.layers[layer]
        actual = measure(gpt2.case.loaded, gpt2.case.sentences, edit, facts)
        edited, slow, scale = gpt2.edited(edit), gpt2.case.slow, np.abs(facts.log_odds).max()
        log_odds = [edited.log_odds(fact).item() - slow.log_odds(fact).item() for fact in FACTS]
        log_prob = [self.log_prob(edited, fact) - self.log_prob(slow, fact) for fact in FACTS]
        assert_close(actual.log_odds, np.array(log_odds), PASS, scale=scale)
        assert_close(actual.log_prob, np.array(log_prob), PASS, scale=scale)
        assert actual.answers == tuple(self.answer(edited, fact) for fact in FACTS)
        before = measure(gpt2.case.loaded, gpt2.case.sentences, edit.scaled(0.0), facts).answers
        assert before == tuple(self.answer(slow, fact) for fact in FACTS)
        assert actual.answers != before, "a test of nothing"

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

    def test_words_are_those_of_a_model_that_is_run_on_token_by_token(self, gpt2: Bench) -> None:
        """Answers that the model gives, or gives but for their end, so that the one pass tells all, part or none."""
        loaded, slow = gpt2.case.loaded, gpt2.case.slow
        oslo = Fact("Oslo", "{} lies in", "@Norway")  # its space is a token of its own
        assert slow.tokenizer.decode(slow.tokens(oslo)[1][:1]) == " "
        sentences = tokenize_sentences(loaded.tokenizer, [oslo], context=loaded.context)
        expected = [self.answer(slow, oslo)]
        for fact in FACTS:
            ids, said = slow.tokenizer.encode(fact.text), []
            for _ in range(6):
                with torch.no_grad():
                    said.append(int(slow.model(torch.tensor([[*ids, *said]])).logits[0, -1].argmax()))
                for answer in (list(said), [*said[:-1], said[-1] + 1]):
                    sentences.append(Sentence([*ids, *answer[:-1]], len(ids) - 1, answer))
                    expected.append(self.answer(slow, fact))
        facts = sensitivity(loaded, sentences, 1)
        actual = measure(loaded, sentences, gpt2.edit(0, 1).scaled(0.0), facts).answers
        assert actual == tuple(expected)
        assert any(word.isalpha() and len(word) > 1 for word in expected)


READ = 5e-6  # what one float32 pass says, relative to the largest; seen 6e-7
MIXTURE = tuple(
    change
    for seed, layer in enumerate((2, 0, 1))
    for change in (
        DenseEdit(layer, np.random.default_rng(seed).normal(size=(24, 40)) / 4),
        Edit(layer, np.random.default_rng(seed).normal(size=40) / 2, np.random.default_rng(seed + 9).normal(size=24)),
    )
)
"""Full and thin edits in every layer, out of order."""


class TestObserve:
    """Whatever is applied around it, it sees; one by one or in a batch."""

    def ranks(self, slow: Slow, fact: Fact) -> range:
        """What the worst place of any token of the answer may be, as far as logits are rounded; one after the other."""
        prompt, answer = slow.tokens(fact)
        best = worst = 0
        for k, token in enumerate(answer):
            with torch.no_grad():
                logits = slow.model(torch.tensor([[*prompt, *answer[:k]]])).logits[0, -1].tolist()
            rounding = READ * max(abs(logit) for logit in logits)
            best = max(best, 1 + sum(logit > logits[token] + rounding for logit in logits))
            worst = max(worst, sum(logit >= logits[token] - rounding for logit in logits))
        return range(best, worst + 1)

    @pytest.mark.parametrize("layer", [0, 1])
    def test_equals_an_edited_model_that_reads_one_at_a_time(self, bench: Bench, layer: int) -> None:
        slow, case = bench.edited(*MIXTURE), bench.case
        with applied(case.loaded, *MIXTURE):
            actual = observe(case.loaded, case.sentences, layer)
            alone = [observe(case.loaded, [sentence], layer) for sentence in case.sentences]
        seen = [slow.read(fact, layer) for fact in FACTS]
        outputs = np.array([read.outputs[slow.subject_at(fact)] for read, fact in zip(seen, FACTS, strict=True)])
        log_prob = np.array([slow.log_prob(fact, read.logits).item() for read, fact in zip(seen, FACTS, strict=True)])
        log_odds = np.array([slow.log_odds(fact).item() for fact in FACTS])
        first = [int(r.logits[len(slow.tokens(f)[0]) - 1].argmax()) for r, f in zip(seen, FACTS, strict=True)]
        ranks = [self.ranks(slow, fact) for fact in FACTS]
        assert sum(map(len, ranks)) < 2 * len(FACTS), "hardly a test"
        assert actual.outputs.dtype == np.float32
        for outputs_of, odds_of, prob_of, rank_of, first_of in (
            (
                actual.outputs,
                actual.log_odds,
                actual.log_prob,
                actual.rank.tolist(),
                [tokens[0] for tokens in actual.said],
            ),
            (
                np.concatenate([one.outputs for one in alone]),
                np.concatenate([one.log_odds for one in alone]),
                np.concatenate([one.log_prob for one in alone]),
                [one.rank.tolist()[0] for one in alone],
                [one.said[0][0] for one in alone],
            ),
        ):
            assert_close(outputs_of, outputs, READ)
            assert_close(odds_of, log_odds, READ)
            assert_close(prob_of, log_prob, READ)
            assert all(rank in possible for rank, possible in zip(rank_of, ranks, strict=True))
            assert first_of == first

    def test_a_rank_of_one_is_a_right_answer(self, gpt2: Bench) -> None:
        """An answer made of the model's own first choices, and the same with another token at its end or beginning."""
        case, said = gpt2.case, []
        ids = case.loaded.tokenizer.encode(FACTS[0].text)
        for _ in range(3):
            said.append(int(case.slow.model(torch.tensor([[*ids, *said]])).logits[0, -1].argmax()))
        runs = [Sentence([*ids, *answer[:-1]], 2, answer) for answer in (said, [*said[:2], 7], [7, *said[1:]])]
        actual = observe(case.loaded, runs, 0)
        assert (actual.rank == 1).tolist() == [True, False, False]
        assert [tokens[:3] for tokens in actual.said] == [said, said, said[:1]]

    def test_of_nothing_and_of_a_model_that_says_no_number(self, gpt2: Bench) -> None:
        nothing = observe(gpt2.case.loaded, [], 1)
        assert (nothing.outputs.shape, len(nothing.log_odds), len(nothing.rank), nothing.said) == ((0, 24), 0, 0, [])
        with applied(gpt2.case.loaded, DenseEdit(1, np.full((24, 40), 1e38))):
            actual = observe(gpt2.case.loaded, gpt2.case.sentences, 1)
        assert np.isnan(actual.log_odds).all()
        assert actual.rank.tolist() == [tiny.VOCABULARY] * len(FACTS)
