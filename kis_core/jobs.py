"""Long work in the background: a queue and a worker for each lane, with progress, pace, time left and cancel.

Whoever submits the same work while it waits or runs shares the one run there is.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from queue import SimpleQueue
from typing import Any

from kis_core import progress
from kis_core.errors import KisError, refuse_if_read_only

log = logging.getLogger(__name__)

GRACE_SECONDS = 5  # a batch takes a second or two on a slow machine; a stuck job must not hold up the end
TRAIL, TRAIL_SECONDS = 20, 0.5  # reports that the rate is taken over, and how far apart: the last ten seconds
WAITING, BEGINNING = "Waiting for its turn", "Starting"
LEAST_SHARE = 0.05  # below this share done, an estimate of the time left would be a guess


class State(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Lane:
    """A queue whose jobs run one after another.

    Attributes:
        device: the device that its jobs compute on, such as "cpu" or "cuda:0"; never "auto".
        quick: whether it is the device's second lane, for work of seconds, which need not wait for work of minutes.
    """

    device: str = "cpu"
    quick: bool = False


CPU = Lane()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What there is to show of a job at one moment.

    Attributes:
        state: of the job.
        stage: what it is doing.
        share: of the whole that is done, 0 to 1; never falls.
        seconds: since it began to run; of one that waits, since it was submitted.
        seconds_left: an estimate, or None while it is too early to tell.
        error: why it failed.
        done: of the present stage, in its own units: tokens, facts, layers.
        rate: of these a second, over the last moments; None while it is too early to tell.
    """

    state: State
    stage: str
    share: float
    seconds: float
    seconds_left: float | None
    error: BaseException | None
    done: int = 0
    rate: float | None = None

    @property
    def alive(self) -> bool:
        """Whether it waits or works."""
        return self.state in (State.QUEUED, State.RUNNING)


