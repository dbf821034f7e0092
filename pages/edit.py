"""Edit a fact: what the theory says will change, and, once the edit is performed, what did (eq. 2, 11, 16-18)."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import streamlit as st

from kis_core import charts
from kis_core.errors import KisError
from kis_core.results import caveats
from kis_core.simulator import FORECASTS, EditOutcome, Forecast, share_frame, span, spill_frame
from pages.parts.edit import below, kept
from pages.parts.edit import simulator as benches
from pages.parts.edit.choice import choices, history_entry, in_words
from pages.parts.edit.success import success
from pages.parts.edit.view import Chosen, EditView
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure
from pages.parts.figures.inspector import has_pairs
from pages.parts.frame import state, talk
from pages.parts.frame.glossary import explain
from pages.parts.frame.page import frame, panel, split
from pages.parts.frame.text import plain
from pages.parts.frame.views import ResultView
from pages.parts.frame.widgets import segments
from pages.parts.jobs.results import shown
from pages.parts.lifelong.choice import queue_of

HELP = (
    "**Paper, eq. 2 and 11.** An edit adds δuᵀ to the down-projection, so a token with key k is moved by its share u·k "
    "of δ. At the last subject token of fact j that share is P[e, j] for an edit of eq. 2; ROME’s mean key, r-ROME and "
    "C = I have a share of their own, which is what counts here. Damage is measured in log-odds log(p / (1 − p)) of "
    "fact j’s own answer: a model that is sure of it hides damage in p.\n"
    "- **all tokens, first order**: Σₜ cₜ (gₜ·δ), over every token the edit resembles; cₜ is its share, gₜ the "
    "gradient of fact j’s log-odds.\n"
    "- **subject token, first order**: cⱼ (gⱼ·δ), the paper’s view.\n"
    "- **subject token, propagated**: cⱼ δ added there alone, and the model run on.\n"
    "- **shift at the layer**: cⱼ ‖δ‖, exact.\n\n" + explain("spillover", "share", "log-odds")
)
IN_FULL = {
    "all": "first order over all tokens",
    "subject": "first order at the subject’s token",
    "propagated": "its share of δ at the subject’s token, propagated",
    "shift": "shift at the layer",
}
QUANTITY = {"shift": "shift along δ"}
LOG_ODDS = "change of log-odds"
MOST_NAMED = 6  # flips in a caption


def main() -> None:
    """The page."""
    view = frame("Edit a fact")
    st.subheader("Change one fact: who else changes with it?", anchor=False)
    drawn(shown(view))


@panel
def drawn(seen: ResultView) -> None:
    """Choices, forecast and measurement; a click reruns only this."""
    pair = (state.picked(len(seen.result.facts)) or kept.first_edited(seen)) if has_pairs(seen) else None
    if pair is None:
        return
    bench = benches.simulator(seen.result)
    left, right = split(1, 1.9, key="split-edit")
    with left:
        chosen = choices(seen, bench, pair[0])
        buttons, words = st.container(), st.container()
    view = EditView(seen.request, seen.layer, seen.known_only, seen.result, bench, chosen, pair[1])
    _settle_performed(view)
    if chosen.request:
        with words:
            in_words(bench.facts[chosen.e], chosen.request.target)
    with right:
        view = _drawn(view)
    with buttons:
        _buttons(view)
        _queue(view)
    if view.outcome is not None and chosen.request:
        with words:
            success(view.outcome, bench.probes(chosen.e))
    below.below(view)


def _buttons(view: EditView) -> None:
    ready, done = view.forecast is not None and view.forecast.flips is not None, view.outcome is not None
    first, second = st.container(key="act").columns(2)
    first.button(
        "Perform the edit",
        type="primary",
        icon=":material/play_arrow:",
        on_click=state.choose,
        args=("performed", "yes"),
        disabled=done or not ready,
        width="stretch",
        shortcut=talk.key("P"),
        help="On the model in memory, for one measurement of all facts. Its weights are the same bits afterwards.",
    )
    second.button(
        "Undo",
        icon=":material/undo:",
        on_click=state.choose,
        args=("performed", "no"),
        disabled=not done,
        width="stretch",
        shortcut=talk.key("U"),
    )


def _queue(view: EditView) -> None:
    """A way to pick this edit for a sequence of edits."""
    picked = queue_of(view.result)
    edit = (view.chosen.e, view.chosen.request.target) if view.chosen.request else None
    add, go = st.columns([1.2, 1], vertical_alignment="center")
    add.button(
        "In the queue" if edit in picked else "Add to the queue",
        icon=":material/playlist_add:",
        type="tertiary",
        disabled=edit is None or edit in picked or len(picked) >= state.MOST_PICKED,
        on_click=_enqueue,
        args=(edit,),
        help="Collect edits here, and make them one after another on the page Lifelong.",
    )
    if picked:
        label = f"Lifelong: {len(picked)} picked"
        go.page_link("pages/lifelong.py", label=label, icon=":material/timeline:", query_params=state.link())


def _enqueue(edit: tuple[int, str]) -> None:
    state.choose("queue", (*(queued for queued in state.get("queue") if queued[0] != edit[0]), edit))
    state.choose("draw", "hand")


def _drawn(view: EditView) -> EditView:
    """The figure on the right, as far as it can be had; returns the view with what is known by then."""
    request, bench = view.chosen.request, view.bench
    if said := caveats.of_edit(view.result, view.layer, view.chosen.e):  # known before anything is searched for
        st.warning(plain(" ".join(said)), icon=":material/warning:")
    if not bench.reaches(view.chosen.e, view.layer):
        _unreachable(view)
        _shares(view)
        return view
    if request is None:
        _shares(view)
        return view
    above = st.container()
    try:
        ready = benches.forecast_ready(bench, request)
        forecast = bench.forecast(request, flips=ready) if ready or bench.known(request) else None
    except KisError as error:  # C was deleted, and what it came from is gone
        st.error(plain(str(error)), icon=":material/error:")
        ready, forecast = False, None
    if forecast is None:
        with above:
            _shares(view)
        return view
    view = replace(view, forecast=forecast)
    if ready:
        view = replace(view, outcome=_outcome(view))
    with above:
        _spillover(view, forecast)
        for warning in bench.warnings(forecast, view.outcome):
            st.warning(plain(warning), icon=":material/warning:")
    return view


def _unreachable(view: EditView) -> None:
    st.warning(
        f"Layer {view.layer} is the last one: what it writes at “{plain(view.subject)}” is never read where the answer "
        f"is given, so no edit there can change it. Only the shift inside the layer is shown.",
        icon=":material/block:",
    )
    if others := [layer for layer in view.result.layers if layer != view.layer]:
        label, args = f"Edit layer {others[0]} instead", ("layer", others[0])
        st.button(label, icon=":material/layers:", on_click=state.choose, args=args)


def _settle_performed(view: EditView) -> None:
    """Take an edit as performed only as long as it is the one chosen; a link may want it to be performed."""
    request = view.chosen.request
    if state.get("performed") == "yes":
        signature = request and (view.bench.value_key(request), view.result.identity, view.chosen.strength)
        possible = request is not None and view.bench.reaches(view.chosen.e, view.layer)
        if not possible or st.session_state.setdefault("performed-edit", signature) != signature:
            state.settle("performed", "no")
    if state.get("performed") == "no":
        st.session_state.pop("performed-edit", None)


def _outcome(view: EditView) -> EditOutcome | None:
    """What was measured, if the edit as it is chosen now was performed in this session, or the link says so."""
    request, strength = view.chosen.request, view.chosen.strength
    if state.get("performed") == "no" or request is None:
        return None
    if not benches.outcome_ready(view.bench, request, strength):
        return None
    outcome = view.bench.perform(request, strength)
    done = st.session_state.setdefault("edits", [])
    entry = history_entry(view, outcome)
    if entry not in done:
        done.append(entry)
    return outcome


def _shares(view: EditView) -> None:
    """The first forecast alone, as a share of ‖δ‖: what is known without the model."""
    e = view.chosen.e
    frame = share_frame(view.result, view.layer, e)
    if frame.empty:
        return
    low, high = min(0.0, float(frame["forecast"].min())), float(frame["forecast"].max())
    room = 0.08 * (high - low)
    own = " The edit chosen has a share of its own, known once its value is." if _own_share(view.chosen) else ""
    reaches = view.bench.reaches(e, view.layer)
    more = " What it does to answers is forecast once the model has been run." if reaches else ""
    figure(
        view,
        drawing(charts.spillover, frame, quantity="share of the edit", span=(low - room, high + room), picked=view.j),
        FigureText(
            title="Share of the edit at the layer",
            caption="P[e, j]: the share of an edit of eq. 2 that lands on every other fact at this layer (eq. 11), "
            f"exact and known without the model.{own}{more}",
            help=HELP,
            data=lambda: frame,
            code=f"from kis_core import simulator\n\nframe = simulator.share_frame(result, {view.layer}, {e})",
        ),
        key=state.fresh("spillover"),
        pick=view.pick_fact("pair"),
    )


def _spillover(view: EditView, forecast: Forecast) -> None:
    chosen, outcome = view.chosen, view.outcome
    options = [name for name in FORECASTS if name != "propagated" or outcome is not None]
    if chosen.by not in options:
        state.settle("by", options[0])
    by = segments("by", "Forecast", {name: FORECASTS[name] for name in options}, help=HELP)
    frame = spill_frame(view.bench, chosen.e, forecast, by, chosen.strength, outcome)
    if frame.empty:
        return
    axis = span(forecast, chosen.e, by, outcome)
    code = view.python_lines(perform=outcome is not None) + ("" if outcome else "outcome = None\n")
    figure(
        view,
        drawing(charts.spillover, frame, quantity=QUANTITY.get(by, LOG_ODDS), span=axis, picked=view.j),
        FigureText(
            title=f"Spillover of an edit of {view.subject}",
            caption=_caption(view, forecast, by, frame),
            help=HELP,
            data=lambda: frame,
            code=code + view.frame_line(by, "outcome"),
        ),
        key=state.fresh("spillover"),
        pick=view.pick_fact("pair"),
    )


def _caption(view: EditView, forecast: Forecast, by: str, frame: pd.DataFrame) -> str:
    chosen, coming = view.chosen, frame[frame["flips_foretold"] != ""]
    order = "from against δ to along it" if by == "shift" else "the one it hurts most first"
    exact = f"exact, eq. 11{_own_share(chosen, own_key=forecast.own_key)}" if by == "shift" else "approximate"
    parts = [
        f"What an edit of {plain(view.subject)} does to every other fact, {order}: {IN_FULL[by]}, at strength "
        f"{chosen.strength:g} ({exact})."
    ]
    if view.outcome is not None:
        parts.append(f"Diamonds are measured. {_changes(frame, len(coming))}")
    elif len(coming):
        parts.append(f"Answers forecast to change: {_names(coming, 'flips_foretold')}.")
    else:
        known = forecast.flips is not None
        later = "Which answers change is forecast once the model is loaded."
        parts.append("No answer is forecast to change." if known else later)
    return " ".join(parts)


def _changes(frame: pd.DataFrame, forecast: int) -> str:
    """Which answers changed, and how many of these were forecast; `forecast` is the number of changes forecast."""
    changed = frame[frame["flips"] != ""]
    if changed.empty:
        return f"No answer changed; {forecast} had been forecast to."
    right = int((changed["flips_foretold"] != "").sum())
    wrong = f", {forecast - right} more forecast wrongly" if forecast > right else ""
    return f"Answers that changed: {_names(changed, 'flips')}; {right} of these {len(changed)} forecast{wrong}."


def _own_share(chosen: Chosen, *, own_key: bool = False) -> str:
    """Where an edit lands by another share than P[e, j]; `own_key` says that the mean key was given up."""
    request = chosen.request
    if request is None or (
        request.method != "identity" and (own_key or (request.method == "rome" and not request.how.mean_key))
    ):
        return ""
    return "; this edit lands by a share of its own, not by P[e, j]"


def _names(frame: pd.DataFrame, column: str) -> str:
    named = [f"{plain(s)} → {plain(a)}" for s, a in zip(frame["subject"], frame[column], strict=True)]
    return ", ".join(named[:MOST_NAMED]) + (f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else "")


main()
