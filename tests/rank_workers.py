"""A pass over a small text in processes of their own that share the work, as torchrun starts them."""

from __future__ import annotations

import multiprocessing
import os
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
from tests.covariance.pass_tools import Counting, EveryBatch, before, out_of_memory_above

FORK = multiprocessing.get_context("fork")  # a fork server would import torch once more
DOCUMENTS = corpora.builtin().texts[:30]
LAYERS = [0, 2]
TOKENS = 1_234  # cuts a document
TOKENS_PER_BATCH = 200


def start(rank: int, world: int, port: int, root: Path, **disturbed: int | None) -> BaseProcess:
    """Begin one of several processes; `root` gets `c.npz` of the first, and `told<rank>` of each."""
    process = FORK.Process(target=_share, args=(rank, world, port, root), kwargs=disturbed, daemon=True)
    process.start()
    return process


def _share(rank: int, world: int, port: int, root: Path, **disturbed: int | None) -> None:
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }  # fmt: skip
    with together("cpu") as share:
        work(root, share, **disturbed)


def work(root: Path, share: Share = ALONE, *, memory: int | None = None) -> None:
    """A pass with a checkpoint after every batch.

    Args:
        root: where its results and the store lie.
        share: of the work.
        memory: for how many tokens at once there is.
    """
    reading.DOCUMENTS_AT_ONCE = 16
    loaded = tiny.model("GPT-2")
    checkpoints = EveryBatch(Store(root / "store"), {"rank": share.rank, "world": share.world}, {})
    one = Pass(loaded, LAYERS, Extent(TOKENS), TOKENS_PER_BATCH, share)
    counting, run = Counting(), 0

    def count(hidden: Any) -> None:
        nonlocal run
        run += hidden.shape[0]
        out_of_memory_above(memory or TOKENS, MemoryError)(hidden)

    with before(loaded.architecture.blocks[1], count):
        outcome = one.run(lambda: iter(DOCUMENTS), report=counting, checkpoints=checkpoints)
    found = dict(one.moments())
    agreed = share.agreed([0, 2, 5] if share.first else [1], loaded.device)
    none = share.agreed([], loaded.device)
    least = share.least(10 + share.rank, loaded.device)
    share.wait()
    checkpoints.clear()
    told = [outcome.reading.to_json(), outcome.batches, counting.batches, run, sorted(found), agreed, none, least]
    (root / f"told{share.rank}").write_text(repr(told), encoding="utf-8")
    if found:
        tokens = [moment.tokens for moment in found.values()]
        np.savez(root / "c.npz", **{f"{k}": moment.matrix for k, moment in found.items()}, tokens=tokens)
