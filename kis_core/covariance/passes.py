"""One pass over the text for the second moments of many layers.

C of Hu et al. (arXiv 2408.07413), eq. 2. The pass can be cut anywhere, resumes from its last checkpoint, and then ends
with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kis_core import progress
from kis_core.corpora import CorpusError, DocumentsRead
from kis_core.covariance.checkpoint import Checkpoints
from kis_core.covariance.layer_sums import LayerSums
from kis_core.covariance.moment import SecondMoment, SecondMomentSum
from kis_core.covariance.ranks import ALONE, Share
from kis_core.covariance.reading import Extent, Group, ahead, batches, cut, groups
from kis_core.covariance.settling import Settling
from kis_core.models.batching import TOKENS_PER_BATCH

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel

STAGE = "Second moment of the keys"
TOKENS_PER_BATCH_CUDA = 16_384  # fills a large GPU; halved by itself where memory does not allow it


class NoTokens(CorpusError, ValueError):
    """A text of which the tokenizer leaves nothing."""


@dataclass(frozen=True, slots=True)
class PassOutcome:
    """What is known of a pass that has ended.

    Attributes:
        reading: which documents were read.
        padding: share of padding among the tokens that were run.
        batches: how many there were.
        settled: whether it ended early because P no longer moved.
    """

    reading: DocumentsRead
    padding: float
    batches: int
    settled: bool


def tokens_per_batch(device: torch.device) -> int:
    """Padded tokens in one forward pass, as long as memory allows."""
    return TOKENS_PER_BATCH_CUDA if device.type == "cuda" else TOKENS_PER_BATCH


def second_moments(
    loaded: LoadedModel,
    documents: Sequence[str],
    *,
    tokens: int | None,
    layers: Sequence[int] | None = None,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    report: progress.Report = progress.silent,
) -> list[SecondMoment]:
    """C of the chosen layers (all by default) in one pass over the text, all of them in memory at once.

    Args:
        loaded: the model.
        documents: texts; each is cut at the model's context length.
        tokens: stop after that many.
        layers: which layers to accumulate, in the order of the result.
        tokens_per_batch: padded tokens in one forward pass.
        report: called after every batch.

    Raises:
        NotFinite: an activation is NaN or infinite; names layer, batch and text.
        NoTokens: the documents hold none.
    """
    chosen = list(range(loaded.architecture.layers) if layers is None else layers)
    whole = Pass(loaded, sorted(set(chosen)), Extent(tokens), tokens_per_batch)
    whole.run(lambda: iter(documents), report=report)
    moments = dict(whole.moments())
    return [moments[layer] for layer in chosen]


@dataclass
class Pass:
    """A pass, and how far it has come.

    Attributes:
        loaded: the model.
        layers: whose keys are summed up.
        extent: how much text is read.
        tokens_per_batch: padded tokens in one forward pass, as long as memory allows.
        share: of the batches that this process takes.
    """

    loaded: LoadedModel
    layers: Sequence[int]
    extent: Extent
    tokens_per_batch: int
    share: Share = ALONE
    reading: DocumentsRead = field(default_factory=DocumentsRead)
    _first: int = 0  # document of the present group
    _tokens_before: int = 0  # in all groups before it
    _done: int = 0  # batches of it
    _batches: int = 0  # of the whole pass

    def __post_init__(self) -> None:
        # memory may allow smaller batches than those that are cut; all processes agree on the latter
        self._sums = LayerSums(self.loaded, self.layers, self.tokens_per_batch)

    def run(
        self,
        documents: Callable[[], Iterable[str]],
        *,
        report: progress.Report = progress.silent,
        checkpoints: Checkpoints | None = None,
        settling: Settling | None = None,
    ) -> PassOutcome:
        """Read the text, from the last checkpoint on if there is one.

        Args:
            documents: gives the corpus from its beginning.
            report: called after every batch.
            checkpoints: of this pass, or None.
            settling: looks at P on the way, between groups of documents; may end the pass.

        Raises:
            NotFinite: an activation is NaN or infinite; names layer, batch and text.
            OutOfMemory: a single row does not fit.
            NoTokens: the documents hold none.
        """
        last = checkpoints.read() if checkpoints else None
        if last and last.place.get("cut") == cut(self.tokens_per_batch):
            self._resume(last.place, last.arrays, settling)
        settled = bool(settling and settling.settled)
        if not settled:
            settled = self._read(documents(), report, checkpoints, settling)
        if not self._tokens_before:
            raise NoTokens("the corpus holds no token for this tokenizer; choose another text")
        padding = 1 - self._sums.real / self._sums.run if self._sums.run else 0.0
        return PassOutcome(self.reading, padding, self._batches, settled)

    def moments(self) -> Iterator[tuple[int, SecondMoment]]:
        """C by layer once the text is read, each taken out of its sum, so that both need not lie in memory for all.

        Of several processes the first gets them; the others have to call this as well, and get none.
        """
        for layer in self.layers:
            total, tokens = map(self.share.sum, self._sums.take(layer))
            if self.share.first:
                yield layer, SecondMomentSum.of(total, int(tokens)).mean()

    def _read(
        self,
        documents: Iterable[str],
        report: progress.Report,
        checkpoints: Checkpoints | None,
        settling: Settling | None,
    ) -> bool:
        most = max(self._tokens_before, self.extent.tokens or 1)
        report(STAGE, self._tokens_before, most)  # the first text may take long to arrive
        coming = groups(
            self.loaded.tokenizer,
            documents,
            self.extent,
            context=self.loaded.context,
            first=self._first,
            tokens_before=self._tokens_before,
        )
        for group in ahead(coming):
            parts = list(batches([len(row) for row in group.rows], tokens_per_batch=self.tokens_per_batch))
            seen = group.tokens_before + sum(len(group.rows[k]) for part in parts[: self._done] for k in part)
            for batch in parts[self._done :]:
                rows = [group.rows[k] for k in batch]
                if self.share.takes(self._batches):
                    self._sums.add(rows, self._batches)
                self._done += 1
                self._batches += 1
                seen += sum(map(len, rows))
                report(STAGE, seen, self._expected(group, seen))
                if checkpoints and checkpoints.due():
                    self._keep(checkpoints, settling)
            self._end(group)
            if settling and settling.due(self._tokens_before) and self._look(settling):
                if checkpoints:
                    self._keep(checkpoints, settling)
                return True
        return False

    def _end(self, group: Group) -> None:
        """Count a group whose batches are done; the next one begins after it."""
        for place, document in enumerate(group.documents, group.first):
            self.reading.add(place, document)
        self._first = group.first + len(group.documents)
        self._tokens_before += group.tokens
        self._done = 0

    def _expected(self, group: Group, seen: int) -> int:
        """Tokens in all: as requested, or as many as the documents so far suggest."""
        end = group.tokens_before + group.tokens
        if self.extent.documents:
            mean = end / (group.first + len(group.documents))
            end = max(end, round(mean * self.extent.documents))
        if self.extent.tokens:
            end = min(end, self.extent.tokens) if self.extent.documents else self.extent.tokens
        return max(end, seen)

    def _look(self, settling: Settling) -> bool:
        return settling.look(lambda layer: self._sums[layer].mean().matrix, self._tokens_before)

    def _keep(self, checkpoints: Checkpoints, settling: Settling | None) -> None:
        looks, looked_at = settling.state() if settling else ({}, {})
        counted, sums = self._sums.state()
        place = {
            "first": self._first,
            "tokens": self._tokens_before,
            "done": self._done,
            "batches": self._batches,
            "cut": cut(self.tokens_per_batch),
            "budget": self._sums.budget,
            "run": self._sums.run,
            "real": self._sums.real,
            "counted": counted,
            "reading": self.reading.to_json(),
            "settling": looks,
        }
        checkpoints.save(place, chain([("looks", looked_at)], sums))

    def _resume(self, place: dict[str, Any], arrays: Mapping[str, np.ndarray], settling: Settling | None) -> None:
        self._first, self._tokens_before = place["first"], place["tokens"]
        self._done, self._batches = place["done"], place["batches"]
        self._sums.budget, self._sums.run, self._sums.real = place["budget"], place["run"], place["real"]
        self._sums.resume(place["counted"], arrays)
        self.reading = DocumentsRead.from_json(place["reading"])
        if settling and place["settling"]:
            settling.resume(place["settling"], arrays)
