"""Jobs of the server: one for many askers, kept over pages, cancelled within a batch, taken up after a restart."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from kis_core.analysis import pipeline, unfinished
from kis_core.analysis.unfinished import UnfinishedRequest
from kis_core.corpora import BUILTIN_NAME
from kis_core.errors import KisError
from kis_core.facts import FactSet, saved
from kis_core.jobs import Lane, State
from kis_core.models import catalog
from kis_core.models.files import Gated
from kis_core.progress import Report
from kis_core.request import Request
from kis_core.results import archive
from kis_core.store.store import Store
from pages.parts.jobs import background
from tests import tiny
from tests.pages.conftest import MODEL, PICTURE, SCRIPTS, Open, fact_sets
from tests.pages.looking import PATIENCE, finish, labels, markdown, press, unescaped
from tests.pages.small_hub import Hub

TYPED = "someone/tiny-llama"
MOMENT = "Second moment of the keys"
BATCHES = 10  # that the steered work reads
pytestmark = pytest.mark.usefixtures("quick", "hub", "own")


@pytest.fixture
def own(folder: Path) -> Iterator[Store]:
    """A store of this test's own, with a set of three facts."""
    saved.save(folder, FactSet("three", fact_sets()["three"]))
    yield Store(folder)
    for job in background.runner().jobs().values():
        job.cancel()


class Steered:
    """In place of `pipeline.run`: each job goes on by a batch when the test says so."""

    def __init__(self) -> None:
        self.begun: list[tuple[Request, str]] = []
        self.batches = 0
        self.running = threading.Semaphore(0)
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, request: Request, store: Store, *, device: str, report: Report, **_: Any) -> None:
        self.begun.append((request, device))
        self.running.release()
        for batch in range(1, BATCHES + 1):
            assert self._go.acquire(timeout=PATIENCE)
            try:
                report(MOMENT, batch, BATCHES)
                self.batches += 1
            finally:
                self._done.release()

    def wait(self) -> None:
        assert self.running.acquire(timeout=PATIENCE)

    def batch(self) -> None:
        self._go.release()
        assert self._done.acquire(timeout=PATIENCE)

    def end(self) -> None:
        self._go.release(100 * BATCHES)
        finish()


@pytest.fixture
def steered(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steered]:
    work = Steered()
    monkeypatch.setattr(pipeline, "run", work)
    yield work
    work.end()


@pytest.fixture
def model(hub: Hub, tmp_path: Path) -> str:
    """A model of the Hub whose configuration was looked at, and no more."""
    hub.folders[TYPED] = tiny.save("Llama", tmp_path / "model")
    hub.read.add(TYPED)
    return TYPED


def shares(page: AppTest) -> list[int]:
    return [element.proto.value for element in page.get("progress")]


def offered(page: AppTest) -> list[str]:
    return [label for label in labels(page) if label in ("Resume", "Discard", "Cancel")]


def said(page: AppTest) -> str:
    """What stands over the bars of the jobs."""
    return unescaped(" ".join(element.proto.text for element in page.get("progress")))


def test_two_sessions_and_a_double_click_share_one_job(open_page: Open, steered: Steered) -> None:
    first, other = open_page("pages/models.py"), open_page("app.py")
    compute = first.button(key=f"compute-{MODEL}")
    compute.click().run()
    steered.wait()
    compute.click().run()  # of a page that was drawn before the first click
    press(other, "Compute")
    assert [request for request, _ in steered.begun] == [Request(MODEL)]
    assert first.session_state["chosen"]["behind"] is None, "a demo model over its own text goes without saying"
    assert len(background.runner().jobs()) == 1
    steered.end()
    assert len(steered.begun) == 1


def test_a_job_goes_on_while_pages_change_and_its_progress_never_falls(open_page: Open, steered: Steered) -> None:
    page = press(open_page("pages/superposition.py"), "Compute")
    steered.wait()
    assert "Computing this view" in markdown(page)
    seen = []
    for script in ("pages/models.py", "pages/library.py", "pages/angles.py"):
        steered.batch()
        page.switch_page(script).run()
        assert offered(page) == ["Cancel"]
        seen += shares(page)
    (job,) = background.runner().jobs().values()
    assert job.snapshot().done == steered.batches == 3
    job.report("Loading the model", 0, 1)  # as a second pass over the text would
    seen += shares(page.run())
    assert len(seen) == 4
    assert seen == sorted(seen)
    assert seen[0] < seen[2] == seen[3]
    steered.end()
    assert job.snapshot().state is State.DONE


def in_tray(page: AppTest) -> list[Any]:
    """The buttons of the side bar that call jobs off."""
    return [button for button in page.button if button.key and button.key.startswith("tray-")]


@pytest.mark.parametrize("script", ["pages/library.py", "pages/superposition.py", "pages/your_facts.py"])
def test_cancel_takes_effect_within_one_batch(script: str, open_page: Open, own: Store, steered: Steered) -> None:
    page = press(open_page("pages/superposition.py"), "Compute")
    steered.wait()
    steered.batch()
    page.switch_page(script).run()
    (called_off,) = in_tray(page)
    if script == "pages/your_facts.py":
        assert f"{MODEL} · builtin facts" in unescaped(markdown(page))
        called_off.click().run()
    else:
        press(page, "Cancel")
    steered.batch()
    assert [job.state for job in finish()] == [State.CANCELLED]
    assert steered.batches == 1
    page.run()
    if script == "pages/superposition.py":
        assert "was cancelled" in page.info[0].value
    elif script == "pages/library.py":
        assert offered(page) == ["Resume", "Discard"]
    assert not in_tray(page)
    assert unfinished.unfinished(own) == [UnfinishedRequest(Request(MODEL))]


