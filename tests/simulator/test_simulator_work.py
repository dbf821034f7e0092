"""The simulator at work: threads, requests, reach, progress, cancelling, all layers, and some of the facts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kis_core import editing, spillover
from kis_core.analysis import pipeline
from kis_core.editing import EditError
from kis_core.models import catalog, loading
from kis_core.models.loaded import LoadedModel
from kis_core.progress import ADVICE_STAGES, EDIT_STAGES, MEASURE_STAGES, Cancelled, overall
from kis_core.request import RequestError
from kis_core.simulator import EditRequest, Simulator, of
from kis_core.spillover import forecast as forecasts
from kis_core.store.store import Store
from tests.simulator.simulator_tools import (
    EXACT,
    ROUNDING,
    SHARES,
    SMALL,
    STEPS,
    Loader,
    Setting,
    asked,
    assert_same,
    delete,
    no_model,
)

pytestmark = pytest.mark.usefixtures("weights_stay")
LAST = 3
ENDS_WITH_SUBJECT, NOT_IN_BASE = 8, 9


@contextmanager
def meanwhile(loaded: LoadedModel, work: Callable[[], Any], *, wait: float) -> Iterator[list[Any]]:
    """Within the block, at the first pass of this thread, another one works; it gets that many seconds for itself.

    Yields:
        what came of the other's work, or its error, once the block is left.
    """
    actual: list[Any] = []

    def run() -> None:
        try:
            actual.append(work())
        except RuntimeError as error:
            actual.append(error)

    other = threading.Thread(target=run)

    def within_the_pass(*_: object) -> None:
        if threading.current_thread() is not other and other.ident is None:
            other.start()
            other.join(timeout=wait)

    handle = loaded.model.base_model.register_forward_pre_hook(within_the_pass)
    try:
        yield actual
    finally:
        handle.remove()
        other.join(timeout=60)
        assert len(actual) == 1


class TestThreads:
    def test_flips_are_forecast_in_two_threads_at_once(self, small: Setting, shared: Simulator) -> None:
        edit = shared.edit(asked(shared))

        def flips() -> Any:
            return forecasts.first_order_logits(small.loaded, shared.sentences, edit)

        expected = flips()
        with meanwhile(small.loaded, flips, wait=0.2) as others:  # it may as well wait for this one to end
            actual = flips()
        for one in (actual, others[0]):
            assert not isinstance(one, RuntimeError), one
            assert all(torch.equal(a, b) for a, b in zip(one, expected, strict=True))

    def test_a_measurement_is_the_same_while_another_thread_forecasts_flips(
        self, small: Setting, shared: Simulator
    ) -> None:
        edit, seen = shared.edit(asked(shared)), shared.sensitivity(0)

        def measured() -> Any:
            return spillover.measure(small.loaded, shared.sentences, edit, seen)

        expected = measured()
        with meanwhile(small.loaded, measured, wait=60) as others:
            forecasts.first_order_logits(small.loaded, shared.sentences, edit)
        assert_same(others[0], expected)

    def test_a_simulator_loads_its_model_once_and_in_the_arithmetic_of_the_request(
        self, small: Setting, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loads: list[tuple[Path, dict[str, Any]]] = []

        def load(folder: Path, **how: Any) -> LoadedModel:
            loads.append((folder, how))
            time.sleep(0)  # lets the other thread come in
            return small.loaded

        monkeypatch.setattr(loading, "load", load)
        result = replace(small.result, request=replace(small.result.request, dtype="bfloat16"))
        simulator, begin = of(result, store, device="cpu"), threading.Barrier(4)
        assert not loads
        actual: list[LoadedModel] = []

        def work() -> None:
            begin.wait(timeout=60)
            actual.append(simulator.model)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert [model is small.loaded for model in actual] == [True] * 4
        assert loads == [(catalog.locate(SMALL), {"device": "cpu", "dtype": "bfloat16"})]


class TestRequest:
    def test_takes_the_recipe_but_for_what_is_given(self, shared: Simulator) -> None:
        request = shared.request(1, "  French ", 2, "r-rome", steps=7, prefixes=[[1, 4]])
        assert request == EditRequest(
            1, "French", 2, "r-rome", replace(shared.recipe.hyperparameters, steps=7, prefixes=((1, 4),))
        )
        recipe = editing.recipe(SMALL, width=32, layers=4)
        assert shared.recipe == recipe
        assert shared.request(1, "French", 2).method == "rome"
        assert shared.request(1, "\u200bFrench\u200e\u00a0", 2) == shared.request(1, "French", 2), "as in a fact file"
        with pytest.raises(EditError, match=r"the new object holds U\+200B inside"):
            shared.request(1, "Fre\u200bnch", 2)

    @pytest.mark.parametrize(
        ("given", "error", "reason"),
        [
            ({"fact": -1}, RequestError, "facts count from 0 to 9; fact -1 was to be edited"),
            ({"fact": 10}, RequestError, "fact 10 was to be edited"),
            ({"layer": 4}, RequestError, "layer 4 was not computed"),
            ({"layer": -1}, RequestError, "layer -1 was not computed"),
            ({"method": "memit"}, EditError, "no method 'memit' for a single edit; there are rome, r-rome, identity"),
            ({"clamp": -1.0}, EditError, "clamp"),
        ],
        ids=str,
    )
    def test_refuses(self, shared: Simulator, given: dict[str, Any], error: type[Exception], reason: str) -> None:
        with pytest.raises(error, match=reason):
            asked(shared, **given)

    def test_only_layers_of_the_analysis(self, small: Setting, store: Store) -> None:
        result = pipeline.run(replace(small.result.request, layers=(2,)), store, device="cpu")
        simulator = Simulator(result, store, lambda: small.loaded)
        with pytest.raises(RequestError, match="layer 0 was not computed; there are 2"):
            asked(simulator, layer=0)
        forecast = simulator.forecast(asked(simulator, layer=2), flips=False)
        whole = small.simulator(store)
        assert_same(forecast.edit, whole.forecast(asked(whole, layer=2), flips=False).edit)
        np.testing.assert_array_equal(forecast.p, result.p[0, 3])


class TestReach:
    def test_what_reaches_changes_the_answer_and_the_rest_is_refused(self, shared: Simulator) -> None:
        request = asked(shared, ENDS_WITH_SUBJECT, "Nokia", LAST, steps=8)
        losses = shared.value(request).losses
        assert losses[-1] < losses[0]
        outcome = shared.perform(request)
        before = np.exp(shared.sensitivity(LAST).log_prob[ENDS_WITH_SUBJECT])
        assert outcome.success.probability_old != pytest.approx(before, rel=0.01, abs=0)
        with pytest.raises(EditError, match="layer 3 is the last one"):
            shared.value(asked(shared, NOT_IN_BASE, "Nokia", LAST))


class TestPrepare:
    @pytest.mark.parametrize("c", ["stored", "computed anew"])
    def test_progress_comes_in_stages_and_never_falls(self, simulator: Simulator, c: str) -> None:
        if c == "computed anew":
            delete(simulator.store, pipeline.SECOND_MOMENT)
        reports: list[tuple[str, int, int]] = []
        simulator.prepare(asked(simulator), report=lambda *at: reports.append(at))
        needless = {"Second moment of the keys"} if c == "stored" else set()
        assert {stage for stage, *_ in reports} == set(EDIT_STAGES) - needless
        shares = [overall(*at, EDIT_STAGES) for at in reports]
        assert shares == sorted(shares)
        assert (shares[0], shares[-1]) == (0, pytest.approx(1.0))
        assert sum(stage == "Searching for the value" for stage, *_ in reports) >= STEPS

    def test_cancelled_at_any_stage_it_can_be_done_again(self, small: Setting, simulator: Simulator) -> None:
        every: list[str] = []
        simulator.prepare(asked(simulator), report=lambda stage, *_: every.append(stage))
        value, gradients = simulator.value(asked(simulator)), simulator.sensitivity(0)
        for at in (every.index(stage) + later for stage in dict.fromkeys(every) for later in (0, 1)):
            for kind in ("value", "sensitivity"):
                delete(simulator.store, kind)
            loader, report = Loader(small.loaded), CallOff(at)
            fresh = small.simulator(simulator.store, loader)
            with pytest.raises(Cancelled):
                fresh.prepare(asked(fresh), report=report)
            assert report.stages == every[: at + 1]
            assert (loader.calls > 0) == (at > 0), "called off before the model was loaded"
            assert not fresh.known(asked(fresh))
        assert_same(fresh.value(asked(fresh)), value)
        assert_same(fresh.sensitivity(0), gradients)


class CallOff:
    """A report that calls the work off once it was called more often than so."""

    def __init__(self, after: int) -> None:
        self.after, self.stages = after, []

    def __call__(self, stage: str, *_: int) -> None:
        self.stages.append(stage)
        if len(self.stages) > self.after:
            raise Cancelled(stage)


def test_a_measurement_reports_its_stages_and_called_off_at_any_it_can_be_done_again(
    small: Setting, shared: Simulator
) -> None:
    reports: list[tuple[str, int, int]] = []
    expected = shared.perform(asked(shared), 0.9, report=lambda *at: reports.append(at))
    assert list(dict.fromkeys(stage for stage, *_ in reports)) == list(MEASURE_STAGES)
    shares = [overall(*at, MEASURE_STAGES) for at in reports]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, pytest.approx(1.0))
    assert reports[:2] == [("Measuring every fact", 0, 10), ("Measuring every fact", 10, 10)]
    fresh = small.simulator(shared.store)
    for at in range(len(reports)):
        report = CallOff(at)
        with pytest.raises(Cancelled):
            fresh.perform(asked(fresh), 0.9, report=report)
        assert report.stages == [stage for stage, *_ in reports[: at + 1]]
        assert not fresh.performed(asked(fresh), 0.9)
        assert not any(module._forward_hooks for module in small.loaded.model.modules())
    assert_same(fresh.perform(asked(fresh), 0.9), expected)
    assert fresh.performed(asked(fresh), 0.9)


class TestAdvice:
    def test_of_every_layer(self, shared: Simulator) -> None:
        request, reports = asked(shared, layer=1), []
        advice = list(shared.advise(request, report=lambda *at: reports.append(at)))
        assert [(tried.layer, tried.reaches) for tried in advice] == [(0, True), (1, True), (2, True), (3, False)]
        assert (advice[LAST].efficacy, advice[LAST].flips, advice[LAST].paraphrase) == (False, 0, None)
        assert np.isnan(advice[LAST].damage)
        for tried in advice[:LAST]:
            there = replace(request, layer=tried.layer)
            success, forecast = shared.perform(there).success, shared.forecast(there)
            assert (tried.efficacy, tried.paraphrase) == (success.efficacy, success.paraphrase)
            assert tried.probability == success.probability_new
            assert forecast.flips is not None
            assert tried.flips == len(set(forecast.flips.by(1.0)) - {3})
            change = np.delete(forecast.all_tokens, 3)
            assert tried.damage == pytest.approx(np.abs(change).mean(), rel=EXACT)
        assert reports == [(stage, done, 4) for stage in ADVICE_STAGES for done in range(5)]

    def test_the_last_layer_for_a_prompt_that_ends_with_the_subject(self, shared: Simulator) -> None:
        *_, last = shared.advise(asked(shared, ENDS_WITH_SUBJECT, steps=1))
        assert (last.layer, last.reaches) == (LAST, True)
        assert np.isfinite(last.damage)

    def test_is_called_off_between_layers(self, simulator: Simulator) -> None:
        advice = simulator.advise(asked(simulator), report=CallOff(2))
        assert [next(advice).layer for _ in range(2)] == [0, 1]
        with pytest.raises(Cancelled):
            next(advice)
        assert len(simulator.store.listed("value")) == 2, "what was found is kept"


class TestSubset:
    KEPT = (5, 3, 0, 8)

    def test_gives_the_numbers_of_the_whole(self, small: Setting, shared: Simulator) -> None:
        request = asked(shared)
        whole, outcome = shared.forecast(request), shared.perform(request)
        smaller = Simulator(small.result.subset(self.KEPT, "four"), shared.store, lambda: small.loaded)
        there = asked(smaller, self.KEPT.index(3))
        assert smaller.value_key(there) == shared.value_key(request)
        gone = Simulator(smaller.result, shared.store, no_model)
        assert_same(gone.value(there), shared.value(request))
        forecast, actual = smaller.forecast(there), smaller.perform(there)
        assert_same(forecast.edit, whole.edit)
        kept = list(self.KEPT)
        np.testing.assert_array_equal(forecast.p, whole.p[kept])
        for name in ("shares", "shift", "subject_token", "all_tokens"):
            expected = getattr(whole, name)
            # other batches, so other roundings of the keys and gradients
            np.testing.assert_allclose(
                getattr(forecast, name), expected[kept], rtol=0, atol=1e-5 * np.abs(expected).max()
            )
        np.testing.assert_allclose(actual.measured.log_odds, outcome.measured.log_odds[kept], rtol=0, atol=ROUNDING)
        assert actual.measured.answers == tuple(outcome.measured.answers[k] for k in kept)
        assert actual.success.probability_new == pytest.approx(outcome.success.probability_new, rel=ROUNDING)

    def test_of_one_fact(self, small: Setting, shared: Simulator) -> None:
        alone = Simulator(small.result.subset([3], "one"), shared.store, lambda: small.loaded)
        request = asked(alone, 0)
        forecast, outcome = alone.forecast(request), alone.perform(request)
        assert forecast.shares == pytest.approx([1.0], rel=SHARES)
        frame = alone.quality(forecast, outcome)
        assert (frame["facts"] == 0).all()
        assert frame[["spearman", "pearson", "auc"]].isna().all(axis=None)
        advice, *_ = alone.advise(request)
        assert np.isnan(advice.damage)
        assert advice.flips == 0
