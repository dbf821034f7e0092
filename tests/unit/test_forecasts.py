"""Forecasts and measurement of an edit: against a slow float64 model, loops written out, and really edited weights."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kis_core import editing
from kis_core.covariance import Whitener
from kis_core.editing import Edit, Hyperparameters, Method, Value
from kis_core.facts import Fact
from kis_core.log_odds import tokenize_sentences
from kis_core.simulator import FlipForecast
from kis_core.spillover import answers, forecast, measure
from tests import tiny
from tests.unit.test_sensitivity import FACTS, Case, Slow, case_of, hooks_of

EXACT = 1e-12  # the same float64 numbers summed in another order, relative to the largest
SHIFT = 1e-4
"""The measured shift, relative: it is read off float32 outputs."""
SHIFT_FLOOR = 5e-7
"""Below this share of the largest output it drowns in the rounding of the outputs themselves, 6e-8 each; seen 4e-8."""
PASS = 1e-6
"""Changes of log-odds and log-probability against the slow model, relative to the largest log-odds; seen 1.2e-7."""
LOGITS = 5e-6  # logits against the slow model's, relative to the largest: cancelling sums, not yet log-odds; seen 6e-7
LINEAR = 1e-5
"""First-order changes against derivatives of the slow model, relative to the largest: float32 twice; seen 1.3e-6."""
DIFFERENCE = 2e-3
"""Finite differences of what is read in float32, relative to the largest: rounding 1e-6 / step; seen 5e-4."""
STEP = 1e-2  # of the strength, in finite differences

LAYERS = (0, 1)  # those from which the answer is reached
SIZE = 2.0  # ‖δ‖: more than an output, so that answers change


@dataclass(frozen=True)
class Bench:
    """One architecture with an edit of every fact in a layer, and C⁻¹ for all of them."""

    case: Case
    whitener: Whitener
    c: np.ndarray

    def edit(self, e: int, layer: int = 0, method: Method | None = None) -> Edit:
        """A random value, written by a method; contexts move the mean key away from the prompt's own."""
        rng = np.random.default_rng(100 * layer + e)
        facts = self.case.layers[layer]
        key, output = facts.subject_keys[e].astype(np.float64), facts.outputs[e].astype(np.float64)
        delta = rng.normal(size=len(output))
        value = Value(
            delta=SIZE * delta / np.linalg.norm(delta),
            key=key,
            output=output,
            mean_key=key + rng.normal(size=len(key)) * np.abs(key).mean(),
            mean_output=output + rng.normal(size=len(output)) * np.abs(output).mean(),
            losses=(),
            probability=0.0,
            everywhere=False,
        )
        return (method or editing.rank_one_method("rome")).edit(value, self.whitener, layer, Hyperparameters())

    def shares(self, edit: Edit, j: int) -> np.ndarray:
        """c_t at every token of fact j, from the slow model's keys, (T,)."""
        keys = self.case.slow.read(FACTS[j], edit.layer).keys
        return np.array([sum(u * k for u, k in zip(edit.reach, key, strict=True)) for key in keys])

    def added(self, edit: Edit, j: int) -> Tensor:
        """c_t·δ at every token of fact j, (T, d)."""
        return torch.from_numpy(np.outer(self.shares(edit, j), edit.delta))

    def at_subject(self, edit: Edit, j: int) -> Tensor:
        """The same at the subject's last token alone."""
        added, at = self.added(edit, j), self.case.slow.subject_at(FACTS[j])
        alone = torch.zeros_like(added)
        alone[at] = added[at]
        return alone

    def edited(self, edit: Edit) -> Slow:
        """The slow model with W + δuᵀ in the place of W."""
        slow = copy.deepcopy(self.case.slow)
        change = torch.from_numpy(np.outer(edit.delta, edit.reach))
        with torch.no_grad():
            slow.projections[edit.layer].weight += change.T if slow.transposed else change
        return slow


def bench_of(architecture: str) -> Bench:
    rng = np.random.default_rng(0)
    case = case_of(architecture)
    keys = np.concatenate([found.keys for found in case.layers]).astype(np.float64)
    c = keys.T @ keys / len(keys) + 0.1 * np.diag(rng.uniform(1, 2, keys.shape[1])) * (keys**2).mean()
    return Bench(case, Whitener.fit(c), c)


