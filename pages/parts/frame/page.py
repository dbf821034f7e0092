"""The frame around every page: title, navigation, and the choice of model, layer and facts."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any, ParamSpec

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kis_core.facts import BUILTIN_SETS, saved
from kis_core.models import catalog
from kis_core.read_only import read_only
from kis_core.request import Request, default_c_settings
from kis_core.store.store import StoreError, default_root
from pages.parts.frame import memory, public, state, talk
from pages.parts.frame.glossary import explain
from pages.parts.frame.text import count, named, plain, text_behind
from pages.parts.frame.views import View
from pages.parts.jobs.background import store
from pages.parts.jobs.running import tray

P = ParamSpec("P")
PAGES = {
    "See": (
        ("app.py", "Overview", ":material/home:"),
        ("pages/story.py", "Story", ":material/auto_stories:"),
        ("pages/superposition.py", "Superposition", ":material/grid_on:"),
        ("pages/network.py", "Network", ":material/hub:"),
        ("pages/top_pairs.py", "Top pairs", ":material/format_list_numbered:"),
    ),
    "Edit": (
        ("pages/edit.py", "Edit a fact", ":material/edit:"),
        ("pages/lifelong.py", "Lifelong", ":material/timeline:"),
    ),
    "Measure": (
        ("pages/distributions.py", "Distributions", ":material/ssid_chart:"),
        ("pages/angles.py", "Angles", ":material/square_foot:"),
        ("pages/convergence.py", "Convergence", ":material/trending_flat:"),
    ),
    "Compare": (
        ("pages/scaling.py", "Layers and scaling", ":material/stacked_line_chart:"),
        ("pages/compare.py", "Compare", ":material/compare:"),
    ),
    "Bring": (
        ("pages/models.py", "Models", ":material/model_training:"),
        ("pages/your_facts.py", "Your facts", ":material/upload_file:"),
        ("pages/many_facts.py", "Many facts", ":material/blur_on:"),
        ("pages/library.py", "Library", ":material/inventory_2:"),
    ),
}
ICON = "data:image/png;base64," + b64encode(Path(__file__).with_name("icon.png").read_bytes()).decode()
"""In the page itself: a file of its own is gone for a moment whenever a page is drawn anew."""
STYLE = """<style>
/* the tooltip of a chart would catch the click meant for the cell under it */
#vg-tooltip-element{pointer-events:none!important;font-size:15px}
[data-testid=stMainBlockContainer]{padding:2.4rem 2.6rem 2rem}
[data-testid=stSidebarUserContent] [data-testid=stPageLink] a{padding-top:.1rem;padding-bottom:.1rem}
/* the grid's own download does not guard against formulas in cells; ours, beside each table, does */
[data-testid=stElementToolbarButtonContainer]:has([aria-label="Download as CSV"]){display:none}
/* a chart's toolbar would lie on the button above the chart; at its own top it has room */
[data-testid=stFullScreenFrame]:has([data-testid=stVegaLiteChart]) [data-testid=stElementToolbar]{top:0!important}
/* its table would be that of the first layer, often labels: every figure has its numbers as CSV */
[data-testid=stElementToolbarButton]:has([aria-label^="Show data"]){display:none}
/* captions say what a figure shows: they are to be read, in either theme */
[data-testid=stCaptionContainer]{opacity:.8!important}
/* two columns need room: on a small screen the second one goes below the first */
@media (max-width:1180px){
  [class*=st-key-split]>[data-testid=stLayoutWrapper]>[data-testid=stHorizontalBlock]{flex-wrap:wrap}
  [class*=st-key-split]>[data-testid=stLayoutWrapper]>[data-testid=stHorizontalBlock]>[data-testid=stColumn]{
    min-width:100%}
}
</style>"""


def split(left: float, right: float, key: str = "split") -> tuple[DeltaGenerator, DeltaGenerator]:
    """Two columns of these relative widths; one above the other on a small screen. Keys begin with `split`."""
    first, second = st.container(key=key).columns([left, right], gap="medium")
    return first, second


def frame(title: str) -> View:
    """Draw what all pages share and return what is chosen. Every page calls this first."""
    memory.settle()
    st.set_page_config(page_title=f"{title} · Knowledge in superposition", page_icon=ICON, layout="wide")
    st.html(STYLE)
    public.take_turn()
    notes = state.open_link()
    titles = {path: name for links in PAGES.values() for path, name, _ in links}
    page = next(path for path, name in titles.items() if name == title)
    if talk.on():
        st.html(talk.STYLE)
        talk.remote(page, list(titles))
    with st.sidebar:
        public.banner()
        navigation = st.container(gap="xxsmall")
        st.divider()
        view = _choices()
        talk.desk(page, titles)
        tray()
    with navigation:  # after the choices, for its links carry them: a page opened by one is one step back, not two
        link = state.link()
        for links in PAGES.values():
            for path, name, icon in links:
                st.page_link(path, label=name, icon=icon, query_params=link)
    state.write_link()
    tell_missing(notes)
    _look_at_the_store()
    return view


def tell_missing(notes: Sequence[str]) -> None:
    """Say which choices of a link cannot be had, if any."""
    if notes:
        missing = "\n".join(f"- {note}" for note in notes)
        st.info(
            f"This link asks for something that is not here; the default is shown instead.\n{missing}",
            icon=":material/link_off:",
        )


def panel(draw: Callable[P, None], *, run_every: float | None = None) -> Callable[P, None]:
    """The part of a page that a click on it draws anew, alone; what the click chose goes into the link."""

    @st.fragment(run_every=run_every)
    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> None:
        public.take_turn()
        state.write_link()  # at once: the rest may take a while, or lead to another page
        draw(*args, **kwargs)
        state.write_link()  # what had to be settled meanwhile

    return drawn


def _look_at_the_store() -> None:
    """Say once, on whatever page, what is wrong with the cache folder; without one the page ends here."""
    try:
        why = store().unwritable
    except StoreError as error:
        st.error(plain(str(error)), icon=":material/error:")
        st.stop()
    if why and not read_only():
        st.warning(
            f"The cache folder {plain(str(default_root()))} cannot be written to ({plain(why)}). What is stored there "
            f"opens; what is computed now is not kept.",
            icon=":material/lock:",
        )


def request_for(model: str) -> Request:
    """The request for a model on the chosen facts; with the chosen C, if it is the chosen model."""
    facts = state.get("facts")
    source = facts if facts in BUILTIN_SETS else str(saved.path_of(default_root(), facts))
    behind = state.get("behind") if model == state.get("model") else None
    return Request(model=model, facts=source, **behind or _default_settings(model, source))


def _default_settings(model: str, facts: str) -> dict[str, Any]:
    """How C of a model is taken where nobody chose: the demo family's usual way, or from the most text there is."""
    usually = default_c_settings(model)
    return state.available_c_settings(model, facts)[0] if usually else usually


