"""Read-only mode in the library: each way to work, to write and to fetch is closed where all ways meet."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kis_core import jobs
from kis_core.__main__ import main
from kis_core.covariance import speed
from kis_core.errors import KisError, NotOffered
from kis_core.facts import FactSet, builtin, saved
from kis_core.library import bundles, inventory
from kis_core.models import catalog
from kis_core.models.describe import described
from kis_core.models.holder import LoadedModels
from kis_core.read_only import VARIABLE, last_part, without_folders
from kis_core.store.store import Entry, Store, StoreError, key_of

KEY = key_of("fingerprint", {"of": "a file"})
STAYS = Entry({"sha256": "0" * 64}, {})


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A cache folder with a value and a fact set in it."""
    root = tmp_path / "kept"
    store = Store(root)
    store.put(KEY, STAYS.meta, {})
    saved.save(root, FactSet("mine", builtin().facts[:2]))
    store._index.close()
    return root


WAYS: dict[str, Callable[[Path, Store], object]] = {
    "a job": lambda root, store: jobs.Runner().submit("key", lambda report: None),
    "a model in memory": lambda root, store: LoadedModels().lend(
        "", lambda: catalog.locate(catalog.DEFAULT), device="cpu", dtype="float32"
    ),
    "a trial of speed": lambda root, store: speed.probe("cpu", "float32", 0.0),
    "a download": lambda root, store: catalog.locate("gpt2-xl"),
    "a configuration from the Hub": lambda root, store: described("someone/something"),
    "a value": lambda root, store: store.put(KEY, {}, {"x": np.ones(2)}),
    "a deletion": lambda root, store: store.delete(KEY),
    "clearing": lambda root, store: inventory.clear(store),
    "facts": lambda root, store: saved.save(root, FactSet("more", builtin().facts[:1])),
    "a fact set's end": lambda root, store: saved.delete(root, saved.names(root)[0]),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_is_closed_and_leaves_the_folder_as_it_was(
    way: str, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    before = {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()}
    store = Store(kept)
    with pytest.raises((NotOffered, StoreError)):
        WAYS[way](kept, store)
    assert store.get(KEY).meta == STAYS.meta
    assert store.get_or_compute(key_of("fingerprint", {}), lambda: STAYS) == STAYS, "worked out, and not kept"
    assert {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()} == before


def test_a_bundle_is_not_taken_in(tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    source = Store(tmp_path / "other")
    key = key_of("value", {})
    source.put(key, {"a": 1}, {"x": np.ones(2)})
    bundles.export(source, [key], stream)
    monkeypatch.setenv(VARIABLE, "1")
    before = set(kept.rglob("*"))
    with pytest.raises(StoreError):
        bundles.load(Store(kept), stream)
    assert set(kept.rglob("*")) == before


def test_what_another_process_stores_meanwhile_is_seen(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Store(kept)
    monkeypatch.setenv(VARIABLE, "1")
    reader = Store(kept)
    before = (kept / "index" / "cache.db-shm").read_bytes()
    assert reader.get(KEY) == STAYS
    assert (kept / "index" / "cache.db-shm").read_bytes() == before, "as long as the writer has nothing to tell"
    monkeypatch.delenv(VARIABLE)
    other = key_of("fingerprint", {"of": "another"})
    writer.put(other, STAYS.meta, {})
    monkeypatch.setenv(VARIABLE, "1")
    assert reader.get(other) == STAYS


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    assert Store(tmp_path / "nowhere").inventory() == []
    assert not (tmp_path / "nowhere").exists()


def test_the_command_line_computes_nothing_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    assert main(["analyse", *ANALYSE, "--out", str(tmp_path / "out")]) == 2
    assert VARIABLE in capsys.readouterr().err


ANALYSE = ("--model", catalog.DEFAULT, "--facts", "builtin", "--corpus", "builtin")
PATHS = {
    "could not write to /home/lab/cache: full": "could not write to cache: full",
    "'/srv/a b/model'": "'a b/model'",
    "/cache cannot be used": "cache cannot be used",
    r"C:\Users\lab\cache is locked": "cache is locked",
    "either/or, 1 / 2, https://example.org/a/b": "either/or, 1 / 2, https://example.org/a/b",
}


@pytest.mark.parametrize("text", PATHS)
def test_messages_tell_no_folders(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert without_folders(text) == text
    monkeypatch.setenv(VARIABLE, "1")
    assert str(KisError(text)) == PATHS[text]


def test_names_keep_what_is_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    assert [last_part(name) for name in ("gpt2-xl", "a/b", "/srv/a/b", "builtin")] == ["gpt2-xl", "a/b", "b", "builtin"]
