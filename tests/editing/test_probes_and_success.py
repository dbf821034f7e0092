"""What is asked about an edit, and the numbers of its success against an independent look at weights really written."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from kis_core import corpora, editing
from kis_core.covariance.passes import second_moments
from kis_core.covariance.whitener import Whitener
from kis_core.editing import Edit, Probes, Success, probes, succeeded
from kis_core.editing.scores import SCORES, Scores
from kis_core.facts import Fact, builtin
from kis_core.models import catalog
from kis_core.models.loaded import LoadedModel
from kis_core.models.loading import load

PROBABILITY = 1e-4  # relative: float32 logits of size 20 against float64, in an exponent; seen 9e-6
PATHS = "transformer.h.{}.mlp.c_proj"
WORDS_SAID = 12  # of a look at what the model goes on to say


@dataclass(frozen=True)
class Case:
    """A fact, its new object, a real edit towards it, and what is asked about it."""

    fact: Fact
    target: str
    edit: Edit
    probes: Probes


@pytest.fixture(scope="module")
def demo() -> LoadedModel:
    return load(catalog.locate("demo-gpt2-32"), device="cpu")


@pytest.fixture(scope="module")
def cases(demo: LoadedModel) -> list[Case]:
    """Real edits, weak to excessive, so that all numbers take many values."""
    facts = builtin().facts
    known = catalog.known_facts(catalog.DEFAULT, facts)
    how = replace(editing.recipe("demo-gpt2-32", width=32, layers=4).hyperparameters, steps=25)
    [moment] = second_moments(demo, corpora.builtin().texts, tokens=4000, layers=[0])
    whitener, rome = Whitener.fit(moment.matrix), editing.rank_one_method("rome")
    made = []
    for number in (0, 48):
        fact = facts[number]
        target = known.new_objects(fact)[0]
        value = editing.search(demo, fact, target, 0, how, reach=lambda k, mean: rome.reach(k, mean, whitener, how))
        asked = probes(fact, known)
        if asked.neighbours:  # one that did not have its object even before
            asked = replace(asked, neighbours=(*asked.neighbours, replace(asked.neighbours[0], target="Valletta")))
        edit = rome.edit(value, whitener, 0, how)
        made += [Case(fact, target, edit.scaled(strength), asked) for strength in (0.3, 1.0, 2.0)]
    # an old object the model never gave, so that the new one may be the likelier without being the first choice
    made.append(Case(replace(facts[0], target="Swahili"), "German", made[0].edit.scaled(0.0), Probes((), (), True)))
    return made


class Independent:
    """Weights really written, in float64; every question asked alone."""

    def __init__(self, demo: LoadedModel, *edits: Edit) -> None:
        self.tokenizer = demo.tokenizer
        self.model: PreTrainedModel = copy.deepcopy(demo.model).double()
        self.tokens = cache(self._tokens)
        for edit in edits:
            change = torch.outer(torch.tensor(edit.reach), torch.tensor(edit.delta))  # Conv1D stores W as (d_m, d)
            self.model.get_submodule(PATHS.format(edit.layer)).weight.add_(change)

    @torch.no_grad()
    def _tokens(self, text: str, target: str) -> list[tuple[int, int, float]]:
        """Of each token of the target: itself, the first choice at its place, and its log p."""
        prompt, whole = self.tokenizer(text)["input_ids"], self.tokenizer(f"{text} {target}")["input_ids"]
        assert whole[: len(prompt)] == prompt
        log_p = torch.log_softmax(self.model(torch.tensor([whole])).logits[0], dim=-1)
        places = range(len(prompt), len(whole))
        return [(whole[at], int(log_p[at - 1].argmax()), float(log_p[at - 1, whole[at]])) for at in places]

    def asked(self, text: str, target: str) -> tuple[bool, float]:
        """Whether every token of the target is the first choice, and log p of them all."""
        tokens = self.tokens(text, target)
        return all(token == choice for token, choice, _ in tokens), sum(log_p for _, _, log_p in tokens)

    def share(self, facts: Sequence[Fact], target: str | None = None) -> float | None:
        hits = [self.asked(fact.text, target or fact.target)[0] for fact in facts]
        return hits.count(True) / len(hits) if hits else None

    def compared(self, facts: Sequence[Fact], new: str, *, old_first: bool = False) -> list[float | None]:
        """ROME's score and magnitude, from its losses: the mean over tokens, so that length does not count."""
        losses = [
            [-statistics.fmean(log_p for _, _, log_p in self.tokens(fact.text, word)) for word in (new, fact.target)]
            for fact in facts
        ]
        if not losses:
            return [None, None]
        wanted, other = np.array(losses).T[::-1] if old_first else np.array(losses).T
        return [float(np.mean(other > wanted)), float(np.mean(np.exp(-wanted) - np.exp(-other)))]

    def accuracy(self, facts: Sequence[Fact], target: str) -> float | None:
        rows = [[token == choice for token, choice, _ in self.tokens(fact.text, target)] for fact in facts]
        return statistics.fmean(map(statistics.fmean, rows)) if rows else None

    def first_choices(self, fact: Fact) -> list[int]:
        return [choice for _, choice, _ in self.tokens(fact.text, fact.target)]

    @torch.no_grad()
    def goes_on(self, text: str) -> str:
        ids = self.tokenizer(text)["input_ids"]
        begun = len(ids)
        for _ in range(WORDS_SAID):
            ids = [*ids, int(self.model(torch.tensor([ids])).logits[0, -1].argmax())]
        return self.tokenizer.decode(ids[begun:]).strip()


