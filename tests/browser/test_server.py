"""The server as the README starts it: reachable from this machine only, and refusing strangers."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from tests.browser.steps import Open, shown

pytestmark = pytest.mark.browser


def test_listens_on_loopback_only(server: str) -> None:
    port = urlsplit(server).port
    own = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: asks the system which of our addresses it would use
        own.add(probe.getsockname()[0])
    for address in own - {"127.0.0.1"}:
        if not address.startswith("127."):
            with pytest.raises(OSError, match=r"refused|timed out"):
                socket.create_connection((address, port), timeout=2)


def _handshake(server: str, origin: str, host: str = "") -> str:
    """Status line of the answer to a WebSocket handshake that claims to come from a page of that origin.

    Args:
        server: its address.
        origin: of the page.
        host: the name that the server is called by; its own by default.
    """
    address = urlsplit(server)
    lines = (
        "GET /_stcore/stream HTTP/1.1",
        f"Host: {host or address.netloc}",
        f"Origin: {origin}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==",
    )
    with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return connection.recv(1024).split(b"\r\n")[0].decode()


def test_a_foreign_origin_gets_no_session(server: str) -> None:
    assert " 101 " in _handshake(server, server), "its own page is let in"
    assert " 403 " in _handshake(server, "http://elsewhere.example")


def test_a_name_that_a_stranger_gave_this_machine_gets_no_session(server: str) -> None:
    evil = f"evil.example:{urlsplit(server).port}"
    assert " 403 " in _handshake(server, f"http://{evil}", evil), "DNS rebinding: page and server of one name"
    assert " 101 " in _handshake(server, "http://localhost", f"localhost:{urlsplit(server).port}")


def test_an_upload_without_a_session_is_refused(server: str) -> None:
    request = Request(f"{server}/_stcore/upload_file/nobody/1", data=b"x" * 10, method="PUT")  # noqa: S310
    with pytest.raises(HTTPError) as refused:
        urlopen(request, timeout=5)  # noqa: S310 - our own server
    assert 400 <= refused.value.code < 500


def _status(server: str, path: str, headers: dict[str, str], claimed: int) -> str:
    """Status line of the answer to an upload of so many bytes, none of which are sent."""
    address = urlsplit(server)
    lines = [f"PUT {path} HTTP/1.1", f"Host: {address.netloc}", f"Content-Length: {claimed}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return connection.recv(1024).split(b"\r\n")[0].decode()


def test_an_upload_that_is_too_large_or_has_no_token_is_refused(server: str, open_page: Open, tmp_path: Path) -> None:
    """Within a session that is entitled to others: as what the page itself sends, but for the size or the token."""
    small = tmp_path / "facts.csv"
    small.write_text("subject,prompt,target\nMalta,The capital of {} is,Valletta\n")
    page = shown(open_page(f"{server}/your_facts"), "[data-testid=stFileUploader]")
    with page.expect_request(lambda request: request.method == "PUT") as sent:
        page.locator("input[type=file]").set_input_files(small)
    path = urlsplit(sent.value.url).path
    kept = {name: value for name, value in sent.value.all_headers().items() if name in ("cookie", "x-xsrftoken")}
    assert set(kept) == {"cookie", "x-xsrftoken"}
    assert " 413 " in _status(server, path, kept, 501 * 2**20)
    assert " 403 " in _status(server, path, {"cookie": kept["cookie"]}, 100)
