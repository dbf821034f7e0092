"""The frame around every page: title, navigation, and what is being looked at (model, layer, facts, pair).

What is chosen lives in the address bar, so that a link reopens the same view on a fresh server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import streamlit as st

from kis_core.facts import BUILTIN_SETS
from kis_core.models import catalog
from kis_core.pipeline import Request
from pages.parts.text import count

PAGES = (
    ("app.py", "Overview", ":material/home:"),
    ("pages/superposition.py", "Superposition", ":material/grid_on:"),
)
PAIR = re.compile(r"(\d{1,6})-(\d{1,6})")

STYLE = """<style>
/* the tooltip of a chart would catch the click meant for the cell under it */
#vg-tooltip-element{pointer-events:none!important;font-size:15px}
[data-testid=stMainBlockContainer]{padding:2.4rem 2.6rem 2rem}
[data-testid=stSidebarUserContent]{padding-bottom:1rem}
</style>"""


@dataclass(frozen=True, slots=True)
class View:
    """What the sidebar says is being looked at."""

    request: Request
    layer: int
    layers: int

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.request.model


def frame(title: str) -> View:
    """Draw what all pages share and return what is chosen. Every page calls this first."""
    st.set_page_config(page_title=f"{title} · Knowledge in superposition", page_icon=":material/blur_on:", layout="wide")
    st.html(STYLE)
    notes = _invalid_in_link()
    with st.sidebar:
        for path, name, icon in PAGES:
            st.page_link(path, label=name, icon=icon)
        st.divider()
        view = _choices()
    for note in notes:
        st.info(note, icon=":material/link_off:")
    _restore_pair()
    return view


def _models() -> dict[str, catalog.Entry]:
    return {entry.name: entry for entry in catalog.available()}


def _choices() -> View:
    models = _models()
    names = list(models)
    model = st.selectbox(
        "Model",
        names,
        index=names.index(catalog.DEFAULT) if catalog.DEFAULT in names else 0,
        key="model",
        bind="query-params",
        help="The demo family was trained by this project on its own facts and works offline. Models of the paper appear "
        "here once their weights are on this machine.",
    )
    entry = models[model]
    if st.session_state.get("layer", 0) >= entry.layers:
        st.session_state["layer"] = entry.layers - 1  # another model was chosen, with fewer layers
    layer = st.slider(
        "Layer",
        0,
        entry.layers - 1,
        value=0,
        key="layer",
        bind="query-params",
        help="Which MLP the keys come from. Layer 0 is the first.",
    )
    facts = st.selectbox("Facts", list(BUILTIN_SETS), key="facts", bind="query-params", help=_facts_help())
    st.caption(
        f"{entry.family} · {count(entry.parameters)} parameters · {entry.layers} layers · "
        f"d = {entry.width}, d_m = {entry.mlp_width}"
    )
    return View(Request(model=model, facts=facts), layer, entry.layers)


def _facts_help() -> str:
    return "\n".join(f"- **{name}**: {text}" for name, text in BUILTIN_SETS.items())


def _invalid_in_link() -> list[str]:
    """What the link asks for and there is not; said once, when it is opened."""
    if "frame" in st.session_state:
        return []
    st.session_state["frame"] = True
    models = _models()
    notes = []
    wanted = st.query_params.get("model")
    if wanted and wanted not in models:
        notes.append(
            f"This link asks for the model “{wanted[:60]}”, which is not on this machine; the default is shown instead. "
            "Known models: `python -m kis_core models`."
        )
    layer = st.query_params.get("layer")
    entry = models.get(wanted or catalog.DEFAULT)
    if layer and entry and not (layer.isdigit() and int(layer) < entry.layers):
        notes.append(f"This link asks for layer “{layer[:20]}”; this model has layers 0 to {entry.layers - 1}.")
    facts = st.query_params.get("facts")
    if facts and facts not in BUILTIN_SETS:
        notes.append(f"This link asks for the fact set “{facts[:60]}”, which is not here; the built-in one is shown.")
    pair = st.query_params.get("pair")
    if pair and not PAIR.fullmatch(pair):
        notes.append(f"This link asks for the pair “{pair[:20]}”; a pair is written like 0-1.")
    return notes


def _restore_pair() -> None:
    """The picked pair survives page switches in the session, and reloads in the link."""
    found = PAIR.fullmatch(st.query_params.get("pair", ""))
    if "pair" not in st.session_state:
        st.session_state["pair"] = (int(found[1]), int(found[2])) if found else None
    _write_pair()


def _write_pair() -> None:
    pair = st.session_state["pair"]
    if pair is None:
        st.query_params.pop("pair", None)
    elif st.query_params.get("pair") != f"{pair[0]}-{pair[1]}":
        st.query_params["pair"] = f"{pair[0]}-{pair[1]}"


def picked(facts: int) -> tuple[int, int] | None:
    """The picked pair, if it is one of this many facts."""
    pair: tuple[int, int] | None = st.session_state.get("pair")
    return pair if pair and max(pair) < facts else None


def pick(pair: tuple[int, int] | None) -> None:
    """Pick a pair, for all pages."""
    st.session_state["pair"] = pair
    _write_pair()
