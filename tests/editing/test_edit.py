"""Edits applied: the overlay against weights really written."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kis_core.editing.edit import Edit, EditError
from kis_core.editing.overlay import applied, overlaid
from kis_core.models.loaded import LoadedModel
from tests.editing.lively_models import IN_FLOAT32, PATIENCE, hooks_on, lively, loaded

__all__ = ["loaded"]  # fixtures
WRITTEN = 1e-13  # relative, in float64: an overlay rounds its sums in another order than a written weight; seen 1.3e-15
EXACT = 1e-12  # a few float64 roundings
PROJECTION = {
    "GPT-2": "transformer.h.{}.mlp.c_proj",
    "GPT-J": "transformer.h.{}.mlp.fc_out",
    "GPT-NeoX": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
    "Llama": "model.layers.{}.mlp.down_proj",
}
BIASED = {"GPT-2", "GPT-J", "GPT-NeoX"}


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