class Job:
    """One piece of work and what is known of it.

    Attributes:
        label: what it is, for people.
        lane: where it waits for its turn.
        notes: what the work has found so far, besides its progress, for whoever waits for it; the work fills it.
        ahead: gives the jobs that come before it, the next one first; set by the queue in which it waits.
    """

    def __init__(
        self,
        stages: Mapping[str, float] = progress.STAGES,
        label: str = "",
        lane: Lane = CPU,
        notes: Sequence[Any] = (),
    ) -> None:
        self.label, self.lane, self.notes = label, lane, notes
        self.ahead: Callable[[Job], list[Job]] = lambda _: []
        self._stages = stages
        self._trail: deque[tuple[float, int]] = deque(maxlen=TRAIL)
        self._done = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._stage, self._share = WAITING, 0.0
        self._submitted = time.monotonic()
        self._began: float | None = None
        self._future: Future[Any] | None = None

    def cancel(self) -> None:
        """Ask the work to stop; it does so at its next report."""
        self._stop.set()
        if self._future:
            self._future.cancel()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, however it comes. True when it has come."""
        if self._future is None:
            return False
        try:
            self._future.exception(timeout)
        except TimeoutError:
            return False
        except BaseException as error:  # noqa: BLE001 - a cancelled future raises; ended is ended
            log.debug("job ended with %s", type(error).__name__)
        return True

    def report(self, stage: str, done: int, total: int) -> None:
        """Record how far the work is; the work itself calls this.

        Raises:
            Cancelled: the job was cancelled.
        """
        if self._stop.is_set():
            raise progress.Cancelled(stage)
        now = time.monotonic()
        with self._lock:
            if stage != self._stage:
                self._trail.clear()
            self._stage, self._done = stage, done
            if not self._trail or now - self._trail[-1][0] >= TRAIL_SECONDS:
                self._trail.append((now, done))
            self._share = max(self._share, progress.overall(stage, done, total, self._stages))

    def snapshot(self) -> Snapshot:
        """The job as it stands."""
        state, error = self._state()
        with self._lock:
            seconds = time.monotonic() - (self._began or self._submitted)
            left = None
            if state is State.RUNNING and self._share >= LEAST_SHARE:
                left = seconds * (1 - self._share) / self._share
            stage = self._waits_for() if self._stage == WAITING and state is State.QUEUED else self._stage
            return Snapshot(state, stage, self._share, seconds, left, error, self._done, self._rate())

    def _waits_for(self) -> str:
        """What the job waits for, in words."""
        ahead = self.ahead(self)
        if not ahead:
            return WAITING
        more = f" and {len(ahead) - 1} more" if len(ahead) > 1 else ""
        return f"{WAITING}, after {ahead[0].label or 'another computation'}{more}"

    def _rate(self) -> float | None:
        """Units of the stage a second, over the trail of the last reports."""
        if len(self._trail) < 2:
            return None
        (began, before), (now, done) = self._trail[0], self._trail[-1]
        return (done - before) / (now - began) if done > before else None

    def _state(self) -> tuple[State, BaseException | None]:
        future = self._future
        if future is None or not (future.running() or future.done()):
            return State.QUEUED, None
        if not future.done():
            return State.RUNNING, None
        if future.cancelled():
            return State.CANCELLED, None
        error = future.exception()
        if isinstance(error, progress.Cancelled):
            return State.CANCELLED, None
        return (State.FAILED, error) if error else (State.DONE, None)

    def _run(self, work: Callable[[progress.Report], Any]) -> None:
        """Do the work and keep nothing of it: neither its result nor, when it fails, the model its frames hold."""
        with self._lock:
            self._began = time.monotonic()
            self._stage = BEGINNING  # libraries may have to be loaded before the work makes its first report
        try:
            work(self.report)
        except BaseException as error:
            if not isinstance(error, (KisError, progress.Cancelled)):  # nobody else gets to see where it came from
                where = "".join(traceback.format_tb(error.__traceback__))  # not its message, which may hold any text
                log.error("an unexpected %s ended a job:\n%s", type(error).__name__, where)
            link: BaseException | None = error
            while link:
                traceback.clear_frames(link.__traceback__)
                link = link.__context__
            raise


class Runner:
    """Workers, one for each lane; the jobs of a lane run in the order in which they were submitted.

    The workers are daemons: a process that ends cancels its jobs and gives them `GRACE_SECONDS` to stop, no more.
    """

    def __init__(self) -> None:
        self._queues: dict[Lane, _Queue] = {}
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        atexit.register(self._end)

    def submit(
        self,
        key: str,
        work: Callable[[progress.Report], Any],
        stages: Mapping[str, float] = progress.STAGES,
        *,
        label: str = "",
        lane: Lane = CPU,
        notes: Sequence[Any] = (),
        before: Callable[[], object] = lambda: None,
    ) -> Job:
        """Start the work of that key, or join it if it is already waiting or running and not cancelled.

        Args:
            key: of the work; the same key means the same work.
            work: called with a report function in the worker thread; stores its own result.
            stages: of that work, with their shares of the time.
            label: what it is, for people.
            lane: where it is to run.
            notes: a list that the work fills with what it finds on the way.
            before: called before new work can begin; not where the work is joined.

        Raises:
            NotOffered: in read-only mode.
        """
        refuse_if_read_only("Computing")
        with self._lock:
            job = self._jobs.get(key)
            if job and not job._stop.is_set() and job.snapshot().alive:
                return job
            before()
            if lane not in self._queues:
                self._queues[lane] = _Queue()
            job = Job(stages, label, lane, notes)
            job._future = Future()
            self._queues[lane].put(job, partial(job._run, work))
            self._jobs[key] = job
            return job

    def jobs(self) -> dict[str, Job]:
        """The last job of every key, in the order in which the keys were first submitted."""
        with self._lock:
            return dict(self._jobs)

    def alive(self) -> dict[str, Job]:
        """The jobs that wait or run, by key."""
        return {key: job for key, job in self.jobs().items() if job.snapshot().alive}

    def beside(self, job: Job) -> int:
        """How many other jobs run on the device of a running job; 0 while it does not run itself."""
        running = [other for other in self.jobs().values() if other.snapshot().state is State.RUNNING]
        return sum(other.lane.device == job.lane.device for other in running) - 1 if job in running else 0

    def _end(self) -> None:
        """Torch aborts a process that ends in the middle of its work, so let the work stop where it can."""
        with self._lock:
            for job in self._jobs.values():
                job.cancel()
            queues = list(self._queues.values())
        for queue in queues:
            queue.waiting.put(None)
        until = time.monotonic() + GRACE_SECONDS
        for queue in queues:
            queue.worker.join(max(0.0, until - time.monotonic()))

    def find(self, key: str) -> Job | None:
        """The last job of that key, whatever became of it."""
        with self._lock:
            return self._jobs.get(key)

    def forget(self, key: str) -> None:
        """Drop an ended job, so that its work can be submitted afresh."""
        with self._lock:
            job = self._jobs.get(key)
            if job and not job.snapshot().alive:
                del self._jobs[key]


class _Queue:
    """The jobs of a lane and the one thread that runs them."""

    def __init__(self) -> None:
        self.waiting: SimpleQueue[tuple[Future[None], Callable[[], None]] | None] = SimpleQueue()
        self._order: list[Job] = []
        self._lock = threading.Lock()
        self.worker = threading.Thread(target=self._work, name="kis-worker", daemon=True)
        self.worker.start()

    def put(self, job: Job, work: Callable[[], None]) -> None:
        """Let a job wait for its turn; its future must be set."""
        if job._future is None:
            raise ValueError("a job needs its future before it can wait")
        job.ahead = self.ahead
        with self._lock:
            self._order = [*self._undone(self._order), job]
        self.waiting.put((job._future, work))

    def ahead(self, job: Job) -> list[Job]:
        """The jobs that come before this one, the next one first."""
        with self._lock:
            return self._undone(self._order[: self._order.index(job)]) if job in self._order else []

    @staticmethod
    def _undone(jobs: Sequence[Job]) -> list[Job]:
        return [job for job in jobs if not (job._future and job._future.done())]

    def _work(self) -> None:
        while (waiting := self.waiting.get()) is not None:
            future, work = waiting
            if not future.set_running_or_notify_cancel():
                continue
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - whoever waits sees it in the future, and the worker goes on
                future.set_exception(error)
            else:
                future.set_result(None)
