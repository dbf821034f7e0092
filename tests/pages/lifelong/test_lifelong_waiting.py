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
from tests.pages.conftest import Open
from tests.pages.lifelong_runs import (
    SECONDS,
    Runs,
    button,
    chart,
    choose,
    finish,
    jobs_of_runs,
    labels,
    numbers,
    settled,
    under_mouse,
)
from tests.pages.looking import charts, markdown, unescaped

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
        assert self.reached.wait(SECONDS)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """The library's own run, which waits in the middle."""
    stop, run = Held(), lifelong.run

    def waiting(*asked: Any, seen: Callable[[EditTrace], None] | None = None, report: Report = silent) -> EditTrace:
        def held_up(film: EditTrace) -> None:
            if seen is None:
                return
            seen(film)
            if film.edits >= stop.edits:
                stop.reached.set()
                assert stop.free.wait(SECONDS)

        return run(*asked, seen=held_up, report=report)

    monkeypatch.setattr(lifelong, "run", waiting)
    yield stop
    stop.free.set()
    finish()


def told(page: AppTest) -> list[str]:
    return [one.proto.text for one in page.get("progress")]


def edits_drawn(page: AppTest) -> list[int]:
    drawn = under_mouse(chart(page, "Edit after edit"))
    return sorted(set(drawn["edits"]))


def infos(page: AppTest) -> str:
    return "\n".join(info.value for info in page.info)


# Begun


def test_a_run_is_drawn_while_it_goes_on_and_to_its_end(opened: Page, held: Held, runs: Runs) -> None:
    page = opened(edits="10", seed="110")
    assert "Press **Run**" in infos(page)
    assert labels(page) == ["Run"]
    assert not charts(page)
    button(page, "Run").click().run()
    held.wait()
    page.run()
    assert not page.exception
    assert edits_drawn(page) == [0, 5]
    assert numbers(page)["unrelated right"][1] == "after 5 edits", "the newest"
    (line,) = told(page)
    assert line.startswith(lifelong.STAGE)
    assert "Cancel" in labels(page)
    assert button(page, "Resume").disabled, "it goes on already"
    domains = chart(page, "Edit after edit").domains("x")
    assert domains == [[0, 10]] * len(domains), "room for what is to come"
    held.free.set()
    page = settled(page)
    assert edits_drawn(page) == [0, 5, 10]
    assert not told(page)
    assert "Cancel" not in labels(page)
    assert button(page, "Done").disabled
    film = runs.film(edits=10, draw=Draw(seed=110))
    assert under_mouse(chart(page, "Edit after edit"))["share"].iloc[2] == lifelong.summary.recall(film)[-1]


@pytest.mark.stress  # makes several runs; `make stress`
def test_another_visit_finds_it_going_on(opened: Page, held: Held) -> None:
    button(opened(seed="120"), "Run").click().run()
    held.wait()
    other = opened(seed="120")
    assert not other.exception
    assert edits_drawn(other) == [0, 5]
    assert len(told(other)) == 1
    assert button(other, "Resume").disabled
    assert len(jobs_of_runs()) == 1
    elsewhere = opened(seed="121")
    assert not told(elsewhere), "another run is not going on"
    assert not button(elsewhere, "Run").disabled
    held.free.set()
    assert "Done" in labels(settled(other))


@pytest.mark.stress  # makes several runs; `make stress`
def test_several_runs_are_made_one_after_the_other(opened: Page, held: Held) -> None:
    page = opened(edits="5", seed="130", against="seeds")
    button(page, "Run 3").click().run()
    held.wait()
    page.run()
    assert len(jobs_of_runs()) == 3
    (line,) = told(page)
    assert line.endswith("3 runs to go")
    held.free.set()
    page = settled(page)
    assert "Done" in labels(page)
    assert under_mouse(chart(page, "Edit after edit"))["run"].nunique() == 3


@pytest.mark.stress  # makes several runs; `make stress`
def test_the_play_waits_for_what_is_to_come(opened: Page, held: Held) -> None:
    page = opened(seed="140", edits="10")
    button(page, "Run").click().run()
    held.wait()
    button(page.run(), "Play").click().run()
    for _ in range(4):
        page.run()
    assert "Pause" in labels(page), "at the newest step it goes on playing"
    assert numbers(page)["unrelated right"][1] == "after 5 edits"
    held.free.set()
    finish()
    for _ in range(4):
        page.run()
    assert "Play" in labels(page)
    assert numbers(page)["unrelated right"][1] == "after 10 edits"


# Called off


def test_what_was_measured_before_a_cancel_is_kept_and_gone_on_with(opened: Page, held: Held, runs: Runs) -> None:
    page = opened(edits="10", seed="150")
    button(page, "Run").click().run()
    held.wait()
    button(page.run(), "Cancel").click().run()
    held.free.set()
    page = settled(page)
    assert not page.exception
    assert not page.error
    assert KEPT in infos(page)
    assert not told(page)
    assert edits_drawn(page) == [0, 5]
    before = under_mouse(chart(page, "Edit after edit"))

    st.cache_resource.clear()  # as after a restart of the server
    page = opened(edits="10", seed="150")
    assert KEPT not in infos(page)
    assert edits_drawn(page) == [0, 5]
    again = under_mouse(chart(page, "Edit after edit"))
    assert again["share"].tolist()[:2] == before["share"].tolist()[:2]
    button(page, "Resume").click().run()
    page = settled(page)
    assert edits_drawn(page) == [0, 5, 10]
    assert "Done" in labels(page)


