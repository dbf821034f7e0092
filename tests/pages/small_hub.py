"""A Hub of a few small folders in place of the real one, and what the pages of models and jobs do with it."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from kis_core.covariance import speed
from kis_core.machine import Device, Speed
from pages.parts.jobs import background

SPEED = Speed(forward=1e11, product=1e11, factor=1e10)
WORKER = "kis-worker"


class Hub:
    """Models by id, each a folder; those in `here` were downloaded, and every download happens in a job.

    Attributes:
        here: ids whose weights are on this machine.
        downloads: ids downloaded, in order.
        gated: ids whose licence was not accepted.
        offline: whether it cannot be reached.
    """

    def __init__(self) -> None:
        self.folders: dict[str, Path] = {}
        self.here: set[str] = set()
        self.read: set[str] = set()
        self.downloads: list[str] = []
        self.gated: set[str] = set()
        self.offline = False

    def snapshot(self, name: str, *, local_files_only: bool, tqdm_class: Any, **_: Any) -> str:
        """As `huggingface_hub.snapshot_download`."""
        if name in self.here:
            return str(self.folders[name])
        if local_files_only:
            raise errors.LocalEntryNotFoundError("no")
        assert threading.current_thread().name == WORKER, "a page downloads nothing by itself"
        self._refuse(name)
        bar = tqdm_class(unit="B", total=100, name="huggingface_hub.snapshot_download")
        for _ in range(10):
            bar.update(10)
        self.here.add(name)
        self.downloads.append(name)
        return str(self.folders[name])

    def configuration(self, name: str, filename: str, *, local_files_only: bool, **_: Any) -> str:
        """As `huggingface_hub.hf_hub_download`."""
        assert filename == "config.json", "nothing else is read before it is asked for"
        if name not in self.read | self.here:
            if local_files_only:
                raise errors.LocalEntryNotFoundError("no")
            self._refuse(name)
        self.read.add(name)
        return str(self.folders[name] / filename)

    def _refuse(self, name: str) -> None:
        answer: Any = SimpleNamespace(headers={}, request=None)
        if self.offline:
            raise errors.LocalEntryNotFoundError("no")
        if name in self.gated:
            raise errors.GatedRepoError("no", response=answer)
        if name not in self.folders:
            raise errors.RepositoryNotFoundError("no", response=answer)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The Hub, empty at first."""
    made = Hub()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", made.configuration)
    return made


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No trial of this machine's speed, and no imports that nothing here needs."""
    monkeypatch.setattr(speed, "probe", lambda *_: SPEED)
    monkeypatch.setattr(background, "settle_imports", lambda: None)


def device(name: str, gigabytes: float, kind: str = "cpu") -> Device:
    """A device with that much free memory."""
    return Device(name, f"some {name}", kind, int(gigabytes * 1e9), int(gigabytes * 1e9))
