"""Runs of edits that the page opens without computing, made once into the cache that all pages share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from html import unescape
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from kis_core import editing, jobs, lifelong
from kis_core.analysis import pipeline
from kis_core.editing import Recipe
from kis_core.lifelong import Draw, EditTrace
from kis_core.models import catalog, loading
from kis_core.models.loaded import LoadedModel
from kis_core.simulator import Simulator
from kis_core.store.store import Store
from pages.parts.jobs import background
from tests.conftest import one_for_all_processes
from tests.pages.conftest import MODEL, Cache, Open, with_one_layer
from tests.pages.looking import Chart, charts, finish, html

PAGE = "pages/lifelong.py"
EDITS = 15
STEPS = [0, 5, 10, 15]
LINK = {"edits": str(EDITS)}
PICKED = ((1, "French"), (0, "a ~ 50 % [x](y)"))
HAND = {"draw": "hand", "queue": "1:French~0:a %7E 50 %25 [x](y)"}
EXACT: dict[str, Any] = {"check_dtype": False, "rtol": 1e-12, "atol": 0.0}  # the same float64 numbers
SEARCHED = 8  # steps of a search for a value, at most: enough for most edits to take


@dataclass(frozen=True)
class Runs:
    """The library beside the page, on the cache of the pages."""

    cache: Cache
    loaded: LoadedModel

    def bench(self, facts: str = "builtin", *, known: bool = False) -> Simulator:
        """Model, facts and C; of the facts that the model answers, where those alone are looked at."""
        result = pipeline.run(self.cache.request(facts), Store(self.cache.folder))
        if known:
            kept = [fact for fact, right in enumerate(result.known) if right]
            result = result.subset(kept, "known")
        return Simulator(result, Store(self.cache.folder), lambda: self.loaded)

    def trace(
        self,
        method: str = "rome",
        edits: int = EDITS,
        draw: Draw | None = None,
        *,
        facts: str = "builtin",
        known: bool = False,
    ) -> EditTrace:
        """A run, from the store once it is there."""
        bench = self.bench(facts, known=known)
        return lifelong.run(bench, lifelong.ask(bench, 0, method, edits, draw))


def search_briefly(patch: pytest.MonkeyPatch) -> None:
    """From then on a value is searched for in few steps: a run takes a fifth of the time, and any δ will do."""
    usual = editing.recipe

    def brief(model: str, **size: Any) -> Recipe:
        actual = usual(model, **size)
        return replace(actual, hyperparameters=replace(actual.hyperparameters, steps=SEARCHED))

    patch.setattr(editing, "recipe", brief)
    patch.setattr("kis_core.lifelong.request.recipe", brief)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    search_briefly(monkeypatch)


@pytest.fixture(scope="session")
def runs(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The library, with the runs stored that the pages open: one to the end, and a few short ones set against it."""
    with one_for_all_processes(tmp_path_factory, "runs"), pytest.MonkeyPatch.context() as patch:
        with_one_layer(cache, patch)
        search_briefly(patch)
        made = Runs(cache, loading.load(catalog.locate(MODEL)))
        bench = made.bench()
        drawn = Draw(seed=1), Draw(seed=2), Draw("most")
        kinds = [("rome", EDITS, None), ("alphaedit", 5, None), ("fine-tuning", 5, None)]
        kinds += [*(("rome", 5, draw) for draw in drawn), ("rome", 2, Draw("hand", picked=PICKED))]
        for method, edits, draw in kinds:
            lifelong.run(bench, lifelong.ask(bench, 0, method, edits, draw))
    return made


@pytest.fixture
def trace(runs: Runs, quick: None) -> EditTrace:
    """The run that the page opens with `LINK`."""
    return runs.trace()


def chart(page: AppTest, title: str) -> Chart:
    """The one chart whose name begins so."""
    (actual,) = (one for one in charts(page) if one.title.startswith(title))
    return actual


def numbers(page: AppTest) -> dict[str, tuple[str, str]]:
    """The numbers on the left: by name, the number and what is said under it."""
    cells = re.findall(r"<div><div[^>]*>([^<]*)</div><div[^>]*>([^<]*)</div><div[^>]*>([^<]*)</div></div>", html(page))
    return {label: (unescape(value), unescape(note)) for label, value, note in cells}


def jobs_of_runs() -> list[jobs.Job]:
    return list(background.runner().jobs().values())


def settled(page: AppTest) -> AppTest:
    """The page once all jobs have ended."""
    finish()
    return page.run()


@pytest.fixture
def seen(runs: Runs, look: Open, quick: None) -> Callable[..., AppTest]:
    """The page with the run of `LINK`, for those who only look: `seen(step=..., chronicle=..., ...)`."""
    return lambda **link: look(PAGE, **LINK | link)


@pytest.fixture
def opened(runs: Runs, open_page: Open, quick: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """The same for those who touch it."""
    monkeypatch.setattr(background, "settle_imports", lambda: None)  # heavy imports that nothing here needs
    return lambda **link: open_page(PAGE, **LINK | link)