def expected_scores(case: Case, edited: Independent, plain: Independent) -> list[float | None]:
    """In the order of `SCORES`."""
    neighbours = case.probes.neighbours
    kept = [
        statistics.fmean(a == b for a, b in zip(edited.first_choices(fact), plain.first_choices(fact), strict=True))
        for fact in neighbours
    ]
    return [
        *edited.compared([case.fact], case.target),
        *edited.compared(case.probes.paraphrases, case.target),
        *edited.compared(neighbours, case.target, old_first=True),
        edited.accuracy([case.fact], case.target),
        edited.accuracy(case.probes.paraphrases, case.target),
        statistics.fmean(kept) if kept else None,
    ]


def assert_scores(actual: Scores, expected: list[float | None]) -> None:
    for name, value in zip(SCORES, expected, strict=True):
        assert getattr(actual, name) == (value if value is None else pytest.approx(value, abs=PROBABILITY)), name


class TestSucceeded:
    def test_all_numbers_equal_those_of_an_independent_check(self, demo: LoadedModel, cases: list[Case]) -> None:
        weights, plain = demo.digest(), Independent(demo)
        seen: list[Success] = []
        for case in cases:
            actual = succeeded(demo, case.edit, case.fact, case.target, case.probes)
            seen.append(actual)
            edited, text = Independent(demo, case.edit), case.fact.text
            first, log_new = edited.asked(text, case.target)
            _, log_old = edited.asked(text, case.fact.target)
            assert actual.efficacy is first
            assert actual.likelier is (edited.compared([case.fact], case.target)[0] == 1)
            assert actual.probability_new == pytest.approx(math.exp(log_new), rel=PROBABILITY)
            assert actual.probability_old == pytest.approx(math.exp(log_old), rel=PROBABILITY)
            assert actual.paraphrase == edited.share(case.probes.paraphrases, case.target)
            assert actual.neighbourhood == edited.share(case.probes.neighbours)
            assert actual.neighbourhood_before == plain.share(case.probes.neighbours)
            assert_scores(actual.scores, expected_scores(case, edited, plain))
            assert_scores(actual.scores_before, expected_scores(case, plain, plain))
            assert (actual.generated, actual.generated_before) == (edited.goes_on(text), plain.goes_on(text))
        assert demo.digest() == weights
        assert not any(module._forward_hooks for module in demo.model.modules())
        # numbers that were all alike would prove nothing
        assert {(one.efficacy, one.likelier) for one in seen} == {(True, True), (False, False)}
        wordy = seen[-1]
        assert wordy.probability_new > wordy.probability_old, "as a whole, for it is the shorter one"
        assert not wordy.likelier
        for name in SCORES:
            assert len({getattr(one.scores, name) for one in seen} - {None}) > 1, f"{name} would prove nothing"
        assert {0.0, 1.0, None} <= {one.paraphrase for one in seen}
        assert len({one.neighbourhood for one in seen}) > 4
        before = {one.neighbourhood_before for one in seen}
        assert None in before
        assert before != {1.0, None}
        assert any(one.generated != one.generated_before for one in seen)

    def test_without_probes_there_are_no_shares_and_a_strong_edit_is_said(
        self, demo: LoadedModel, cases: list[Case]
    ) -> None:
        case = cases[1]
        actual = succeeded(demo, case.edit, case.fact, case.target, Probes())
        assert (actual.paraphrase, actual.neighbourhood, actual.neighbourhood_before) == (None, None, None)
        assert actual.generated.startswith(case.target)
