"""Which order and which layer would hurt least, forecast from keys and C alone; and whether it held.

All forecasts take every δ for equally large.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kis_core import progress
from kis_core.lifelong.queue import draw_queue, interference
from kis_core.lifelong.request import ORDERS, Draw
from kis_core.lifelong.summary import half_life, recall, retention
from kis_core.lifelong.trace import EditTrace

if TYPE_CHECKING:
    from kis_core.simulator import Simulator

STAGE = "Forecasting orders and layers"


def outlook(simulator: Simulator, draw: Draw, edits: int, report: progress.Report = progress.silent) -> pd.DataFrame:
    """The forecast interference of a queue in every layer that can be edited, in every order.

    Args:
        simulator: model, facts and C.
        draw: which edits; its order does not matter.
        edits: how many.
        report: called after every layer.

    Returns:
        columns `layer`, `order` (of `ORDERS`), `on_others` (√ mean P[e, j]² over edits e and unrelated facts j: what an
        edit does to unrelated facts, whatever the order) and `among` (√ mean P[j, i]² over pairs, i edited before j:
        what later edits do to earlier ones).
    """
    from kis_core.keys import fact_keys, tokenize_prompts

    rows = []
    layers = simulator.result.editable_layers
    for done, layer in enumerate(layers):
        report(STAGE, done, len(layers))
        for order in ORDERS:
            ordered = draw_queue(simulator, replace(draw, order=order), edits, layer, report)
            facts = [edit.fact for edit in ordered.edits]
            prompts = tokenize_prompts(simulator.model.tokenizer, facts, context=simulator.model.context)
            whitened = simulator.whitener(layer).whiten(fact_keys(simulator.model, prompts)[layer])
            leak = ordered.leak[simulator.result.at(layer)]
            rows.append((layer, order, float(np.sqrt(np.nanmean(leak**2))), interference(whitened)))
    report(STAGE, len(layers), len(layers))
    return pd.DataFrame(rows, columns=["layer", "order", "on_others", "among"])


def least(frame: pd.DataFrame) -> tuple[int, str]:
    """The layer that touches unrelated facts least, and the order in which edits touch each other least there.

    Raises:
        ValueError: no layer can be edited.
    """
    if frame.empty:
        raise ValueError("no layer can be edited")
    layer = int(frame.sort_values("on_others", kind="stable")["layer"].iloc[0])
    there = frame[frame["layer"] == layer].sort_values("among", kind="stable")
    return layer, str(there["order"].iloc[0])


def best_order_held(table: pd.DataFrame, layer: int) -> bool | None:
    """Whether the order with the least forecast interference kept the most edits at a layer; None with less than two.

    Args:
        table: as `held` gives it.
        layer: to look at.
    """
    tried = table[(table["layer"] == layer) & table["retention"].notna()]
    if len(tried) < 2:
        return None
    return bool(tried.sort_values("among", kind="stable")["retention"].iloc[0] >= tried["retention"].max())


def held(frame: pd.DataFrame, traces: dict[tuple[int, str], EditTrace]) -> pd.DataFrame:
    """The same with what was measured, where it was.

    Args:
        frame: as `outlook` gives it.
        traces: runs of the queue by layer and order.

    Returns:
        also `edits` (made), `recall`, `retention` (at the end) and `half_life` (NaN where it was not reached).
    """
    measured: list[tuple[float, ...]] = []
    for layer, order in zip(frame["layer"], frame["order"], strict=True):
        trace = traces.get((int(layer), str(order)))
        if trace is None or not trace.edits:
            measured.append((np.nan,) * 4)
            continue
        half = half_life(trace)
        ends = (trace.edits, recall(trace)[-1], retention(trace)[-1])
        measured.append((*map(float, ends), half.edits if half.reached else np.nan))
    names = ["edits", "recall", "retention", "half_life"]
    return pd.concat([frame.reset_index(drop=True), pd.DataFrame(measured, columns=names, dtype=float)], axis=1)
