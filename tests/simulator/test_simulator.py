"""The edit simulator on demo models: forecasts and measurements, what it keeps, and what it needs a model for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kis_core import corpora, editing, spillover
from kis_core.analysis import pipeline
from kis_core.editing import rank_one
from kis_core.models.files import ModelError
from kis_core.models.loaded import LoadedModel
from kis_core.request import RequestError
from kis_core.scoring import answers
from kis_core.simulator import Simulator, one_edit, stored
from kis_core.spillover import forecast as forecasts
from kis_core.store.store import Store
from tests import tiny
from tests.simulator.simulator_tools import (
    EXACT,
    FACTS,
    LLAMA,
    ROUNDING,
    SHARES,
    SMALL,
    STEPS,
    TOKENS,
    Loader,
    Setting,
    analysed,
    asked,
    assert_same,
    copy_of,
    delete,
    no_model,
)

pytestmark = pytest.mark.usefixtures("weights_stay")
MAX_CONDITION = 1e8  # of a C that is inverted here: it costs eight of sixteen digits
SHIFT = 1e-4
"""The measured shift, relative: it is read off float32 outputs."""
SHIFT_FLOOR = 5e-7
"""Below this share of the largest output it drowns in the rounding of the outputs themselves; seen 4e-8."""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return analysed(tmp_path_factory.mktemp("llama"), LLAMA, FACTS[2:7], texts=80)


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Within a share of the largest expected entry."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


class TestForecastAndMeasurement:
    @pytest.mark.parametrize("name", tiny.in_full([SMALL, LLAMA], (SMALL,)))
    def test_the_shift_forecast_is_the_shift_measured(
        self, request: pytest.FixtureRequest, tmp_path: Path, name: str
    ) -> None:
        setting: Setting = request.getfixturevalue("small" if name == SMALL else "llama")
        simulator = setting.simulator(copy_of(setting, tmp_path / "own"))
        c = pipeline.second_moment(setting.result, 1, simulator.store, no_model)
        assert np.linalg.cond(c) < MAX_CONDITION
        inverse = np.linalg.inv(c)
        inverses = {"rome": inverse, "prune": inverse, "r-rome": inverse, "identity": np.eye(len(c))}
        seen = simulator.sensitivity(1)
        keys, size = seen.subject_keys.astype(np.float64), np.abs(seen.outputs).max()
        for e in range(0, len(simulator.facts), 3):
            asked = simulator.request(e, "Nokia", 1, steps=1, mean_key=e % 2 == 0, everywhere=False)
            value = simulator.value(asked)
            for method in editing.RANK_ONE:
                edit = method.edit(value, simulator.whitener(1), 1, asked.how)
                shift = forecasts.shift(edit, seen)
                left = value.mean_key if asked.how.mean_key or method.name == "r-rome" else keys[e]
                weighted = left @ inverses[method.name]
                shares = keys @ weighted / (weighted @ (left if method.name == "r-rome" else keys[e]))
                assert_close(shift, shares * np.linalg.norm(edit.delta), SHARES)
                actual = spillover.measure(setting.loaded, simulator.sentences, edit, seen).shift
                np.testing.assert_allclose(shift, actual, rtol=SHIFT, atol=SHIFT_FLOOR * size)
                if method.name == "rome":
                    np.testing.assert_array_equal(simulator.forecast(asked, flips=False).shift, shift)

    def test_p_is_the_row_of_the_analysis_and_the_share_of_an_edit_of_eq_2(self, shared: Simulator) -> None:
        edit = shared.forecast(asked(shared, layer=2), flips=False)
        np.testing.assert_array_equal(edit.p, shared.result.p[2, 3])
        # keys of the analysis come from the prompt alone, these from the whole sentence
        np.testing.assert_allclose(edit.shares, edit.p, rtol=0, atol=ROUNDING)
        other = shared.forecast(asked(shared, layer=2, method="identity"), flips=False)
        np.testing.assert_array_equal(other.p, edit.p)
        assert np.abs(other.shares - other.p).max() > 0.1
        assert not edit.own_key

    def test_a_mean_key_that_has_nothing_of_the_own_gives_way_and_it_is_said(
        self, shared: Simulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rank_one, "agrees", lambda *_: False)
        forecast = shared.forecast(asked(shared, layer=1, mean_key=True, seed=77), flips=False)
        assert forecast.own_key
        np.testing.assert_allclose(forecast.shares, forecast.p, rtol=0, atol=ROUNDING)
        assert shared.warnings(forecast)[0].startswith("The mean key over contexts has next to nothing")

    def test_the_table_holds_the_records_and_forecasts_scale_with_the_strength(self, shared: Simulator) -> None:
        request, strength = asked(shared), 1.5
        forecast, outcome = shared.forecast(request), shared.perform(request, strength)
        table, measured = shared.table(forecast, outcome), outcome.measured
        for name, expected in {
            "p": forecast.p,
            "share": forecast.shares,
            "shift_predicted": forecast.shift * strength,
            "shift_measured": measured.shift,
            "dlogodds_first_order": forecast.subject_token * strength,
            "dlogodds_all_tokens": forecast.all_tokens * strength,
            "dlogodds_propagated": outcome.propagated,
            "dlogodds_measured": measured.log_odds,
            "dlogp_measured": measured.log_prob,
        }.items():
            np.testing.assert_allclose(table[name], expected, rtol=EXACT)
        assert table["answer_after"].tolist() == list(measured.answers)
        assert table["answer_before"].tolist() == [row[0][0] for row in shared.result.answers]
        assert (table["answer_before"] != table["answer_after"]).tolist() == outcome.flipped.tolist()
        assert table["subject"].tolist() == [fact.subject for fact in shared.facts]
        floor = SHIFT_FLOOR * np.abs(shared.sensitivity(0).outputs).max()
        np.testing.assert_allclose(measured.shift, table["shift_predicted"], rtol=SHIFT, atol=floor)
        nothing = shared.perform(request, 0.0)
        assert not nothing.flipped.any()
        for change in (nothing.measured.log_odds, nothing.measured.log_prob, nothing.propagated):
            np.testing.assert_allclose(change, 0, atol=ROUNDING)

    def test_a_whole_search_makes_the_model_say_the_new_object(self, shared: Simulator) -> None:
        request = shared.request(3, "Nokia", 0)
        assert request.how == shared.recipe.hyperparameters
        outcome = shared.perform(request)
        assert (outcome.success.efficacy, outcome.success.likelier) == (True, True)
        assert outcome.success.probability_new > 0.5 > outcome.success.probability_old
        assert outcome.measured.answers[3] == "Nokia"
        assert outcome.flipped[3]
        assert outcome.measured.log_odds[3] < -1

    def test_flips_are_those_of_the_logits_to_first_order_however_many_facts_are_looked_at_at_once(
        self, small: Setting, shared: Simulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        request = shared.request(3, "Nokia", 0)
        forecast = shared.forecast(request)
        monkeypatch.setattr(one_edit, "FLIPS_AT_ONCE", 3)
        few_at_once = small.simulator(shared.store).forecast(request).flips
        assert forecast.flips is not None
        assert few_at_once is not None
        assert len(forecast.flips.at) > 3
        logits, change = forecasts.first_order_logits(shared.model, shared.sentences, forecast.edit)
        for strength in (0.3, 1.0, 1.5):
            first = (logits + strength * change).argmax(dim=1).tolist()
            moved = {j: token for j, token in enumerate(first) if token != int(logits[j].argmax())}
            words = forecast.flips.by(strength)
            assert words == few_at_once.by(strength)
            assert set(words) == set(moved)
            for j, token in moved.items():
                assert words[j].startswith(shared.model.tokenizer.decode(token).strip())
        assert 3 in forecast.flips.by(1.0)

    def test_words_of_flips_are_finished_after_the_whole_prompt(
        self, small: Setting, shared: Simulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun: list[tuple[list[int], int]] = []

        def spell(loaded: LoadedModel, words: Sequence[tuple[list[int], int]]) -> list[str]:
            begun.extend(words)
            return [f"word {k}" for k in range(len(words))]

        monkeypatch.setattr(answers, "finish_words", spell)
        fresh = small.simulator(shared.store)
        flips = fresh.forecast(fresh.request(3, "Nokia", 0)).flips
        assert flips is not None
        encode = small.loaded.tokenizer.encode
        assert [prompt for prompt, _ in begun] == [encode(fresh.facts[j].text) for j in flips.at]
        assert flips.answer == tuple(f"word {k}" for k in range(len(begun)))
        assert len(begun) > 1

    def test_scores_and_quality(self, shared: Simulator) -> None:
        request = asked(shared)
        forecast, outcome = shared.forecast(request), shared.perform(request)
        scores = shared.scores(forecast, outcome)
        assert list(scores)[:3] == ["all tokens", "subject token", "propagated"]
        np.testing.assert_array_equal(scores["subject token"], -forecast.subject_token)
        np.testing.assert_array_equal(scores["propagated"], -outcome.propagated)
        frame = shared.quality(forecast, outcome).set_index("forecast")
        others = np.arange(len(shared.facts)) != 3
        line = np.corrcoef(forecast.all_tokens[others], outcome.measured.log_odds[others])[0, 1]
        assert frame.loc["all tokens", "pearson"] == pytest.approx(line, rel=1e-9)
        assert frame.loc["all tokens", "pearson"] > 0.5, "damage forecast goes with damage measured"


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
            actual = p / np.diag(p)[:, None]
            np.testing.assert_allclose(actual, small.result.p[layer], rtol=0, atol=ROUNDING * np.abs(actual).max())

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