@pytest.fixture(params=tiny.ARCHITECTURES, scope="module")
def bench(request: pytest.FixtureRequest) -> Bench:
    return bench_of(request.param)


@pytest.fixture(scope="module")
def gpt2() -> Bench:
    return bench_of("GPT-2")


@pytest.fixture(autouse=True)
def weights_stay(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test on a model: the same bits in every weight, no hook, gradients as before."""
    name = next((name for name in ("bench", "gpt2") if name in request.fixturenames), None)
    if name is None:
        yield
        return
    loaded = request.getfixturevalue(name).case.loaded
    before = loaded.digest()
    yield
    assert loaded.digest() == before
    assert hooks_of(loaded) == 0
    assert torch.is_grad_enabled()


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float, *, scale: float | None = None) -> None:
    """Within a share of the scale, by default the largest expected entry."""
    assert found.shape == expected.shape
    atol = tolerance * (np.abs(expected).max() if scale is None else scale)
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


every_method = pytest.mark.parametrize("method", editing.RANK_ONE, ids=lambda method: method.name)
EVERY_EDIT = list(itertools.product(LAYERS, range(len(FACTS))))
SOME_EDITS = ((0, 0), (1, 3))  # where every fact costs passes of the slow model


class TestShift:
    @every_method
    def test_equals_what_is_measured(self, bench: Bench, method: Method) -> None:
        for layer, e in EVERY_EDIT:
            facts, edit = bench.case.layers[layer], bench.edit(e, layer, method)
            told = forecast.shift(edit, facts)
            found = measure(bench.case.loaded, bench.case.sentences, edit, facts).shift
            floor = SHIFT_FLOOR * np.abs(facts.outputs).max()
            np.testing.assert_allclose(told, found, rtol=SHIFT, atol=floor)

    def test_is_p_times_the_size_for_an_edit_of_eq_2(self, bench: Bench) -> None:
        inverse = np.linalg.inv(bench.c)
        for layer, e in EVERY_EDIT:
            facts, edit = bench.case.layers[layer], bench.edit(e, layer)
            keys = facts.subject_keys.astype(np.float64)
            p = np.array([keys[e] @ inverse @ k / (keys[e] @ inverse @ keys[e]) for k in keys])
            assert_close(forecast.shift(edit, facts), p * np.sqrt((edit.delta**2).sum()), 1e-9)  # C twice inverted
            assert forecast.shift(edit, facts)[e] == pytest.approx(SIZE, rel=1e-9)

    def test_has_the_sign_of_the_share_and_not_of_the_value(self, gpt2: Bench) -> None:
        facts, edit = gpt2.case.layers[0], gpt2.edit(0)
        told = forecast.shift(edit, facts)
        assert (np.sign(told) == np.sign(facts.subject_keys @ edit.reach)).all()
        turned = Edit(0, edit.reach, -edit.delta)
        assert np.array_equal(forecast.shift(turned, facts), told)
        found = measure(gpt2.case.loaded, gpt2.case.sentences, turned, facts).shift
        np.testing.assert_allclose(told, found, rtol=SHIFT, atol=SHIFT_FLOOR * np.abs(facts.outputs).max())


class TestFirstOrder:
    def test_subject_token_written_out(self, bench: Bench) -> None:
        for layer, e in EVERY_EDIT:
            facts, edit = bench.case.layers[layer], bench.edit(e, layer)
            expected = []
            for j in range(len(FACTS)):
                row = facts.starts[j] + bench.case.slow.subject_at(FACTS[j])
                share = sum(float(u) * float(k) for u, k in zip(edit.reach, facts.keys[row], strict=True))
                slope = sum(float(g) * float(d) for g, d in zip(facts.gradients[row], edit.delta, strict=True))
                expected.append(share * slope)
            assert_close(forecast.subject_token(edit, facts), np.array(expected), EXACT)

    def test_all_tokens_and_the_largest_share_written_out(self, bench: Bench) -> None:
        for layer, e in EVERY_EDIT:
            facts, edit = bench.case.layers[layer], bench.edit(e, layer)
            changes, largest = [], []
            for j in range(len(FACTS)):
                shares, change = [], 0.0
                for row in range(facts.starts[j], facts.starts[j + 1]):
                    shares.append(float(facts.keys[row].astype(np.float64) @ edit.reach))
                    change += shares[-1] * float(facts.gradients[row].astype(np.float64) @ edit.delta)
                changes.append(change)
                largest.append(max(abs(share) for share in shares))
            assert_close(forecast.all_tokens(edit, facts), np.array(changes), EXACT)
            assert_close(forecast.largest_share(edit, facts), np.array(largest), EXACT)

    def test_both_are_the_slow_models_derivatives_by_strength(self, bench: Bench) -> None:
        for layer, e in SOME_EDITS:
            edit, facts = bench.edit(e, layer), bench.case.layers[layer]
            slopes = np.array([self.slopes(bench, edit, j) for j in range(len(FACTS))])
            assert_close(forecast.subject_token(edit, facts), slopes[:, 0], LINEAR)
            assert_close(forecast.all_tokens(edit, facts), slopes.sum(axis=1), LINEAR)

    def slopes(self, bench: Bench, edit: Edit, j: int) -> list[float]:
        """Derivatives of fact j's log-odds by the strength at the subject's last token, and at all others; at 0."""
        at_subject = bench.at_subject(edit, j)
        elsewhere = bench.added(edit, j) - at_subject
        strengths = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        added = strengths[0] * at_subject + strengths[1] * elsewhere
        bench.case.slow.log_odds(FACTS[j], edit.layer, added).backward()
        assert strengths.grad is not None
        return strengths.grad.tolist()

    def test_all_tokens_is_the_derivative_of_what_is_measured(self, bench: Bench) -> None:
        for layer, e in SOME_EDITS:
            edit, facts = bench.edit(e, layer), bench.case.layers[layer]
            up, down = (
                measure(bench.case.loaded, bench.case.sentences, edit.scaled(step), facts).log_odds
                for step in (STEP, -STEP)
            )
            assert_close(forecast.all_tokens(edit, facts), (up - down) / (2 * STEP), DIFFERENCE)

    def test_linear_in_the_strength(self, gpt2: Bench) -> None:
        facts, edit = gpt2.case.layers[0], gpt2.edit(2)
        for told in (forecast.shift, forecast.subject_token, forecast.all_tokens):
            assert_close(told(edit.scaled(0.5), facts), told(edit, facts) / 2, EXACT)
        for told in (forecast.subject_token, forecast.all_tokens):
            assert_close(told(edit.scaled(-2.0), facts), told(edit, facts) * -2, EXACT)
        assert np.array_equal(forecast.largest_share(edit.scaled(3.0), facts), forecast.largest_share(edit, facts))

    def test_in_the_last_layer_only_the_answers_own_tokens_count(self, gpt2: Bench) -> None:
        facts, edit = gpt2.case.layers[-1], gpt2.edit(0, 2)
        ends_with_subject = [fact.prompt.endswith("{}") for fact in FACTS]
        assert (forecast.subject_token(edit, facts) != 0).tolist() == ends_with_subject
        assert (forecast.all_tokens(edit, facts) != 0).all()


class TestPropagated:
    def test_equals_an_own_pass_for_every_fact(self, bench: Bench) -> None:
        slow, scale = bench.case.slow, np.abs(bench.case.layers[0].log_odds).max()
        for layer, e in SOME_EDITS:
            edit, facts = bench.edit(e, layer), bench.case.layers[layer]
            expected = [
                slow.log_odds(fact, layer, bench.at_subject(edit, j)).item() - slow.log_odds(fact).item()
                for j, fact in enumerate(FACTS)
            ]
            found = forecast.propagated(bench.case.loaded, bench.case.sentences, edit, facts)
            assert_close(found, np.array(expected), PASS, scale=scale)
            assert np.abs(found).max() > 100 * PASS * scale, "a test of nothing"

    def test_is_zero_for_an_edit_of_no_strength(self, bench: Bench) -> None:
        facts = bench.case.layers[1]
        found = forecast.propagated(bench.case.loaded, bench.case.sentences, bench.edit(0, 1).scaled(0.0), facts)
        assert_close(found, np.zeros(len(FACTS)), PASS, scale=np.abs(facts.log_odds).max())


class TestMeasurement:
    def test_equals_the_shares_added_at_all_tokens_by_hand(self, bench: Bench) -> None:
        slow, scale = bench.case.slow, np.abs(bench.case.layers[0].log_odds).max()
        for layer, e in SOME_EDITS:
            edit, facts = bench.edit(e, layer), bench.case.layers[layer]
            expected = [
                slow.log_odds(fact, layer, bench.added(edit, j)).item() - slow.log_odds(fact).item()
                for j, fact in enumerate(FACTS)
            ]
            found = measure(bench.case.loaded, bench.case.sentences, edit, facts)
            assert_close(found.log_odds, np.array(expected), PASS, scale=scale)
            assert np.abs(found.log_odds).max() > 100 * PASS * scale, "a test of nothing"

    @pytest.mark.parametrize(("method", "layer", "e"), [("rome", 0, 0), ("r-rome", 1, 3), ("identity", 0, 3)])
    def test_equals_the_model_with_really_edited_weights(self, bench: Bench, method: str, layer: int, e: int) -> None:
        edit, facts = bench.edit(e, layer, editing.rank_one_method(method)).scaled(4.0), bench.case.layers[layer]
        found = measure(bench.case.loaded, bench.case.sentences, edit, facts)
        edited, slow, scale = bench.edited(edit), bench.case.slow, np.abs(facts.log_odds).max()
        log_odds = [edited.log_odds(fact).item() - slow.log_odds(fact).item() for fact in FACTS]
        log_prob = [self.log_prob(edited, fact) - self.log_prob(slow, fact) for fact in FACTS]
        assert_close(found.log_odds, np.array(log_odds), PASS, scale=scale)
        assert_close(found.log_prob, np.array(log_prob), PASS, scale=scale)
        assert found.answers == tuple(self.answer(edited, fact) for fact in FACTS)
        assert found.answers != answers(bench.case.loaded, bench.case.sentences), "a test of nothing"

    def log_prob(self, slow: Slow, fact: Fact) -> float:
        return slow.log_prob(fact, slow.read(fact, 0).logits).item()

    def answer(self, slow: Slow, fact: Fact) -> str:
        """The first choice, and then what goes on within the same word, at most four tokens more."""
        ids = slow.tokenizer.encode(fact.text)
        begun = len(ids)
        while len(ids) < begun + 5:
            with torch.no_grad():
                token = int(slow.model(torch.tensor([ids])).logits[0, -1].argmax())
            piece = slow.tokenizer.convert_ids_to_tokens(token)
            if len(ids) > begun and (piece.startswith("Ġ") or not any(character.isalnum() for character in piece)):
                break
            ids.append(token)
        return slow.tokenizer.decode(ids[begun:]).strip()

    def test_answers_before(self, bench: Bench) -> None:
        told = answers(bench.case.loaded, bench.case.sentences)
        assert told == tuple(self.answer(bench.case.slow, fact) for fact in FACTS)

    def test_answers_before_where_the_space_is_a_token_of_its_own(self, gpt2: Bench) -> None:
        loaded, slow, fact = gpt2.case.loaded, gpt2.case.slow, Fact("Oslo", "{} lies in", "@Norway")
        assert slow.tokenizer.decode(slow.tokens(fact)[1][:1]) == " "
        [sentence] = tokenize_sentences(loaded.tokenizer, [fact], context=loaded.context)
        assert answers(loaded, [sentence]) == (self.answer(slow, fact),), "as the analysis has it"

    def test_an_edit_of_no_strength_changes_nothing(self, bench: Bench) -> None:
        facts = bench.case.layers[0]
        found = measure(bench.case.loaded, bench.case.sentences, bench.edit(3).scaled(0.0), facts)
        assert not found.shift.any()
        for change in (found.log_odds, found.log_prob):
            assert_close(change, np.zeros(len(FACTS)), PASS, scale=np.abs(facts.log_odds).max())
        assert found.answers == answers(bench.case.loaded, bench.case.sentences)


class TestFirstOrderLogits:
    def test_equals_finite_differences_of_the_slow_model(self, bench: Bench) -> None:
        slow = bench.case.slow
        for layer, e in SOME_EDITS:
            edit = bench.edit(e, layer)
            logits, change = forecast.first_order_logits(bench.case.loaded, bench.case.sentences, edit)
            assert logits.shape == change.shape == (len(FACTS), tiny.VOCABULARY)
            assert {logits.dtype, change.dtype} == {torch.float32}
            for j, fact in enumerate(FACTS):
                at, added = len(slow.tokens(fact)[0]) - 1, bench.added(edit, j)
                up, none, down = (slow.read(fact, layer, step * added).logits[at].detach() for step in (STEP, 0, -STEP))
                assert_close(logits[j].numpy(), none.numpy(), LOGITS)
                assert_close(change[j].numpy(), ((up - down) / (2 * STEP)).numpy(), DIFFERENCE)

    def test_agrees_with_all_tokens_by_the_chain_rule(self, bench: Bench) -> None:
        one_token = [j for j, fact in enumerate(FACTS) if len(bench.case.slow.tokens(fact)[1]) == 1]
        assert len(one_token) >= 2
        for layer, e in EVERY_EDIT:
            edit = bench.edit(e, layer)
            logits, change = forecast.first_order_logits(bench.case.loaded, bench.case.sentences, edit)
            told = forecast.all_tokens(edit, bench.case.layers[layer])
            for j in one_token:
                [answer] = bench.case.slow.tokens(FACTS[j])[1]
                others = np.arange(tiny.VOCABULARY) != answer
                weights = np.exp(logits[j, others].double().numpy())
                moved = change[j].double().numpy()
                expected = moved[answer] - (weights * moved[others]).sum() / weights.sum()
                assert told[j] == pytest.approx(expected, rel=0, abs=LINEAR * np.abs(told).max())

    def test_nothing_moves_where_the_edit_has_no_size(self, gpt2: Bench) -> None:
        logits, change = forecast.first_order_logits(gpt2.case.loaded, gpt2.case.sentences, gpt2.edit(0).scaled(0.0))
        assert not change.any()
        assert torch.isfinite(logits).all()

    def test_in_any_surroundings(self, gpt2: Bench) -> None:
        whole = forecast.first_order_logits(gpt2.case.loaded, gpt2.case.sentences, gpt2.edit(0))
        with torch.inference_mode():
            inside = forecast.first_order_logits(gpt2.case.loaded, gpt2.case.sentences, gpt2.edit(0))
        assert all(torch.equal(a, b) for a, b in zip(whole, inside, strict=True))


def crossed(logits: list[list[float]], change: list[list[float]], *, up_to: float) -> list[tuple[int, float, int]]:
    found = forecast.crossings(torch.tensor(logits), torch.tensor(change), up_to=up_to)
    return sorted(zip(*found, strict=True))


class TestCrossings:
    def test_two_for_one_fact_by_hand(self) -> None:
        # 2, 1 + 2s and 3s: at 1/2 the second overtakes the first, at 1 the third the second
        found = crossed([[2.0, 1.0, 0.0]], [[0.0, 2.0, 3.0]], up_to=1.5)
        assert found == [(0, 0.5, 1), (0, 1.0, 2)]

    def test_one_that_never_comes_first_is_not_told(self) -> None:
        # the third meets the first at 2/3, but by then the second is ahead of both, and stays
        assert crossed([[2.0, 1.0, 0.0]], [[0.0, 6.0, 3.0]], up_to=1.5) == [(0, pytest.approx(1 / 6), 1)]

    @pytest.mark.parametrize(
        ("logits", "change"),
        [
            ([1.0, 0.0], [1.0, 1.0]),  # parallel
            ([1.0, 0.0], [2.0, 1.0]),  # apart
            ([1.0, 0.0], [-1.0, -1.0]),
            ([1.0, 1.0], [0.0, 0.0]),  # the same line twice
            ([1.0, 1.0], [1.0, 0.0]),  # equal at 0, then apart
            ([3.0, 0.0], [0.0, 1.0]),  # only at 3
            ([1.0], [5.0]),
        ],
    )
    def test_none(self, logits: list[float], change: list[float]) -> None:
        assert crossed([logits], [change], up_to=1.5) == []

    def test_the_last_strength_counts_and_the_next_does_not(self) -> None:
        assert crossed([[1.5, 0.0]], [[0.0, 1.0]], up_to=1.5) == [(0, 1.5, 1)]
        assert crossed([[1.5, 0.0]], [[0.0, 1.0]], up_to=1.4999) == []

    def test_equal_at_zero_changes_at_once(self) -> None:
        assert crossed([[1.0, 1.0]], [[0.0, 1.0]], up_to=1.5) == [(0, 0.0, 1)]

    def test_falling_below_another_is_a_crossing_too(self) -> None:
        assert crossed([[1.0, 0.0]], [[-2.0, 0.0]], up_to=1.5) == [(0, 0.5, 1)]

    def test_three_through_one_point_end_with_the_steepest(self) -> None:
        *_, last = crossed([[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]], up_to=1.5)
        assert last == (0, 1.0, 2)

    def test_each_fact_has_its_own(self) -> None:
        logits = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [5.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
        change = [[0.0, 1.0, 2.0], [4.0, 0.0, 0.0], [0.0, 1.0, 2.0], [1.0, 4.0, 0.0]]
        expected = [(0, 0.5, 2), (1, 0.25, 0), (3, 0.25, 1)]
        assert crossed(logits, change, up_to=1.5) == expected
        assert forecast.crossings(torch.zeros(0, 3), torch.zeros(0, 3), up_to=1.5) == ([], [], [])

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 100_000))
    def test_equals_the_first_choice_at_many_strengths(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        logits, change = torch.randn(2, 4, 7, generator=generator) * torch.tensor([1.0, 2.0])[:, None, None]
        before = logits.clone(), change.clone()
        facts, strengths, tokens = forecast.crossings(logits, change, up_to=1.5)
        assert torch.equal(logits, before[0])
        assert torch.equal(change, before[1])
        told = FlipForecast(tuple(facts), tuple(strengths), tuple(map(str, tokens)))
        for s in np.linspace(0.0, 1.5, 151):
            if any(abs(s - since) < 1e-5 for since in strengths):
                continue  # on which side of a crossing it lies is a matter of rounding
            lines = logits.double() + s * change.double()
            first = {j: str(int(line.argmax())) for j, line in enumerate(lines)}
            moved = {j: word for j, word in first.items() if word != str(int(logits[j].argmax()))}
            assert told.by(s) == moved

    def test_strengths_rise_for_each_fact(self) -> None:
        logits, change = torch.randn(2, 50, 30, generator=torch.Generator().manual_seed(1))
        facts, strengths, _ = forecast.crossings(logits, 3 * change, up_to=1.5)
        assert max(facts.count(j) for j in range(50)) > 2
        for j in range(50):
            own = [since for fact, since in zip(facts, strengths, strict=True) if fact == j]
            assert own == sorted(own)


class TestFlipsByStrength:
    FLIPS = FlipForecast((3, 0, 3, 7), (0.25, 0.5, 1.0, 1.25), ("Oslo", "Rome", "Paris", "Bern"))

    @pytest.mark.parametrize(
        ("strength", "flipped"),
        [
            (0.0, {}),
            (0.2, {}),
            (0.25, {3: "Oslo"}),
            (0.75, {3: "Oslo", 0: "Rome"}),
            (1.0, {3: "Paris", 0: "Rome"}),
            (1.5, {3: "Paris", 0: "Rome", 7: "Bern"}),
        ],
    )
    def test_by_hand(self, strength: float, flipped: dict[int, str]) -> None:
        assert self.FLIPS.by(strength) == flipped

    def test_none(self) -> None:
        assert FlipForecast((), (), ()).by(1.5) == {}

    def test_two_changes_at_once_end_with_the_second(self) -> None:
        told = self.foretold([2.0, 1.0, 0.0], [0.0, 1.0, 2.0])
        assert told.by(1.5) == {0: "2"}, "2s beats 1 + s and 2 from strength 1 on"

    def test_two_changes_all_but_at_once_end_with_the_steepest(self) -> None:
        # in float32 the third is found to overtake the second 3e-8 before that overtakes the first
        logits = [1.3792468309402466, 1.484634280204773, 1.5362627506256104, 1.8525166511535645, 1.136396884918213]
        change = [0.5529940128326416, 0.1945880502462387, 0.0190078504383564, -1.0565214157104492, 1.3788881301879883]
        assert max(a + 1.5 * b for a, b in zip(logits, change, strict=True)) == logits[4] + 1.5 * change[4]
        assert self.foretold(logits, change).by(1.5) == {0: "4"}

    def foretold(self, logits: list[float], change: list[float]) -> FlipForecast:
        facts, strengths, tokens = forecast.crossings(torch.tensor([logits]), torch.tensor([change]), up_to=1.5)
        return FlipForecast(tuple(facts), tuple(strengths), tuple(map(str, tokens)))
