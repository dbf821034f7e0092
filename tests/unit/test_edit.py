"""Edits applied: the overlay against weights really written, and a model that is the same bits whatever happens."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kis_core import editing, log_odds
from kis_core.covariance import Whitener
from kis_core.editing import contexts, edit, value
from kis_core.editing.edit import Edit, EditError, applied, overlaid
from kis_core.facts import Fact
from kis_core.log_odds import Sentence, read, tokenize_sentences
from kis_core.models.loading import LoadedModel
from tests import tiny

WRITTEN = 1e-13  # relative, in float64: an overlay rounds its sums in another order than a written weight; seen 1.3e-15
IN_FLOAT32 = 1e-5  # relative to the largest logit: three layers, some fifty roundings of 6e-8; seen 1.1e-6
EXACT = 1e-12  # a few float64 roundings
LIVELY = 8  # fresh weights of size 0.02 leave a model so linear that edits hardly differ
PATIENCE = 60.0  # seconds before a thread that waits in vain fails the test; they wait for microseconds
EDITS = 50  # of each thread, RELIABILITY case 20

PROJECTION = {
    "GPT-2": "transformer.h.{}.mlp.c_proj",
    "GPT-J": "transformer.h.{}.mlp.fc_out",
    "GPT-NeoX": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
    "Llama": "model.layers.{}.mlp.down_proj",
}
BIASED = {"GPT-2", "GPT-J", "GPT-NeoX"}
MALTA = Fact("Malta", "The capital of {} is", "Valletta")
OSLO = Fact("Oslo", "In the town of {} people speak", "Norwegian")
FACTS = (MALTA, OSLO, Fact("the Bank of England", "{} lies in", "London"))


class Rerun(BaseException):
    """As a page's script is ended: not an Exception, so nothing that catches those sees it."""


ENDINGS = (RuntimeError, KeyboardInterrupt, Rerun)


def lively(architecture: str) -> LoadedModel:
    """A random model far from linear, with biases where its architecture has them."""
    made = tiny.model(architecture, seed=3)
    torch.manual_seed(4)
    for name, parameter in made.model.named_parameters():
        if parameter.ndim == 2:
            parameter.mul_(LIVELY)
        elif name.endswith("bias"):
            parameter.copy_(torch.randn_like(parameter) / 4)
    return made


@pytest.fixture(params=tiny.ARCHITECTURES, scope="module")
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    """A lively model of each architecture; no test of this file may change it."""
    return lively(request.param)


@pytest.fixture(scope="module")
def gpt2() -> LoadedModel:
    return lively("GPT-2")


def some_edit(layer: int, seed: int) -> Edit:
    rng = np.random.default_rng(seed)
    return Edit(layer, rng.normal(size=40) / 2, rng.normal(size=24))


def projection(model: PreTrainedModel, architecture: str, layer: int) -> nn.Module:
    return model.get_submodule(PROJECTION[architecture].format(layer))


def written(loaded: LoadedModel, *edits: Edit) -> PreTrainedModel:
    """A float64 copy with W + δuᵀ in its weights."""
    made = copy.deepcopy(loaded.model).double()
    for one in edits:
        module = projection(made, loaded.architecture.name, one.layer)
        change = torch.tensor([[row * column for column in one.reach] for row in one.delta], dtype=torch.float64)
        transposed = type(module).__name__ == "Conv1D"  # stores W as (d_m, d)
        module.weight.add_(change.T if transposed else change)
    return made


def logits_of(model: PreTrainedModel) -> Tensor:
    """Of two sequences of which the second is padded, the real tokens'."""
    ids = torch.tensor([[5, 600, 7, 1200, 9, 80], [11, 2000, 13, 0, 0, 0]])
    mask = torch.tensor([[1] * 6, [1] * 3 + [0] * 3])
    with torch.no_grad():
        found = model(input_ids=ids, attention_mask=mask).logits
    return torch.cat([found[0], found[1, :3]])


def hooks_on(loaded: LoadedModel) -> int:
    modules = list(loaded.model.modules())
    return sum(
        len(getattr(module, kind))
        for module in modules
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    )


