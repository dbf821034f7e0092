"""The search for a value: against a slow reference, to the last bit, by hand, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from kis_core.covariance.whitener import Whitener
from kis_core.editing import RequestedEdit, Value, rank_one_method, reaches_answer, search
from kis_core.editing.contexts import random_prefixes
from kis_core.editing.edit import EditError
from kis_core.facts import Fact
from kis_core.keys import SubjectNotFound
from kis_core.models.loaded import LoadedModel
from tests import tiny
from tests.editing.lively_models import hooks_on, lively
from tests.editing.sequence_tools import BEGINNINGS, Written, close
from tests.editing.value_tools import IN_MALTA, MALTA, Running, gpt2, how, running

__all__ = ["gpt2"]  # fixture
REFERENCE = 2e-4  # of δ, relative: float32 gradients through Adam, which divides by their size; seen 3.4e-5
LOSS = 2e-6  # relative: float32 logits in float64 sums; seen 1.1e-7
BY_HAND = 1e-6  # float32 losses of size 1, and Adam's eps of 1e-8 beside gradients of size 1
SITE = 1e-5  # relative: float32 activations three layers deep; seen 6e-7


def assert_equal(actual: Value, expected: Value) -> None:
    """To the last bit."""
    assert (actual.losses, actual.probability) == (expected.losses, expected.probability)
    for name in ("delta", "key", "output", "mean_key", "mean_output"):
        assert np.array_equal(getattr(actual, name), getattr(expected, name)), name


def some_reach(key: np.ndarray, mean_key: np.ndarray) -> np.ndarray:
    """Not along either key, yet with a share of 1 where the edit is."""
    direction = mean_key + np.linspace(-0.1, 0.2, len(key)) * np.abs(key).max()
    return direction / (direction @ key)


CLAMPED = 0.05  # so little that every step is cut
HELD_BACK = how(steps=4, weight_decay=2.0, kl=0.5)
ENDS_WITH_SUBJECT = Fact("Malta", "So the capital of {}", "x")
CASES = {  # fact, layer, how, prefixes
    "one prompt": (MALTA, 0, how(steps=4), ()),
    "the last layer, where the prompt ends with the subject": (ENDS_WITH_SUBJECT, 2, how(steps=4), ()),
    "held back": (MALTA, 1, HELD_BACK, BEGINNINGS),
    "held back, everywhere": (MALTA, 0, replace(HELD_BACK, everywhere=True), BEGINNINGS),
    "clamped": (MALTA, 0, how(steps=4, clamp=CLAMPED), BEGINNINGS),
    "clamped, everywhere": (MALTA, 1, how(steps=4, clamp=CLAMPED, everywhere=True), BEGINNINGS),
}


class TestAgainstASlowReference:
    @pytest.mark.parametrize(
        ("architecture", "case"),
        [
            *(("GPT-2", case) for case in CASES),
            *tiny.in_full((name, "held back, everywhere") for name in tiny.ARCHITECTURES[1:]),
        ],
    )
    def test_every_step_of_adam(self, architecture: str, case: str) -> None:
        fact, layer, chosen, prefixes = CASES[case]
        loaded = lively(architecture, seed=5)
        actual = search(loaded, fact, "a large town", layer, chosen, prefixes=prefixes, reach=some_reach)
        slow, edit = Written(loaded), RequestedEdit(fact, "a large town")
        slow.beginnings = slow.beginnings if prefixes else ()
        key, output, _ = slow.subject(slow.in_contexts(edit)[0], layer)
        mean_key, mean_output, _ = slow.means(edit, layer)
        expected = slow.search(edit, layer, chosen, some_reach(key, mean_key))
        close(actual.delta, expected.delta, REFERENCE)
        assert actual.losses == pytest.approx(expected.losses, rel=LOSS)
        assert actual.probability == pytest.approx(expected.probability, rel=10 * LOSS)  # p = exp(-8)
        for name, site in {"key": key, "output": output, "mean_key": mean_key, "mean_output": mean_output}.items():
            close(getattr(actual, name), site, SITE)
        if not prefixes:
            assert list(actual.losses) == sorted(actual.losses, reverse=True), "nothing but the new object is wanted"
        if chosen.clamp == CLAMPED:
            allowed = CLAMPED * np.linalg.norm(actual.output)
            assert np.linalg.norm(actual.delta) == pytest.approx(allowed, rel=SITE), "the clamp is met"


class TestSearch:
    def test_is_the_same_to_the_last_bit_whatever_happens_to_gradients_around_it(self, gpt2: LoadedModel) -> None:
        chosen = how(kl=0.1, prefixes=((2, 3),), everywhere=True)
        weights = gpt2.digest()

        def once(target: str = "Rome") -> Value:
            return search(gpt2, MALTA, target, 1, chosen, reach=some_reach)

        first = once()
        torch.manual_seed(99)  # not the seed meant
        with torch.inference_mode():
            assert_equal(once(), first)
        with torch.no_grad():
            assert_equal(once("  Rome "), first)
        assert gpt2.digest() == weights
        assert all(parameter.grad is None for parameter in gpt2.model.parameters())

    def test_the_reach_is_made_of_key_and_mean_key_and_counts_only_everywhere(self, gpt2: LoadedModel) -> None:
        keys: list[tuple[np.ndarray, np.ndarray]] = []

        def reach(key: np.ndarray, mean_key: np.ndarray) -> np.ndarray:
            keys.append((key, mean_key))
            return some_reach(key, mean_key)

        actual = search(gpt2, MALTA, "Rome", 1, how(everywhere=True), reach=reach, prefixes=BEGINNINGS)
        [(key, mean_key)] = keys
        assert np.array_equal(key, actual.key)
        assert np.array_equal(mean_key, actual.mean_key)
        plain = search(gpt2, MALTA, "Rome", 1, how(), prefixes=BEGINNINGS)
        assert_equal(search(gpt2, MALTA, "Rome", 1, how(), prefixes=BEGINNINGS, reach=some_reach), plain)

    def test_the_seed_is_that_of_the_prefixes(self, gpt2: LoadedModel) -> None:
        chosen = how(steps=1, prefixes=((2, 3),))
        actual = search(gpt2, MALTA, "Rome", 1, chosen)
        assert_equal(search(gpt2, MALTA, "Rome", 1, chosen, prefixes=random_prefixes(gpt2, chosen)), actual)
        assert search(gpt2, MALTA, "Rome", 1, replace(chosen, seed=1)).losses != actual.losses

    def test_a_prefix_that_makes_the_prompt_too_long_is_left_out(self, gpt2: LoadedModel) -> None:
        room = tiny.CONTEXT - len(gpt2.tokenizer(f"{MALTA.text} Rome")["input_ids"])
        fitting, too_long = ("the" + " the" * (count - 1) for count in (room - 1, room))
        lengths = [len(gpt2.tokenizer(f"{p}. {MALTA.text} Rome")["input_ids"]) for p in (fitting, too_long)]
        assert lengths == [tiny.CONTEXT, tiny.CONTEXT + 1]
        alone, with_long, with_fitting, with_both = (
            search(gpt2, MALTA, "Rome", 1, how(steps=1), prefixes=prefixes)
            for prefixes in ([], [too_long], [fitting], [too_long, fitting])
        )
        assert_equal(with_long, alone)
        assert_equal(with_both, with_fitting)
        assert not np.array_equal(with_fitting.mean_key, alone.mean_key)


class TestRefused:
    @pytest.mark.parametrize(
        ("target", "layer", "message"),
        [
            ("", 0, "the new object is empty; type one, or choose one"),
            (" \t\n", 0, "the new object is empty"),
            ("Rome", -1, "layer -1 was to be edited; the model has layers 0 to 2"),
            ("Rome", 3, "layer 3 was to be edited; the model has layers 0 to 2"),
            ("Rome", 2, r"layer 2 is the last one.* Choose a layer from 0 to 1\."),  # nothing reads it
        ],
    )
    def test_a_target_or_layer_that_makes_no_sense(
        self, gpt2: LoadedModel, target: str, layer: int, message: str
    ) -> None:
        with pytest.raises(EditError, match=message):
            search(gpt2, MALTA, target, layer, how())
        assert hooks_on(gpt2) == 0

    def test_a_model_of_one_layer_and_a_prompt_too_long_and_an_unknown_reach(self) -> None:
        with pytest.raises(EditError, match=r"layer 0 is the last one.* the only one: edit another model"):
            search(running(layers=1), IN_MALTA, "Rome", 0, how())
        with pytest.raises(SubjectNotFound, match="fact 0: 3 tokens, but this model reads at most 2"):
            search(running(context=2), IN_MALTA, "Rome", 0, how())
        with pytest.raises(ValueError, match="has to know how the edit reaches"):
            search(running(), IN_MALTA, "Rome", 0, how(everywhere=True))

    def test_which_layers_reach_the_answer(self) -> None:
        reached = [reaches_answer(layer=layer, layers=4, ends_with_subject=False) for layer in range(4)]
        assert reached == [True, True, True, False]
        assert all(reaches_answer(layer=layer, layers=4, ends_with_subject=True) for layer in range(4))

    @pytest.mark.parametrize(
        ("word", "everywhere", "message"),
        [
            ("is", False, "layer 0: the loss is not finite at step 0; choose another layer"),
            ("Malta", True, "layer 0: the key or value of 'Malta' is not finite"),  # before the reach is taken of it
        ],
    )
    def test_numbers_that_are_not_finite_name_layer_and_step(self, word: str, everywhere: bool, message: str) -> None:
        loaded, whitener, chosen = running(), Whitener.fit(np.eye(2)), how(everywhere=everywhere)
        loaded.model.keys[Running.WORDS.index(word)] = float("nan")
        rome = rank_one_method("rome")
        with pytest.raises(EditError, match=message):
            search(loaded, IN_MALTA, "Rome", 0, chosen, reach=lambda k, mean: rome.reach(k, mean, whitener, chosen))
        assert hooks_on(loaded) == 0


def surprise(towards: float, other: float) -> float:
    """-log p of one of two words from their logits."""
    return math.log1p(math.exp(other - towards))


class TestByHand:
    """On a model of two numbers."""

    def test_key_and_value_and_their_means(self) -> None:
        actual = search(running(), IN_MALTA, "Rome", 0, how(steps=1), prefixes=["of Malta"])
        assert (actual.key.tolist(), actual.output.tolist()) == ([3, 4], [3, 4])
        assert (actual.mean_key.tolist(), actual.mean_output.tolist()) == ([3, 4], [3, 4])
        assert {getattr(actual, name).dtype for name in ("delta", "key", "output", "mean_key")} == {np.dtype("float64")}
        # after "of Malta." the logits are (6, 8) before δ: δ counts at the subject meant, not at the other one
        expected = [(surprise(3 + s, 4 - s) + surprise(6 + s, 8 - s)) / 2 for s in (0, 0.1)]
        assert actual.losses == pytest.approx(expected, abs=BY_HAND)

    def test_weight_decay_divergence_and_clamp(self) -> None:
        """δ over the square of the value; what now follows the subject from what did before; a share of the value."""
        now, before = 1 / (1 + math.exp(0.8)), 1 / (1 + math.exp(1.0))  # of Rome, from logits 0.8 and 1 apart
        divergence = now * math.log(now / before) + (1 - now) * math.log((1 - now) / (1 - before))
        decay = 0.1 * math.sqrt(2) / 25
        for held_back, cost in (({"weight_decay": 7.0}, 7.0 * decay), ({"kl": 3.0}, 3.0 * divergence)):
            actual = search(running(), IN_MALTA, "Rome", 0, how(steps=1, **held_back))
            assert actual.losses == pytest.approx([surprise(3, 4), surprise(3.1, 3.9) + cost], abs=BY_HAND)
            assert actual.probability == pytest.approx(math.exp(-surprise(3.1, 3.9)), abs=BY_HAND)
        each = 0.01 * 5 / math.sqrt(2)
        clamped = search(running(), IN_MALTA, "Rome", 0, how(steps=4, clamp=0.01))
        assert clamped.delta == pytest.approx([each, -each], abs=BY_HAND)
        assert clamped.losses[1:] == pytest.approx([surprise(3 + each, 4 - each)] * 4, abs=BY_HAND)

    def test_delta_acts_at_every_token_by_its_share(self) -> None:
        """u = (1, 0): a share of 3 at each Malta, of which the prompt has two."""
        twice = Fact("Malta", "of Malta the {} is", "Oslo")
        actual = search(
            running(), twice, "Rome", 0, how(steps=1, everywhere=True), reach=lambda *_: np.array([1.0, 0.0])
        )
        assert actual.losses == pytest.approx([surprise(6, 8), surprise(6 + 6 * 0.1, 8 - 6 * 0.1)], abs=BY_HAND)
        assert actual.everywhere
        assert not search(running(), twice, "Rome", 0, how(steps=1)).everywhere

    def test_enough_is_enough(self) -> None:
        loaded = running()
        full = search(loaded, IN_MALTA, "Rome", 0, how(steps=8))
        assert list(full.losses) == sorted(full.losses, reverse=True)
        stop = (full.losses[2] + full.losses[3]) / 2
        early = search(loaded, IN_MALTA, "Rome", 0, how(steps=8, stop_loss=stop))
        assert early.losses == full.losses[:4]
        assert early.delta == pytest.approx([0.3, -0.3], rel=0.1), "three steps of about 0.1"
        assert early.probability == pytest.approx(math.exp(-full.losses[3]), abs=BY_HAND)

    def test_a_model_that_says_so_already_needs_no_value(self) -> None:
        actual = search(running(), IN_MALTA, "Oslo", 0, how(steps=8, stop_loss=1.0))
        assert actual.losses == (pytest.approx(surprise(4, 3), abs=BY_HAND),)
        assert actual.delta.tolist() == [0.0, 0.0]
        assert actual.probability == pytest.approx(math.exp(-surprise(4, 3)), abs=BY_HAND)
