"""Under an edit: which layer it should be made in, which edits reach far, and what this session has performed."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from kis_core import charts
from kis_core.results import pairs
from kis_core.simulator import advice_frame
from kis_core.wording import counted
from pages.parts.edit import simulator as benches
from pages.parts.edit.view import EditView
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, Pick, caption, figure
from pages.parts.figures.grid import grid
from pages.parts.figures.pair_list import pair_list
from pages.parts.frame import state
from pages.parts.frame.page import split
from pages.parts.frame.text import plain
from pages.parts.jobs.results import remembered

SHOWN_EDITS = 10  # dangerous and safe ones, each


def layers(view: EditView) -> None:
    """The layer advisor."""
    request = view.chosen.request
    if request is None:
        st.info("Choose a new object first.", icon=":material/edit:")
        return
    if view.bench.reaches(request.fact, request.layer) and not view.bench.has_forecast(request):
        st.info("The advisor needs the forecast first.", icon=":material/hourglass_empty:")
        return
    if not benches.advice_ready(view.bench, request):
        return
    advice = list(view.bench.advise(request))
    frame = advice_frame(advice)
    left, right = split(1.1, 1, key="split-layers")
    with right:
        _advice_table(frame)
    unreachable = ", ".join(str(layer.layer) for layer in advice if not layer.reaches)
    with left:
        figure(
            view,
            drawing(charts.advice, frame, layer=view.layer),
            FigureText(
                title="Layer advisor",
                caption="The same edit in every layer: up is a surer edit, right is more damage forecast to the "
                "others. Click a layer to go there."
                + (f" Layer {unreachable} cannot reach the answer." if unreachable else ""),
                help="Probability of the new object on the edited sentence, measured; mean size of the others’ change "
                "of log-odds, forecast to first order over all tokens. Each layer gets a value δ of its own.",
                data=lambda: frame,
                code=f"{view.python_lines(perform=False)}frame = simulator.advice_frame(list(bench.advise(request)))",
                all_layers=True,
            ),
            key=state.fresh("advice"),
            pick=Pick(charts.LAYER, _to_layer),
        )


def _advice_table(frame: pd.DataFrame) -> None:
    percent = partial(st.column_config.ProgressColumn, format="percent", width=100)
    grid(
        frame[["layer", "probability", "paraphrase", "damage", "flips"]],
        key="advice-table",
        hide_index=True,
        columns={
            "layer": st.column_config.NumberColumn("layer", width=60),
            "probability": percent("new object", help="its probability"),
            "paraphrase": percent("paraphrases", help="share that is answered with the new object"),
            "damage": st.column_config.NumberColumn("damage", format="%.3f", width=80, help="forecast, mean size"),
            "flips": st.column_config.NumberColumn("flips", width=60, help="other answers forecast to change"),
        },
    )


def _to_layer(clicked: dict[str, Any]) -> None:
    state.forget("advice")
    state.choose("layer", int(clicked["layer"]))


def reach(view: EditView) -> None:
    """The facts whose edits reach far, and those whose edits do not."""
    table = remembered(view.result, ("reach", view.layer), lambda: pairs.reach_of_edits(view.result, view.layer))
    others = f"others that get {pairs.NOTABLE:.0%} of the edit or more"
    columns: dict[str, Any] = {
        "reach": st.column_config.NumberColumn("reach", format="%.2f", width=70, help="norm of row i of P"),
        "leaks": st.column_config.NumberColumn("leaks", width=60, help=others),
    }
    shown = table[["i", "j", "edited", "reach", "leaks", "suffers", "p"]]
    most, least = shown.head(SHOWN_EDITS), shown.tail(SHOWN_EDITS).iloc[::-1].reset_index(drop=True)
    places = split(1, 1, key="split-reach")
    for place, title, part in zip(places, ("Most dangerous", "Safest"), (most, least), strict=True):
        with place:
            st.markdown(f"**{title} edits at layer {view.layer}**")
            pair_list(part, view.pair, key=f"reach-{title}", **columns)
    text = FigureText(
        title="Dangerous and safe edits",
        caption="How far an edit of each fact reaches at this layer: the norm of its row of P, itself left out. "
        "Click a row to edit that fact.",
        help="Reach says how much lands at the layer, not what it does to answers: that depends on δ and on the layers "
        "above, which is what the forecast is for.",
        data=lambda: table,
        code=f"reach = pairs.reach_of_edits(result, {view.layer})",
    )
    caption(view, text, key="reach")


def history(_: EditView) -> None:
    """What this session has performed, to go back to."""
    done = st.session_state.get("edits", [])
    if not done:
        st.info("Edits you perform are listed here, to go back to. Nobody else sees them.", icon=":material/history:")
        return
    st.caption("Performed in this session; nobody else sees them. None of them is in the model now.")
    for number, entry in reversed(list(enumerate(done))):
        took = "took" if entry["took"] else "did not take"
        others = f"{counted(entry['flips'], 'other answer')} changed"
        st.button(
            f"**{plain(entry['edit'])}** · {plain(entry['model'])}, layer {entry['layer']}, {entry['method']}, "
            f"strength {entry['strength']:g} · {took} · {others}",
            key=f"edit-{number}",
            type="tertiary",
            icon=":material/history:",
            on_click=_back_to,
            args=(entry["choices"],),
        )


def _back_to(choices: dict[str, object]) -> None:
    state.forget("spillover", "against")
    for name, value in choices.items():
        state.choose(name, value)
    for note in ("performed-edit", "target-of"):
        st.session_state.pop(note, None)
    state.choose("performed", "yes")
