"""What many tests share: a cache folder each, no network, one thread, and the shared data where present."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before any import of transformers: tests never touch the network
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: for tiny models on busy cores a second thread only waits

import torch

from kis_core.models.loaded import LoadedModel
from kis_core.store import Store
from tests import tiny

SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real facts and tokenizers beside the project; the test is skipped where they are not."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no shared data beside the project")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test computes into its own cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("KIS_CACHE", str(folder))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture(params=tiny.ARCHITECTURES, scope="module")
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    """A tiny model of each architecture."""
    return tiny.model(request.param)


@pytest.fixture
def gpt2() -> LoadedModel:
    """A model of its own for tests that damage it."""
    return tiny.model("GPT-2")


@pytest.fixture
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 folder; tests that change it work on a copy."""
    return tiny.save("GPT-2", tmp_path_factory.mktemp("models") / "gpt2")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "gpt2"))
