"""Fixtures of the unit tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kis_core.models.loading import LoadedModel
from kis_core.store import Store
from tests import tiny


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
