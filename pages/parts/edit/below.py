"""What stands under an edit: the picked pair, forecast against measurement, the table of all facts, and the rest."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from kis_core import charts
from kis_core.simulator import EditOutcome, Forecast, spill_frame
from kis_core.spillover import FEW_FLIPS
from kis_core.wording import counted
from pages.parts.edit.lists import history, layers, reach
from pages.parts.edit.search import search
from pages.parts.edit.view import EditView
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, caption, figure
from pages.parts.figures.grid import grid
from pages.parts.figures.inspector import inspector
from pages.parts.frame import state
from pages.parts.frame.page import split
from pages.parts.frame.text import plain
from pages.parts.frame.widgets import look

NOT_PERFORMED = ["fact", "subject", "p", "share", "forecast", "flips_foretold"]
"""Columns of `spill_frame` that are known before the edit is performed."""


def below(view: EditView) -> None:
    """Draw the chosen one of `LOOKS`."""
    look("look", LOOKS, view)


def _pair(view: EditView) -> None:
    if view.j == view.chosen.e:
        st.info("Click a bar above to look at a pair of facts.", icon=":material/ads_click:")
        return
    left, right = split(1, 0.8, key="split-pair")
    with left:
        inspector(view, view.pair, editing=True)
    with right:
        if view.forecast is not None:
            _effect(view, view.forecast)


def _effect(view: EditView, forecast: Forecast) -> None:
    """What the edit does to the picked fact, all forecasts beside the measurement."""
    j, outcome, strength = view.j, view.outcome, view.chosen.strength
    measured = outcome.measured if outcome else None
    log_odds = measured.log_odds[j] if measured else None
    rows = [
        ("shift along δ (eq. 11)", forecast.shift[j] * strength, measured.shift[j] if measured else None),
        ("log-odds, all tokens", forecast.all_tokens[j] * strength, log_odds),
        ("log-odds, subject token", forecast.subject_token[j] * strength, log_odds),
    ]
    if outcome is not None:
        rows.append(("log-odds, propagated", outcome.propagated[j], log_odds))
    st.markdown(f"**What this edit does to {plain(view.bench.facts[j].subject)}**")
    number = partial(st.column_config.NumberColumn, format="%+.3f", width=90)
    grid(
        pd.DataFrame(rows, columns=["change of", "forecast", "measured"]).astype({"measured": float}),
        key="of-pair",
        hide_index=True,
        columns={
            "change of": st.column_config.TextColumn(width=180),
            "forecast": number(),
            "measured": number(help="there once the edit is performed"),
        },
    )
    before = view.bench.answers_before[j]
    coming = forecast.flips.by(strength).get(j) if forecast.flips else None
    answers = [f"Answer before: **{plain(before)}**", f"forecast: **{plain(coming or before)}**"]
    answers += [f"measured: **{plain(measured.answers[j])}**"] if measured else []
    st.markdown(" · ".join(answers))


def _scatter(view: EditView) -> None:
    forecast, outcome, chosen, by = view.forecast, view.outcome, view.chosen, state.get("by")
    if forecast is None or outcome is None:
        st.info("Perform the edit to see how good the forecasts were.", icon=":material/play_arrow:")
        return
    spilled = spill_frame(view.bench, chosen.e, forecast, by, chosen.strength, outcome)
    quantity = "shift" if by == "shift" else "change of log-odds"
    left, right = split(1, 1.1, key="split-scatter")
    with left:
        figure(
            view,
            drawing(charts.against, spilled, quantity=quantity, picked=view.j),
            FigureText(
                title="Forecast against measurement",
                caption="One dot a fact; on the dashed line the forecast was right.",
                help="The forecast chosen above, at this strength, against one pass with the edit on.",
                data=lambda: spilled,
                code=view.python_lines() + view.frame_line(by, "outcome"),
                brief=True,
            ),
            key=state.fresh("against"),
            pick=view.pick_fact(),
        )
    with right:
        _quality(view, view.bench.quality(forecast, outcome))


def _quality(view: EditView, quality: pd.DataFrame) -> None:
    flips = int(quality["flips"].max())
    few = f" With {flips} of them the AUC means little." if flips < FEW_FLIPS else ""
    column = partial(st.column_config.NumberColumn, format="%.2f", width=80)
    area = "chance that a fact whose answer changed had the higher score; a dash where none changed"
    grid(
        quality.drop(columns=["flips", "facts"]),
        key="quality",
        hide_index=True,
        height="content",
        columns={
            "forecast": st.column_config.TextColumn("forecast", width=190),
            "spearman": column("Spearman", help="rank correlation with the measured loss of log-odds"),
            "pearson": column("Pearson", help="linear correlation with the measured loss of log-odds"),
            "spearman_size": column("of sizes", help="Spearman of |forecast| and |change|, for scores without a sign"),
            "auc": column("flips, AUC", help=area),
        },
    )
    text = FigureText(
        title="How good the forecasts were",
        caption=f"Forecast and rivals against the measured loss of log-odds of "
        f"{counted(int(quality['facts'].max()), 'fact')}; {counted(flips, 'answer')} changed.{few}",
        help="The first three know what the edit writes (δ); the rivals do not. **|P|**: the paper’s coefficient. "
        "**largest share**: maxₜ|cₜ| over the tokens. **|Q|**: kᵢᵀkⱼ/‖kᵢ‖², P with C = I. **GradSim**: cosine of the "
        "gradients with respect to the edited matrix (arXiv 2407.12828). **CLaRE**: cosine of the layer’s hidden "
        "states at the prompts’ ends (arXiv 2603.19297).",
        data=lambda: quality,
        code=f"{view.python_lines()}quality = bench.quality(forecast, outcome)",
        brief=True,
    )
    caption(view, text, key="quality")


def _table(view: EditView) -> None:
    if view.forecast is None:
        st.info("The table is there as soon as the forecast is.", icon=":material/hourglass_empty:")
        return
    table, code = _rows(view, view.forecast, view.outcome)
    column = partial(st.column_config.NumberColumn, format="%+.3f", width=105)
    propagated = "change of log-odds with the share of δ at the subject’s token alone, and the model run on from there"
    grid(
        table,
        key="edit-table",
        hide_index=True,
        height=420,
        selection_mode="single-cell",
        on_select=partial(_clicked_row, "edit-table", view.chosen.e, table["index"].tolist()),
        columns={
            "index": st.column_config.NumberColumn("j", width=50),
            "subject": st.column_config.TextColumn("subject", width=170),
            "p": column("P[e, j]", help="share of an edit of eq. 2 at the layer (eq. 16)"),
            "share": column("share", help="share of this edit at the layer, u·kⱼ; P[e, j] where it is one of eq. 2"),
            "shift_predicted": column("shift", help="along δ, forecast"),
            "shift_measured": column("shift, meas.", help="along δ, measured"),
            "dlogodds_first_order": column("Δ subject", help="change of log-odds, first order, subject’s token alone"),
            "dlogodds_all_tokens": column("Δ all tokens", help="change of log-odds, first order, over all tokens"),
            "dlogodds_propagated": column("Δ propagated", help=propagated),
            "dlogodds_measured": column("Δ measured", help="change of log-odds, measured"),
            "dlogp_measured": column("Δ log p", help="change of log p, measured"),
            "answer_before": "answer before",
            "answer_after": "answer after",
            "answer_foretold": "changes to (forecast)",
        },
    )
    listed = "fact, the edited one included" if view.outcome is not None else "other fact"
    text = FigureText(
        title="Spillover, fact by fact",
        caption=f"Every {listed}. Click a row to open the pair; a click on a column’s head sorts the table.",
        help="Shifts are along δ at the layer (eq. 11). Log-odds and log p are of each fact’s right answer, all its "
        "tokens together.",
        data=lambda: table,
        code=code,
    )
    caption(view, text, key="spill-table")


def _rows(view: EditView, forecast: Forecast, outcome: EditOutcome | None) -> tuple[pd.DataFrame, str]:
    """The table of all facts as far as it is known, and Python that gets it."""
    if outcome is not None:
        return view.bench.table(forecast, outcome), f"{view.python_lines()}table = bench.table(forecast, outcome)"
    frame = spill_frame(view.bench, view.chosen.e, forecast, "all", view.chosen.strength, None)[NOT_PERFORMED]
    names = {"fact": "index", "forecast": "dlogodds_all_tokens", "flips_foretold": "answer_foretold"}
    return frame.rename(columns=names), view.python_lines(perform=False) + view.frame_line("all", "None")


def _clicked_row(key: str, e: int, facts: list[int]) -> None:
    cells = st.session_state[key]["selection"].get("cells")
    if cells and cells[0][0] < len(facts):
        state.choose("pair", (e, int(facts[cells[0][0]])))


LOOKS = {
    "pair": ("This pair", _pair),
    "scatter": ("Forecast and measured", _scatter),
    "table": ("All facts", _table),
    "layers": ("Which layer?", layers),
    "reach": ("Dangerous and safe edits", reach),
    "history": ("History", history),
    "search": ("How the value is found", search),
}
"""What can stand under an edit: its name in links, on the screen, and what draws it."""
