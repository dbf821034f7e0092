"""The edit simulator on demo models: what it keeps, what it needs a model for, threads, cancelling, and all layers."""

from __future__ import annotations

import csv
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kis_core import answers, corpora, editing, facts, pipeline, spillover
from kis_core.editing import EditError
from kis_core.models import catalog, loading
from kis_core.models.files import ModelError
from kis_core.models.loading import LoadedModel
from kis_core.progress import ADVICE_STAGES, EDIT_STAGES, MEASURE_STAGES, Cancelled, overall
from kis_core.request import Request, RequestError
from kis_core.result import Result
from kis_core.simulator import EditRequest, Forecast, Outcome, Simulator, bench, kept, of
from kis_core.spillover import forecast as forecasts
from kis_core.store import Store

EXACT = 1e-12  # the same float64 numbers, multiplied in another order
SHARES = 1e-5
"""Shares, relative to the largest: the key of the search and that of the gradients are read in float32 in batches of
other shapes, and differ by 1e-7; seen 3e-7."""
MAX_CONDITION = 1e8  # of a C that is inverted here: it costs eight of sixteen digits
SHIFT = 1e-4
"""The measured shift, relative: it is read off float32 outputs."""
SHIFT_FLOOR = 5e-7
"""Below this share of the largest output it drowns in the rounding of the outputs themselves; seen 4e-8."""
ROUNDING = 1e-4  # of a change in log-odds, read as the difference of two float32 passes; seen 1e-5

SMALL, LLAMA = "demo-gpt2-32", "demo-llama-128"
TOKENS = 100_000  # more than the text has: all of it is read
STEPS = 3  # enough for a δ of some size
LAST = 3
FACTS = (
    *facts.builtin().facts[:8],
    facts.Fact("Oslo", "Everybody wants to live in {}", "forever"),  # ends with the subject
    facts.Fact("Malta", "The capital of {} is", "Valletta"),  # not of the demo fact base
)
ENDS_WITH_SUBJECT, NOT_IN_BASE = 8, 9


@dataclass(frozen=True)
class Setting:
    """An analysed model: its result, the store as it was after the analysis, and the model itself."""

    result: Result
    root: Path
    loaded: LoadedModel

    def simulator(self, store: Store, load: Callable[[], LoadedModel] | None = None) -> Simulator:
        return Simulator(self.result, store, load or (lambda: self.loaded))


class Loader:
    """Gives a model, and counts how often it was asked to."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded, self.calls = loaded, 0

    def __call__(self) -> LoadedModel:
        self.calls += 1
        return self.loaded


def no_model() -> LoadedModel:
    raise ModelError("the model is gone")


def analysed(name: str, chosen: Sequence[facts.Fact], folder: Path) -> Setting:
    with (folder / "facts.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = ([fact.subject, fact.prompt, fact.target, fact.relation] for fact in chosen)
        csv.writer(stream).writerows([("subject", "prompt", "target", "relation"), *rows])
    (folder / "corpus.txt").write_text("\n".join(corpora.builtin().texts[:80]), "utf-8")
    store = Store(folder / "cache")
    request = Request(name, str(folder / "facts.csv"), str(folder / "corpus.txt"), TOKENS)
    result = pipeline.run(request, store, device="cpu")
    store._index.close()
    return Setting(result, folder / "cache", loading.load(catalog.locate(name), device="cpu"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return analysed(SMALL, FACTS, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return analysed(LLAMA, FACTS[2:7], tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def shared(small: Setting, tmp_path_factory: pytest.TempPathFactory) -> Simulator:
    """For tests of numbers, which need no store of their own."""
    return small.simulator(copy_of(small, tmp_path_factory.mktemp("shared") / "store"))


@pytest.fixture
def store(small: Setting, tmp_path: Path) -> Store:
    """As it was after the analysis: it holds every C, and no value yet."""
    return copy_of(small, tmp_path / "store")


def copy_of(setting: Setting, to: Path) -> Store:
    return Store(shutil.copytree(setting.root, to))


@pytest.fixture
def simulator(small: Setting, store: Store) -> Simulator:
    return small.simulator(store)


@pytest.fixture(autouse=True)
def weights_stay(small: Setting) -> Iterator[None]:
    """After every test: the same bits in every weight, and no hook."""
    before = small.loaded.digest()
    yield
    assert small.loaded.digest() == before
    assert not any(module._forward_hooks for module in small.loaded.model.modules())


def asked(simulator: Simulator, fact: int = 3, target: str = "Nokia", layer: int = 0, **how: Any) -> EditRequest:
    return simulator.request(fact, target, layer, **{"steps": STEPS} | how)


def assert_same(one: Any, other: Any) -> None:
    """Bit for bit, through records of records."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    elif hasattr(one, "__dataclass_fields__"):
        for field in fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    else:
        assert one == other


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Within a share of the largest expected entry."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def delete(store: Store, kind: str) -> int:
    keys = list(store.listed(kind))
    for key in keys:
        store.delete(key)
    return len(keys)


