"""A sequence of edits, cancelled or killed at any moment and taken up again, comes to the same numbers, bit by bit.

So does one beside others in threads, and the model stays as it was.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kis_core import lifelong
from kis_core.editing.methods.fine_tuning import FineTuningSettings
from kis_core.lifelong import Draw, EditTrace, LifelongRequest
from kis_core.models.files import ModelError
from kis_core.progress import Cancelled
from kis_core.simulator import Simulator
from tests import tiny
from tests.lifelong import lifelong_tools as tools
from tests.lifelong.lifelong_tools import asked, assert_same, weights_stay

__all__ = ["weights_stay"]  # fixture

EDITS, EVERY = 12, 4
CALLS: dict[str, int] = {}  # of the report, in an uninterrupted run
KILLED = """
import os, signal, sys
from kis_core import lifelong
from kis_core.analysis import pipeline
from kis_core.lifelong import sequence_run
from kis_core.models import catalog, loading
from kis_core.request import Request
from kis_core.simulator import Simulator
from kis_core.store.store import Store
from tests.lifelong import lifelong_tools as tools

root, facts, corpus = sys.argv[1:]
sequence_run.SAVED_SECONDS = -1.0
store = Store(root)
result = pipeline.run(Request(tools.MODEL, facts, corpus, tools.TOKENS), store, device="cpu")
loaded = loading.load(catalog.locate(tools.MODEL), device="cpu")
bench = Simulator(result, store, lambda: loaded)
calls = 0

def report(stage, done, total):
    global calls
    calls += done == 9
    if calls == 3:  # in the middle of the tenth edit's search
        os.kill(os.getpid(), signal.SIGKILL)

