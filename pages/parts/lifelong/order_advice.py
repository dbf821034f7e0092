"""Which order and layer would hurt least, forecast from keys alone; and whether it held."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pandas as pd
import streamlit as st

from kis_core import lifelong
from kis_core.lifelong import ORDERS
from kis_core.lifelong import order_advice as forecasts
from kis_core.results.result import Result
from kis_core.store.store import key_of
from kis_core.wording import MISSING, number
from pages.parts.edit import simulator as benches
from pages.parts.figures.figure import FigureText, say
from pages.parts.figures.grid import grid
from pages.parts.frame import state
from pages.parts.frame.page import View
from pages.parts.lifelong import runs
from pages.parts.lifelong.choice import RunPlan
from pages.parts.lifelong.python_lines import python_lines
from pages.parts.lifelong.runs import Run

HELP = (
    "**On unrelated facts**: √ mean P[e, j]² over the edits e and the facts j looked at; the order does not change it. "
    "**Among edits**: √ mean P[j, i]² over pairs with i edited before j (eq. 15). P[j, i] is the smaller the larger "
    "kⱼᵀC⁻¹kⱼ, so making edits by rising kᵀC⁻¹k is the best any order can do. Both take every δ for equally large: how "
    "large it has to be in a layer is known only after the search."
)


def choosing(view: View, result: Result, planned: RunPlan) -> None:
    """The forecasts by layer and order, with what was measured where it was."""
    run = planned.main
    bench, draw, edits = run.bench, replace(run.asked.draw, order="drawn"), run.asked.edits
    key = key_of("outlook", {"draw": repr(draw), "edits": edits, "run": run.key})
    frame = benches.table(
        bench, key, lambda report: forecasts.outlook(bench, draw, edits, report), forecasts.STAGE
    )  # fmt: skip
    if frame is None:
        return
    if frame.empty:
        st.info("No layer of this model can be edited.", icon=":material/block:")
        return
    kinds = {(int(layer), str(order)): _variant(run, int(layer), str(order)) for layer, order in _pairs(frame)}
    films = {at: film for at, other in kinds.items() if (film := runs.film(other)) is not None}
    layer, order = forecasts.least(frame)
    table = forecasts.held(frame, films)
    st.markdown(
        f"**Least interference is forecast for layer {layer}, {ORDERS[order]}.** {_verdict(table, run.asked.layers[0])}"
    )
    _buttons(planned, kinds, films, layer, order)
    _table(view, result, run, table)


def _pairs(frame: pd.DataFrame) -> list[tuple[int, str]]:
    return list(zip(frame["layer"], frame["order"], strict=True))


def _variant(run: Run, layer: int, order: str) -> Run:
    asked = replace(run.asked, layers=(layer,), draw=replace(run.asked.draw, order=order))
    return Run(asked.label, run.bench, asked)


def _verdict(table: pd.DataFrame, layer: int) -> str:
    """Whether the forecast order held at a layer, as far as it was tried."""
    held = forecasts.best_order_held(table, layer)
    if held is None:
        return "Run the orders to see whether it holds."
    there = table[(table["layer"] == layer) & table["retention"].notna()]
    kept = "; ".join(f"{ORDERS[row.order]} {number(row.retention, '.0%')}" for row in there.itertuples())
    best = "held" if held else "did not hold"
    return f"At layer {layer} the forecast of the best order **{best}**: edits in force at the end, {kept}."


def _buttons(
    planned: RunPlan,
    kinds: dict[tuple[int, str], Run],
    films: dict[tuple[int, str], lifelong.EditTrace],
    layer: int,
    order: str,
) -> None:
    run = planned.main
    missing = [one for at, one in kinds.items() if not lifelong.finished(films.get(at), one.asked)]
    here = [one for one in missing if one.asked.layers == run.asked.layers]
    use, orders, every = st.columns(3)
    use.button(
        f"Choose layer {layer}, {ORDERS[order]}", icon=":material/check_circle:", on_click=_use, args=(layer, order),
        disabled=(run.asked.layers, run.asked.draw.order) == ((layer,), order), width="stretch",
    )  # fmt: skip
    orders.button(
        f"Try the orders at layer {run.asked.layers[0]}", icon=":material/play_circle:", on_click=runs.start,
        args=(here,), disabled=not here, width="stretch",
    )  # fmt: skip
    every.button(
        f"Try all {len(kinds)}", icon=":material/play_circle:", on_click=runs.start, args=(missing,),
        disabled=not missing, width="stretch",
    )  # fmt: skip
    if not runs.alive(planned.runs):  # else their bar is there already
        runs.progress_of(list(kinds.values()))


def _cells(values: pd.Series[float], form: str) -> list[str]:
    """Numbers as text, a dash where there is none."""
    return [number(value, form) for value in values]


def _use(layer: int, order: str) -> None:
    state.choose("layer", layer)
    state.choose("arrange", order)


def _table(view: View, result: Result, run: Run, table: pd.DataFrame) -> None:
    shown = table.assign(
        order=[ORDERS[str(order)] for order in table["order"]],
        edits=_cells(table["edits"], ".0f"),
        recall=_cells(table["recall"], ".0%"),
        retention=_cells(table["retention"], ".0%"),
        half_life=_cells(table["half_life"], ".0f"),
    )
    column = partial(st.column_config.NumberColumn, format="%.4f", width=120)
    text = partial(st.column_config.TextColumn, width=110)
    grid(
        shown, key="outlook", hide_index=True, height="content",
        columns={
            "layer": st.column_config.NumberColumn("layer", width=60),
            "order": st.column_config.TextColumn("order", width=190),
            "on_others": column("on unrelated facts", help="forecast, √ mean P[e, j]²"),
            "among": column("among edits", help="forecast, √ mean P[j, i]², i edited before j"),
            "edits": text("edits made"),
            "recall": text("unrelated right", help="measured at the end"),
            "retention": text("edits in force", help="measured at the end"),
            "half_life": text("half forgotten after"),
        },
    )  # fmt: skip
    draw = "lifelong.Draw" + repr(replace(run.asked.draw, order="drawn"))[len("Draw") :]
    say(
        view,
        result,
        FigureText(
            title="Order and layer: forecast interference, and what was measured",
            caption="Forecast from keys and C alone, before any value is searched for; beside it what was measured, "
            f"where it was tried ({MISSING}: not tried).",
            help=HELP,
            data=lambda: table,
            code=f"{python_lines(run)}frame = lifelong.choosing.outlook(bench, {draw}, {run.asked.edits})",
        ),
        chart=None,
        key="outlook-table",
    )
