"""What stands beside an edit: which edits reach far, and results without their model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kis_core.facts import FactFileError, FactSet, saved
from kis_core.request import Request
from kis_core.results import archive
from kis_core.results.pairs import reach_of_edits
from kis_core.store.store import Store, key_of
from tests.results.results_tools import made
from tests.simulator.edit_frame_tools import NAN, ROUNDING, P


def test_the_reach_of_edits_by_hand() -> None:
    first = np.array([[1.0, 0.3, -0.4, 0.0], [0.05, 1.0, -0.09, 0.0], [0.1, -0.1, 1.0, 0.7], [0.0, 0.0, 0.0, 1.0]])
    zero_key = np.array([[1.0, 0.3, NAN, 0.0], [0.5, 1.0, NAN, 0.0], [NAN] * 4, [0.0, 0.0, NAN, 1.0]])
    result = made(np.stack([first, zero_key]), layers=(3, 8), subjects=["a", "b", "c", "d"])
    frame = reach_of_edits(result, 3)
    assert frame.columns.tolist() == ["i", "j", "edited", "suffers", "reach", "p", "leaks"]
    assert frame["i"].tolist() == [2, 0, 1, 3]
    assert frame["j"].tolist()[:3] == [3, 2, 2], "the one it hits hardest, whatever the sign"
    assert frame["p"].tolist() == [0.7, -0.4, -0.09, 0.0]
    reach = [np.sqrt(0.01 + 0.01 + 0.49), 0.5, np.sqrt(0.05**2 + 0.09**2), 0.0]
    np.testing.assert_allclose(frame["reach"], reach, rtol=ROUNDING)
    assert frame["leaks"].tolist() == [3, 2, 0, 0], "0.1 and more counts, on either side of zero"
    assert frame["edited"].tolist() == ["c → land 2", "a → land 0", "b → land 1", "d → land 3"]
    assert frame["suffers"].tolist()[:3] == ["d → land 3", "c → land 2", "c → land 2"]
    frame = reach_of_edits(result, 8)
    assert frame[["i", "reach"]].to_numpy().tolist() == [[1, 0.5], [0, 0.3], [3, 0.0]], "a fact of key zero is left out"
    np.testing.assert_array_equal(result.p, np.stack([first, zero_key]), "and the result stays as it is")
    assert reach_of_edits(made(np.ones((1, 40, 40))), 0)["i"].tolist() == list(range(40)), "equal ones keep their order"


def facts_of(facts: FactSet, folder: Path) -> str:
    """A fact file of that folder with the same facts, by another name."""
    return str(saved.path_of(folder, saved.save(folder, FactSet("mine", facts.facts))))


def keep(store: Store, *layers: int, **asked: Any) -> None:
    """Store a result that was asked for so."""
    p = np.repeat(np.nan_to_num(P), len(layers), axis=0)  # a NaN is stored for whole rows alone, those of zero keys
    result = made(p, layers=layers)
    request = replace(result.request, **({"layers": None} | asked))
    fields = {name: getattr(request, name) for name in Request.__dataclass_fields__}
    entry = archive.to_entry(replace(result, request=request, provenance=result.provenance | {"request": fields}))
    store.put(key_of(archive.KIND, {"layers": list(layers)} | asked), entry.meta, entry.arrays)


def test_a_result_without_its_model_is_found_by_model_facts_and_text(store: Store, tmp_path: Path) -> None:
    wanted = Request(model="gpt2", facts=facts_of(made(P).facts, tmp_path))
    assert archive.without_model(wanted, store) is None, "of an empty store"
    for layers in ((1,), (0, 1, 2), (0, 2)):
        keep(store, *layers, model="gpt2", facts="/elsewhere/known.csv")
    result = archive.without_model(wanted, store)
    assert result is not None
    assert result.layers == (0, 1, 2), "that with most layers"
    assert result.facts.facts == made(P).facts.facts
    np.testing.assert_array_equal(result.p[0], np.nan_to_num(P)[0])
    others = facts_of(made(np.eye(3)[None]).facts, tmp_path)
    assert archive.without_model(replace(wanted, facts=others), store) is None
    with pytest.raises(FactFileError, match="No fact file"):
        archive.without_model(replace(wanted, facts="/nowhere.csv"), store)
