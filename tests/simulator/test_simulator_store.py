"""What the simulator keeps and what it needs a model for; C from the store or anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kis_core import corpora
from kis_core.analysis import pipeline
from kis_core.models.files import ModelError
from kis_core.request import RequestError
from kis_core.simulator import Simulator, stored
from kis_core.store.store import Store
from tests.simulator.simulator_tools import (
    EXACT,
    ROUNDING,
    STEPS,
    TOKENS,
    Loader,
    Setting,
    asked,
    assert_same,
    delete,
    no_model,
)

pytestmark = pytest.mark.usefixtures("weights_stay")


class TestStored:
    def test_the_second_time_nothing_is_loaded_or_searched(self, small: Setting, store: Store) -> None:
        loader = Loader(small.loaded)
        first = small.simulator(store, loader)
        request = asked(first)
        losses: list[float] = []
        assert not first.known(request)
        first.prepare(request, seen=losses.append)
        assert first.known(request)
        assert loader.calls > 0
        assert tuple(losses) == first.value(request).losses
        assert len(losses) == STEPS + 1

        loader, again = Loader(small.loaded), []
        second = small.simulator(Store(store.root), loader)
        assert second.known(request)
        assert_same(second.value(request, seen=again.append), first.value(request))
        assert_same(second.sensitivity(0), first.sensitivity(0))
        assert_same(second.forecast(request, flips=False), first.forecast(request, flips=False))
        assert (loader.calls, again) == (0, [])

    def test_an_edit_is_known_by_its_value_gradients_and_c(self, small: Setting, store: Store) -> None:
        for kind in ("value", "sensitivity", pipeline.SECOND_MOMENT):
            simulator = small.simulator(store)
            simulator.prepare(asked(simulator))
            assert simulator.known(asked(simulator))
            assert delete(store, kind)
            assert not small.simulator(store).known(asked(simulator))

    def test_another_request_is_another_value(self, simulator: Simulator) -> None:
        request = asked(simulator)
        hows = {"steps": 4, "learning_rate": 0.2, "weight_decay": 0.1, "kl": 0.1, "clamp": 2.0, "prefixes": ((1, 5),)}
        hows |= {"stop_loss": 0.1, "mean_key": True, "everywhere": False, "seed": 7}
        changes = {"fact": 2, "target": "Apple", "layer": 1, "method": "identity"}
        changed = [replace(request, **{name: value}) for name, value in changes.items()]
        changed += [replace(request, how=replace(request.how, **{name: value})) for name, value in hows.items()]
        keys = {simulator.value_key(each) for each in (request, *changed)}
        assert len(keys) == 1 + len(changed)
        assert len(request.how.to_json()) == 10, "all hyper-parameters are varied above"
        assert simulator.value_key(asked(simulator)) == simulator.value_key(request)

    def test_gradients_are_kept_for_each_layer_and_set_of_facts(self, small: Setting, simulator: Simulator) -> None:
        store, smaller = simulator.store, small.result.subset([1, 0], "two")
        simulator.sensitivity(0)
        simulator.sensitivity(1)
        assert len(store.listed("sensitivity")) == 2
        Simulator(smaller, store, lambda: small.loaded).sensitivity(0)
        assert len(store.listed("sensitivity")) == 3
        assert len(small.simulator(store, no_model).sensitivity(1).log_odds) == len(small.result.facts)

    def test_without_the_model_the_first_forecast_still_works(self, small: Setting, store: Store) -> None:
        simulator = small.simulator(store)
        request = asked(simulator)
        simulator.prepare(request)
        expected = simulator.forecast(request, flips=False)
        gone = small.simulator(store, no_model)
        for _ in range(2):
            assert_same(gone.forecast(request, flips=False), expected)
            for needs_it in (gone.forecast, gone.perform):
                with pytest.raises(ModelError, match="the model is gone"):
                    needs_it(request)
        with pytest.raises(ModelError, match="the model is gone"):
            gone.value(asked(gone, target="Apple"))
        gone.load = lambda: small.loaded
        assert gone.perform(request).success == simulator.perform(request).success

    def test_the_least_recently_used_goes_and_the_numbers_stay(self, simulator: Simulator) -> None:
        request = asked(simulator)
        assert not simulator.performed(request, 1.0)
        assert not simulator.has_forecast(request)
        forecast, outcome = simulator.forecast(request), simulator.perform(request)
        assert simulator.performed(request, 1.0)
        assert not simulator.performed(request, 0.5)
        assert simulator.has_forecast(request)
        assert simulator.perform(request) is outcome
        for number in range(stored.MOST):
            simulator._kept.once(number, object)
        assert not simulator.performed(request, 1.0)
        assert not simulator.has_forecast(request)
        assert_same(simulator.perform(request), outcome)
        assert_same(simulator.forecast(request), forecast)


class TestSecondMoment:
    def test_is_read_from_the_store_without_a_model(self, small: Setting, store: Store) -> None:
        provenance = small.result.provenance
        assert 1000 < provenance["tokens_counted"] < provenance["tokens_requested"] == TOKENS, "of a shorter text, too"
        smaller = small.result.subset([4, 2], "two")
        for layer in small.result.layers:
            c = pipeline.second_moment(small.result, layer, store, no_model)
            np.testing.assert_array_equal(pipeline.second_moment(smaller, layer, store, no_model), c)
            keys = small.simulator(store).sensitivity(layer).subject_keys.astype(np.float64)
            inverse = np.linalg.inv(c)
            p = keys @ inverse @ keys.T
            found = p / np.diag(p)[:, None]
            np.testing.assert_allclose(found, small.result.p[layer], rtol=0, atol=ROUNDING * np.abs(found).max())

    def test_is_computed_anew_when_it_was_deleted_and_then_kept(self, small: Setting, store: Store) -> None:
        before = pipeline.second_moment(small.result, 1, store, no_model)
        assert delete(store, pipeline.SECOND_MOMENT) == 4
        with pytest.raises(ModelError, match="the model is gone"):
            pipeline.second_moment(small.result, 1, store, no_model)
        loader, stages = Loader(small.loaded), set()
        again = pipeline.second_moment(small.result, 1, store, loader, lambda stage, *_: stages.add(stage))
        np.testing.assert_allclose(again, before, rtol=0, atol=EXACT * np.abs(before).max())
        assert loader.calls == 1
        assert stages == {"Second moment of the keys"}
        np.testing.assert_array_equal(pipeline.second_moment(small.result, 1, store, no_model), again)

    def test_is_not_computed_from_another_text(self, small: Setting, store: Store) -> None:
        delete(store, pipeline.SECOND_MOMENT)
        text = Path(small.result.request.corpus)
        before = text.read_bytes()
        try:
            text.write_text("\n".join(corpora.builtin().texts[500:900]), "utf-8")
            with pytest.raises(RequestError, match="the text it was taken from changed since"):
                pipeline.second_moment(small.result, 0, store, lambda: small.loaded)
        finally:
            text.write_bytes(before)
