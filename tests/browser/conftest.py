"""A real server and a real Chromium. A missing browser is a failure, never a skip."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Response, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60
SCREEN: Any = {"width": 1440, "height": 900}
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
HARMLESS = ("_stcore/health", "_stcore/host-config")  # a deep link first asks below its own path; a 404 there is usual


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(cache: Path) -> Iterator[str]:
    """`streamlit run app.py` as the README says, with its own cache; yields the address."""
    port = _free_port()
    environment = {**os.environ, "KIS_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    if "PYTEST_XDIST_WORKER" not in environment:  # else other tests run beside it, and threads would wait for cores
        environment.pop("OMP_NUM_THREADS", None)  # the tests' own limit; a person's server has all cores
    command = [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={port}", "--server.headless=true"]
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        began = time.monotonic()
        while True:
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=1)  # noqa: S310 - our own server
                break
            except OSError:
                assert server.poll() is None, "the server ended at its start"
                assert time.monotonic() - began < START_SECONDS, "the server did not answer in time"
                time.sleep(0.05)
        yield url
    finally:
        server.terminate()
        server.wait(10)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A journey that fails is made once more and named at the end (R): a busy machine may starve a browser."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert path, "no Chromium: install it (Debian: apt-get install chromium) or set CHROMIUM"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def warm_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all browser tests: the first one fills it."""
    return tmp_path_factory.mktemp("browser-cache")


@pytest.fixture(scope="session")
def server(warm_cache: Path) -> Iterator[str]:
    """One for all who need no fresh one: its imports cost more than most tests."""
    with serving(warm_cache) as url:
        yield url


@pytest.fixture(scope="session")
def windows(browser: Browser) -> Callable[[bool], BrowserContext]:
    """A light window and a dark one, which all tests open their tabs in: the program's scripts are read once."""

    @cache
    def window(dark: bool) -> BrowserContext:
        scheme: Any = "dark" if dark else "light"
        return browser.new_context(viewport=SCREEN, color_scheme=scheme, reduced_motion="reduce")

    return window


@pytest.fixture
def open_page(windows: Callable[[bool], BrowserContext]) -> Iterator[Callable[..., Page]]:
    """Open an address in a fresh session; afterwards, nothing may have left this machine or been complained of."""
    complaints: list[str] = []
    pages = []

    def answered(response: Response) -> None:
        if response.status >= 400 and not response.url.endswith(HARMLESS):
            complaints.append(f"{response.status} {response.url}")

    def opened(url: str, *, dark: bool = False) -> Page:
        page = windows(dark).new_page()
        pages.append(page)
        page.on("request", lambda r: complaints.append(f"left the machine: {r.url}") if _foreign(r.url) else None)
        page.on("response", answered)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        return page

    yield opened
    for page in pages:
        page.close()
    assert complaints == []


def _foreign(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))
