"""What stands beside an edit: which edits reach far, when answers flip, and results without their model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kis_core.facts import FactFileError, FactSet, saved
from kis_core.request import Request
from kis_core.results import archive
from kis_core.results.pairs import NOTABLE, reach_of_edits
from kis_core.results.result import Result
from kis_core.simulator import FlipForecast
from kis_core.store.store import Store, key_of
from tests.results.results_tools import made
from tests.simulator.edit_frame_tools import NAN, ROUNDING, P

STORED = np.nan_to_num(P)  # a NaN is stored for whole rows alone, those of zero keys


class TestReachOfEdits:
    def test_by_hand(self) -> None:
        p = np.array([[1.0, 0.3, -0.4, 0.0], [0.05, 1.0, -0.09, 0.0], [0.1, -0.1, 1.0, 0.7], [0.0, 0.0, 0.0, 1.0]])
        found = reach_of_edits(made(p[None], subjects=["a", "b", "c", "d"]), 0)
        assert found.columns.tolist() == ["i", "j", "edited", "suffers", "reach", "p", "leaks"]
        assert found.index.tolist() == [0, 1, 2, 3]
        assert found["i"].tolist() == [2, 0, 1, 3]
        assert found["j"].tolist()[:3] == [3, 2, 2], "the one it hits hardest, whatever the sign"
        assert found["p"].tolist() == [0.7, -0.4, -0.09, 0.0]
        reach = [np.sqrt(0.01 + 0.01 + 0.49), 0.5, np.sqrt(0.05**2 + 0.09**2), 0.0]
        np.testing.assert_allclose(found["reach"], reach, rtol=ROUNDING)
        assert found["leaks"].tolist() == [3, 2, 0, 0], f"{NOTABLE} and more counts, on either side of zero"
        assert found["edited"].tolist() == ["c → land 2", "a → land 0", "b → land 1", "d → land 3"]
        assert found["suffers"].tolist()[:3] == ["d → land 3", "c → land 2", "c → land 2"]

    def test_a_layer_is_asked_for_by_its_number(self) -> None:
        result = made(np.stack([np.array([[1.0, 0.5], [0.2, 1.0]]), np.array([[1.0, 0.1], [0.2, 1.0]])]), layers=(3, 8))
        assert reach_of_edits(result, 3)["i"].tolist() == [0, 1]
        assert reach_of_edits(result, 8)["i"].tolist() == [1, 0]

    def test_a_fact_whose_key_is_zero_is_left_out_and_hits_nobody(self) -> None:
        p = np.array([[1.0, 0.3, NAN], [0.2, 1.0, NAN], [NAN, NAN, NAN]])
        found = reach_of_edits(made(p[None]), 0)
        assert found[["i", "j", "reach", "p", "leaks"]].to_numpy().tolist() == [
            [0, 1, 0.3, 0.3, 1], [1, 0, 0.2, 0.2, 1],
        ]  # fmt: skip

    def test_equal_reach_keeps_the_facts_in_order(self) -> None:
        assert reach_of_edits(made(np.ones((1, 40, 40))), 0)["i"].tolist() == list(range(40))

    def test_the_result_stays_as_it_is(self) -> None:
        result = made(P)
        before = result.p.copy()
        reach_of_edits(result, 0)
        np.testing.assert_array_equal(result.p, before)

    @pytest.mark.parametrize(("p", "rows"), [(np.ones((1, 1, 1)), 1), (np.full((1, 3, 3), NAN), 0)])
    def test_of_a_single_fact_or_none(self, p: np.ndarray, rows: int) -> None:
        found = reach_of_edits(made(p), 0)
        assert found["reach"].tolist() == [0.0] * rows


class TestFlipForecast:
    FLIPS = FlipForecast((4, 7, 4, 9), (0.25, 0.0, 0.5, 1.5), ("early", "at once", "late", "last"))

    @pytest.mark.parametrize(
        ("strength", "told"),
        [
            (0.0, {7: "at once"}),
            (0.249, {7: "at once"}),
            (0.25, {7: "at once", 4: "early"}),
            (0.5, {7: "at once", 4: "late"}),
            (1.49, {7: "at once", 4: "late"}),
            (1.5, {7: "at once", 4: "late", 9: "last"}),
        ],
    )
    def test_the_last_change_up_to_a_strength_is_told(self, strength: float, told: dict[int, str]) -> None:
        assert self.FLIPS.by(strength) == told

    def test_of_changes_at_once_the_last_is_told(self) -> None:
        assert FlipForecast((4, 4, 4), (0.25, 0.5, 0.5), ("early", "one", "two")).by(0.5) == {4: "two"}

    def test_where_nothing_changes_nothing_is_told(self) -> None:
        assert FlipForecast((), (), ()).by(1.5) == {}

    def test_what_does_not_belong_together_is_refused(self) -> None:
        with pytest.raises(ValueError, match="zip"):
            FlipForecast((0, 1), (0.5,), ("a", "b")).by(1.0)


class TestWithoutModel:
    """A result found in the store by what its request names, though the model is not here."""

    @pytest.fixture
    def facts(self, tmp_path: Path) -> str:
        """A fact file with the facts of all results here, by another name."""
        return self.file_of(made(P).facts, tmp_path)

    @staticmethod
    def file_of(facts: FactSet, folder: Path) -> str:
        name = saved.save(folder, FactSet("mine", facts.facts))
        return str(saved.path_of(folder, name))

    @staticmethod
    def keep(store: Store, layers: Sequence[int] = (0,), p: np.ndarray = STORED, **asked: Any) -> Result:
        result = made(np.repeat(p, len(layers), axis=0), layers=layers)
        request = replace(result.request, **({"layers": None} | asked))
        fields = {name: getattr(request, name) for name in Request.__dataclass_fields__}
        result = replace(result, request=request, provenance=result.provenance | {"request": fields})
        entry = archive.to_entry(result)
        store.put(key_of(archive.KIND, {"layers": list(layers)} | asked), entry.meta, entry.arrays)
        return result

    def test_it_is_found_by_model_facts_text_and_tokens(self, store: Store, facts: str) -> None:
        kept = self.keep(store, model="gpt2", facts="/elsewhere/known.csv")
        found = archive.without_model(Request(model="gpt2", facts=facts), store)
        assert found is not None
        assert found.request == kept.request
        assert found.facts.facts == kept.facts.facts
        np.testing.assert_array_equal(found.p, kept.p)

    def test_of_several_that_with_most_layers_is_found(self, store: Store, facts: str) -> None:
        for layers in ((1,), (0, 1, 2), (0, 2)):
            self.keep(store, layers, model="gpt2")
        found = archive.without_model(Request(model="gpt2", facts=facts), store)
        assert found is not None
        assert found.layers == (0, 1, 2)

    @pytest.mark.parametrize(
        "other", [{"model": "gpt2-large"}, {"tokens": 5}, {"corpus": "mine.txt"}, {"revision": "0" * 40}], ids=str
    )
    def test_another_one_is_not_taken_for_it(self, other: dict[str, Any], store: Store, facts: str) -> None:
        wanted = Request(model="gpt2", facts=facts)
        self.keep(store, **{"model": "gpt2"} | other)
        assert archive.without_model(wanted, store) is None
        assert archive.without_model(replace(wanted, **other), store) is not None

    def test_that_of_other_facts_is_not_taken_for_it(self, store: Store, tmp_path: Path) -> None:
        self.keep(store, model="gpt2")
        others = self.file_of(made(np.eye(3)[None]).facts, tmp_path)
        assert archive.without_model(Request(model="gpt2", facts=others), store) is None

    def test_in_an_empty_store_there_is_none(self, store: Store, facts: str) -> None:
        assert archive.without_model(Request(model="gpt2", facts=facts), store) is None

    def test_facts_that_are_not_there_are_named(self, store: Store) -> None:
        with pytest.raises(FactFileError, match="No fact file"):
            archive.without_model(Request(model="gpt2", facts="/nowhere.csv"), store)