EDITS_AT_ONCE = {
    "one": (some_edit(1, 0),),
    "one in the last layer": (some_edit(2, 1),),
    "two of one layer": (some_edit(0, 2), some_edit(0, 3)),
    "two layers": (some_edit(2, 4), some_edit(0, 5)),
    "two of one layer and one of another between them": (some_edit(1, 6), some_edit(0, 7), some_edit(1, 8)),
}


class TestApplied:
    def test_the_architectures_are_linear_and_transposed_with_and_without_bias(self, loaded: LoadedModel) -> None:
        module = projection(loaded.model, loaded.architecture.name, 0)
        assert (type(module).__name__ == "Conv1D") == (loaded.architecture.name == "GPT-2")
        bias = getattr(module, "bias", None)
        assert (bias is not None and bool(bias.any())) == (loaded.architecture.name in BIASED)

    @pytest.mark.parametrize("case", EDITS_AT_ONCE)
    def test_equals_writing_the_edits_into_the_weights(self, loaded: LoadedModel, case: str) -> None:
        edits = EDITS_AT_ONCE[case]
        expected = logits_of(written(loaded, *edits))
        moved = (expected - logits_of(loaded.model).double()).abs().max()
        assert moved > expected.abs().max() / 20, "edits that change nothing would tell nothing"
        with applied(loaded, *edits):
            found = logits_of(loaded.model)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=IN_FLOAT32 * float(expected.abs().max()))

    @pytest.mark.parametrize("case", EDITS_AT_ONCE)
    def test_equals_it_to_the_last_digits_in_float64(self, loaded: LoadedModel, case: str) -> None:
        edits = EDITS_AT_ONCE[case]
        expected = logits_of(written(loaded, *edits))
        in_float64 = double(loaded)
        with applied(in_float64, *edits):
            found = logits_of(in_float64.model)
        torch.testing.assert_close(found, expected, rtol=0, atol=WRITTEN * float(expected.abs().max()))

    def test_blocks_within_each_other_add_up(self, loaded: LoadedModel) -> None:
        first, second = some_edit(1, 0), some_edit(1, 1)
        in_float64 = double(loaded)
        expected = logits_of(written(loaded, first, second))
        with applied(in_float64, first), applied(in_float64, second):
            found = logits_of(in_float64.model)
        torch.testing.assert_close(found, expected, rtol=0, atol=WRITTEN * float(expected.abs().max()))

    def test_leaving_an_inner_block_takes_its_edits_only(self, gpt2: LoadedModel) -> None:
        with applied(gpt2, some_edit(1, 0)):
            alone = logits_of(gpt2.model)
            with applied(gpt2, some_edit(1, 1)):
                assert not torch.equal(logits_of(gpt2.model), alone)
            assert torch.equal(logits_of(gpt2.model), alone)

    def test_an_edit_and_its_opposite_cancel(self, gpt2: LoadedModel) -> None:
        one, before = some_edit(0, 0), logits_of(gpt2.model)
        with applied(gpt2, one, one.scaled(-1.0)):
            torch.testing.assert_close(logits_of(gpt2.model), before, rtol=0, atol=EXACT)

    def test_no_edits_and_an_edit_of_no_strength_change_no_bit(self, gpt2: LoadedModel) -> None:
        before = logits_of(gpt2.model)
        with applied(gpt2):
            assert torch.equal(logits_of(gpt2.model), before)
        with applied(gpt2, some_edit(0, 0).scaled(0.0)):
            assert torch.equal(logits_of(gpt2.model), before)

    def test_during_and_after_it_the_weights_are_the_same_bits_and_after_it_the_answers_too(
        self, loaded: LoadedModel
    ) -> None:
        weights, before = loaded.digest(), logits_of(loaded.model)
        with applied(loaded, *EDITS_AT_ONCE["two layers"]):
            logits_of(loaded.model)
            assert loaded.digest() == weights
        assert loaded.digest() == weights
        assert hooks_on(loaded) == 0
        assert torch.equal(logits_of(loaded.model), before)

    def test_another_thread_runs_the_model_as_it_is(self, gpt2: LoadedModel) -> None:
        before, found = logits_of(gpt2.model), []
        with applied(gpt2, some_edit(0, 0)):
            other = threading.Thread(target=lambda: found.append(logits_of(gpt2.model)))
            other.start()
            other.join(PATIENCE)
        assert torch.equal(found[0], before)


