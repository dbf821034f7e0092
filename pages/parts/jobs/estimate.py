"""How long it takes here to compute P, or to make edits: said before it is begun."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from kis_core import machine
from kis_core.analysis.requirements import choose, requirements_of, tokens_read
from kis_core.lifelong import LifelongRequest, cost
from kis_core.machine import Speed
from kis_core.request import Request
from kis_core.results.result import Result
from pages.parts.frame import state
from pages.parts.frame.text import duration

SHORT = 60  # seconds below which an estimate is not worth a number
SLOW = 1e10  # operations a second that any machine of today reaches: what takes it no minute is not worth a trial


def estimate(requests: Sequence[Request]) -> str:
    """About how long C and P of these requests take, one after the other, as a sentence."""
    return f"Estimated for this machine: {time_of(_seconds(requests))}, without loading. You can cancel at any time."


def time_of(seconds: float | None) -> str:
    """An estimated time as people say it; None where it is not known."""
    if seconds is None:
        return "an unknown time"
    return duration(seconds) if seconds >= SHORT else "under a minute"  # small models keep no machine busy


def estimate_runs(asked: Sequence[tuple[Result, LifelongRequest]]) -> str | None:
    """About how long runs of edits take, one after the other, as a sentence; None where it is short or not known."""
    total = 0.0
    for result, run in asked:
        if (entry := state.models().get(result.request.model)) is None:
            return None
        operations = cost.operations(result, entry, run)
        if operations > SHORT * SLOW:
            device, dtype = choose(entry, tuple(machine.devices()))
            total += operations / speed_of(device, dtype).forward
    if total < SHORT:
        return None
    return f"Estimated for this machine: {time_of(total)}, roughly. You can cancel at any time; what was made is kept."


@st.cache_data(show_spinner="Measuring for two seconds how fast this machine is", ttl=3600)
def speed_of(device: str, dtype: str) -> Speed:
    """How fast a device is, from a trial of two seconds."""
    from kis_core.covariance.speed import probe

    return probe(device, dtype)


def _seconds(requests: Sequence[Request]) -> float | None:
    """Seconds for all of them; None where one does not fit on this machine, or too little is known of its model."""
    devices = {device.name: device for device in machine.devices()}
    total = 0.0
    for request in requests:
        if (entry := state.models().get(request.model)) is None:
            return None
        device = devices[choose(entry, tuple(devices.values()))[0]]
        required = requirements_of(
            entry,
            tokens_read(entry, request.tokens, request.documents),
            device=device,
            dtype=request.dtype,
            layers=request.layers,
            speed=speed_of(device.name, request.dtype),
        )
        if required.seconds is None:
            return None
        total += required.seconds
    return total
