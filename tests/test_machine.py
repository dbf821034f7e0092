"""What a machine has: devices told by a torch of the tests' own, free memory, and speeds by a clock that is set."""

from __future__ import annotations

import math
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kis_core import machine
from kis_core.covariance import speed
from kis_core.covariance.speed import probe
from kis_core.machine import DTYPE_BYTES, Device, Speed, available_bytes, devices, first_fit
from kis_core.request import DTYPES
from tests import tiny

GIGA = 10**9


def cuda(monkeypatch: pytest.MonkeyPatch, *gpus: tuple[int, int, tuple[int, int]]) -> None:
    """Let torch tell of GPUs with (free bytes, total bytes, capability)."""
    told = {
        "device_count": lambda: len(gpus),
        "mem_get_info": lambda index: gpus[index][:2],
        "get_device_capability": lambda index: gpus[index][2],
        "get_device_name": lambda index: f"GPU number {index}",
        "memory_reserved": lambda index: 5 * (index + 1),
        "memory_allocated": lambda index: 3 * (index + 1),
    }
    for name, answer in told.items():
        monkeypatch.setattr(torch.cuda, name, answer)


class TestDevices:
    def test_the_processor_is_always_there_and_last(self) -> None:
        cpu = devices(lambda: 12345)[-1]
        assert (cpu.name, cpu.kind, cpu.free_bytes, cpu.dtypes) == ("cpu", "cpu", 12345, ("float32", "bfloat16"))
        assert cpu.total_bytes > GIGA
        assert cpu.label.strip()
        assert machine.cores() >= 1

    def test_the_emptiest_gpu_comes_first_and_all_together_after_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cuda(monkeypatch, (10, 40, (7, 5)), (30, 40, (9, 0)))
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        actual = devices(lambda: 7)
        assert actual[:-1] == (  # torch keeps 2 and 4 bytes that may be used again
            Device("cuda:1", "GPU number 1", "cuda", 40, 34, "bfloat16"),
            Device("cuda:0", "GPU number 0", "cuda", 40, 12, "float16"),
            Device("all", "2 GPUs", "cuda", 80, 46, "float16"),
        )
        assert actual[-1].name == "cpu"
        cuda(monkeypatch, (10, 40, (8, 0)))
        assert [device.name for device in devices() if device.kind == "cuda"] == ["cuda:0"], "one has no together"

    def test_mps_shares_the_processors_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 100)
        monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 40)
        for free, newer, expected in ((1000, True, (60, "bfloat16")), (50, False, (50, "float16"))):
            monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *_, newer=newer: newer)
            mps = devices(lambda free=free: free)[-2]
            assert (mps.name, mps.kind, mps.total_bytes) == ("mps", "mps", 100)
            assert (mps.free_bytes, mps.half) == expected

    def test_importing_the_module_does_not_import_torch(self) -> None:
        code = "import sys, kis_core.machine, kis_core.analysis.requirements; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestMemory:
    def test_the_limit_of_the_process_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert available_bytes() > 100_000
        monkeypatch.setattr(resource, "getrlimit", lambda _: (100_000, resource.RLIM_INFINITY))
        assert available_bytes() == 100_000

    def test_that_of_a_container_does_where_it_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "memory.current").write_text("400\n")
        for limit, stat, left in (
            ("1000", "anon 5\ninactive_file 50\n", 650),
            ("300", "inactive_file 50\n", 0),
            ("max", "inactive_file 50\n", 7777),
            ("1000", "anon 5\n", 7777),
        ):
            (tmp_path / "memory.max").write_text(f"{limit}\n")
            (tmp_path / "memory.stat").write_text(stat)
            assert machine._left_to_container(7777, tmp_path) == left
        (tmp_path / "memory.stat").unlink()
        assert machine._left_to_container(7777, tmp_path) == 7777

    @pytest.mark.parametrize(
        ("own", "place"), [("0::/slurm/job_7", "slurm"), ("9:cpu,memory:/slurm/job_7", "memory/slurm")]
    )
    @pytest.mark.parametrize("around", ["", "job_7"])
    def test_that_of_a_job_does_and_of_what_is_around_it(
        self, tmp_path: Path, own: str, place: str, around: str
    ) -> None:
        names = ("memory.max", "memory.current", "inactive_file")
        if place.startswith("memory"):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        folder = tmp_path / place / around
        folder.mkdir(parents=True)
        for name, text in zip((*names[:2], "memory.stat"), ("1000", "400", f"{names[2]} 50"), strict=True):
            (folder / name).write_text(text)
        (tmp_path / "own").write_text(f"3:pids:/elsewhere\n{own}\n")
        assert machine._left_to_container(7777, tmp_path, tmp_path / "own") == 650


class TestFirstFit:
    old = Device("cuda:0", "", "cuda", 100, 100, "float16")
    cpu = Device("cpu", "", "cpu", 300, 300)

    def fit(self, numbers: int, *dtypes: str) -> tuple[str, str] | None:
        actual = first_fit((self.old, self.cpu), dtypes or DTYPES, lambda _, dtype: numbers * DTYPE_BYTES[dtype])
        return actual and (actual[0].name, actual[1])

    def test_the_first_device_then_the_first_dtype_it_computes_in(self) -> None:
        assert self.fit(25) == ("cuda:0", "float32")
        assert self.fit(26) == ("cuda:0", "float16")  # it knows no bfloat16
        assert self.fit(51) == ("cpu", "float32")
        assert self.fit(76) == ("cpu", "bfloat16")
        assert self.fit(151) is None
        assert self.fit(26, "bfloat16") == ("cpu", "bfloat16")
        actual = first_fit((self.old, self.cpu), DTYPES, lambda device, _: 200 if device.kind == "cuda" else 300)
        assert actual == (self.cpu, "float32"), "what is needed may depend on the device"
        assert {name: getattr(torch, name).itemsize for name in DTYPES} == DTYPE_BYTES


class TestProbe:
    @pytest.mark.parametrize("dtype", tiny.in_full(["float32", "bfloat16"], ("float32",)))
    def test_gives_positive_finite_speeds_and_keeps_them(self, dtype: str) -> None:
        actual = probe("cpu", dtype, seconds=0.05)
        speeds = (actual.forward, actual.product, actual.factor or 0)
        assert all(math.isfinite(speed) and speed > 1e6 for speed in speeds)
        assert probe("cpu", dtype, seconds=0.05) is actual

    def test_one_of_the_gpus_stands_for_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []
        monkeypatch.setattr(speed, "_probed", lambda device, *_: asked.append(device) or Speed(1, 1))
        probe("all", "float32")
        probe("cuda:1", "float32")
        assert asked == ["cuda:0", "cuda:1"]

    def test_operations_by_hand(self) -> None:
        blocks = sum(2 * 10 * (64 - begin) * 16 for begin in (0, 16, 32, 48))  # the lower triangle in four of them
        assert machine.product_operations(10, 64) == blocks
        assert machine.factor_operations(3) == 45  # 9 for the factor, 36 for the eigenvalues
        assert machine.factor_operations(6000) == 72e9  # the factor alone
