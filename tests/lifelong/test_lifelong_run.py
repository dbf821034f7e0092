"""Sixty edits, one after another: eq. 11 and eq. 15 foretell exactly what the layer then does, and what is measured
is what a model does whose weights really were changed. All six methods; edits that cannot be made; requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kis_core import lifelong
from kis_core.editing import METHODS, Change, DenseEdit, PerformedEdit, Site, method, rank_one
from kis_core.lifelong import Draw, EditTrace, LifelongRequest, Queue, summary
from kis_core.scoring.perplexity import perplexity
from kis_core.simulator import Simulator
from tests import tiny
from tests.lifelong import lifelong_tools as tools
from tests.lifelong.lifelong_tools import asked, assert_same, weights_stay

__all__ = ["weights_stay"]  # fixture

EQUATIONS = 1e-3  # of the forecast Δo and Δe, relative; seen 1e-6
SHIFT = 1e-5  # relative: the measured one is read off float32 outputs
SAME = 1e-9  # the same float64 numbers, multiplied in another order
READ = 1e-4  # of log-odds, read in float32 passes one by one and in batches; seen 1e-5
SLOPE = 1e-3  # a central difference in float64 against gradients read in float32, relative to the largest
STRIDE = 1e-5  # of that difference
COUNT, EVERY = 60, 20
NAMES = tuple(method.name for method in METHODS)
RANK_ONE = ("rome", "r-rome", "identity")
QUICK = ("rome", "memit", "fine-tuning")  # a rank-one method, one that spreads, a dense one


@dataclass(frozen=True)
class Done:
    """A run, and beside it the same edits made one by one in a loop of the test's own."""

    bench: Simulator
    request: LifelongRequest
    trace: EditTrace
    queue: Queue

    @cached_property
    def made(self) -> list[PerformedEdit]:
        """Eq. 3-5: each edit found on the model as those before left it."""
        layers, request, found = self.request.layers, self.request, []
        total = {layer: np.zeros(self.bench.model.architecture.widths) for layer in layers}
        past = {layer: np.zeros((0, self.bench.model.architecture.widths[1])) for layer in layers}
        for begin in range(0, request.edits, request.batch):
            site = Site(
                self.bench.model, layers, {layer: self.bench.whitener(layer) for layer in layers}, request.how,
                request.settings, self.bench.prefixes(request.how),
                tuple(DenseEdit(layer, total[layer].copy()) for layer in layers), past,
            )  # fmt: skip
            batch = method(request.method).perform(site, self.queue.edits[begin : begin + request.batch])
            for one in batch:
                for change in one.changes:
                    total[change.layer] += change.matrix
            past = {
                layer: np.concatenate([past[layer], [one.keys[at] for one in batch]]) for at, layer in enumerate(layers)
            }
            found += batch
        return found

    def total(self, layer: int, edits: int | None = None) -> np.ndarray:
        """ΔW of the first edits."""
        return sum(
            (c.matrix for one in self.made[:edits] for c in one.changes if c.layer == layer),
            np.zeros(self.bench.model.architecture.widths),
        )

    @cached_property
    def deltas(self) -> np.ndarray:
        return np.stack([one.changes[0].delta for one in self.made])


def performed(bench: Simulator, request: LifelongRequest) -> Done:
    queue = lifelong.draw_queue(bench, request.draw, request.edits, request.layers[0])
    return Done(bench, request, lifelong.run(bench, request), queue)


@pytest.fixture(scope="module")
def sixty(shared: Simulator) -> Done:
    return performed(shared, asked(shared, "rome", COUNT, every=EVERY, layers=1))


@pytest.fixture(scope="module", params=tiny.in_full(NAMES, QUICK))
def ten(request: pytest.FixtureRequest, shared: Simulator) -> Done:
    """Few edits of every method; over two layers where it can."""
    layers = (0, 1) if method(request.param).spreads else (1,)
    return performed(shared, asked(shared, request.param, 10, Draw(seed=1), layers=layers, every=5))


