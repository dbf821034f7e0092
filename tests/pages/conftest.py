"""Pages run against one cache that already holds the smallest demo model's result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from kis_core import pipeline
from kis_core.pipeline import Request, Result
from kis_core.store import Store

ROOT = Path(__file__).resolve().parents[2]
MODEL = "demo-gpt2-32"
SECONDS = 30

Open = Callable[..., AppTest]


@pytest.fixture(scope="session")
def computed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("pages-cache")
    return folder, pipeline.run(Request(model=MODEL), Store(folder))


@pytest.fixture
def result(computed: tuple[Path, Result]) -> Result:
    return computed[1]


@pytest.fixture
def open_page(computed: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Run a page with a link's query; the caches of the process are this test's own."""
    monkeypatch.setenv("KIS_CACHE", str(computed[0]))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # a page's run leaves itself there
    st.cache_resource.clear()

    def opened(script: str, **query: str) -> AppTest:
        page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
        if script != "app.py":
            page.switch_page(script)
        for name, value in {"model": MODEL, **query}.items():
            page.query_params[name] = value
        return page.run()

    yield opened
    st.cache_resource.clear()
