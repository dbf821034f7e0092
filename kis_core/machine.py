"""What this machine computes on: its devices, their memory, and how fast they are."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath

import psutil

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}  # of what a model may run in, the most precise first
ALL = "all"

GROUP_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Where control groups have limit and use of memory, and the field of `memory.stat` that tells of cached files; those
of version 1 have a folder of their own."""

TRIANGLE = 5 / 8  # of a full product's work, in the column blocks of the sum of k kᵀ
ALL_EIGENVALUES = 4096  # widest C of which the whitening takes every eigenvalue; beyond, two of them at hardly any cost


@dataclass(frozen=True, slots=True)
class Device:
    """A place to run a model.

    Attributes:
        name: as `loading.load` takes it: "cuda:0", "all" (every GPU together), "mps" or "cpu".
        label: what people call it.
        kind: "cuda", "mps" or "cpu".
        total_bytes: of memory.
        free_bytes: of them, those that may be taken now.
        half: the half precision it computes in.
    """

    name: str
    label: str
    kind: str
    total_bytes: int
    free_bytes: int
    half: str = "bfloat16"

    @property
    def dtypes(self) -> tuple[str, str]:
        """What a model may run in here, the most precise first."""
        return "float32", self.half


@dataclass(frozen=True, slots=True)
class Speed:
    """What a device reaches, in floating-point operations a second.

    Attributes:
        forward: in a transformer layer's forward pass.
        product: in the products that add up k kᵀ.
        factor: of the processor, in the float64 eigenvalues and Cholesky factor of C; None where it was not measured.
    """

    forward: float
    product: float
    factor: float | None = None


def gigabytes(count: float) -> str:
    """Bytes as people read them: three digits, in units of 10⁹."""
    return f"{count / 1e9:.3g} GB" if count < 999.5e9 else f"{count / 1e9:,.0f} GB"


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_bytes() -> int:
    """Memory this process may still take: free memory of the machine, or less where process or container is limited."""
    import resource

    free: int = psutil.virtual_memory().available
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        free = min(free, limit)
    return min(free, _left_to_container(free))


def _left_to_container(
    otherwise: int, root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int:
    """What the control groups of this process, and those around them, may still take; psutil tells of all the machine.

    Containers and job schedulers set such limits, of version 2 or still of version 1.
    """
    paths = dict.fromkeys(GROUP_FILES, "/")
    with suppress(OSError, ValueError):
        for line in own.read_text().splitlines():  # such as 0::/slurm/job_7 and 9:memory:/slurm/job_7
            _, controllers, path = line.split(":", 2)
            if "memory" in (controllers or "memory").split(","):
                paths["memory" if controllers else ""] = path
    groups = {base: PurePosixPath(path).relative_to("/") for base, path in paths.items() if path.startswith("/")}
    lefts = [
        _left_to_group(root / base / folder, *GROUP_FILES[base])
        for base, group in groups.items()
        for folder in (group, *group.parents)
    ]
    return min((left for left in lefts if left is not None), default=otherwise)


def _left_to_group(folder: Path, most: str, taken: str, cached: str) -> int | None:
    """What a control group may still take; None where it has no limit."""
    try:
        limit = int((folder / most).read_text())  # "max" without a limit
        used = int((folder / taken).read_text())
        fields = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(fields[cached]))  # cached files give way
    except (OSError, ValueError, KeyError):
        return None


def devices(memory: Callable[[], int] = available_bytes) -> tuple[Device, ...]:
    """The devices of this machine, the one to try first in front: GPUs, all of them together, MPS, the processor.

    Args:
        memory: tells the bytes that may be taken of the processor's memory.
    """
    import torch

    gpus = [_gpu(index) for index in range(torch.cuda.device_count())]
    gpus.sort(key=lambda gpu: -gpu.free_bytes)  # others may be at work on one
    free = memory()
    cpu = Device("cpu", _processor(), "cpu", psutil.virtual_memory().total, free)
    mps = [_mps(free)] if torch.backends.mps.is_available() else []
    return (*gpus, *_together(gpus), *mps, cpu)


def first_fit(
    candidates: Iterable[Device], dtypes: Iterable[str], needed: Callable[[Device, str], int]
) -> tuple[Device, str] | None:
    """The first device with memory for a model, and the first of the dtypes it computes in that fits there.

    Args:
        candidates: in order of preference.
        dtypes: likewise.
        needed: bytes it takes on that device in that dtype.
    """
    wanted = tuple(dtypes)
    return next(
        (
            (device, dtype)
            for device in candidates
            for dtype in wanted
            if dtype in device.dtypes and needed(device, dtype) <= device.free_bytes
        ),
        None,
    )


def _gpu(index: int) -> Device:
    import torch

    free, total = torch.cuda.mem_get_info(index)
    free += torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index)  # torch's own, to be used again
    newer = torch.cuda.get_device_capability(index) >= (8, 0)  # Ampere, the first with bfloat16 units
    name = torch.cuda.get_device_name(index)
    return Device(f"cuda:{index}", name, "cuda", total, free, "bfloat16" if newer else "float16")


def _together(gpus: list[Device]) -> list[Device]:
    if len(gpus) < 2:
        return []
    total, free = sum(gpu.total_bytes for gpu in gpus), sum(gpu.free_bytes for gpu in gpus)
    half = "bfloat16" if all(gpu.half == "bfloat16" for gpu in gpus) else "float16"
    return [replace(gpus[0], name=ALL, label=f"{len(gpus)} GPUs", total_bytes=total, free_bytes=free, half=half)]


def _mps(free: int) -> Device:
    import torch

    total = torch.mps.recommended_max_memory()
    own = total - torch.mps.driver_allocated_memory()
    half = "bfloat16" if torch.backends.mps.is_macos_or_newer(14, 0) else "float16"
    return Device("mps", f"{_processor()} GPU", "mps", total, min(free, own), half)  # one memory serves both


@cache
def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine() or "processor"


def product_operations(tokens: int, width: int) -> float:
    """Of the sum of k kᵀ over tokens, whose lower triangle alone is formed."""
    return 2 * TRIANGLE * tokens * float(width) ** 2


def factor_operations(width: int) -> float:
    """Of the Cholesky factor of C, n³/3, and up to some width its eigenvalues, 4/3 n³ (Golub & Van Loan, 4.2, 8.3)."""
    return (5 / 3 if width <= ALL_EIGENVALUES else 1 / 3) * float(width) ** 3
