"""Analysed models that the tests of sequences of edits share; each of them works on a copy of the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from kis_core.simulator import Simulator
from tests.lifelong import lifelong_tools as tools


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tools.Setting:
    """A demo model: edits are drawn from the fact base."""
    return tools.analysed(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> tools.Setting:
    """A model of which nothing but the facts looked at is known; two of them are about one subject."""
    folder = tmp_path_factory.mktemp("stranger")
    return tools.analysed(folder, tools.copied(folder))


@pytest.fixture(scope="module")
def shared(demo: tools.Setting, tmp_path_factory: pytest.TempPathFactory) -> Simulator:
    """A simulator for all tests of a file."""
    return demo.bench(tmp_path_factory.mktemp("shared") / "store")


@pytest.fixture
def bench(demo: tools.Setting, tmp_path: Path) -> Simulator:
    """A simulator on a store that holds no run."""
    return demo.bench(tmp_path / "store")
