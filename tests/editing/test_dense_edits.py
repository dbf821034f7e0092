"""Full edits of a matrix: applied, observed and foretold, against weights really written and one sentence at a time."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kis_core.editing import DenseEdit, Edit, EditError, applied
from kis_core.editing.edit import Change
from kis_core.facts import Fact
from kis_core.models.loaded import LoadedModel
from kis_core.progress import Cancelled
from kis_core.scoring.log_odds import Sentence, batched, read, token_rank, tokenize_sentences
from kis_core.spillover import forecast
from kis_core.spillover.measurement import observe
from tests import tiny
from tests.editing.test_edit import double, hooks_on, logits_of
from tests.spillover.test_sensitivity import FACTS, Case, Slow, assert_close, case_of

EXACT = 1e-12  # a few float64 roundings, relative to the largest
WRITTEN = 1e-13  # in float64, relative: an overlay rounds its sums in another order than a written weight; seen 2e-15
IN_FLOAT32 = 1e-5  # the same in float32; seen 1e-6
PASS = 5e-6  # what one float32 pass says, relative to the largest; seen 6e-7
LINEAR = 1e-5  # first order against the slow model's derivatives, relative to the largest: float32 twice; seen 2e-6
WIDTH, MLP_WIDTH = 24, 40


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


MIXTURES: dict[str, tuple[Change, ...]] = {
    "a full one": (dense(1, 0),),
    "a full one in the last layer": (dense(2, 1),),
    "two full ones of one layer": (dense(0, 2), dense(0, 3)),
    "a full and two thin ones of one layer": (thin(1, 4), dense(1, 5), thin(1, 6)),
    "all of it in every layer, out of order": (dense(2, 7), thin(0, 8), dense(0, 9), thin(2, 10), dense(1, 11)),
}


@pytest.fixture(params=tiny.in_full(tiny.ARCHITECTURES), scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return case_of(request.param)


@pytest.fixture(scope="module")
def gpt2() -> Case:
    return case_of("GPT-2")


@pytest.fixture(autouse=True)
def weights_stay(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test on a model: the same bits in every weight, and no hook."""
    name = next((name for name in ("case", "gpt2") if name in request.fixturenames), None)
    loaded: LoadedModel | None = request.getfixturevalue(name).loaded if name else None
    before = loaded.digest() if loaded else ""
    yield
    if loaded:
        assert loaded.digest() == before
        assert hooks_on(loaded) == 0


def written(case: Case, edits: Sequence[Change]) -> Slow:
    """The slow float64 model with the edits in its weights."""
    slow = copy.deepcopy(case.slow)
    with torch.no_grad():
        for edit in edits:
            weight, change = slow.projections[edit.layer].weight, torch.from_numpy(by_hand(edit))
            assert isinstance(weight, Tensor)
            weight += change.T if slow.transposed else change
    return slow


class TestEdits:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10_000), st.sampled_from([(), (3,), (2, 3)]))
    def test_move_each_key_by_their_matrix(self, seed: int, shape: tuple[int, ...]) -> None:
        keys = np.random.default_rng(seed).normal(size=(*shape, MLP_WIDTH))
        for edit in (dense(1, seed), thin(1, seed)):
            expected = np.zeros((*shape, WIDTH))
            for at in np.ndindex(*shape):
                expected[at] = [sum(w * k for w, k in zip(row, keys[at], strict=True)) for row in by_hand(edit)]
            assert_close(edit.moves(keys), expected, EXACT)
            assert_close(edit.matrix, by_hand(edit), EXACT)

    def test_float32_keys_are_moved_in_float64(self) -> None:
        keys = np.random.default_rng(0).normal(size=(3, MLP_WIDTH)).astype(np.float32)
        for edit in (dense(1, 0), thin(1, 0)):
            assert edit.moves(keys).dtype == np.float64
            assert np.array_equal(edit.moves(keys), edit.moves(keys.astype(np.float64)))

    def test_size_by_hand(self) -> None:
        assert DenseEdit(0, np.array([[3.0, 0.0], [0.0, -4.0]])).size == 5
        assert DenseEdit(0, np.zeros((2, 3))).size == 0

    def test_a_thin_one_is_the_full_one_of_its_matrix(self) -> None:
        one, keys = thin(0, 3), np.random.default_rng(1).normal(size=(5, MLP_WIDTH))
        assert_close(DenseEdit(0, one.matrix).moves(keys), one.moves(keys), EXACT)
        assert np.linalg.norm(one.matrix) == pytest.approx(np.linalg.norm(one.reach) * one.size, rel=EXACT)


