"""Library: what is stored is listed, checked, taken away and brought, opened, and deleted once asked twice."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.testing.v1 import AppTest

from kis_core.analysis import pipeline
from kis_core.facts import BUILTIN_NAME, saved
from kis_core.library import bundles, inventory
from kis_core.results import archive
from kis_core.store.store import Store, key_of
from tests.pages.conftest import FEWER_TOKENS, FORMULA, LAYERS, MODEL, PICTURE, SCRIPT, Cache, Open, Stored
from tests.pages.looking import captions, markdown, table_of, unescaped

PAGE = "pages/library.py"
RESULTS = 3  # that are copied into the cache of these tests
HOSTILE_NAMES = (SCRIPT, PICTURE, FORMULA, "[x](javascript:alert(1))", "**bold** `code`", "../../etc")

Library = Callable[..., AppTest]


@pytest.fixture
def folder(open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test's own, empty."""
    monkeypatch.setenv("KIS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


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
    """Tick rows of the table, as the browser does."""
    states = page._tree.get_widget_states()
    value = json.dumps({"selection": {"rows": list(rows), "columns": [], "cells": []}})
    states.widgets.append(WidgetState(id=shelf_of(page).proto.id, string_value=value))
    return page._run(states)


def button(page: AppTest, label: str) -> Any:
    (found,) = (one for one in page.button if one.label.startswith(label))
    return found


def at(page: AppTest, what: str, **like: str) -> int:
    """Row of the table that says so."""
    frame = shelf_of(page).value
    fits = frame["what"] == what
    for column, text in like.items():
        fits &= frame[column].str.startswith(text)
    (found,) = frame.index[fits].tolist()
    return int(found)


def by_default(page: AppTest) -> int:
    return at(page, "superposition P", of="builtin", text="builtin · 1" + "0")


def test_an_empty_cache_says_what_to_do(open_page: Open, folder: Path) -> None:
    page = open_page(PAGE)
    assert not page.exception
    assert "Nothing is computed yet" in page.info[0].value
    assert not page.dataframe
    assert not page.code
    assert folder.is_dir()


@pytest.mark.usefixtures("filled")
def test_what_is_stored_is_listed(open_page: Open, stored: Stored) -> None:
    page = open_page(PAGE)
    assert not page.exception
    frame = shelf_of(page).value
    assert frame["what"].tolist() == ["superposition P"] * 3 + ["second moment C"] * 2 + ["intermediate results"]
    assert set(frame["model"][:5]) == {MODEL}
    assert set(frame["layers"][:5]) == {f"0–{LAYERS - 1}"}
    assert {"builtin · 1,000 tokens", "builtin · 100,000 tokens"} == set(frame["text"][:5])
    assert "Select rows" in page.info[-1].value
    assert not page.button


def test_sizes_are_those_on_disk(open_page: Open, filled: Store) -> None:
    page = open_page(PAGE)
    files = sum(path.stat().st_size for path in (filled.root / "matrices").iterdir())
    assert shelf_of(page).value["bytes"].sum() == files
    assert "damaged, set aside: 0 B" in markdown(page)


@pytest.mark.usefixtures("filled")
def test_a_selected_result_says_where_it_came_from(open_page: Open, stored: Stored) -> None:
    page = open_page(PAGE)
    page = select(page, by_default(page))
    source = stored().provenance
    said = unescaped(captions(page))
    for text in (f"{MODEL} (weights {source['weights_sha256'][:8]})", "128 facts (builtin)", "100,000 tokens",
                 "no ridge", f"computed on {source['device']} in float32", f"numpy {np.__version__}",
                 source["weights_sha256"][:16]):  # fmt: skip
        assert text in said


# Verify


@pytest.mark.usefixtures("filled")
def test_whole_values_are_said_to_be_whole(open_page: Open) -> None:
    page = open_page(PAGE)
    page = select(page, *range(len(shelf_of(page).value)))
    button(page, "Verify").click().run()
    assert not page.exception
    assert page.success[0].value == f"{RESULTS + 2 * LAYERS + 2} values read: all intact."


def test_a_flipped_byte_is_found_and_the_value_set_aside(open_page: Open, filled: Store) -> None:
    page = open_page(PAGE)
    row = at(page, "superposition P", of="mixed")
    (item,) = (one for one in filled.inventory(archive.KIND) if one.meta["provenance"]["facts"].startswith("mixed"))
    content = bytearray(item.path.read_bytes())
    content[-1] ^= 1
    item.path.write_bytes(bytes(content))
    page = select(page, row)
    button(page, "Verify").click().run()
    assert not page.exception
    assert "1 of 1 value damaged or missing" in page.warning[0].value
    assert "superposition P" in page.warning[0].value
    assert not filled.holds(item.key)
    assert len(shelf_of(page).value) == 5
    assert f"damaged, set aside: {len(content) / 1e3:.3g} kB" in markdown(page)
    button(page, "Clear").click().run()
    assert list((filled.root / "damaged").iterdir()) == []
    assert not [one for one in page.button if one.label.startswith("Clear")]


def test_the_check_takes_c_along_where_asked(open_page: Open, filled: Store) -> None:
    page = open_page(PAGE)
    page = select(page, by_default(page))
    page.toggle(key="along").set_value(True).run()
    button(page, "Verify").click().run()
    assert page.success[0].value == f"{1 + LAYERS} values read: all intact."


# Delete


def test_nothing_is_deleted_before_it_was_asked_twice(open_page: Open, filled: Store) -> None:
    before = {item.key for item in filled.inventory()}
    page = open_page(PAGE)
    page = select(page, by_default(page))
    button(page, "Delete").click().run()
    assert "Delete 1 value," in markdown(page)
    assert {item.key for item in filled.inventory()} == before
    page.button(key="delete-not").click().run()
    assert "delete-now" not in [one.key for one in page.button]
    assert {item.key for item in filled.inventory()} == before


def test_a_deleted_result_is_gone_and_its_c_stays(open_page: Open, filled: Store) -> None:
    page = open_page(PAGE)
    page = select(page, by_default(page))
    button(page, "Delete").click().run()
    page.button(key="delete-now").click().run()
    assert not page.exception
    assert "1 value deleted" in page.success[0].value
    assert len(shelf_of(page).value) == 5
    assert len(filled.inventory(archive.KIND)) == RESULTS - 1
    assert len(filled.inventory(pipeline.SECOND_MOMENT)) == 2 * LAYERS


def test_c_goes_along_unless_another_result_needs_it(open_page: Open, filled: Store) -> None:
    page = open_page(PAGE)
    lonely = at(page, "superposition P", text="builtin · 1,000")
    page = select(page, by_default(page), lonely)
    page.toggle(key="along").set_value(True).run()
    button(page, "Delete").click().run()
    assert f"Delete {2 + LAYERS} values" in markdown(page), "C over 100,000 tokens is that of the other facts too"
    page.button(key="delete-now").click().run()
    assert len(filled.inventory(archive.KIND)) == 1
    assert len(filled.inventory(pipeline.SECOND_MOMENT)) == LAYERS


def test_a_question_about_other_rows_is_not_answered_by_these(open_page: Open, filled: Store) -> None:
    page = open_page(PAGE)
    page = select(page, 0)
    button(page, "Delete").click().run()
    page = select(page, 1)
    assert "delete-now" not in [one.key for one in page.button]


def test_a_value_that_went_meanwhile_is_no_error(open_page: Open, filled: Store) -> None:
    page = open_page(PAGE)
    page = select(page, 0)
    button(page, "Delete").click().run()
    inventory.delete(filled, [item.key for item in filled.inventory()])
    page.button(key="delete-now").click().run()
    assert not page.exception
    assert "Nothing is computed yet" in page.info[0].value


# Export, import, open


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Callable[[], io.BytesIO], dict[str, Any]]]:
    """What the page's download buttons offer."""
    found: list[tuple[Callable[[], io.BytesIO], dict[str, Any]]] = []

    def download(label: str, data: Callable[[], io.BytesIO], *_: Any, **options: Any) -> bool:
        found.append((data, options))
        return False

    monkeypatch.setattr(st, "download_button", download)
    return found