def double(loaded: LoadedModel) -> LoadedModel:
    """The same model in float64."""
    model, architecture = copy.deepcopy((loaded.model, loaded.architecture))
    return LoadedModel(model.double(), loaded.tokenizer, architecture, loaded.device)


NAN, INFINITE = np.full(24, np.nan), np.full(40, np.inf)
FINE = some_edit(0, 0)


class TestRefused:
    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            (Edit(3, FINE.reach, FINE.delta), "layer 3 was to be edited; the model has layers 0 to 2"),
            (Edit(-1, FINE.reach, FINE.delta), "layer -1 was to be edited; the model has layers 0 to 2"),
            (Edit(0, FINE.delta, FINE.reach), r"\(\(40,\), \(24,\)\) does not fit a layer of d = 24, d_m = 40"),
            (Edit(0, FINE.reach[:39], FINE.delta), r"\(\(24,\), \(39,\)\) does not fit"),
            (Edit(0, FINE.reach, FINE.delta[None]), r"\(\(1, 24\), \(40,\)\) does not fit"),
            (Edit(1, FINE.reach, NAN), "edit of layer 1 holds a NaN or an infinity"),
            (Edit(2, INFINITE, FINE.delta), "edit of layer 2 holds a NaN or an infinity"),
        ],
    )
    def test_an_edit_that_does_not_fit_says_why_and_hooks_nothing(
        self, loaded: LoadedModel, wrong: Edit, told: str
    ) -> None:
        with pytest.raises(EditError, match=told), applied(loaded, FINE, wrong):
            pytest.fail("the block was entered with an edit that does not fit")
        assert hooks_on(loaded) == 0

    def test_there_is_no_such_method(self) -> None:
        with pytest.raises(EditError, match="no method 'memit' for a single edit; there are rome, r-rome, identity"):
            editing.rank_one_method("memit")


class TestEdit:
    EDIT = Edit(2, np.array([2.0, -1.0, 0.5]), np.array([3.0, 4.0]))

    def test_coefficients_by_hand(self) -> None:
        assert self.EDIT.coefficients(np.array([1.0, 1.0, 2.0])) == 2.0
        keys = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 2.0]], [[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]]])
        assert self.EDIT.coefficients(keys).tolist() == [[2.0, 0.0], [2.0, 0.0]]

    def test_coefficients_of_float32_keys_are_summed_in_float64(self) -> None:
        steep = Edit(0, np.array([1e9 + 0.25, -1e9]), np.ones(2))
        found = steep.coefficients(np.ones((1, 2), dtype=np.float32))
        assert found.dtype == np.float64
        assert found.tolist() == [0.25]

    def test_size_and_strength_by_hand(self) -> None:
        half = self.EDIT.scaled(-0.5)
        assert (self.EDIT.size, half.size) == (5.0, 2.5)
        assert half.delta.tolist() == [-1.5, -2.0]
        assert half.reach.tolist() == [2.0, -1.0, 0.5]
        assert half.layer == 2
        assert self.EDIT.delta.tolist() == [3.0, 4.0]