class TestWeight:
    def test_is_d_by_d_m_and_the_models_own(self, case: Case) -> None:
        architecture = case.loaded.architecture
        for layer, module in enumerate(architecture.down_projections):
            weight = architecture.weight(layer)
            assert tuple(weight.shape) == architecture.widths == (WIDTH, MLP_WIDTH)
            stored: Any = module.weight
            assert weight.data_ptr() == stored.data_ptr()
            assert not weight.requires_grad

    def test_maps_a_key_to_what_the_layer_puts_out(self, case: Case) -> None:
        for layer, found in enumerate(case.layers):
            bias = getattr(case.loaded.architecture.down_projections[layer], "bias", None)
            weight = case.loaded.architecture.weight(layer).double().numpy()
            added = 0 if bias is None else bias.double().numpy()
            assert_close(found.subject_keys.astype(np.float64) @ weight.T + added, found.outputs, PASS)


class TestApplied:
    @pytest.mark.parametrize("mixture", MIXTURES)
    def test_equals_writing_them_into_the_weights(self, case: Case, mixture: str) -> None:
        edits, model = MIXTURES[mixture], double(case.loaded)
        expected = logits_of(written(case, edits).model)
        assert (expected - logits_of(case.slow.model)).abs().max() > expected.abs().max() / 20, "a test of nothing"
        with applied(case.loaded, *edits):
            found = logits_of(case.loaded.model)
        assert found.dtype == torch.float32
        assert_close(found.numpy(), expected.numpy(), IN_FLOAT32)
        reference = copy.deepcopy(model)
        for edit in edits:
            reference.architecture.weight(edit.layer).add_(torch.from_numpy(by_hand(edit)))
        with applied(model, *edits):
            assert_close(logits_of(model.model).numpy(), logits_of(reference.model).numpy(), WRITTEN)

    def test_the_order_is_of_no_account(self, gpt2: Case) -> None:
        edits = MIXTURES["all of it in every layer, out of order"]
        model = double(gpt2.loaded)
        with applied(model, *edits):
            expected = logits_of(model.model)
        with applied(model, *reversed(edits)):
            assert_close(logits_of(model.model).numpy(), expected.numpy(), WRITTEN)

    def test_blocks_within_each_other_add_up(self, gpt2: Case) -> None:
        one, other, model = dense(1, 0), thin(1, 1), double(gpt2.loaded)
        with applied(model, one, other):
            expected = logits_of(model.model)
        with applied(model, one):
            alone = logits_of(model.model)
            with applied(model, other):
                assert_close(logits_of(model.model).numpy(), expected.numpy(), WRITTEN)
            assert torch.equal(logits_of(model.model), alone)

    def test_zeros_change_no_bit_and_opposites_cancel(self, gpt2: Case) -> None:
        before = logits_of(gpt2.loaded.model)
        with applied(gpt2.loaded, DenseEdit(1, np.zeros((WIDTH, MLP_WIDTH)))):
            assert torch.equal(logits_of(gpt2.loaded.model), before)
        one = dense(1, 0)
        with applied(gpt2.loaded, one, DenseEdit(1, -one.matrix)):
            assert torch.equal(logits_of(gpt2.loaded.model), before)

    @pytest.mark.parametrize("cancels", ["between edits", "between columns"])
    def test_small_changes_are_summed_before_they_are_rounded(self, gpt2: Case, cancels: str) -> None:
        """In float64, as is told of thin ones: float32 would lose them next to the million that cancels."""
        key = gpt2.layers[1].subject_keys[0].astype(np.float64)
        small, large = dense(1, 0).matrix, np.full((WIDTH, MLP_WIDTH), 1e6)
        edits = [DenseEdit(1, large), DenseEdit(1, small - large)]
        if cancels == "between columns":
            across = np.zeros(MLP_WIDTH)
            across[3], across[4] = key[4], -key[3]
            edits = [DenseEdit(1, small + np.outer(np.full(WIDTH, 1e6), across))]
        module, inputs = gpt2.loaded.architecture.down_projections[1], torch.from_numpy(key[None]).float()
        plain = module(inputs).numpy()
        with applied(gpt2.loaded, *edits):
            found = module(inputs).numpy()
        assert_close(found - plain, key[None] @ small.T, 1e-5)

    @pytest.mark.parametrize("ending", [RuntimeError, KeyboardInterrupt])
    def test_whatever_ends_the_block_the_model_is_as_before(self, case: Case, ending: type[BaseException]) -> None:
        before, weights = logits_of(case.loaded.model), case.loaded.digest()

        def end(*_: object) -> None:
            raise ending("within")

        with applied(case.loaded, dense(1, 0)):
            assert case.loaded.digest() == weights
        with pytest.raises(ending, match="within"), applied(case.loaded, dense(1, 0), thin(1, 0), dense(2, 1)):
            end()
        handle = case.loaded.architecture.blocks[2].register_forward_hook(end)
        try:
            with pytest.raises(ending, match="within"), applied(case.loaded, dense(1, 0), thin(0, 0)):
                logits_of(case.loaded.model)
        finally:
            handle.remove()
        assert hooks_on(case.loaded) == 0
        assert case.loaded.digest() == weights
        assert torch.equal(logits_of(case.loaded.model), before)


