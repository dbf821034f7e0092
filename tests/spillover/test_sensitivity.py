"""How answers depend on what a layer writes: against a slow float64 model that reads one sentence at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kis_core.facts import Fact
from kis_core.models.loaded import LoadedModel
from kis_core.progress import Cancelled
from kis_core.scoring.log_odds import Sentence, tokenize_sentences
from kis_core.spillover.sensitivity import Sensitivity, sensitivity
from tests import tiny
from tests.editing.lively_models import IN_FULL

FORWARD = 5e-6
"""Activations and log-odds, relative to the largest: float32 passes some fifty roundings of 6e-8 deep; seen 5e-7."""
BACKWARD = 1e-5
"""Gradients, relative to the largest of a fact: the same once more on the way back; seen 1.1e-6."""
BATCHED = 1e-5  # the same sentence padded to other lengths, relative to the largest: sums in another order; seen 2e-6

LIVELY = 8
SEED = 3
FACTS = (
    Fact("Malta", "The capital of {} is", "Valletta"),  # an answer of four tokens
    Fact("Vladimir Mayakovsky", "{} was a native speaker of", "Russian"),
    Fact("Paris", "Not Paris but {} lies on the", "Seine"),
    Fact("Finn", "The {}ish language is spoken in", "Finland"),
    Fact("Zürich", "Very many people who have ever been there say that they love {}", "dearly"),  # at the very end
    Fact("Vladimir Mayakovsky", "{} speaks", "Russian"),  # the same subject; the shortest
    Fact("Oslo", "The city of {} lies in", "Norway"),  # an answer of one token
)
BLOCKS = {"GPT-2": "transformer.h", "GPT-J": "transformer.h", "GPT-NeoX": "gpt_neox.layers", "Llama": "model.layers"}
PROJECTIONS = {"GPT-2": "c_proj", "GPT-J": "fc_out", "GPT-NeoX": "dense_4h_to_h", "Llama": "down_proj"}
NORMS = dict(
    zip(BLOCKS, ("transformer.ln_f", "transformer.ln_f", "gpt_neox.final_layer_norm", "model.norm"), strict=True)
)
LAYERS = (0, 1, 2)


@dataclass(frozen=True)
class Seen:
    """What passes through the slow model when it reads one sentence of T tokens."""

    keys: np.ndarray  # (T, d_m)
    outputs: np.ndarray  # (T, d)
    hidden: np.ndarray  # (T, d)
    logits: Tensor  # (T, vocabulary)


class Slow:
    """A float64 copy of a model with plain attention. It reads one sentence at a time and shares the weights alone."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.tokenizer, name = loaded.tokenizer, loaded.architecture.name
        self.model = copy.deepcopy(loaded.model).double()
        self.model.set_attn_implementation("eager")
        self.blocks: Any = self.model.get_submodule(BLOCKS[name])
        self.projections: list[nn.Module] = [block.mlp.get_submodule(PROJECTIONS[name]) for block in self.blocks]
        self.transposed = name == "GPT-2"  # its weights are stored (in, out)
        self.norm = self.model.get_submodule(NORMS[name])

    def tokens(self, fact: Fact) -> tuple[list[int], list[int]]:
        """The prompt's tokens and the answer's."""
        prompt = self.tokenizer.encode(fact.text)
        whole = self.tokenizer.encode(f"{fact.text} {fact.target}")
        assert whole[: len(prompt)] == prompt
        return prompt, whole[len(prompt) :]

    def sentence(self, fact: Fact) -> list[int]:
        """All that is read: the answer's last token predicts nothing."""
        prompt, answer = self.tokens(fact)
        return [*prompt, *answer[:-1]]

    def subject_at(self, fact: Fact) -> int:
        """The first position by which the decoded text holds the whole subject."""
        ids, until = self.tokenizer.encode(fact.text), fact.prompt.split("{}")[0] + fact.subject
        return next(k for k in range(len(ids)) if self.tokenizer.decode(ids[: k + 1]).lstrip(" ").startswith(until))

    def read(self, fact: Fact, layer: int, added: Tensor | None = None) -> Seen:
        """Run over the sentence of a fact, with `added`, (T, d), on top of what a layer's down-projection writes."""
        actual: dict[str, Tensor] = {}

        def at_projection(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            actual["keys"], actual["outputs"] = inputs[0][0].detach(), output[0].detach()
            return None if added is None else output + added

        def after_layer(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            actual["hidden"] = inputs[0][0].detach()

        # what a layer puts out is what the next one, or the last norm, takes in
        following = self.blocks[layer + 1] if layer + 1 < len(self.blocks) else self.norm
        handles = [
            self.projections[layer].register_forward_hook(at_projection),
            following.register_forward_pre_hook(after_layer),
        ]
        try:
            logits = self.model(torch.tensor([self.sentence(fact)]), use_cache=False).logits[0]
        finally:
            for handle in handles:
                handle.remove()
        return Seen(*(actual[name].numpy() for name in ("keys", "outputs", "hidden")), logits)

    def log_prob(self, fact: Fact, logits: Tensor) -> Tensor:
        prompt, answer = self.tokens(fact)
        log_p = torch.log_softmax(logits, dim=-1)
        return sum((log_p[len(prompt) - 1 + k, token] for k, token in enumerate(answer)), start=torch.zeros(()))

    def log_odds(self, fact: Fact, layer: int = 0, added: Tensor | None = None) -> Tensor:
        p = self.log_prob(fact, self.read(fact, layer, added).logits).exp()
        return torch.log(p / (1 - p))

    def gradient(self, fact: Fact, layer: int) -> np.ndarray:
        """Of the fact's log-odds with respect to what the layer writes at each token, (T, d)."""
        added = torch.zeros(len(self.sentence(fact)), self.width, dtype=torch.float64, requires_grad=True)
        self.log_odds(fact, layer, added).backward()
        assert added.grad is not None
        return added.grad.numpy()

    @property
    def width(self) -> int:
        return int(self.model.get_output_embeddings().weight.shape[1])


@dataclass(frozen=True)
class Case:
    """One architecture: the model, its slow twin, and what the code under test says of every layer."""

    loaded: LoadedModel
    slow: Slow
    sentences: list[Sentence]
    layers: tuple[Sensitivity, ...]

    def rows(self, fact: int) -> slice:
        lengths = [len(self.slow.sentence(one)) for one in FACTS]
        return slice(sum(lengths[:fact]), sum(lengths[: fact + 1]))


def lively(architecture: str) -> LoadedModel:
    """A random model whose activations are far from linear: fresh weights of size 0.02 leave them small."""
    made = tiny.model(architecture, seed=SEED)
    for parameter in made.model.parameters():
        if parameter.ndim == 2:
            parameter.mul_(LIVELY)
    return made


def case_of(architecture: str) -> Case:
    loaded = lively(architecture)
    sentences = tokenize_sentences(loaded.tokenizer, FACTS, context=loaded.context)
    layers = tuple(sensitivity(loaded, sentences, layer) for layer in LAYERS)
    return Case(loaded, Slow(loaded), sentences, layers)


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Within a share of the largest expected entry."""
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def hooks_of(loaded: LoadedModel) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in loaded.model.modules())


@pytest.fixture(params=IN_FULL, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return case_of(request.param)


@pytest.fixture(scope="module")
def llama() -> Case:
    return case_of("Llama")


@pytest.fixture(autouse=True)
def weights_stay(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test: the same bits in every weight, no gradient, no hook."""
    name = next(name for name in ("case", "llama") if name in request.fixturenames)
    loaded: LoadedModel = request.getfixturevalue(name).loaded
    before = loaded.digest()
    yield
    assert loaded.digest() == before
    assert hooks_of(loaded) == 0
    assert all(weight.grad is None and not weight.requires_grad for weight in loaded.model.parameters())


class TestEveryArchitecture:
    def test_tokens_lie_one_after_the_other_and_the_subjects_are_found(self, case: Case) -> None:
        lengths = [len(case.slow.sentence(fact)) for fact in FACTS]
        starts = [sum(lengths[:k]) for k in range(len(FACTS) + 1)]
        for actual in case.layers:
            assert actual.starts.tolist() == starts
            rows = [start + case.slow.subject_at(fact) for start, fact in zip(starts, FACTS, strict=False)]
            assert actual.key_rows.tolist() == rows
            assert np.array_equal(actual.subject_keys, actual.keys[rows])
            assert actual.keys.shape == (starts[-1], 40)
            assert actual.gradients.shape == (starts[-1], 24)

    def test_what_passes_through_equals_one_sentence_at_a_time(self, case: Case) -> None:
        subjects = [case.slow.subject_at(fact) for fact in FACTS]
        ends = [len(case.slow.tokens(fact)[0]) - 1 for fact in FACTS]
        log_prob = [case.slow.log_prob(fact, case.slow.read(fact, 0).logits).item() for fact in FACTS]
        log_odds = [case.slow.log_odds(fact).item() for fact in FACTS]
        for layer, actual in enumerate(case.layers):
            seen = [case.slow.read(fact, layer) for fact in FACTS]
            assert_close(actual.keys, np.concatenate([read.keys for read in seen]), FORWARD)
            outputs = [read.outputs[at] for read, at in zip(seen, subjects, strict=True)]
            assert_close(actual.outputs, np.stack(outputs), FORWARD)
            hidden = [read.hidden[at] for read, at in zip(seen, ends, strict=True)]
            assert_close(actual.hidden, np.stack(hidden), FORWARD)
            assert_close(actual.log_prob, np.array(log_prob), FORWARD)
            assert_close(actual.log_odds, np.array(log_odds), FORWARD)

    def test_gradients_equal_autograd_one_sentence_at_a_time(self, case: Case) -> None:
        for layer, actual in enumerate(case.layers):
            for j, fact in enumerate(FACTS):
                expected = case.slow.gradient(fact, layer)
                assert np.abs(expected).max() > 1e-3, "a test of nothing"
                assert_close(actual.gradients[case.rows(j)], expected, BACKWARD)


class TestBatches:
    @pytest.mark.parametrize("tokens_per_batch", [1, 45])
    def test_of_any_size_give_the_same(self, llama: Case, tokens_per_batch: int) -> None:
        actual = sensitivity(llama.loaded, llama.sentences, 1, tokens_per_batch=tokens_per_batch)
        for name, array in llama.layers[1].arrays().items():
            assert_close(actual.arrays()[name], array, BATCHED)


@pytest.mark.parametrize("surroundings", [torch.no_grad, torch.inference_mode])
def test_gradients_whatever_the_caller_has_switched_off(llama: Case, surroundings: Any) -> None:
    with surroundings():
        actual = sensitivity(llama.loaded, llama.sentences, 1)
        assert torch.is_inference_mode_enabled() == (surroundings is torch.inference_mode)
    again = Sensitivity(1, **actual.arrays())  # as it is stored
    for name, array in llama.layers[1].arrays().items():
        assert getattr(again, name).dtype == array.dtype
        assert np.array_equal(getattr(again, name), array), name


def test_called_off_or_failed_it_leaves_no_trace(llama: Case) -> None:
    reports: list[int] = []

    def report(stage: str, done: int, total: int) -> None:
        reports.append(done)
        if len(reports) > 1:
            raise Cancelled(stage)

    with pytest.raises(Cancelled):
        sensitivity(llama.loaded, llama.sentences, 0, tokens_per_batch=30, report=report)
    with pytest.raises(IndexError):
        sensitivity(llama.loaded, [Sentence([10**6], 0, [1])], 0)  # no such token
    assert hooks_of(llama.loaded) == 0
    assert torch.is_grad_enabled()
    again = sensitivity(llama.loaded, llama.sentences, 0)
    assert np.array_equal(again.gradients, llama.layers[0].gradients)
