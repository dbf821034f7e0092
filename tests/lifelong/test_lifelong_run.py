"""One edit after another: eq. 11 and eq. 15 forecast exactly what the layer then does, and what is measured is what a
model does whose weights really were changed. All methods; edits that cannot be made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch

from kis_core import lifelong
from kis_core.editing import METHODS, Change, DenseEdit, EditError, PerformedEdit, Site, anchor, method, rank_one
from kis_core.editing.methods.fine_tuning import FineTuningSettings
from kis_core.facts import Fact
from kis_core.library import inventory
from kis_core.lifelong import Draw, EditTrace, LifelongRequest, Queue, summary
from kis_core.lifelong.trace import OF_RESULT
from kis_core.models.loaded import LoadedModel
from kis_core.scoring.perplexity import perplexity
from kis_core.simulator import Simulator
from kis_core.spillover import forecast
from tests import tiny
from tests.lifelong import lifelong_tools as tools
from tests.lifelong.lifelong_tools import asked, weights_stay

__all__ = ["weights_stay"]  # fixture

EQUATIONS = 1e-3  # of the forecast Δo and Δe, relative; seen 1e-6
SHIFT = 1e-5  # relative: the measured one is read off float32 outputs
SAME = 1e-9  # the same float64 numbers, multiplied in another order
READ = 1e-4  # of log-odds, read in float32 passes one by one and in batches; seen 1e-5
SLOPE = 1e-3  # a central difference in float64 against gradients read in float32, relative to the largest
STRIDE = 1e-5  # of that difference
FEW, EVERY = 6, 3
NAMES = tuple(method.name for method in METHODS)
QUICK = ("memit", "fine-tuning")  # one that spreads, a dense one; a rank-one method makes the longer run


@dataclass(frozen=True)
class Done:
    """A run, and beside it the same edits made one by one in a loop of the test's own."""

    bench: Simulator
    request: LifelongRequest
    trace: EditTrace
    queue: Queue
    anchors: Mapping[int, float] = field(default_factory=dict)

    @cached_property
    def made(self) -> list[PerformedEdit]:
        """Eq. 3-5: each edit found on the model as those before left it."""
        layers, request, actual = self.request.layers, self.request, []
        total = {layer: np.zeros(self.bench.model.architecture.widths) for layer in layers}
        past = {layer: np.zeros((0, self.bench.model.architecture.widths[1])) for layer in layers}
        for begin in range(0, request.edits, request.batch):
            site = Site(
                self.bench.model, layers, {layer: self.bench.whitener(layer) for layer in layers}, request.how,
                request.settings, self.bench.prefixes(request.how),
                tuple(DenseEdit(layer, total[layer].copy()) for layer in layers), past, self.anchors,
            )  # fmt: skip
            batch = method(request.method).perform(site, self.queue.edits[begin : begin + request.batch])
            for one in batch:
                for change in one.changes:
                    total[change.layer] += change.matrix
            past = {
                layer: np.concatenate([past[layer], [one.keys[at] for one in batch]]) for at, layer in enumerate(layers)
            }
            actual += batch
        return actual if method(request.method).restrain is None else self.restrained(actual)

    def restrained(self, edits: Sequence[PerformedEdit]) -> list[PerformedEdit]:
        """What each edit did to the model that is measured, in which their sum is restrained."""
        (layer,), restrain = self.request.layers, method(self.request.method).restrain
        assert restrain is not None
        weight = self.bench.model.architecture.weight(layer).double().numpy()
        totals = np.cumsum([edit.changes[0].matrix for edit in edits], axis=0)
        there = [restrain(weight, total, self.request.settings) for total in totals]
        assert not np.allclose(there[-1], totals[-1]), "nothing was restrained"
        moves = np.diff(there, axis=0, prepend=np.zeros((1, *weight.shape)))
        return [replace(edit, changes=(DenseEdit(layer, move),)) for edit, move in zip(edits, moves, strict=True)]

    def total(self, layer: int, edits: int | None = None) -> np.ndarray:
        """ΔW of the first edits."""
        return sum(
            (c.matrix for one in self.made[:edits] for c in one.changes if c.layer == layer),
            np.zeros(self.bench.model.architecture.widths),
        )

    def edited(self, edits: int) -> LoadedModel:
        """A copy of the model with the first edits in its weights."""
        model = self.bench.model
        for layer in self.request.layers:
            model = tools.with_change(model, layer, self.total(layer, edits))
        return model

    @cached_property
    def deltas(self) -> np.ndarray:
        return np.stack([one.changes[0].delta for one in self.made])


