"""Passes over a small text, cut off and disturbed, as several test files need them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from kis_core import corpora, progress
from kis_core.covariance.checkpoint import Checkpoints
from kis_core.covariance.passes import Pass, PassOutcome
from kis_core.covariance.reading import Extent
from kis_core.covariance.settling import Settling
from kis_core.models.loaded import LoadedModel
from kis_core.progress import Cancelled
from kis_core.store.store import Store

TOKENS_PER_BATCH = 48
DOCUMENTS = tuple(sentence for text in corpora.builtin().texts[:9] for sentence in text.split(". "))[:26]
AT_ONCE = 8  # documents in a group, so that there are several
SCARCE = 23  # tokens that memory does for: some batches of `DOCUMENTS` have more, no single one of them has
NAME = {"pass": "of a test"}


@dataclass(frozen=True)
class Ended:
    """What must not depend on what happened on the way."""

    c: dict[int, bytes]
    tokens: tuple[int, ...]
    outcome: PassOutcome


class EveryBatch(Checkpoints):
    """Checkpoints after every batch."""

    def due(self) -> bool:
        return True


def new(loaded: LoadedModel, *, layers: Sequence[int] = (0, 2), tokens: int | None = None) -> Pass:
    return Pass(loaded, list(layers), Extent(tokens), TOKENS_PER_BATCH)


def ended(one: Pass, outcome: PassOutcome) -> Ended:
    actual = dict(one.moments())
    tokens = tuple(moment.tokens for moment in actual.values())
    return Ended({layer: moment.matrix.tobytes() for layer, moment in actual.items()}, tokens, outcome)


def run(
    one: Pass,
    *,
    store: Store | None = None,
    saving: bool = True,
    settling: Settling | None = None,
    report: progress.Report = progress.silent,
    documents: Sequence[str] = DOCUMENTS,
) -> Ended:
    checkpoints = (EveryBatch if saving else Checkpoints)(store, NAME, {}) if store else None
    outcome = one.run(lambda: iter(documents), report=report, checkpoints=checkpoints, settling=settling)
    return ended(one, outcome)


def after(batches: int) -> progress.Report:
    """Call off the work when so many batches are done."""
    told = iter(range(batches))  # the first report comes before any batch

    def report(*_: object) -> None:
        if next(told, None) is None:
            raise Cancelled

    return report


class Counting:
    """Counts the batches that are reported."""

    def __init__(self) -> None:
        self.batches = -1  # the first report comes before any

    def __call__(self, *_: object) -> None:
        self.batches += 1


@contextmanager
def before(module: torch.nn.Module, action: Callable[[torch.Tensor], None]) -> Iterator[None]:
    """Within the block, do something whenever a module is about to run, with its input."""
    handle = module.register_forward_pre_hook(lambda _, inputs: action(inputs[0]))
    try:
        yield
    finally:
        handle.remove()


def out_of_memory_above(tokens: int, error: Callable[[], BaseException]) -> Callable[[torch.Tensor], None]:
    """An action that has memory for so many tokens, padding included."""

    def action(hidden: torch.Tensor) -> None:
        if hidden.shape[:-1].numel() > tokens:
            raise error()

    return action
