"""Which order and which layer would hurt least, forecast from keys and C alone; and whether it held.

All forecasts take every δ for equally large.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kis_core import progress
from kis_core.lifelong.queue import interference, queue
from kis_core.lifelong.request import ORDERS, Draw
from kis_core.lifelong.summary import half_life, recall, retention
from kis_core.lifelong.trace import EditTrace

if TYPE_CHECKING:
    from kis_core.simulator import Simulator

STAGE = "Forecasting orders and layers"


def outlook(bench: Simulator, draw: Draw, edits: int, report: progress.Report = progress.silent) -> pd.DataFrame:
    """The forecast interference of a queue in every layer that can be edited, in every order.

    Args:
        bench: model, facts and C.
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
    layers = bench.result.editable_layers
    for done, layer in enumerate(layers):
        report(STAGE, done, len(layers))
        for order in ORDERS:
            found = queue(bench, replace(draw, order=order), edits, layer, report)
            facts = [one.fact for one in found.asked]
            prompts = tokenize_prompts(bench.model.tokenizer, facts, context=bench.model.context)
            whitened = bench.whitener(layer).whiten(fact_keys(bench.model, prompts)[layer])
            leak = found.leak[bench.result.at(layer)]
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


def held(frame: pd.DataFrame, films: dict[tuple[int, str], EditTrace]) -> pd.DataFrame:
    """The same with what was measured, where it was.

    Args:
        frame: as `outlook` gives it.
        films: runs of the queue by layer and order.

    Returns:
        also `edits` (made), `recall`, `retention` (at the end) and `half_life` (NaN where it was not reached).
    """
    measured: list[tuple[float, ...]] = []
    for layer, order in zip(frame["layer"], frame["order"], strict=True):
        film = films.get((int(layer), str(order)))
        if film is None or not film.edits:
            measured.append((np.nan,) * 4)
            continue
        half = half_life(film)
        ends = (film.edits, recall(film)[-1], retention(film)[-1])
        measured.append((*map(float, ends), half.edits if half.reached else np.nan))
    names = ["edits", "recall", "retention", "half_life"]
    return pd.concat([frame.reset_index(drop=True), pd.DataFrame(measured, columns=names, dtype=float)], axis=1)