class TestOverlaid:
    def test_by_hand(self) -> None:
        keys, output = torch.tensor([[[1.0, 2.0], [0.0, 1.0]]]), torch.tensor([[[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]])
        reach = torch.tensor([[1.0, 0.0], [0.0, 10.0]], dtype=torch.float64)
        deltas = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 2.0]], dtype=torch.float64)
        # u·k: 1 and 20 for the first token, 0 and 10 for the second
        found = overlaid(keys, output, reach, deltas)
        assert found.tolist() == [[[2.0, 21.0, 41.0], [0.0, 10.0, 20.0]]]
        assert output.tolist() == [[[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]]

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
    def test_small_shares_of_a_large_reach_survive_and_the_dtype_stays(self, dtype: torch.dtype) -> None:
        reach = torch.tensor([[1e9 + 0.25, -1e9]], dtype=torch.float64)  # in float32 the two would cancel
        found = overlaid(
            torch.ones(1, 2, dtype=dtype), torch.zeros(1, 1, dtype=dtype), reach, torch.ones(1, 1).double()
        )
        assert found.dtype == dtype
        assert found.tolist() == [[0.25]]

    def test_an_edit_as_it_is_applied_keeps_them_too(self, gpt2: LoadedModel) -> None:
        """u = 10⁹ (a - b) + c with a·k = b·k: what is left is c·k, far below what float32 would lose."""
        module, seen = gpt2.architecture.down_projections[0], []
        with torch.no_grad():
            key = torch.zeros(1, 40)
            key[0, :2], key[0, 2] = 1.0, 0.5
            plain = module(key)
            reach = np.zeros(40)
            reach[:3] = 1e9, -1e9 + 0.25, 0.5  # a share of 0.25 + 0.25
            with applied(gpt2, Edit(0, reach, np.ones(24))):
                seen.append(module(key) - plain)
        torch.testing.assert_close(seen[0], torch.full((1, 24), 0.5), rtol=0, atol=IN_FLOAT32)


class TestDigest:
    def test_one_bit_of_any_weight_shows(self, loaded: LoadedModel) -> None:
        """Without this the tests below would be worth nothing."""
        own = copy.deepcopy(loaded.model)
        changed = LoadedModel(own, loaded.tokenizer, loaded.architecture, loaded.device)
        before = changed.digest()
        assert before == loaded.digest()
        for parameter in own.parameters():
            last = parameter.detach().view(-1)[-1:].view(torch.int32)
            last ^= 1
            assert changed.digest() != before
            last ^= 1
        assert changed.digest() == before


@dataclass(frozen=True, eq=False)
class Made:
    """All numbers of one edit from beginning to end."""

    losses: tuple[float, ...]
    delta: np.ndarray
    log_odds: Tensor
    log_prob: Tensor

    def same(self, other: Made) -> bool:
        """To the last bit."""
        return (
            self.losses == other.losses
            and np.array_equal(self.delta, other.delta)
            and torch.equal(self.log_odds, other.log_odds)
            and torch.equal(self.log_prob, other.log_prob)
        )


HOW = editing.Hyperparameters(steps=2, learning_rate=0.1, kl=0.1, prefixes=((1, 2),), stop_loss=0.0)
WHITENER = Whitener.fit(np.eye(40) + np.outer(np.arange(40), np.arange(40)) / 400)


def edit_and_read(
    loaded: LoadedModel,
    fact: Fact = MALTA,
    target: str = "Rome",
    how: editing.Hyperparameters = HOW,
    *,
    seen: Callable[[float], None] | None = None,
    within: Callable[[], None] = lambda: None,
) -> Made:
    """A whole edit: prefixes, value, factors, hooks, forward pass, reading."""
    found = editing.search(loaded, fact, target, 1, how, seen=seen)
    made = editing.rank_one_method("rome").edit(found, WHITENER, 1, how)
    sentences = sentences_of(loaded)
    with torch.inference_mode(), applied(loaded, made, made.scaled(0.5), Edit(0, made.reach, made.delta / 2)):
        within()
        reading = read(loaded, sentences)
        within()
    return Made(found.losses, made.delta, reading.log_odds, reading.log_prob)


def sentences_of(loaded: LoadedModel) -> list[Sentence]:
    return tokenize_sentences(loaded.tokenizer, FACTS, context=loaded.context)


STEPS: dict[str, tuple[Any, str]] = {
    "sampling prefixes": (contexts, "next_token_logits"),
    "tokenising": (value, "tokenize_sentences"),
    "looking at the layer": (value, "_site"),
    "setting a hook": (nn.Module, "register_forward_hook"),
    "running the model": (PreTrainedModel, "__call__"),
    "within the hooked layer": (edit, "overlaid"),
    "adding a value": (value, "_at_positions"),
    "reading": (log_odds, "token_log_odds"),
    "differentiating": (Tensor, "backward"),
    "stepping": (torch.optim.Adam, "step"),
    "building factors": (edit, "_tensor"),
}
"""What an edit goes through, and where it can be made to fail there."""


class TestAnythingMayFail:
    """RELIABILITY case 19."""

    @pytest.fixture(scope="class")
    def model(self) -> LoadedModel:
        return lively("GPT-2")

    @pytest.fixture(scope="class")
    def clean(self, model: LoadedModel) -> Made:
        return edit_and_read(model)

    @pytest.mark.parametrize("ending", ENDINGS)
    @pytest.mark.parametrize("step", STEPS)
    def test_each_step_in_turn_and_the_next_edit_gives_the_same_numbers(
        self,
        model: LoadedModel,
        clean: Made,
        monkeypatch: pytest.MonkeyPatch,
        step: str,
        ending: type[BaseException],
    ) -> None:
        weights = model.digest()
        place, name = STEPS[step]
        working = getattr(place, name)
        for last in count(1):
            calls = count(1)

            def failing(*args: Any, last: int = last, calls: Iterator[int] = calls, **options: Any) -> Any:
                if next(calls) == last:
                    raise ending(step)
                return working(*args, **options)

            with monkeypatch.context() as patched:
                patched.setattr(place, name, failing)
                try:
                    edit_and_read(model)
                    failed = False
                except ending as error:
                    failed = str(error) == step
                    assert failed
            assert hooks_on(model) == 0
            if not failed:
                break
        assert last > 1, "this step is never taken"
        assert model.digest() == weights
        assert edit_and_read(model).same(clean)

    @pytest.mark.parametrize("ending", ENDINGS)
    def test_what_is_told_and_what_is_done_within_the_block_may_fail_too(
        self, model: LoadedModel, clean: Made, ending: type[BaseException]
    ) -> None:
        weights = model.digest()

        def fail(*_: object) -> None:
            raise ending("told")

        for options in ({"seen": fail}, {"within": fail}):
            with pytest.raises(ending, match="told"):
                edit_and_read(model, **options)
            assert hooks_on(model) == 0
        assert model.digest() == weights
        assert edit_and_read(model).same(clean)

    def test_every_step_is_one_an_edit_takes_on_a_model_in_order(self, model: LoadedModel, clean: Made) -> None:
        """What the numbers are compared with moves: an edit that changed nothing would be the same every time."""
        plain = read(model, sentences_of(model))
        assert (clean.log_odds - plain.log_odds).abs().min() > IN_FLOAT32
        assert len(clean.losses) == HOW.steps + 1


class TestTwoThreads:
    """RELIABILITY case 20."""

    def test_fifty_edits_each_on_one_model_are_those_of_a_run_alone(self) -> None:
        model = lively("GPT-2")
        weights = model.digest()
        work = {"one": [*plan(0)], "other": [*plan(1)]}
        alone = {name: [edit_and_read(model, *each) for each in edits] for name, edits in work.items()}
        both = threading.Barrier(2, timeout=PATIENCE)  # each waits for the other wherever overlays or δ are on
        together: dict[str, list[Made]] = {}

        def run(name: str) -> None:
            try:
                together[name] = [
                    edit_and_read(model, *each, seen=lambda _: both.wait(), within=both.wait) for each in work[name]
                ]
            except BaseException:
                both.abort()
                raise

        threads = [threading.Thread(target=run, args=(name,)) for name in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert model.digest() == weights
        assert hooks_on(model) == 0
        for name, expected in alone.items():
            assert len(together[name]) == EDITS
            assert all(found.same(one) for found, one in zip(together[name], expected, strict=True))
        assert not any(one.same(other) for one, other in zip(*alone.values(), strict=True))


def plan(seed: int) -> Iterator[tuple[Fact, str, editing.Hyperparameters]]:
    """Edits that differ between the threads; everyone takes as many steps, so that both wait equally often."""
    targets: Sequence[str] = ("Rome", "Paris", "London")
    for k in range(EDITS):
        how = editing.Hyperparameters(steps=1, learning_rate=0.1 + k / 100, prefixes=((0, 1),), stop_loss=0.0)
        yield FACTS[(k + seed) % len(FACTS)], targets[k % len(targets)], how
