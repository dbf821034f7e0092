"""Library: what is stored is listed, checked, taken away and brought, opened, and deleted once asked twice."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from kis_core.analysis import pipeline
from kis_core.facts import BUILTIN_NAME, saved
from kis_core.library import bundles, inventory
from kis_core.report import contents
from kis_core.results import archive
from kis_core.store.store import Store, StoreError, key_of
from tests.pages.conftest import FEWER_TOKENS, FORMULA, LAYERS, MODEL, PICTURE, SCRIPT, Cache, Open, Stored
from tests.pages.looking import captions, labels, markdown, table_of, tick, unescaped
from tests.report.report_tools import data_of

PAGE = "pages/library.py"
RESULTS = 3  # that are copied into the cache of these tests
HOSTILE_NAMES = (SCRIPT, PICTURE, FORMULA, "[x](javascript:alert(1))", "**bold** `code`", "../../etc")


@pytest.fixture(scope="session")
def packed(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of three results: built-in facts, facts of a user, and the built-in ones over less text; all with C."""
    store, target = Store(cache.folder), tmp_path_factory.mktemp("bundle") / "results.zip"
    requests = [cache.request(), cache.request("mixed"), cache.request(tokens=FEWER_TOKENS[0])]
    keys = [pipeline.resolve(request, store).key for request in requests]
    bundles.export(store, keys, target, with_moments=True)
    return target


@pytest.fixture
def filled(folder: Path, packed: Path) -> Store:
    """The test's own cache, with three results, C of two of them, and something kept in between."""
    store = Store(folder)
    bundles.load(store, packed)
    store.put(key_of("fingerprint", {}), {"sha256": "0" * 64}, {})
    store.put(key_of("kept", {}), {}, {"values": np.zeros(3)})
    return store


def shelf_of(page: AppTest) -> Any:
    return table_of(page, "what", "model", "bytes")


def select(page: AppTest, *rows: int) -> AppTest:
    return tick(page, shelf_of(page), *rows)


def select_all(page: AppTest) -> AppTest:
    return select(page, *range(len(shelf_of(page).value)))


def press(page: AppTest, label: str) -> AppTest:
    """Press the one button whose label begins so; sizes may follow."""
    (button,) = (button for button in page.button if button.label.startswith(label))
    return button.click().run()


def at(page: AppTest, what: str, **like: str) -> int:
    """Row of the table that says so."""
    frame = shelf_of(page).value
    fits = frame["what"] == what
    for column, text in like.items():
        fits &= frame[column].str.startswith(text)
    (row,) = frame.index[fits].tolist()
    return int(row)


def by_default(page: AppTest) -> int:
    return at(page, "superposition P", of="builtin", text="builtin · 100,000")


def asked_to_delete(page: AppTest) -> bool:
    return "delete-now" in [button.key for button in page.button]


def of_user(store: Store) -> Any:
    """The result on facts of a user."""
    items = store.inventory(archive.KIND)
    return next(item for item in items if item.meta["provenance"]["facts"].startswith("mixed"))


def test_what_is_stored_is_listed_with_its_size_and_origin(open_page: Open, filled: Store, stored: Stored) -> None:
    page = open_page(PAGE)
    frame = shelf_of(page).value
    assert frame["what"].tolist() == ["superposition P"] * 3 + ["second moment C"] * 2 + ["intermediate results"]
    assert set(frame["model"][:5]) == {MODEL}
    assert set(frame["layers"][:5]) == {f"0–{LAYERS - 1}"}
    assert {"builtin · 1,000 tokens", "builtin · 100,000 tokens"} == set(frame["text"][:5])
    assert frame["bytes"].sum() == sum(path.stat().st_size for path in (filled.root / "matrices").iterdir())
    assert "damaged, set aside: 0 B" in markdown(page)
    assert "Select rows" in page.info[-1].value
    assert not labels(page)
    select(page, by_default(page))
    source, said = stored().provenance, unescaped(captions(page))
    origin = f"{MODEL} (weights {source['weights_sha256'][:8]})"
    run = f"computed on {source['device']} in float32"
    for text in (origin, "128 facts (builtin)", "100,000 tokens", "no ridge", run, f"numpy {np.__version__}"):
        assert text in said


