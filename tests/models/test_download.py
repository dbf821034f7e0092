"""Downloads: what the Hub's own code reports arrives as bytes, a Cancel ends it, and what it raises becomes advice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import HfApi, _snapshot_download, constants
from huggingface_hub import errors as hub_errors
from huggingface_hub.hf_api import RepoFile

from kis_core.models import catalog
from kis_core.models.download import CONFIGURATION, STAGE, hub_configuration, hub_files
from kis_core.models.files import INDEX, Gated, ModelError, ModelFiles, NotHere
from kis_core.progress import Cancelled

NAME, COMMIT = "someone/tiny-opt", "0123456789abcdef0123456789abcdef01234567"
CHUNK = 40  # bytes
SIZES = {"config.json": 100, "model.safetensors": 400, "tokenizer.json": 200}
OTHERS = {"pytorch_model.bin": 900, "onnx/model.safetensors": 800, "consolidated.safetensors": 700, "README.md": 5}


class Hub:
    """A Hub of one model: its listing is asked for, and its files arrive in chunks, as `http_get` tells of them."""

    def __init__(self) -> None:
        self.fetched: dict[str, int] = {}
        self.revisions: set[str] = set()

    def info(self, *_: Any, revision: str | None = None, **__: Any) -> Any:
        self.revisions.add(str(revision))
        return SimpleNamespace(sha=COMMIT)

    def tree(self, *_: Any, **__: Any) -> Iterator[RepoFile]:
        for number, (path, size) in enumerate((SIZES | OTHERS).items()):
            yield RepoFile(path=path, size=size, oid=f"{number:040x}")

    def fetch(self, repo: str, filename: str, *, tqdm_class: Any, cache_dir: str, revision: str, **_: Any) -> str:
        assert constants.HF_HUB_DISABLE_XET, "through its threads no report could call anything off"
        size = SIZES[filename]
        with tqdm_class(total=size, initial=0, unit="B", unit_scale=True, desc=filename) as bar:
            for _ in range(size // CHUNK):
                self.fetched[filename] = self.fetched.get(filename, 0) + CHUNK
                bar.update(CHUNK)
                bar.update_transfer(CHUNK)
            bar.update(size % CHUNK)
        folder = Path(cache_dir, huggingface_hub.file_download.repo_folder_name(repo_id=repo, repo_type="model"))
        target = folder / "snapshots" / revision / filename
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("{}")
        return str(target)


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The code of huggingface_hub as it is, with nothing behind it but this."""
    hub = Hub()
    for name, value in (("CACHE", str(tmp_path / "hub")), ("OFFLINE", False), ("DISABLE_XET", False)):
        monkeypatch.setattr(constants, f"HF_HUB_{name}", value)
    monkeypatch.setattr(HfApi, "repo_info", hub.info)
    monkeypatch.setattr(HfApi, "list_repo_tree", hub.tree)
    monkeypatch.setattr(_snapshot_download, "hf_hub_download", hub.fetch)
    return hub


def test_a_download_is_told_in_bytes_of_all_files_together(online: Hub) -> None:
    told: list[tuple[str, int, int]] = []
    files = hub_files(NAME, None, download=True, report=lambda *report: told.append(report))
    assert sorted(path.name for path in files.path.iterdir()) == sorted(SIZES), "and nothing in another format"
    assert {stage for stage, _, _ in told} == {STAGE}
    done = [bytes_done for _, bytes_done, _ in told]
    assert max(done) == sum(SIZES.values())
    assert max(total for _, _, total in told) == sum(SIZES.values())
    assert all(0 <= bytes_done <= total for _, bytes_done, total in told)
    for revision, asked in (("v9", {"main", "v9"}), (COMMIT, {"main", "v9"})):
        assert hub_files(NAME, revision, download=True).name == COMMIT
        assert online.revisions == asked


def test_a_report_that_cancels_ends_the_download(online: Hub) -> None:
    def cancel(stage: str, done: int, total: int) -> None:
        raise Cancelled(stage)

    with pytest.raises(Cancelled):
        hub_files(NAME, None, download=True, report=cancel)
    assert online.fetched
    assert max(online.fetched.values()) == CHUNK, "of no file more than the first chunk"


def test_what_is_here_is_found_without_the_hub(online: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    downloaded = hub_files(NAME, None, download=True)
    monkeypatch.setattr(HfApi, "repo_info", None)
    monkeypatch.setattr(_snapshot_download, "hf_hub_download", None)
    assert hub_files(NAME, None, download=False) == downloaded
    (downloaded.path / "model.safetensors").unlink()
    with pytest.raises(NotHere, match="is not on this machine; “Compute” on the page Models downloads it"):
        hub_files(NAME, None, download=False)


def test_a_listed_shard_that_is_not_there(tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the Hub kept no listing of the files, the index of the weights tells."""
    folder = Path(shutil.copytree(saved, tmp_path / "partial"))
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    (folder / "model.safetensors").rename(folder / first)
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": first, "b": second}}))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(folder))
    with pytest.raises(NotHere, match=f"lacks 1 of its weight files, such as {second}"):
        catalog.locate(NAME, download=False)
    shutil.copy(folder / first, folder / second)
    assert catalog.locate(NAME, download=False) == ModelFiles(folder)


def test_nothing_is_downloaded_unless_it_is_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def absent(*_: Any, local_files_only: bool, **__: Any) -> str:
        seen.append(local_files_only)
        raise hub_errors.LocalEntryNotFoundError("no")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", absent)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", absent)
    for ask in (hub_files, hub_configuration):
        with pytest.raises(NotHere, match="page Models"):
            ask(NAME, None, download=False)
    with pytest.raises(ModelError, match="cannot be downloaded now") as caught:
        hub_files(NAME, "v1", download=True)
    assert not isinstance(caught.value, NotHere)
    assert seen == [True, True, False]
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *where, **how: "/".join(where))
    assert hub_configuration(NAME, "v1") == Path(NAME, CONFIGURATION)


def refusal(error: type[hub_errors.HfHubHTTPError]) -> Exception:
    return error("no", response=SimpleNamespace(headers={}, request=None))  # type: ignore[arg-type]


FAILURES = {
    "accept its licence at https://huggingface.co/someone/tiny-opt, run `hf": refusal(hub_errors.GatedRepoError),
    "someone/tiny-opt has no revision 'v1'": refusal(hub_errors.RevisionNotFoundError),
    "There is no model 'someone/tiny-opt' on the Hugging Face Hub": refusal(hub_errors.RepositoryNotFoundError),
    r"has no config\.json on the Hub.* an adapter has to be merged": refusal(hub_errors.RemoteEntryNotFoundError),
    "at revision v1 and cannot be downloaded now": hub_errors.LocalEntryNotFoundError("no"),
    "is neither a folder nor a GGUF file on this machine nor a model name": hub_errors.HFValidationError("no"),
    r"could not be downloaded \(ReadTimeout\)": httpx2.ReadTimeout("no"),
}


@pytest.mark.parametrize("ask", [hub_files, hub_configuration])
def test_what_goes_wrong_becomes_advice(ask: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for advice, error in FAILURES.items():

        def fail(*_: Any, error: Exception = error, **__: Any) -> str:
            raise error

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
        with pytest.raises(ModelError, match=advice) as caught:
            ask(NAME, "v1", download=True)
        assert isinstance(caught.value, Gated) == isinstance(error, hub_errors.GatedRepoError)
