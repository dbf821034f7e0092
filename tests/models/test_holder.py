"""Models that are lent: each is loaded once, the one asked for longest ago is let go, and a large one stays alone."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kis_core.models import loading
from kis_core.models.files import ModelFiles
from kis_core.models.holder import LoadedModels

PARAMETERS = {"small": 10, "other": 10, "third": 10, "large": 1000}
MOST = 100  # bytes: two of the small ones in float32, and no third


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that are loaded, by name, as they are."""
    found: list[str] = []

    def load(files: ModelFiles, *, device: str, dtype: str) -> Any:
        found.append(files.name)
        return SimpleNamespace(device="cpu" if device == "auto" else device, dtype=dtype, name=files.name)

    monkeypatch.setattr(loading, "load", load)
    monkeypatch.setattr(gc, "collect", lambda: 0)  # it takes half a second
    monkeypatch.setattr(ModelFiles, "parameters", lambda files: PARAMETERS[files.name])
    return found


def lent(models: LoadedModels, name: str, device: str = "auto", dtype: str = "float32") -> Any:
    return models.lend(f"sha of {name}", lambda: ModelFiles(Path(name)), device=device, dtype=dtype)


@pytest.mark.parametrize(
    ("asked", "loaded"),
    [
        (["small", "small"], ["small"]),
        (["small", "other", "small", "other"], ["small", "other"]),
        (["small", "other", "small", "third", "small", "other"], ["small", "other", "third", "other"]),
        (["large", "large", "small", "large"], ["large", "small", "large"]),
    ],
)
def test_what_is_held_is_lent_again(loads: list[str], asked: list[str], loaded: list[str]) -> None:
    models = LoadedModels(MOST)
    assert [lent(models, name).name for name in asked] == asked
    assert loads == loaded


def test_where_it_runs_and_what_it_computes_in_count(loads: list[str]) -> None:
    models = LoadedModels(1000)
    anywhere = lent(models, "small")
    assert lent(models, "small", "cpu") is anywhere, "auto chose the processor"
    assert lent(models, "small", "cuda:1") is not anywhere
    assert lent(models, "small", dtype="bfloat16") is not anywhere
    assert lent(models, "small") is anywhere
    assert len(loads) == 3


def test_room_is_made_before_the_next_is_loaded(loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    models, held = LoadedModels(MOST), []
    lent(models, "large")
    load = loading.load
    monkeypatch.setattr(
        loading, "load", lambda *args, **named: (held.append(len(models._held)), load(*args, **named))[1]
    )
    lent(models, "small")
    assert held == [0]


def test_threads_that_want_the_same_wait_for_one_load(loads: list[str]) -> None:
    models, begin = LoadedModels(MOST), threading.Barrier(4)

    def work(_: int) -> Any:
        begin.wait(timeout=60)
        return lent(models, "small")

    with ThreadPoolExecutor(4) as pool:
        assert len({id(held) for held in pool.map(work, range(4))}) == 1
    assert loads == ["small"]
