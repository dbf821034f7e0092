"""RECT, PRUNE, WilKE and norm-anchor scaling, by their papers' formulas on weights that are written to."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from kis_core.editing import DenseEdit, Edit, EditError, Hyperparameters, RequestedEdit, anchor, method
from kis_core.editing.methods.prune import PruneSettings, restrained
from kis_core.editing.methods.rect import RectSettings, largest_changes
from kis_core.facts import Fact
from kis_core.facts.known import KnownFacts
from tests.editing.sequence_tools import (
    ACTING,
    ASKED,
    FORMULA,
    FOUND,
    MEAN,
    PAIR,
    PLAIN,
    REACHED,
    Place,
    before,
    close,
    gpt2,
    perform,
    weights_stay,
    written,
)
from tests.editing.test_sequence_methods import rank_one_reach, weight_of

__all__ = ["gpt2", "weights_stay"]  # fixtures


class TestRect:
    """Gu et al., section 5: of ΔW only the k % of entries with the largest |ΔW / W| stay."""

    def test_by_hand_zeros_too(self) -> None:
        weight = np.array([[1.0, -2.0, 0.0], [4.0, 0.0, 0.1]])
        change = np.array([[0.5, 3.0, 1e-9], [-1.0, 0.0, -0.01]])  # 1/2, 3/2, beyond all; 1/4, nothing, 1/10
        assert largest_changes(change, weight, 1).tolist() == change.tolist()
        assert largest_changes(change, weight, 0.5).tolist() == [[0.5, 3.0, 1e-9], [0, 0, 0]]
        assert largest_changes(change, weight, 0.84).tolist() == change.tolist()  # 0.96 entries are to go: none
        assert largest_changes(change, weight, 1 / 6).tolist() == [[0, 0, 1e-9], [0, 0, 0]]

    def test_romes_edit_without_the_rest_of_it_on_the_weights_as_they_stand(self, gpt2: Place) -> None:
        site = gpt2.site((1,), ACTING, standing=before())
        (rome,) = perform("rome", site, PAIR[:1])
        (made,) = perform("rect", replace(site, settings=RectSettings(0.2)), PAIR[:1])
        (change,) = made.changes
        whole, weight = rome.changes[0].matrix, weight_of(written(gpt2, before()), 1)
        by_size = sorted(np.ndindex(whole.shape), key=lambda at: -abs(whole[at] / weight[at]))
        expected = np.zeros(whole.shape)
        for at in by_size[: whole.size // 5]:
            expected[at] = whole[at]
        assert isinstance(change, DenseEdit)
        assert change.layer == 1
        assert np.array_equal(change.matrix, expected)
        assert np.array_equal(made.keys, rome.keys)

    @pytest.mark.parametrize("wrong", [0, -1.0, 1.01, math.nan])
    def test_a_share_is_one(self, wrong: float) -> None:
        with pytest.raises(EditError, match="rect_kept"):
            RectSettings(wrong)


class TestPrune:
    """Ma et al., section 4: F(σ̂) = log_α σ̂ - log_α σ + σ beyond the largest singular value σ of W."""

    def test_by_hand(self) -> None:
        weight, total = np.diag([-10.0, 4.0, 1.0])[:, :2], np.diag([5.0, 30.0, 1.0])[:, :2]
        expected = np.diag([5.0, math.log(3) / math.log(1.2) + 10, 0])[:, :2]
        close(restrained(weight, total, PruneSettings(1.2)), expected, FORMULA)
        assert np.array_equal(restrained(weight, total / 4, PruneSettings(1.2)), total / 4), "nothing is beyond 10"
        close(
            restrained(np.eye(2), np.diag([1.5, 40.0]), PruneSettings(1.2)),
            np.diag([1.5, math.log(40) / math.log(1.2) + 1]),
            FORMULA,
        )  # F(1.5) is 3.2: no restraint makes larger

    def test_singular_values_alone_are_restrained(self) -> None:
        rng = np.random.default_rng(0)
        weight, total = rng.normal(size=(6, 9)), rng.normal(size=(6, 9)) * np.geomspace(0.2, 9, 9)
        actual, base = restrained(weight, total, PruneSettings(math.e)), math.e
        sigma = math.sqrt(np.linalg.eigvalsh(weight @ weight.T)[-1])
        squares, left = np.linalg.eigh(total @ total.T)
        assert math.sqrt(squares[0]) < sigma < math.sqrt(squares[-2])
        expected = np.zeros(total.shape)
        for square, direction in zip(squares, left.T, strict=True):
            value = math.sqrt(square)
            to = value if value <= sigma else min(value, math.log(value, base) - math.log(sigma, base) + sigma)
            expected += to / value * np.outer(direction, direction @ total)
        close(actual, expected, FORMULA)

    def test_a_single_edit_keeps_its_directions(self, gpt2: Place) -> None:
        prune = method("prune")
        (made,) = perform("prune", gpt2.site((1,), standing=before()), PAIR[:1])
        (rome,) = perform("rome", gpt2.site((1,), standing=before()), PAIR[:1])
        edit = made.changes[0]
        assert isinstance(edit, Edit)
        assert np.array_equal(edit.matrix, rome.changes[0].matrix), "in a sequence each edit is ROME's"
        weight, large = weight_of(written(gpt2, ()), 1), edit.scaled(1e3)
        alone = prune.alone(large, weight, PruneSettings(2))  # type: ignore[attr-defined]
        sigma, size = np.linalg.norm(weight, 2), np.linalg.norm(large.delta) * np.linalg.norm(large.reach)
        assert size > sigma
        close(alone.matrix, large.matrix * (math.log2(size / sigma) + sigma) / size, FORMULA)
        assert np.array_equal(alone.reach, large.reach)

    @pytest.mark.parametrize("wrong", [1, 0.5, math.inf, math.nan])
    def test_a_base_is_above_one(self, wrong: float) -> None:
        with pytest.raises(EditError, match="prune_base"):
            PruneSettings(wrong)


class TestWilke:
    """Hu et al. and their code: ROME's edit where ‖ΔW‖ / ‖W‖ is smallest."""

    @pytest.mark.parametrize("larger", [0, 1])
    def test_picks_the_layer_that_it_changes_least(self, gpt2: Place, larger: int) -> None:
        standing = (DenseEdit(larger, np.random.default_rng(1).normal(size=(24, 40)) * 9), *before())
        slow, one = written(gpt2, standing), ASKED[1]
        (made,) = perform("wilke", gpt2.site((0, 1), standing=standing), [one])
        edits, relative = [], []
        for layer in (0, 1):
            key, *_ = slow.subject(slow.in_contexts(one)[0], layer)
            reach = rank_one_reach("rome", gpt2.cs[layer], key, key, PLAIN)
            edits.append(np.outer(slow.search(one, layer, PLAIN, reach).delta, reach))
            relative.append(np.linalg.norm(edits[-1]) / np.linalg.norm(weight_of(slow, layer)))
            close(made.keys[layer], key, REACHED)
        picked = int(np.argmin(relative))
        assert picked == larger, "the same change is smaller beside larger weights"
        (change,) = made.changes
        assert change.layer == picked
        close(change.matrix, edits[picked], FOUND)

    def test_a_layer_that_cannot_be_edited_is_passed_over(self, gpt2: Place) -> None:
        """What the last layer writes at the subject is read by nobody."""
        (made,) = perform("wilke", gpt2.site((1, 2)), PAIR[:1])
        assert (made.changes[0].layer, made.keys.shape, made.keys[1].any()) == (1, (2, 40), False)
        with pytest.raises(EditError, match="layer 2 is the last one"):
            perform("wilke", gpt2.site((2,)), PAIR[:1])
        for edits, layers in ((0, (1,)), (2, (1,)), (1, ()), (1, (1, 0))):
            with pytest.raises(EditError, match="one edit at a time, and needs layers in order"):
                perform("wilke", gpt2.site(layers), ASKED[:edits])


