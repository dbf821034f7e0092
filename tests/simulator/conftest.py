"""An analysed demo model that the tests of the simulator share; each works on a copy of the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kis_core.simulator import Simulator
from kis_core.store.store import Store
from tests.simulator import simulator_tools as tools


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> tools.Setting:
    return tools.analysed(tmp_path_factory.mktemp("small"), tools.SMALL, tools.FACTS, texts=80)


@pytest.fixture(scope="module")
def shared(small: tools.Setting, tmp_path_factory: pytest.TempPathFactory) -> Simulator:
    """For tests of numbers, which need no store of their own."""
    return small.simulator(tools.copy_of(small, tmp_path_factory.mktemp("shared") / "store"))


@pytest.fixture
def store(small: tools.Setting, tmp_path: Path) -> Store:
    """As it was after the analysis: it holds every C, and no value yet."""
    return tools.copy_of(small, tmp_path / "store")


@pytest.fixture
def simulator(small: tools.Setting, store: Store) -> Simulator:
    return small.simulator(store)


@pytest.fixture
def weights_stay(small: tools.Setting) -> Iterator[None]:
    """After every test: the same bits in every weight, and no hook."""
    before = small.loaded.digest()
    yield
    assert small.loaded.digest() == before
    assert not any(module._forward_hooks for module in small.loaded.model.modules())
