"""Frames of an edit, and its charts as the browser gets them."""

from __future__ import annotations

from functools import cache
from typing import Any

import altair as alt
import pandas as pd

from kis_core import charts
from tests.charts.chart_tools import NAN, specification

ROUNDING = 1e-9  # a few float64 operations
SPAN = (-3.0, 2.0)


def frame(
    forecast: list[float],
    *,
    measured: list[float] | None = None,
    flips: dict[int, str] | None = None,
    kinds: tuple[str, str] = ("loses", "gains"),
    subjects: list[str] | None = None,
) -> pd.DataFrame:
    """What `simulator.spill_frame` gives: facts 10, 11, … by rising forecast; `flips` by rank."""
    count, flips = len(forecast), flips or {}
    answers = [flips.get(rank, "") for rank in range(count)]
    ends = forecast if measured is None else measured
    return pd.DataFrame(
        {
            "rank": range(count),
            "fact": [10 + rank for rank in range(count)],
            "subject": subjects or [f"subject {rank}" for rank in range(count)],
            "told": [f"subject {rank} → land {rank}" for rank in range(count)],
            "p": [0.125 * rank for rank in range(count)],
            "forecast": forecast,
            "measured": [NAN] * count if measured is None else measured,
            "kind": [kinds[0] if value < 0 else kinds[1] for value in forecast],
            "flips": answers,
            "flips_foretold": answers,
            "answers": [
                f"land {rank} → {flip}" if flip else f"land {rank}, stays" for rank, flip in enumerate(answers)
            ],
            "outcome": ["flips" if flip else "stays" for flip in answers],
            "end": ends,
        }
    ).astype({"forecast": float, "measured": float, "end": float, "rank": int, "fact": int, "p": float})


BEFORE = frame([-2.0, -1.0, -0.5, 0.0, 0.25, 1.0], flips={1: "French"})
AFTER = frame([-2.0, -1.0, -0.5, 0.0, 0.25, 1.0], measured=[-2.5, -0.25, -0.75, 0.5, NAN, 1.5], flips={0: "sea"})


def spillover(facts: pd.DataFrame = BEFORE, **options: Any) -> alt.LayerChart:
    return charts.spillover(facts, **({"quantity": "change of log-odds", "span": SPAN} | options))


@cache
def before() -> dict[str, Any]:
    """The chart of `BEFORE`, as it is sent."""
    return specification(spillover(BEFORE))


@cache
def after() -> dict[str, Any]:
    return specification(spillover(AFTER))


def domains(spec: dict[str, Any], channel: str) -> list[list[float]]:
    scales = [layer["encoding"].get(channel, {}).get("scale", {}) for layer in spec["layer"]]
    return [scale["domain"] for scale in scales if "domain" in scale]


def against(facts: pd.DataFrame = AFTER, **options: Any) -> dict[str, Any]:
    return specification(charts.against(facts, **({"quantity": "shift"} | options)))
