"""One pass over the text for the second moments of many layers, stopping the model after the last of them.

C of Hu et al. (arXiv 2408.07413), eq. 2. The pass takes what memory there is: an out-of-memory halves its batches and
goes on. It can be cut anywhere and taken up again, and then ends with the same bits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kis_core import progress
from kis_core.corpora import CorpusError, DocumentsRead
from kis_core.covariance.checkpoint import Checkpoints
from kis_core.covariance.moment import SecondMoment, SecondMomentSum, home
from kis_core.covariance.ranks import ALONE, Share
from kis_core.covariance.reading import Extent, Group, ahead, batches, cut, groups
from kis_core.covariance.settling import Settling
from kis_core.errors import KisError
from kis_core.models.batching import TOKENS_PER_BATCH, pad
from kis_core.models.finite import NotFinite, shown
from kis_core.models.hooks import hooked
from kis_core.models.loading import OUT_OF_MEMORY

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel

log = logging.getLogger(__name__)

STAGE = "Second moment of the keys"
SAYS_SO = (*OUT_OF_MEMORY, "status_alloc_failed")  # the last of cuBLAS and cuDNN, which have memory of their own
TOKENS_PER_BATCH_CUDA = 16_384  # fills a large GPU; halved by itself where memory does not allow it


class OutOfMemory(KisError):
    """Not even a single row fits beside the model, or memory ran out where the batch could not be taken again."""


class NoTokens(CorpusError, ValueError):
    """A text of which the tokenizer leaves nothing."""


class _Enough(Exception):
    """The last layer needed has been seen; the rest of the model need not run."""


@dataclass(frozen=True, slots=True)
class PassOutcome:
    """How a pass went.

    Attributes:
        reading: which documents were read.
        padding: share of the tokens run that were padding.
        batches: how many there were.
        settled: whether it ended early because P no longer moved.
    """

    reading: DocumentsRead
    padding: float
    batches: int
    settled: bool


def tokens_per_batch(device: torch.device) -> int:
    """Padded tokens in one forward pass, to begin with."""
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
    one = Pass(loaded, sorted(set(chosen)), Extent(tokens), tokens_per_batch)
    one.run(lambda: iter(documents), report=report)
    moments = dict(one.moments())
    return [moments[layer] for layer in chosen]


@dataclass
class Pass:
    """A pass: what it is over, and how far it has come.

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
    sums: dict[int, SecondMomentSum] = field(default_factory=dict)
    reading: DocumentsRead = field(default_factory=DocumentsRead)
    _budget: int = 0  # padded tokens that memory allows; batches stay as they are cut, so that all ranks agree on them
    _first: int = 0  # document of the present group
    _tokens_before: int = 0  # in all groups before it
    _done: int = 0  # batches of it
    _batches: int = 0  # of the whole pass
    _run: int = 0  # tokens run, padding included
    _real: int = 0  # of these, tokens of documents

    def run(
        self,
        documents: Callable[[], Iterable[str]],
        *,
        report: progress.Report = progress.silent,
        checkpoints: Checkpoints | None = None,
        settling: Settling | None = None,
    ) -> PassOutcome:
        """Go through the text, from the last checkpoint on if there is one.

        Args:
            documents: the corpus from its beginning, afresh at every call.
            report: called after every batch.
            checkpoints: where to keep the place, or None.
            settling: looks at P on the way, between groups of documents; may end the pass.

        Raises:
            NotFinite: an activation is NaN or infinite; names layer, batch and text.
            OutOfMemory: a single row does not fit.
            NoTokens: the documents hold none.
        """
        self.sums = {layer: SecondMomentSum() for layer in self.layers}
        self._budget = self.tokens_per_batch
        taken = checkpoints.read() if checkpoints else None
        if taken and taken.place.get("cut") == cut(self.tokens_per_batch):
            self._take_up(taken.place, taken.arrays, settling)
        settled = bool(settling and settling.settled)
        if not settled:
            settled = self._read(documents(), report, checkpoints, settling)
        if not self._tokens_before:
            raise NoTokens("the corpus holds no token for this tokenizer; choose another text")
        padding = 1 - self._real / self._run if self._run else 0.0
        return PassOutcome(self.reading, padding, self._batches, settled)

    def moments(self) -> Iterator[tuple[int, SecondMoment]]:
        """C by layer once the text is read, each taken out of its sum, so that both need not lie in memory for all.

        Of several processes the first one gets them; the others have to ask as well, and get none.
        """
        width = self.loaded.architecture.widths[1]
        for layer in self.layers:
            own = self.sums.pop(layer)
            total = self.share.sum(own.total(self._device(layer), width))
            tokens = int(self.share.sum(torch.tensor(own.tokens, device=total.device)))
            if self.share.first:
                yield layer, SecondMomentSum.of(total, tokens).mean()

    def _read(
        self,
        documents: Iterable[str],
        report: progress.Report,
        checkpoints: Checkpoints | None,
        settling: Settling | None,
    ) -> bool:
        most = max(self._tokens_before, self.extent.tokens or 1)
        report(STAGE, self._tokens_before, most)  # the first text may be long in coming
        found = groups(
            self.loaded.tokenizer, documents, self.extent, context=self.loaded.context, first=self._first,
            tokens_before=self._tokens_before,
        )  # fmt: skip
        for group in ahead(found):
            parts = list(batches([len(row) for row in group.rows], tokens_per_batch=self.tokens_per_batch))
            seen = group.tokens_before + sum(len(group.rows[k]) for part in parts[: self._done] for k in part)
            for batch in parts[self._done :]:
                rows = [group.rows[k] for k in batch]
                if self.share.takes(self._batches):
                    self._forward(rows, set(self.layers))
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
        """Close a group: the next one begins after it."""
        for place, document in enumerate(group.documents, group.first):
            self.reading.add(place, document)
        self._first = group.first + len(group.documents)
        self._tokens_before += group.tokens
        self._done = 0

    def _expected(self, group: Group, seen: int) -> int:
        """Tokens in all: as asked for, or as the documents so far let expect."""
        end = group.tokens_before + group.tokens
        if self.extent.documents:
            mean = end / (group.first + len(group.documents))
            end = max(end, round(mean * self.extent.documents))
        if self.extent.tokens:
            end = min(end, self.extent.tokens) if self.extent.documents else self.extent.tokens
        return max(end, seen)

    def _forward(self, rows: Sequence[Sequence[int]], missing: set[int]) -> None:
        """Add the keys of rows to the layers that still miss them; in halves where memory does not do for all."""
        padded = len(rows) * max(map(len, rows))
        if len(rows) > 1 and padded > self._budget:
            self._halves(rows, missing)
            return
        try:
            self._add(rows, missing)
        except (RuntimeError, MemoryError) as error:
            if not _memory(error):
                raise
            if torn := [layer for layer in missing if self.sums[layer].torn]:
                raise OutOfMemory(
                    f"Memory ran out while keys were added to C of layer {torn[0]}, whose sum is lost. Run the same "
                    f"again: it goes on from its last checkpoint. If it ends here once more, use fewer layers "
                    f"at a time (--layers)."
                ) from error
            if len(rows) == 1:
                raise OutOfMemory(
                    f"A single text of {len(rows[0])} tokens does not fit beside the model on {self.loaded.device}. "
                    f"Use fewer layers at a time (--layers), half precision (--dtype bfloat16), or a larger device."
                ) from error
            log.warning("out of memory with %d tokens in a batch; going on with half of it", padded)
            self._budget = max(1, padded // 2)
        else:
            return
        if self.loaded.device.type == "cuda":  # outside the handler, whose traceback holds the activations
            torch.cuda.empty_cache()
        self._halves(rows, missing)

    def _halves(self, rows: Sequence[Sequence[int]], missing: set[int]) -> None:
        for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
            self._forward(half, set(missing))

    @torch.inference_mode()
    def _add(self, rows: Sequence[Sequence[int]], missing: set[int]) -> None:
        ids, mask = pad(rows, self.loaded.device)
        counted = None if bool(mask.all()) else mask.bool().flatten()
        layers = sorted(missing)

        def seen(number: int, key: torch.Tensor, _: torch.Tensor) -> None:
            layer = layers[number]
            try:
                self.sums[layer].add(key.reshape(-1, key.shape[-1]), counted)
            except FloatingPointError as error:
                raise NotFinite(self._where(layer, rows, key)) from error
            missing.remove(layer)
            if not missing:
                raise _Enough

        modules = [self.loaded.architecture.down_projections[layer] for layer in layers]
        try:
            with hooked(modules, seen):
                self.loaded.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        except _Enough:
            pass
        self._run += ids.numel()
        self._real += sum(map(len, rows))

    def _where(self, layer: int, rows: Sequence[Sequence[int]], key: torch.Tensor) -> str:
        """Names the first text with a key that is no number; if all are, the one whose squares are too large to add."""
        sizes = [float(key[row, : len(text)].float().abs().max()) for row, text in enumerate(rows)]
        guilty = next((row for row, size in enumerate(sizes) if not np.isfinite(size)), int(np.argmax(sizes)))
        return (
            f"layer {layer}, batch {self._batches}: an activation is not finite, in the text that begins with "
            f"{shown(self.loaded, rows[guilty])}; are the weights damaged or out of range for {self.loaded.dtype}?"
        )

    def _look(self, settling: Settling) -> bool:
        return settling.look(lambda layer: self.sums[layer].mean().matrix, self._tokens_before)

    def _device(self, layer: int) -> torch.device:
        return self.loaded.architecture.weight(layer).device

    def _keep(self, checkpoints: Checkpoints, settling: Settling | None) -> None:
        told, arrays = settling.state() if settling else ({}, {})
        place = {
            "first": self._first, "tokens": self._tokens_before, "done": self._done, "batches": self._batches,
            "cut": cut(self.tokens_per_batch), "budget": self._budget, "run": self._run, "real": self._real,
            "counted": {str(layer): one.tokens for layer, one in self.sums.items()},
            "reading": self.reading.to_json(), "settling": told,
        }  # fmt: skip

        def parts() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
            yield "looks", arrays
            for layer, one in self.sums.items():
                if one.tokens:
                    total = one.total(self._device(layer), self.loaded.architecture.widths[1])
                    yield f"layer {layer}", {f"sum{layer}": total.cpu().tril().numpy()}

        checkpoints.save(place, parts())

    def _take_up(self, place: dict[str, Any], arrays: Any, settling: Settling | None) -> None:
        self._first, self._tokens_before = place["first"], place["tokens"]
        self._done, self._batches = place["done"], place["batches"]
        self._budget, self._run, self._real = place["budget"], place["run"], place["real"]
        self.reading = DocumentsRead.from_json(place["reading"])
        for layer in self.layers:
            if f"sum{layer}" in arrays:
                total = torch.from_numpy(arrays[f"sum{layer}"]).to(home(self._device(layer)))
                self.sums[layer] = SecondMomentSum.of(total, place["counted"][str(layer)])
        if settling and place["settling"]:
            settling.resume(place["settling"], arrays)


def _memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    text = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in text for words in SAYS_SO)
