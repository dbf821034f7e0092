"""One layer's statistics file, written and read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kis_core.covariance.rome_files.archive import Archive, StatisticsError
from kis_core.files import atomic

SUM = "mom2.mom2"
COUNT = "mom2.count"
CONSTRUCTOR = "mom2.constructor"
SAMPLES = "sample_size"
PROVENANCE = "kis.provenance"
ROME_CLASS = "util.runningstats.SecondMoment()"
FILE_NAME = re.compile(r"(?P<module>.+)_float(16|32|64)_.*mom2.*\.npz")
MAX_NAME_BYTES = 255  # of one part of a path, on the usual file systems
MAX_PROVENANCE_BYTES = 1 << 22  # the usual ones have some thousands
SYMMETRY = 1e-2  # of √(C_ii C_jj): sums in TF32 differ from their mirror images by 1e-3
BLOCK = 512  # rows compared at once, so that no second matrix lies in memory


@dataclass(frozen=True, slots=True)
class Header:
    """The contents of a file beside the matrix.

    Attributes:
        width: d_m, the length of the keys.
        tokens: number of keys that were averaged.
        samples: number of documents they are from; None where the file has none, or means all of a dataset.
        module: path of the layer's down-projection in the model; None where neither the file's name nor its
            provenance has it.
        provenance: origin of a file that this program wrote; else empty.
    """

    width: int
    tokens: int
    samples: int | None
    module: str | None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def layer(self) -> int | None:
        """Number of the layer, counting from 0."""
        return layer_of(self.module)


@dataclass(frozen=True, slots=True, eq=False)
class Statistic(Header):
    """C of one layer, with the header of its file.

    Attributes:
        matrix: mean of k kᵀ over tokens, float64, (d_m, d_m), symmetric.
    """

    matrix: np.ndarray = field(kw_only=True)


def path_for(folder: Path, model: str, dataset: str, module: str, samples: int) -> Path:
    """Where ROME and MEMIT look for the statistics of a layer, below their `STATS_DIR`.

    EasyEdit drops the owner from the model's name: give it `gpt-j-6B`, not `EleutherAI/gpt-j-6B`.

    Raises:
        StatisticsError: a name that no file within the folder can have.
    """
    parts = (model.replace("/", "_"), f"{dataset}_stats", f"{module}_float32_mom2_{samples}.npz")
    for part in parts:
        if part in {"", ".", ".."} or re.search(r"[/\\:\x00-\x1f]", part) or len(part.encode()) > MAX_NAME_BYTES:
            raise StatisticsError(f"{part[:80]!r} is no name for a file. Rename the model, dataset or module.")
    return folder.joinpath(*parts)


def module_in(path: Path) -> str | None:
    """Path of the module in a file's name, or None where the file is not named as ROME names it."""
    match = FILE_NAME.fullmatch(path.name)
    return match["module"] if match else None


def layer_of(module: str | None) -> int | None:
    """Number of the layer in a module's path: 17 of `transformer.h.17.mlp.c_proj`."""
    numbers = [part for part in (module or "").split(".") if re.fullmatch("[0-9]{1,4}", part)]
    return int(numbers[0]) if numbers else None


