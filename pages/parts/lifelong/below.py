"""What stands under a run: theory against measurement, ages, weights, who is damaged, every fact, and choices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import streamlit as st

from kis_core import charts
from kis_core.lifelong import EditTrace, frames, summary
from kis_core.results.result import Result
from kis_core.wording import counted, number
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure, say
from pages.parts.figures.grid import grid
from pages.parts.frame import state
from pages.parts.frame.page import View, split
from pages.parts.frame.text import plain, sentence
from pages.parts.lifelong import order_advice, study
from pages.parts.lifelong.choice import RunPlan
from pages.parts.lifelong.python_lines import HELP, python_lines
from pages.parts.lifelong.runs import Run

CHRONICLE = {
    "theory": "Was it foretold?",
    "ages": "Old and new edits",
    "weights": "Weights and words",
    "damage": "Who is damaged",
    "facts": "Every fact",
    "choosing": "Order and layer",
    "study": "The study",
}
SHADES = frames.KINDS


def below(view: View, result: Result, planned: RunPlan, films: dict[Run, EditTrace], step: int) -> None:
    """Draw the chosen one of `CHRONICLE`."""
    run = planned.main
    film = films[run]
    look = st.segmented_control(
        "Below", list(CHRONICLE), format_func=CHRONICLE.__getitem__, required=True, label_visibility="collapsed",
        **state.widget("chronicle"),
    )  # fmt: skip
    drawers: dict[str, Callable[[], None]] = {
        "theory": lambda: _theory(view, result, run, film, step),
        "ages": lambda: _ages(view, result, run, film, step),
        "weights": lambda: _weights(view, result, run, film, step),
        "damage": lambda: _damage(view, result, run, film, step),
        "facts": lambda: _facts(view, result, run, film, step),
        "choosing": lambda: order_advice.choosing(view, result, planned),
        "study": lambda: study.study(view, result),
    }
    drawers[look]()


def _theory(view: View, result: Result, run: Run, film: EditTrace, step: int) -> None:
    """At the layer exact, downstream not: both over the edits."""
    left, right = split(1, 1, key="split-theory")
    row = film.at(step)
    frame = frames.theory(film)
    code = python_lines(run)
    with left:
        figure(
            view,
            result,
            drawing(charts.over_edits,
                frame, step=step, most=run.asked.edits, quantity="mean change of log-odds",
                kinds=list(frames.KINDS.values()), colours=charts.THEORY, columns=2,
            ),
            FigureText(
                title="Loss of log-odds, foretold and measured",
                caption=_beyond(film, row),
                help=HELP,
                data=lambda: frame,
                code=f"{code}frame = lifelong.frames.theory(film)",
                layer=run.asked.layers[0],
                brief=True,
            ),
            key="theory",
        )  # fmt: skip
    with right:
        shifts = frames.shifts(film)
        figure(
            view,
            result,
            drawing(charts.over_edits,
                shifts, step=step, most=run.asked.edits, quantity=f"shift at layer {run.asked.layers[0]}",
                kinds=list(frames.SHIFTS.values()), colours=charts.SHIFTED,
                dotted=[name for column, name in frames.SHIFTS.items() if column.endswith("measured")],
            ),
            FigureText(
                title="Interference at the layer, foretold and measured",
                caption=_exact(run, film, row),
                help=HELP,
                data=lambda: shifts,
                code=f"{code}frame = lifelong.frames.shifts(film)",
                layer=run.asked.layers[0],
                brief=True,
            ),
            key="shifts",
        )  # fmt: skip
    _ranks(film, row, step)


def _beyond(film: EditTrace, row: int) -> str:
    """What the first order leaves out, in words and numbers."""
    told = (
        "Mean over the unrelated facts. Forecasts add up what each edit does to first order, from the gradients of the "
        "unedited model, or from gradients renewed at every measurement: approximate."
    )
    measured, foretold = frames.mean_changes(film, row)
    if frames.falls_short(film, row):
        told += (
            f" After {counted(int(film.steps[row]), 'edit')} {number(foretold, '+.1f')} was foretold and "
            f"{number(measured, '+.1f')} measured: to first order edits help about as many facts as they "
            f"hurt, and most of the loss is beyond it."
        )
    return told


def _exact(run: Run, film: EditTrace, row: int) -> str:
    worst = summary.exactness(film.until(int(film.steps[row])))
    errors = [f"{error:.0e}" for error in worst if np.isfinite(error)]
    told = f" Largest relative difference so far {max(errors, key=float)}." if errors else ""
    where = "" if len(run.asked.layers) == 1 else ", the first one edited; in the later ones keys move"
    return (
        f"Σ p·δ against the change measured at layer {run.asked.layers[0]}{where}: root mean square over facts, Δo of "
        f"unrelated ones (eq. 11), Δe of edited ones since their edit (eq. 15). Exact: the lines lie on each "
        f"other.{told}"
    )


def _ranks(film: EditTrace, row: int, step: int) -> None:
    """How well it was foretold which facts lose most."""
    if not row:
        st.caption("Step on to see how well it was foretold which facts lose most.")
        return
    names = {
        "shift": "‖Σ p·δ‖ at the layer",
        "subject": "first order, subject token",
        "all": "first order, all tokens",
        "renewed": "the same, gradients renewed at every measurement",
    }
    found = summary.forecasts(film, row)
    cells = " · ".join(f"{names[name]} **{number(rank, '.2f')}**" for name, (rank, _) in found.items())
    st.markdown(
        f"Which unrelated facts lose most after {counted(step, 'edit')}, Spearman correlation with the "
        f"measured loss: {cells}"
    )


def _ages(view: View, result: Result, run: Run, film: EditTrace, step: int) -> None:
    frame = frames.by_age(film)
    if frame.empty:
        st.info("No edit was made yet; step on.", icon=":material/hourglass_empty:")
        return
    kinds = [name for name in (frames.age_label(*age) for age in frames.AGES) if (frame["age"] == name).any()]
    figure(
        view,
        result,
        drawing(charts.over_edits,
            frame.rename(columns={"age": "kind", "share": "change"}), step=step, most=run.asked.edits,
            quantity="edits still in force", kinds=kinds, colours=charts.AGE_COLOURS, span=(0, 1.02), percent=True,
        ),
        FigureText(
            title="Edits still in force, by age",
            caption="Of the edits made so long ago, the share whose new object is still the model’s first choice. "
            "Eq. 15: "
            "the older an edit, the more edits after it have moved what it wrote.",
            help=HELP,
            data=lambda: frame,
            code=f"{python_lines(run)}frame = lifelong.frames.by_age(film)",
            layer=run.asked.layers[0],
        ),
        key="ages",
    )  # fmt: skip


def _weights(view: View, result: Result, run: Run, film: EditTrace, step: int) -> None:
    frame = frames.measures(film)
    code = f"{python_lines(run)}frame = lifelong.frames.measures(film)"
    left, middle, right = st.container(key="split-weights").columns(3, gap="medium")
    figures = (
        (left, "drift", "‖Wₙ − W₀‖ / ‖W₀‖", False, "How far the edited matrix went, as a share of its own size."),
        (middle, "condition", "condition number", True, "Largest over smallest singular value of Wₙ."),
        (right, "perplexity", "perplexity", True, f"Perplexity on {film.text}; edits should not raise it."),
    )
    for column, kind, quantity, log, caption in figures:
        with column:
            own = frame[frame["kind"] == kind]
            figure(
                view,
                result,
                drawing(charts.over_edits,
                    own, step=step, most=run.asked.edits, quantity=quantity, kinds=[kind], log=log, size=200
                ),
                FigureText(
                    title=quantity, caption=caption, help=HELP, data=lambda own=own: own,
                    code=f"{code}\nframe = frame[frame['kind'] == {kind!r}]", layer=run.asked.layers[0], brief=True,
                ),
                key=f"weights-{kind}",
            )  # fmt: skip
    row = film.at(step)
    st.markdown(f"**What the model goes on to say after {counted(step, 'edit')}**, always its first choice:")
    for at, (prompt, said) in enumerate(film.words[row]):
        role = ("the newest edit" if row else "the first edit to come", "the first edit", "an unrelated fact")[at]
        first = f" · at first: {plain(film.words[0][-1][1])}" if at == 2 and row else ""
        st.markdown(f"{role}: {plain(prompt)} **{plain(said)}**{first}")


def _damage(view: View, result: Result, run: Run, film: EditTrace, step: int) -> None:
    shade = st.segmented_control(
        "Shade", list(SHADES), format_func=SHADES.__getitem__, required=True, label_visibility="collapsed",
        **state.widget("shade"),
    )  # fmt: skip
    frame = frames.damage(film, result.facts.facts, shade)
    watched = state.get("watched")
    if watched not in film.unrelated:
        watched = int(film.unrelated[frames.falling_order(film)[0]]) if len(film.unrelated) else None
    if watched is None:
        st.info("Every fact of the set is edited: there is no unrelated one to look at.", icon=":material/info:")
        return
    left, right = split(1.35, 1, key="split-damage")
    key = state.fresh("damage")
    with left:
        figure(
            view,
            result,
            drawing(charts.damage, frame, step=step, picked=watched),
            FigureText(
                title=f"Who is damaged, {SHADES[shade]}",
                caption="Each row an unrelated fact, each column a moment; a dot: its answer is wrong then. "
                "Colours are clamped as the legend says. Click a fact.",
                help=HELP,
                data=lambda: frame,
                code=f"{python_lines(run)}frame = lifelong.frames.damage(film, result.facts.facts, {shade!r})",
                layer=run.asked.layers[0],
            ),
            key=key,
            on_select=partial(_clicked, key),
            selection_mode=charts.FACT,
        )
    with right:
        _history(view, result, run, film, step, watched)


def _clicked(key: str) -> None:
    found = state.clicked(key, charts.FACT)
    if found:
        state.choose("watched", int(found[0]["fact"]))


def _history(view: View, result: Result, run: Run, film: EditTrace, step: int, fact: int) -> None:
    """One fact through the run, and which edits the theory blames."""
    column = int(np.flatnonzero(film.unrelated == fact)[0])
    st.html(f"<div style='font-size:1.15rem'>{sentence(result.facts.facts[fact])}</div>")
    lost = np.flatnonzero(film.rank[:, column] != 1)
    first = counted(int(film.steps[lost[0]]), "edit") if len(lost) else ""
    st.caption(f"Answered wrong for the first time after {first}." if first else "Never wrong.")
    frame = frames.history(film, column)
    figure(
        view,
        result,
        drawing(charts.over_edits,
            frame, step=step, most=run.asked.edits, quantity="change of log-odds", kinds=list(frames.KINDS.values()),
            colours=charts.THEORY, columns=2, size=200,
        ),
        FigureText(
            title=f"What became of {result.facts.facts[fact].subject}",
            caption="Its log-odds, measured and foretold.",
            help=HELP,
            data=lambda: frame,
            code=f"{python_lines(run)}frame = lifelong.frames.history(film, {column})",
            layer=run.asked.layers[0],
            brief=True,
        ),
        key="history",
    )  # fmt: skip
    blamed = frames.culprits(film, column, film.at(step))
    if blamed.empty:
        return
    shown = blamed.assign(change=blamed["subject"] + ": " + blamed["change"]).drop(columns="subject")
    signed = partial(st.column_config.NumberColumn, format="%+.2f", width=65)
    st.markdown("**Edits so far that the theory blames most**")
    grid(
        shown, key="culprits", hide_index=True, height="content",
        columns={
            "edit": st.column_config.NumberColumn("no.", width=40),
            "change": st.column_config.TextColumn("edit", width=205),
            "p": signed("p", help="p(kₑ, kⱼ): share of the edit that lands on this fact’s subject"),
            "dlogodds_all_tokens": signed("Δ log-odds", help="forecast for this edit alone, over all tokens"),
        },
    )  # fmt: skip


def _facts(view: View, result: Result, run: Run, film: EditTrace, step: int) -> None:
    row = film.at(step)
    table = frames.facts(film, result.facts.facts, [row]).drop(columns="edits")
    signed = partial(st.column_config.NumberColumn, format="%+.2f", width=82)
    key = "lifelong-facts"
    grid(
        table, key=key, hide_index=True, height=420,
        columns={
            "kind": st.column_config.TextColumn("kind", width=78),
            "index": st.column_config.NumberColumn("no.", width=50),
            "subject": st.column_config.TextColumn("subject", width=140),
            "answer": st.column_config.TextColumn("right answer", width=95),
            "age": st.column_config.NumberColumn("age", width=55, help="edits made since; of edited facts"),
            "probability": st.column_config.NumberColumn("probability", format="%.3f", width=85),
            "rank": st.column_config.NumberColumn("rank", width=55, help="worst rank of any token of the answer"),
            "dlogodds_measured": signed("Δ measured", help="change of log-odds"),
            "dlogodds_subject_token": signed("Δ subject", help="foretold at the subject’s token"),
            "dlogodds_all_tokens": signed("Δ all tokens", help="foretold over all tokens"),
            "dlogodds_renewed": signed("Δ renewed", help="foretold with gradients renewed; not for edits"),
            "shift_measured": st.column_config.NumberColumn("shift, meas.", format="%.3g", width=80),
            "shift_forecast": st.column_config.NumberColumn("‖Σ p·δ‖", format="%.3g", width=70),
        },
    )  # fmt: skip
    say(
        view,
        result,
        FigureText(
            title=f"Every fact after {counted(step, 'edit')}",
            caption=f"After {counted(step, 'edit')}: unrelated facts with their own answer, edited ones with their new "
            f"object. A column’s head sorts.",
            help=HELP,
            data=lambda: table,
            code=f"{python_lines(run)}table = lifelong.frames.facts(film, result.facts.facts, [film.at({step})])",
            layer=run.asked.layers[0],
        ),
        chart=None,
        key="lifelong-facts",
    )