def test_a_flipped_byte_is_found_and_the_value_set_aside(open_page: Open, filled: Store) -> None:
    page, item = open_page(PAGE), of_user(filled)
    row = at(page, "superposition P", of="mixed")
    content = bytearray(item.path.read_bytes())
    content[-1] ^= 1
    item.path.write_bytes(bytes(content))
    press(select(page, row), "Verify")
    assert "1 of 1 value damaged or missing" in page.warning[0].value
    assert "superposition P" in page.warning[0].value
    assert not filled.holds(item.key)
    assert len(shelf_of(page).value) == 5
    assert f"damaged, set aside: {len(content) / 1e3:.3g} kB" in markdown(page)
    press(page, "Clear")
    assert list((filled.root / "damaged").iterdir()) == []
    assert not [button for button in page.button if button.label.startswith("Clear")]


def test_a_result_is_deleted_once_asked_twice_and_its_c_stays(open_page: Open, filled: Store) -> None:
    before = {item.key for item in filled.inventory()}
    page = open_page(PAGE)
    press(select(page, by_default(page)), "Delete")
    assert "Delete 1 value," in markdown(page)
    page.button(key="delete-not").click().run()
    assert not asked_to_delete(page)
    press(page, "Delete")
    assert asked_to_delete(page)
    select(page, 0 if by_default(page) else 1)
    assert not asked_to_delete(page), "a question about other rows is not answered by these"
    assert {item.key for item in filled.inventory()} == before
    select(page, by_default(page)).button(key="delete-now").click().run()
    assert "1 value deleted" in page.success[0].value
    assert len(shelf_of(page).value) == 5
    assert len(filled.inventory(archive.KIND)) == RESULTS - 1
    assert len(filled.inventory(pipeline.SECOND_MOMENT)) == 2 * LAYERS


def test_c_goes_along_unless_another_result_needs_it(open_page: Open, filled: Store) -> None:
    page = open_page(PAGE)
    lonely = at(page, "superposition P", text="builtin · 1,000")
    page = select(page, by_default(page), lonely)
    page.toggle(key="along").set_value(True).run()
    press(page, "Delete")
    assert f"Delete {2 + LAYERS} values" in markdown(page), "C over 100,000 tokens is that of the other facts too"
    page.button(key="delete-now").click().run()
    assert len(filled.inventory(archive.KIND)) == 1
    assert len(filled.inventory(pipeline.SECOND_MOMENT)) == LAYERS


def test_a_value_that_went_meanwhile_is_no_error(open_page: Open, filled: Store) -> None:
    page = select(open_page(PAGE), 0)
    press(page, "Delete")
    inventory.delete(filled, [item.key for item in filled.inventory()])
    page.button(key="delete-now").click().run()
    assert "Nothing is computed yet" in page.info[0].value


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Callable[[], io.BytesIO], dict[str, Any]]]:
    """What the page's download buttons offer."""
    buttons: list[tuple[Callable[[], io.BytesIO], dict[str, Any]]] = []

    def download(label: str, data: Callable[[], io.BytesIO], *_: Any, **options: Any) -> bool:
        buttons.append((data, options))
        return False

    monkeypatch.setattr(st, "download_button", download)
    return buttons