def performed(bench: Simulator, request: LifelongRequest) -> Done:
    queue = lifelong.draw_queue(bench, request.draw, request.edits, request.layers[0])
    return Done(bench, request, lifelong.run(bench, request), queue)


@pytest.fixture(scope="module", params=[12, pytest.param(60, marks=pytest.mark.stress)])
def many(request: pytest.FixtureRequest, shared: Simulator) -> Done:
    """ROME in layer 1, measured four times."""
    return performed(shared, asked(shared, "rome", request.param, every=request.param // 3, layers=1))


@pytest.fixture(scope="module", params=tiny.in_full(NAMES, QUICK))
def few(request: pytest.FixtureRequest, shared: Simulator) -> Done:
    """A few edits of every method; over two layers where it can."""
    layers = (0, 1) if method(request.param).takes_layers else (1,)
    settings = FineTuningSettings(0.002, 8) if request.param == "fine-tuning" else None
    draw, batch = Draw(seed=1), EVERY if method(request.param).batches else 1
    request = asked(shared, request.param, FEW, draw, layers=layers, every=EVERY, batch=batch, settings=settings)
    return performed(shared, request)


class TestTheEquations:
    """P by its formula, P[e, j] = k_eᵀC⁻¹k_j / k_eᵀC⁻¹k_e, of keys read with a plain hook on the unedited model."""

    def p(self, done: Done, facts: Sequence[Fact]) -> np.ndarray:
        edited = [edit.fact for edit in done.queue.edits]
        keys = np.stack([tools.at_subject(done.bench.model, fact, 1)[0] for fact in (*edited, *facts)])
        own = keys[: len(edited)] @ np.linalg.inv(tools.moment(done.bench, 1))
        return own @ keys[len(edited) :].T / np.einsum("ed,ed->e", own, keys[: len(edited)])[:, None]

    def outputs(self, done: Done, facts: Sequence[Fact], edits: int) -> np.ndarray:
        model = tools.with_change(done.bench.model, 1, done.total(1, edits))
        return np.stack([tools.at_subject(model, fact, 1)[1] for fact in facts])

    def test_eq_11_what_all_edits_do_to_every_other_fact(self, many: Done) -> None:
        assert many.bench.whitener(1).ridge == 0, "C needed no ridge"
        trace, facts = many.trace, many.bench.facts
        shares = self.p(many, facts)
        expected = np.cumsum(shares[:, :, None] * many.deltas[:, None], axis=0)  # (edits, facts, d)
        before = self.outputs(many, facts, 0)
        for row, edits in list(enumerate(trace.steps.tolist()))[1:]:
            moved = self.outputs(many, facts, edits) - before
            size = np.linalg.norm(moved)
            assert np.linalg.norm(expected[edits - 1] - moved) < EQUATIONS * size
            sizes = np.linalg.norm(expected[edits - 1], axis=1)
            assert np.linalg.norm(trace.shift_forecast[row] - sizes) < EQUATIONS * size
            assert np.linalg.norm(trace.shift[row] - np.linalg.norm(moved, axis=1)) < EQUATIONS * size
            assert np.linalg.norm(trace.shift_error[row]) < EQUATIONS * size
        assert np.abs(trace.shares - shares).max() < EQUATIONS * np.abs(shares).max()
        assert 0 < summary.exactness(trace)[0] < SHIFT

    def test_eq_15_what_later_edits_do_to_earlier_ones(self, many: Done) -> None:
        trace, edited = many.trace, [edit.fact for edit in many.queue.edits]
        p = self.p(many, edited)
        wrote = np.stack([self.outputs(many, [fact], i + 1)[0] for i, fact in enumerate(edited)])
        for row in (2, 3):
            edits = int(trace.steps[row])
            expected = np.array([p[i + 1 : edits, i] @ many.deltas[i + 1 : edits] for i in range(edits)])
            moved = self.outputs(many, edited[:edits], edits) - wrote[:edits]
            size = np.linalg.norm(moved)
            assert np.linalg.norm(expected - moved) < EQUATIONS * size
            sizes = np.linalg.norm(expected, axis=1)
            assert np.linalg.norm(trace.edited_shift_forecast[row, :edits] - sizes) < EQUATIONS * size
            assert np.linalg.norm(trace.edited_shift[row, :edits] - np.linalg.norm(moved, axis=1)) < EQUATIONS * size
            assert np.linalg.norm(trace.edited_shift_error[row, :edits]) < EQUATIONS * size
            assert np.isnan(trace.edited_shift[row, edits:]).all()
            assert sizes[-1] == 0 < sizes[:-1].min()
        assert 0 < summary.exactness(trace)[1] < SHIFT

    def test_each_edit_is_felt_by_what_it_wrote(self, many: Done) -> None:
        """δ_n = v_n - W_{n-1} k_n: right after it, the output at its subject has moved by δ_n."""
        for i in (0, len(many.made) - 1):
            fact, delta = many.queue.edits[i].fact, many.deltas[i]
            before, after = (self.outputs(many, [fact], edits)[0] for edits in (i, i + 1))
            assert np.linalg.norm(after - before - delta) < EQUATIONS * np.linalg.norm(delta)

    def test_perplexity_is_of_documents_that_c_was_not_taken_over(self, many: Done) -> None:
        text = (Path(many.bench.result.request.corpus)).read_text("utf-8").splitlines()
        lengths = np.cumsum([len(ids) for ids in many.bench.model.tokenizer(text)["input_ids"]])
        first = int((lengths < tools.TOKENS).sum()) + 1
        assert many.trace.text == "the first 256 tokens of 8 documents of the corpus that C was not taken over"
        for row, edits in ((0, 0), (3, len(many.made))):
            model = tools.with_change(many.bench.model, 1, many.total(1, edits))
            read = perplexity(model, text[first : first + 8])
            assert many.trace.perplexity[row] == pytest.approx(read, rel=READ)
        assert many.trace.perplexity[3] > many.trace.perplexity[0]


class TestEveryMethod:
    def test_measures_what_the_edits_do(self, few: Done) -> None:
        trace, layers, facts = few.trace, few.request.layers, few.bench.facts
        assert (trace.edits, trace.steps.tolist(), trace.made.all()) == (FEW, [0, EVERY, FEW], True)
        own = [few.bench.model.architecture.weight(layer).double().numpy() for layer in layers]
        for row, edits in enumerate((0, EVERY, FEW)):
            model = few.edited(edits)
            for at, layer in enumerate(layers):
                weight = model.architecture.weight(layer).double().numpy()
                drift = np.linalg.norm(weight - own[at]) / np.linalg.norm(own[at])
                assert trace.drift[row, at] == pytest.approx(drift, rel=READ, abs=1e-12)
                assert trace.condition[row, at] == pytest.approx(np.linalg.cond(weight), rel=READ)
            np.testing.assert_allclose(trace.log_odds[row], [tools.log_odds(model, fact) for fact in facts], atol=READ)
            replaced = [replace(edit.fact, target=edit.target) for edit in few.queue.edits[:edits]]
            own_odds = [tools.log_odds(model, fact) for fact in replaced]
            np.testing.assert_allclose(trace.edited_log_odds[row, :edits], own_odds, atol=READ)
            assert np.isnan(trace.edited_log_odds[row, edits:]).all()
            assert not trace.edited_rank[row, edits:].any()
        assert not np.any([trace.drift[0].any(), trace.subject_token[0].any(), trace.all_tokens[0].any()])
        assert (trace.rank[0] == 1).tolist() == list(few.bench.result.known)
        assert trace.queue == tuple(map(tuple, few.queue.rows()))
        assert max(summary.exactness(trace)) < SHIFT, "the layer does as forecast"

    def test_what_it_took_and_what_it_says(self, few: Done) -> None:
        trace = few.trace
        for i in range(0, FEW, few.request.batch):
            model, edit = few.edited(i + few.request.batch), few.queue.edits[i]
            prompt = model.tokenizer(edit.fact.text)["input_ids"]
            wanted = model.tokenizer(f"{edit.fact.text} {edit.target}")["input_ids"]
            logits = model.model(torch.tensor([wanted])).logits[0]
            right = all(int(logits[k - 1].argmax()) == wanted[k] for k in range(len(prompt), len(wanted)))
            assert trace.took[i] == right
        about = [few.queue.edits[-1].fact, few.queue.edits[0].fact, few.bench.facts[0]]
        assert [prompt for prompt, _ in trace.words[-1]] == [fact.text for fact in about]
        assert trace.words[0][0] == trace.words[0][1]

    def test_shares_and_sizes(self, few: Done) -> None:
        trace, layer = few.trace, few.request.layers[0]
        keys = np.stack([tools.at_subject(few.bench.model, fact, layer)[0] for fact in few.bench.facts])
        for i, edit in enumerate(few.made):
            size = np.sqrt(sum(np.linalg.norm(change.matrix) ** 2 for change in edit.changes))
            assert trace.size[i] == pytest.approx(size, rel=SAME)
            if isinstance(edit.changes[0], DenseEdit):
                assert np.isnan(trace.shares[i]).all()
            elif edit.changes[0].layer != layer:
                assert not trace.shares[i].any()
            else:
                shares = keys @ edit.changes[0].reach
                np.testing.assert_allclose(trace.shares[i], shares, rtol=0, atol=READ * np.abs(shares).max())

    @pytest.mark.parametrize("name", tiny.in_full(NAMES, QUICK[:1]))
    def test_is_exact_where_the_left_side_is_a_mean_key_too(self, shared: Simulator, name: str) -> None:
        batch = 2 if method(name).batches else 1
        request = asked(shared, name, 4, Draw(seed=2), every=4, batch=batch, mean_key=True)
        unrelated, edited = summary.exactness(lifelong.run(shared, request))
        assert unrelated < SHIFT
        assert edited < 10 * SHIFT  # four edits hardly move each other, so rounding counts for more


SOME = slice(None, None, 3)  # of the facts, where each costs passes of a model


class TestSlopes:
    """Forecasts are derivatives of the log-odds along ΔW: central differences on weights really changed, in float64."""

    def slopes(self, bench: Simulator, changes: Sequence[Change]) -> np.ndarray:
        facts, slopes = bench.facts[SOME], 0
        for sign in (1, -1):
            model = bench.model
            for layer in {change.layer for change in changes}:
                whole = sum(change.matrix for change in changes if change.layer == layer)
                model = tools.with_change(model, layer, whole * sign * STRIDE, double=True)
            slopes = slopes + sign * np.array([tools.log_odds(model, fact) for fact in facts]) / (2 * STRIDE)
        return slopes

    def close(self, actual: np.ndarray, slopes: np.ndarray) -> None:
        np.testing.assert_allclose(actual[SOME], slopes, rtol=0, atol=SLOPE * np.abs(slopes).max())

    def test_of_one_edit_and_of_all_that_add_up(self, few: Done) -> None:
        trace, every = few.trace, [change for edit in few.made for change in edit.changes]
        self.close(trace.contributions[-1], self.slopes(few.bench, few.made[-1].changes))
        self.close(trace.all_tokens[-1], self.slopes(few.bench, every))
        felt = [forecast.subject_token(change, few.bench.sensitivity(change.layer)) for change in every]
        atol = SAME * np.abs(trace.subject_token[-1]).max()
        np.testing.assert_allclose(trace.subject_token[-1], np.sum(felt, axis=0), rtol=0, atol=atol)
        for row, edits in enumerate(trace.steps.tolist()):
            atol = SAME * max(1.0, np.abs(trace.all_tokens[row]).max())
            np.testing.assert_allclose(trace.contributions[:edits].sum(axis=0), trace.all_tokens[row], atol=atol)
        assert np.abs(trace.contributions).max() > 0.01

    def test_renewed_from_where_the_model_was_at_the_measurement_before(self, few: Done) -> None:
        trace, halfway = few.trace, few.edited(EVERY)
        assert not trace.renewed[0].any()
        np.testing.assert_allclose(trace.renewed[1], trace.all_tokens[1], rtol=0, atol=SAME * 1e3)
        later = [change for edit in few.made[EVERY:] for change in edit.changes]
        slopes = self.slopes(replace(few.bench, load=lambda: halfway), later)
        self.close(trace.renewed[2] - trace.renewed[1], slopes)


class TestPassedOver:
    """In the last layer only an edit whose prompt ends with its subject reaches the answer."""

    PICKED = ((3, "Nokia"), (tools.ENDS_WITH_SUBJECT, "never"), (7, "Paris"))

    def test_an_edit_that_cannot_be_made_changes_nothing_and_is_listed(self, shared: Simulator) -> None:
        draw = Draw("hand", picked=self.PICKED)
        trace = lifelong.run(shared, asked(shared, "rome", 3, draw, layers=tools.LAST, every=1))
        assert trace.made.tolist() == [False, True, False]
        assert not trace.took[[0, 2]].any()
        assert (trace.size > 0).tolist() == [False, True, False]
        for of_edits in (trace.contributions, trace.shares):
            assert not of_edits[[0, 2]].any()
            assert of_edits[1].any()
        for name in ("log_odds", "shift", "shift_forecast", "drift", "all_tokens"):
            values = getattr(trace, name)
            np.testing.assert_array_equal(values[1], values[0], err_msg=name)
            np.testing.assert_array_equal(values[3], values[2], err_msg=name)
        assert trace.drift[2, 0] > 0
        unrelated, edited = summary.exactness(trace)
        assert unrelated < EQUATIONS
        assert not edited > EQUATIONS  # or nothing is said of it

    def test_a_model_that_a_method_does_not_edit_is_refused_before_any_edit(
        self, shared: Simulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kis_core.models.checks.adds_plainly", lambda *_: False)
        with pytest.raises(EditError, match=r"scaled or normed on its way there\. Choose ROME"):
            lifelong.run(shared, asked(shared, "memit", 2, Draw("hand", picked=self.PICKED[:2])))

    def test_a_batch_is_passed_over_as_a_whole(self, shared: Simulator) -> None:
        picked = Draw("hand", picked=(*self.PICKED[:2], (5, "Nokia"), (6, "Nokia")))
        trace = lifelong.run(shared, asked(shared, "memit", 4, picked, layers=tools.LAST, batch=2, every=2))
        assert not trace.made.any()
        assert not trace.size.any()
        assert trace.drift.tolist() == [[0.0]] * 3


def test_values_are_rescaled_to_the_norm_that_they_have_in_the_unedited_model(
    bench: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchor, "EDITS", 3)
    rome, request = method("rome"), asked(bench, "rome", 3, layers=1, every=3, nas=True)
    how = replace(request.how, nas=False)
    site = Site(bench.model, (1,), {1: bench.whitener(1)}, how, request.settings, bench.prefixes(how))
    norm = np.mean([rome.perform(site, [one])[0].value_norm for one in anchor.edits(bench.known_facts, 3)])
    done = replace(performed(bench, request), anchors={1: norm})
    assert [edit.value_norm for edit in done.made] == pytest.approx([norm] * 3)
    np.testing.assert_allclose(done.trace.size, [np.linalg.norm(edit.changes[0].matrix) for edit in done.made])
    assert bench.value(bench.request(0, "French", 1, **tools.QUICK, nas=True)).norm == pytest.approx(norm)
    assert request.label.startswith("ROME with NAS, layer 1")
    with pytest.raises(EditError, match="fine-tuning searches for no value"):
        asked(bench, "fine-tuning", nas=True)


def test_a_single_edit_is_restrained_as_a_sequence_of_one_is(bench: Simulator) -> None:
    draw = Draw("hand", picked=((3, "Nokia"),))
    trace = lifelong.run(bench, asked(bench, "prune", 1, draw, layers=1, every=1))
    edit, rome = (bench.edit(bench.request(3, "Nokia", 1, name, **tools.QUICK)) for name in ("prune", "rome"))
    assert np.linalg.norm(edit.matrix) == pytest.approx(trace.size[0])
    assert edit.size < rome.size
    np.testing.assert_array_equal(edit.reach, rome.reach)


def test_the_edits_that_took_the_own_key_are_kept(shared: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the run is read from the store again; an edit that was to take the own key anyway does not count."""
    monkeypatch.setattr(rank_one, "agrees", lambda *_: False)
    for mean_key in (True, False):
        request = asked(shared, "rome", 2, Draw(seed=91), every=2, mean_key=mean_key, everywhere=False)
        trace, again = lifelong.run(shared, request), lifelong.known(shared, request)
        assert again is not None
        assert trace.own_key.tolist() == again.own_key.tolist() == [mean_key] * 2


def test_a_run_in_the_library_has_its_name_model_facts_and_text(bench: Simulator) -> None:
    request, source = asked(bench, "rome", 2, every=1), bench.result.provenance
    for edits, name in ((1, "1 edit"), (2, "2 edits")):
        lifelong.run(bench, request, until=lambda trace, edits=edits: trace.edits == edits)
        (run,) = (row for row in inventory.shelf(bench.store) if row.what == inventory.RUN)
        assert run.name == f"{name}, ROME, layer 0, at random, seed 0"
        assert (run.model, run.facts, run.corpus) == (tools.MODEL, source["facts"], source["corpus"])
        (item,) = bench.store.inventory(inventory.RUN_KIND)
        assert item.meta["about"][OF_RESULT] == bench.result.identity, "for reports"
