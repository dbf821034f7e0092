"""The text behind C: in the link of a model of the Hub, chosen where there are several; results of models not here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from kis_core import corpora
from kis_core.analysis import pipeline
from kis_core.facts import FactSet, saved
from kis_core.request import Request
from kis_core.results import archive
from kis_core.store.store import Store, key_of
from pages.parts.jobs import background
from tests import tiny
from tests.pages.conftest import FEWER_TOKENS, MODEL, NOT_COMPUTED, SCRIPTS, VARIED, Cache, Open, fact_sets
from tests.pages.looking import captions, charts, markdown, notes, provenance, unescaped
from tests.pages.small_hub import Hub, labels, press
from tests.pages.test_library import at, select

UNKNOWN, FOLDER = "someone/unknown-7b", "/home/someone/models/own *7b*"
FULL = {"corpus": "wikipedia", "tokens": None, "documents": 100_000}
LESS = {"corpus": "/data/my text.txt", "tokens": None, "documents": 10, "dtype": "bfloat16"}
WITHOUT_P = {"pages/models.py", "pages/library.py", "pages/your_facts.py", "pages/lifelong.py", "pages/many_facts.py"}
pytestmark = pytest.mark.usefixtures("quick", "hub", "imported")


@pytest.fixture
def imported(open_page: Open, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A cache of this test's own with results of two models that are not here, each over two texts."""
    source, store = Store(cache.folder), Store(tmp_path / "cache")
    monkeypatch.setenv("KIS_CACHE", str(store.root))
    saved.save(store.root, FactSet("three", fact_sets()["three"]))
    st.cache_data.clear()
    for model in (UNKNOWN, FOLDER):
        for way, tokens in ((FULL, 100_000), (LESS, FEWER_TOKENS[0])):
            found = source.get(pipeline.resolve(cache.request(tokens=tokens), source).key)
            assert found is not None
            origin: dict[str, Any] = found.meta["provenance"]
            asked = {**origin["request"], **way, "model": model, "facts": "builtin"}
            changed = origin | {
                "request": asked,
                "model": model,
                "family": "Else",
                "corpus": way["corpus"],
                "corpus_sha256": corpora.load(way["corpus"]).fingerprint if way is FULL else origin["corpus_sha256"],
                "parameters": 7 * 10**9,
            }
            key = key_of(archive.KIND, {"model": model, "tokens": tokens})
            store.put(key, found.meta | {"provenance": changed}, found.arrays)
    return store


def behind(page: AppTest) -> Any:
    (box,) = (one for one in page.selectbox if one.key == "choose-behind")
    return box


def metrics(page: AppTest) -> list[str]:
    return [metric.value for metric in page.metric]


# Models that are not here


@pytest.mark.parametrize("model", tiny.in_full((UNKNOWN, FOLDER), (UNKNOWN,)))
@pytest.mark.parametrize("script", tiny.in_full(SCRIPTS, (*VARIED, "pages/superposition.py")))
def test_a_result_of_a_model_that_is_not_here_opens(script: str, model: str, open_page: Open, hub: Hub) -> None:
    page = open_page(script, model=model)
    assert not page.exception
    assert page.selectbox(key="choose-model").value == model
    assert not notes(page)
    assert model not in markdown(page), "its marks are disarmed"
    assert bool(provenance(page)) == (script not in WITHOUT_P)
    assert not hub.downloads
    assert not background.runner().jobs(), "nothing begins by itself"


@pytest.mark.parametrize("model", [UNKNOWN, FOLDER])
def test_a_text_taken_whole_has_its_convergence(model: str, open_page: Open) -> None:
    page = open_page("pages/convergence.py", model=model)
    assert len(charts(page)) >= 2, "what needs no more than the result is drawn"
    assert len(page.warning) <= 1, "that the model is not here is told once"


# Several texts


