"""Sequences of edits: interference adds up until the model forgets (Hu et al., arXiv 2408.07413, eq. 11, 15; App. H).

`request` says which edits and how, `queue` draws and orders them, `sequence` makes them one after another and measures
(`model_health`), `trace` is what was measured; `frames`, `summary` and `growth` say what it shows, `files` writes it.
`budget` forecasts the whole curve before that, from `pilots` and the `stand_ins` drawn from them; `budget_advice` sets
several forecasts side by side, and `why` takes one apart. What needs torch is imported when it is first used, so that
commands and pages can list draws and orders.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kis_core.lifelong.queue import Pool, Queue, draw_queue, interference, pool
from kis_core.lifelong.request import BATCH, DRAWS, EVERY, MOST_EDITS, ORDERS, STAGE, Draw, LifelongRequest, ask
from kis_core.lifelong.trace import EditTrace

if TYPE_CHECKING:
    from kis_core.lifelong import budget, frames, growth, order_advice, summary
    from kis_core.lifelong.files import write, write_budget, write_comparison
    from kis_core.lifelong.sequence import finished, key, known, run

__all__ = [
    "BATCH",
    "DRAWS",
    "EVERY",
    "MOST_EDITS",
    "ORDERS",
    "STAGE",
    "Draw",
    "EditTrace",
    "LifelongRequest",
    "Pool",
    "Queue",
    "ask",
    "budget",
    "draw_queue",
    "finished",
    "frames",
    "growth",
    "interference",
    "key",
    "known",
    "order_advice",
    "pool",
    "run",
    "summary",
    "write",
    "write_budget",
    "write_comparison",
]

MODULES_WITH_TORCH = ("budget", "frames", "growth", "order_advice", "summary")
NAMES_WITH_TORCH = {
    "write": "files",
    "write_budget": "files",
    "write_comparison": "files",
    "finished": "sequence",
    "key": "sequence",
    "known": "sequence",
    "run": "sequence",
}
"""What is imported when it is first used; names with their modules."""


def __getattr__(name: str) -> Any:
    if name in MODULES_WITH_TORCH:
        return import_module(f"{__name__}.{name}")
    if name in NAMES_WITH_TORCH:
        return getattr(import_module(f"{__name__}.{NAMES_WITH_TORCH[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
