"""What the second moment's stress test runs in processes of their own, forked from one that has only imported."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kis_core.analysis import pipeline
from kis_core.analysis.pipeline import Request
from kis_core.covariance import checkpoint, passes
from kis_core.demo.family import FAMILY
from kis_core.store.store import Store, key_of

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload([__name__, "kis_core.covariance", "kis_core.scoring.answers", "transformers"])
TOKENS_PER_BATCH = 512  # so that there are some batches to be killed between
STAGE = passes.STAGE


@dataclass(frozen=True)
class Analysed:
    """What came of an analysis.

    Attributes:
        c: SHA-256 and token count of C of each layer.
        batches: that were taken.
        seconds: from the first batch to the last.
        left: kinds of what the store holds beside results.
    """

    c: list[tuple[str, int]]
    batches: int
    seconds: float
    left: set[str]


def second_moments(
    root: Path, tokens: int, patience: float, *, kill_after: float | None = None, batch: int = 0
) -> Analysed | None:
    """Analyse a demo model in a process of its own; None when it was killed first.

    Args:
        root: the cache folder.
        tokens: of text.
        patience: seconds until the process is given up.
        kill_after: seconds to the SIGKILL, or None for none.
        batch: from the report of which on they are counted; 0 for the loaded model.
    """
    answers = FORKSERVER.SimpleQueue()
    process = FORKSERVER.Process(target=_analyse, args=(root, tokens, kill_after, batch, answers), daemon=True)
    process.start()
    process.join(patience)
    if process.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the process ended with {process.exitcode}")
    return answers.get() if process.exitcode == 0 else None


def kept_batches(root: Path) -> int:
    """How far the checkpoint is that a killed process left; 0 where there is none."""
    heads = Store(root).listed(checkpoint.HEAD).values()
    return sum(meta["place"]["batches"] for meta in heads)


def _analyse(root: Path, tokens: int, kill_after: float | None, batch: int, answers: Any) -> None:
    passes.TOKENS_PER_BATCH = TOKENS_PER_BATCH
    checkpoint.SECONDS_BETWEEN, checkpoint.WRITING_SHARE = 0.0, float("inf")  # one after every batch
    store, request = Store(root), Request(model=FAMILY[0].name, tokens=tokens)
    times: list[float] = []  # of the reports of batches; the first comes before any

    def report(stage: str, done: int, total: int) -> None:
        times.extend([time.monotonic()] if stage == STAGE else [])
        at_hand = stage == STAGE and len(times) - 1 == batch if batch else (stage, done) == ("Loading the model", 1)
        if kill_after is not None and at_hand:
            threading.Timer(kill_after, os.kill, (os.getpid(), signal.SIGKILL)).start()

    result = pipeline.run(request, store, device="cpu", report=report)
    determined = pipeline.resolve(request, store).second_moment_key
    seen = []
    for layer in result.layers:
        entry = store.get(key_of(pipeline.SECOND_MOMENT, determined | {"layer": layer}))
        if entry is None:
            raise LookupError(f"C of layer {layer} was not stored")
        seen.append((hashlib.sha256(entry.arrays["triangle"].tobytes()).hexdigest(), entry.meta["tokens"]))
    seconds = times[-1] - times[0] if times else 0.0
    left = {item.kind for item in store.inventory()} & {checkpoint.HEAD, checkpoint.PART}
    answers.put(Analysed(seen, max(0, len(times) - 1), seconds, left))
