"""The text behind C: in the link of a model of the Hub, chosen where there are several; results of models not here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from kis_core import corpora
from kis_core.analysis import pipeline
from kis_core.facts import FactSet, saved
from kis_core.request import Request
from kis_core.results import archive
from kis_core.store.store import Store, key_of
from pages.parts.jobs import background, results
from tests import tiny
from tests.pages.conftest import FEWER_TOKENS, NOT_COMPUTED, SCRIPTS, Cache, Open, fact_sets
from tests.pages.looking import charts, choose, labels, markdown, notes, provenance, unescaped
from tests.pages.small_hub import Hub

UNKNOWN, FOLDER = "someone/unknown-7b", "/home/someone/models/own *7b*"
FULL = {"corpus": "wikipedia", "tokens": None, "documents": 100_000}
LESS = {"corpus": "/data/my text.txt", "tokens": None, "documents": 10, "dtype": "bfloat16"}
WITHOUT_P = {"pages/models.py", "pages/library.py", "pages/your_facts.py", "pages/lifelong.py", "pages/many_facts.py"}
pytestmark = pytest.mark.usefixtures("quick", "hub", "imported")


@pytest.fixture
def imported(cache: Cache, folder: Path) -> Store:
    """A cache of this test's own with results of two models that are not here, each over two texts."""
    source, store = Store(cache.folder), Store(folder)
    saved.save(folder, FactSet("three", fact_sets()["three"]))
    for model in (UNKNOWN, FOLDER):
        for way, tokens in ((FULL, 100_000), (LESS, FEWER_TOKENS[0])):
            entry = source.get(pipeline.resolve(cache.request(tokens=tokens), source).key)
            assert entry is not None
            origin: dict[str, Any] = entry.meta["provenance"]
            asked = {**origin["request"], **way, "model": model, "facts": "builtin"}
            text = corpora.load(way["corpus"]).fingerprint if way is FULL else origin["corpus_sha256"]
            changed = {"request": asked, "model": model, "family": "Else", "parameters": 7 * 10**9}
            changed |= {"corpus": way["corpus"], "corpus_sha256": text}
            key = key_of(archive.KIND, {"model": model, "tokens": tokens})
            store.put(key, entry.meta | {"provenance": origin | changed}, entry.arrays)
    return store


def behind(page: AppTest) -> Any:
    return page.selectbox(key="choose-behind")


def metrics(page: AppTest) -> list[str]:
    return [metric.value for metric in page.metric]


@pytest.mark.parametrize("model", tiny.in_full((UNKNOWN, FOLDER), (FOLDER,)))
@pytest.mark.parametrize("script", tiny.in_full(SCRIPTS, ("app.py", "pages/edit.py", "pages/convergence.py")))
def test_a_result_of_a_model_that_is_not_here_opens(script: str, model: str, open_page: Open, hub: Hub) -> None:
    page = open_page(script, model=model)
    assert page.selectbox(key="choose-model").value == model
    assert not notes(page)
    assert model not in markdown(page), "its marks are disarmed"
    assert bool(provenance(page)) == (script not in WITHOUT_P)
    assert not hub.downloads
    assert not background.runner().jobs(), "nothing begins by itself"
    if script == "pages/convergence.py":
        assert len(charts(page)) >= 2, "of a text taken whole what needs no more than the result is drawn"
        assert len(page.warning) <= 1, "that the model is not here is told once"


def test_of_several_texts_the_fullest_is_shown_and_another_can_be_chosen(open_page: Open, imported: Store) -> None:
    page = open_page("app.py", model=UNKNOWN)
    full, less = Request(UNKNOWN, **FULL), Request(UNKNOWN, **LESS)
    assert behind(page).options == ["wikipedia · 100,000 documents", "my text.txt · 10 documents · bfloat16"]
    assert page.query_params["behind"] == "corpus:wikipedia~tokens:all~documents:100000"
    by_text = {result.request.corpus: archive.read(result.key, imported) for result in archive.computed(imported)}
    for request in (less, full):
        page.run()
        behind(page).set_value([full.c_settings, less.c_settings].index(request.c_settings)).run()
        result = by_text[request.corpus]
        assert result is not None
        moments = result.reports[0].moments
        assert metrics(page)[:2] == [f"{moments.mean:+.3f}", f"{moments.std:.3f}"]
        assert page.session_state["chosen"]["behind"] == request.c_settings
    assert not np.array_equal(by_text[full.corpus].p, by_text[less.corpus].p)  # type: ignore[union-attr]


def test_the_link_opens_the_same_text_elsewhere_and_another_model_forgets_it(open_page: Open) -> None:
    page = open_page("app.py", model=UNKNOWN)
    behind(page).set_value(1).run()
    again = open_page("app.py", **{name: page.query_params[name] for name in ("model", "behind")})
    assert not notes(again)
    assert behind(again).value == 1
    assert metrics(again) == metrics(page)
    choose(page, "model", FOLDER)
    assert behind(page).value == 0, "the fullest of the other model"
    choose(page, "model", NOT_COMPUTED)
    assert "behind" not in page.query_params
    assert "choose-behind" not in [box.key for box in page.selectbox]


@pytest.mark.parametrize("text", ["corpus:/etc/passwd", "corpus:..%2F..%2Fetc"])
def test_a_link_names_no_text_that_was_never_met(text: str, open_page: Open) -> None:
    page = open_page("pages/models.py", model=UNKNOWN, behind=text)
    assert "- behind “" in unescaped(notes(page)[0])
    assert page.session_state["chosen"]["behind"]["corpus"] == FULL["corpus"]
    assert "passwd" not in page.query_params["behind"]


def test_a_text_nobody_took_yet_is_computed_only_when_asked(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "START_BY_ITSELF", 10**12)
    page = open_page("app.py", model=NOT_COMPUTED, behind="corpus:wikipedia~tokens:all")
    assert "Compute" in labels(page)
    assert not background.runner().jobs(), "a link starts nothing that reads the network"
