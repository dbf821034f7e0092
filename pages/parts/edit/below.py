"""What stands under an edit: the picked pair, forecast against measurement, the table of all facts, and the rest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd
import streamlit as st

from kis_core import charts
from kis_core.results.result import Result
from kis_core.simulator import EditOutcome, Forecast, Simulator, spill_frame
from kis_core.spillover import FEW_FLIPS
from kis_core.wording import counted
from pages.parts.edit.choice import Chosen, python_lines
from pages.parts.edit.lists import history, layers, reach
from pages.parts.edit.search import search
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure, say
from pages.parts.figures.grid import grid
from pages.parts.figures.inspector import inspector
from pages.parts.frame import state
from pages.parts.frame.page import View, split
from pages.parts.frame.text import plain

LOOKS = {
    "pair": "This pair",
    "scatter": "Was it right?",
    "table": "All facts",
    "layers": "Which layer?",
    "reach": "Dangerous and safe edits",
    "history": "History",
    "search": "How the value is found",
}


def below(
    view: View,
    result: Result,
    bench: Simulator,
    chosen: Chosen,
    pair: tuple[int, int],
    forecast: Forecast | None,
    outcome: EditOutcome | None,
) -> None:
    """Draw the chosen one of `LOOKS`."""
    look = st.segmented_control(
        "Below", list(LOOKS), format_func=LOOKS.__getitem__, required=True, label_visibility="collapsed",
        **state.widget("look"),
    )  # fmt: skip
    drawers: dict[str, Callable[[], None]] = {
        "pair": lambda: _pair(view, result, bench, chosen, pair, forecast, outcome),
        "scatter": lambda: _scatter(view, result, bench, chosen, pair[1], forecast, outcome),
        "table": lambda: _table(view, result, bench, chosen, forecast, outcome),
        "layers": lambda: layers(view, result, bench, chosen),
        "reach": lambda: reach(view, result, pair),
        "history": history,
        "search": lambda: search(view, result, bench, chosen, forecast),
    }
    drawers[look]()


def _pair(
    view: View,
    result: Result,
    bench: Simulator,
    chosen: Chosen,
    pair: tuple[int, int],
    forecast: Forecast | None,
    outcome: EditOutcome | None,
) -> None:
    if pair[0] == pair[1]:
        st.info("Click a bar above to look at a pair of facts.", icon=":material/ads_click:")
        return
    left, right = split(1, 0.8, key="split-pair")
    with left:
        inspector(view, result, pair, editing=True)
    with right:
        _of_pair(bench, chosen, pair[1], forecast, outcome)


def _of_pair(bench: Simulator, chosen: Chosen, j: int, forecast: Forecast | None, outcome: EditOutcome | None) -> None:
    """What the edit does to the picked fact, all forecasts beside the measurement."""
    if forecast is None:
        return
    strength, measured = chosen.strength, outcome.measured if outcome else None
    coming = forecast.flips.by(strength).get(j) if forecast.flips else None
    before = bench.answers_before[j]
    rows = [
        ("shift along δ (eq. 11)", forecast.shift[j] * strength, measured.shift[j] if measured else None),
        ("log-odds, all tokens", forecast.all_tokens[j] * strength, measured.log_odds[j] if measured else None),
        ("log-odds, subject token", forecast.subject_token[j] * strength, measured.log_odds[j] if measured else None),
    ]
    if outcome is not None:
        rows.append(("log-odds, propagated", outcome.propagated[j], outcome.measured.log_odds[j]))
    st.markdown(f"**What this edit does to {plain(bench.facts[j].subject)}**")
    grid(
        pd.DataFrame(rows, columns=["change of", "forecast", "measured"]).astype({"measured": float}),
        key="of-pair",
        hide_index=True,
        columns={
            "change of": st.column_config.TextColumn(width=180),
            "forecast": st.column_config.NumberColumn(format="%+.3f", width=90),
            "measured": st.column_config.NumberColumn(
                format="%+.3f", width=90, help="there once the edit is performed"
            ),
        },
    )
    told = [f"Answer before: **{plain(before)}**", f"forecast: **{plain(coming or before)}**"]
    if outcome is not None:
        told.append(f"measured: **{plain(outcome.measured.answers[j])}**")
    st.markdown(" · ".join(told))


def _scatter(
    view: View,
    result: Result,
    bench: Simulator,
    chosen: Chosen,
    j: int,
    forecast: Forecast | None,
    outcome: EditOutcome | None,
) -> None:
    if forecast is None or outcome is None:
        st.info("Perform the edit to see how good the forecasts were.", icon=":material/play_arrow:")
        return
    told = spill_frame(bench, chosen.e, forecast, state.get("by"), chosen.strength, outcome)
    quality = bench.quality(forecast, outcome)
    left, right = split(1, 1.1, key="split-scatter")
    key = state.fresh("against")
    lines = python_lines(chosen)
    with left:
        figure(
            view,
            result,
            drawing(
                charts.against, told, quantity="shift" if state.get("by") == "shift" else "change of log-odds", picked=j
            ),
            FigureText(
                title="Forecast against measurement",
                caption="One dot a fact; on the dashed line the forecast was right.",
                help="The forecast chosen above, at this strength, against one pass with the edit on.",
                data=lambda: told,
                code=f"{lines}frame = simulator.spill_frame(bench, {chosen.e}, forecast, {state.get('by')!r}, "
                f"{chosen.strength:g}, outcome)",
                layer=view.layer,
                brief=True,
            ),
            key=key,
            on_select=partial(_clicked, key, chosen.e),
            selection_mode=charts.FACT,
        )
    with right:
        _quality(view, result, quality, lines)


def _quality(view: View, result: Result, quality: pd.DataFrame, lines: str) -> None:
    flips = int(quality["flips"].max())
    few = f" With {flips} of them the AUC means little." if flips < FEW_FLIPS else ""
    column = partial(st.column_config.NumberColumn, format="%.2f", width=80)
    grid(
        quality.drop(columns=["flips", "facts"]),
        key="quality",
        hide_index=True,
        height="content",
        columns={
            "forecast": st.column_config.TextColumn("forecast", width=190),
            "spearman": column("Spearman", help="rank correlation with the measured loss of log-odds"),
            "pearson": column("Pearson", help="linear correlation with the measured loss of log-odds"),
            "spearman_size": column(
                "of sizes", help="Spearman of |forecast| and |change|: fair to scores without sign"
            ),
            "auc": column(
                "flips, AUC",
                help="chance that a fact whose answer changed had the higher score; a dash where none changed",
            ),
        },
    )
    say(
        view,
        result,
        FigureText(
            title="How good the forecasts were",
            caption=f"Forecast and rivals against the measured loss of log-odds of "
            f"{counted(int(quality['facts'].max()), 'fact')}; {counted(flips, 'answer')} changed.{few}",
            help="The first three know what the edit writes (δ); the rivals do not. **|P|**: the paper’s coefficient. "
            "**largest share**: maxₜ|cₜ| over the tokens. **|Q|**: kᵢᵀkⱼ/‖kᵢ‖², P with C = I. **GradSim**: cosine of "
            "the "
            "gradients with respect to the edited matrix (arXiv 2407.12828). **CLaRE**: cosine of the layer’s hidden "
            "states at the prompts’ ends (arXiv 2603.19297).",
            data=lambda: quality,
            code=f"{lines}quality = bench.quality(forecast, outcome)",
            layer=view.layer,
            brief=True,
        ),
        chart=None,
        key="quality",
    )


def _table(
    view: View, result: Result, bench: Simulator, chosen: Chosen, forecast: Forecast | None, outcome: EditOutcome | None
) -> None:
    if forecast is None:
        st.info("The table is there as soon as the forecast is.", icon=":material/hourglass_empty:")
        return
    told = (
        bench.table(forecast, outcome)
        if outcome is not None
        else spill_frame(bench, chosen.e, forecast, "all", chosen.strength, None)[
            ["fact", "subject", "p", "share", "forecast", "flips_foretold"]
        ].rename(columns={"fact": "index", "forecast": "dlogodds_all_tokens", "flips_foretold": "answer_foretold"})
    )
    column = partial(st.column_config.NumberColumn, format="%+.3f", width=105)
    key = "edit-table"
    grid(
        told,
        key=key,
        hide_index=True,
        height=420,
        selection_mode="single-cell",
        on_select=partial(_clicked_row, key, chosen.e, told["index"].tolist()),
        columns={
            "index": st.column_config.NumberColumn("j", width=50),
            "subject": st.column_config.TextColumn("subject", width=170),
            "p": column("P[e, j]", help="share of an edit of eq. 2 at the layer (eq. 16)"),
            "share": column("share", help="share of this edit at the layer, u·kⱼ; P[e, j] where it is one of eq. 2"),
            "shift_predicted": column("shift", help="along δ, forecast"),
            "shift_measured": column("shift, meas.", help="along δ, measured"),
            "dlogodds_first_order": column(
                "Δ subject", help="change of log-odds, first order, at the subject’s token alone"
            ),
            "dlogodds_all_tokens": column("Δ all tokens", help="change of log-odds, first order, over all tokens"),
            "dlogodds_propagated": column(
                "Δ propagated", help="change of log-odds with the share of δ at the subject’s token, model run on"
            ),
            "dlogodds_measured": column("Δ measured", help="change of log-odds, measured"),
            "dlogp_measured": column("Δ log p", help="change of log p, measured"),
            "answer_before": "answer before",
            "answer_after": "answer after",
            "answer_foretold": "changes to (forecast)",
        },
    )
    say(
        view,
        result,
        FigureText(
            title="Spillover, fact by fact",
            caption=f"Every {'fact, the edited one included' if outcome is not None else 'other fact'}. Click a row "
            f"to open "
            "the pair; a column’s head sorts.",
            help="Shifts are along δ at the layer (eq. 11). Log-odds and log p are of each fact’s right answer, all "
            "its "
            "tokens together.",
            data=lambda: told,
            code=f"{python_lines(chosen)}table = bench.table(forecast, outcome)"
            if outcome is not None
            else f"{python_lines(chosen, perform=False)}table = simulator.spill_frame(bench, {chosen.e}, forecast, "
            f"'all', "
            f"{chosen.strength:g}, None)",
            layer=view.layer,
        ),
        chart=None,
        key="spill-table",
    )


def _clicked(key: str, e: int) -> None:
    found = state.clicked(key, charts.FACT)
    if found:
        state.choose("pair", (e, int(found[0]["fact"])))


def _clicked_row(key: str, e: int, facts: list[int]) -> None:
    cells = st.session_state[key]["selection"].get("cells")
    if cells and cells[0][0] < len(facts):
        state.choose("pair", (e, int(facts[cells[0][0]])))
