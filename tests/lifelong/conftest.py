"""Analysed models that the tests of sequences of edits share; each of them works on a copy of the store."""

from __future__ import annotations

import pytest

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
