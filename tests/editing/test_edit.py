"""Edits as numbers, and applied: the overlay against weights really written."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import PreTrainedModel

from kis_core.editing.edit import Change, DenseEdit, Edit, EditError
from kis_core.editing.overlay import applied, moved, overlaid
from kis_core.models.loaded import LoadedModel
from tests.editing.lively_models import IN_FLOAT32, PATIENCE, hooks_on, lively, loaded
from tests.editing.sequence_tools import close

__all__ = ["loaded"]  # fixtures
WRITTEN = 1e-13  # relative, in float64: an overlay rounds its sums in another order than a written weight; seen 2e-15
EXACT = 1e-12  # a few float64 roundings, relative to the largest
WIDTH, MLP_WIDTH = 24, 40
PROJECTION = {
    "GPT-2": "transformer.h.{}.mlp.c_proj",
    "GPT-J": "transformer.h.{}.mlp.fc_out",
    "GPT-NeoX": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
    "Llama": "model.layers.{}.mlp.down_proj",
}


@pytest.fixture(scope="module")
def gpt2() -> LoadedModel:
    return lively("GPT-2")


def dense(layer: int, seed: int) -> DenseEdit:
    return DenseEdit(layer, np.random.default_rng(seed).normal(size=(WIDTH, MLP_WIDTH)) / 4)


def thin(layer: int, seed: int) -> Edit:
    rng = np.random.default_rng(seed)
    return Edit(layer, rng.normal(size=MLP_WIDTH) / 2, rng.normal(size=WIDTH))


def by_hand(edit: Change) -> np.ndarray:
    """ΔW, number by number."""
    if isinstance(edit, DenseEdit):
        return edit.matrix
    return np.array([[row * column for column in edit.reach] for row in edit.delta])


def double(loaded: LoadedModel) -> LoadedModel:
    """The same model in float64."""
    model, architecture = copy.deepcopy((loaded.model, loaded.architecture))
    return LoadedModel(model.double(), loaded.tokenizer, architecture, loaded.device)


def projection(loaded: LoadedModel, layer: int) -> nn.Module:
    return loaded.model.get_submodule(PROJECTION[loaded.architecture.name].format(layer))


def written(loaded: LoadedModel, edits: Sequence[Change]) -> PreTrainedModel:
    """A float64 copy with W + ΔW in its weights."""
    made = double(loaded)
    for edit in edits:
        module, change = projection(made, edit.layer), torch.from_numpy(by_hand(edit))
        module.weight.add_(change.T if type(module).__name__ == "Conv1D" else change)  # Conv1D stores W as (d_m, d)
    return made.model


def logits_of(model: PreTrainedModel) -> Tensor:
    """Of two sequences of which the second is padded, the real tokens'."""
    ids = torch.tensor([[5, 600, 7, 1200, 9, 80], [11, 2000, 13, 0, 0, 0]])
    mask = torch.tensor([[1] * 6, [1] * 3 + [0] * 3])
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits
    return torch.cat([logits[0], logits[1, :3]])