@contextmanager
def meanwhile(loaded: LoadedModel, work: Callable[[], Any], *, wait: float) -> Iterator[list[Any]]:
    """Within the block, at the first pass of this thread, another one works; it gets that many seconds for itself.

    Yields:
        what came of the other's work, or its error, once the block is left.
    """
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(work())
        except RuntimeError as error:
            found.append(error)

    other = threading.Thread(target=run)

    def within_the_pass(*_: object) -> None:
        if threading.current_thread() is not other and other.ident is None:
            other.start()
            other.join(timeout=wait)

    handle = loaded.model.base_model.register_forward_pre_hook(within_the_pass)
    try:
        yield found
    finally:
        handle.remove()
        other.join(timeout=60)
        assert len(found) == 1


class TestForecastAndMeasurement:
    @pytest.mark.parametrize("name", [SMALL, LLAMA])
    def test_the_shift_foretold_is_the_shift_measured(
        self, request: pytest.FixtureRequest, tmp_path: Path, name: str
    ) -> None:
        setting: Setting = request.getfixturevalue("small" if name == SMALL else "llama")
        simulator = setting.simulator(copy_of(setting, tmp_path / "own"))
        c = pipeline.second_moment(setting.result, 1, simulator.store, no_model)
        assert np.linalg.cond(c) < MAX_CONDITION
        inverses = {"rome": np.linalg.inv(c), "r-rome": np.linalg.inv(c), "identity": np.eye(len(c))}
        seen = simulator.sensitivity(1)
        keys, size = seen.subject_keys.astype(np.float64), np.abs(seen.outputs).max()
        for e in range(len(simulator.facts)):
            asked = simulator.request(e, "Nokia", 1, steps=1, mean_key=e % 2 == 0, everywhere=False)
            value = simulator.value(asked)
            for method in editing.RANK_ONE:
                edit = method.edit(value, simulator.whitener(1), 1, asked.how)
                told = forecasts.shift(edit, seen)
                left = value.mean_key if asked.how.mean_key or method.name == "r-rome" else keys[e]
                weighted = left @ inverses[method.name]
                shares = keys @ weighted / (weighted @ (left if method.name == "r-rome" else keys[e]))
                assert_close(told, shares * np.linalg.norm(edit.delta), SHARES)
                found = spillover.measure(setting.loaded, simulator.sentences, edit, seen).shift
                np.testing.assert_allclose(told, found, rtol=SHIFT, atol=SHIFT_FLOOR * size)
                if method.name == "rome":
                    np.testing.assert_array_equal(simulator.forecast(asked, flips=False).shift, told)

    def test_p_is_the_row_of_the_analysis_and_the_share_of_an_edit_of_eq_2(self, shared: Simulator) -> None:
        edit = shared.forecast(asked(shared, layer=2), flips=False)
        np.testing.assert_array_equal(edit.p, shared.result.p[2, 3])
        # keys of the analysis come from the prompt alone, these from the whole sentence
        np.testing.assert_allclose(edit.shares, edit.p, rtol=0, atol=ROUNDING)
        other = shared.forecast(asked(shared, layer=2, method="identity"), flips=False)
        np.testing.assert_array_equal(other.p, edit.p)
        assert np.abs(other.shares - other.p).max() > 0.1

    def test_everything_foretold_scales_with_the_strength(self, shared: Simulator) -> None:
        request = asked(shared)
        told = shared.forecast(request)
        whole = shared.table(told, shared.perform(request))
        half = shared.table(told, shared.perform(request, 0.5))
        for name in ("shift_predicted", "dlogodds_first_order", "dlogodds_all_tokens"):
            np.testing.assert_allclose(half[name], whole[name] / 2, rtol=EXACT)
            assert whole[name].abs().max() > 0
        assert whole["p"].equals(half["p"])
        floor = SHIFT_FLOOR * np.abs(shared.sensitivity(0).outputs).max()
        np.testing.assert_allclose(half["shift_measured"], whole["shift_measured"] / 2, rtol=SHIFT, atol=floor)
        assert np.abs(half["dlogodds_measured"] - whole["dlogodds_measured"] / 2).max() > ROUNDING

    def test_the_table_holds_what_the_records_hold(self, shared: Simulator) -> None:
        request = asked(shared)
        told, outcome = shared.forecast(request), shared.perform(request, 1.5)
        table = shared.table(told, outcome)
        for name, expected in {
            "p": told.p, "shift_predicted": told.shift * 1.5, "shift_measured": outcome.measured.shift,
            "dlogodds_first_order": told.subject_token * 1.5, "dlogodds_all_tokens": told.all_tokens * 1.5,
            "dlogodds_propagated": outcome.propagated, "dlogodds_measured": outcome.measured.log_odds,
            "dlogp_measured": outcome.measured.log_prob,
        }.items():  # fmt: skip
            np.testing.assert_allclose(table[name], expected, rtol=EXACT)
        assert table["answer_after"].tolist() == list(outcome.measured.answers)
        assert table["answer_before"].tolist() == [row[0][0] for row in shared.result.answers]
        assert (table["answer_before"] != table["answer_after"]).tolist() == outcome.flipped.tolist()
        assert table["subject"].tolist() == [fact.subject for fact in shared.facts]

    def test_no_strength_is_no_change(self, shared: Simulator) -> None:
        outcome = shared.perform(asked(shared), 0.0)
        assert not outcome.flipped.any()
        assert not outcome.measured.shift.any()
        for change in (outcome.measured.log_odds, outcome.measured.log_prob, outcome.propagated):
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

    def test_flips_are_those_of_the_logits_to_first_order(self, shared: Simulator) -> None:
        request = shared.request(3, "Nokia", 0)
        told = shared.forecast(request)
        assert told.flips is not None
        logits, change = forecasts.first_order_logits(shared.model, shared.sentences, told.edit)
        for strength in (0.3, 1.0, 1.5):
            first = (logits + strength * change).argmax(dim=1).tolist()
            moved = {j: token for j, token in enumerate(first) if token != int(logits[j].argmax())}
            words = told.flips.by(strength)
            assert set(words) == set(moved)
            for j, token in moved.items():
                assert words[j].startswith(shared.model.tokenizer.decode(token).strip())
        assert 3 in told.flips.by(1.0)

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

    def test_flips_are_the_same_however_many_facts_are_looked_at_at_once(
        self, small: Setting, shared: Simulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = shared.forecast(shared.request(3, "Nokia", 0)).flips
        monkeypatch.setattr(bench, "FLIPS_AT_ONCE", 3)
        again = small.simulator(shared.store)
        found = again.forecast(again.request(3, "Nokia", 0)).flips
        assert whole is not None
        assert found is not None
        assert len(whole.at) > 3
        # three at a time they come in another order, but each fact's own changes stay in theirs
        order = [np.argsort(one.at, kind="stable") for one in (whole, found)]
        for name in ("at", "answer"):
            assert [getattr(whole, name)[k] for k in order[0]] == [getattr(found, name)[k] for k in order[1]]
        strengths = [np.array(one.strength)[at] for one, at in zip((whole, found), order, strict=True)]
        np.testing.assert_allclose(*strengths, rtol=0, atol=ROUNDING)

    def test_scores_and_quality(self, shared: Simulator) -> None:
        request = asked(shared)
        told, outcome = shared.forecast(request), shared.perform(request)
        scores = shared.scores(told, outcome)
        np.testing.assert_array_equal(scores["all tokens"], -told.all_tokens)
        np.testing.assert_array_equal(scores["subject token"], -told.subject_token)
        np.testing.assert_array_equal(scores["propagated"], -outcome.propagated)
        rivals = spillover.rivals.rivals(shared.result, shared.sensitivity(0), told.edit, 3)
        assert list(scores) == ["all tokens", "subject token", "propagated", *rivals]
        expected = spillover.quality(scores, -outcome.measured.log_odds, outcome.flipped, without=3)
        assert shared.quality(told, outcome).equals(expected)
        frame = shared.quality(told, outcome).set_index("forecast")
        others = np.arange(len(shared.facts)) != 3
        line = np.corrcoef(told.all_tokens[others], outcome.measured.log_odds[others])[0, 1]
        assert frame.loc["all tokens", "pearson"] == pytest.approx(line, rel=1e-9)
        assert frame.loc["all tokens", "pearson"] > 0.5, "damage foretold goes with damage measured"


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

    def test_an_edit_is_known_by_its_value_and_gradients(self, small: Setting, store: Store) -> None:
        for kind in ("value", "sensitivity"):
            simulator = small.simulator(store)
            simulator.prepare(asked(simulator))
            assert delete(store, kind) == 1
            assert not small.simulator(store).known(asked(simulator))

    def test_an_edit_is_not_known_without_c(self, small: Setting, store: Store) -> None:
        simulator = small.simulator(store)
        simulator.prepare(asked(simulator))
        delete(store, pipeline.SECOND_MOMENT)
        assert not small.simulator(store).known(asked(simulator))

    def test_another_request_is_another_value(self, simulator: Simulator) -> None:
        request = asked(simulator)
        changed = [
            replace(request, fact=2),
            replace(request, target="Apple"),
            replace(request, layer=1),
            replace(request, method="identity"),
            *(
                replace(request, how=replace(request.how, **{name: value}))
                for name, value in {
                    "steps": 4, "learning_rate": 0.2, "weight_decay": 0.1, "kl": 0.1, "clamp": 2.0,
                    "prefixes": ((1, 5),), "stop_loss": 0.1, "mean_key": True, "everywhere": False, "seed": 7,
                }.items()
            ),
        ]  # fmt: skip
        keys = {simulator.value_key(one) for one in (request, *changed)}
        assert len(keys) == 1 + len(changed)
        assert len(request.how.to_json()) == 10, "all hyper-parameters are varied above"
        assert simulator.value_key(asked(simulator)) == simulator.value_key(request)

    def test_another_seed_has_other_beginnings(self, small: Setting, simulator: Simulator, tmp_path: Path) -> None:
        first, second = (simulator.value(asked(simulator, seed=seed)) for seed in (0, 5))
        assert not np.array_equal(first.mean_key, second.mean_key)
        np.testing.assert_allclose(first.key, second.key, rtol=0, atol=SHARES * np.abs(first.key).max())
        alone = small.simulator(copy_of(small, tmp_path / "alone"))
        assert_same(alone.value(asked(alone, seed=5)), second)

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

    def test_little_is_kept_and_the_numbers_stay(self, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
        request = asked(simulator)
        assert not simulator.performed(request, 1.0)
        assert not simulator.foretold(request)
        told, outcome = simulator.forecast(request), simulator.perform(request)
        assert simulator.performed(request, 1.0)
        assert not simulator.performed(request, 0.5)
        assert simulator.foretold(request)
        assert simulator.perform(request) is outcome
        monkeypatch.setattr(kept, "MOST", 2)
        for target in ("Apple", "Honda"):
            simulator.forecast(asked(simulator, target=target), flips=False)
        assert not simulator.performed(request, 1.0)
        assert not simulator.foretold(request)
        assert_same(simulator.perform(request), outcome)
        assert_same(simulator.forecast(request), told)

    def test_of_a_result_finds_the_model_by_its_name(self, small: Setting, store: Store) -> None:
        simulator = of(small.result, store, device="cpu")
        assert simulator.model.digest() == small.loaded.digest()
        assert_same(
            simulator.forecast(asked(simulator), flips=False),
            small.simulator(Store(store.root)).forecast(asked(simulator), flips=False),
        )


class TestSecondMoment:
    def test_is_read_from_the_store_without_a_model(self, small: Setting, store: Store) -> None:
        for layer in small.result.layers:
            c = pipeline.second_moment(small.result, layer, store, no_model)
            keys = small.simulator(store).sensitivity(layer).subject_keys.astype(np.float64)
            inverse = np.linalg.inv(c)
            p = keys @ inverse @ keys.T
            found = p / np.diag(p)[:, None]
            np.testing.assert_allclose(found, small.result.p[layer], rtol=0, atol=ROUNDING * np.abs(found).max())

    def test_is_found_although_the_text_was_shorter_than_asked_for(self, small: Setting) -> None:
        assert 1000 < small.result.provenance["tokens_counted"] < small.result.provenance["tokens_requested"] == TOKENS

    def test_is_computed_anew_when_it_was_deleted_and_then_kept(self, small: Setting, store: Store) -> None:
        before = pipeline.second_moment(small.result, 1, store, no_model)
        assert delete(store, pipeline.SECOND_MOMENT) == 4
        with pytest.raises(ModelError, match="the model is gone"):
            pipeline.second_moment(small.result, 1, store, no_model)
        loader, told = Loader(small.loaded), []
        again = pipeline.second_moment(small.result, 1, store, loader, lambda *at: told.append(at))
        np.testing.assert_allclose(again, before, rtol=0, atol=EXACT * np.abs(before).max())
        assert loader.calls == 1
        assert {stage for stage, *_ in told} == {"Second moment of the keys"}
        np.testing.assert_array_equal(pipeline.second_moment(small.result, 1, store, no_model), again)

    def test_a_subset_has_that_of_the_whole(self, small: Setting, store: Store) -> None:
        smaller = small.result.subset([4, 2], "two")
        np.testing.assert_array_equal(
            pipeline.second_moment(smaller, 2, store, no_model),
            pipeline.second_moment(small.result, 2, store, no_model),
        )

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


class TestThreads:
    def test_two_edits_at_once_are_as_each_alone(self, small: Setting, tmp_path: Path) -> None:
        wanted = {"one": (3, "Nokia", 0), "other": (5, "Honda", 1)}
        alone = {name: self.edited(small, tmp_path / f"{name} alone", *edit) for name, edit in wanted.items()}
        together: dict[str, list[tuple[Forecast, Outcome]]] = {name: [] for name in wanted}
        begin = threading.Barrier(len(wanted))

        def work(name: str) -> None:
            begin.wait(timeout=60)
            for turn in range(2):
                together[name].append(self.edited(small, tmp_path / f"{name} {turn}", *wanted[name]))

        threads = [threading.Thread(target=work, args=(name,)) for name in wanted]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        for name, turns in together.items():
            assert len(turns) == 2
            for found in turns:
                assert_same(found[0], alone[name][0])
                assert_same(found[1], alone[name][1])

    def edited(self, small: Setting, folder: Path, fact: int, target: str, layer: int) -> tuple[Forecast, Outcome]:
        simulator = small.simulator(copy_of(small, folder))
        request = asked(simulator, fact, target, layer)
        return simulator.forecast(request, flips=False), simulator.perform(request)

    def test_flips_are_foretold_in_two_threads_at_once(self, small: Setting, shared: Simulator) -> None:
        edit = shared.edit(asked(shared))

        def flips() -> Any:
            return forecasts.first_order_logits(small.loaded, shared.sentences, edit)

        expected = flips()
        with meanwhile(small.loaded, flips, wait=0.2) as others:  # it may as well wait for this one to end
            found = flips()
        for one in (found, others[0]):
            assert not isinstance(one, RuntimeError), one
            assert all(torch.equal(a, b) for a, b in zip(one, expected, strict=True))

    def test_a_measurement_is_the_same_while_another_thread_foretells_flips(
        self, small: Setting, shared: Simulator
    ) -> None:
        edit, seen = shared.edit(asked(shared)), shared.sensitivity(0)

        def measured() -> Any:
            return spillover.measure(small.loaded, shared.sentences, edit, seen)

        expected = measured()
        with meanwhile(small.loaded, measured, wait=60) as others:
            forecasts.first_order_logits(small.loaded, shared.sentences, edit)
        assert_same(others[0], expected)

    def test_a_simulator_of_a_result_loads_its_model_once(
        self, small: Setting, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loaded: list[Path] = []

        def load(folder: Path, *, device: str) -> LoadedModel:
            loaded.append(folder)
            time.sleep(0)  # lets the other thread come in
            return small.loaded

        monkeypatch.setattr(loading, "load", load)
        simulator, begin = of(small.result, store, device="cpu"), threading.Barrier(4)
        found: list[LoadedModel] = []

        def work() -> None:
            begin.wait(timeout=60)
            found.append(simulator.model)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert [one is small.loaded for one in found] == [True] * 4
        assert loaded == [catalog.locate(SMALL)]


def test_the_same_edit_twice_gives_equal_numbers(small: Setting, tmp_path: Path) -> None:
    found = []
    for turn in range(2):
        simulator = small.simulator(copy_of(small, tmp_path / f"{turn}"))
        request = asked(simulator)
        found.append((simulator.forecast(request), simulator.perform(request), simulator.value(request)))
    for one, other in zip(*found, strict=True):
        assert_same(one, other)


class TestRequest:
    def test_takes_the_recipe_but_for_what_is_given(self, shared: Simulator) -> None:
        request = shared.request(1, "  French ", 2, "r-rome", steps=7, prefixes=[[1, 4]])
        assert request == EditRequest(
            1, "French", 2, "r-rome", replace(shared.recipe.hyperparameters, steps=7, prefixes=((1, 4),))
        )
        recipe = editing.recipe(SMALL, width=32, layers=4)
        assert shared.recipe == recipe
        assert shared.request(1, "French", 2).method == "rome"

    @pytest.mark.parametrize(
        ("given", "error", "reason"),
        [
            ({"fact": -1}, RequestError, "facts count from 0 to 9; fact -1 was to be edited"),
            ({"fact": 10}, RequestError, "fact 10 was to be edited"),
            ({"layer": 4}, RequestError, "layer 4 was not computed"),
            ({"layer": -1}, RequestError, "layer -1 was not computed"),
            ({"method": "memit"}, EditError, "no method 'memit' for a single edit; there are rome, r-rome, identity"),
            ({"steps": 0}, EditError, "steps from 1 to 1000; 0 were asked for"),
            ({"learning_rate": 0.0}, EditError, "learning rate"),
            ({"kl": float("nan")}, EditError, "KL factor"),
            ({"clamp": -1.0}, EditError, "clamp"),
            ({"prefixes": ((1, 0),)}, EditError, "prefixes"),
        ],
        ids=str,
    )
    def test_refuses(self, shared: Simulator, given: dict[str, Any], error: type[Exception], reason: str) -> None:
        with pytest.raises(error, match=reason):
            asked(shared, **given)

    def test_an_empty_target_is_refused_before_a_search(self, shared: Simulator) -> None:
        with pytest.raises(EditError, match="the new object is empty"):
            shared.value(asked(shared, target="  "))

    def test_only_layers_of_the_analysis(self, small: Setting, store: Store) -> None:
        result = pipeline.run(replace(small.result.request, layers=(2,)), store, device="cpu")
        simulator = Simulator(result, store, lambda: small.loaded)
        with pytest.raises(RequestError, match="layer 0 was not computed; there are 2"):
            asked(simulator, layer=0)
        told = simulator.forecast(asked(simulator, layer=2), flips=False)
        whole = small.simulator(store)
        assert_same(told.edit, whole.forecast(asked(whole, layer=2), flips=False).edit)
        np.testing.assert_array_equal(told.p, result.p[0, 3])


class TestReach:
    def test_by_hand(self, small: Setting, store: Store) -> None:
        simulator = small.simulator(store, no_model)
        for fact in range(len(simulator.facts)):
            assert all(simulator.reaches(fact, layer) for layer in range(LAST))
            assert simulator.reaches(fact, LAST) == (fact == ENDS_WITH_SUBJECT)

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
    def test_progress_is_told_in_stages_and_never_falls(self, simulator: Simulator) -> None:
        told: list[tuple[str, int, int]] = []
        simulator.prepare(asked(simulator), report=lambda *at: told.append(at))
        stages = list(dict.fromkeys(stage for stage, *_ in told))
        assert stages == [stage for stage in EDIT_STAGES if stage != "Second moment of the keys"]
        shares = [overall(*at, EDIT_STAGES) for at in told]
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1.0)
        assert shares[0] == 0
        assert sum(stage == "Searching for the value" for stage, *_ in told) >= STEPS

    def test_progress_never_falls_where_c_has_to_be_computed_anew(self, simulator: Simulator) -> None:
        delete(simulator.store, pipeline.SECOND_MOMENT)
        told: list[tuple[str, int, int]] = []
        simulator.prepare(asked(simulator), report=lambda *at: told.append(at))
        assert set(EDIT_STAGES) == {stage for stage, *_ in told}
        shares = [overall(*at, EDIT_STAGES) for at in told]
        assert shares == sorted(shares)

    def test_cancelled_at_any_stage_it_can_be_done_again(self, small: Setting, simulator: Simulator) -> None:
        told: list[str] = []
        simulator.prepare(asked(simulator), report=lambda stage, *_: told.append(stage))
        value, gradients = simulator.value(asked(simulator)), simulator.sensitivity(0)
        stages = [k for k, stage in enumerate(told) if stage not in told[:k]]
        for at in (*stages, *(k + 1 for k in stages), len(told) - 1):
            delete(simulator.store, "value")
            delete(simulator.store, "sensitivity")
            loader, seen = Loader(small.loaded), []
            fresh = small.simulator(simulator.store, loader)

            def report(stage: str, *_: int, seen: list[str] = seen, at: int = at) -> None:
                seen.append(stage)
                if len(seen) > at:
                    raise Cancelled(stage)

            with pytest.raises(Cancelled):
                fresh.prepare(asked(fresh), report=report)
            assert seen == told[: at + 1]
            assert (loader.calls > 0) == (at > 0), "called off before the model was loaded"
            assert not fresh.known(asked(fresh))
            assert_same(fresh.value(asked(fresh)), value)
            assert_same(fresh.sensitivity(0), gradients)


class TestPerform:
    def test_progress_is_told_in_stages_and_never_falls(self, shared: Simulator) -> None:
        told: list[tuple[str, int, int]] = []
        shared.perform(asked(shared), 0.9, report=lambda *at: told.append(at))
        assert list(dict.fromkeys(stage for stage, *_ in told)) == list(MEASURE_STAGES)
        shares = [overall(*at, MEASURE_STAGES) for at in told]
        assert shares == sorted(shares)
        assert (shares[0], shares[-1]) == (0, pytest.approx(1.0))
        assert (told[0], told[1]) == (("Measuring every fact", 0, 10), ("Measuring every fact", 10, 10))
        assert shared.performed(asked(shared), 0.9)

    def test_cancelled_at_any_report_it_can_be_done_again(self, small: Setting, shared: Simulator) -> None:
        told: list[str] = []
        expected = shared.perform(asked(shared), 0.8, report=lambda stage, *_: told.append(stage))
        for at in range(len(told)):
            seen: list[str] = []

            def report(stage: str, *_: int, seen: list[str] = seen, at: int = at) -> None:
                seen.append(stage)
                if len(seen) > at:
                    raise Cancelled(stage)

            fresh = small.simulator(shared.store)
            with pytest.raises(Cancelled):
                fresh.perform(asked(fresh), 0.8, report=report)
            assert seen == told[: at + 1]
            assert not fresh.performed(asked(fresh), 0.8)
            assert not any(module._forward_hooks for module in small.loaded.model.modules())
        assert_same(fresh.perform(asked(fresh), 0.8), expected)


class TestAdvice:
    def test_of_every_layer(self, shared: Simulator) -> None:
        request, told = asked(shared, layer=1), []
        advice = list(shared.advise(request, report=lambda *at: told.append(at)))
        assert [one.layer for one in advice] == [0, 1, 2, 3]
        assert [one.reaches for one in advice] == [True, True, True, False]
        assert (advice[LAST].efficacy, advice[LAST].flips, advice[LAST].paraphrase) == (False, 0, None)
        assert np.isnan(advice[LAST].damage)
        for one in advice[:LAST]:
            there = replace(request, layer=one.layer)
            success = shared.perform(there).success
            assert (one.efficacy, one.probability, one.paraphrase) == (
                success.efficacy, success.probability_new, success.paraphrase,
            )  # fmt: skip
            flips = shared.forecast(there).flips
            assert flips is not None
            assert one.flips == len(set(flips.by(1.0)) - {3})
            assert one.damage > 0
        assert len({one.damage for one in advice[:LAST]}) == LAST
        assert told == [("Trying the layers", done, 4) for done in range(5)]
        assert {stage for stage, *_ in told} == set(ADVICE_STAGES)

    def test_damage_is_the_mean_size_of_the_others_change(self, shared: Simulator) -> None:
        one, *_ = shared.advise(asked(shared))
        change = np.delete(shared.forecast(asked(shared), flips=False).all_tokens, 3)
        assert 0 < (change < 0).sum() < len(change)
        assert one.damage == pytest.approx(np.abs(change).mean(), rel=EXACT)

    def test_the_last_layer_for_a_prompt_that_ends_with_the_subject(self, shared: Simulator) -> None:
        *_, last = shared.advise(asked(shared, ENDS_WITH_SUBJECT, steps=1))
        assert (last.layer, last.reaches) == (LAST, True)
        assert np.isfinite(last.damage)

    def test_is_called_off_between_layers(self, simulator: Simulator) -> None:
        def report(stage: str, done: int, total: int) -> None:
            if done == 2:
                raise Cancelled(stage)

        advice = simulator.advise(asked(simulator), report=report)
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
        told, found = smaller.forecast(there), smaller.perform(there)
        assert_same(told.edit, whole.edit)
        kept = list(self.KEPT)
        np.testing.assert_array_equal(told.p, whole.p[kept])
        for name in ("shares", "shift", "subject_token", "all_tokens"):
            expected = getattr(whole, name)
            # other batches, so other roundings of the keys and gradients
            np.testing.assert_allclose(getattr(told, name), expected[kept], rtol=0, atol=1e-5 * np.abs(expected).max())
        np.testing.assert_allclose(found.measured.log_odds, outcome.measured.log_odds[kept], rtol=0, atol=ROUNDING)
        assert found.measured.answers == tuple(outcome.measured.answers[k] for k in kept)
        assert found.success.probability_new == pytest.approx(outcome.success.probability_new, rel=ROUNDING)

    def test_finds_the_value_of_the_whole_without_a_model(self, small: Setting, shared: Simulator) -> None:
        request = asked(shared)
        expected = shared.value(request)
        smaller = Simulator(small.result.subset(self.KEPT, "four"), shared.store, no_model)
        assert_same(smaller.value(asked(smaller, self.KEPT.index(3))), expected)

    def test_of_one_fact(self, small: Setting, shared: Simulator) -> None:
        alone = Simulator(small.result.subset([3], "one"), shared.store, lambda: small.loaded)
        request = asked(alone, 0)
        told, outcome = alone.forecast(request), alone.perform(request)
        assert told.shares == pytest.approx([1.0], rel=SHARES)
        frame = alone.quality(told, outcome)
        assert (frame["facts"] == 0).all()
        assert frame[["spearman", "pearson", "auc"]].isna().all(axis=None)
        advice, *_ = alone.advise(request)
        assert np.isnan(advice.damage)
        assert advice.flips == 0