class TestRefused:
    @pytest.mark.parametrize("shape", [(40, 24), (24, 39), (23, 40), (960,), (1, 24, 40), (0, 0)])
    def test_a_matrix_of_another_shape(self, case: Case, shape: tuple[int, ...]) -> None:
        told = r"an edit of shapes .* does not fit a layer of d = 24, d_m = 40"
        with pytest.raises(EditError, match=told), applied(case.loaded, thin(0, 0), DenseEdit(1, np.zeros(shape))):
            pytest.fail("the block was entered")
        assert hooks_on(case.loaded) == 0

    @pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
    def test_a_number_that_is_not_finite(self, gpt2: Case, number: float) -> None:
        matrix = np.zeros((WIDTH, MLP_WIDTH))
        matrix[-1, -1] = number
        told = "the edit of layer 1 holds a NaN or an infinity"
        with pytest.raises(EditError, match=told), applied(gpt2.loaded, DenseEdit(1, matrix)):
            pytest.fail("the block was entered")

    @pytest.mark.parametrize("layer", [-1, 3])
    def test_a_layer_the_model_does_not_have(self, gpt2: Case, layer: int) -> None:
        told = f"layer {layer} was to be edited; the model has layers 0 to 2"
        with pytest.raises(EditError, match=told), applied(gpt2.loaded, dense(layer, 0)):
            pytest.fail("the block was entered")


class TestTokenRank:
    def test_by_hand(self) -> None:
        logits = torch.tensor([[1.0, 3.0, 2.0, -4.0]]).repeat(4, 1)
        assert token_rank(logits, torch.arange(4)).tolist() == [3, 1, 2, 4]

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
    def test_is_the_place_in_a_stable_sort_so_that_only_argmax_comes_first(self, row: list[int]) -> None:
        logits = torch.tensor([row], dtype=torch.float32).repeat(len(row), 1)
        order = sorted(range(len(row)), key=lambda at: -row[at])
        expected = [1 + order.index(at) for at in range(len(row))]
        assert token_rank(logits, torch.arange(len(row))).tolist() == expected

    @pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("at", [0, 1, 2])
    def test_is_the_last_where_any_logit_is_not_finite(self, number: float, at: int) -> None:
        logits = torch.tensor([[5.0, 1.0, 0.0], [5.0, 1.0, 0.0]])
        logits[0, at] = number
        assert token_rank(logits, torch.tensor([0, 0])).tolist() == [3, 1]


def slow_ranks(slow: Slow, fact: Fact) -> range:
    """The worst place of any token of the answer, one after the other: all it may be, as far as logits are rounded."""
    prompt, answer = slow.tokens(fact)
    best = worst = 0
    for k, token in enumerate(answer):
        with torch.no_grad():
            logits = slow.model(torch.tensor([[*prompt, *answer[:k]]])).logits[0, -1].tolist()
        rounding = PASS * max(abs(logit) for logit in logits)
        best = max(best, 1 + sum(logit > logits[token] + rounding for logit in logits))
        worst = max(worst, sum(logit >= logits[token] - rounding for logit in logits))
    return range(best, worst + 1)