class TestNumbers:
    def test_of_a_thin_edit_by_hand(self) -> None:
        edit = Edit(2, np.array([2.0, -1.0, 0.5]), np.array([3.0, 4.0]))
        keys = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 2.0]], [[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]]])
        assert edit.coefficients(keys).tolist() == [[2.0, 0.0], [2.0, 0.0]]
        half = edit.scaled(-0.5)
        assert (edit.size, half.size, half.layer) == (5.0, 2.5, 2)
        assert (half.delta.tolist(), half.reach.tolist()) == ([-1.5, -2.0], [2.0, -1.0, 0.5])
        assert DenseEdit(0, np.array([[3.0, 0.0], [0.0, -4.0]])).size == 5

    @given(st.integers(0, 10_000), st.sampled_from([(), (3,), (2, 3)]))
    def test_edits_move_each_key_by_their_matrix(self, seed: int, shape: tuple[int, ...]) -> None:
        keys = np.random.default_rng(seed).normal(size=(*shape, MLP_WIDTH))
        for edit in (dense(1, seed), thin(1, seed)):
            expected = np.zeros((*shape, WIDTH))
            for at in np.ndindex(*shape):
                expected[at] = [sum(w * k for w, k in zip(row, keys[at], strict=True)) for row in by_hand(edit)]
            close(edit.moves(keys), expected, EXACT)
            close(edit.matrix, by_hand(edit), EXACT)

    def test_float32_keys_count_in_float64(self) -> None:
        steep, keys = np.array([1e9 + 0.25, -1e9]), np.ones((1, 2), dtype=np.float32)
        assert Edit(0, steep, np.ones(2)).coefficients(keys).tolist() == [0.25]
        assert DenseEdit(0, np.stack([steep] * 2)).moves(keys).tolist() == [[0.25, 0.25]]

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_small_shares_of_a_large_reach_survive_and_the_dtype_stays(self, dtype: torch.dtype) -> None:
        reach = torch.tensor([[1e9 + 0.25, -1e9]], dtype=torch.float64)  # in float32 the two would cancel
        keys, output = torch.ones(1, 2, dtype=dtype), torch.zeros(1, 1, dtype=dtype)
        for result in (overlaid(keys, output, reach, torch.ones(1, 1).double()), moved(keys, output, reach)):
            assert (result.dtype, result.tolist()) == (dtype, [[0.25]])


def test_the_weight_of_a_layer_is_d_by_d_m_and_the_models_own(loaded: LoadedModel) -> None:
    for layer in range(3):
        weight, module = loaded.architecture.weight(layer), projection(loaded, layer)
        assert tuple(weight.shape) == loaded.architecture.widths == (WIDTH, MLP_WIDTH)
        assert weight.data_ptr() == module.weight.data_ptr()
        key = torch.from_numpy(np.random.default_rng(0).normal(size=(1, MLP_WIDTH))).float()
        output = module(key) - (0 if getattr(module, "bias", None) is None else module.bias)
        close((key @ weight.T).numpy(), output.numpy(), IN_FLOAT32)


MIXTURES: dict[str, tuple[Change, ...]] = {
    "a thin one": (thin(1, 0),),
    "a full one in the last layer": (dense(2, 1),),
    "a full and two thin ones of one layer": (thin(1, 4), dense(1, 5), thin(1, 6)),
    "all of it in every layer, out of order": (dense(2, 7), thin(0, 8), dense(0, 9), thin(2, 10), dense(1, 11)),
}