lifelong.run(bench, tools.asked(bench, "rome", 12, every=4), report=report)
"""


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tools.Setting:
    """C taken over the text the model was taught with."""
    return tools.analysed(tmp_path_factory.mktemp("taught"), text="builtin")


@pytest.fixture(scope="module")
def whole(shared: Simulator) -> Callable[[LifelongRequest], EditTrace]:
    """An uninterrupted run, made once."""

    def run(request: LifelongRequest) -> EditTrace:
        count = Until(0)
        trace = lifelong.run(shared, request, report=count)
        CALLS.setdefault(lifelong.key(shared, request), count.calls)
        return trace

    return run


class Until:
    """A report that calls the work off at the n-th time it is called."""

    def __init__(self, times: int) -> None:
        self.left, self.calls = times, 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.calls += 1
        if self.calls == self.left:
            raise Cancelled


def called_off(bench: Simulator, request: LifelongRequest, times: int) -> None:
    with pytest.raises(Cancelled):
        lifelong.run(bench, request, report=Until(times))


def no_model() -> Any:
    raise ModelError("the model is gone")


def without_model(bench: Simulator) -> Simulator:
    return Simulator(bench.result, bench.store, no_model)


def runs(shared: Simulator) -> dict[str, LifelongRequest]:
    return {
        "rome": asked(shared, "rome", EDITS, every=EVERY),
        "alphaedit": asked(shared, "alphaedit", EDITS, layers=(0, 1), batch=2, every=EVERY),
        "fine-tuning": asked(shared, "fine-tuning", EDITS, every=EVERY, settings=FineTuningSettings(0.002, 5)),
        "uneven": asked(shared, "memit", 11, layers=(0, 2), batch=3, every=4, draw=Draw("most", order="gentle")),
    }


class TestTakenUpAgain:
    @pytest.mark.parametrize(
        ("name", "share"),
        tiny.in_full([("rome", 0.3), ("alphaedit", 0.8), ("fine-tuning", 0.3), ("uneven", 0.8)], ("alphaedit",)),
    )
    def test_called_off_at_any_moment(
        self, demo: tools.Setting, shared: Simulator, whole: Callable[[LifelongRequest], EditTrace], tmp_path: Path,
        name: str, share: float,
    ) -> None:  # fmt: skip
        request = runs(shared)[name]
        everything, calls = whole(request), CALLS[lifelong.key(shared, request)]
        bench = demo.bench(tmp_path / "store")
        called_off(bench, request, int(share * calls))
        kept = lifelong.known(bench, request)
        assert kept is not None
        assert kept.edits < request.edits
        if share > 0.6:
            assert kept.edits > 0
        assert_same(kept, everything.until(kept.edits))
        assert not lifelong.finished(kept, request)
        again = Until(0)
        assert_same(lifelong.run(bench, request, report=again), everything)
        if kept.edits:
            assert again.calls < calls, "what was stored is not done again"
        assert_same(lifelong.known(without_model(bench), request), everything)

    def test_before_the_first_measurement_there_is_nothing(self, bench: Simulator, shared: Simulator) -> None:
        request = runs(shared)["rome"]
        called_off(bench, request, 3)
        assert lifelong.known(bench, request) is None
        assert not lifelong.finished(None, request)

    def test_again_and_again(
        self, bench: Simulator, shared: Simulator, whole: Callable[[LifelongRequest], EditTrace]
    ) -> None:
        request, traces = runs(shared)["rome"], []

        def stop(trace: EditTrace) -> None:
            traces.append(trace)
            if len(traces) % 2 == 0:
                raise Cancelled

        for edits in (4, 8, 12):
            with pytest.raises(Cancelled):
                lifelong.run(bench, request, seen=stop)
            assert lifelong.known(bench, request).edits == edits
        assert [trace.edits for trace in traces] == [0, 4, 4, 8, 8, 12]
        assert_same(lifelong.run(bench, request), whole(request))

    def test_taken_up_and_called_off_before_it_measures(self, bench: Simulator, shared: Simulator) -> None:
        request = runs(shared)["rome"]
        lifelong.run(bench, request, until=lambda trace: trace.edits >= 4)
        called_off(bench, request, 8)
        assert lifelong.known(bench, request).edits == 4

    @pytest.mark.stress  # starts a process; above, runs end anywhere, and `test_store.py` kills a holder of its lock
    def test_killed(self, bench: Simulator, shared: Simulator, whole: Callable[[LifelongRequest], EditTrace]) -> None:
        source = bench.result.request
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(bench.store.root), source.facts, source.corpus],
            cwd=Path(__file__).parents[2], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, done.stderr
        request, calls = runs(shared)["rome"], Until(0)
        kept = lifelong.known(bench, request)
        assert kept is not None
        assert kept.edits == 8
        assert_same(lifelong.run(bench, request, report=calls), whole(request))

    def test_an_error_leaves_what_was_measured(
        self, bench: Simulator, shared: Simulator, whole: Callable[[LifelongRequest], EditTrace]
    ) -> None:
        request = runs(shared)["rome"]

        def fail(trace: EditTrace) -> None:
            if trace.edits == 8:
                raise RuntimeError("the page is gone")

        with pytest.raises(RuntimeError, match="the page is gone"):
            lifelong.run(bench, request, seen=fail)
        assert_same(lifelong.known(bench, request), whole(request).until(8))

    def test_a_full_disk_loses_only_what_is_kept(
        self, bench: Simulator, shared: Simulator, caplog: pytest.LogCaptureFixture
    ) -> None:
        request = asked(shared, "rome", 2, Draw("hand", picked=((1, "French"), (4, "Nokia"))), every=1)
        for layer in bench.result.layers:
            assert bench.whitener(layer)
            assert bench.sensitivity(layer)
        shutil.rmtree(bench.store.root / "matrices")
        assert_same(lifelong.run(bench, request), lifelong.run(shared, request))
        assert "measured but not kept" in caplog.text

    def test_of_another_queue_it_begins_anew(
        self, bench: Simulator, shared: Simulator, whole: Callable[[LifelongRequest], EditTrace]
    ) -> None:
        request = runs(shared)["rome"]
        other = replace(request, draw=Draw(seed=7))
        lifelong.run(bench, other, until=lambda trace: trace.edits >= 4)
        entry = bench.store.get(lifelong.key(bench, other))
        bench.store.put(lifelong.key(bench, request), entry.meta, entry.arrays)
        assert_same(lifelong.run(bench, request), whole(request))


class TestLongerAndShorter:
    def test_a_longer_run_serves_a_shorter_one_without_a_model(
        self, demo: tools.Setting, shared: Simulator, whole: Callable[[LifelongRequest], EditTrace], tmp_path: Path
    ) -> None:
        long = runs(shared)["rome"]
        traces: list[EditTrace] = []
        whole(long)
        for edits in (4, 8):
            short = replace(long, edits=edits)
            fresh = lifelong.run(demo.bench(tmp_path / str(edits)), short)
            assert_same(lifelong.known(without_model(shared), short), fresh)
            assert_same(lifelong.run(without_model(shared), short, seen=traces.append), fresh)
            assert traces[-1].edits == fresh.edits == edits
        assert len(traces) == 2

    def test_a_shorter_run_is_the_beginning_of_a_longer_one(
        self, bench: Simulator, shared: Simulator, whole: Callable[[LifelongRequest], EditTrace]
    ) -> None:
        long, traces = runs(shared)["alphaedit"], []
        lifelong.run(bench, replace(long, edits=4))
        assert not lifelong.finished(lifelong.known(bench, long), long)
        assert_same(lifelong.run(bench, long, seen=traces.append), whole(long))
        assert [trace.edits for trace in traces] == [4, 8, 12]

    @pytest.mark.parametrize("name", ["taught", pytest.param("stranger", marks=pytest.mark.stress)])
    def test_of_other_models_and_texts(self, request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
        """The same request comes to the same numbers, whatever was asked for before."""
        setting: tools.Setting = request.getfixturevalue(name)
        one, other, fresh = (setting.bench(tmp_path / part) for part in ("one", "other", "fresh"))
        short, long = asked(fresh, "rome", 4, every=2), asked(fresh, "rome", 6, every=2)
        lifelong.run(one, short)
        lifelong.run(other, long)
        assert_same(lifelong.run(one, long), lifelong.run(other, long))
        assert_same(lifelong.run(other, short), lifelong.run(fresh, short))

    @pytest.mark.parametrize(
        ("name", "how", "steps"),
        [
            ("rome", {"edits": 7, "every": 3}, [0, 3, 6, 7]),
            ("rome", {"edits": 3, "every": 5}, [0, 3]),
            ("rome", {"edits": 2, "every": 1}, [0, 1, 2]),
            ("memit", {"edits": 7, "every": 2, "batch": 3}, [0, 3, 6, 7]),
            ("memit", {"edits": 9, "every": 5, "batch": 2}, [0, 6, 9]),
            ("memit", {"edits": 3, "every": 1, "batch": 8}, [0, 3]),
        ],
    )
    def test_edits_that_are_no_multiple(
        self, shared: Simulator, name: str, how: dict[str, int], steps: list[int]
    ) -> None:
        trace = lifelong.run(shared, asked(shared, name, **how))
        assert trace.steps.tolist() == steps
        assert (trace.edits, len(trace.queue), len(trace.took)) == (how["edits"],) * 3
        assert trace.made.all()

    def test_picked_fewer_than_asked_for(self, bench: Simulator) -> None:
        request = asked(bench, "rome", 100, Draw("hand", picked=((1, "French"), (4, "Nokia"))))
        trace = lifelong.run(bench, request)
        assert trace.edits == 2
        assert_same(lifelong.run(bench, request), trace)

    def test_every_fact_picked(self, bench: Simulator, tmp_path: Path) -> None:
        picked = tuple((j, "French") for j in range(len(bench.facts)))
        request = asked(bench, "rome", len(picked), Draw("hand", picked=picked), every=8)
        trace = lifelong.run(bench, request)
        assert trace.log_odds.shape == (4, 0)
        assert trace.made.all()
        assert lifelong.write(bench, request, trace, tmp_path / "out")

    def test_a_run_that_has_gone_far_enough(
        self, bench: Simulator, shared: Simulator, whole: Callable[[LifelongRequest], EditTrace]
    ) -> None:
        request = runs(shared)["rome"]
        trace = lifelong.run(bench, request, until=lambda trace: trace.edits > 5)
        assert_same(trace, whole(request).until(8))
        assert_same(lifelong.run(without_model(bench), request, until=lambda trace: trace.edits > 5), trace)
        with pytest.raises(ModelError):
            lifelong.run(without_model(bench), request)


class TestThreads:
    def test_two_runs_at_once_are_those_alone(
        self, bench: Simulator, shared: Simulator, whole: Callable[[LifelongRequest], EditTrace]
    ) -> None:
        requests = [runs(shared)[name] for name in ("rome", "alphaedit")]
        found: dict[int, EditTrace] = {}
        together = threading.Barrier(2, timeout=60)

        def work(number: int) -> None:
            def seen(trace: EditTrace) -> None:
                if trace.edits < EDITS:
                    together.wait()

            found[number] = lifelong.run(bench, requests[number], seen=seen)

        threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=100)
        for number, request in enumerate(requests):
            assert_same(found[number], whole(request))

    def test_the_same_run_twice_is_done_once(self, bench: Simulator, shared: Simulator) -> None:
        request, found, waited = runs(shared)["rome"], [], threading.Event()

        def report(stage: str, done: int, total: int) -> None:
            if stage.startswith("Waiting"):
                waited.set()

        other = threading.Thread(
            target=lambda: found.append(lifelong.run(without_model(bench), request, report=report))
        )

        def seen(trace: EditTrace) -> None:
            if trace.edits == EVERY:
                other.start()
                assert waited.wait(timeout=60)

        trace = lifelong.run(bench, request, seen=seen)
        other.join(timeout=60)
        assert_same(found[0], trace)