def test_an_export_is_imported_elsewhere(
    open_page: Open, filled: Store, offered: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {item.key for item in filled.inventory() if not inventory.of_this_machine(item.key)}
    select_all(open_page(PAGE))
    content = offered[-1][0]().read()
    monkeypatch.setenv("KIS_CACHE", str(tmp_path / "laptop"))
    st.cache_resource.clear()
    page = open_page(PAGE)
    page.file_uploader[0].set_value(("library.zip", content, "application/zip")).run()
    press(page, "Import")
    assert page.success[0].value == f"{len(expected)} values imported; 0 were here already."
    assert {item.key for item in Store(tmp_path / "laptop").inventory()} == expected
    press(page, "Import")
    assert page.success[0].value == f"0 values imported; {len(expected)} were here already."


def test_a_result_is_taken_home_as_a_report(
    open_page: Open, filled: Store, offered: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page(PAGE)
    select(page, at(page, "superposition P", of="mixed"))
    (content, options), *_ = (offer for offer in offered if offer[1]["key"] == "report")
    assert not options["disabled"]
    result = archive.read(of_user(filled).key, filled)
    assert result
    data = data_of(content())
    assert [fact["subject"] for fact in data["facts"]] == [fact.subject for fact in result.facts.facts]
    assert [layer["layer"] for layer in data["layers"]] == list(result.layers)

    monkeypatch.setattr(contents, "MOST_ENTRIES", 1)
    offered.clear()
    select(page, at(page, "superposition P", of="mixed"))
    options = next(options for _, options in offered if options["key"] == "report")
    assert options["disabled"]
    assert "Take fewer facts" in options["help"]


def test_an_empty_cache_says_what_to_do_and_takes_no_file_that_is_no_bundle(open_page: Open, folder: Path) -> None:
    page = open_page(PAGE)
    assert "Nothing is computed yet" in page.info[0].value
    assert not page.dataframe
    assert not page.code
    for content in (b"", b"no bundle", b"PK\x05\x06" + bytes(18)):
        page.file_uploader[0].set_value((f"{PICTURE}.zip", content, "application/zip")).run()
        press(page, "Import")
        assert "bundle" in page.error[0].value
        assert PICTURE not in markdown(page)
    assert Store(folder).inventory() == []


@pytest.mark.usefixtures("filled")
def test_a_result_is_opened_with_its_facts_and_its_text(open_page: Open, folder: Path) -> None:
    page = open_page(PAGE, facts="builtin-lookalikes", pair="3-7")
    press(select(page, by_default(page)), "Open")
    chosen = page.session_state["chosen"]
    assert (chosen["model"], chosen["facts"], chosen["pair"]) == (MODEL, BUILTIN_NAME, None)
    assert chosen["behind"] is None, "the usual text needs no word in the link"
    assert saved.names(folder) == ()
    page = open_page(PAGE)
    press(select(page, at(page, "superposition P", text="builtin · 1,000")), "Open")
    assert page.session_state["chosen"]["behind"]["tokens"] == 1_000


def test_facts_of_a_result_that_are_not_here_are_taken_from_it(open_page: Open, filled: Store, stored: Stored) -> None:
    for _ in range(2):  # the second time they are here
        page = open_page(PAGE)
        press(select(page, at(page, "superposition P", of="mixed")), "Open")
        (name,) = saved.names(filled.root)
        assert page.session_state["chosen"]["facts"] == name
        assert name.endswith(stored("mixed").facts.fingerprint[:8])


def test_names_of_strangers_are_shown_as_text(open_page: Open, filled: Store) -> None:
    item = next(item for item in filled.inventory(archive.KIND) if item.meta["provenance"]["facts"] == BUILTIN_NAME)
    source = item.meta["provenance"]
    for text in HOSTILE_NAMES:
        names = dict.fromkeys(("facts", "corpus", "device", "dtype", "weights_sha256", "revision"), text)
        changed = source | names | {"versions": {text: text}, "request": source["request"] | {"model": text}}
        filled.put(key_of(archive.KIND, {"hostile": text}), item.meta | {"provenance": changed}, {})
        about = dict.fromkeys(("model", "corpus", "name", "weights_sha256", "facts"), text)
        for kind in (pipeline.SECOND_MOMENT, inventory.RUN_KIND):
            filled.put(key_of(kind, {"hostile": text}), {"about": about, "tokens": 5}, {})
    page = open_page(PAGE)
    models = shelf_of(page).value["model"]
    for text in HOSTILE_NAMES:
        assert (models == text).sum() == 3
        press(select(page, *models.index[models == text].tolist()), "Delete")
        assert text not in markdown(page)
        assert re.sub(r"\s+", " ", text) in unescaped(markdown(page))


def test_metadata_of_strangers_that_says_nothing_is_no_error(open_page: Open, filled: Store) -> None:
    item = next(item for item in filled.inventory(archive.KIND) if item.meta["provenance"]["facts"] == BUILTIN_NAME)
    for missing in ("revision", "versions", "device"):
        source = {name: value for name, value in item.meta["provenance"].items() if name != missing}
        filled.put(key_of(archive.KIND, {"without": missing}), item.meta | {"provenance": source}, {})
    filled.put(key_of(archive.KIND, {"nothing": True}), {}, {})
    page = select_all(open_page(PAGE))
    assert not page.error


def test_an_index_that_cannot_be_used_is_told(open_page: Open, filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(self: Store, kind: str | None = None) -> None:
        raise StoreError("the index cannot be used: database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(inventory, "shelf", locked)
        page = open_page(PAGE)
    assert "database is locked" in page.error[0].value
