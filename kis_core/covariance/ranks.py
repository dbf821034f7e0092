"""One pass shared by the processes that `torchrun` starts: each takes every n-th batch, and the sums are added up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch

PATIENCE = timedelta(hours=6)  # the others wait while the first writes many gigabytes, or a slow one catches up


@dataclass(frozen=True, slots=True)
class Share:
    """Which batches this process takes.

    Attributes:
        rank: of this process, from 0.
        world: number of processes.
    """

    rank: int = 0
    world: int = 1

    def takes(self, batch: int) -> bool:
        """Whether the batch of this number in the pass belongs to this process."""
        return batch % self.world == self.rank

    @property
    def first(self) -> bool:
        """Whether this process gets the whole sum, and writes it."""
        return self.rank == 0

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, on the first one; others get their own value back."""
        if self.world > 1:
            torch.distributed.reduce(value, dst=0)
        return value

    def agreed(self, layers: list[int], device: torch.device) -> list[int]:
        """The layers that the first process names, the same in every process, in rising order."""
        if self.world == 1:
            return layers
        size = torch.tensor(max(layers, default=-1) + 1, device=device)
        torch.distributed.broadcast(size, src=0)
        flags = torch.zeros(int(size), dtype=torch.int64, device=device)
        for layer in layers if self.first else ():
            flags[layer] = 1
        torch.distributed.broadcast(flags, src=0)
        return [int(layer) for layer in flags.nonzero().flatten()]

    def least(self, value: int, device: torch.device) -> int:
        """The smallest value that any process has."""
        if self.world == 1:
            return value
        least = torch.tensor(value, device=device)
        torch.distributed.all_reduce(least, op=torch.distributed.ReduceOp.MIN)
        return int(least)

    def wait(self) -> None:
        """Wait until every process is here, so that none ends while another still needs it."""
        if self.world > 1:
            torch.distributed.barrier()


ALONE = Share()


def launched() -> bool:
    """Whether this process is one of several that `torchrun` started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def together(device: str) -> Iterator[Share]:
    """Within the block, this process and the others that `torchrun` started can add up tensors on a device."""
    own = torch.device(device) if device.startswith("cuda") else None  # else NCCL guesses it from the rank
    torch.distributed.init_process_group("nccl" if own else "gloo", device_id=own, timeout=PATIENCE)
    try:
        yield Share(torch.distributed.get_rank(), torch.distributed.get_world_size())
    finally:
        torch.distributed.destroy_process_group()


def sharing(device: torch.device) -> int:
    """Number of processes that share the memory of this one's device: each has its own GPU, all have the same CPU."""
    return 1 if device.type == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def own_device(device: str) -> str:
    """The device of this process: each of several processes on one machine takes its own GPU."""
    local = os.environ.get("LOCAL_RANK", "0")
    if device in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{local}"
    return "cpu" if device == "auto" else device
