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
from kis_core.lifelong.run_state import STATE
from kis_core.models.files import ModelError
from kis_core.progress import Cancelled
from kis_core.simulator import Simulator
from tests import tiny
from tests.lifelong import lifelong_tools as tools
from tests.lifelong.lifelong_tools import asked, assert_same, weights_stay

__all__ = ["weights_stay"]  # fixture

EDITS, EVERY = 6, 2
Whole = Callable[[LifelongRequest], EditTrace]
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
    calls += done == 5
    if calls == 3:  # in the middle of the last edit's search
        os.kill(os.getpid(), signal.SIGKILL)

lifelong.run(bench, tools.asked(bench, "rome", 6, every=2), report=report)
"""


@pytest.fixture(scope="module")
def whole(shared: Simulator) -> Whole:
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


SHARES = {"alphaedit": 0.8, "rome": 0.3, "fine-tuning": 0.3, "uneven": 0.8}  # of the work, after which it is called off


class TestTakenUpAgain:
    @pytest.mark.parametrize("name", tiny.in_full(SHARES, ("alphaedit",)))
    def test_called_off_at_any_moment(self, bench: Simulator, shared: Simulator, whole: Whole, name: str) -> None:
        request = runs(shared)[name]
        everything, calls = whole(request), CALLS[lifelong.key(shared, request)]
        called_off(bench, request, int(SHARES[name] * calls))
        kept = lifelong.known(bench, request)
        assert kept is not None
        assert (SHARES[name] > 0.6) <= kept.edits < request.edits
        assert_same(kept, everything.until(kept.edits))
        assert not lifelong.finished(kept, request)
        again = Until(0)
        assert_same(lifelong.run(bench, request, report=again), everything)
        if kept.edits:
            assert again.calls < calls, "what was stored is not done again"
        assert_same(lifelong.known(without_model(bench), request), everything)

    def test_from_the_beginning_where_what_it_had_come_to_was_left_out(
        self, bench: Simulator, shared: Simulator, whole: Whole
    ) -> None:
        request = runs(shared)["alphaedit"]
        everything, key = whole(request), lifelong.key(bench, request)
        entry = shared.store.get(key)
        assert entry is not None
        arrays = {name: array for name, array in entry.arrays.items() if not name.startswith(STATE)}
        bench.store.put(key, entry.meta, arrays)
        shipped = without_model(bench)
        assert_same(lifelong.known(shipped, request), everything)
        assert_same(lifelong.run(shipped, request), everything)
        more = replace(request, edits=EDITS + EVERY)
        assert_same(lifelong.run(bench, more).until(EDITS), everything)

    def test_again_and_again_whatever_ended_it(self, bench: Simulator, shared: Simulator, whole: Whole) -> None:
        request, traces, endings = runs(shared)["rome"], [], {2: Cancelled, 4: RuntimeError, 6: Cancelled}

        def stop(trace: EditTrace) -> None:
            traces.append(trace)
            if len(traces) % 2 == 0:
                raise endings[trace.edits]

        for edits, ending in endings.items():
            with pytest.raises(ending):
                lifelong.run(bench, request, seen=stop)
            assert_same(lifelong.known(bench, request), whole(request).until(edits))
        assert [trace.edits for trace in traces] == [0, 2, 2, 4, 4, 6]
        assert_same(lifelong.run(bench, request), whole(request))

    @pytest.mark.stress  # starts a process; above, runs end anywhere, and `test_store.py` kills a holder of its lock
    def test_killed(self, bench: Simulator, shared: Simulator, whole: Whole) -> None:
        source = bench.result.request
        command = [sys.executable, "-c", KILLED, str(bench.store.root), source.facts, source.corpus]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        folder = Path(__file__).parents[2]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=120, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        request = runs(shared)["rome"]
        assert lifelong.known(bench, request).edits == 4
        assert_same(lifelong.run(bench, request), whole(request))

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

    def test_of_another_queue_it_begins_anew(self, bench: Simulator, shared: Simulator, whole: Whole) -> None:
        request = runs(shared)["rome"]
        other = replace(request, draw=Draw(seed=7))
        lifelong.run(bench, other, until=lambda trace: trace.edits >= EVERY)
        entry = bench.store.get(lifelong.key(bench, other))
        bench.store.put(lifelong.key(bench, request), entry.meta, entry.arrays)
        assert_same(lifelong.run(bench, request), whole(request))

    def test_of_another_text_it_begins_anew(self, bench: Simulator, shared: Simulator, whole: Whole) -> None:
        """Perplexities of two texts are never in one trace."""
        request = runs(shared)["rome"]
        lifelong.run(bench, request, until=lambda trace: trace.edits >= EVERY)
        key = lifelong.key(bench, request)
        entry = bench.store.get(key)
        other = entry.arrays | {"perplexity": 2 * entry.arrays["perplexity"]}
        bench.store.put(key, entry.meta | {"text": "another text"}, other)
        assert_same(lifelong.run(bench, request), whole(request))


class TestLongerAndShorter:
    def test_a_longer_run_serves_a_shorter_one_without_a_model(
        self, bench: Simulator, shared: Simulator, whole: Whole
    ) -> None:
        long = runs(shared)["rome"]
        short, traces = replace(long, edits=4), []
        whole(long)
        fresh = lifelong.run(bench, short)
        assert_same(lifelong.known(without_model(shared), short), fresh)
        assert_same(lifelong.run(without_model(shared), short, seen=traces.append), fresh)
        assert [trace.edits for trace in traces] == [4]

    def test_a_shorter_run_is_the_beginning_of_a_longer_one(
        self, bench: Simulator, shared: Simulator, whole: Whole
    ) -> None:
        long, traces = runs(shared)["alphaedit"], []
        lifelong.run(bench, replace(long, edits=2))
        assert not lifelong.finished(lifelong.known(bench, long), long)
        assert_same(lifelong.run(bench, long, seen=traces.append), whole(long))
        assert [trace.edits for trace in traces] == [2, 4, 6]

    @pytest.mark.stress
    @pytest.mark.parametrize("text", ["builtin", None])
    def test_of_other_models_and_texts(self, tmp_path: Path, text: str | None) -> None:
        """The same request comes to the same numbers, whatever was requested before."""
        setting = tools.analysed(tmp_path, tools.MODEL if text else tools.copied(tmp_path), text=text)
        one, other, fresh = (setting.bench(tmp_path / part) for part in ("one", "other", "fresh"))
        short, long = asked(fresh, "rome", 4, every=2), asked(fresh, "rome", 6, every=2)
        lifelong.run(one, short)
        lifelong.run(other, long)
        assert_same(lifelong.run(one, long), lifelong.run(other, long))
        assert_same(lifelong.run(other, short), lifelong.run(fresh, short))

    @pytest.mark.parametrize(
        ("name", "edits", "every", "batch", "steps"),
        [("rome", 3, 2, 1, [0, 2, 3]), ("memit", 5, 2, 3, [0, 3, 5]), ("memit", 3, 1, 8, [0, 3])],
    )
    def test_edits_that_are_no_multiple(
        self, shared: Simulator, name: str, edits: int, every: int, batch: int, steps: list[int]
    ) -> None:
        trace = lifelong.run(shared, asked(shared, name, edits, every=every, batch=batch))
        assert trace.steps.tolist() == steps
        assert (trace.edits, len(trace.queue), len(trace.took)) == (edits,) * 3
        assert trace.made.all()

    def test_picked_fewer_than_requested(self, bench: Simulator) -> None:
        request = asked(bench, "rome", 100, Draw("hand", picked=((1, "French"), (4, "Nokia"))))
        trace = lifelong.run(bench, request)
        assert trace.edits == 2
        assert_same(lifelong.run(without_model(bench), request), trace)

    def test_every_fact_picked(self, bench: Simulator, tmp_path: Path) -> None:
        bench = Simulator(bench.result.subset(range(3), "three"), bench.store, bench.load)
        request = asked(bench, "rome", 3, Draw("hand", picked=tuple((j, "French") for j in range(3))), every=2)
        trace = lifelong.run(bench, request)
        assert trace.log_odds.shape == (3, 0)
        assert trace.made.all()
        assert lifelong.write(bench, request, trace, tmp_path / "out")

    def test_a_run_that_has_gone_far_enough(self, bench: Simulator, shared: Simulator, whole: Whole) -> None:
        request = runs(shared)["rome"]
        trace = lifelong.run(bench, request, until=lambda trace: trace.edits > 2)
        assert_same(trace, whole(request).until(4))
        assert_same(lifelong.run(without_model(bench), request, until=lambda trace: trace.edits > 2), trace)
        with pytest.raises(ModelError):
            lifelong.run(without_model(bench), request)


class TestThreads:
    def test_the_same_run_twice_is_done_once(self, bench: Simulator, shared: Simulator) -> None:
        request, actual, waited = runs(shared)["rome"], [], threading.Event()

        def report(stage: str, done: int, total: int) -> None:
            if stage.startswith("Waiting"):
                waited.set()

        other = threading.Thread(
            target=lambda: actual.append(lifelong.run(without_model(bench), request, report=report))
        )

        def seen(trace: EditTrace) -> None:
            if trace.edits == EVERY:
                other.start()
                assert waited.wait(timeout=60)

        trace = lifelong.run(bench, request, seen=seen)
        other.join(timeout=60)
        assert_same(actual[0], trace)
