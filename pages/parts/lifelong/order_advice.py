"""Which order and layer would hurt least, forecast from keys alone; and whether the forecast held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd
import streamlit as st

from kis_core import lifelong
from kis_core.lifelong import ORDERS, EditTrace
from kis_core.lifelong import order_advice as forecasts
from kis_core.store.store import key_of
from kis_core.wording import MISSING, number
from pages.parts.edit import simulator as benches
from pages.parts.figures.figure import FigureText, caption
from pages.parts.figures.grid import grid
from pages.parts.frame import state
from pages.parts.frame.glossary import explain
from pages.parts.lifelong import runs
from pages.parts.lifelong.runs import Run
from pages.parts.lifelong.view import RunView

HELP = (
    "**On unrelated facts**: √ mean P[e, j]² over the edits e and the facts j looked at; the order does not change it. "
    "**Among edits**: √ mean P[j, i]² over pairs with i edited before j (eq. 15). P[j, i] is the smaller the larger "
    "kⱼᵀC⁻¹kⱼ, so making edits by rising kᵀC⁻¹k is the best order there is. Both assume that every δ is equally large: "
    "how large it has to be in a layer is known only after the search."
)


@dataclass(frozen=True)
class Variants:
    """The run with every layer and order that the advice compares.

    Attributes:
        runs: by layer and order.
        traces: of those that were begun.
    """

    runs: Mapping[tuple[int, str], Run]
    traces: Mapping[tuple[int, str], EditTrace]

    def unfinished(self, layer: int | None = None) -> list[Run]:
        """Those whose edits are not all made; of one layer alone, if it is given."""
        return [
            run
            for at, run in self.runs.items()
            if layer in (None, at[0]) and not lifelong.finished(self.traces.get(at), run.request)
        ]


def order_advice(view: RunView) -> None:
    """The forecasts by layer and order, with what was measured where it was."""
    run, bench, request = view.run, view.run.bench, view.run.request
    draw, edits = replace(request.draw, order="drawn"), request.edits
    key = key_of("outlook", {"draw": repr(draw), "edits": edits, "run": run.key})
    frame = benches.table(bench, key, lambda report: forecasts.outlook(bench, draw, edits, report), forecasts.STAGE)
    if frame is None:
        return
    if frame.empty:
        st.info("No layer of this model can be edited.", icon=":material/block:")
        return
    variants = _variants(run, frame)
    layer, order = forecasts.least(frame)
    table = forecasts.held(frame, dict(variants.traces))
    summary = _summary(table, request.layers[0])
    st.markdown(f"**Least interference is forecast for layer {layer}, {ORDERS[order]}.** {summary}")
    _buttons(view, variants, layer, order)
    _table(view, table)


def _variants(run: Run, frame: pd.DataFrame) -> Variants:
    all_runs = {}
    for layer, order in zip(frame["layer"].astype(int), frame["order"].astype(str), strict=True):
        request = replace(run.request, layers=(layer,), draw=replace(run.request.draw, order=order))
        all_runs[layer, order] = Run(request.label, run.bench, request)
    return Variants(all_runs, {at: trace for at, other in all_runs.items() if (trace := runs.trace_of(other))})


def _summary(table: pd.DataFrame, layer: int) -> str:
    """Whether the order forecast to be best was so at a layer, as far as it was tried."""
    held = forecasts.best_order_held(table, layer)
    if held is None:
        return "Run the orders to see whether it holds."
    tried = table[(table["layer"] == layer) & table["retention"].notna()]
    rows = zip(tried["order"].astype(str), tried["retention"].to_numpy(float), strict=True)
    kept = "; ".join(f"{ORDERS[order]} {number(retention, '.0%')}" for order, retention in rows)
    best = "held" if held else "did not hold"
    return f"At layer {layer} the forecast of the best order **{best}**: edits in force at the end, {kept}."


def _buttons(view: RunView, variants: Variants, layer: int, order: str) -> None:
    request = view.run.request
    here, missing = variants.unfinished(request.layers[0]), variants.unfinished()
    use, orders, every = st.columns(3)
    use.button(
        f"Choose layer {layer}, {ORDERS[order]}",
        icon=":material/check_circle:",
        on_click=_use,
        args=(layer, order),
        disabled=(request.layers, request.draw.order) == ((layer,), order),
        width="stretch",
    )
    try_out = partial(st.button, icon=":material/play_circle:", on_click=runs.start, width="stretch")
    with orders:
        try_out(f"Try the orders at layer {request.layers[0]}", args=(here,), disabled=not here)
    with every:
        try_out(f"Try all {len(variants.runs)}", args=(missing,), disabled=not missing)
    if not runs.alive(view.plan.runs):  # else their bar is there already
        runs.progress_of_runs(list(variants.runs.values()))


def _use(layer: int, order: str) -> None:
    state.choose("layer", layer)
    state.choose("arrange", order)


def _table(view: RunView, table: pd.DataFrame) -> None:
    forms = {"edits": ".0f", "recall": ".0%", "retention": ".0%", "half_life": ".0f"}
    texts = {name: [number(value, form) for value in table[name].to_numpy(float)] for name, form in forms.items()}
    column = partial(st.column_config.NumberColumn, format="%.4f", width=120)
    text = partial(st.column_config.TextColumn, width=110)
    grid(
        table.assign(order=[ORDERS[str(order)] for order in table["order"]], **texts),
        key="outlook",
        hide_index=True,
        height="content",
        columns={
            "layer": st.column_config.NumberColumn("layer", width=60),
            "order": st.column_config.TextColumn("order", width=190),
            "on_others": column("on unrelated facts", help="forecast, √ mean P[e, j]²"),
            "among": column("among edits", help="forecast, √ mean P[j, i]², i edited before j"),
            "edits": text("edits made"),
            "recall": text("unrelated right", help="measured at the end"),
            "retention": text("edits in force", help="measured at the end"),
            "half_life": text("half-life", help=explain("half-life")),
        },
    )
    request = view.run.request
    draw = "lifelong.Draw" + repr(replace(request.draw, order="drawn"))[len("Draw") :]
    about = FigureText(
        title="Order and layer: forecast interference, and what was measured",
        caption="Forecast from keys and C alone, before any value is searched for; beside it what was measured, where "
        f"it was tried ({MISSING}: not tried).",
        help=HELP,
        data=lambda: table,
        code=f"{view.python_lines()}frame = lifelong.order_advice.outlook(bench, {draw}, {request.edits})",
        all_layers=True,
    )
    caption(view, about, key="outlook-table")