class TestTheEquations:
    """P by its formula, P[e, j] = k_eᵀC⁻¹k_j / k_eᵀC⁻¹k_e, of keys read with a plain hook on the unedited model."""

    def p(self, done: Done) -> np.ndarray:
        facts = [*(one.fact for one in done.queue.edits), *done.bench.facts]
        keys = np.stack([tools.at_subject(done.bench.model, fact, 1)[0] for fact in facts])
        inverse = np.linalg.inv(tools.moment(done.bench, 1))
        leverage = np.einsum("ei,ij,ej->e", keys[:COUNT], inverse, keys[:COUNT])
        return keys[:COUNT] @ inverse @ keys.T / leverage[:, None]

    def outputs(self, done: Done, facts: list[Any], edits: int) -> np.ndarray:
        model = tools.with_change(done.bench.model, 1, done.total(1, edits))
        return np.stack([tools.at_subject(model, fact, 1)[1] for fact in facts])

    def test_c_needed_no_ridge(self, sixty: Done) -> None:
        assert sixty.bench.whitener(1).ridge == 0
        assert sixty.trace.steps.tolist() == [0, 20, 40, 60]
        assert np.linalg.norm(sixty.deltas, axis=1).min() > 0

    def test_eq_11_what_all_edits_do_to_every_other_fact(self, sixty: Done) -> None:
        trace, facts = sixty.trace, list(sixty.bench.facts)
        shares = self.p(sixty)[:, COUNT:]
        told = np.cumsum(shares[:, :, None] * sixty.deltas[:, None], axis=0)  # (edits, facts, d)
        before = self.outputs(sixty, facts, 0)
        for row, edits in list(enumerate(trace.steps.tolist()))[1:]:
            moved = self.outputs(sixty, facts, edits) - before
            size = np.linalg.norm(moved)
            assert np.linalg.norm(told[edits - 1] - moved) < EQUATIONS * size
            sizes = np.linalg.norm(told[edits - 1], axis=1)
            assert np.linalg.norm(trace.shift_forecast[row] - sizes) < EQUATIONS * size
            assert np.linalg.norm(trace.shift[row] - np.linalg.norm(moved, axis=1)) < EQUATIONS * size
            assert np.linalg.norm(trace.shift_error[row]) < EQUATIONS * size
        assert np.abs(trace.shares - shares).max() < EQUATIONS * np.abs(shares).max()
        assert sizes.min() > 0.01 * sizes.max(), "no fact is left in peace"

    def test_eq_15_what_later_edits_do_to_earlier_ones(self, sixty: Done) -> None:
        trace, edited = sixty.trace, [one.fact for one in sixty.queue.edits]
        p = self.p(sixty)[:, :COUNT]
        wrote = np.stack([self.outputs(sixty, [fact], i + 1)[0] for i, fact in enumerate(edited)])
        for row in (2, 3):
            edits = int(trace.steps[row])
            told = np.array([p[i + 1 : edits, i] @ sixty.deltas[i + 1 : edits] for i in range(edits)])
            moved = self.outputs(sixty, edited[:edits], edits) - wrote[:edits]
            size = np.linalg.norm(moved)
            assert np.linalg.norm(told - moved) < EQUATIONS * size
            sizes = np.linalg.norm(told, axis=1)
            assert np.linalg.norm(trace.edited_shift_forecast[row, :edits] - sizes) < EQUATIONS * size
            assert np.linalg.norm(trace.edited_shift[row, :edits] - np.linalg.norm(moved, axis=1)) < EQUATIONS * size
            assert np.linalg.norm(trace.edited_shift_error[row, :edits]) < EQUATIONS * size
            assert np.isnan(trace.edited_shift[row, edits:]).all()
            assert sizes[-1] == 0 < sizes[:-1].min()

    def test_the_summary_says_so(self, sixty: Done) -> None:
        unrelated, edited = summary.exactness(sixty.trace)
        assert 0 < unrelated < SHIFT
        assert 0 < edited < SHIFT

    def test_each_edit_is_felt_by_what_it_wrote(self, sixty: Done) -> None:
        """δ_n = v_n - W_{n-1} k_n: right after it, the output at its subject has moved by δ_n."""
        for i in (0, COUNT // 2, COUNT - 1):
            fact = sixty.queue.edits[i].fact
            before, after = (self.outputs(sixty, [fact], edits)[0] for edits in (i, i + 1))
            assert np.linalg.norm(after - before - sixty.deltas[i]) < EQUATIONS * np.linalg.norm(sixty.deltas[i])
            size = np.linalg.norm(np.outer(sixty.deltas[i], sixty.made[i].changes[0].reach))
            assert sixty.trace.size[i] == pytest.approx(size, rel=SAME)


class TestEveryMethod:
    def test_measures_what_the_edits_do(self, ten: Done) -> None:
        trace, layers = ten.trace, ten.request.layers
        assert (trace.edits, trace.steps.tolist(), trace.made.all()) == (10, [0, 5, 10], True)
        assert trace.took.any()
        own = [tools.with_change(ten.bench.model, layer, np.zeros((32, 128))) for layer in layers]
        for row, edits in enumerate((0, 5, 10)):
            model = ten.bench.model
            for at, layer in enumerate(layers):
                model = tools.with_change(model, layer, ten.total(layer, edits))
                weight = model.architecture.weight(layer).double().numpy()
                change = weight - own[at].architecture.weight(layer).double().numpy()
                size = np.linalg.norm(own[at].architecture.weight(layer).double().numpy())
                assert trace.drift[row, at] == pytest.approx(np.linalg.norm(change) / size, rel=READ, abs=1e-12)
                assert trace.condition[row, at] == pytest.approx(np.linalg.cond(weight), rel=READ)
            odds = [tools.log_odds(model, fact) for fact in ten.bench.facts]
            np.testing.assert_allclose(trace.log_odds[row], odds, atol=READ)
            replaced = [replace(one.fact, target=one.target) for one in ten.queue.edits[:edits]]
            own_odds = [tools.log_odds(model, fact) for fact in replaced]
            np.testing.assert_allclose(trace.edited_log_odds[row, :edits], own_odds, atol=READ)
            assert np.isnan(trace.edited_log_odds[row, edits:]).all()
            assert not trace.edited_rank[row, edits:].any()

    def test_the_layer_does_as_foretold(self, ten: Done) -> None:
        unrelated, edited = summary.exactness(ten.trace)
        assert unrelated < SHIFT
        assert edited < SHIFT

    @pytest.mark.parametrize("name", tiny.in_full(NAMES, QUICK))
    def test_also_where_the_left_side_is_a_mean_key(self, shared: Simulator, name: str) -> None:
        batch = 2 if method(name).batches else 1
        request = asked(shared, name, 4, Draw(seed=2), every=4, batch=batch, mean_key=True)
        unrelated, edited = summary.exactness(lifelong.run(shared, request))
        assert unrelated < SHIFT
        assert edited < 10 * SHIFT  # four edits hardly move each other, so rounding counts for more

    def test_forecasts_of_a_step_are_the_sums_of_those_of_its_edits(self, ten: Done) -> None:
        trace = ten.trace
        for row, edits in enumerate(trace.steps.tolist()):
            np.testing.assert_allclose(trace.contributions[:edits].sum(axis=0), trace.all_tokens[row], rtol=0,
                                       atol=SAME * max(1.0, np.abs(trace.all_tokens[row]).max()))  # fmt: skip
        assert np.abs(trace.contributions).max() > 0.01

    def test_each_of_them_is_a_slope(self, ten: Done) -> None:
        """The derivative of the log-odds along ΔW, as a central difference on weights really changed, in float64."""
        for edits, told in (([9], ten.trace.contributions[9]), (range(10), ten.trace.all_tokens[-1])):
            changes = [c for i in edits for c in ten.made[i].changes]
            slopes = np.zeros(len(ten.bench.facts))
            for sign in (1, -1):
                model = self.along(ten.bench, changes, sign * STRIDE)
                slopes += sign * np.array([tools.log_odds(model, fact) for fact in ten.bench.facts]) / (2 * STRIDE)
            np.testing.assert_allclose(told, slopes, rtol=0, atol=SLOPE * np.abs(slopes).max())

    def test_the_forecast_of_the_subject_token_is_a_slope_too(self, ten: Done) -> None:
        slopes = np.zeros(len(ten.bench.facts))
        for layer in ten.request.layers:
            change = ten.total(layer)
            for sign in (1, -1):
                model = tools.with_change(ten.bench.model, layer, np.zeros_like(change), double=True)
                for j, fact in enumerate(ten.bench.facts):
                    key, _ = tools.at_subject(model, fact, layer)
                    with tools.moved_at_subject(model, fact, layer, sign * STRIDE * change @ key):
                        slopes[j] += sign * tools.log_odds(model, fact) / (2 * STRIDE)
        told = ten.trace.subject_token[-1]
        np.testing.assert_allclose(told, slopes, rtol=0, atol=SLOPE * np.abs(slopes).max())

    def test_renewed_is_a_slope_from_where_the_model_was_at_the_measurement_before(self, ten: Done) -> None:
        trace, facts = ten.trace, ten.bench.facts
        assert not trace.renewed[0].any()
        np.testing.assert_allclose(trace.renewed[1], trace.all_tokens[1], rtol=0, atol=SAME * 1e3)
        halfway = ten.bench.model
        for layer in ten.request.layers:
            halfway = tools.with_change(halfway, layer, ten.total(layer, 5))
        slopes = np.zeros(len(facts))
        for sign in (1, -1):
            later = [c for one in ten.made[5:] for c in one.changes]
            model = self.along(replace(ten.bench, load=lambda: halfway), later, sign * STRIDE)
            slopes += sign * np.array([tools.log_odds(model, fact) for fact in facts]) / (2 * STRIDE)
        told = trace.renewed[2] - trace.renewed[1]
        np.testing.assert_allclose(told, slopes, rtol=0, atol=SLOPE * np.abs(slopes).max())

    def along(self, bench: Simulator, changes: list[Change], strength: float) -> Any:
        model = bench.model
        for layer in {change.layer for change in changes}:
            whole = sum(change.matrix for change in changes if change.layer == layer)
            model = tools.with_change(model, layer, whole * strength, double=True)
        return model

    def test_shares_and_sizes(self, ten: Done) -> None:
        trace, layer = ten.trace, ten.request.layers[0]
        keys = np.stack([tools.at_subject(ten.bench.model, fact, layer)[0] for fact in ten.bench.facts])
        for i, one in enumerate(ten.made):
            size = np.sqrt(sum(np.linalg.norm(c.matrix) ** 2 for c in one.changes))
            assert trace.size[i] == pytest.approx(size, rel=SAME)
            if isinstance(one.changes[0], DenseEdit):
                assert np.isnan(trace.shares[i]).all()
            else:
                shares = keys @ one.changes[0].reach
                np.testing.assert_allclose(trace.shares[i], shares, rtol=0, atol=READ * np.abs(shares).max())

    def test_beginning(self, ten: Done) -> None:
        trace, facts = ten.trace, ten.bench.facts
        np.testing.assert_allclose(trace.log_odds[0], [tools.log_odds(ten.bench.model, f) for f in facts], atol=READ)
        assert (trace.rank[0] == 1).tolist() == list(ten.bench.result.known)
        assert not trace.drift[0].any()
        assert not trace.subject_token[0].any()
        assert not trace.all_tokens[0].any()
        assert trace.queue == tuple(map(tuple, ten.queue.rows()))
        np.testing.assert_allclose(trace.shift[0], 0, atol=1e-5)

    def test_what_it_took_and_what_it_says(self, ten: Done) -> None:
        trace = ten.trace
        for i in range(0, 10, ten.request.batch):
            model, edits = ten.bench.model, i + ten.request.batch
            for layer in ten.request.layers:
                model = tools.with_change(model, layer, ten.total(layer, edits))
            one = ten.queue.edits[i]
            prompt = model.tokenizer(one.fact.text)["input_ids"]
            wanted = model.tokenizer(f"{one.fact.text} {one.target}")["input_ids"]
            logits = model.model(torch.tensor([wanted])).logits[0]
            right = all(int(logits[k - 1].argmax()) == wanted[k] for k in range(len(prompt), len(wanted)))
            assert trace.took[i] == right
        assert [prompt for prompt, _ in trace.words[-1]] == [
            ten.queue.edits[9].fact.text, ten.queue.edits[0].fact.text, ten.bench.facts[0].text
        ]  # fmt: skip
        assert trace.words[0][0] == trace.words[0][1]


class TestPerplexity:
    def test_is_of_documents_that_c_was_not_taken_over(self, sixty: Done) -> None:
        text = (Path(sixty.bench.result.request.corpus)).read_text("utf-8").splitlines()
        lengths = np.cumsum([len(ids) for ids in sixty.bench.model.tokenizer(text)["input_ids"]])
        first = int((lengths < tools.TOKENS).sum()) + 1
        assert sixty.trace.text == "8 documents of the corpus that C was not taken over"
        for row, edits in ((0, 0), (3, COUNT)):
            model = tools.with_change(sixty.bench.model, 1, sixty.total(1, edits))
            read = perplexity(model, text[first : first + 8])
            assert sixty.trace.perplexity[row] == pytest.approx(read, rel=READ)
        assert sixty.trace.perplexity[3] > sixty.trace.perplexity[0]


class TestPassedOver:
    """In the last layer only an edit whose prompt ends with its subject reaches the answer."""

    PICKED = ((3, "Nokia"), (tools.ENDS_WITH_SUBJECT, "never"), (7, "Paris"))

    @pytest.fixture(scope="class")
    @classmethod
    def trace(cls, shared: Simulator) -> EditTrace:
        request = asked(shared, "rome", 3, Draw("hand", picked=cls.PICKED), layers=tools.LAST, every=1)
        return lifelong.run(shared, request)

    def test_an_edit_that_cannot_be_made_is_told_and_changes_nothing(self, trace: EditTrace) -> None:
        assert trace.made.tolist() == [False, True, False]
        assert not trace.took[[0, 2]].any()
        assert trace.size[[0, 2]].tolist() == [0, 0]
        assert trace.size[1] > 0
        assert not trace.contributions[[0, 2]].any()
        assert not trace.shares[[0, 2]].any()
        assert trace.shares[1].any()
        for name in ("log_odds", "shift", "shift_forecast", "drift", "all_tokens"):
            values = getattr(trace, name)
            np.testing.assert_array_equal(values[1], values[0], err_msg=name)
            np.testing.assert_array_equal(values[3], values[2], err_msg=name)
        assert trace.drift[2, 0] > 0

    def test_eq_11_holds_all_the_same(self, trace: EditTrace) -> None:
        assert summary.exactness(trace)[0] < EQUATIONS

    def test_eq_15_holds_all_the_same(self, trace: EditTrace) -> None:
        assert not summary.exactness(trace)[1] > EQUATIONS  # or nothing is said of it

    def test_a_batch_is_passed_over_as_a_whole(self, shared: Simulator) -> None:
        picked = Draw("hand", picked=(*self.PICKED[:2], (5, "Nokia"), (6, "Nokia")))
        trace = lifelong.run(shared, asked(shared, "memit", 4, picked, layers=tools.LAST, batch=2, every=2))
        assert not trace.made.any()
        assert not trace.size.any()
        assert trace.drift.tolist() == [[0.0]] * 3


def test_a_run_again_is_the_same(demo: tools.Setting, tmp_path: Path) -> None:
    traces = []
    for name in ("one", "other"):
        bench = demo.bench(tmp_path / name)
        traces.append(lifelong.run(bench, asked(bench, "memit", 6, layers=(0, 1), batch=2)))
    assert_same(*traces)


def test_a_run_tells_which_edits_took_the_own_key(shared: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it is read from the store again; an edit that was to take the own key anyway does not count."""
    monkeypatch.setattr(rank_one, "agrees", lambda *_: False)
    for mean_key in (True, False):
        request = asked(shared, "rome", 2, Draw(seed=91), every=2, mean_key=mean_key, everywhere=False)
        trace = lifelong.run(shared, request)
        again = lifelong.known(shared, request)
        assert again is not None
        assert trace.own_key.tolist() == again.own_key.tolist() == [mean_key] * 2