def anchored(value: np.ndarray, norm: float) -> np.ndarray:
    return value * norm / math.sqrt((value**2).sum())


class TestNormAnchorScaling:
    """Liu et al.: v* = v₀ + δ is rescaled to the norm that values have in the unedited model."""

    @pytest.mark.parametrize(
        ("name", "how"), [("rome", MEAN), ("rome", ACTING), ("r-rome", PLAIN), ("r-rome", ACTING), ("memit", MEAN)]
    )
    def test_what_an_edit_writes_has_the_norm_of_the_anchor(self, gpt2: Place, name: str, how: Hyperparameters) -> None:
        site = gpt2.site((1,), how, standing=before())
        (as_found,) = perform(name, site, PAIR[:1])
        norm = 0.8 * as_found.value_norm
        (made,) = perform(name, replace(site, hyperparameters=replace(how, nas=True), anchors={1: norm}), PAIR[:1])
        slow = written(gpt2, before())
        v0 = slow.subject(slow.in_contexts(PAIR[0])[0], 1)[1]
        mean = slow.means(PAIR[0], 1)[1]
        shift = v0 - mean if name == "r-rome" and not how.everywhere else np.zeros(24)  # r-ROME's δ is v* - W k̄
        close(made.changes[0].delta - shift, anchored(v0 + as_found.changes[0].delta - shift, norm) - v0, FOUND)
        assert made.value_norm == pytest.approx(norm)
        assert np.array_equal(made.changes[0].reach, as_found.changes[0].reach)

    @pytest.mark.parametrize(("name", "most"), [("rome", 5), ("memit", 2)])
    def test_a_value_far_too_large_writes_nothing(self, gpt2: Place, name: str, most: float) -> None:
        site = gpt2.site((1,), replace(PLAIN, nas=True))
        (as_found,) = perform(name, gpt2.site((1,)), PAIR[:1])
        for times, written_at_all in ((most * 0.99, True), (most * 1.01, False)):
            (made,) = perform(name, replace(site, anchors={1: as_found.value_norm / times}), PAIR[:1])
            assert np.abs(made.changes[0].matrix).max() > 1e-9 if written_at_all else not made.changes[0].delta.any()
        with pytest.raises(EditError, match=r"layer 1: values are to be rescaled \(NAS\), and `Site.anchors`"):
            perform(name, site, PAIR[:1])

    def test_the_anchor_is_a_mean_over_edits_of_the_unedited_model(self, gpt2: Place) -> None:
        slow, how = written(gpt2, ()), replace(ACTING, nas=True)
        site = gpt2.site((1,), how, standing=before())
        expected = []
        for one in PAIR:
            key, output, _ = slow.subject(slow.in_contexts(one)[0], 1)
            found = slow.search(one, 1, how, rank_one_reach("rome", gpt2.cs[1], key, key, how))
            expected.append(np.linalg.norm(output + found.delta))
        unmade = RequestedEdit(PAIR[0].fact, " ")
        assert anchor.norms(method("rome"), site, [*PAIR, unmade]) == pytest.approx(expected, rel=FOUND)
        with pytest.raises(EditError, match=r"could be measured .*the new object is empty"):
            anchor.norms(method("rome"), site, [unmade])

    def test_the_largest_twentieth_does_not_count(self) -> None:
        assert anchor.trimmed_mean([100.0, *range(1, 20)]) == 10
        assert anchor.trimmed_mean([100.0, *range(1, 19)]) == pytest.approx((100 + 171) / 19)

    def test_its_edits_are_of_facts_with_another_object(self) -> None:
        known = KnownFacts([Fact(f"s{k}", "{} is", f"o{k % 3}", "r") for k in range(30)] + [Fact("x", "{} is", "y")])
        edits = anchor.edits(known, 20)
        assert len({edit.fact for edit in edits}) == 20
        assert all(edit.target != edit.fact.target for edit in edits)

    def test_the_key_of_what_is_stored_knows_of_it_where_it_is_on(self) -> None:
        assert "nas" not in Hyperparameters().to_json()
        assert Hyperparameters(nas=True).to_json() == Hyperparameters().to_json() | {"nas": True}
