"""A pass over a small text in processes of their own that share the work, as torchrun starts them."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from kis_core import corpora
from kis_core.covariance import reading
from kis_core.covariance.passes import Pass
from kis_core.covariance.ranks import ALONE, Share, together
from kis_core.covariance.reading import Extent
from kis_core.store.store import Store
from tests import tiny
from tests.covariance.pass_tools import EveryBatch, before, out_of_memory_above

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload([__name__, "transformers.models.gpt2.modeling_gpt2"])
DOCUMENTS = corpora.builtin().texts[:60]
LAYERS = [0, 2]
TOKENS = 2_345  # cuts a document
TOKENS_PER_BATCH = 200


def start(rank: int, world: int, port: int, root: Path, **disturbed: int | None) -> BaseProcess:
    """Begin one of several processes; `root` gets `c.npz` of the first, and `told<rank>` of each."""
    process = FORKSERVER.Process(target=_share, args=(rank, world, port, root), kwargs=disturbed, daemon=True)
    process.start()
    return process


def _share(rank: int, world: int, port: int, root: Path, **disturbed: int | None) -> None:
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }  # fmt: skip
    with together("cpu") as share:
        work(root, share, **disturbed)


def work(root: Path, share: Share = ALONE, *, kill_at: int | None = None, memory: int | None = None) -> None:
    """A pass with a checkpoint after every batch.

    Args:
        root: where its results and the store lie.
        share: of the work.
        kill_at: which of its batches this process dies after, before it is kept.
        memory: for how many tokens at once there is.
    """
    reading.DOCUMENTS_AT_ONCE = 16
    loaded = tiny.model("GPT-2")
    checkpoints = EveryBatch(Store(root / "store"), {"rank": share.rank, "world": share.world}, {})
    one = Pass(loaded, LAYERS, Extent(TOKENS), TOKENS_PER_BATCH, share)
    reports, run = 0, 0

    def report(*_: object) -> None:
        nonlocal reports
        reports += 1
        if reports - 1 == kill_at:  # the first report comes before any batch
            os.kill(os.getpid(), signal.SIGKILL)

    def count(hidden: Any) -> None:
        nonlocal run
        run += hidden.shape[0]
        out_of_memory_above(memory or TOKENS, MemoryError)(hidden)

    with before(loaded.architecture.blocks[1], count):
        outcome = one.run(lambda: iter(DOCUMENTS), report=report, checkpoints=checkpoints)
    found = dict(one.moments())
    agreed = share.agreed([0, 2, 5] if share.first else [1], loaded.device)
    none = share.agreed([], loaded.device)
    least = share.least(10 + share.rank, loaded.device)
    share.wait()
    checkpoints.clear()
    told = [outcome.reading.to_json(), outcome.batches, reports - 1, run, sorted(found), agreed, none, least]
    (root / f"told{share.rank}").write_text(repr(told), encoding="utf-8")
    if found:
        np.savez(
            root / "c.npz", **{f"{k}": c.matrix for k, c in found.items()}, tokens=[c.tokens for c in found.values()]
        )


def digest(root: Path) -> str:
    """Of all that the first process has found."""
    with np.load(root / "c.npz") as stored:
        return hashlib.sha256(b"".join(stored[name].tobytes() for name in sorted(stored))).hexdigest()