def write(
    path: Path, matrix: np.ndarray, tokens: int, samples: int, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write C of a layer as ROME does; the file is there whole or not at all.

    Args:
        path: where, see `path_for`; missing folders are made.
        matrix: C, the mean, (d_m, d_m).
        tokens: number of keys that were averaged.
        samples: number of documents they are from; ROME takes only a file of the number that it is set to.
        provenance: JSON for `kis.provenance`. Its `weights_sha256` and `module` are checked when the file is read.

    Raises:
        StatisticsError: the sum is beyond float32, or the disk does not take it.
    """
    with np.errstate(over="ignore"):  # reported below
        total = (matrix * float(tokens)).astype(np.float32)
    if not np.isfinite(total).all():
        raise StatisticsError(f"C times {tokens:,} tokens is not finite in float32, which ROME’s files hold")
    arrays = {CONSTRUCTOR: np.array(ROME_CLASS), COUNT: np.array(tokens), SUM: total, SAMPLES: np.array(samples)}
    if provenance is not None:
        arrays[PROVENANCE] = np.array(json.dumps(provenance, sort_keys=True))
    try:
        with atomic.replaced(path, make_folder=True) as stream:
            np.savez(stream, allow_pickle=False, **arrays)
    except atomic.NotWritten as error:
        raise StatisticsError(str(error)) from error


def header(path: Path) -> Header:
    """The header of a file; of the matrix, only the declared shape is read.

    Raises:
        StatisticsError: not a statistics file, or one that is damaged or made to harm.
    """
    with Archive(path) as archive:
        return _header(archive)


def read(path: Path) -> Statistic:
    """C of a layer.

    Raises:
        StatisticsError: as of `header`; or the matrix is no second moment: not finite, not symmetric, or negative on
            its diagonal.
    """
    with Archive(path) as archive:
        head = _header(archive)
        matrix = archive.array(SUM).astype(np.float64, order="C")
        if fault := _symmetrise(matrix):
            raise archive.fault(f"{SUM} is no second moment: {fault}")
    matrix /= head.tokens
    return Statistic(head.width, head.tokens, head.samples, head.module, head.provenance, matrix=matrix)


def _header(archive: Archive) -> Header:
    missing = [name for name in (SUM, COUNT) if name not in archive.names]
    if missing:
        names = ", ".join(sorted(archive.names))[:200] or "none"
        raise archive.fault(f"no array {' and no '.join(missing)}; found: {names}. Files of ROME’s hold both")
    shape, dtype = archive.declared(SUM)
    if dtype.kind != "f" or len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
        raise archive.fault(f"{SUM} is {dtype} of shape {shape}; a square matrix of floats was expected")
    tokens = _number(archive, COUNT)
    if tokens is None or tokens < 1:
        raise archive.fault(f"{COUNT} is {tokens}; the number of tokens was expected")
    samples = _number(archive, SAMPLES) if SAMPLES in archive.names else None
    provenance = _provenance(archive) if PROVENANCE in archive.names else {}
    recorded = provenance.get("module")
    module = module_in(archive.path) or (recorded if isinstance(recorded, str) else None)
    return Header(shape[0], tokens, samples, module, provenance)


def _number(archive: Archive, name: str) -> int | None:
    """A whole number; None where there is a NaN, as ROME writes for "all of them"."""
    shape, dtype = archive.declared(name)
    value = float("inf") if shape or dtype.kind not in "iuf" else archive.array(name).item()
    if value != value:
        return None
    if value in (float("inf"), float("-inf")) or value != int(value):
        raise archive.fault(f"{name} is {dtype} of shape {shape}; a whole number was expected")
    return int(value)


def _provenance(archive: Archive) -> dict[str, Any]:
    shape, dtype = archive.declared(PROVENANCE)
    if shape or dtype.kind != "U" or dtype.itemsize > MAX_PROVENANCE_BYTES:
        raise archive.fault(f"{PROVENANCE} is {dtype} of shape {shape}; a JSON text was expected")
    try:
        provenance = json.loads(archive.array(PROVENANCE).item())
    except (ValueError, RecursionError) as error:
        raise archive.fault(f"{PROVENANCE} is damaged ({error})") from error
    if not isinstance(provenance, dict):
        raise archive.fault(f"{PROVENANCE} is {type(provenance).__name__}; a JSON object was expected")
    return provenance


def _symmetrise(matrix: np.ndarray) -> str:
    """Make a sum symmetric, as it is but for rounding; the reason where it is no second moment, else empty."""
    if not all(np.isfinite(rows).all() for rows in matrix):
        return "it holds a NaN or an infinity"
    diagonal = matrix.diagonal().copy()
    if diagonal.min() < 0:
        k = int(diagonal.argmin())
        return f"entry ({k}, {k}), a sum of squares, is {diagonal[k]:.3g}"
    norms, least = np.sqrt(diagonal), np.finfo(np.float32).eps * diagonal.max()
    for begin in range(0, len(matrix), BLOCK):
        rows, mirrored = matrix[begin : begin + BLOCK, begin:], matrix[begin:, begin : begin + BLOCK].T
        rounding = SYMMETRY * np.outer(norms[begin : begin + BLOCK], norms[begin:]) + least
        if (apart := np.abs(rows - mirrored) > rounding).any():
            i, j = (int(k) + begin for k in np.argwhere(apart)[0])
            return f"entry ({i}, {j}) is {matrix[i, j]:.3g}, and ({j}, {i}) is {matrix[j, i]:.3g}"
        rows[:] = mirrored[:] = (rows + mirrored) / 2
    return ""
