"""What a visit of each page costs the server, and how long visitors wait when eight come at once.

Prints; asserts nothing about time. Results are computed beforehand, and nothing starts to compute by itself: a page
whose work is still to be done shows what it shows before that.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from kis_core.analysis import pipeline
from kis_core.request import Request
from kis_core.store.store import Store
from tests.benchmarks.visiting import ROOT, Server, Visitor, cpu_seconds, serving, visitor

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(600)]

PAGES = ("", *sorted(path.stem for path in (ROOT / "pages").glob("*.py")))
MODELS = ("demo-gpt2-32", "demo-llama-128")
LINK = f"model={MODELS[0]}&other={MODELS[1]}"
VISITORS = 8
AFTER = 0.1  # seconds after a visit in which the server tidies up: that counts too
ROUNDS = 3  # visits of each page that are counted
TOURS = 3  # pages that each of the visitors looks at, one after the other
PROGRAM = """
import sys
from streamlit.web import cli
sys.argv[0] = "streamlit"
{before}
sys.exit(cli.main())
"""
OURS = PROGRAM.format(before="from pages.parts.jobs import results; results.START_BY_ITSELF = 0")
CHARTS_ANEW = (
    "from pages.parts.figures import drawing; from altair.utils import schemapi; schemapi.enable_debug_mode(); "
    "drawing._specification = drawing._specification.__wrapped__; import gc; gc.freeze = lambda: None"
)
BARE_PAGE = """
import altair as alt, numpy as np, pandas as pd, streamlit as st
frame = pd.DataFrame({"x": np.arange(100), "y": np.arange(100) ** 2})
st.altair_chart(alt.Chart(frame).mark_line().encode(x="x:Q", y="y:Q"))
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("visits-cache")
    for model in MODELS:
        pipeline.run(Request(model), Store(folder))
    return folder


@pytest.fixture(scope="module")
def ours(cache: Path) -> Iterator[Server]:
    with serving(OURS, ROOT / "app.py", cache) as server:
        tour(server, PAGES)
        yield server


@pytest.fixture(scope="module")
def anew(cache: Path) -> Iterator[Server]:
    """The same pages, but every chart is made anew and checked, and the collector looks at everything."""
    with serving(f"{OURS}".replace("sys.exit", f"{CHARTS_ANEW}\nsys.exit"), ROOT / "app.py", cache) as server:
        tour(server, PAGES)
        yield server


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A page of Streamlit with a single chart."""
    app = tmp_path_factory.mktemp("bare") / "bare.py"
    app.write_text(BARE_PAGE)
    with serving(PROGRAM.format(before=""), app, app.parent) as server:
        tour(server, ("",))
        yield server


def tour(server: Server, pages: tuple[str, ...]) -> list[float]:
    """Visit pages in a session of one's own; how long each took."""
    took = []
    with visitor(server.url) as one:
        for page in pages:
            began = time.perf_counter()
            one.visit(page, LINK)
            took.append(time.perf_counter() - began)
    return took


def milliseconds(server: Server, work: Callable[[], object]) -> float:
    before = cpu_seconds(server.pid)
    work()
    time.sleep(AFTER)
    return 1e3 * (cpu_seconds(server.pid) - before)


def visits(server: Server, pages: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """CPU milliseconds of the first and of a later visit of each page."""
    first: dict[str, list[float]] = {page: [] for page in pages}
    later: dict[str, list[float]] = {page: [] for page in pages}
    for _ in range(ROUNDS):
        for page in pages:
            with visitor(server.url) as one:
                first[page].append(milliseconds(server, lambda one=one, page=page: one.visit(page, LINK)))
                later[page].append(milliseconds(server, lambda one=one, page=page: one.visit(page)))
    return {page: (statistics.mean(first[page]), statistics.mean(later[page])) for page in pages}


def clicks(one: Visitor) -> None:
    """Clicks on cells of the heatmap that nobody clicked before."""
    for at in range(ROUNDS):
        one.click("heatmap", {"cell": [{"r": at, "c": at + 7}]})


def test_what_a_visit_costs(ours: Server, anew: Server) -> None:
    now, before = visits(ours, PAGES), visits(anew, PAGES)
    print(f"\n{'page':16} {'CPU ms, first':>14} {'later':>7} {'charts anew':>12} {'later':>7} {'ratio':>6}")
    for page in PAGES:
        print(f"{page or 'overview':16} {now[page][0]:14.0f} {now[page][1]:7.0f} {before[page][0]:12.0f} "
              f"{before[page][1]:7.0f} {now[page][1] / before[page][1]:6.2f}")  # fmt: skip
    means = [statistics.mean(one[at] for one in table.values()) for table in (now, before) for at in (0, 1)]
    print(f"{'mean':16} {means[0]:14.0f} {means[1]:7.0f} {means[2]:12.0f} {means[3]:7.0f} {means[1] / means[3]:6.2f}")
    for name, server in (("ours", ours), ("charts anew", anew)):
        with visitor(server.url) as one:
            one.visit("superposition", LINK)
            cost = milliseconds(server, lambda one=one: clicks(one)) / ROUNDS
        print(f"{name}: a click on a cell of the heatmap {cost:.0f} ms")


def at_once(server: Server, pages: tuple[str, ...]) -> np.ndarray:
    """Seconds of every visit of `VISITORS` who come at once, each to other pages first."""
    tours = [tuple(pages[(start * TOURS + at) % len(pages)] for at in range(TOURS)) for start in range(VISITORS)]
    with ThreadPoolExecutor(VISITORS) as pool:
        return np.concatenate(list(pool.map(lambda of: tour(server, of), tours)))


def test_eight_at_once(ours: Server, anew: Server, bare: Server) -> None:
    named = (("ours", ours, PAGES), ("charts anew", anew, PAGES), ("a bare page with one chart", bare, ("",)))
    actual = {name: np.percentile(at_once(server, pages), [50, 95]) for name, server, pages in named}
    for name, (middle, high) in actual.items():
        print(f"\n{VISITORS} visitors at once, {name}: p50 {middle:.2f} s, p95 {high:.2f} s; ours takes "
              f"{actual['ours'][0] / middle:.2f} and {actual['ours'][1] / high:.2f} of that", end="")  # fmt: skip
    print()