def _choices() -> View:
    models = state.models()
    for name, default in (("model", catalog.DEFAULT), ("other", None)):
        if state.get(name) not in (default, *models):
            state.choose(name, default)  # its results were deleted, or its unfinished request was discarded
    model = st.selectbox(
        "Model",
        list(models),
        format_func=partial(named, among=models),
        help="The demo family was trained by this project on its own facts and works offline. Others are fetched and "
        "computed on the page **Models**, and appear here.",
        **state.widget("model"),
    )
    entry = models[model]
    if state.get("layer") >= entry.layers:
        state.settle("layer", entry.layers - 1)  # the model chosen before had more layers
    layer = _layer(entry.layers)
    sets = state.fact_sets()
    if state.get("facts") not in sets:
        state.settle("facts", sets[0])  # it was deleted
    titles = saved.titles(default_root())
    st.selectbox(
        "Facts",
        sets,
        format_func=lambda name: titles.get(name, name),
        help="\n".join(f"- **{name}**: {text}" for name, text in BUILTIN_SETS.items())
        + "\n- sets of your own: see the page **Your facts**",
        **state.widget("facts"),
    )
    _text(model)
    known_only = st.toggle(
        "Only facts the model answers",
        help="As the paper does: keep the facts whose answer is the model’s first choice, token by token.",
        **state.toggle("keep", on="known"),
    )
    st.caption(
        f"{entry.family} · {count(entry.parameters)} parameters · {entry.layers} layers · "
        f"d = {entry.width}, dₘ = {entry.mlp_width}"
    )
    return View(request_for(model), layer, known_only)


def _text(model: str) -> None:
    """The text behind C: a choice where there are several, and always in the link of a model of the Hub."""
    if not default_c_settings(model) and state.get("behind") is None:
        return
    chosen = request_for(model).c_settings
    settings = state.available_c_settings(model, request_for(model).facts)
    if state.get("behind") is None:
        state.settle("behind", chosen)
    if chosen not in settings:
        settings = [chosen, *settings]
    if len(settings) > 1:
        st.selectbox(
            "Text behind C",
            range(len(settings)),
            format_func=lambda at: text_behind(settings[at]),
            help=explain("second moment C"),
            **state.widget("behind", settings.__getitem__, write=settings.index(chosen)),
        )
    else:
        st.caption(f"C over {plain(text_behind(chosen))}", help=explain("second moment C"))


def _layer(layers: int) -> int:
    if layers == 1:
        st.caption("Layer 0, the only one")
        return 0
    layer: int = st.slider(
        "Layer",
        0,
        layers - 1,
        help=f"The MLP that the keys come from; layer 0 is the first one.\n\n{explain('key')}",
        **state.widget("layer"),
    )
    return layer
