"""The frame around every page: title, navigation, and the choice of model, layer and facts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kis_core.facts import BUILTIN_SETS
from kis_core.models import catalog
from kis_core.request import Request
from pages.parts import state
from pages.parts.text import count

PAGES = (
    ("app.py", "Overview", ":material/home:"),
    ("pages/superposition.py", "Superposition", ":material/grid_on:"),
)
ICON = Path(__file__).with_name("icon.png")
STYLE = """<style>
/* the tooltip of a chart would catch the click meant for the cell under it */
#vg-tooltip-element{pointer-events:none!important;font-size:15px}
[data-testid=stMainBlockContainer]{padding:2.4rem 2.6rem 2rem}
/* two columns need room: on a small screen the second one goes below the first */
@media (max-width:1180px){
  .st-key-split>[data-testid=stLayoutWrapper]>[data-testid=stHorizontalBlock]{flex-wrap:wrap}
  .st-key-split>[data-testid=stLayoutWrapper]>[data-testid=stHorizontalBlock]>[data-testid=stColumn]{min-width:100%}
}
</style>"""


@dataclass(frozen=True, slots=True)
class View:
    """What is being looked at."""

    request: Request
    layer: int


def split(left: float, right: float) -> tuple[DeltaGenerator, DeltaGenerator]:
    """Two columns of these relative widths; one above the other on a small screen."""
    first, second = st.container(key="split").columns([left, right], gap="medium")
    return first, second


def frame(title: str) -> View:
    """Draw what all pages share and return what is chosen. Every page calls this first."""
    st.set_page_config(page_title=f"{title} · Knowledge in superposition", page_icon=str(ICON), layout="wide")
    st.html(STYLE)
    notes = state.open_link()
    with st.sidebar:
        for path, name, icon in PAGES:
            st.page_link(path, label=name, icon=icon)
        st.divider()
        view = _choices()
    state.write_link()
    if notes:
        asked = "\n".join(f"- {note}" for note in notes)
        st.info(
            f"This link asks for something that is not here; the default is shown instead.\n{asked}",
            icon=":material/link_off:",
        )
    return view


def _choices() -> View:
    models = {entry.name: entry for entry in catalog.available()}
    model = st.selectbox(
        "Model",
        list(models),
        help="The demo family was trained by this project on its own facts and works offline. Models of the paper "
        "appear here once their weights are on this machine.",
        **state.widget("model"),
    )
    entry = models[model]
    if state.get("layer") >= entry.layers:
        state.choose("layer", entry.layers - 1)  # the model chosen before had more layers
    layer = st.slider(
        "Layer",
        0,
        entry.layers - 1,
        help="Which MLP the keys come from. Layer 0 is the first.",
        **state.widget("layer"),
    )
    facts = st.selectbox(
        "Facts",
        list(BUILTIN_SETS),
        help="\n".join(f"- **{name}**: {text}" for name, text in BUILTIN_SETS.items()),
        **state.widget("facts"),
    )
    st.caption(
        f"{entry.family} · {count(entry.parameters)} parameters · {entry.layers} layers · "
        f"d = {entry.width}, dₘ = {entry.mlp_width}"
    )
    return View(Request(model=model, facts=facts), layer)