def test_cancelled_before_anything_was_measured_it_can_be_run_and_does_not_run_by_itself_after_a_reload(
    opened: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, free = threading.Event(), threading.Event()

    def stuck(*_: Any, report: Report, **__: Any) -> None:
        begun.set()
        assert free.wait(SECONDS)
        report("Loading the model", 0, 1)

    monkeypatch.setattr(lifelong, "run", stuck)
    monkeypatch.setattr(results, "START_BY_ITSELF", SMALL)
    page = opened(seed="151")
    assert begun.wait(SECONDS)
    button(page.run(), "Cancel").click().run()
    free.set()
    for visit in (settled(page), opened(seed="151")):  # a reload is a session of its own
        assert not visit.exception
        assert "Cancelled. No edit was measured yet; **Run** on the left starts from the beginning." in infos(visit)
        assert "Press **Run**" not in infos(visit)
        assert not button(visit, "Run").disabled
        assert [job.snapshot().state for job in jobs_of_runs()] == [jobs.State.CANCELLED]


@pytest.mark.stress  # makes several runs; `make stress`
def test_a_cancel_calls_off_all_runs_on_the_page(opened: Page, held: Held) -> None:
    page = opened(edits="10", seed="160", against="seeds")
    button(page, "Run 3").click().run()
    held.wait()
    button(page.run(), "Cancel").click().run()
    held.free.set()
    page = settled(page)
    assert {job.snapshot().state for job in jobs_of_runs()} == {jobs.State.CANCELLED}
    assert "Resume" in labels(page)
    button(page, "Resume").click().run()
    page = settled(page)
    assert KEPT not in infos(page)
    assert "Done" in labels(page)


@pytest.mark.stress  # makes several runs; `make stress`
def test_a_run_that_was_finished_since_is_not_told_as_cancelled(opened: Page, held: Held) -> None:
    page = opened(edits="10", seed="170")
    button(page, "Run").click().run()
    held.wait()
    button(page.run(), "Cancel").click().run()
    held.free.set()
    page = choose(settled(page), "edits", 15)
    button(page, "Resume").click().run()
    page = choose(settled(page), "edits", 10)
    assert "Done" in labels(page)
    assert KEPT not in infos(page)


@pytest.mark.stress
def test_orders_that_are_run_as_others_do_not_break_the_forecast_of_orders(opened: Page, held: Held) -> None:
    page = opened(edits="10", against="orders", chronicle="choosing")
    button(page, "Compute this table").click().run()
    button(settled(page), "Run 2").click().run()
    held.wait()
    page.run()
    assert len(told(page)) == 1
    assert not page.exception


# By itself


def test_nothing_starts_by_itself_for_a_large_model(opened: Page) -> None:
    page = opened(seed="190")
    assert labels(page) == ["Run"]
    page.run()
    choose(page, "seed", 195)
    assert not jobs_of_runs()


def test_a_small_model_starts_by_itself_at_the_first_visit_alone(opened: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "START_BY_ITSELF", SMALL)
    page = opened(edits="5", seed="200")
    assert len(jobs_of_runs()) == 1
    page = settled(page)
    assert edits_drawn(page) == [0, 5]
    choose(page, "seed", 205)
    assert len(jobs_of_runs()) == 1, "what is chosen afterwards waits for the button"
    assert "Run" in labels(page)


def test_a_known_run_is_not_begun_again(opened: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "START_BY_ITSELF", SMALL)
    assert "Done" in labels(opened())
    assert not jobs_of_runs()


# Failed


def test_a_run_that_cannot_be_made_says_why(opened: Page) -> None:
    page = opened(draw="relation", of="tv_network", edits="500")
    button(page, "Run").click().run()
    page = settled(page)
    (error,) = page.error
    said = unescaped(error.value)
    assert said.startswith("ROME, layer 0, of tv_network, seed 0: 500 edits were asked for; ")
    assert not charts(page)
    assert not button(page, "Run").disabled
    choose(page, "edits", 5)
    assert not page.error


def test_an_error_that_is_none_of_ours_tells_its_kind_and_no_more(
    opened: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("/home/someone/secret")

    with monkeypatch.context() as patch:
        patch.setattr(lifelong, "run", crash)
        page = opened(edits="5", seed="230", editor="identity")
        button(page, "Run").click().run()
        page = settled(page)
    assert "An unexpected RuntimeError ended the computation" in unescaped(page.error[0].value)
    assert "secret" not in markdown(page)
    button(page, "Run").click().run()
    page = settled(page)
    assert not page.error, "gone once it is run again"
    assert edits_drawn(page) == [0, 5]


@pytest.mark.stress
def test_the_edit_page_and_others_are_untouched_by_a_run(opened: Page, open_page: Open, held: Held) -> None:
    button(opened(seed="240"), "Run").click().run()
    held.wait()
    page = open_page("pages/top_pairs.py")
    assert not page.exception
    assert not told(page)
