"""Two processes that share a pass over the text give what one gives, also short of memory.

Killed and resumed they are in tests/commands/test_covariance_command.py.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kis_core import corpora
from kis_core.covariance import ranks, reading
from kis_core.covariance.passes import Pass
from kis_core.covariance.ranks import ALONE, Share
from kis_core.covariance.reading import Extent
from kis_core.store.store import Store
from tests import covariance_workers, tiny
from tests.covariance.pass_tools import Counting, EveryBatch, before, out_of_memory_above

EXACT = 1e-12  # relative to C's largest entry: float64 sums in another order
HALVED = 1e-5  # the same where batches had another shape, in the float32 of the forward pass
PATIENCE = 120  # seconds until a test gives up on a process; reached only when something hangs
FORK = multiprocessing.get_context("fork")  # a fork server would import torch once more
DOCUMENTS = corpora.builtin().texts[:30]
TOKENS, TOKENS_PER_BATCH = 1_234, 200  # the first cuts a document

Told = dict[str, Any]


def work(root: Path, share: Share = ALONE, *, memory: int = TOKENS) -> Told:
    """A pass with a checkpoint after every batch, and memory for so many tokens at once; `c.npz` comes to lie there."""
    loaded, counting, rows = tiny.model("GPT-2"), Counting(), []

    def count(hidden: torch.Tensor) -> None:
        rows.append(hidden.shape[0])
        out_of_memory_above(memory, MemoryError)(hidden)

    checkpoints = EveryBatch(Store(root / "store"), {"rank": share.rank, "world": share.world}, {})
    one = Pass(loaded, [0, 2], Extent(TOKENS), TOKENS_PER_BATCH, share)
    with before(loaded.architecture.blocks[1], count):
        outcome = one.run(lambda: iter(DOCUMENTS), report=counting, checkpoints=checkpoints)
    found = dict(one.moments())
    agreed = [share.agreed([0, 2, 5] if share.first else [1], loaded.device), share.agreed([], loaded.device)]
    least = share.least(10 + share.rank, loaded.device)
    share.wait()
    checkpoints.clear()
    if found:
        tokens = [moment.tokens for moment in found.values()]
        np.savez(root / "c.npz", **{f"{k}": moment.matrix for k, moment in found.items()}, tokens=tokens)
    split = {"reading": outcome.reading.to_json(), "batches": outcome.batches, "reported": counting.batches}
    return split | {"rows": sum(rows), "layers": sorted(found), "agreed": [*agreed, least]}


def share_out(root: Path, **disturbed: int) -> list[Told]:
    """Run two processes, the second one disturbed, and give what each tells."""
    root.mkdir(exist_ok=True)
    port, told = covariance_workers.free_port(), FORK.SimpleQueue()

    def process(rank: int) -> None:
        os.environ |= {"RANK": f"{rank}", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
        with ranks.together("cpu") as share:
            told.put((rank, json.dumps(work(root, share, **(disturbed if rank else {})))))

    processes = [FORK.Process(target=process, args=(rank,), daemon=True) for rank in range(2)]
    for one in processes:
        one.start()
    for one in processes:
        one.join(PATIENCE)
    assert [one.exitcode for one in processes] == [0, 0]
    return [json.loads(words) for _, words in sorted(told.get() for _ in processes)]


def check_equal(one: Path, other: Path, tolerance: float) -> None:
    with np.load(one / "c.npz") as a, np.load(other / "c.npz") as b:
        assert sorted(a) == sorted(b) == ["0", "2", "tokens"]
        assert a["tokens"].tolist() == b["tokens"].tolist() == [TOKENS] * 2
        for name in ("0", "2"):
            np.testing.assert_allclose(a[name], b[name], rtol=0, atol=tolerance * a[name].max())


def test_two_split_the_work_and_the_first_has_what_one_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "DOCUMENTS_AT_ONCE", 16)
    together, scarce = tmp_path / "together", tmp_path / "scarce"
    alone, (first, second) = work(tmp_path), share_out(together)
    check_equal(tmp_path, together, EXACT)
    assert Store(together / "store").inventory() == []
    assert first["agreed"] == second["agreed"] == [[0, 2, 5], [], 10], "on what the first one says"
    for name in ("reading", "batches", "reported"):
        assert first[name] == second[name] == alone[name]
    assert first["rows"] + second["rows"] == alone["rows"], "each document once"
    assert min(first["rows"], second["rows"]) > alone["rows"] / 4
    assert (first["layers"], second["layers"]) == ([0, 2], [])
    undisturbed, short = share_out(scarce, memory=110)
    check_equal(together, scarce, HALVED)
    assert undisturbed == first, "little memory in one does not change whose a batch is"
    assert short["rows"] > second["rows"], "some were tried in vain"


def test_every_batch_is_taken_once() -> None:
    for world in (1, 2, 3, 8):
        shares = [Share(rank, world) for rank in range(world)]
        assert all(sum(share.takes(batch) for share in shares) == 1 for batch in range(100))


def test_processes_of_a_machine_share_its_memory_and_not_their_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert ranks.sharing(torch.device("cpu")) == 4
    assert ranks.sharing(torch.device("cuda:1")) == 1
    for world, several in (("1", False), ("2", True)):
        monkeypatch.setenv("WORLD_SIZE", world)
        assert ranks.launched() is several
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert ranks.sharing(torch.device("cpu")) == 1
