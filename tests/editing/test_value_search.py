"""The search for a value: against a slow reference on all architectures, to the last bit, and what it refuses."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kis_core.covariance.whitener import Whitener
from kis_core.editing import Hyperparameters, Value, rank_one_method, reaches_answer, search, value
from kis_core.editing.contexts import random_prefixes
from kis_core.editing.edit import EditError
from kis_core.facts import Fact
from kis_core.keys import SubjectNotFound
from kis_core.models.loaded import LoadedModel
from kis_core.progress import Cancelled
from tests import tiny
from tests.editing.value_tools import IN_MALTA, MALTA, Running, gpt2, how, loaded, running

__all__ = ["gpt2", "loaded"]  # fixtures
REFERENCE = 2e-4  # of δ, relative: float32 gradients through Adam, which divides by their size; seen 3.4e-5
LOSS = 2e-6  # relative: float32 logits in float64 sums; seen 1.1e-7
SITE = 1e-5  # relative: float32 activations three layers deep; seen 6e-7
PROJECTION = {
    "GPT-2": "transformer.h.{}.mlp.c_proj",
    "GPT-J": "transformer.h.{}.mlp.fc_out",
    "GPT-NeoX": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
    "Llama": "model.layers.{}.mlp.down_proj",
}
PREFIXES = ("It was so", "Some people once said. Then {he} went.")


def hooks_on(model: nn.Module) -> int:
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules())


def assert_equal(found: Value, expected: Value) -> None:
    """To the last bit."""
    assert (found.losses, found.probability) == (expected.losses, expected.probability)
    for name in ("delta", "key", "output", "mean_key", "mean_output"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name


@dataclass(frozen=True)
class Found:
    """What the slow search gives."""

    delta: Tensor
    losses: list[float]
    probability: float
    keys: np.ndarray
    outputs: np.ndarray


class Slow:
    """The same search in float64, one text at a time; W is rewritten, or δ put in by a module of its own."""

    def __init__(self, loaded: LoadedModel, layer: int) -> None:
        self.model: PreTrainedModel = copy.deepcopy(loaded.model).double()
        self.tokenizer = loaded.tokenizer
        self.name = PROJECTION[loaded.architecture.name].format(layer)
        self.module = self.model.get_submodule(self.name)
        self.transposed = type(self.module).__name__ == "Conv1D"  # stores W as (d_m, d)

    def position(self, before: str, subject: str, ids: Sequence[int]) -> int:
        """The first position by which the decoded text holds the whole subject."""
        told = [self.tokenizer.decode(ids[: k + 1]).lstrip(" ") for k in range(len(ids))]
        return next(k for k, text in enumerate(told) if text.startswith(before + subject))

    def logits(self, ids: Sequence[int], at: int, delta: Tensor, reach: Tensor | None) -> Tensor:
        """(T, vocabulary) with δ in place."""
        tokens = torch.tensor([list(ids)])
        if reach is not None:
            change = torch.outer(reach, delta) if self.transposed else torch.outer(delta, reach)
            weights = {f"{self.name}.weight": self.module.weight + change}
            return torch.func.functional_call(self.model, weights, (tokens,)).logits[0]
        self.model.set_submodule(self.name, Added(self.module, at, delta))
        try:
            return self.model(tokens).logits[0]
        finally:
            self.model.set_submodule(self.name, self.module)

    def site(self, ids: Sequence[int], at: int) -> tuple[np.ndarray, np.ndarray]:
        """Key and value at a position, the value by W k (+ b)."""
        seen: list[Tensor] = []
        handle = self.module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0, at]))
        with torch.no_grad():
            self.model(torch.tensor([list(ids)]))
        handle.remove()
        weight = self.module.weight.T if self.transposed else self.module.weight
        bias = getattr(self.module, "bias", None)
        output = weight @ seen[0] + (0 if bias is None else bias)
        return seen[0].numpy(), output.numpy()

    def search(
        self, fact: Fact, target: str, how: Hyperparameters, beginnings: Sequence[str], reach: Any = None
    ) -> Found:
        before = fact.prompt.split("{}")[0]
        asked = []
        for beginning in beginnings:
            prompt = self.tokenizer(beginning + fact.text)["input_ids"]
            whole = self.tokenizer(f"{beginning}{fact.text} {target}")["input_ids"]
            assert whole[: len(prompt)] == prompt
            asked.append((whole, len(prompt), self.position(beginning + before, fact.subject, whole)))
        sites = [self.site(whole[:-1], at) for whole, _, at in asked]
        keys, outputs = (np.stack(part) for part in zip(*sites, strict=True))
        spread = None if reach is None else torch.tensor(reach(keys[0], keys.mean(axis=0)))
        size = float(np.linalg.norm(outputs[0]))
        about = self.tokenizer(f"{fact.subject} is a")["input_ids"]
        at_subject = self.position("", fact.subject, about)
        delta = torch.zeros(len(outputs[0]), dtype=torch.float64, requires_grad=True)
        adam = torch.optim.Adam([delta], lr=how.learning_rate)
        losses: list[float] = []
        with torch.enable_grad():
            while True:
                told = [self.log_prob(*one, delta, spread) for one in asked]
                gained = sum(told) / len(told) / (len(asked[0][0]) - asked[0][1])
                loss = -gained + how.weight_decay * delta.norm() / size**2
                now = torch.log_softmax(self.logits(about, at_subject, delta, spread)[at_subject], dim=-1)
                if not losses:
                    then = now.detach()
                loss = loss + how.kl * (now.exp() * (now - then)).sum()
                losses.append(loss.item())
                if len(losses) > how.steps or losses[-1] < how.stop_loss:
                    return Found(delta.detach(), losses, math.exp(gained.item()), keys, outputs)
                adam.zero_grad()
                loss.backward()
                adam.step()
                with torch.no_grad():
                    if delta.norm() > how.clamp * size:
                        delta *= how.clamp * size / delta.norm()

    def log_prob(self, whole: list[int], prompt: int, at: int, delta: Tensor, reach: Tensor | None) -> Tensor:
        told = torch.log_softmax(self.logits(whole, at, delta, reach), dim=-1)
        return sum(told[k - 1, whole[k]] for k in range(prompt, len(whole)))


class Added(nn.Module):
    """A module whose output at one position is δ larger."""

    def __init__(self, inner: nn.Module, at: int, delta: Tensor) -> None:
        super().__init__()
        self.inner, self.at, self.delta = inner, at, delta

    def forward(self, keys: Tensor) -> Tensor:
        output = self.inner(keys)
        return torch.cat([output[:, : self.at], output[:, self.at, None] + self.delta, output[:, self.at + 1 :]], dim=1)


def some_reach(key: np.ndarray, mean_key: np.ndarray) -> np.ndarray:
    """Not along either key, yet with a share of 1 where the edit is."""
    direction = mean_key + np.linspace(-0.1, 0.2, len(key)) * np.abs(key).max()
    return direction / (direction @ key)


CLAMPED = 0.05  # so little that every step is cut
CASES = {  # layer, how, number of prefixes
    "one prompt": (0, how(steps=4), 0),
    "one prompt, another layer": (1, how(steps=4), 0),
    "everywhere": (1, how(steps=4, everywhere=True), 0),
    "held back": (1, how(steps=4, weight_decay=2.0, kl=0.5), 2),
    "held back, everywhere": (0, how(steps=4, weight_decay=2.0, kl=0.5, everywhere=True), 2),
    "clamped": (0, how(steps=4, clamp=CLAMPED), 1),
    "clamped, everywhere": (1, how(steps=4, clamp=CLAMPED, everywhere=True), 1),
}


class TestAgainstASlowReference:
    @pytest.mark.parametrize("case", CASES)
    def test_every_step_of_adam(self, loaded: LoadedModel, case: str) -> None:
        layer, chosen, prefixed = CASES[case]
        reach = some_reach if chosen.everywhere else None
        found = search(loaded, MALTA, "a large town", layer, chosen, prefixes=PREFIXES[:prefixed], reach=reach)
        # a prefix loses its braces and ends as one sentence
        beginnings = ["", "It was so. ", "Some people once said. Then he went. "][: prefixed + 1]
        with torch.no_grad():
            expected = Slow(loaded, layer).search(MALTA, "a large town", chosen, beginnings, reach)
        assert_close(found.delta, expected.delta.numpy(), REFERENCE)
        assert found.losses == pytest.approx(expected.losses, rel=LOSS)
        assert found.probability == pytest.approx(expected.probability, rel=10 * LOSS)  # p = exp(-8)
        assert_close(found.key, expected.keys[0], SITE)
        assert_close(found.output, expected.outputs[0], SITE)
        assert_close(found.mean_key, expected.keys.mean(axis=0), SITE)
        assert_close(found.mean_output, expected.outputs.mean(axis=0), SITE)
        if not prefixed:
            assert list(found.losses) == sorted(found.losses, reverse=True), "nothing but the new object is wanted"
        if chosen.clamp == CLAMPED:
            allowed = CLAMPED * np.linalg.norm(found.output)
            assert np.linalg.norm(found.delta) == pytest.approx(allowed, rel=SITE), "the clamp is met"

    def test_the_last_layer_where_the_prompt_ends_with_the_subject(self, loaded: LoadedModel) -> None:
        ends = Fact("Malta", "So the capital of {}", "x")
        found = search(loaded, ends, "Rome", 2, how())
        with torch.no_grad():
            expected = Slow(loaded, 2).search(ends, "Rome", how(), [""])
        assert_close(found.delta, expected.delta.numpy(), REFERENCE)
        assert found.losses == pytest.approx(expected.losses, rel=LOSS)


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


class TestSearch:
    def test_the_same_to_the_last_bit_every_time_whatever_happens_to_gradients_around_it(
        self, gpt2: LoadedModel
    ) -> None:
        chosen = how(kl=0.1, prefixes=((2, 3),), everywhere=True)
        weights = gpt2.digest()

        def once() -> Value:
            return search(gpt2, MALTA, "Rome", 1, chosen, reach=some_reach)

        first = once()
        torch.manual_seed(99)  # not the seed meant
        assert_equal(once(), first)
        with torch.inference_mode():
            assert_equal(once(), first)
        with torch.no_grad():
            assert_equal(once(), first)
        assert_equal(search(gpt2, MALTA, "  Rome ", 1, chosen, reach=some_reach), first)
        assert gpt2.digest() == weights
        assert all(parameter.grad is None for parameter in gpt2.model.parameters())

    def test_the_reach_is_made_of_key_and_mean_key(self, gpt2: LoadedModel) -> None:
        asked: list[tuple[np.ndarray, np.ndarray]] = []

        def reach(key: np.ndarray, mean_key: np.ndarray) -> np.ndarray:
            asked.append((key, mean_key))
            return some_reach(key, mean_key)

        found = search(gpt2, MALTA, "Rome", 1, how(everywhere=True), reach=reach, prefixes=PREFIXES)
        [(key, mean_key)] = asked
        assert np.array_equal(key, found.key)
        assert np.array_equal(mean_key, found.mean_key)
        assert not np.array_equal(key, mean_key)

    def test_knowing_the_reach_changes_nothing_where_delta_acts_at_one_token(self, gpt2: LoadedModel) -> None:
        plain = search(gpt2, MALTA, "Rome", 1, how(), prefixes=PREFIXES)
        assert_equal(search(gpt2, MALTA, "Rome", 1, how(), prefixes=PREFIXES, reach=some_reach), plain)

    def test_the_seed_is_that_of_the_prefixes(self, gpt2: LoadedModel) -> None:
        chosen = how(prefixes=((2, 3),))
        given = random_prefixes(gpt2, chosen)
        found = search(gpt2, MALTA, "Rome", 1, chosen)
        assert_equal(search(gpt2, MALTA, "Rome", 1, chosen, prefixes=given), found)
        assert search(gpt2, MALTA, "Rome", 1, replace(chosen, seed=1)).losses != found.losses
        assert search(gpt2, MALTA, "Rome", 1, chosen, prefixes=()).losses != found.losses

    def test_a_prefix_that_makes_the_prompt_too_long_is_left_out(self, gpt2: LoadedModel) -> None:
        length = len(gpt2.tokenizer(f"{MALTA.text} Rome")["input_ids"])
        room = tiny.CONTEXT - length
        fitting, too_long = ("the" + " the" * (count - 1) for count in (room - 1, room))
        lengths = [len(gpt2.tokenizer(f"{p}. {MALTA.text} Rome")["input_ids"]) for p in (fitting, too_long)]
        assert lengths == [tiny.CONTEXT, tiny.CONTEXT + 1]
        alone = search(gpt2, MALTA, "Rome", 1, how(steps=1))
        assert_equal(search(gpt2, MALTA, "Rome", 1, how(steps=1), prefixes=[too_long]), alone)
        with_one = search(gpt2, MALTA, "Rome", 1, how(steps=1), prefixes=[fitting])
        assert not np.array_equal(with_one.mean_key, alone.mean_key)
        assert_equal(search(gpt2, MALTA, "Rome", 1, how(steps=1), prefixes=[too_long, fitting]), with_one)

    def test_tells_every_loss_and_every_step(self, gpt2: LoadedModel) -> None:
        losses: list[float] = []
        told: list[tuple[str, int, int]] = []
        found = search(gpt2, MALTA, "Rome", 0, how(steps=3), seen=losses.append, report=lambda *now: told.append(now))
        assert tuple(losses) == found.losses
        assert told == [(value.STAGE, done, 3) for done in (0, 1, 2, 3, 3)]

    def test_stopping_early_still_tells_that_it_is_done(self, gpt2: LoadedModel) -> None:
        told: list[tuple[str, int, int]] = []
        search(gpt2, MALTA, "Rome", 0, how(steps=9, stop_loss=100.0), report=lambda *now: told.append(now))
        assert told == [(value.STAGE, 0, 9), (value.STAGE, 9, 9)]

    @pytest.mark.parametrize("at", [0, 2])
    def test_can_be_called_off_at_any_step(self, gpt2: LoadedModel, at: int) -> None:
        losses: list[float] = []

        def cancel(_: str, done: int, __: int) -> None:
            if done == at:
                raise Cancelled

        expected = search(gpt2, MALTA, "Rome", 0, how())
        weights = gpt2.digest()
        with pytest.raises(Cancelled):
            search(gpt2, MALTA, "Rome", 0, how(), seen=losses.append, report=cancel)
        assert tuple(losses) == expected.losses[:at]
        assert hooks_on(gpt2.model) == 0
        assert gpt2.digest() == weights
        assert_equal(search(gpt2, MALTA, "Rome", 0, how()), expected)


class TestRefused:
    @pytest.mark.parametrize("target", ["", "  ", "\t\n"])
    def test_an_empty_target(self, gpt2: LoadedModel, target: str) -> None:
        with pytest.raises(EditError, match="the new object is empty; type one, or choose one"):
            search(gpt2, MALTA, target, 0, how())

    @pytest.mark.parametrize("layer", [-1, 3, 70])
    def test_a_layer_there_is_not(self, gpt2: LoadedModel, layer: int) -> None:
        with pytest.raises(EditError, match=f"layer {layer} was to be edited; the model has layers 0 to 2"):
            search(gpt2, MALTA, "Rome", layer, how())

    def test_the_last_layer_for_nothing_reads_it(self, loaded: LoadedModel) -> None:
        with pytest.raises(EditError, match=r"layer 2 is the last one.* Choose a layer from 0 to 1\."):
            search(loaded, MALTA, "Rome", 2, how())
        assert hooks_on(loaded.model) == 0

    def test_a_model_of_one_layer_is_not_told_to_choose_another(self) -> None:
        with pytest.raises(EditError, match=r"layer 0 is the last one.* the only one: edit another model"):
            search(running(layers=1), IN_MALTA, "Rome", 0, how())

    def test_what_the_last_layer_writes_is_indeed_not_read(self, gpt2: LoadedModel) -> None:
        delta = torch.ones(24, dtype=torch.float64)
        with torch.no_grad():
            plain, moved = (
                Slow(gpt2, 2).logits([5, 600, 7, 1200], 1, delta * scale, None) for scale in (0.0, 1.0)
            )  # fmt: skip
        assert torch.equal(plain[3], moved[3])
        assert not torch.equal(plain[1], moved[1])

    @pytest.mark.parametrize(
        ("layer", "ends", "reaches"),
        [(0, False, True), (2, False, True), (3, False, False), (3, True, True), (0, True, True)],
    )
    def test_which_layers_reach_the_answer(self, layer: int, ends: bool, reaches: bool) -> None:
        assert reaches_answer(layer=layer, layers=4, ends_with_subject=ends) is reaches

    def test_acting_everywhere_without_knowing_how_the_edit_reaches(self, gpt2: LoadedModel) -> None:
        with pytest.raises(ValueError, match="has to know how the edit reaches"):
            search(gpt2, MALTA, "Rome", 0, how(everywhere=True))

    def test_a_prompt_too_long_for_the_model(self) -> None:
        with pytest.raises(SubjectNotFound, match="fact 0: 3 tokens, but this model reads at most 2"):
            search(running(context=2), IN_MALTA, "Rome", 0, how())

    def test_numbers_that_are_not_finite_name_layer_and_step(self) -> None:
        loaded = running()
        loaded.model.keys[Running.WORDS.index("is")] = float("nan")
        with pytest.raises(EditError, match="layer 0: the loss is not finite at step 0; choose another layer"):
            search(loaded, IN_MALTA, "Rome", 0, how())
        assert hooks_on(loaded.model) == 0

    def test_also_where_the_reach_is_asked_of_them_first(self) -> None:
        loaded, whitener = running(), Whitener.fit(np.eye(2))
        loaded.model.keys[Running.WORDS.index("Malta")] = float("nan")
        chosen = how(everywhere=True)
        rome = rank_one_method("rome")
        with pytest.raises(EditError, match="layer 0"):
            search(loaded, IN_MALTA, "Rome", 0, chosen, reach=lambda k, mean: rome.reach(k, mean, whitener, chosen))
