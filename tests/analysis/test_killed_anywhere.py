"""An analysis killed at any moment, again and again: the result is right, and nothing is left over."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from kis_core import corpora
from kis_core.analysis import pipeline
from kis_core.covariance import checkpoint
from kis_core.request import Request
from kis_core.results.result import Result
from kis_core.store.leftovers import HEAD, PART
from kis_core.store.store import Store
from tests import tiny
from tests.store.store_tools import close, leftovers

FACTS = "subject,prompt,target\nMalta,The capital of {} is,Valletta\nOslo,{} lies in,Norway\nRome,{} is in,Italy\n"
ROOTS = 10  # kills of one analysis; the next one begins anew


@pytest.fixture(scope="module")
def request_of(tmp_path_factory: pytest.TempPathFactory) -> Request:
    folder = tmp_path_factory.mktemp("killed")
    (folder / "facts.csv").write_text(FACTS)
    (folder / "corpus.txt").write_text("\n".join(corpora.builtin().texts[:40]), encoding="utf-8")
    model = tiny.save("GPT-2", folder / "model")
    return Request(str(model), str(folder / "facts.csv"), str(folder / "corpus.txt"), tokens=400)


@pytest.fixture
def expected(request_of: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Result, float]:
    """The result of a run that nobody disturbs, and the seconds it takes once all is imported."""
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(checkpoint, "WRITING_SHARE", 1e9)  # after every batch
    pipeline.run(request_of, Store(tmp_path / "first"), device="cpu")
    began = time.monotonic()
    found = pipeline.run(request_of, Store(tmp_path / "undisturbed"), device="cpu")
    return found, time.monotonic() - began


def killed_after(seconds: float, root: Path, request: Request) -> None:
    """Run the analysis in a forked process, and kill it after so long unless it has ended by then."""
    if (child := os.fork()) == 0:
        try:
            pipeline.run(request, Store(root), device="cpu")
        finally:
            os._exit(0)
    kill = threading.Timer(seconds, os.kill, (child, signal.SIGKILL))
    kill.start()
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # so that the timer meets a process of ours, dead or alive
    kill.cancel()
    kill.join()
    os.waitpid(child, 0)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kills", "seed"), [(3, 1), pytest.param(300, 2, marks=pytest.mark.stress)])
def test_kills_change_nothing(
    kills: int, seed: int, request_of: Request, expected: tuple[Result, float], tmp_path: Path
) -> None:
    choose, (right, seconds) = random.Random(seed), expected
    for first in range(0, kills, ROOTS):
        root = tmp_path / f"store-{first}"
        for _ in range(min(ROOTS, kills - first)):
            killed_after(choose.uniform(0, 1.2 * seconds), root, request_of)
        store = Store(root)
        found = pipeline.run(request_of, store, device="cpu")
        assert np.array_equal(found.p, right.p)
        for name in ("tokens_counted", "documents_sha256_sum"):
            assert found.provenance[name] == right.provenance[name]
        close(store)
        again = Store(root)
        assert leftovers(root) == []
        assert [item.kind for item in again.inventory() if item.kind in (HEAD, PART)] == []
        assert list((root / "damaged").iterdir()) == list((root / "locks").iterdir()) == []
        close(again)