def test_of_several_texts_the_fullest_is_shown_and_another_can_be_chosen(open_page: Open, imported: Store) -> None:
    page = open_page("app.py", model=UNKNOWN)
    full, less = Request(UNKNOWN, **FULL), Request(UNKNOWN, **LESS)
    assert behind(page).options == ["wikipedia · 100,000 documents", "my text.txt · 10 documents · bfloat16"]
    assert page.query_params["behind"] == "corpus:wikipedia~tokens:all~documents:100000"
    results = {one.request.corpus: archive.read(one.key, imported) for one in archive.computed(imported)}
    for request in (full, less, full):
        page.run()
        behind(page).set_value([full.c_settings, less.c_settings].index(request.c_settings)).run()
        assert not page.exception
        result = results[request.corpus]
        assert result is not None
        moments = result.reports[0].moments
        assert metrics(page)[:2] == [f"{moments.mean:+.3f}", f"{moments.std:.3f}"]
        assert page.session_state["chosen"]["behind"] == request.c_settings
    assert not np.array_equal(results[full.corpus].p, results[less.corpus].p)  # type: ignore[union-attr]


def test_the_link_opens_the_same_text_elsewhere(open_page: Open) -> None:
    page = open_page("app.py", model=UNKNOWN)
    behind(page).set_value(1).run()
    link = {name: page.query_params[name] for name in ("model", "behind")}
    again = open_page("app.py", **link)
    assert not notes(again)
    assert behind(again).value == 1
    assert metrics(again) == metrics(page)


def test_another_model_forgets_the_text(open_page: Open) -> None:
    page = open_page("app.py", model=UNKNOWN)
    behind(page).set_value(1).run()
    page.selectbox(key="choose-model").set_value(FOLDER).run()
    assert behind(page).value == 0, "the fullest of the other model"
    page.selectbox(key="choose-model").set_value(NOT_COMPUTED).run()
    assert not page.exception
    assert "behind" not in page.query_params
    assert "choose-behind" not in [one.key for one in page.selectbox]


@pytest.mark.parametrize("text", ["corpus:/etc/passwd", "corpus:..%2F..%2Fetc", "corpus:", "tokens:0"])
def test_a_link_names_no_text_that_was_never_met(text: str, open_page: Open) -> None:
    page = open_page("pages/models.py", model=UNKNOWN, behind=text)
    assert "- behind “" in unescaped(notes(page)[0])
    assert page.session_state["chosen"]["behind"]["corpus"] == FULL["corpus"]
    assert "passwd" not in page.query_params["behind"]


def test_a_text_nobody_took_yet_is_computed_only_when_asked(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    from pages.parts.jobs import results

    monkeypatch.setattr(results, "START_BY_ITSELF", 10**12)
    page = open_page("app.py", model=NOT_COMPUTED, behind="corpus:wikipedia~tokens:all")
    assert not page.exception
    assert "Compute" in labels(page)
    assert not background.runner().jobs(), "a link starts nothing that reads the network"


def test_a_demo_model_goes_back_to_its_usual_text(
    open_page: Open, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIS_CACHE", str(cache.folder))
    st.cache_data.clear()
    st.cache_resource.clear()
    page = open_page("app.py", behind=f"tokens:{FEWER_TOKENS[0]}")
    before = metrics(page)
    options = behind(page).options
    usual = options.index("builtin · 100,000 tokens")
    assert f"builtin · {FEWER_TOKENS[0]:,} tokens" in options
    behind(page).set_value(usual).run()
    assert not page.exception
    assert metrics(page) != before
    assert metrics(page) == metrics(open_page("app.py"))


# Library


@pytest.mark.parametrize("text", ["wikipedia", "/data/my text"])
def test_the_library_opens_the_very_result(text: str, open_page: Open) -> None:
    page = open_page("pages/library.py", model=MODEL)
    page = select(page, at(page, "superposition P", model=UNKNOWN, text=text))
    press(page, "Open")
    assert page.session_state["chosen"]["model"] == UNKNOWN
    assert page.session_state["chosen"]["behind"]["corpus"].startswith(text)
    assert not page.exception
    assert "not on this machine" in unescaped(captions(page))
