"""Visitors without a browser: each is a websocket to a Streamlit server, and asks for pages as a browser does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ContextInfo
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import ClientConnection, connect

from tests.browser.conftest import ROOT
from tests.browser.conftest import _free_port as free_port

SECONDS = 60  # a run that takes longer is a failure
TICK = 1 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """What a process has had of all cores, threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


@dataclass
class Visitor:
    """One session with a server.

    Attributes:
        socket: to it.
        url: of the server.
        query: what the address bar says after the question mark.
        pages: hash of each page's script, by the name in its address; known after the first run.
        shown: the messages of the last run.
    """

    socket: ClientConnection
    url: str
    query: str = ""
    pages: dict[str, str] = field(default_factory=dict)
    shown: list[ForwardMsg] = field(default_factory=list)
    page: str = ""

    def visit(self, page: str = "", query: str | None = None) -> None:
        """Go to a page by the name in its address ("" for the first one), and wait until its run has ended."""
        self.query = self.query if query is None else query
        known = self.pages.get(page, "")
        self.page = page
        self._ask(known, [], page_name="" if known else page)

    def click(self, chart: str, selection: dict[str, object]) -> None:
        """Pick something on a chart, by the beginning of its key."""
        actual = next(e for e in self.elements("vega_lite_chart") if f"-{chart}" in e.id)
        state = WidgetState(id=actual.id, string_value=json.dumps({"selection": selection}))
        self._ask(self.pages[self.page], [state], fragment=found_fragment(self.shown, actual.id))

    def elements(self, kind: str) -> Iterator[object]:
        """What the last run drew of a kind."""
        for message in self.shown:
            if message.WhichOneof("type") == "delta" and message.delta.new_element.WhichOneof("type") == kind:
                yield getattr(message.delta.new_element, kind)

    def _ask(self, page: str, states: list[WidgetState], *, page_name: str = "", fragment: str = "") -> None:
        message = BackMsg()
        asked = message.rerun_script
        asked.query_string, asked.page_script_hash, asked.page_name = self.query, page, page_name
        asked.fragment_id = fragment
        asked.widget_states.widgets.extend(states)
        asked.context_info.CopyFrom(ContextInfo(timezone="UTC", locale="en", url=self.url, color_scheme="light"))
        self.socket.send(message.SerializeToString())
        self._read()

    def _read(self) -> None:
        """Take in what the server sends until a run has ended and none follows."""
        self.shown = []
        ends = time.monotonic() + SECONDS
        while True:
            message = ForwardMsg()
            message.ParseFromString(self.socket.recv(timeout=max(0.01, ends - time.monotonic())))
            self.shown.append(message)
            kind = message.WhichOneof("type")
            if kind == "new_session":
                self.pages = {page.url_pathname: page.page_script_hash for page in message.new_session.app_pages}
                self.pages.setdefault("", message.new_session.main_script_hash)
            elif kind == "page_info_changed":
                self.query = message.page_info_changed.query_string
            elif kind == "script_finished" and message.script_finished in (
                ForwardMsg.FINISHED_SUCCESSFULLY,
                ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY,
            ):
                return


def found_fragment(shown: list[ForwardMsg], element: str) -> str:
    """The fragment that drew an element, or "" if the page itself did."""
    for message in shown:
        if message.WhichOneof("type") == "delta":
            drawn = message.delta.new_element
            kind = drawn.WhichOneof("type")
            if kind and getattr(getattr(drawn, kind), "id", "") == element:
                return message.delta.fragment_id
    return ""


@dataclass(frozen=True)
class Server:
    """A server that runs: where it is, and which process."""

    url: str
    pid: int


@contextmanager
def serving(program: str, app: Path, cache: Path) -> Iterator[Server]:
    """A server of an app, started by a Python program that is given Streamlit's arguments, with its own cache."""
    port = free_port()
    options = (f"port={port}", "address=127.0.0.1", "headless=true", "fileWatcherType=none")
    command = [sys.executable, "-c", program, "run", app.name, "--browser.gatherUsageStats=false"]
    command += [f"--server.{option}" for option in options]
    environment = {**os.environ, "KIS_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        command, cwd=app.parent, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    ends = time.monotonic() + SECONDS
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=1)  # noqa: S310 - our own server
                break
            except OSError:
                assert server.poll() is None, "the server ended at its start"
                assert time.monotonic() < ends, "the server did not answer in time"
                time.sleep(0.05)
        yield Server(url, server.pid)
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@contextmanager
def visitor(url: str) -> Iterator[Visitor]:
    """A session of its own with a server on this machine."""
    host = urlsplit(url).netloc
    with connect(
        f"ws://{host}/_stcore/stream", origin=url, subprotocols=["streamlit"], max_size=None, compression=None
    ) as socket:
        yield Visitor(socket, url)
