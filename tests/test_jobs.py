"""Background jobs: one run for many askers, progress, cancel, failure, forgetting."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core import jobs, progress
from kis_core.errors import KisError
from kis_core.jobs import CPU, Job, Lane, Runner, State
from kis_core.progress import Cancelled, Report

PATIENCE = 10  # seconds until a test gives up on a job; reached only when something hangs
ROUNDING = 1e-9
HALF = ("Second moment of the keys", 1, 2)  # a report at 0.22 + 0.55 / 2 of the whole


class Steered:
    """Work that goes one report at a time, when the test says so."""

    def __init__(self) -> None:
        self.runs = self.reported = 0
        self._begun, self._go, self._paused = threading.Event(), threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, report: Report) -> None:
        self.runs += 1
        self._begun.set()
        while True:
            assert self._go.acquire(timeout=PATIENCE)
            stage, done, total = self._next
            if stage == "end":
                return
            report(stage, done, total)
            self.reported += 1
            self._paused.release()

    def wait_until_begun(self) -> None:
        assert self._begun.wait(PATIENCE)

    def report(self, stage: str, done: int, total: int) -> None:
        self.ask_to_report(stage, done, total)
        assert self._paused.acquire(timeout=PATIENCE)

    def ask_to_report(self, stage: str, done: int, total: int) -> None:
        self._next = (stage, done, total)
        self._go.release()

    def end(self) -> None:
        self._next = ("end", 1, 1)
        self._go.release(100)  # more than once, should it wrongly run again


@pytest.fixture
def runner() -> Runner:
    return Runner()


def ended(job: Job) -> jobs.Snapshot:
    assert job.wait(PATIENCE)
    return job.snapshot()


def nothing(report: Report) -> None:
    """Work that is done at once."""


def test_a_job_runs_to_its_end(runner: Runner) -> None:
    work = Steered()
    job = runner.submit("key", work)
    work.wait_until_begun()
    assert job.snapshot().state is State.RUNNING
    assert not job.wait(0)
    work.report("Loading the model", 1, 1)
    assert job.snapshot().stage == "Loading the model"
    assert job.snapshot().share == pytest.approx(0.22)
    work.end()
    snapshot = ended(job)
    assert (snapshot.state, snapshot.error, snapshot.seconds_left) == (State.DONE, None, None)
    assert runner.find("key") is job
    job.cancel()
    assert job.snapshot().state is State.DONE, "what has ended cannot be cancelled"
    again = runner.submit("key", nothing)
    assert again is not job
    assert ended(again).state is State.DONE


def test_many_askers_of_one_key_get_one_run(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    work, start = Steered(), threading.Barrier(20)
    joined: list[Job] = []

    def slow_job(*stages: Mapping[str, float]) -> Job:
        time.sleep(0.05)  # time enough for the other askers to come in between
        return Job(*stages)

    monkeypatch.setattr(jobs, "Job", slow_job)

    def ask() -> None:
        start.wait(PATIENCE)
        joined.append(runner.submit("key", work))

    askers = [threading.Thread(target=ask) for _ in range(20)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(PATIENCE)
    work.end()
    assert len(joined) == 20
    assert len(set(joined)) == 1
    assert ended(joined[0]).state is State.DONE
    assert work.runs == 1


def test_jobs_of_different_keys_run_one_after_the_other_in_the_order_asked_for(runner: Runner) -> None:
    order: list[str] = []
    running = threading.Semaphore(1)

    def work(name: str, _: Report) -> None:
        assert running.acquire(blocking=False)
        order.append(name)
        running.release()

    submitted = [runner.submit(name, partial(work, name)) for name in "abcdef"]
    assert [ended(job).state for job in submitted] == [State.DONE] * 6
    assert order == list("abcdef")


def test_quick_work_runs_beside_the_slow_work_of_its_device(runner: Runner) -> None:
    slow, quick = Steered(), Steered()
    jobs = [runner.submit("slow", slow), runner.submit("quick", quick, lane=Lane("cpu", quick=True))]
    jobs.append(runner.submit("elsewhere", nothing, lane=Lane("cuda:0")))
    for work in (slow, quick):
        work.wait_until_begun()
    ended(jobs[2])
    assert [runner.beside(job) for job in jobs] == [1, 1, 0]
    assert list(runner.alive()) == ["slow", "quick"]
    for work in (slow, quick):
        work.end()
    assert [ended(job).state for job in jobs] == [State.DONE] * 3
    assert runner.alive() == {}


def test_jobs_of_one_device_wait_for_each_other_and_for_no_other_device(runner: Runner) -> None:
    first = Steered()
    running = runner.submit("first", first, lane=CPU)
    first.wait_until_begun()
    assert runner.submit("first", nothing, lane=Lane("cuda:0")) is running, "who asks elsewhere joins the run there is"
    waiting = runner.submit("second", nothing, lane=CPU)
    assert ended(runner.submit("elsewhere", nothing, lane=Lane("cuda:0"))).state is State.DONE
    assert waiting.snapshot().state is State.QUEUED
    first.end()
    assert [ended(job).state for job in (running, waiting)] == [State.DONE] * 2


def test_who_waits_sees_what_for_and_how_long(runner: Runner) -> None:
    first, second = Steered(), Steered()
    jobs = [runner.submit("first", first, label="gpt2 · builtin", lane=CPU)]
    first.wait_until_begun()
    jobs += [runner.submit(key, work, label=key) for key, work in (("second", second), ("third", nothing))]
    before = jobs[2].snapshot()
    stage = "Waiting for its turn, after gpt2 · builtin"
    assert [job.snapshot().stage for job in jobs[1:]] == [stage, f"{stage} and 1 more"]
    time.sleep(0.01)
    assert jobs[2].snapshot().seconds >= before.seconds + 0.01, "its seconds count"
    first.end()
    second.wait_until_begun()
    assert jobs[2].snapshot().stage == "Waiting for its turn, after second"
    jobs[1].cancel()
    second.end()
    assert ended(jobs[2]).state is State.DONE


reports = st.tuples(st.sampled_from([*progress.STAGES, "Waiting for another run of the same"]), st.integers(0, 3))


@given(st.lists(reports, max_size=10))
def test_progress_never_falls_whatever_the_work_reports(sequence: list[tuple[str, int]]) -> None:
    job = Job()
    share = 0.0
    for stage, done in sequence:
        job.report(stage, done, 3)
        snapshot = job.snapshot()
        assert snapshot.stage == stage
        assert snapshot.share == max(share, progress.overall(stage, done, 3))
        share = snapshot.share
    assert 0 <= share <= 1


def test_cancel_takes_effect_within_one_report(runner: Runner) -> None:
    work = Steered()
    job = runner.submit("key", work)
    work.report(*HALF)
    job.cancel()
    assert job.snapshot().state is State.RUNNING
    work.ask_to_report(*HALF)
    snapshot = ended(job)
    assert (snapshot.state, snapshot.error) == (State.CANCELLED, None)
    assert work.reported == 1
    assert snapshot.share == pytest.approx(0.625)


def test_a_queued_job_can_be_cancelled_and_never_runs(runner: Runner) -> None:
    first, second = Steered(), Steered()
    running, queued = runner.submit("first", first), runner.submit("second", second)
    first.wait_until_begun()
    snapshot = queued.snapshot()
    assert (snapshot.state, snapshot.stage) == (State.QUEUED, "Waiting for its turn, after another computation")
    assert (snapshot.share, snapshot.seconds_left) == (0, None)
    queued.cancel()
    assert ended(queued).state is State.CANCELLED
    first.end()
    assert ended(running).state is State.DONE
    assert ended(runner.submit("third", nothing)).state is State.DONE
    assert second.runs == 0


def test_who_asks_for_a_job_that_was_just_called_off_gets_a_new_one(runner: Runner) -> None:
    called_off = Steered()
    first = runner.submit("key", called_off)
    called_off.wait_until_begun()
    first.cancel()
    second = runner.submit("key", nothing)
    called_off.ask_to_report(*HALF)
    assert [ended(job).state for job in (first, second)] == [State.CANCELLED, State.DONE]
    assert runner.find("key") is second


@pytest.mark.parametrize("error", [ValueError("why"), KisError("no such model"), SystemExit("why")])
def test_a_failed_job_carries_its_error(runner: Runner, caplog: pytest.LogCaptureFixture, error: BaseException) -> None:
    def fail_deep_inside(report: Report) -> None:
        report(*HALF)
        raise error

    snapshot = ended(runner.submit("key", fail_deep_inside))
    assert (snapshot.state, snapshot.stage) == (State.FAILED, HALF[0])
    assert snapshot.error is error
    assert ended(runner.submit("key", nothing)).state is State.DONE
    if isinstance(error, ValueError):
        assert "an unexpected ValueError ended a job" in caplog.text
    unexpected = not isinstance(error, KisError)
    assert ("fail_deep_inside" in caplog.text) == unexpected, "what nobody expected is logged with its traceback"


class Large:
    """Stands for a model."""


@pytest.mark.parametrize("end", ["done", "failed in an except", "cancelled"])
def test_an_ended_job_keeps_nothing_of_its_work_alive(runner: Runner, end: str) -> None:
    seen: list[weakref.ref[Large]] = []

    def work(report: Report) -> Large:
        model = Large()
        seen.append(weakref.ref(model))
        if end == "failed in an except":
            try:
                deeper(model)
            except ValueError as error:
                raise RuntimeError("why") from error
        if end == "cancelled":
            raise Cancelled
        return model

    def deeper(model: Large) -> None:
        raise ValueError("why")

    ended(runner.submit("key", work))
    ended(runner.submit("next", nothing))
    gc.collect()
    assert [reference() for reference in seen] == [None]


def test_an_ended_job_is_forgotten_and_a_running_one_is_not(runner: Runner) -> None:
    work = Steered()
    job = runner.submit("key", work)
    work.wait_until_begun()
    runner.forget("key")
    assert runner.find("key") is job
    work.end()
    ended(job)
    for _ in range(2):
        runner.forget("key")
        assert runner.find("key") is None


def test_the_time_left_by_hand(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=lambda: now[0]))
    work = Steered()
    job = runner.submit("key", work)
    work.report("Reading facts and text", 1, 1)
    now[0] = 110.0
    assert job.snapshot().seconds == 10
    assert job.snapshot().seconds_left is None
    work.report(*HALF)
    assert job.snapshot().seconds_left == pytest.approx(10 * 0.375 / 0.625, rel=ROUNDING)
    now[0] = 120.0
    assert job.snapshot().seconds_left == pytest.approx(20 * 0.375 / 0.625, rel=ROUNDING)
    work.end()
    assert ended(job).seconds_left is None


def test_the_pace_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=lambda: now[0]))
    job, stage = Job(), "Second moment of the keys"

    def rate(seconds: float, done: int, stage: str = stage) -> float | None:
        now[0] += seconds
        job.report(stage, done, 10_000)
        assert job.snapshot().done == done
        return job.snapshot().rate

    assert rate(0, 0) is None, "a single report tells of no pace"
    assert rate(2, 300) == pytest.approx(150, rel=ROUNDING)
    assert rate(jobs.TRAIL_SECONDS / 2, 900) == pytest.approx(150, rel=ROUNDING), "too soon after the last one"
    assert rate(2, 600) == pytest.approx(600 / (4 + jobs.TRAIL_SECONDS / 2), rel=ROUNDING)
    assert rate(1, 0, "Whitening") is None, "another stage counts in other units"
    assert rate(1, 0, "Whitening") is None, "no pace where nothing moves"

    pace = Job()
    for second in range(100):
        now[0] += 1
        pace.report("Second moment of the keys", second if second < 50 else 10 * second - 450, 1000)
    assert pace.snapshot().rate == pytest.approx(10, rel=ROUNDING), "that of the last moments"


@pytest.mark.parametrize(("pause", "printed"), [("time.sleep(600)", ""), ("report('stage', 0, 1)", "stopped\n")])
def test_a_process_that_ends_lets_its_job_stop_at_its_next_report_and_waits_no_longer(pause: str, printed: str) -> None:
    program = (
        "import time; from kis_core import jobs; from kis_core.jobs import Runner, State\n"
        "jobs.GRACE_SECONDS = 0.5\n"
        "def work(report):\n"
        "    try:\n"
        f"        while True: {pause}; time.sleep(0.01)\n"
        "    finally: print('stopped', flush=True)\n"
        "job = Runner().submit('key', work)\n"
        "while job.snapshot().state is not State.RUNNING: time.sleep(0.01)"
    )
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, printed, "")
