"""A public server: what it does not offer, said kindly, and how much it draws for whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

import streamlit as st
from streamlit import config

from kis_core.errors import NotOffered
from kis_core.read_only import read_only

HOME = (
    "On a machine of your own it is: fetch this program, start it with `make run`, and bring models, facts and texts "
    "as its README says."
)
BUSY = "This server is busy. Wait a moment, then reload the page."
MOST_WAIT = 2.0  # seconds that a page waits for its turn; whoever would have to wait longer is turned away

T = TypeVar("T")


@dataclass(eq=False)
class Allowance:
    """So many pieces of work at once, and then so many a second. Safe to share between threads.

    Attributes:
        burst: pieces that need not wait after a rest.
        rate: pieces a second in the long run.
        clock: gives the seconds.
    """

    burst: int
    rate: float
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _used_until: float = field(default=float("-inf"), init=False)  # when what was taken so far will be made up for

    def take(self, most_wait: float = MOST_WAIT) -> float | None:
        """Seconds to wait before one more piece; None, and nothing is taken, where that is longer than `most_wait`."""
        with self._lock:
            now = self.clock()
            until = max(self._used_until, now - self.burst / self.rate) + 1 / self.rate
            if until - now > most_wait:
                return None
            self._used_until = until
            return max(0.0, until - now)


def of_session() -> Allowance:
    """What one visitor gets: a page takes about three of these, as each of its panels counts."""
    allowance: Allowance = st.session_state.setdefault("allowance", Allowance(burst=40, rate=8.0))
    return allowance


@cache
def of_server() -> Allowance:
    """What all visitors get together: about as much as a processor draws."""
    return Allowance(burst=200, rate=30.0)


def take_turn() -> None:
    """On a public server, wait for one's turn to draw, or end the page here; and take no uploads.

    Uploads go to an address of the server's own, which no page has to offer.
    """
    if not read_only():
        return
    config.set_option("server.maxUploadSize", 0)
    for allowance in (of_session(), of_server()):
        wait = allowance.take()
        if wait is None:
            st.warning(BUSY, icon=":material/hourglass_top:")
            st.stop()
        time.sleep(wait)


def in_turn(make: Callable[[], T]) -> Callable[[], T]:
    """What makes a file to download; on a public server it waits for its turn, or refuses."""

    def made() -> T:
        if read_only():
            wait = of_server().take()
            if wait is None:
                raise NotOffered(BUSY)
            time.sleep(wait)
        return make()

    return made


def banner() -> None:
    """On a public server, say so."""
    if read_only():
        st.caption(
            ":material/public: **A public server**: it shows what is stored. Nothing is computed, uploaded or deleted "
            "here.",
            help=HOME,
        )


def not_offered(what: str) -> bool:
    """On a public server, say that it does not offer this, and where it is to be had; returns whether it is one.

    Args:
        what: is not offered, as the beginning of a sentence.
    """
    if read_only():
        st.info(f"{what} is not offered on this public server. {HOME}", icon=":material/public:")
    return read_only()
