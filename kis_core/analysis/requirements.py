"""What a computation needs of a machine: memory for weights and second moments, passes over the text, and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from kis_core.corpora import PAPER_DOCUMENTS
from kis_core.machine import DTYPE_BYTES, Device, Speed, factor_operations, first_fit, gigabytes, product_operations
from kis_core.models import catalog
from kis_core.models.batching import TOKENS_PER_BATCH
from kis_core.models.catalog import ModelEntry
from kis_core.models.loading import OVERHEAD

FLOAT64_BYTES = 8
BATCH_BYTES = {"mlp_width": 8 + 8 + 4 + 4, "width": 8 * 4}
"""Of a token in a batch: its key in float64, that once more while it is turned, and the MLP's own two in float32; the
residual stream, its norms, queries, keys, values and sums, some eight vectors in float32."""
COPIES = {"cuda": 1, "mps": 2, "cpu": 2}
"""Matrices as large as a layer's sum that are there beside it: on a GPU the triangle on its way out; in the processor's
memory C and what is made of it, its other triangle or its factor."""
TOKENS_A_DOCUMENT = 600  # of Wikipedia, roughly: only to estimate with
RESERVE = 0.15
"""Of the free memory, never filled with sums: a batch and the copies have to go somewhere, and others are at work."""
QUICK_SECONDS = 180  # that a quick look at a model may take
UNGATED = 4  # d_m / d of an MLP with two matrices; one with a gate has three, and another d_m to make up for it


@dataclass(frozen=True, slots=True)
class Requirements:
    """What C and P of a model need on a device.

    Attributes:
        device: its name.
        dtype: what the model runs in.
        weights_bytes: of the model in that dtype.
        moments_bytes: of the sums of all asked layers together, in float64.
        required_bytes: least memory that will do: the weights, one layer's sum, and what is there beside them.
        free_bytes: of the device.
        passes: over the text, as many as there are groups of layers whose sums fit at once; 0 where none does.
        whole_passes: the same in passes through all layers, as a group's pass ends after its last one.
        forward_tokens: that are read, over all passes.
        seconds: for C of all asked layers and its factors, without download and loading; None without a speed, or
            where it does not fit.
        reason: why it does not fit and what would; empty where it fits.
        nearest: name of the largest smaller model of the catalogue that fits, of the same family if there is one; None
            where this one fits, or none does.
    """

    device: str
    dtype: str
    weights_bytes: int
    moments_bytes: int
    required_bytes: int
    free_bytes: int
    passes: int
    whole_passes: float
    forward_tokens: int
    seconds: float | None
    reason: str = ""
    nearest: str | None = None

    @property
    def fits(self) -> bool:
        """Is there memory for it?"""
        return not self.reason


def requirements_of(
    entry: ModelEntry,
    tokens: int,
    *,
    device: Device,
    dtype: str,
    layers: Sequence[int] | None = None,
    speed: Speed | None = None,
) -> Requirements:
    """What C of a model's layers over that many tokens needs. Loads nothing.

    Args:
        entry: the model.
        tokens: of the text.
        device: where.
        dtype: what the model runs in.
        layers: which; all by default.
        speed: of the device, as `covariance.speed.probe` measures it.
    """
    chosen = sorted(range(entry.layers) if layers is None else set(layers))
    weights, required = entry.parameters * DTYPE_BYTES[dtype], required_bytes(entry, device, dtype)
    fits = required <= device.free_bytes
    room = max(budget(device, weights), moment_bytes(entry.mlp_width))  # the rounding of either may be a byte off
    groups = grouped(chosen, entry.mlp_width, room) if fits else []
    whole = sum((group[-1] + 1) / entry.layers for group in groups)
    nearest = None if fits else _nearest(entry, device, dtype)
    return Requirements(
        device=device.name,
        dtype=dtype,
        weights_bytes=weights,
        moments_bytes=len(chosen) * moment_bytes(entry.mlp_width),
        required_bytes=required,
        free_bytes=device.free_bytes,
        passes=len(groups),
        whole_passes=whole,
        forward_tokens=tokens * len(groups),
        seconds=_seconds(entry, tokens, whole, len(chosen), speed) if fits and speed else None,
        reason="" if fits else _reason(entry, device, dtype, nearest),
        nearest=nearest,
    )


def quick_tokens(
    entry: ModelEntry, *, device: Device, dtype: str, speed: Speed, layers: Sequence[int] | None = None
) -> int | None:
    """How much text fits into a quick look at these layers, in tokens to two digits.

    0 where it is less than d_m tokens, over which C has no full rank; None where the model does not fit on the device.
    """
    none, some = (
        requirements_of(entry, tokens, device=device, dtype=dtype, layers=layers, speed=speed).seconds
        for tokens in (0, entry.mlp_width)
    )
    if none is None or some is None:
        return None
    tokens = int((QUICK_SECONDS - none) * entry.mlp_width / (some - none))
    return int(float(f"{tokens:.1e}")) if tokens >= entry.mlp_width else 0


def tokens_read(entry: ModelEntry, tokens: int | None, documents: int | None) -> int:
    """About how many tokens are read, at most so many of them, or of so many documents of Wikipedia."""
    return tokens or (documents or PAPER_DOCUMENTS) * tokens_a_document(entry)


def tokens_a_document(entry: ModelEntry) -> int:
    """About how many tokens of a document of Wikipedia a model reads."""
    return min(TOKENS_A_DOCUMENT, entry.context or TOKENS_A_DOCUMENT)


def choose(entry: ModelEntry, devices: Sequence[Device]) -> tuple[str, str]:
    """Device and dtype for a model: the first device it fits on, in float32 if possible; the roomiest if none does."""

    def required(device: Device, dtype: str) -> int:
        return required_bytes(entry, device, dtype)

    if fitting := first_fit(devices, DTYPE_BYTES, required):
        return fitting[0].name, fitting[1]
    roomiest = max(devices, key=lambda device: device.free_bytes)
    return roomiest.name, roomiest.half


def required_bytes(entry: ModelEntry, device: Device, dtype: str) -> int:
    """Least free memory with which C of a model can be taken, one layer a pass."""
    moment = moment_bytes(entry.mlp_width)
    batch = TOKENS_PER_BATCH * (BATCH_BYTES["mlp_width"] * entry.mlp_width + BATCH_BYTES["width"] * entry.width)
    held = entry.parameters * DTYPE_BYTES[dtype] * OVERHEAD + moment
    return ceil(max(held / (1 - RESERVE), held + COPIES[device.kind] * moment + batch))


def budget(device: Device, weights_bytes: int) -> int:
    """Bytes of a device for the sums of one group of layers.

    Args:
        device: as it is now.
        weights_bytes: of a model still to be loaded there; 0 once it is.
    """
    return max(0, int(device.free_bytes * (1 - RESERVE) - weights_bytes * OVERHEAD))


def moment_bytes(mlp_width: int) -> int:
    """Memory that the growing sum of one layer takes, (d_m, d_m) in float64."""
    return mlp_width * mlp_width * FLOAT64_BYTES


def grouped(layers: Sequence[int], mlp_width: int, budget: int) -> list[list[int]]:
    """Layers in rising order, in as few groups as the memory allows, of sizes as equal as can be; one pass a group.

    Args:
        layers: their numbers.
        mlp_width: d_m.
        budget: bytes there are for the sums of one group.

    Raises:
        MemoryError: not even one layer fits.
    """
    each, ordered = moment_bytes(mlp_width), sorted(layers)
    if not ordered:
        return []
    most = budget // each
    if most < 1:
        raise MemoryError(f"the second moment of one layer takes {each:,} bytes; {budget:,} are there")
    count = -(-len(ordered) // most)
    ends = [round(k * len(ordered) / count) for k in range(count + 1)]
    return [ordered[begin:end] for begin, end in pairwise(ends)]


def block_parameters(entry: ModelEntry) -> int:
    """Parameters that each token is multiplied with: those of the layers, a few too many where heads share keys."""
    matrices = 2 if entry.mlp_width == UNGATED * entry.width else 3
    a_layer = entry.width * (4 * entry.width + matrices * entry.mlp_width)  # queries, keys, values, output; the MLP
    return min(entry.parameters, entry.layers * a_layer)


def _seconds(entry: ModelEntry, tokens: int, whole_passes: float, layers: int, speed: Speed) -> float:
    """One multiplication and one addition for each parameter and token, and for each entry of k kᵀ; then the factors.

    What attention does between its products is in the measured speed: a few per cent at a document's length.
    """
    forward = 2 * block_parameters(entry) * tokens * whole_passes / speed.forward
    sums = product_operations(tokens, entry.mlp_width) / speed.product
    factors = factor_operations(entry.mlp_width) / (speed.factor or speed.product)
    return forward + layers * (sums + factors)


def _nearest(entry: ModelEntry, device: Device, dtype: str) -> str | None:
    """Of the catalogue's smaller models that are readable and fit, the largest of the family, or else the largest."""
    fitting = [
        other
        for other in catalog.entries()
        if other.safetensors
        and other.parameters < entry.parameters
        and required_bytes(other, device, dtype) <= device.free_bytes
    ]
    best = max(fitting, key=lambda other: (other.family == entry.family, other.parameters), default=None)
    return best.name if best else None


def _reason(entry: ModelEntry, device: Device, dtype: str, nearest: str | None) -> str:
    required, moment = required_bytes(entry, device, dtype), moment_bytes(entry.mlp_width)
    weights = entry.parameters * DTYPE_BYTES[dtype]
    shortage = (
        f"{entry.name} in {dtype} needs about {required:,} bytes ({gigabytes(required)}): {gigabytes(weights)} for its "
        f"weights, {gigabytes(moment)} for C of one layer, and room to work. {device.label} has "
        f"{device.free_bytes:,} bytes free ({gigabytes(device.free_bytes)})."
    )
    smaller = required_bytes(entry, device, device.half)
    if smaller < required and smaller <= device.free_bytes:
        return f"{shortage} In {device.half} it needs {gigabytes(smaller)} and fits."
    if nearest:
        return f"{shortage} The nearest model that fits here is {nearest}."
    return f"{shortage} No smaller model of the catalogue fits either: free some memory, or take another machine."
