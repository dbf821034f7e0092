"""A result's model is loaded as the result was asked for."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kis_core.analysis import pipeline
from kis_core.models import catalog, loading
from kis_core.request import Request
from kis_core.simulator import files
from kis_core.store.store import Store
from tests.results.results_tools import made


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_in_the_arithmetic_of_the_request_and_once(store: Store, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    asked: list[tuple[Any, ...]] = []

    model = SimpleNamespace(device="cpu")

    def load(folder: Any, **how: Any) -> Any:
        asked.append((folder, how))
        return model

    monkeypatch.setattr(loading, "load", load)
    monkeypatch.setattr(pipeline, "weights_fingerprint", lambda *_: made(np.eye(3)[None]).provenance["weights_sha256"])
    result = replace(made(np.eye(3)[None]), request=Request(dtype=dtype))
    simulator = files.of(result, store, device="cpu")
    assert not asked
    assert [simulator.model, simulator.model] == [model] * 2
    assert asked == [(catalog.locate(catalog.DEFAULT), {"device": "cpu", "dtype": dtype})]
