"""Two processes that share a pass over the text give what one gives, also short of memory.

Killed and resumed they are in tests/commands/test_covariance_command.py.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kis_core.covariance import ranks
from kis_core.covariance.ranks import Share
from kis_core.store.store import Store
from tests import covariance_workers, rank_workers

EXACT = 1e-12  # relative to C's largest entry: float64 sums in another order
HALVED = 1e-5  # the same where batches had another shape, in the float32 of the forward pass
PATIENCE = 120  # seconds until a test gives up on a process; reached only when something hangs


def share_out(root: Path, **disturbed: int) -> list[int | None]:
    """Run two processes, the second one disturbed; their exit codes."""
    root.mkdir(exist_ok=True)
    port = covariance_workers.free_port()
    processes = [rank_workers.start(rank, 2, port, root, **(disturbed if rank else {})) for rank in range(2)]
    for process in processes:
        process.join(PATIENCE)
    return [process.exitcode for process in processes]


def told(root: Path, rank: int) -> list[Any]:
    return list(ast.literal_eval((root / f"told{rank}").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank_workers.reading, "DOCUMENTS_AT_ONCE", 16)
        rank_workers.work(root)
    return root


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("together")
    assert share_out(root) == [0, 0]
    return root


def check_equal(one: Path, other: Path, tolerance: float) -> None:
    with np.load(one / "c.npz") as a, np.load(other / "c.npz") as b:
        assert sorted(a) == sorted(b) == ["0", "2", "tokens"]
        assert a["tokens"].tolist() == b["tokens"].tolist() == [rank_workers.TOKENS] * 2
        for name in ("0", "2"):
            np.testing.assert_allclose(a[name], b[name], rtol=0, atol=tolerance * a[name].max())


def test_two_split_the_work_and_the_first_has_what_one_gives(alone: Path, together: Path) -> None:
    check_equal(alone, together, EXACT)
    assert Store(together / "store").inventory() == []
    for rank in range(2):
        assert told(together, rank)[5:] == [[0, 2, 5], [], 10], "they agree on what the first one says"
    (reading, batches, *_, run, _, _, _, _), first, second = told(alone, 0), told(together, 0), told(together, 1)
    assert first[0] == second[0] == reading, "documents and their digest"
    assert first[1] == second[1] == batches
    assert first[3] + second[3] == run, "each document once"
    assert min(first[3], second[3]) > run / 3
    assert (first[4], second[4]) == ([0, 2], [])


def test_little_memory_in_one_process_does_not_change_whose_a_batch_is(together: Path, tmp_path: Path) -> None:
    root = tmp_path / "scarce"
    assert share_out(root, memory=110) == [0, 0]
    check_equal(together, root, HALVED)
    assert told(root, 0) == told(together, 0)
    assert told(root, 1)[3] > told(together, 1)[3], "some were tried in vain"


class TestOneProcess:
    def test_every_batch_is_taken_once(self) -> None:
        for world in (1, 2, 3, 8):
            shares = [Share(rank, world) for rank in range(world)]
            assert all(sum(share.takes(batch) for share in shares) == 1 for batch in range(100))
        assert ranks.ALONE.agreed([2, 0], torch.device("cpu")) == [2, 0]

    def test_processes_of_a_machine_share_its_memory_and_not_their_gpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
        assert ranks.sharing(torch.device("cpu")) == 4
        assert ranks.sharing(torch.device("cuda:1")) == 1
        for world, several in (("1", False), ("2", True)):
            monkeypatch.setenv("WORLD_SIZE", world)
            assert ranks.launched() is several
        monkeypatch.delenv("LOCAL_WORLD_SIZE")
        assert ranks.sharing(torch.device("cpu")) == 1