class TestObserve:
    """Whatever is applied around it, it sees; one by one or in a batch."""

    @pytest.mark.parametrize("mixture", ["a full one", "all of it in every layer, out of order"])
    @pytest.mark.parametrize("layer", [0, 1])
    def test_equals_an_edited_model_that_reads_one_at_a_time(self, case: Case, mixture: str, layer: int) -> None:
        edits = MIXTURES[mixture]
        slow = written(case, edits)
        with applied(case.loaded, *edits):
            found = observe(case.loaded, case.sentences, layer)
            alone = [observe(case.loaded, [sentence], layer) for sentence in case.sentences]
        seen = [slow.read(fact, layer) for fact in FACTS]
        outputs = np.array([one.outputs[slow.subject_at(fact)] for one, fact in zip(seen, FACTS, strict=True)])
        log_prob = np.array([slow.log_prob(fact, one.logits).item() for one, fact in zip(seen, FACTS, strict=True)])
        assert found.outputs.dtype == np.float32
        assert_close(found.outputs, outputs, PASS)
        assert_close(found.log_prob, log_prob, PASS)
        assert_close(found.log_odds, np.array([slow.log_odds(fact).item() for fact in FACTS]), PASS)
        ranks = [slow_ranks(slow, fact) for fact in FACTS]
        assert sum(len(one) for one in ranks) < 2 * len(FACTS), "hardly a test"
        assert all(rank in may_be for rank, may_be in zip(found.rank.tolist(), ranks, strict=True))
        at = [len(slow.tokens(fact)[0]) - 1 for fact in FACTS]
        assert found.first == [int(one.logits[k].argmax()) for one, k in zip(seen, at, strict=True)]
        for k, one in enumerate(alone):
            assert_close(one.outputs[0], found.outputs[k], PASS)
            assert one.log_odds[0] == pytest.approx(found.log_odds[k], rel=PASS)
            assert one.rank.tolist()[0] in ranks[k]
            assert one.first == [found.first[k]]

    def test_a_rank_of_one_is_a_right_answer(self, gpt2: Case) -> None:
        """An answer made of the model's own first choices, and the same with another token at its end."""
        ids = gpt2.loaded.tokenizer.encode(FACTS[0].text)
        said: list[int] = []
        for _ in range(3):
            said.append(int(gpt2.slow.model(torch.tensor([[*ids, *said]])).logits[0, -1].argmax()))
        runs = [Sentence([*ids, *answer[:-1]], 2, answer) for answer in (said, [*said[:2], 7], [7, *said[1:]])]
        found = observe(gpt2.loaded, runs, 0)
        assert found.rank[0] == 1
        assert (found.rank[1:] > 1).all()
        assert found.first == [said[0]] * 3

    def test_no_sentence_is_no_row(self, gpt2: Case) -> None:
        found = observe(gpt2.loaded, [], 1)
        assert found.outputs.shape == (0, WIDTH)
        assert (len(found.log_odds), len(found.log_prob), len(found.rank), found.first) == (0, 0, 0, [])

    def test_a_model_that_says_no_number_ranks_everything_last(self, gpt2: Case) -> None:
        with applied(gpt2.loaded, DenseEdit(1, np.full((WIDTH, MLP_WIDTH), 1e38))):
            found = observe(gpt2.loaded, gpt2.sentences, 1)
        assert np.isnan(found.log_odds).all()
        assert found.rank.tolist() == [tiny.VOCABULARY] * len(FACTS)

    def test_reports_and_is_called_off(self, gpt2: Case) -> None:
        told: list[tuple[int, int]] = []
        count = len(gpt2.sentences) * 30
        observe(gpt2.loaded, gpt2.sentences * 30, 1, report=lambda _, done, of: told.append((done, of)))
        sizes = [len(batch) for _, batch in batched(gpt2.sentences * 30)]
        assert told == [(done, count) for done in np.cumsum([0, *sizes]).tolist()]
        assert len(told) > 2

        def off(*_: object) -> None:
            raise Cancelled

        with pytest.raises(Cancelled):
            observe(gpt2.loaded, gpt2.sentences, 1, report=off)

    def test_the_rank_of_a_reading_keeps_no_gradient(self, gpt2: Case) -> None:
        sentences = tokenize_sentences(gpt2.loaded.tokenizer, FACTS[:2], context=gpt2.loaded.context)
        found = read(gpt2.loaded, sentences)
        assert found.rank.dtype == torch.long
        assert not found.rank.requires_grad


class TestForecasts:
    TOLD = (forecast.subject_token, forecast.all_tokens)

    def test_of_a_full_edit_is_the_sum_over_the_thin_ones_it_is_made_of(self, case: Case) -> None:
        for layer, facts in enumerate(case.layers):
            parts = [thin(layer, seed) for seed in range(4)]
            whole = DenseEdit(layer, np.sum([by_hand(part) for part in parts], axis=0))
            for told in self.TOLD:
                assert_close(told(whole, facts), np.sum([told(part, facts) for part in parts], axis=0), EXACT)

    def test_is_the_slow_models_derivative_by_its_strength(self, case: Case) -> None:
        edit, layer = dense(1, 5), 1
        subject, everywhere = [], []
        for fact in FACTS:
            keys, gradient = case.slow.read(fact, layer).keys, case.slow.gradient(fact, layer)
            felt = [float(g @ edit.matrix @ k) for g, k in zip(gradient, keys, strict=True)]
            subject.append(felt[case.slow.subject_at(fact)])
            everywhere.append(float((case.slow.weight_gradient(fact, layer) * edit.matrix).sum()))
            assert sum(felt) == pytest.approx(everywhere[-1], rel=1e-6)
        assert_close(forecast.subject_token(edit, case.layers[layer]), np.array(subject), LINEAR)
        assert_close(forecast.all_tokens(edit, case.layers[layer]), np.array(everywhere), LINEAR)
