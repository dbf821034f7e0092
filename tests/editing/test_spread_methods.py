"""MEMIT, AlphaEdit and their kin, layer after layer, against formulas with inverses and weights that are written to."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from kis_core.covariance.whitener import Whitener
from kis_core.editing import Edit, EditError, PerformedEdit, RequestedEdit, Site
from kis_core.editing.methods import memit, memit_past
from kis_core.editing.methods.alphaedit import AlphaEditSettings
from kis_core.editing.methods.emmet import EmmetSettings
from kis_core.editing.methods.memit import MemitSettings
from tests import tiny
from tests.editing.sequence_tools import (
    ACTING,
    ASKED,
    FORMULA,
    FOUND,
    HOWS,
    LAMBDA,
    MEAN,
    PAIR,
    PLAIN,
    READ,
    Place,
    before,
    close,
    gpt2,
    perform,
    place,
    place_of,
    weights_stay,
    written,
)

__all__ = ["gpt2", "place", "weights_stay"]  # fixtures


Formula = Callable[[int, np.ndarray], np.ndarray]
"""ΔW without its R: (b, d_m) from the layer and the keys (b, d_m)."""


def assert_spread(
    place: Place, name: str, site: Site, asked: Sequence[RequestedEdit], formula: Formula
) -> list[PerformedEdit]:
    """Make a batch, and go through it as the authors' code does: z by search at the last layer, then layer after layer.

    Keys are means over types of contexts; the residual stream, h as well as what h is to be, is the prompt's own.
    """
    made = perform(name, site, asked)
    slow, last = written(place, site.standing), site.layers[-1]

    def key_of(one: RequestedEdit, layer: int) -> np.ndarray:
        return (
            slow.over_types(one, layer)
            if site.hyperparameters.mean_key
            else slow.subject(slow.in_contexts(one)[0], layer)[0]
        )

    def stream_of(one: RequestedEdit) -> np.ndarray:
        return slow.subject(slow.in_contexts(one)[0], last)[2]

    values = []
    for one in asked:
        alone = formula(last, key_of(one, last)[None])[0]
        share = alone @ slow.subject(slow.in_contexts(one)[0], last)[0]
        values.append(slow.search(one, last, site.hyperparameters, alone / share, of_stream=True))
    z = np.array([stream_of(one) + value.delta for one, value in zip(asked, values, strict=True)])
    assert [one.steps for one in made] == [len(value.losses) - 1 for value in values]
    np.testing.assert_allclose([one.probability for one in made], [value.probability for value in values], rtol=FOUND)
    for done, layer in enumerate(site.layers):
        keys = np.array([key_of(one, layer) for one in asked])
        hidden = np.array([stream_of(one) for one in asked])
        missing = (z - hidden) / (len(site.layers) - done)
        actual = np.sum([one.changes[done].matrix for one in made], axis=0)
        expected = missing.T @ formula(layer, keys)
        close(actual, expected, 2 * FOUND)  # R and K both follow from what was searched for
        for e, one in enumerate(made):
            change = one.changes[done]
            assert isinstance(change, Edit)
            assert change.layer == layer
            close(change.delta, missing[e], 2 * FOUND)
            close(one.keys[done], keys[e], FOUND)
        slow.write(layer, expected)
    assert {len(one.changes) for one in made} == {len(site.layers)}
    assert {one.keys.shape for one in made} == {(len(site.layers), 40)}
    return made


RANGES = {
    "two in one layer": ((1,), PAIR, "acting everywhere"),
    "three in two layers": ((0, 1), ASKED, "plain"),
    "two in two, by mean keys": ((0, 1), PAIR, "mean key"),
}
ranges = pytest.mark.parametrize(
    ("place", "ranged"),  # all of them on one architecture; on the others what takes most of it
    [
        *(("GPT-2", name) for name in RANGES),
        *tiny.in_full(((other, "two in two, by mean keys") for other in tiny.ARCHITECTURES[1:]), ()),
    ],
    indirect=["place"],
)


class TestMemit:
    @ranges
    def test_is_r_kt_over_lambda_c_and_kkt_layer_after_layer(self, place: Place, ranged: str) -> None:
        layers, asked, how = RANGES[ranged]

        def formula(layer: int, keys: np.ndarray) -> np.ndarray:
            return np.asarray(keys @ np.linalg.inv(LAMBDA * place.cs[layer] + keys.T @ keys))

        past = {layer: np.full((2, 40), 3.0) for layer in layers}  # of no account to MEMIT
        site = place.site(layers, HOWS[how], standing=before(), past=past)
        made = assert_spread(place, "memit", site, asked, formula)
        changed = [np.linalg.norm(sum(one.changes[k].matrix for one in made)) for k in range(len(layers))]
        assert min(changed) > 0.01, "a test of nothing"


class TestMemitWithPastKeys:
    def test_weighs_against_past_keys_as_well_layer_after_layer(self, gpt2: Place) -> None:
        rng = np.random.default_rng(3)
        past = {layer: rng.normal(size=(4, 40)) * np.sqrt(np.trace(gpt2.cs[layer]) / 10) for layer in (0, 1)}

        def formula(layer: int, keys: np.ndarray) -> np.ndarray:
            kept = LAMBDA * gpt2.cs[layer] + past[layer].T @ past[layer]
            return np.asarray(keys @ np.linalg.inv(kept + keys.T @ keys))

        assert_spread(gpt2, "memit-past", gpt2.site((0, 1), MEAN, standing=before(), past=past), PAIR, formula)

    def test_values_given_in_a_linear_layer_are_written_one_after_another_as_at_once(self) -> None:
        rng = np.random.default_rng(0)
        weight, keys, values = rng.normal(size=(5, 12)), rng.normal(size=(6, 12)), rng.normal(size=(6, 5))
        sample = rng.normal(size=(30, 12))
        whitener, settings = Whitener.fit(sample.T @ sample / 30), MemitSettings(0.7)

        def written_in(batches: Sequence[slice], way: Callable[..., np.ndarray]) -> np.ndarray:
            now = weight
            for batch in batches:
                missing = values[batch] - keys[batch] @ now.T
                now = now + missing.T @ way(keys[batch], keys[: batch.start], whitener, settings)
            return now

        cut, whole = [slice(0, 1), slice(1, 3), slice(3, 6)], [slice(0, 6)]
        at_once = written_in(whole, memit.reaches)
        close(written_in(cut, memit_past.reaches), at_once, FORMULA)
        assert np.abs(written_in(cut, memit.reaches) - at_once).max() > 0.01


class TestEmmet:
    def test_is_r_over_ktck_kt_over_c_layer_after_layer(self, gpt2: Place) -> None:
        def formula(layer: int, keys: np.ndarray) -> np.ndarray:
            inverse = np.linalg.inv(gpt2.cs[layer])
            damping = LAMBDA * np.eye(len(keys)) if len(keys) > 1 else 0
            return np.asarray(np.linalg.inv(keys @ inverse @ keys.T + damping) @ keys @ inverse)

        past = {layer: np.full((2, 40), 3.0) for layer in (0, 1)}  # of no account to EMMET
        assert_spread(gpt2, "emmet", gpt2.site((0, 1), ACTING, standing=before(), past=past), ASKED, formula)

    def test_one_edit_in_one_layer_is_romes(self, gpt2: Place) -> None:
        """With δ as ROME finds it: decay and clamp are of other sizes."""
        site = gpt2.site((1,), replace(PLAIN, weight_decay=0, clamp=100), standing=before(2))
        (rome,), (emmet,) = (perform(name, site, PAIR[:1]) for name in ("rome", "emmet"))
        close(emmet.changes[0].matrix, rome.changes[0].matrix, READ)

    def test_every_value_of_a_batch_is_met_but_for_the_damping(self, gpt2: Place) -> None:
        site = gpt2.site((1,), settings=EmmetSettings(1e-12))
        made = perform("emmet", site, PAIR)
        shares = np.stack([one.changes[0].coefficients(np.concatenate([two.keys for two in made])) for one in made])
        np.testing.assert_allclose(shares, np.eye(2), atol=1e-6)

    def test_a_key_of_zeros_is_refused(self, gpt2: Place) -> None:
        double = copy.deepcopy(gpt2.double)
        double.architecture.down_projections[1].register_forward_pre_hook(lambda _, inputs: (inputs[0] * 0,))
        for edits in (1, 2):
            with pytest.raises(EditError, match=r"nothing of the edit would land|the key of this fact is zero"):
                perform("emmet", replace(gpt2, double=double).site((1,)), ASKED[:edits])


def projection(c: np.ndarray, below: float) -> np.ndarray:
    """Π onto the eigenvectors of C with eigenvalues below."""
    values, vectors = np.linalg.eigh(c)
    chosen = np.diag((values < below).astype(float))
    return np.asarray(vectors @ chosen @ vectors.T)


def threshold(c: np.ndarray, count: int) -> float:
    return float(np.linalg.eigvalsh(c)[count - 1 : count + 1].mean())


def alphaedit(pi: np.ndarray, keys: np.ndarray, past: np.ndarray, l2: float) -> np.ndarray:
    """ΔWᵀ = [Π(KKᵀ + K_pK_pᵀ) + L2·I]⁻¹ Π K Rᵀ, without R and transposed; keys are rows."""
    return np.asarray((np.linalg.inv(pi @ (keys.T @ keys + past.T @ past) + l2 * np.eye(40)) @ pi @ keys.T).T)


class TestAlphaEdit:
    @ranges
    def test_is_its_formula_layer_after_layer(self, place: Place, ranged: str) -> None:
        layers, asked, how = RANGES[ranged]
        rng = np.random.default_rng(3)
        below = threshold(place.cs[layers[-1]], 25)
        scale = {layer: float(np.sqrt(np.trace(place.cs[layer]))) for layer in layers}
        l2 = scale[layers[0]] ** 2 / 50
        past = {layer: rng.normal(size=(4, 40)) * scale[layer] for layer in layers}
        pi = {layer: projection(place.cs[layer], below) for layer in layers}
        site = place.site(layers, HOWS[how], settings=AlphaEditSettings(below, l2), standing=before(), past=past)
        made = assert_spread(
            place, "alphaedit", site, asked, lambda layer, keys: alphaedit(pi[layer], keys, past[layer], l2)
        )
        for k, layer in enumerate(layers):
            total = sum(one.changes[k].matrix for one in made)
            close(total @ pi[layer], total, FORMULA)  # nothing outside the null space moves
            assert 0 < np.trace(pi[layer]) < 40

    def test_by_default_the_space_is_three_quarters_and_l2_a_quarter_of_what_text_has_there(self, gpt2: Place) -> None:
        c = gpt2.cs[1]
        (made,) = perform("alphaedit", gpt2.site((1,), standing=before()), PAIR[:1])
        pi = projection(c, threshold(c, 30))
        expected = alphaedit(pi, made.keys, np.empty((0, 40)), np.trace(pi @ c) / 4)
        close(made.changes[0].reach, expected[0], FORMULA)

    @pytest.mark.parametrize(("share", "what"), [(0.5, "no"), (2.0, "every")])
    def test_a_threshold_that_leaves_nothing_or_all_is_refused(self, gpt2: Place, share: float, what: str) -> None:
        values = np.linalg.eigvalsh(gpt2.cs[1])
        below = share * float(values[0] if what == "no" else values[-1])
        site = gpt2.site((1,), settings=AlphaEditSettings(below, None))
        with pytest.raises(EditError, match=f"AlphaEdit: {what} eigenvalue of C lies below .* another threshold"):
            perform("alphaedit", site, PAIR[:1])

    def test_the_ridge_of_a_singular_c_is_no_use_by_text(self, gpt2: Place) -> None:
        sample = np.random.default_rng(0).normal(size=(8, 40))
        c = sample.T @ sample / 8
        whitener = Whitener.fit(c)
        settings = AlphaEditSettings(whitener.ridge / 2, 1.0)
        (made,) = perform("alphaedit", replace(gpt2.site((1,), settings=settings), whiteners={1: whitener}), PAIR[:1])
        pi = np.eye(40) - np.linalg.pinv(sample) @ sample  # all that the eight tokens leave
        close(made.changes[0].reach, alphaedit(pi, made.keys, np.empty((0, 40)), 1.0)[0], FORMULA)

    @pytest.mark.parametrize("past", ["the same key", "an edit that was passed over"])
    def test_where_text_has_nothing_in_the_null_space_an_edit_is_made_or_refused(self, gpt2: Place, past: str) -> None:
        sample = np.random.default_rng(0).normal(size=(8, 40))  # fewer tokens than a quarter of the dimensions
        site = replace(gpt2.site((1,)), whiteners={1: Whitener.fit(sample.T @ sample / 8)})
        (once,) = perform("alphaedit", site, PAIR[:1])
        key = once.keys if past == "the same key" else np.zeros((1, 40))  # as lifelong.sequence has it
        try:
            (made,) = perform("alphaedit", replace(site, past={1: key}), PAIR[:1])
        except EditError:
            return
        assert np.isfinite(made.changes[0].matrix).all()


class TestSpread:
    def test_needs_an_edit_and_layers_in_order(self, gpt2: Place) -> None:
        for edits, layers in ((0, (0, 1)), (1, ()), (1, (1, 0)), (1, (1, 1))):
            with pytest.raises(EditError, match="needs an edit and layers in order; found"):
                perform("memit", gpt2.site(layers), ASKED[:edits])

    def test_a_beginning_that_makes_a_prompt_too_long_is_left_out(self, gpt2: Place) -> None:
        short, long = (gpt2.site((1,), MEAN, prefixes=("It is said", *more)) for more in ((), ("very " * 60,)))
        (expected,), (actual,) = (perform("memit", site, PAIR[:1]) for site in (short, long))
        assert np.array_equal(actual.keys, expected.keys)
        assert np.array_equal(actual.changes[0].matrix, expected.changes[0].matrix)

    def test_a_batch_of_one_in_one_layer_reaches_along_romes_direction(self, gpt2: Place) -> None:
        """C⁻¹k, shortened by λ: kᵀC⁻¹k / (λ + kᵀC⁻¹k) of it lands. (Decay and clamp are of other sizes.)"""
        site = gpt2.site((1,), replace(PLAIN, weight_decay=0, clamp=100), standing=before(2))
        (rome,), (memit,) = (perform(name, site, PAIR[:1]) for name in ("rome", "memit"))
        key = rome.keys[0]
        size = key @ np.linalg.solve(gpt2.cs[1], key)
        close(memit.changes[0].matrix, rome.changes[0].matrix * size / (LAMBDA + size), READ)


class TestNothingLands:
    """An edit that would change nothing is refused, not made."""

    def test_a_key_of_zeros_in_a_layer_on_the_way(self, gpt2: Place) -> None:
        """In the batch one key is enough; layer and fact are named."""
        double = copy.deepcopy(gpt2.double)
        double.architecture.down_projections[0].register_forward_pre_hook(lambda _, inputs: (inputs[0] * 0,))
        site = replace(gpt2, double=double).site((0, 1))
        with pytest.raises(EditError, match=r"'Malta', layer 0: the key of this fact is zero .* choose another layer"):
            perform("memit", site, PAIR)

    def test_a_key_that_has_nothing_in_the_null_space(self, gpt2: Place) -> None:
        site = gpt2.site((1,))
        key = perform("memit", site, PAIR[:1])[0].keys[0]
        rest = np.linalg.qr(np.column_stack([key, np.random.default_rng(0).normal(size=(40, 39))]))[0]
        c = rest @ np.diag([4.0 * key @ key, *np.full(39, 1e-3)]) @ rest.T  # text uses the key's direction alone
        alone = replace(site, whiteners={1: Whitener.fit(c)}, settings=AlphaEditSettings(1.0, 1.0))
        with pytest.raises(EditError, match="'Malta', layer 1: nothing of what AlphaEdit writes would land"):
            perform("alphaedit", alone, PAIR[:1])


@pytest.mark.parametrize("architecture", ["Gemma 2", "Granite"])
def test_a_norm_or_factor_before_the_residual_stream_is_refused(architecture: str) -> None:
    place = place_of(architecture)
    for name in ("memit", "alphaedit"):
        with pytest.raises(EditError, match="is scaled or normed on its way there"):
            perform(name, place.site((1,)), ASKED[:1])
