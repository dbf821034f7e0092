"""Edit a fact: what the theory says will change, and, once the edit is made, what did (eq. 2, 11, 16-18)."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from kis_core import charts
from kis_core.errors import KisError
from kis_core.facts import Fact
from kis_core.results.result import Result
from kis_core.simulator import FORECASTS, EditOutcome, Forecast, Simulator, share_frame, span, spill_frame
from pages.parts.edit import below
from pages.parts.edit import simulator as benches
from pages.parts.edit.choice import Chosen, choices, history_entry, in_words, request_line, success
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure
from pages.parts.figures.inspector import has_pairs, picked_or_strongest
from pages.parts.frame import state
from pages.parts.frame.page import View, frame, panel, split
from pages.parts.frame.text import plain
from pages.parts.jobs.results import shown
from pages.parts.lifelong.choice import queue_of

HELP = (
    "**Paper, eq. 2 and 11.** An edit adds δuᵀ to the down-projection, so a token with key k is moved by its share u·k "
    "of δ. At the last subject token of fact j that share is P[e, j] for an edit of eq. 2; ROME’s mean key, r-ROME and "
    "C = I have a share of their own, which is what counts here. Damage is told in log-odds log(p / (1 − p)) of fact "
    "j’s own answer: a model that is sure of it hides damage in p.\n"
    "- **all tokens, first order**: Σₜ cₜ (gₜ·δ), over every token the edit resembles; cₜ is its share, gₜ the "
    "gradient of fact j’s log-odds.\n"
    "- **subject token, first order**: cⱼ (gⱼ·δ), the paper’s view.\n"
    "- **subject token, propagated**: cⱼ δ added there alone, and the model run on.\n"
    "- **shift at the layer**: cⱼ ‖δ‖, exact."
)
IN_FULL = {
    "all": "first order over all tokens",
    "subject": "first order at the subject’s token",
    "propagated": "its share of δ at the subject’s token, propagated",
    "shift": "shift at the layer",
}
QUANTITY = {"shift": "shift along δ"}
LOG_ODDS = "change of log-odds"
MOST_TOLD = 6  # flips named in a caption


def main() -> None:
    """The page."""
    view = frame("Edit a fact")
    st.subheader("Change one fact: who else changes with it?", anchor=False)
    drawn(view, shown(view))


@panel
def drawn(view: View, result: Result) -> None:
    """Choices, forecast and measurement; a click reruns only this."""
    if not has_pairs(result, view.layer):
        return
    pair = picked_or_strongest(result, view.layer)
    if pair is None:
        return
    bench = benches.simulator(result)
    left, right = split(1, 1.9)
    with left:
        chosen = choices(bench, view.layer, pair[0])
        _settle_performed(bench, chosen, view.layer)
        buttons = st.container()
        words = st.container()
    if chosen.request:
        with words:
            in_words(bench.facts[chosen.e], chosen.request.target)
    outcome: EditOutcome | None = None
    forecast: Forecast | None = None
    with right:
        forecast, outcome = _drawn(view, result, bench, chosen, pair[1])
    with buttons:
        _buttons(forecast is not None and forecast.flips is not None, outcome is not None)
        _queue(result, chosen)
    if outcome is not None and chosen.request:
        with words:
            success(outcome, chosen.request.target, bench.probes(chosen.e).protocol)
    below.below(view, result, bench, chosen, pair, forecast, outcome)


def _buttons(can: bool, done: bool) -> None:
    first, second = st.columns(2)
    first.button(
        "Perform the edit", type="primary", icon=":material/play_arrow:", on_click=state.choose,
        args=("performed", "yes"), disabled=done or not can, width="stretch",
        help="On the model in memory, for one measurement of all facts. Its weights are the same bits afterwards.",
    )  # fmt: skip
    second.button(
        "Undo", icon=":material/undo:", on_click=state.choose, args=("performed", "no"), disabled=not done,
        width="stretch",
    )  # fmt: skip


def _queue(result: Result, chosen: Chosen) -> None:
    """A way to pick this edit for a sequence of edits."""
    picked = queue_of(result)
    asked = chosen.request
    edit = (chosen.e, asked.target) if asked else None
    add, go = st.columns([1.2, 1], vertical_alignment="center")
    add.button(
        "In the queue" if edit in picked else "Add to the queue", icon=":material/playlist_add:", type="tertiary",
        disabled=edit is None or edit in picked or len(picked) >= state.MOST_PICKED, on_click=_enqueue, args=(edit,),
        help="Collect edits here, and make them one after another on the page Lifelong.",
    )  # fmt: skip
    if picked:
        go.page_link(
            "pages/lifelong.py",
            label=f"Lifelong: {len(picked)} picked",
            icon=":material/timeline:",
            query_params=state.link(),
        )


def _enqueue(edit: tuple[int, str]) -> None:
    state.choose("queue", (*(one for one in state.get("queue") if one[0] != edit[0]), edit))
    state.choose("draw", "hand")


def _drawn(
    view: View, result: Result, bench: Simulator, chosen: Chosen, j: int
) -> tuple[Forecast | None, EditOutcome | None]:
    """The figure on the right, as far as it can be had."""
    if not bench.reaches(chosen.e, view.layer):
        _unreachable(result, bench.facts[chosen.e], view.layer)
        _shares(view, result, chosen, j, reaches=False)
        return None, None
    if chosen.request is None:
        _shares(view, result, chosen, j)
        return None, None
    above = st.container()
    try:
        ready = benches.foretold(bench, chosen.request)
        known = ready or bench.known(chosen.request)
        forecast = bench.forecast(chosen.request, flips=ready) if known else None
    except KisError as error:  # C was deleted, and what it came from is gone
        st.error(plain(str(error)), icon=":material/error:")
        ready, forecast = False, None
    if forecast is None:
        with above:
            _shares(view, result, chosen, j)
        return None, None
    outcome = _outcome(result, bench, chosen) if ready else None
    with above:
        _spillover(view, result, bench, chosen, forecast, outcome, j)
        for warning in bench.warnings(forecast, outcome):
            st.warning(plain(warning), icon=":material/warning:")
    return forecast, outcome


def _unreachable(result: Result, fact: Fact, layer: int) -> None:
    others = [one for one in result.layers if one != layer]
    st.warning(
        f"Layer {layer} is the last one: what it writes at “{plain(fact.subject)}” is never read where the answer is "
        f"given, so no edit there can change it. Only the shift inside the layer is shown.",
        icon=":material/block:",
    )
    if others:
        st.button(
            f"Edit layer {others[0]} instead",
            icon=":material/layers:",
            on_click=state.choose,
            args=("layer", others[0]),
        )


def _settle_performed(bench: Simulator, chosen: Chosen, layer: int) -> None:
    """Take an edit as performed only as long as it is the one chosen; a link may ask for it to be performed."""
    asked = chosen.request
    if state.get("performed") == "yes":
        signature = asked and (bench.value_key(asked), bench.result.identity, chosen.strength)
        possible = asked is not None and bench.reaches(chosen.e, layer)
        if not possible or st.session_state.setdefault("performed-edit", signature) != signature:
            state.settle("performed", "no")
    if state.get("performed") == "no":
        st.session_state.pop("performed-edit", None)


def _outcome(result: Result, bench: Simulator, chosen: Chosen) -> EditOutcome | None:
    """What was measured, if the edit as it is chosen now was performed in this session, or the link says so."""
    if state.get("performed") == "no" or chosen.request is None:
        return None
    if not benches.performed(bench, chosen.request, chosen.strength):
        return None
    outcome = bench.perform(chosen.request, chosen.strength)
    done = st.session_state.setdefault("edits", [])
    entry = history_entry(result, chosen, outcome)
    if entry not in done:
        done.append(entry)
    return outcome


def _shares(view: View, result: Result, chosen: Chosen, j: int, *, reaches: bool = True) -> None:
    """Forecast 1 alone, as a share of ‖δ‖: what is known without the model."""
    e = chosen.e
    told = share_frame(result, view.layer, e)
    if told.empty:
        return
    low, high = min(0.0, float(told["forecast"].min())), float(told["forecast"].max())
    room = 0.08 * (high - low)
    key = state.fresh("spillover")
    figure(
        view,
        result,
        drawing(charts.spillover, told, quantity="share of the edit", span=(low - room, high + room), picked=j),
        FigureText(
            title="Share of the edit at the layer",
            caption="P[e, j]: the share of an edit of eq. 2 that lands on every other fact at this layer (eq. 11), "
            "exact and known without the model."
            + (" The edit chosen has a share of its own, known once its value is." if _own_share(chosen) else "")
            + (" What it does to answers is foretold once the model has been run." if reaches else ""),
            help=HELP,
            data=lambda: told,
            code=f"from kis_core import simulator\n\nframe = simulator.share_frame(result, {view.layer}, {e})",
            layer=view.layer,
        ),
        key=key,
        on_select=partial(_clicked, key, e),
        selection_mode=charts.FACT,
    )


def _spillover(
    view: View,
    result: Result,
    bench: Simulator,
    chosen: Chosen,
    forecast: Forecast,
    outcome: EditOutcome | None,
    j: int,
) -> None:
    options = [name for name in FORECASTS if name != "propagated" or outcome is not None]
    if chosen.by not in options:
        state.settle("by", options[0])
    by = st.segmented_control(
        "Forecast", options, format_func=FORECASTS.__getitem__, required=True, help=HELP, **state.widget("by")
    )
    told = spill_frame(bench, chosen.e, forecast, by, chosen.strength, outcome)
    if told.empty:
        return
    key = state.fresh("spillover")
    figure(
        view,
        result,
        drawing(
            charts.spillover,
            told,
            quantity=QUANTITY.get(by, LOG_ODDS),
            span=span(forecast, chosen.e, by, outcome),
            picked=j,
        ),
        FigureText(
            title=f"Spillover of an edit of {bench.facts[chosen.e].subject}",
            caption=_caption(told, bench.facts[chosen.e].subject, by, chosen, forecast, outcome),
            help=HELP,
            data=lambda: told,
            code=f"from kis_core import simulator\n\nbench = simulator.of(result, Store())\n{request_line(chosen)}\n"
            f"forecast = bench.forecast(request)\n"
            + (f"outcome = bench.perform(request, {chosen.strength:g})\n" if outcome else "outcome = None\n")
            + f"frame = simulator.spill_frame(bench, {chosen.e}, forecast, {by!r}, {chosen.strength:g}, outcome)",
            layer=view.layer,
        ),
        key=key,
        on_select=partial(_clicked, key, chosen.e),
        selection_mode=charts.FACT,
    )


def _caption(
    told: pd.DataFrame, subject: str, by: str, chosen: Chosen, forecast: Forecast, outcome: EditOutcome | None
) -> str:
    run, own_key = forecast.flips is not None, forecast.own_key
    coming = told[told["flips_foretold"] != ""]
    order = "from against δ to along it" if by == "shift" else "the one it hurts most first"
    kind = f"exact, eq. 11{_own_share(chosen, own_key=own_key)}" if by == "shift" else "approximate"
    parts = [
        f"What an edit of {plain(subject)} does to every other fact, {order}: {IN_FULL[by]}, at strength "
        f"{chosen.strength:g} ({kind})."
    ]
    if outcome is None:
        parts.append(
            f"Answers forecast to change: {_names(coming, 'flips_foretold')}." if len(coming) else
            "No answer is forecast to change." if run else
            "Which answers change is foretold once the model is loaded."
        )  # fmt: skip
    else:
        changed = told[told["flips"] != ""]
        foretold = int((changed["flips_foretold"] != "").sum())
        vain = f", {len(coming) - foretold} more foretold in vain" if len(coming) > foretold else ""
        parts.append(
            f"Diamonds are measured. Answers that changed: {_names(changed, 'flips')}; {foretold} of these "
            f"{len(changed)} foretold{vain}."
            if len(changed)
            else f"Diamonds are measured. No answer changed; {len(coming)} had been forecast to."
        )
    return " ".join(parts)


def _own_share(chosen: Chosen, *, own_key: bool = False) -> str:
    """Where an edit lands by another share than P[e, j]; `own_key` says that the mean key was given up."""
    asked = chosen.request
    if asked is None or (
        asked.method != "identity" and (own_key or (asked.method == "rome" and not asked.how.mean_key))
    ):
        return ""
    return "; this edit lands by a share of its own, not by P[e, j]"


def _names(frame: pd.DataFrame, column: str) -> str:
    named = [f"{plain(s)} → {plain(a)}" for s, a in zip(frame["subject"], frame[column], strict=True)]
    return ", ".join(named[:MOST_TOLD]) + (f" and {len(named) - MOST_TOLD} more" if len(named) > MOST_TOLD else "")


def _clicked(key: str, e: int) -> None:
    found = state.clicked(key, charts.FACT)
    if found:
        state.choose("look", "pair")
        state.choose("pair", (e, int(found[0]["fact"])))


main()
