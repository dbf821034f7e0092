"""The whole way for every architecture: from an id typed on the page of models to its heatmap, and to an edit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kis_core.analysis import unfinished
from kis_core.corpora import BUILTIN_NAME
from kis_core.facts import FactSet, saved
from kis_core.jobs import State
from kis_core.results import archive
from kis_core.store.store import Store
from pages.parts.edit import simulator
from pages.parts.jobs import results
from pages.parts.jobs.model_card import PAPER
from tests import tiny
from tests.pages.conftest import MIXED, Open, fact_sets
from tests.pages.edit_tools import DONE
from tests.pages.looking import PATIENCE, captions, charts, click, finish, html, press
from tests.pages.small_hub import Hub

EDITED = ("OPT, norm after", "Gemma 3 with images")
TOKENS = 2_000
LAYERS = 3  # of every tiny model


@pytest.mark.usefixtures("quick")
@pytest.mark.stress
@pytest.mark.parametrize("architecture", tiny.EVERY_ARCHITECTURE)
def test_from_the_button_to_the_heatmap(
    architecture: str, open_page: Open, hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"someone/tiny-{architecture.lower().replace(' ', '-').replace(',', '')}"
    saved.save(folder, FactSet("mixed", fact_sets()["mixed"]))
    hub.folders[name] = tiny.save(architecture, tmp_path / "model")
    page = open_page("pages/models.py", facts="mixed")
    page.text_input(key="typed-model").set_value(name).run()
    page.segmented_control(key=f"amount-{name}-cpu").set_value(PAPER).run()
    page.selectbox(key=f"corpus-{name}-False").set_value(BUILTIN_NAME).run()
    page.number_input(key=f"tokens-{name}-True").set_value(TOKENS).run()
    assert not hub.downloads
    press(page, "Compute")
    assert [(job.state, job.error) for job in finish()] == [(State.DONE, None)]
    assert hub.downloads == [name]
    page.run()
    assert page.query_params["model"] == name

    link = {key: page.query_params[key] for key in ("model", "behind")}
    page = open_page("pages/superposition.py", facts="mixed", layer=str(LAYERS - 1), **link)
    assert not page.error
    click(page, charts(page)[0], cell=[{"r": 4, "c": 8}])
    i, j = (int(part) for part in page.query_params["pair"].split("-"))
    store = Store(folder)
    (computed,) = archive.computed(store)
    result = archive.read(computed.key, store)
    assert result is not None
    assert result.p.shape == (LAYERS, MIXED, MIXED)
    assert np.isfinite(result.p).all()
    assert f"{result.p[-1, i, j]:+.3f}" in html(page)
    assert computed.request.tokens == TOKENS
    assert unfinished.unfinished(store) == []

    if architecture in EDITED:
        monkeypatch.setattr(simulator, "QUICK", PATIENCE)
        monkeypatch.setattr(results, "START_BY_ITSELF", 10**6)
        edit = {"pair": f"{i}-{j}", "target": "French", "how": "steps:3", "performed": "yes"}
        page = open_page("pages/edit.py", facts="mixed", layer="0", **link, **edit)
        assert not page.error
        assert DONE in html(page) + captions(page)
