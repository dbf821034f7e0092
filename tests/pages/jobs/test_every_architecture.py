"""The whole way for every architecture: from an id typed on the page of models to its heatmap, and to an edit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kis_core.analysis import unfinished
from kis_core.facts import FactSet, saved
from kis_core.jobs import State
from kis_core.results import archive
from kis_core.store.store import Store
from pages.parts.edit import simulator
from pages.parts.jobs import results
from tests import tiny
from tests.pages.conftest import MIXED, Open, fact_sets
from tests.pages.edit_tools import DONE
from tests.pages.looking import captions, charts, click, html
from tests.pages.small_hub import PATIENCE, Hub, finish, plan, press

EDITED = ("OPT, norm after", "Gemma 3 with images")
TOKENS = 2_000
LAYERS = 3  # of every tiny model


@pytest.fixture
def own_cache_of_pages(open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("KIS_CACHE", str(folder))
    saved.save(folder, FactSet("mixed", fact_sets()["mixed"]))
    return folder


def name_of(architecture: str) -> str:
    return f"someone/tiny-{architecture.lower().replace(' ', '-').replace(',', '')}"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("architecture", tiny.in_full(tiny.EVERY_ARCHITECTURE, ("Llama", *EDITED)))
def test_from_the_button_to_the_heatmap(
    architecture: str,
    open_page: Open,
    hub: Hub,
    own_cache_of_pages: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = name_of(architecture)
    hub.folders[name] = tiny.save(architecture, tmp_path / "model")
    page = plan(open_page("pages/models.py", facts="mixed"), name, tokens=TOKENS)
    assert not page.exception
    assert not hub.downloads
    press(page, "Compute")
    assert [(one.state, one.error) for one in finish()] == [(State.DONE, None)]
    assert hub.downloads == [name]
    page.run()
    assert page.query_params["model"] == name

    link = {key: page.query_params[key] for key in ("model", "behind")}
    page = open_page("pages/superposition.py", facts="mixed", layer=str(LAYERS - 1), **link)
    assert not page.exception
    assert not page.error
    click(page, charts(page)[0], cell=[{"r": 4, "c": 8}])
    i, j = (int(part) for part in page.query_params["pair"].split("-"))
    store = Store(own_cache_of_pages)
    (found,) = archive.computed(store)
    result = archive.read(found.key, store)
    assert result is not None
    assert result.p.shape == (LAYERS, MIXED, MIXED)
    assert np.isfinite(result.p).all()
    assert f"{result.p[-1, i, j]:+.3f}" in html(page)
    assert found.request.tokens == TOKENS
    assert unfinished.unfinished(store) == []

    if architecture in EDITED:
        monkeypatch.setattr(simulator, "QUICK", PATIENCE)
        monkeypatch.setattr(results, "START_BY_ITSELF", 10**6)
        edit = {"pair": f"{i}-{j}", "target": "French", "how": "steps:3", "performed": "yes"}
        page = open_page("pages/edit.py", facts="mixed", layer="0", **link, **edit)
        assert not page.exception
        assert not page.error
        assert DONE in html(page) + captions(page)
