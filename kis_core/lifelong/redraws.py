"""A planned run gone through several times under stand-in edits, each time with other pilots and other δ's."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from kis_core import progress
from kis_core.lifelong.pilots import Pilots, Population
from kis_core.lifelong.stand_ins import Draw, Plan, StandIns

STAGE = "Making stand-in edits"
SPENT = 0.25  # recall at which a forecast ends: half is long forgotten then
REDRAWS = 8
CURVES = ("recall", "log_odds", "perplexity", "delta_norm", "carried")
BY_FACT = ("fact_change", "fact_spread")
"""What is forecast of each unrelated fact; forecasts stored by early versions lack it."""


def redraws(
    plan: Plan,
    pilots: Pilots,
    *,
    grows: bool = True,
    isotropic: bool = False,
    report: progress.Report = progress.silent,
) -> tuple[np.ndarray, dict[str, Any]]:
    """A run several times, side by side, each with other pilots and other δ's.

    Args:
        plan: the run.
        pilots: searched for in it.
        grows: see `Population.of`.
        isotropic: every edit has a key of random direction, see `StandIns`.
        report: called before every step of every redraw.

    Returns:
        the steps, (s,), and by name the curves of `Budget`, (r, s), and what it has of each fact, (s, m).
    """
    edits, every, seed = plan.request.edits, plan.request.every, plan.request.draw.seed
    going: list[tuple[StandIns, Draw]] = []
    for number in range(REDRAWS):
        rng = np.random.default_rng([seed, 1 + number])
        population = Population.of(pilots.redrawn(rng), grows=grows)
        going.append((StandIns(plan, rng if isotropic else None), partial(population.draw, rng=rng)))
    steps: list[int] = []
    rows: dict[str, list[list[float]]] = {name: [] for name in CURVES}
    facts: list[list[np.ndarray]] = []
    for step in sorted({*range(0, edits, every), edits}):
        now: list[tuple[float, ...]] = []
        facts.append([])
        for number, (stand_ins, draw) in enumerate(going):
            report(STAGE, step * REDRAWS + number * every, (edits + every) * REDRAWS)
            before = len(stand_ins.sizes)
            stand_ins.make(step, draw)
            health, sizes = stand_ins.health(), stand_ins.sizes[before:]
            size = float(np.mean(sizes)) if sizes else float("nan")
            now.append((health.recall, health.log_odds, health.perplexity, size, stand_ins.carried))
            facts[-1].append(health.by_fact)
        steps.append(step)
        for name, values in zip(CURVES, zip(*now, strict=True), strict=True):
            rows[name].append(list(values))
        if max(rows["recall"][-1]) <= SPENT:
            break
    report(STAGE, 1, 1)
    changes = np.ma.masked_invalid(np.array(facts) - facts[0][0])
    by_fact = zip(BY_FACT, (changes.mean(axis=1), changes.std(axis=1, ddof=1)), strict=True)
    curves = {name: np.array(values).T for name, values in rows.items()}
    return np.array(steps), curves | {name: values.filled(np.nan) for name, values in by_fact}
