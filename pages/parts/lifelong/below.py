"""What stands under a run: forecast against measurement, ages, weights, who is damaged, every fact, and advice."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import streamlit as st

from kis_core import charts
from kis_core.lifelong import budget as forecasts
from kis_core.lifelong import frames, growth, summary
from kis_core.wording import counted, number
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, Pick, caption, figure
from pages.parts.figures.grid import grid
from pages.parts.frame import state
from pages.parts.frame.glossary import explain
from pages.parts.frame.page import split
from pages.parts.frame.text import plain, sentence
from pages.parts.frame.widgets import look, segments
from pages.parts.lifelong.budget import budget_look, budget_of
from pages.parts.lifelong.order_advice import order_advice
from pages.parts.lifelong.study import study
from pages.parts.lifelong.view import HELP, RunView

SHADES = frames.KINDS
RANKED = {
    "shift": "‖Σ p·δ‖ at the layer",
    "subject": "first order, subject token",
    "all": "first order, all tokens",
    "renewed": "the same, gradients renewed at every measurement",
    "stand_ins": "the budget’s stand-ins, before any edit was made",
    "both": "these and renewed gradients, ranks added",
}


def below(view: RunView) -> None:
    """Draw the chosen one of `CHRONICLE`."""
    look("chronicle", CHRONICLE, view)


def _theory(view: RunView) -> None:
    """Changes of log-odds, where the forecast is approximate, and shifts at the layer, where it is exact."""
    left, right = split(1, 1, key="split-theory")
    frame, shifts, layer = frames.theory(view.trace), frames.shifts(view.trace), view.run.request.layers[0]
    with left:
        text = FigureText(
            title="Loss of log-odds, forecast and measured",
            caption=_beyond(view),
            help=HELP,
            data=lambda: frame,
            code=f"{view.python_lines()}frame = lifelong.frames.theory(trace)",
            brief=True,
        )
        kinds = list(frames.KINDS.values())
        quantity = "mean change of log-odds"
        view.over_edits(
            frame, text, key="theory", quantity=quantity, kinds=kinds, colours=charts.FORECAST_COLOURS, columns=2
        )
    with right:
        text = FigureText(
            title="Interference at the layer, forecast and measured",
            caption=_exact(view),
            help=HELP,
            data=lambda: shifts,
            code=f"{view.python_lines()}frame = lifelong.frames.shifts(trace)",
            brief=True,
        )
        view.over_edits(
            shifts,
            text,
            key="shifts",
            quantity=f"shift at layer {layer}",
            kinds=list(frames.SHIFTS.values()),
            colours=charts.SHIFT_COLOURS,
            dotted=[name for column, name in frames.SHIFTS.items() if column.endswith("measured")],
        )
    _ranks(view)


def _beyond(view: RunView) -> str:
    """What the first order leaves out, in words and numbers."""
    text = (
        "Mean over the unrelated facts. Forecasts add up what each edit does to first order, from the gradients of the "
        "unedited model, or from gradients renewed at every measurement: approximate."
    )
    measured, forecast = frames.mean_changes(view.trace, view.row)
    if frames.falls_short(view.trace, view.row):
        edits = counted(int(view.trace.steps[view.row]), "edit")
        text += (
            f" After {edits} {number(forecast, '+.1f')} was forecast and {number(measured, '+.1f')} measured: to first "
            f"order edits help about as many facts as they hurt, and most of the loss is beyond it."
        )
    return text


def _exact(view: RunView) -> str:
    layers = view.run.request.layers
    worst = summary.exactness(view.trace.until(int(view.trace.steps[view.row])))
    errors = [f"{error:.0e}" for error in worst if np.isfinite(error)]
    largest = f" Largest relative difference so far {max(errors, key=float)}." if errors else ""
    where = "" if len(layers) == 1 else ", the first one edited; in the later ones keys move"
    return (
        f"Σ p·δ against the change measured at layer {layers[0]}{where}: root mean square over facts, Δo of unrelated "
        f"ones (eq. 11), Δe of edited ones since their edit (eq. 15). Exact: the lines lie on each other.{largest}"
    )


def _ranks(view: RunView) -> None:
    """How well the forecasts rank the facts by what they lose."""
    if not view.row:
        st.caption("Step on to see how well the forecasts say which facts lose most.")
        return
    forecast = budget_of(view.run)
    stand_ins = forecasts.fact_changes(forecast, view.step) if forecast else None
    ranks = {name: rank for name, (rank, _) in summary.forecasts(view.trace, view.row, stand_ins).items()}
    cells = " · ".join(f"{RANKED[name]} **{number(rank, '.2f')}**" for name, rank in ranks.items())
    edits = counted(view.step, "edit")
    st.markdown(f"Which unrelated facts lose most after {edits}, Spearman correlation with the measured loss: {cells}")


def _ages(view: RunView) -> None:
    frame = frames.by_age(view.trace)
    if frame.empty:
        st.info("No edit was made yet; step on.", icon=":material/hourglass_empty:")
        return
    text = FigureText(
        title="Edits still in force, by age",
        caption="Of the edits made so long ago, the share whose new object is still the model’s first choice. Eq. 15: "
        "the older an edit, the more edits after it have moved what it wrote.",
        help=HELP,
        data=lambda: frame,
        code=f"{view.python_lines()}frame = lifelong.frames.by_age(trace)",
    )
    view.over_edits(
        frame.rename(columns={"age": "kind", "share": "change"}),
        text,
        key="ages",
        quantity="edits still in force",
        kinds=[name for name in (frames.age_label(*age) for age in frames.AGES) if (frame["age"] == name).any()],
        colours=charts.AGE_COLOURS,
        span=(0, 1.02),
        percent=True,
    )


def _growth(view: RunView) -> None:
    """How large edits and the change of the weights get, with the edit from which it is exponential."""
    frame, turned = frames.growth(view.trace), growth.exponential_from(view.trace.size[: view.step])
    edits = counted(view.step, "edit")
    said = (
        f"**Exponential from edit {turned} on** (dashed)"
        if turned
        else f"Growth is not exponential within these {edits}"
    )
    text = FigureText(
        title="Growth of edits and weights",
        caption=f"{said}: by a line fitted to log ‖ΔW‖ = log ‖δ‖ ‖u‖ over the later half of the edits so far, sizes "
        f"{'double' if turned else 'do not double'} more than twice within that half. Means between measurements.",
        help=f"{HELP}\n\n{explain('norm feedback')}",
        data=lambda: frame,
        code=f"{view.python_lines()}frame = lifelong.frames.growth(trace)\n"
        "turned = lifelong.growth.exponential_from(trace.size)",
    )
    options = {"quantity": "norm", "kinds": list(frames.GROWTH.values()), "log": True, "mark": turned, "size": 260}
    view.over_edits(frame, text, key="growth", **options)


def _weights(view: RunView) -> None:
    _growth(view)
    frame, trace = frames.measures(view.trace), view.trace
    code = f"{view.python_lines()}frame = lifelong.frames.measures(trace)"
    figures = (
        ("drift", "‖Wₙ − W₀‖ / ‖W₀‖", "How far the edited matrix moved, as a share of its own size."),
        ("condition", "condition number", "Largest over smallest singular value of Wₙ."),
        ("perplexity", "perplexity", f"On {trace.text}, which should stay as it was."),
    )
    columns = st.container(key="split-weights").columns(3, gap="medium")
    for column, (kind, quantity, words) in zip(columns, figures, strict=True):
        own = frame[frame["kind"] == kind]
        text = FigureText(
            title=quantity,
            caption=words,
            help=HELP,
            data=own.copy,
            code=f"{code}\nframe = frame[frame['kind'] == {kind!r}]",
            brief=True,
        )
        with column:
            options = {"quantity": quantity, "kinds": [kind], "log": kind != "drift", "size": 200}
            view.over_edits(own, text, key=f"weights-{kind}", **options)
    st.markdown(f"**How the model continues after {counted(view.step, 'edit')}**, always with its first choice:")
    roles = ("the newest edit" if view.row else "the first edit to come", "the first edit", "an unrelated fact")
    for role, (prompt, continuation) in zip(roles, trace.words[view.row], strict=False):
        first = f" · at first: {plain(trace.words[0][-1][1])}" if role == roles[-1] and view.row else ""
        st.markdown(f"{role}: {plain(prompt)} **{plain(continuation)}**{first}")


def _damage(view: RunView) -> None:
    shade = segments("shade", "Shade", SHADES, bare=True)
    facts, trace = view.result.facts.facts, view.trace
    frame = frames.damage(trace, facts, shade)
    watched = state.get("watched")
    if watched not in trace.unrelated:
        watched = int(trace.unrelated[frames.falling_order(trace)[0]]) if len(trace.unrelated) else None
    if watched is None:
        st.info("Every fact of the set is edited: there is no unrelated one to look at.", icon=":material/info:")
        return
    left, right = split(1.35, 1, key="split-damage")
    with left:
        figure(
            view,
            drawing(charts.damage, frame, step=view.step, picked=watched),
            FigureText(
                title=f"Who is damaged, {SHADES[shade]}",
                caption="Each row is an unrelated fact, each column a measurement; a dot says that the answer is wrong "
                "then. Colours are clamped as the legend says. Click a fact.",
                help=HELP,
                data=lambda: frame,
                code=f"{view.python_lines()}frame = lifelong.frames.damage(trace, result.facts.facts, {shade!r})",
            ),
            key=state.fresh("damage"),
            pick=Pick(charts.FACT, _watch),
        )
    with right:
        _history(view, watched)


def _watch(clicked: dict[str, Any]) -> None:
    state.choose("watched", int(clicked["fact"]))


def _history(view: RunView, fact: int) -> None:
    """One fact through the run, and the edits with the largest forecast loss for it."""
    trace, about = view.trace, view.result.facts.facts[fact]
    column = int(np.flatnonzero(trace.unrelated == fact)[0])
    st.html(f"<div style='font-size:1.15rem'>{sentence(about)}</div>")
    lost = np.flatnonzero(trace.rank[:, column] != 1)
    first = counted(int(trace.steps[lost[0]]), "edit") if len(lost) else ""
    st.caption(f"Answered wrong for the first time after {first}." if first else "Never wrong.")
    frame = frames.history(trace, column)
    text = FigureText(
        title=f"What became of {about.subject}",
        caption="Its log-odds, measured and forecast.",
        help=HELP,
        data=lambda: frame,
        code=f"{view.python_lines()}frame = lifelong.frames.history(trace, {column})",
        brief=True,
    )
    options = {"kinds": list(frames.KINDS.values()), "colours": charts.FORECAST_COLOURS, "columns": 2, "size": 200}
    view.over_edits(frame, text, key="history", quantity="change of log-odds", **options)
    blamed = frames.culprits(trace, column, view.row)
    if blamed.empty:
        return
    signed = partial(st.column_config.NumberColumn, format="%+.2f", width=65)
    st.markdown("**Edits so far that hurt it most, by the forecast**")
    grid(
        blamed.assign(change=blamed["subject"] + ": " + blamed["change"]).drop(columns="subject"),
        key="culprits",
        hide_index=True,
        height="content",
        columns={
            "edit": st.column_config.NumberColumn("no.", width=40),
            "change": st.column_config.TextColumn("edit", width=205),
            "p": signed("p", help="p(kₑ, kⱼ): share of the edit that lands on this fact’s subject"),
            "dlogodds_all_tokens": signed("Δ log-odds", help="forecast for this edit alone, over all tokens"),
        },
    )


def _facts(view: RunView) -> None:
    table = frames.facts(view.trace, view.result.facts.facts, [view.row]).drop(columns="edits")
    signed = partial(st.column_config.NumberColumn, format="%+.2f", width=82)
    shift = partial(st.column_config.NumberColumn, format="%.3g")
    grid(
        table,
        key="lifelong-facts",
        hide_index=True,
        height=420,
        columns={
            "kind": st.column_config.TextColumn("kind", width=78),
            "index": st.column_config.NumberColumn("no.", width=50),
            "subject": st.column_config.TextColumn("subject", width=140),
            "answer": st.column_config.TextColumn("right answer", width=95),
            "age": st.column_config.NumberColumn("age", width=55, help="edits made since; of edited facts"),
            "probability": st.column_config.NumberColumn("probability", format="%.3f", width=85),
            "rank": st.column_config.NumberColumn("rank", width=55, help="worst rank of any token of the answer"),
            "dlogodds_measured": signed("Δ measured", help="change of log-odds"),
            "dlogodds_subject_token": signed("Δ subject", help="forecast at the subject’s token"),
            "dlogodds_all_tokens": signed("Δ all tokens", help="forecast over all tokens"),
            "dlogodds_renewed": signed("Δ renewed", help="forecast with gradients renewed; not for edits"),
            "shift_measured": shift("shift, meas.", width=80),
            "shift_forecast": shift("‖Σ p·δ‖", width=70),
        },
    )
    edits = counted(view.step, "edit")
    text = FigureText(
        title=f"Every fact after {edits}",
        caption=f"After {edits}: unrelated facts with their own answer, edited ones with their new object. A click on "
        f"a column’s head sorts the table.",
        help=HELP,
        data=lambda: table,
        code=f"{view.python_lines()}table = lifelong.frames.facts(trace, result.facts.facts, [trace.at({view.step})])",
    )
    caption(view, text, key="lifelong-facts")


CHRONICLE = {
    "theory": ("Forecast and measured", _theory),
    "budget": ("The edit budget", budget_look),
    "ages": ("Old and new edits", _ages),
    "weights": ("Weights and words", _weights),
    "damage": ("Who is damaged", _damage),
    "facts": ("Every fact", _facts),
    "choosing": ("Order and layer", order_advice),
    "study": ("The study", study),
}
"""What can stand under a run: its name in links, on the screen, and what draws it."""
