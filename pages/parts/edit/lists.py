"""Under an edit: which layer it should be made in, which edits reach far, and what this session has performed."""

from __future__ import annotations

from functools import partial

import streamlit as st

from kis_core import charts
from kis_core.results import pairs
from kis_core.results.result import Result
from kis_core.simulator import Simulator, advice_frame
from kis_core.wording import counted
from pages.parts.edit import simulator as benches
from pages.parts.edit.choice import Chosen, python_lines
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure, say
from pages.parts.figures.grid import grid
from pages.parts.figures.pair_list import pair_list
from pages.parts.frame import state
from pages.parts.frame.page import View, split
from pages.parts.frame.text import plain
from pages.parts.jobs.results import remembered

SHOWN_EDITS = 10  # dangerous and safe ones, each


def layers(view: View, result: Result, bench: Simulator, chosen: Chosen) -> None:
    """The layer advisor."""
    if chosen.request is None:
        st.info("Choose a new object first.", icon=":material/edit:")
        return
    request = chosen.request
    if bench.reaches(request.fact, request.layer) and not bench.foretold(request):
        st.info("The advisor needs the forecast first.", icon=":material/hourglass_empty:")
        return
    if not benches.advised(bench, request):
        return
    found = list(bench.advise(request))
    told = advice_frame(found)
    unreachable = [str(one.layer) for one in found if not one.reaches]
    left, right = split(1.1, 1, key="split-layers")
    with right:
        grid(
            told[["layer", "probability", "paraphrase", "damage", "flips"]],
            key="advice-table",
            hide_index=True,
            columns={
                "layer": st.column_config.NumberColumn("layer", width=60),
                "probability": st.column_config.ProgressColumn(
                    "new object", format="percent", width=100, help="its probability"
                ),
                "paraphrase": st.column_config.ProgressColumn(
                    "paraphrases", format="percent", width=100, help="answered anew"
                ),
                "damage": st.column_config.NumberColumn("damage", format="%.3f", width=80, help="forecast, mean size"),
                "flips": st.column_config.NumberColumn("flips", width=60, help="other answers forecast to change"),
            },
        )
    with left:
        key = state.fresh("advice")
        figure(
            view,
            result,
            drawing(charts.advice, told, layer=view.layer),
            FigureText(
                title="Layer advisor",
                caption="The same edit in every layer: up is a surer edit, right is more damage forecast to the "
                "others. "
                "Click a layer to go there."
                + (f" Layer {', '.join(unreachable)} cannot reach the answer." if unreachable else ""),
                help="Probability of the new object on the edited sentence, measured; mean size of the others’ "
                "change of "
                "log-odds, forecast to first order over all tokens. Each layer gets a value δ of its own.",
                data=lambda: told,
                code=f"{python_lines(chosen, perform=False)}frame = "
                f"simulator.advice_frame(list(bench.advise(request)))",
            ),
            key=key,
            on_select=partial(_to_layer, key),
            selection_mode=charts.LAYER,
        )


def _to_layer(key: str) -> None:
    found = state.clicked(key, charts.LAYER)
    if found:
        state.forget("advice")
        state.choose("layer", int(found[0]["layer"]))


def reach(view: View, result: Result, pair: tuple[int, int]) -> None:
    """Facts whose edits reach far, and not far."""
    told = remembered(result, ("reach", view.layer), lambda: pairs.reach_of_edits(result, view.layer))
    columns = {
        "reach": st.column_config.NumberColumn("reach", format="%.2f", width=70, help="norm of row i of P"),
        "leaks": st.column_config.NumberColumn(
            "leaks", width=60, help=f"others that get {pairs.NOTABLE:.0%} of the edit or more"
        ),
    }  # fmt: skip
    left, right = split(1, 1, key="split-reach")
    for place, title, part in (
        (left, "Most dangerous", told.head(SHOWN_EDITS)),
        (right, "Safest", told.tail(SHOWN_EDITS).iloc[::-1]),
    ):
        with place:
            st.markdown(f"**{title} edits at layer {view.layer}**")
            pair_list(
                part.reset_index(drop=True)[["i", "j", "edited", "reach", "leaks", "suffers", "p"]], pair,
                key=f"reach-{title}", **columns,
            )  # fmt: skip
    say(
        view,
        result,
        FigureText(
            title="Dangerous and safe edits",
            caption="How far an edit of each fact reaches at this layer: the norm of its row of P, itself left out. "
            "Click a row to edit that fact.",
            help="Reach tells what lands at the layer, not what it does to answers: that depends on δ and on the "
            "layers "
            "above, which is what the forecast is for.",
            data=lambda: told,
            code=f"reach = pairs.reach_of_edits(result, {view.layer})",
            layer=view.layer,
        ),
        chart=None,
        key="reach",
    )


def history() -> None:
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
            f"strength "
            f"{entry['strength']:g} · {took} · {others}",
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
