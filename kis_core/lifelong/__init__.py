"""Sequences of edits: interference adds up until the model forgets (Hu et al., arXiv 2408.07413, eq. 11, 15; App. H).

`request` says which edits and how, `queue` draws and orders them, `sequence` makes them one after another and measures
(`model_health`), `trace` is what was measured; `frames` and `summary` say what it shows, `files` writes it.
"""

from kis_core.lifelong import frames, order_advice, summary
from kis_core.lifelong.files import write
from kis_core.lifelong.queue import Pool, Queue, interference, pool
from kis_core.lifelong.queue import queue as draw_queue
from kis_core.lifelong.request import BATCH, DRAWS, EVERY, MOST_EDITS, ORDERS, Draw, LifelongRequest, ask
from kis_core.lifelong.sequence import STAGE, finished, key, known, run
from kis_core.lifelong.trace import EditTrace

__all__ = [
    "BATCH", "DRAWS", "EVERY", "MOST_EDITS", "ORDERS", "STAGE", "Draw", "EditTrace", "LifelongRequest", "Pool", "Queue",
    "ask", "draw_queue", "finished", "frames", "interference", "key", "known", "order_advice", "pool", "run", "summary",
    "write",
]  # fmt: skip
