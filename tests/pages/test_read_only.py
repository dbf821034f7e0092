"""Read-only mode: every page opens, and every way to compute, upload, delete, import, write or see a path is closed."""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import diskcache
import pytest
import streamlit as st
from streamlit import config
from streamlit.testing.v1 import AppTest

from kis_core import jobs
from kis_core.analysis import unfinished
from kis_core.analysis.pipeline import Request
from kis_core.analysis.unfinished import UnfinishedRequest
from kis_core.read_only import VARIABLE
from kis_core.results import archive
from kis_core.store.store import Store, key_of
from pages.parts.frame import public
from pages.parts.frame.public import Allowance
from pages.parts.frame.text import plain
from pages.parts.jobs import background, results
from tests import tiny
from tests.pages.conftest import MODEL, NOT_COMPUTED, ROOT, SCRIPTS, Cache, Open, Stored
from tests.pages.looking import captions, html, infos, labels, markdown, notes, table_of, tick

HOSTILE = "<b>*x*[y](z)"  # the name of the model's folder
FOLDER_OF_MODEL = f"/srv/secret/{HOSTILE}"
TEXT = "/srv/secret/lab-text.txt"
ALIAS = f"{HOSTILE} (00000000)"
LINKS: dict[str, dict[str, str]] = {
    "of a model named by path": {"model": ALIAS, "facts": "three"},
    "of the demo family": {"facts": "three"},
    "not stored": {"model": NOT_COMPUTED, "performed": "yes", "target": "French", "behind": f"corpus:{TEXT}"},
}
OFFERS = ("Compute", "Delete", "Verify", "Import", "Export", "Clear", "Resume", "Discard", "Run", "Try ", "Get the")


@pytest.fixture
def lab(cache: Cache, stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A laboratory's cache folder: own facts, a model and a text that are named by path, work begun, an orphan file."""
    result, folder = stored("three"), tmp_path / "lab"
    shutil.copytree(cache.folder, folder)
    store = Store(folder)
    request = replace(result.request, model=FOLDER_OF_MODEL, corpus=TEXT, tokens=None)
    source = result.provenance | {"model": FOLDER_OF_MODEL, "request": asdict(request), "corpus": HOSTILE}
    entry = archive.to_entry(replace(result, provenance=source | {"weights_sha256": "0" * 64}))
    store.put(key_of(archive.KIND, {"lab": 1}), entry.meta, entry.arrays)
    unfinished.remember(store, UnfinishedRequest(Request(FOLDER_OF_MODEL, corpus=TEXT)))
    store._index.close()
    with diskcache.Cache(str(folder / "index")):  # the last to let go of the index removes what SQLite keeps beside it
        pass
    (folder / "matrices" / "orphan-1.safetensors").write_bytes(b"left by a dead process")
    (folder / "damaged" / "set-aside").write_bytes(b"damaged")
    monkeypatch.setenv("KIS_CACHE", str(folder))
    return folder


@pytest.fixture
def open_public(lab: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open a page of a public server, on which whatever could begin by itself would."""
    monkeypatch.setenv("KIS_CACHE", str(lab))
    monkeypatch.setenv(VARIABLE, "1")
    monkeypatch.setattr(results, "START_BY_ITSELF", sys.maxsize)
    monkeypatch.setattr(config, "set_option", lambda *_: None)  # it would be set for all tests
    public.of_server.cache_clear()
    st.cache_data.clear()
    return open_page


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def sent(page: AppTest) -> bytes:
    """All that the browser gets."""
    return b"\n".join(element.proto.SerializeToString() for element in _elements(page._tree))


def _elements(block: Any) -> Any:
    for child in block.children.values():
        if hasattr(child, "children"):
            yield from _elements(child)
        elif hasattr(child, "proto"):
            yield child


@pytest.mark.parametrize("state", tiny.in_full(LINKS, ("of a model named by path",)))
def test_every_page_opens_and_changes_computes_and_betrays_nothing(state: str, open_public: Open, lab: Path) -> None:
    before = contents(lab)
    for script in SCRIPTS:
        page = open_public(script, **LINKS[state])
        assert not page.error, (script, [error.value for error in page.error])
        everything = sent(page) + "".join(page.query_params.values()).encode()
        assert b"public server" in everything
        for path in (str(lab), str(ROOT), f"{Path.home()}/", "/srv/"):
            assert path.encode() not in everything, (script, path)
        offered = [label for label in labels(page) if label.startswith(OFFERS)]
        assert not offered, script
        assert not page.get("file_uploader")
        assert HOSTILE not in markdown(page) + html(page), "nor is a name ever markup"
    assert not background.runner().jobs()
    assert contents(lab) == before


def test_a_model_named_by_a_path_goes_by_an_alias_and_by_no_path(open_public: Open) -> None:
    page = open_public("pages/superposition.py", model=ALIAS, facts="three")
    assert not notes(page)
    assert plain(HOSTILE) in captions(page)
    page = open_public("app.py", model=FOLDER_OF_MODEL, facts="three", other=str(ROOT), behind=f"corpus:{TEXT}")
    assert {"model", "other", "behind"} <= {line[2:].split(" ")[0] for line in notes(page)[0].split("\n")[1:]}
    assert dict(page.query_params).get("model", MODEL) != FOLDER_OF_MODEL


def test_what_is_not_stored_is_said_kindly_and_how_to_have_it_at_home(open_public: Open) -> None:
    page = open_public("pages/superposition.py", model=NOT_COMPUTED)
    assert "is not stored, and computing it is not offered on this public server" in infos(page)
    assert "On a machine of your own it is" in infos(page)
    page = open_public("pages/library.py")
    tick(page, table_of(page, "what", "model"), 0)
    assert "Open" in labels(page)
    assert not {"Verify", "Delete"} & set(labels(page))


def test_nobody_draws_more_than_a_share_of_the_server(open_public: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    little = Allowance(burst=1, rate=0.01)
    monkeypatch.setattr(public, "of_server", lambda: little)
    monkeypatch.setattr(public.time, "sleep", lambda _: None)
    page = open_public("pages/library.py")
    assert not page.warning
    page.run()
    assert page.warning[0].value == public.BUSY
    assert not page.dataframe


def test_an_allowance_lets_a_burst_pass_and_then_so_many_a_second() -> None:
    now = [0.0]
    allowance = Allowance(burst=3, rate=2.0, clock=lambda: now[0])
    assert [allowance.take(1.0) for _ in range(6)] == [0.0, 0.0, 0.0, 0.5, 1.0, None]
    now[0] = 1.0  # as long as the last one was told to wait: it has its turn, and the next one waits half a second
    assert allowance.take(1.0) == 0.5
    now[0] = 100.0
    assert [allowance.take(0.0) for _ in range(4)] == [0.0, 0.0, 0.0, None], "a rest saves up no more than the burst"


def test_uploads_are_closed_at_the_servers_own_address(open_public: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, object] = {}
    monkeypatch.setattr(config, "set_option", options.__setitem__)
    open_public("pages/library.py")
    assert options == {"server.maxUploadSize": 0}


def test_the_lab_itself_still_writes_once_the_mode_is_off(lab: Path) -> None:
    assert jobs.Runner().submit("key", lambda report: None).wait(10)
    assert Store(lab).unwritable == ""