class TestApplied:
    @pytest.mark.parametrize("mixture", MIXTURES)
    def test_equals_writing_them_into_the_weights(self, loaded: LoadedModel, mixture: str) -> None:
        edits, in_float64 = MIXTURES[mixture], double(loaded)
        weights, before = loaded.digest(), logits_of(loaded.model)
        expected = logits_of(written(loaded, edits)).numpy()
        assert np.abs(expected - before.numpy()).max() > np.abs(expected).max() / 20, "a test of nothing"
        with applied(loaded, *edits):
            edited = logits_of(loaded.model)
            assert loaded.digest() == weights
        assert edited.dtype == torch.float32
        close(edited.numpy(), expected, IN_FLOAT32)
        assert (loaded.digest(), hooks_on(loaded)) == (weights, 0)
        assert torch.equal(logits_of(loaded.model), before)
        with applied(in_float64, *reversed(edits)):
            close(logits_of(in_float64.model).numpy(), expected, WRITTEN)
        with applied(in_float64, edits[0]):
            alone = logits_of(in_float64.model)
            with applied(in_float64, *edits[1:]):
                close(logits_of(in_float64.model).numpy(), expected, WRITTEN)
            assert torch.equal(logits_of(in_float64.model), alone), "an inner block takes its own edits away alone"

    def test_zeros_change_no_bit_and_opposites_cancel(self, gpt2: LoadedModel) -> None:
        before = logits_of(gpt2.model)
        for nothing in ((), (thin(0, 0).scaled(0.0),), (DenseEdit(1, np.zeros((WIDTH, MLP_WIDTH))),)):
            with applied(gpt2, *nothing):
                assert torch.equal(logits_of(gpt2.model), before)
        with applied(gpt2, dense(1, 0), DenseEdit(1, -dense(1, 0).matrix), thin(0, 0), thin(0, 0).scaled(-1.0)):
            torch.testing.assert_close(logits_of(gpt2.model), before, rtol=0, atol=EXACT)

    @pytest.mark.parametrize("cancels", ["in one reach", "between edits", "between columns"])
    def test_small_changes_are_summed_before_they_are_rounded(self, gpt2: LoadedModel, cancels: str) -> None:
        """In float64: float32 would lose them next to the million that cancels."""
        key = np.random.default_rng(2).normal(size=MLP_WIDTH).astype(np.float32).astype(np.float64)
        across = np.zeros(MLP_WIDTH)
        across[3], across[4] = key[4], -key[3]
        small, large = dense(1, 0).matrix, np.full((WIDTH, MLP_WIDTH), 1e6)
        edits: dict[str, list[Change]] = {
            "in one reach": [Edit(1, thin(1, 0).reach + 1e6 * across, thin(1, 0).delta)],
            "between edits": [DenseEdit(1, large), DenseEdit(1, small - large)],
            "between columns": [DenseEdit(1, small + np.outer(np.full(WIDTH, 1e6), across))],
        }
        module, inputs = projection(gpt2, 1), torch.from_numpy(key[None]).float()
        plain = module(inputs).numpy()
        with applied(gpt2, *edits[cancels]):
            change = module(inputs).numpy() - plain
        close(change, key[None] @ (thin(1, 0).matrix if cancels == "in one reach" else small).T, IN_FLOAT32)

    def test_another_thread_runs_the_model_as_it_is(self, gpt2: LoadedModel) -> None:
        before, seen = logits_of(gpt2.model), []
        with applied(gpt2, thin(0, 0), dense(1, 0)):
            other = threading.Thread(target=lambda: seen.append(logits_of(gpt2.model)))
            other.start()
            other.join(PATIENCE)
        assert torch.equal(seen[0], before)


FINE = thin(0, 0)
LAST_WRONG = np.zeros((WIDTH, MLP_WIDTH))
LAST_WRONG[-1, -1] = -math.inf


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Edit(3, FINE.reach, FINE.delta), "layer 3 was to be edited; the model has layers 0 to 2"),
        (dense(-1, 0), "layer -1 was to be edited; the model has layers 0 to 2"),
        (Edit(0, FINE.delta, FINE.reach), r"\(\(40,\), \(24,\)\) does not fit a layer of d = 24, d_m = 40"),
        (Edit(0, FINE.reach, FINE.delta[None]), r"\(\(1, 24\), \(40,\)\) does not fit"),
        *((DenseEdit(1, np.zeros(shape)), "does not fit a layer of d = 24") for shape in [(40, 24), (24, 39), (960,)]),
        (Edit(1, FINE.reach, np.full(24, np.nan)), "edit of layer 1 holds a NaN or an infinity"),
        (Edit(2, np.full(40, np.inf), FINE.delta), "edit of layer 2 holds a NaN or an infinity"),
        (DenseEdit(1, LAST_WRONG), "edit of layer 1 holds a NaN or an infinity"),
    ],
)
def test_an_edit_that_does_not_fit_says_why_and_hooks_nothing(gpt2: LoadedModel, wrong: Change, message: str) -> None:
    with pytest.raises(EditError, match=message), applied(gpt2, FINE, wrong):
        pytest.fail("the block was entered with an edit that does not fit")
    assert hooks_on(gpt2) == 0


def test_one_bit_of_any_weight_shows_in_the_digest(gpt2: LoadedModel) -> None:
    """Without this, the tests that weights stay as they are would be worth nothing."""
    changed = LoadedModel(copy.deepcopy(gpt2.model), gpt2.tokenizer, gpt2.architecture, gpt2.device)
    before = changed.digest()
    assert before == gpt2.digest()
    for parameter in changed.model.parameters():
        last = parameter.detach().view(-1)[-1:].view(torch.int32)
        last ^= 1
        assert changed.digest() != before
        last ^= 1
    assert changed.digest() == before
