"""A session that stays open for long takes no more of the machine than a short one."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from torch import nn

from tests.pages.conftest import LAYERS, Open
from tests.pages.edit_tools import SMALL, perform, undo

ROUNDS = 10  # until all has been drawn once that is kept
RERUNS = 200
MOST_MORE = 1.05  # of the memory, after so many reruns


@dataclass(frozen=True)
class Taken:
    """What the process has taken of the machine."""

    memory: int
    descriptors: int
    threads: int
    hooks: int

    @classmethod
    def now(cls) -> Taken:
        gc.collect()
        modules = [thing for thing in gc.get_objects() if isinstance(thing, nn.Module)]
        hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        return cls(psutil.Process().memory_info().rss, descriptors, threading.active_count(), hooks)


@pytest.mark.stress
@pytest.mark.timeout(1800)
def test_two_hundred_reruns_leave_memory_descriptors_threads_and_hooks_flat(
    open_edit: Open, open_page: Open, record_property: Callable[[str, object], None]
) -> None:
    editing, looking = open_edit(**SMALL), open_page("pages/superposition.py")
    runs = 0

    def once_more() -> None:
        nonlocal runs
        undo(perform(editing))
        looking.switch_page("pages/superposition.py").run().slider[0].set_value(runs % LAYERS).run()
        looking.switch_page("pages/distributions.py").run()
        runs += 5

    for _ in range(ROUNDS):
        once_more()
    before, runs = Taken.now(), 0
    while runs < RERUNS:
        once_more()
    after = Taken.now()
    assert after.memory < MOST_MORE * before.memory
    assert (after.descriptors, after.threads, after.hooks) == (before.descriptors, before.threads, before.hooks)
    record_property("trials", runs)
