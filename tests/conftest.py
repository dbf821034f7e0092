"""What many tests share: a cache folder each, no network, one thread, and the shared data where present.

And how the suite runs: property tests by profile, browser tests first and in one process, the slowest files printed.
"""

from __future__ import annotations

import gc
import os
import shutil
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before any import of transformers: tests never touch the network
os.environ["KIS_GALLERY"] = ""  # no test depends on what comes with the program, but for those of the gallery itself
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: for tiny models on busy cores a second thread only waits

from tests import tiny

if TYPE_CHECKING:  # the process that hands the tests out needs none of it
    from kis_core.models.loaded import LoadedModel
    from kis_core.store import Store

MAIN = sys.modules["__main__"]
SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
BROWSER = "tests/browser/"
SLOWEST = 10  # files that are named at the end

gc.disable()  # until all is imported: it would be looked through thousands of times, and there is no garbage in it
sys.dont_write_bytecode = False  # compiled once, not by each process, whatever the environment says
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile("quick", max_examples=15, deadline=None)
settings.register_profile("ci", settings.get_profile("quick"), derandomize=True, print_blob=True)
settings.register_profile("stress", settings.get_profile("quick"), max_examples=200)
settings.load_profile("quick")  # `--hypothesis-profile` chooses another


class ByFolder(LoadScopeScheduling):
    """The tests of a folder go to one process: they share a server and a Chromium, or models and results."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.split("::", 1)[0].rpartition("/")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFolder:
    return ByFolder(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests first, for they take longest, then those of pages."""
    first = (BROWSER, "tests/pages/")
    items.sort(key=lambda item: next((at for at, folder in enumerate(first) if item.nodeid.startswith(folder)), 9))


def pytest_collection_finish() -> None:
    """From here on garbage is collected, but nothing that was imported is looked at again."""
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the files that took longest, in seconds of one process."""
    seconds: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.nodeid.split("::", 1)[0]] += report.duration
    terminalreporter.section(f"slowest files of {seconds.total():.0f} s")
    for name, taken in seconds.most_common(SLOWEST):
        terminalreporter.line(f"{taken:6.1f} s {name}")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real facts and tokenizers beside the project; the test is skipped where they are not."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no shared data beside the project")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test computes into its own cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("KIS_CACHE", str(folder))
    return folder


ASKED: list[str] = []  # of whom, on the network, since the test began


def watch_the_network(event: str, details: tuple[object, ...]) -> None:
    """An audit hook: nobody but this machine is asked for anything by a test, nor by what it tests."""
    if event not in ("socket.connect", "socket.getaddrinfo"):
        return
    address = details[1] if event == "socket.connect" else details[0]
    host = address[0] if isinstance(address, tuple) else address if event == "socket.getaddrinfo" else "localhost"
    if host not in ("localhost", "127.0.0.1", "::1", "", None) and str(host) != socket.gethostname():
        ASKED.append(f"{event} {host}")
        if not ASKS:
            raise OSError(f"no test asks {host}")


ASKS: list[str] = []  # the test under way, if it is one that asks its own server by other names
sys.addaudithook(watch_the_network)


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test fails where anything of it asks another machine."""
    ASKED.clear()
    ASKS[:] = [request.node.nodeid] if request.node.nodeid.startswith(BROWSER) else []
    yield
    assert ASKS or ASKED == []


@pytest.fixture(autouse=True)
def own_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page drawn in a test takes the place of the main module, which a process spawned later would draw again."""
    monkeypatch.setitem(sys.modules, "__main__", MAIN)


@contextmanager
def one_for_all_processes(factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """A folder shared by the processes that run the tests, for one of them at a time."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with FileLock(root / f"{name}.lock"):
        yield root / name


@pytest.fixture
def store(tmp_path: Path) -> Store:
    from kis_core.store import Store

    return Store(tmp_path / "cache")


@pytest.fixture(params=tiny.ARCHITECTURES, scope="module")
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    """A tiny model of each architecture."""
    return tiny.model(request.param)


@pytest.fixture
def gpt2() -> LoadedModel:
    """A model of its own for tests that damage it."""
    return tiny.model("GPT-2")


@pytest.fixture
def without_gradients() -> Iterator[None]:
    import torch

    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 folder; tests that change it work on a copy."""
    return tiny.save("GPT-2", tmp_path_factory.mktemp("models") / "gpt2")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "gpt2"))
