"""Each method of editing, on a model that edits have changed before, against a slow float64 one that is written to."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kis_core.editing import METHODS, DenseEdit, Edit, EditError, Hyperparameters, RequestedEdit, Site
from kis_core.editing.methods.fine_tuning import FineTuningSettings
from kis_core.progress import Cancelled
from tests import tiny
from tests.editing.sequence_tools import (
    ASKED,
    FOUND,
    HOWS,
    PAIR,
    REACHED,
    READ,
    SETTINGS,
    STEPS,
    Place,
    Written,
    before,
    close,
    gpt2,
    perform,
    place,
    weights_stay,
    written,
)

__all__ = ["gpt2", "place", "weights_stay"]  # fixtures


TUNED = 1e-3
"""ΔW of fine-tuning in float32, relative to its largest number: Adam divides by small gradients; seen 1.2e-4."""


def rank_one_reach(name: str, c: np.ndarray, key: np.ndarray, mean: np.ndarray, how: Hyperparameters) -> np.ndarray:
    """u: C⁻¹k over what of it lies along k (eq. 4 and 5); k̄ on the sides where the method has it."""
    left = mean if how.mean_key or name == "r-rome" else key
    right = mean if name == "r-rome" else key
    direction = left if name == "identity" else np.linalg.inv(c) @ left
    return np.asarray(direction / (direction @ right))


CASES = [
    *(("GPT-2", "rome", how) for how in HOWS),
    ("GPT-2", "r-rome", "plain"),
    ("GPT-2", "identity", "mean key"),
    *((architecture, "rome", "acting everywhere") for architecture in tiny.ARCHITECTURES[1:]),
]
"""What differs on one architecture; on the others what takes most of it."""


class TestRankOne:
    """W_n = W_{n-1} + (v_e - W_{n-1} k_e) uᵀ."""

    @pytest.mark.parametrize(("place", "name", "how"), tiny.in_full(CASES, ("GPT-2",)), indirect=["place"])
    def test_every_edit_of_a_sequence_is_that_of_the_model_the_ones_before_it_left(
        self, place: Place, name: str, how: str
    ) -> None:
        layer, chosen = 1, HOWS[how]
        standing, slow = list(before()), written(place, before())
        for one in ASKED:
            (made,) = perform(name, place.site([layer], chosen, standing=tuple(standing)), [one])
            (edit,) = made.changes
            assert isinstance(edit, Edit)
            fact = slow.in_contexts(one)[0]
            key, output, _ = slow.subject(fact, layer)
            mean_key, mean_output, _ = slow.means(one, layer)
            reach = rank_one_reach(name, place.cs[layer], key, mean_key, chosen)
            value = slow.search(one, layer, chosen, reach)
            delta, wanted = value.delta, output + value.delta  # δ and v_e
            lands = mean_key if name == "r-rome" else key
            if name == "r-rome" and not chosen.everywhere:
                delta = wanted - mean_output  # W_{n-1} k̄
            assert edit.layer == layer
            close(edit.reach, reach, REACHED)
            close(edit.delta, delta, FOUND)
            close(made.keys, key[None], READ)
            assert made.probability == pytest.approx(value.probability, rel=FOUND)
            assert made.steps == len(value.losses) - 1 == STEPS
            slow.write(layer, np.outer(edit.delta, edit.reach))
            standing.append(edit)
            bias = output - key @ weight_of(slow, layer, without=edit).T
            value = weight_of(slow, layer) @ lands + bias  # W_n k_e, where the edit really is in the weights
            close(value, mean_output + delta if name == "r-rome" else wanted, FOUND)
            if name != "r-rome":
                close(slow.subject(fact, layer)[1], output + edit.delta, READ)

    @pytest.mark.parametrize("name", ["rome", "fine-tuning"])
    def test_takes_one_edit_in_one_layer(self, gpt2: Place, name: str) -> None:
        for edits, layers in ((0, (1,)), (2, (1,)), (1, (0, 1)), (1, ())):
            with pytest.raises(EditError, match="one edit at a time, in one layer"):
                perform(name, gpt2.site(layers), ASKED[:edits])


def weight_of(slow: Written, layer: int, *, without: Edit | None = None) -> np.ndarray:
    stored = slow.projections[layer].weight
    assert isinstance(stored, Tensor)
    weight = np.asarray(stored.T if slow.transposed else stored)
    return weight if without is None else weight - np.outer(without.delta, without.reach)


class TestFineTuning:
    def tuned(self, place: Place, site: Site, one: RequestedEdit) -> tuple[np.ndarray, np.ndarray, float, int]:
        """Adam on the matrix itself in a copy of the model, its key, the probability and the steps."""
        slow = written(replace(place, double=place.loaded), site.standing)
        fact, (layer,) = slow.in_contexts(one)[0], site.layers
        weight = slow.projections[layer].weight
        assert isinstance(weight, nn.Parameter)
        key, first = slow.subject(fact, layer)[0], weight.detach().clone()
        weight.requires_grad_(True)
        optimizer = torch.optim.Adam([weight], lr=site.settings.tuning_rate)
        for step in itertools.count():
            loss = -slow.log_prob(fact, slow.read(fact, layer).logits)
            if loss < 0.01 or step == site.settings.tuning_steps:
                change = (weight - first).detach()
                return (change.T if slow.transposed else change).numpy(), key, float((-loss).detach().exp()), step
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        raise AssertionError

    @pytest.mark.parametrize("layer", [0, 2])
    def test_is_adam_on_the_matrix_itself(self, place: Place, layer: int) -> None:
        site = place.site((layer,), standing=before(), settings=SETTINGS["fine-tuning"])
        site = replace(site, loaded=place.loaded)
        for one in PAIR:
            (made,) = perform("fine-tuning", site, [one])
            (change,) = made.changes
            assert isinstance(change, DenseEdit)
            matrix, key, probability, steps = self.tuned(place, site, one)
            assert change.layer == layer
            assert change.matrix.dtype == np.float64
            assert steps == made.steps == 4
            close(change.matrix, matrix, TUNED)
            close(made.keys, key[None], 1e-5)  # read in float32
            assert made.probability == pytest.approx(probability, rel=TUNED)

    def test_stops_when_the_loss_is_small_enough(self, place: Place) -> None:
        loaded = copy.deepcopy(place.loaded)
        loaded.model.get_output_embeddings().weight.mul_(10)  # else no answer of a random model can be sure
        site = replace(place.site((1,), settings=FineTuningSettings(0.02, 60)), loaded=loaded)
        reports: list[int] = []
        (made,) = perform("fine-tuning", site, PAIR[1:], lambda _, step, __: reports.append(step))
        *_, probability, steps = self.tuned(replace(place, loaded=loaded), site, PAIR[1])
        assert 0 < made.steps == steps < 60
        assert made.probability == pytest.approx(probability, rel=TUNED)
        assert 1 > made.probability > np.exp(-0.01)
        assert reports[: made.steps + 1] == list(range(made.steps + 1))
        (after,) = perform("fine-tuning", replace(site, standing=made.changes), PAIR[1:])
        assert after.steps == 0  # nothing is left to do
        assert not after.changes[0].matrix.any()

    def test_a_loss_that_is_not_finite_is_refused(self, gpt2: Place) -> None:
        broken = (DenseEdit(0, np.full((24, 40), 1e38)),)
        with pytest.raises(EditError, match="layer 1: the loss is not finite at step 0; take a smaller learning rate"):
            perform("fine-tuning", replace(gpt2.site((1,), standing=broken), loaded=gpt2.loaded), PAIR[:1])

    @pytest.mark.parametrize("wanting_none", [torch.inference_mode, torch.no_grad])
    def test_a_gradient_is_taken_where_the_caller_wants_none(self, gpt2: Place, wanting_none: Any) -> None:
        site = replace(gpt2.site((1,)), loaded=gpt2.loaded)
        (expected,) = perform("fine-tuning", site, PAIR[:1])
        with wanting_none():
            (actual,) = perform("fine-tuning", site, PAIR[:1])
        assert np.array_equal(actual.changes[0].matrix, expected.changes[0].matrix)
        assert expected.changes[0].matrix.any()


@pytest.mark.parametrize("name", [method.name for method in METHODS])
class TestEveryMethod:
    @pytest.mark.parametrize("after", [0, 2])
    def test_called_off_it_leaves_nothing_behind(self, gpt2: Place, name: str, after: int) -> None:
        calls = itertools.count()

        def report(*_: object) -> None:
            if next(calls) == after:
                raise Cancelled

        site = replace(gpt2.site((1,), standing=before()), loaded=gpt2.loaded)
        with pytest.raises(Cancelled):
            perform(name, site, PAIR[:1], report)

    def test_a_layer_there_is_not_and_an_empty_object_are_refused(self, gpt2: Place, name: str) -> None:
        site = replace(gpt2.site((1,)), loaded=gpt2.loaded)
        for layer in (3, -1):
            with pytest.raises(EditError, match="the model has layers 0 to 2"):
                perform(name, replace(site, layers=(layer,), whiteners={layer: site.whiteners[1]}), PAIR[:1])
        with pytest.raises(EditError, match="the new object is empty"):
            perform(name, site, [RequestedEdit(PAIR[0].fact, " \n")])
