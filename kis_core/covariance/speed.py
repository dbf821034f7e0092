"""How fast a device is at the work of an analysis: forward passes, the sum of k kᵀ, the factor of C."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache, partial
from statistics import median
from time import perf_counter

import numpy as np
import torch
from torch.nn import functional as f

from kis_core.covariance.moment import SecondMomentSum
from kis_core.covariance.whitener import Whitener
from kis_core.errors import refuse_if_read_only
from kis_core.machine import ALL, Speed, factor_operations, product_operations

PROBE_TOKENS = 512  # a common batch has more, and is hardly faster a token
PROBE_WIDTHS = {"cpu": 768, "mps": 1024, "cuda": 2048}  # milliseconds a round, yet large enough to be busy with
PROBE_FACTOR_WIDTH = 1024  # smaller ones fit a cache and are too fast; larger ones take longer than the probe
ONE_AT_A_TIME = threading.Lock()  # two probes at once would each find half a machine


def probe(device: str, dtype: str, seconds: float = 2.0) -> Speed:
    """The speed of a device, measured once a process; takes about `seconds`, or longer if the device has to wake up.

    Args:
        device: name of one of `devices()`. The GPUs of "all" work in turn, so the first one is measured.
        dtype: of the forward pass, one of `DTYPE_BYTES`.
        seconds: for the whole measurement.

    Raises:
        NotOffered: in read-only mode.
    """
    refuse_if_read_only("Measuring how fast this machine is")
    with ONE_AT_A_TIME:
        return _probed("cuda:0" if device == ALL else device, dtype, seconds)


@cache
def _probed(device: str, dtype: str, seconds: float) -> Speed:
    place = torch.device(device)
    wait = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(place.type, lambda: None)
    width, share = PROBE_WIDTHS[place.type], seconds / 3
    with torch.inference_mode():
        return Speed(
            _rate(*_forward(place, dtype, width), wait, share),
            _rate(*_product(place, 2 * width), wait, share),
            _rate(*_factor(PROBE_FACTOR_WIDTH), lambda: None, share),
        )


def _rate(work: Callable[[], object], operations: float, wait: Callable[[], object], seconds: float) -> float:
    """Operations a second: the median over repetitions, after one to warm up."""
    times: list[float] = []
    work()
    wait()
    end = perf_counter() + seconds
    while not times or perf_counter() < end:
        begin = perf_counter()
        work()
        wait()
        times.append(perf_counter() - begin)
    return operations / median(times)


def _forward(place: torch.device, dtype: str, width: int) -> tuple[Callable[[], object], float]:
    """A transformer layer; what it does between its products counts as time but not as operations."""
    placed = {"device": place, "dtype": getattr(torch, dtype)}
    hidden = torch.randn(1, PROBE_TOKENS, width, **placed)
    shapes = {"attention": (3, 1), "out": (1, 1), "up": (4, 1), "down": (1, 4)}  # in widths
    weights = {name: torch.randn(out * width, into * width, **placed) / width for name, (out, into) in shapes.items()}

    def layer() -> torch.Tensor:
        heads = f.linear(f.layer_norm(hidden, (width,)), weights["attention"]).view(1, PROBE_TOKENS, 3, -1, 64)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = f.scaled_dot_product_attention(query, key, value, is_causal=True)
        between = hidden + f.linear(mixed.transpose(1, 2).reshape(hidden.shape), weights["out"])
        inner = f.gelu(f.linear(f.layer_norm(between, (width,)), weights["up"]))
        return between + f.linear(inner, weights["down"])

    return layer, 2.0 * PROBE_TOKENS * sum(weight.numel() for weight in weights.values())


def _product(place: torch.device, width: int) -> tuple[Callable[[], object], float]:
    """The keys of a batch, added to the sum of k kᵀ."""
    keys, total = torch.randn(PROBE_TOKENS, width, device=place), SecondMomentSum()
    return partial(total.add, keys), product_operations(PROBE_TOKENS, width)


def _factor(width: int) -> tuple[Callable[[], object], float]:
    """The factor of C, its rank and its condition number."""
    keys = np.random.default_rng(0).standard_normal((width, 2 * width))
    return partial(Whitener.fit, keys @ keys.T), factor_operations(width)
