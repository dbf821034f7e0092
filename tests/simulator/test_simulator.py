"""The edit simulator on demo models: forecasts, measurements, flips, and how good the forecasts are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from kis_core import editing, spillover
from kis_core.analysis import pipeline
from kis_core.editing import rank_one
from kis_core.models.loaded import LoadedModel
from kis_core.scoring import answers
from kis_core.simulator import Simulator, one_edit
from kis_core.spillover import forecast as forecasts
from tests.simulator.simulator_tools import (
    EXACT,
    FACTS,
    LLAMA,
    ROUNDING,
    SHARES,
    SMALL,
    Setting,
    analysed,
    asked,
    copy_of,
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
    return analysed(LLAMA, FACTS[2:7], tmp_path_factory.mktemp("llama"))


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Within a share of the largest expected entry."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


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
        assert not edit.own_key

    def test_a_mean_key_that_has_nothing_of_the_own_gives_way_and_it_is_told(
        self, shared: Simulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rank_one, "agrees", lambda *_: False)
        told = shared.forecast(asked(shared, layer=1, mean_key=True, seed=77), flips=False)
        assert told.own_key
        np.testing.assert_allclose(told.shares, told.p, rtol=0, atol=ROUNDING)
        assert shared.warnings(told)[0].startswith("The mean key over contexts has next to nothing")

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
            "p": told.p, "share": told.shares,
            "shift_predicted": told.shift * 1.5, "shift_measured": outcome.measured.shift,
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
        monkeypatch.setattr(one_edit, "FLIPS_AT_ONCE", 3)
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
