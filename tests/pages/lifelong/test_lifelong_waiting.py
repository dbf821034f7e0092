"""Runs begun from the page: drawn while they go on, seen by others, cancelled, gone on with, and failed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from kis_core import jobs, lifelong
from kis_core.lifelong import Draw, EditTrace
from kis_core.progress import Report, silent
from pages.parts.jobs import results
from tests.pages.lifelong_runs import Runs, chart, jobs_of_runs, numbers, settled
from tests.pages.looking import PATIENCE, button, charts, choose, finish, infos, labels, markdown, press, unescaped

Page = Callable[..., AppTest]
SMALL = 50_000_000  # parameters: all demo models have fewer
KEPT = "Cancelled. What was measured is kept"


@dataclass
class Held:
    """A run that stands still, once it has measured so many edits, until it is let go."""

    edits: int = 5
    reached: threading.Event = field(default_factory=threading.Event)
    free: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        assert self.reached.wait(PATIENCE)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """The library's own run, which waits in the middle."""
    stop, run = Held(), lifelong.run

    def waiting(*asked: Any, seen: Callable[[EditTrace], None] | None = None, report: Report = silent) -> EditTrace:
        def held_up(trace: EditTrace) -> None:
            if seen is None:
                return
            seen(trace)
            if trace.edits >= stop.edits:
                stop.reached.set()
                assert stop.free.wait(PATIENCE)

        return run(*asked, seen=held_up, report=report)

    monkeypatch.setattr(lifelong, "run", waiting)
    yield stop
    stop.free.set()
    finish()


def bars(page: AppTest) -> list[str]:
    """What stands over the bars of runs that go on."""
    return [bar.proto.text for bar in page.get("progress")]


def edits_drawn(page: AppTest) -> list[int]:
    return sorted(set(chart(page, "Edit after edit").under_mouse()["edits"]))


@pytest.mark.stress
def test_a_run_is_drawn_as_it_goes_on_kept_when_cancelled_and_resumed(opened: Page, held: Held, runs: Runs) -> None:
    page = opened(edits="10", seed="110")
    assert "Press **Run**" in infos(page)
    assert labels(page) == ["Forecast the budget", "Run"]
    assert not charts(page)
    press(page, "Run")
    held.wait()
    page.run()
    assert edits_drawn(page) == [0, 5]
    assert numbers(page)["unrelated right"][1] == "after 5 edits", "the newest"
    (line,) = bars(page)
    assert line.startswith(lifelong.STAGE)
    assert button(page, "Resume").disabled, "it goes on already"
    domains = chart(page, "Edit after edit").domains("x")
    assert domains == [[0, 10]] * len(domains), "room for what is to come"
    other = opened(edits="10", seed="110")
    assert edits_drawn(other) == [0, 5], "another visit finds it going on"
    assert button(other, "Resume").disabled
    assert len(jobs_of_runs()) == 1
    elsewhere = opened(edits="10", seed="111")
    assert not bars(elsewhere), "another run is not going on"
    assert not button(elsewhere, "Run").disabled

    press(page, "Cancel")
    held.free.set()
    page = settled(page)
    assert not page.error
    assert KEPT in infos(page)
    assert not bars(page)
    before = chart(page, "Edit after edit").under_mouse()
    st.cache_resource.clear()  # as after a restart of the server
    page = opened(edits="10", seed="110")
    assert KEPT not in infos(page)
    assert edits_drawn(page) == [0, 5]
    again = chart(page, "Edit after edit").under_mouse()
    assert again["share"].tolist()[:2] == before["share"].tolist()[:2]
    page = settled(press(page, "Resume"))
    assert edits_drawn(page) == [0, 5, 10]
    assert "Cancel" not in labels(page)
    assert button(page, "Done").disabled
    trace = runs.trace(edits=10, draw=Draw(seed=110))
    assert chart(page, "Edit after edit").under_mouse()["share"].iloc[2] == lifelong.summary.recall(trace)[-1]


def test_cancelled_before_anything_was_measured_it_can_be_run_and_does_not_run_by_itself_after_a_reload(
    opened: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, free = threading.Event(), threading.Event()

    def stuck(*_: Any, report: Report, **__: Any) -> None:
        begun.set()
        assert free.wait(PATIENCE)
        report("Loading the model", 0, 1)

    monkeypatch.setattr(lifelong, "run", stuck)
    page = press(opened(seed="151"), "Run")
    assert begun.wait(PATIENCE)
    press(page.run(), "Cancel")
    free.set()
    for visit in (settled(page), opened(seed="151")):  # a reload is a session of its own
        assert "Cancelled. No edit was measured yet; **Run** on the left starts from the beginning." in infos(visit)
        assert "Press **Run**" not in infos(visit)
        assert not button(visit, "Run").disabled
        assert [job.snapshot().state for job in jobs_of_runs()] == [jobs.State.CANCELLED]


def test_no_visit_starts_a_run(opened: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "START_BY_ITSELF", SMALL)
    assert "Done" in labels(opened()), "a known run is shown"
    page = opened(edits="5", seed="200")
    assert labels(page) == ["Forecast the budget", "Run"]
    assert not jobs_of_runs(), "also of a model that is small enough to compute P of it unasked"
    choose(page, "seed", 205)
    assert not jobs_of_runs()


def test_why_a_run_failed_is_told_until_it_is_run_again(opened: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("/home/someone/secret")

    page = opened(draw="relation", of="tv_network", edits="500")
    page = settled(press(page, "Run"))
    (error,) = page.error
    said = "ROME, layer 0, of tv_network, seed 0: 500 edits were asked for; "
    assert unescaped(error.value).startswith(said)
    assert not charts(page)
    choose(page, "edits", 5)
    assert not page.error
    with monkeypatch.context() as patch:
        patch.setattr(lifelong, "run", crash)
        page = settled(press(page, "Run"))
    assert "An unexpected RuntimeError ended the computation" in unescaped(page.error[0].value)
    assert "secret" not in markdown(page)
    page = settled(press(page, "Run"))
    assert not page.error, "gone once it is run again"
    assert edits_drawn(page) == [0, 5]
