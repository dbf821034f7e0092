"""The model that all sessions share is loaded as its result was asked for."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kis_core.analysis import pipeline
from kis_core.models import loading
from kis_core.request import Request
from pages.parts.edit import simulator as part
from tests.results.results_tools import made


def test_models_in_two_kinds_of_arithmetic_are_two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: Any, **how: Any) -> Any:
        return SimpleNamespace(**how)

    monkeypatch.setattr(loading, "load", load)
    monkeypatch.setattr(pipeline, "weights_fingerprint", lambda *_: "of a test")
    monkeypatch.setattr(part, "store", lambda: None)
    whole = made(np.eye(3)[None])
    whole = replace(whole, provenance=whole.provenance | {"weights_sha256": "of a test"})
    make = part._simulator.__wrapped__  # type: ignore[attr-defined]
    for dtype in ("bfloat16", "float32"):
        simulator = make((), replace(whole, request=Request(dtype=dtype)))
        assert vars(simulator.model) == {"device": "auto", "dtype": dtype}
