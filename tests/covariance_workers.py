"""Commands that tests run in processes of their own, forked from one that has only imported: to kill, or to share."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from kis_core import __main__ as command_line
from kis_core.covariance import checkpoint, moment
from kis_core.covariance.layer_sums import LayerSums

LOADING = ("transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto")
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload([__name__, "transformers.models.gpt2.modeling_gpt2", *LOADING])
SECONDS = 60  # that a command may take


def start(
    arguments: list[str], root: Path, said: Path, *, rank: int = 0, world: int = 1, port: int = 0, batch: int = 0,
    end: str = "",
) -> BaseProcess:  # fmt: skip
    """Run the command line in a process, with a checkpoint after every batch.

    Args:
        arguments: of the command.
        root: the cache folder.
        said: file for what it writes to standard output and error; beside it, `batches` tells how many it took.
        rank, world: of the process, as torchrun tells them.
        port: where the processes find each other.
        batch: at which of its batches to end early.
        end: how: "killed", or "not finite".
    """
    process = FORKSERVER.Process(target=_run, args=(arguments, root, said, rank, world, port, batch, end))
    process.start()
    return process


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _run(arguments: list[str], root: Path, said: Path, rank: int, world: int, port: int, batch: int, end: str) -> None:
    os.environ |= {
        "KIS_CACHE": str(root), "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    with said.open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    checkpoint.SECONDS_BETWEEN, checkpoint.WRITING_SHARE = 0.0, float("inf")
    taken = 0
    forward = LayerSums._forward

    def counted(*given: Any) -> None:
        nonlocal taken
        taken += 1
        if (taken, end) == (batch, "killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        forward(*given)

    def never(*_: object) -> None:
        raise FloatingPointError

    if end == "not finite":
        moment.SecondMomentSum.add = never
    LayerSums._forward = counted
    status = command_line.main(arguments)
    said.with_suffix(".batches").write_text(str(taken))
    sys.exit(status)
