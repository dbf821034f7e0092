"""What the second moment's stress test runs in processes of their own, forked from one that has only imported."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from kis_core import pipeline
from kis_core.demo.family import FAMILY
from kis_core.pipeline import Request
from kis_core.store import Store, key_of

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload([__name__, "kis_core.covariance", "kis_core.answers", "transformers"])
REQUEST = Request(model=FAMILY[0].name, tokens=20_000)


def analyse(root: Path, kill_after: float | None, answers: Any) -> None:
    """Run the request; answer with hash and token count of each C, and the seconds from the loaded model to C.

    Args:
        root: the cache folder.
        kill_after: seconds from the loaded model to the SIGKILL, or None for none.
        answers: a queue.
    """
    store = Store(root)
    times: dict[str, float] = {}

    def report(stage: str, done: int, total: int) -> None:
        times[stage] = time.monotonic()
        if kill_after is not None and (stage, done) == ("Loading the model", 1):
            threading.Timer(kill_after, os.kill, (os.getpid(), signal.SIGKILL)).start()

    result = pipeline.run(REQUEST, store, device="cpu", report=report)
    determined = pipeline.resolve(REQUEST, store).second_moment_key
    seen = []
    for layer in result.layers:
        entry = store.get(key_of("second-moment", determined | {"layer": layer}))
        if entry is None:
            raise LookupError(f"C of layer {layer} was not stored")
        seen.append((hashlib.sha256(entry.arrays["triangle"].tobytes()).hexdigest(), entry.meta["tokens"]))
    answers.put((seen, times["Second moment of the keys"] - times["Loading the model"]))