def test_what_was_called_off_can_be_asked_for_before_it_has_stopped(open_page: Open, steered: Steered) -> None:
    background.submit(Request(MODEL)).cancel()
    again = background.submit(Request(MODEL))
    steered.end()
    assert again.snapshot().state is State.DONE


def test_after_a_restart_it_is_taken_up_and_gives_the_same_bytes(
    open_page: Open, own: Store, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = str(saved.path_of(own.root, saved.names(own.root)[0]))
    request = Request(model, facts, BUILTIN_NAME, 6_000)
    run = pipeline.run

    def killed(*args: Any, report: Report, **options: Any) -> Any:
        def report_until_killed(stage: str, done: int, total: int) -> None:
            if stage == MOMENT and done > 3_000:
                raise SystemExit
            report(stage, done, total)

        return run(*args, report=report_until_killed, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "run", killed)
        background.submit(request, "cpu")
        assert [job.state for job in finish()] == [State.FAILED]
    assert archive.computed(own) == []
    st.cache_resource.clear()  # a new server: nothing of the old one's memory is left
    st.cache_data.clear()
    page = open_page("pages/library.py")
    assert offered(page) == ["Resume", "Discard"]
    begun = r"someone/tiny-llama · \S+ facts · C over builtin · 6,000 tokens\*\* was begun on \d"
    assert re.search(begun, unescaped(markdown(page)))
    assert not background.runner().jobs(), "nothing begins by itself"
    press(page, "Resume")
    assert [(job.state, job.error) for job in finish()] == [(State.DONE, None)]
    page.run()
    assert offered(page) == []
    assert unfinished.unfinished(own) == []
    resumed, whole = pipeline.run(request, own), pipeline.run(request, Store(tmp_path / "uninterrupted"))
    for name in ("p", "whitening_cosine", "activation_cosine"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(whole, name))
    assert resumed.provenance["tokens_counted"] == whole.provenance["tokens_counted"]


def test_what_is_discarded_is_gone_and_its_model_leaves_the_list(open_page: Open, own: Store, model: str) -> None:
    unfinished.remember(own, UnfinishedRequest(Request(model, corpus=BUILTIN_NAME)))
    page = open_page("pages/library.py", model=model)
    assert page.selectbox(key="choose-model").value == model
    press(page, "Discard")
    assert offered(page) == []
    assert page.selectbox(key="choose-model").value == catalog.DEFAULT
    assert model not in page.selectbox(key="choose-model").options
    assert unfinished.unfinished(own) == []


OTHERS = sorted({*SCRIPTS} - {"pages/models.py", "app.py"})


@pytest.mark.parametrize("script", tiny.in_full(OTHERS, ("pages/superposition.py", "pages/edit.py")))
def test_no_page_downloads_by_itself(script: str, open_page: Open, own: Store, hub: Hub, model: str) -> None:
    unfinished.remember(own, UnfinishedRequest(Request(model, "builtin-lookalikes", BUILTIN_NAME)))
    page = open_page(script, model=model, facts="builtin")
    assert page.selectbox(key="choose-model").value == model
    assert not hub.downloads
    assert not background.runner().jobs()
    if script == "pages/superposition.py":
        assert "is not on this machine yet and would be downloaded" in page.info[0].value


FAILURES = (
    ("pages/models.py", Gated(TYPED), "accept its licence at https://huggingface.co/someone/tiny-llama"),
    ("pages/library.py", KisError(f"layer 3: {PICTURE}"), f"layer 3: {PICTURE}"),
)


@pytest.mark.parametrize(("script", "error", "why"), FAILURES)
def test_why_a_job_failed_is_told_and_it_can_be_resumed(
    script: str, error: Exception, why: str, open_page: Open, own: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(pipeline, "run", fail)
    page = press(open_page("pages/superposition.py"), "Compute")
    finish()
    page.switch_page(script).run()
    assert why in unescaped(page.error[0].value)
    assert PICTURE not in markdown(page)
    assert bool(page.get("link_button")) == isinstance(error, Gated)
    monkeypatch.setattr(pipeline, "run", lambda *_, **__: None)
    press(page, "Resume")
    assert [job.state for job in finish()] == [State.DONE]


def test_two_devices_work_side_by_side_and_one_takes_turns(open_page: Open, steered: Steered) -> None:
    begun, free = threading.Event(), threading.Event()

    def edit(_: Report) -> None:
        begun.set()
        assert free.wait(PATIENCE)

    for facts, device in (("builtin", "cpu"), ("builtin", "cuda:0"), ("builtin-lookalikes", "cpu")):
        background.submit(Request(MODEL, facts, tokens=1_000 if device == "cpu" else 2_000), device)
    steered.wait()
    steered.wait()
    assert sorted(device for _, device in steered.begun) == ["cpu", "cuda:0"]
    page = open_page("pages/models.py")
    first = f"{MODEL} · builtin facts · C over builtin · 1,000 tokens"
    for text in (f"**{first}** on cpu", "2,000 tokens** on cuda:0", f"Waiting for its turn, after {first}"):
        assert text in said(page)
    assert "each is slower" not in said(page), "each has a device of its own"
    assert offered(page) == ["Cancel"] * 3
    background.runner().submit("an edit", edit, lane=Lane("cpu", quick=True))
    assert begun.wait(PATIENCE)
    assert "shares the processor with 1 other job: each is slower" in said(page.run())
    free.set()
    steered.end()
    assert [device for _, device in steered.begun].count("cpu") == 2
