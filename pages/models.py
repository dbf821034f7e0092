"""Models: what there is, what each needs on this machine before anything is loaded, and the button that computes it."""

from __future__ import annotations

import os
from typing import Any

import pandas as pd
import streamlit as st

from kis_core import machine
from kis_core.analysis.requirements import choose, needs
from kis_core.errors import KisError
from kis_core.models import catalog
from kis_core.models.catalog import ModelEntry
from kis_core.models.describe import described
from pages.parts.figures.grid import grid
from pages.parts.frame import state
from pages.parts.frame.page import frame, split
from pages.parts.frame.text import count, volume
from pages.parts.jobs.background import complain, settle_imports
from pages.parts.jobs.model_card import TYPED, card
from pages.parts.jobs.running import running

HASH = 8
TABLE = 520  # pixels


def main() -> None:
    """The page."""
    view = frame("Models")
    st.subheader("Which model, and what does it take here?", anchor=False)
    running("models")
    settle_imports()  # looking at the devices of the machine imports them anyway
    left, right = split(1.25, 1)
    with left:
        entry = _picked(_table()) or catalog.find(view.request.model) or state.models().get(view.request.model)
    with right:
        if entry is None:
            st.info("Select a model to see what it needs on this machine.", icon=":material/touch_app:")
        else:
            card(entry, view.request.facts)


def _table() -> ModelEntry | None:
    entries = catalog.entries()
    rows = _rows(tuple(entry.name for entry in entries))
    event = grid(
        rows, hide_index=True, height=TABLE, on_select=_forget_typed, selection_mode="single-row",
        key="catalogue",
        columns={
            "name": st.column_config.TextColumn("model", width=114, pinned=True),
            "size": st.column_config.TextColumn("parameters", width=84),
            "fits": st.column_config.TextColumn("runs here", width=104, help="device and precision it would run in"),
            "memory": st.column_config.TextColumn("memory", width=70, help="weights, C of one layer, room to work"),
            "here": st.column_config.TextColumn("is here", width=92, help="on this machine already"),
            "download": st.column_config.TextColumn("download", width=74),
            "paper": st.column_config.CheckboxColumn("paper", width=50, help="Hu et al. studied it"),
            "layers": st.column_config.NumberColumn("L", width=40, help="layers"),
            "width": st.column_config.NumberColumn("d", width=55, help="width of the residual stream"),
            "mlp_width": st.column_config.NumberColumn("dₘ", width=60, help="width of the MLP: length of a key"),
            "gated": st.column_config.CheckboxColumn("gated", width=54, help="a licence has to be accepted first"),
            "revision": st.column_config.TextColumn("revision", width=80, help="the commit that is read"),
        },
    )  # fmt: skip
    st.caption(
        f"{sum(entry.paper for entry in entries)} of them are those of the paper. Every other model of these "
        f"architectures works too: type its Hugging Face id, or a folder on this machine."
    )
    rows_picked = event["selection"]["rows"]
    return entries[rows_picked[0]] if rows_picked and rows_picked[0] < len(entries) else None


@st.cache_data(show_spinner="Looking at this machine", ttl=20)
def _rows(names: tuple[str, ...]) -> pd.DataFrame:
    devices = machine.devices()
    computed = set(state.models())
    available = {entry.name for entry in catalog.available()}
    rows = []
    for entry in filter(None, map(catalog.find, names)):
        there = "embedded" if entry.folder else "downloaded" if entry.name in available else ""
        if not entry.folder and entry.name in computed - available:
            there = "result stored"
        fits, memory = _fits(entry, devices)
        rows.append(
            {
                "name": entry.name, "size": count(entry.parameters), "fits": fits, "memory": memory, "here": there,
                "download": "" if entry.folder else volume(entry.download_bytes), "paper": entry.paper,
                "layers": entry.layers, "width": entry.width, "mlp_width": entry.mlp_width, "gated": entry.gated,
                "revision": (entry.revision or "newest")[:HASH] if not entry.folder else "",
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _fits(entry: ModelEntry, devices: tuple[machine.Device, ...]) -> tuple[str, str]:
    """Where it would run, and the memory that takes."""
    if not entry.safetensors:
        return "no safetensors", ""
    name, dtype = choose(entry, devices)
    found = needs(entry, 1, device=next(one for one in devices if one.name == name), dtype=dtype)
    return f"{name} {dtype}" if found.fits else "too large", volume(found.required_bytes)


def _forget_typed() -> None:
    st.session_state[TYPED] = ""  # what was done last counts


def _picked(selected: ModelEntry | None) -> ModelEntry | None:
    typed = st.text_input(
        "Any other model", placeholder="owner/model, or a folder on this machine", key=TYPED,
        help="A Hugging Face id, or a folder as `save_pretrained` writes it, with safetensors weights. Only its "
        "configuration is read now.",
    ).strip()  # fmt: skip
    if not typed:
        return selected
    try:
        return _described(typed, _touched(typed))
    except KisError as error:
        complain(error)
        return None


@st.cache_data(show_spinner="Reading its configuration", ttl=600)
def _described(name: str, touched: Any) -> ModelEntry:
    return described(name)


def _touched(name: str) -> float | None:
    """When a folder's configuration was last written, so that a mended one is read again."""
    path = os.path.join(name, "config.json")
    try:
        return os.stat(path).st_mtime
    except (OSError, ValueError):
        return None


main()
