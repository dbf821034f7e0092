"""Sums of k kᵀ of many layers, grown by forward passes that stop after the last of them.

They take what memory there is: where it runs out, a batch is halved and the halves are taken one after the other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from kis_core.covariance.moment import SecondMomentSum, home
from kis_core.errors import KisError
from kis_core.models.batching import pad
from kis_core.models.finite import NotFinite, shown
from kis_core.models.hooks import hooked
from kis_core.models.loading import OUT_OF_MEMORY

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel

log = logging.getLogger(__name__)

MEMORY_MESSAGES = (
    *OUT_OF_MEMORY,
    "status_alloc_failed",
)  # the last of cuBLAS and cuDNN, which have memory of their own


class OutOfMemory(KisError):
    """Not even a single row fits beside the model, or memory ran out where the batch could not be taken again."""


class _LastLayerSeen(Exception):
    """The last layer needed has been seen; the rest of the model need not run."""


@dataclass
class LayerSums:
    """The sum of each layer, and what the forward passes took.

    Attributes:
        loaded: the model.
        layers: whose keys are summed up.
        budget: padded tokens that memory allows in one forward pass, as far as is known.
        run: tokens run, padding included.
        real: of these, tokens of documents.
    """

    loaded: LoadedModel
    layers: Sequence[int]
    budget: int
    run: int = 0
    real: int = 0
    _sums: dict[int, SecondMomentSum] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._sums = {layer: SecondMomentSum() for layer in self.layers}

    def add(self, rows: Sequence[Sequence[int]], batch: int) -> None:
        """Add the keys of a batch to every layer.

        Args:
            rows: tokens of each text.
            batch: its number in the pass, for messages.

        Raises:
            NotFinite: an activation is NaN or infinite; names layer, batch and text.
            OutOfMemory: a single row does not fit.
        """
        self._forward(rows, set(self.layers), batch)

    def __getitem__(self, layer: int) -> SecondMomentSum:
        return self._sums[layer]

    def take(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum of a layer and its number of tokens, on one device; both are here no longer."""
        total, tokens = self._total(layer), self._sums.pop(layer).tokens
        return total, torch.tensor(tokens, device=total.device)

    def state(self) -> tuple[dict[str, int], Iterator[tuple[str, dict[str, np.ndarray]]]]:
        """Tokens by layer as JSON, and the lower triangles of the sums, made one after the other."""
        filled = [layer for layer in self.layers if self._sums[layer].tokens]
        totals = ((f"layer {layer}", {f"sum{layer}": self._total(layer).cpu().tril().numpy()}) for layer in filled)
        return {str(layer): self._sums[layer].tokens for layer in self.layers}, totals

    def resume(self, counted: Mapping[str, int], arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from a `state`."""
        for layer in self.layers:
            if f"sum{layer}" in arrays:
                total = torch.from_numpy(arrays[f"sum{layer}"]).to(home(self._device(layer)))
                self._sums[layer] = SecondMomentSum.of(total, counted[str(layer)])

    def _total(self, layer: int) -> torch.Tensor:
        return self._sums[layer].total(self._device(layer), self.loaded.architecture.widths[1])

    def _device(self, layer: int) -> torch.device:
        return self.loaded.architecture.weight(layer).device

    def _forward(self, rows: Sequence[Sequence[int]], missing: set[int], batch: int) -> None:
        """Add the keys of rows to the layers that still miss them; in halves where there is not memory for all."""
        padded = len(rows) * max(map(len, rows))
        if len(rows) == 1 or padded <= self.budget:
            try:
                self._add(rows, missing, batch)
            except (RuntimeError, MemoryError) as error:
                if not _of_memory(error):
                    raise
                if torn := [layer for layer in missing if self._sums[layer].torn]:
                    raise OutOfMemory(
                        f"Memory ran out while keys were added to C of layer {torn[0]}, whose sum is lost. Run the "
                        f"same again: it resumes from its last checkpoint. If it ends here once more, use fewer layers "
                        f"at a time (--layers)."
                    ) from error
                if len(rows) == 1:
                    raise OutOfMemory(
                        f"A single text of {len(rows[0])} tokens does not fit beside the model on "
                        f"{self.loaded.device}. Use fewer layers at a time (--layers), half precision (--dtype "
                        f"bfloat16), or a larger device."
                    ) from error
                log.warning("out of memory with %d tokens in a batch; going on with half of it", padded)
                self.budget = max(1, padded // 2)
            else:
                return
            if self.loaded.device.type == "cuda":  # outside the handler, whose traceback holds the activations
                torch.cuda.empty_cache()
        for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
            self._forward(half, set(missing), batch)

    @torch.inference_mode()
    def _add(self, rows: Sequence[Sequence[int]], missing: set[int], batch: int) -> None:
        ids, mask = pad(rows, self.loaded.device)
        counted = None if bool(mask.all()) else mask.bool().flatten()
        layers = sorted(missing)

        def seen(number: int, key: torch.Tensor, _: torch.Tensor) -> None:
            layer = layers[number]
            try:
                self._sums[layer].add(key.reshape(-1, key.shape[-1]), counted)
            except FloatingPointError as error:
                raise NotFinite(self._not_finite(layer, rows, key, batch)) from error
            missing.remove(layer)
            if not missing:
                raise _LastLayerSeen

        modules = [self.loaded.architecture.down_projections[layer] for layer in layers]
        try:
            with hooked(modules, seen):
                self.loaded.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        except _LastLayerSeen:
            pass
        self.run += ids.numel()
        self.real += sum(map(len, rows))

    def _not_finite(self, layer: int, rows: Sequence[Sequence[int]], key: torch.Tensor, batch: int) -> str:
        """The message, with the first text of which a key is no number, else that of the largest key."""
        sizes = [float(key[row, : len(text)].float().abs().max()) for row, text in enumerate(rows)]
        guilty = next((row for row, size in enumerate(sizes) if not np.isfinite(size)), int(np.argmax(sizes)))
        return (
            f"layer {layer}, batch {batch}: an activation is not finite, in the text that begins with "
            f"{shown(self.loaded, rows[guilty])}; are the weights damaged or out of range for {self.loaded.dtype}?"
        )


def _of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    text = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in text for words in MEMORY_MESSAGES)
