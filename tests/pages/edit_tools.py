"""The page of edits as the tests handle it, and the library alone beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from kis_core.analysis.pipeline import Result
from kis_core.models import catalog, loading
from kis_core.models.loaded import LoadedModel
from kis_core.simulator import EditOutcome, EditRequest, Forecast, Simulator, spill_frame
from kis_core.store.store import Store
from pages.parts.edit import simulator as benches
from tests.pages.conftest import MODEL, Cache, Stored
from tests.pages.looking import Chart, button, captions, charts, press

STORY = {"pair": "1-0", "target": "French", "look": "history"}
"""Bukovsky speaks French; Mayakovsky ends in the same token."""
STEPS = 3  # of a search, where any δ will do
FEW = f"steps:{STEPS}"
USUAL = {"facts": "three", "pair": "0-1", "target": "French", "look": "history"}
SMALL = USUAL | {"how": FEW}
LINEAR = 1e-12  # relative: float64, multiplied in another order
SHARE = 1e-5  # relative: keys read in float32 in batches of other shapes
DONE = "Diamonds are measured"
AS_ON_A_SERVER = benches._simulator  # before the tests share it
Edit = Callable[..., AppTest]


@dataclass(frozen=True)
class Alone:
    """An edit by the library alone, beside the page."""

    bench: Simulator
    request: EditRequest

    @property
    def forecast(self) -> Forecast:
        return self.bench.forecast(self.request)

    def outcome(self, strength: float = 1.0) -> EditOutcome:
        return self.bench.perform(self.request, strength)

    def frame(self, by: str = "all", strength: float = 1.0, *, performed: bool = False) -> pd.DataFrame:
        outcome = self.outcome(strength) if performed else None
        return spill_frame(self.bench, self.request.fact, self.forecast, by, strength, outcome)


Makes = Callable[..., Alone]


@pytest.fixture(scope="session")
def model() -> LoadedModel:
    """The demo model, loaded apart from the pages'."""
    return loading.load(catalog.locate(MODEL))


@pytest.fixture(scope="session")
def kept() -> dict[str, Simulator]:
    return {}


@pytest.fixture
def alone(stored: Stored, cache: Cache, model: LoadedModel, kept: dict[str, Simulator]) -> Makes:
    """What the library makes of an edit: `alone(fact, target, layer, method, facts=..., **how)`."""

    def made_of(
        fact: int = 1, target: str = "French", layer: int = 0, method: str = "rome", facts: str = "builtin", **how: Any
    ) -> Alone:
        if facts not in kept:
            kept[facts] = Simulator(stored(facts), Store(cache.folder), lambda: model)
        return Alone(kept[facts], kept[facts].request(fact, target, layer, method, **how))

    return made_of


@pytest.fixture
def small(alone: Makes) -> Makes:
    """The same of the edit of `SMALL`: `small(target, **options)`."""
    return lambda target="French", **options: alone(0, target, **{"facts": "three", "steps": STEPS} | options)


@pytest.fixture
def own_bench(open_edit: Edit, model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulators that nobody has used, and that nobody uses afterwards."""
    new: dict[object, Simulator] = {}
    make = AS_ON_A_SERVER.__wrapped__

    def own(key: object, result: Result) -> Simulator:
        if key not in new:
            new[key] = make(key, result)
        return new[key]

    monkeypatch.setattr(benches, "_simulator", own)
    monkeypatch.setattr(loading, "load", lambda *_, **__: model)


def spillover(page: AppTest) -> Chart:
    """The chart of all facts."""
    return next(chart for chart in charts(page) if chart.holds("told", "kind", "left"))


def bars(page: AppTest) -> pd.DataFrame:
    """What it draws, without where."""
    return spillover(page).table("told", "kind", "left").drop(columns=["left", "right", "zero", "bottom", "top"])


def assert_bars(page: AppTest, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(bars(page), expected, check_dtype=False, rtol=LINEAR, atol=0)


def ringed(page: AppTest) -> list[int]:
    """The facts that it rings."""
    return spillover(page).ringed()["fact"].tolist()


def perform(page: AppTest) -> AppTest:
    return press(page, "Perform the edit")


def undo(page: AppTest) -> AppTest:
    return press(page, "Undo")


def measured(page: AppTest) -> bool:
    """Whether a measurement is shown."""
    shown = bars(page)["measured"].notna()
    assert shown.all() or not shown.any()
    assert shown.all() == (DONE in captions(page)) == (not button(page, "Undo").disabled)
    return bool(shown.all())


def type_object(page: AppTest, text: str) -> AppTest:
    """Type a new object, offered or not; `AppTest` itself can only choose."""
    states = page._tree.get_widget_states()
    (box,) = (state for state in states.widgets if state.id == page.selectbox(key="edit-target").id)
    box.string_value = text
    return page._run(states)


def fail(error: BaseException) -> Callable[..., NoReturn]:
    def failing(*_: Any, **__: Any) -> NoReturn:
        raise error

    return failing
