"""What comes with the program: opened without weights, a click or a job, and shown in the Library as what it is."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from kis_core import facts, lifelong, simulator
from kis_core.facts import REAL_NAME
from kis_core.models import gguf
from kis_core.results import archive
from kis_core.results.result import Result
from kis_core.store.shipped import VARIABLE, ship
from kis_core.store.store import Entry, Store, key_of
from kis_core.studies import gallery as gallery_of
from pages.parts.jobs import background, model_card, results
from tests.pages.conftest import LOOKALIKES, MODEL, NOT_COMPUTED, SCRIPTS, Open, Stored
from tests.pages.looking import (
    captions,
    charts,
    choose,
    infos,
    labels,
    markdown,
    press,
    provenance,
    table_of,
    tick,
)

REAL, TITLE = "smollm2-135m-instruct-q4_1", "SmolLM2-135M (real)"
SMALL = results.START_BY_ITSELF
TEXT = "a-text-that-is-not-here.txt"
WITHOUT_P = {"pages/library.py", "pages/models.py"}
BEGINS = {"Compute", "Run", "Get the forecast", "Perform the edit"}  # labels of buttons that begin work


@pytest.fixture
def gallery(stored: Stored, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A result of a model whose package is not installed, over a text that is not here, below an empty cache."""
    result, asked = stored(), facts.builtin(REAL_NAME)
    request = replace(result.request, model=REAL, facts=REAL_NAME, corpus=TEXT, tokens=None)
    source = result.provenance | {"model": REAL, "request": asdict(request), "corpus": TEXT, "corpus_sha256": "0" * 64}
    source |= {"facts": REAL_NAME, "facts_sha256": asked.fingerprint}
    entry = archive.to_entry(replace(result, request=request, facts=asked, provenance=source))
    ship(tmp_path / "gallery" / REAL, key_of(archive.KIND, {}), entry, computed=0.0)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gallery"))
    for module in (gguf, model_card):
        monkeypatch.setattr(module, "in_package", lambda name: None)
    return tmp_path / "gallery"


@pytest.mark.usefixtures("gallery")
def test_every_page_opens_without_the_model_its_text_or_a_job(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "START_BY_ITSELF", SMALL)
    for script in SCRIPTS:
        page = open_page(script, model=REAL)
        assert not background.runner().jobs()
        assert not page.warning
        assert not page.error
        assert script in WITHOUT_P or "`make real` installs it" in markdown(page)
        assert not [one.label for one in page.button if one.label in BEGINS and not one.disabled]
        if script not in {*WITHOUT_P, "pages/many_facts.py"}:
            assert "its stored result is shown" in captions(page)
        if charts(page):
            assert "shipped with the program, computed on" in provenance(page)[-1]


@pytest.mark.usefixtures("gallery")
def test_a_real_model_is_offered_by_its_title_and_opens_on_the_facts_it_is_shipped_with(
    open_page: Open, folder: Path, result: Result
) -> None:
    entry = archive.to_entry(result)
    Store(folder).put(result.key, entry.meta, entry.arrays)
    page = open_page("app.py", model=NOT_COMPUTED)
    assert TITLE in page.selectbox(key="choose-model").options
    press(page, TITLE)
    assert (page.query_params["model"], page.query_params["facts"]) == (REAL, REAL_NAME)
    assert charts(page)
    assert TITLE not in labels(page)
    choose(page, "model", MODEL)
    assert "facts" not in page.query_params, "back to what comes with the demo models"


@pytest.mark.usefixtures("gallery")
def test_on_other_facts_it_is_said_what_is_there_and_how_to_get_the_model(open_page: Open) -> None:
    page = open_page("pages/superposition.py", model=REAL, facts=LOOKALIKES)
    assert "`make real` installs it" in infos(page)
    assert "Compute" not in labels(page)
    press(page, f"Show its result on {REAL_NAME}")
    assert "its stored result is shown" in captions(page)


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of all values that a store is asked for."""
    names: set[str] = set()
    get = Store.get

    def recorded(store: Store, key: str, **sizes: int) -> Entry | None:
        names.add(key)
        return get(store, key, **sizes)

    monkeypatch.setattr(Store, "get", recorded)
    return names


def assert_asks_for_what_the_gallery_makes(open_page: Open, asked_for: set[str], result: Result) -> None:
    bench = simulator.of(result, Store())
    first, second, *_ = gallery_of.default_edits(bench)
    assert (first.layer, second.layer) == (0, 1)
    for page, layer, key in (
        ("edit", 0, bench.edit_key(first)),
        ("edit", 1, bench.edit_key(second)),
        ("lifelong", 0, lifelong.key(bench, gallery_of.default_run(bench))),
    ):
        asked_for.clear()
        open_page(f"pages/{page}.py", model=result.request.model, layer=str(layer))
        assert key in asked_for


def test_edit_and_lifelong_ask_for_what_the_gallery_makes(open_page: Open, asked_for: set[str], stored: Stored) -> None:
    assert_asks_for_what_the_gallery_makes(open_page, asked_for, stored())


@pytest.mark.usefixtures("gallery")
def test_so_they_do_of_a_real_model(open_page: Open, asked_for: set[str]) -> None:
    result = archive.read(next(iter(Store().listed(archive.KIND))), Store())
    assert result
    assert_asks_for_what_the_gallery_makes(open_page, asked_for, result)
    assert not background.runner().jobs()


def test_the_library_shows_it_and_does_not_offer_to_delete_it(gallery: Path, open_page: Open, folder: Path) -> None:
    before = {path: path.read_bytes() for path in gallery.glob("*/*")}
    page = open_page("pages/library.py", model=REAL)
    table = table_of(page, "what", "from")
    assert table.value["from"].tolist() == ["shipped with the program"]
    tick(page, table, 0)
    assert not {"Delete"} & set(labels(page))
    assert not [label for label in labels(page) if label.startswith("Export")]
    assert "shipped with the program, computed on" in captions(page)
    press(page, "Verify")
    assert "all intact" in page.success[0].value
    assert {path: path.read_bytes() for path in gallery.glob("*/*")} == before
    assert not list((folder / "matrices").iterdir())