def test_an_export_is_imported_elsewhere(
    open_page: Open, filled: Store, offered: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {item.key for item in filled.inventory() if not inventory.of_this_machine(item.key)}
    page = open_page(PAGE)
    select(page, *range(len(shelf_of(page).value)))
    content = offered[-1][0]().read()
    monkeypatch.setenv("KIS_CACHE", str(tmp_path / "laptop"))
    st.cache_resource.clear()
    page = open_page(PAGE)
    page.file_uploader[0].set_value(("library.zip", content, "application/zip")).run()
    button(page, "Import").click().run()
    assert not page.exception
    assert page.success[0].value == f"{len(expected)} values imported; 0 were here already."
    assert {item.key for item in Store(tmp_path / "laptop").inventory()} == expected
    button(page, "Import").click().run()
    assert page.success[0].value == f"0 values imported; {len(expected)} were here already."


def test_what_is_too_large_for_a_browser_goes_by_the_command_line(
    open_page: Open, filled: Store, offered: list[Any]
) -> None:
    (item,) = (one for one in filled.inventory(archive.KIND) if one.meta["provenance"]["facts"].startswith("mixed"))
    os.truncate(item.path, 600_000_000)  # a hole; nothing reads it
    page = open_page(PAGE)
    page = select(page, at(page, "superposition P", of="mixed"))
    assert offered[-1][1]["disabled"]
    assert "python -m kis_core export --out FILE" in captions(page)


@pytest.mark.parametrize("content", [b"", b"no bundle", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_no_bundle_says_so(open_page: Open, folder: Path, content: bytes) -> None:
    page = open_page(PAGE)
    page.file_uploader[0].set_value((f"{PICTURE}.zip", content, "application/zip")).run()
    button(page, "Import").click().run()
    assert not page.exception
    assert "bundle" in page.error[0].value
    assert PICTURE not in markdown(page)
    assert Store(folder).inventory() == []


@pytest.mark.usefixtures("filled")
def test_a_result_is_opened_with_its_facts(open_page: Open, folder: Path) -> None:
    page = open_page(PAGE, facts="builtin-lookalikes", pair="3-7")
    page = select(page, by_default(page))
    button(page, "Open").click().run()
    assert page.session_state["chosen"]["model"] == MODEL
    assert page.session_state["chosen"]["facts"] == BUILTIN_NAME
    assert page.session_state["chosen"]["pair"] is None
    assert saved.names(folder) == ()


def test_facts_of_a_result_that_are_not_here_are_taken_from_it(open_page: Open, filled: Store, stored: Stored) -> None:
    page = open_page(PAGE)
    page = select(page, at(page, "superposition P", of="mixed"))
    button(page, "Open").click().run()
    (name,) = saved.names(filled.root)
    assert page.session_state["chosen"]["facts"] == name
    assert name.endswith(stored("mixed").facts.fingerprint[:8])
    page = open_page(PAGE)
    page = select(page, at(page, "superposition P", of="mixed"))
    button(page, "Open").click().run()
    assert saved.names(filled.root) == (name,), "they are here now"


@pytest.mark.usefixtures("filled")
def test_a_result_over_another_text_opens_with_that_text(open_page: Open) -> None:
    page = open_page(PAGE)
    page = select(page, at(page, "superposition P", text="builtin · 1,000"))
    button(page, "Open").click().run()
    assert page.session_state["chosen"]["behind"]["tokens"] == 1_000
    page = open_page(PAGE)
    button(select(page, by_default(page)), "Open").click().run()
    assert page.session_state["chosen"]["behind"] is None, "the usual text needs no word in the link"


# Strangers


@pytest.mark.parametrize("text", HOSTILE_NAMES)
def test_names_of_strangers_are_shown_as_text(open_page: Open, filled: Store, text: str) -> None:
    item = next(one for one in filled.inventory(archive.KIND) if one.meta["provenance"]["facts"] == BUILTIN_NAME)
    entry = filled.get(item.key)
    assert entry is not None
    source = entry.meta["provenance"]
    changed = source | {
        "facts": text,
        "corpus": text,
        "device": text,
        "dtype": text,
        "weights_sha256": text,
        "revision": text,
        "versions": {text: text},
        "request": source["request"] | {"model": text},
    }
    filled.put(key_of(archive.KIND, {"hostile": True}), entry.meta | {"provenance": changed}, entry.arrays)
    about = dict.fromkeys(("model", "corpus", "name", "weights_sha256", "facts"), text)
    for kind in (pipeline.SECOND_MOMENT, inventory.RUN_KIND):
        filled.put(key_of(kind, {"hostile": True}), {"about": about, "tokens": 5}, {})
    page = open_page(PAGE)
    page = select(page, *range(len(shelf_of(page).value)))
    button(page, "Delete").click().run()
    assert not page.exception
    assert (shelf_of(page).value["model"] == text).sum() == 3
    assert text not in markdown(page)
    assert re.sub(r"\s+", " ", text) in unescaped(markdown(page))


def test_metadata_of_strangers_that_says_nothing_is_no_error(open_page: Open, filled: Store) -> None:
    item = next(one for one in filled.inventory(archive.KIND) if one.meta["provenance"]["facts"] == BUILTIN_NAME)
    for missing in ("revision", "versions", "device"):
        source = {name: value for name, value in item.meta["provenance"].items() if name != missing}
        filled.put(key_of(archive.KIND, {"without": missing}), item.meta | {"provenance": source}, {})
    filled.put(key_of(archive.KIND, {"nothing": True}), {}, {})
    page = open_page(PAGE)
    page = select(page, *range(len(shelf_of(page).value)))
    assert not page.exception
    assert not page.error


def test_an_index_that_cannot_be_used_is_told(open_page: Open, filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from kis_core.store.store import StoreError

    def locked(self: Store, kind: str | None = None) -> None:
        raise StoreError("the index cannot be used: database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(inventory, "shelf", locked)
        page = open_page(PAGE)
    assert not page.exception
    assert "database is locked" in page.error[0].value
