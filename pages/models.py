"""Models: what there is, what each needs on this machine before anything is loaded, and the button that computes it."""

from __future__ import annotations

import os
from typing import Any

import pandas as pd
import streamlit as st

from kis_core import machine
from kis_core.analysis.requirements import choose, requirements_of
from kis_core.errors import KisError
from kis_core.models import catalog
from kis_core.models.catalog import ModelEntry
from kis_core.models.describe import described
from kis_core.models.gguf import ENDING
from kis_core.read_only import read_only
from pages.parts.figures.grid import grid
from pages.parts.frame import state
from pages.parts.frame.page import frame, split
from pages.parts.frame.text import count, volume
from pages.parts.jobs.background import settle_imports
from pages.parts.jobs.model_card import TYPED, card
from pages.parts.jobs.running import running
from pages.parts.jobs.waiting import complain

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
    text, number, check = st.column_config.TextColumn, st.column_config.NumberColumn, st.column_config.CheckboxColumn
    event = grid(
        rows,
        hide_index=True,
        height=TABLE,
        on_select=_forget_typed,
        selection_mode="single-row",
        key="catalogue",
        columns={
            "name": text("model", width=190, pinned=True),
            "size": text("parameters", width=84),
            "memory": text("memory", width=70, help="weights, C of one layer, room to work"),
            "here": text("is here", width=84, help="on this machine already"),
            "download": text("download", width=76),
            "fits": text("runs here", width=104, help="device and precision it would run in"),
            "paper": check("paper", width=50, help="studied by Hu et al."),
            "layers": number("L", width=40, help="layers"),
            "width": number("d", width=55, help="width of the residual stream"),
            "mlp_width": number("dₘ", width=60, help="width of the MLP: length of a key"),
            "gated": check("gated", width=54, help="a licence has to be accepted first"),
            "revision": text("revision", width=80, help="the commit that is read"),
            "licence": text("licence", width=120, help="that its weights are given under"),
        },
    )
    others = (
        "Every other model of these architectures works too: type its Hugging Face id, or a folder or GGUF file on "
        "this machine."
    )
    papers = f"{sum(entry.paper for entry in entries)} of them are those of the paper."
    st.caption(papers if read_only() else f"{papers} {others}")
    selected = event["selection"]["rows"]
    return entries[selected[0]] if selected and selected[0] < len(entries) else None


@st.cache_data(show_spinner="Looking at this machine", ttl=20)
def _rows(names: tuple[str, ...]) -> pd.DataFrame:
    devices = machine.devices()
    computed = set(state.models())
    available = {entry.name for entry in catalog.available()}
    rows: list[dict[str, Any]] = []
    for entry in filter(None, map(catalog.find, names)):
        here = "embedded" if entry.files else ""
        if not entry.files and entry.name in available:
            here = "installed" if entry.package else "downloaded"
        if not entry.files and entry.name in computed - available:
            here = "result stored"
        fits, memory = _fits(entry, devices)
        row: dict[str, Any] = {
            "name": entry.name,
            "size": count(entry.parameters),
            "memory": memory,
            "here": here,
            "download": volume(entry.download_bytes) if entry.download_bytes else "",
            "fits": fits,
            "paper": entry.paper,
        }
        row |= {"layers": entry.layers, "width": entry.width, "mlp_width": entry.mlp_width, "gated": entry.gated}
        row |= {"revision": (entry.revision or "newest")[:HASH] if entry.download_bytes else ""}
        row |= {"licence": entry.licence}
        rows.append(row)
    return pd.DataFrame(rows)


def _fits(entry: ModelEntry, devices: tuple[machine.Device, ...]) -> tuple[str, str]:
    """Where it would run, and the memory that takes."""
    if not entry.safetensors:
        return "no safetensors", ""
    name, dtype = choose(entry, devices)
    device = next(device for device in devices if device.name == name)
    required = requirements_of(entry, 1, device=device, dtype=dtype)
    return f"{name} {dtype}" if required.fits else "too large", volume(required.required_bytes)


def _forget_typed() -> None:
    st.session_state[TYPED] = ""  # the last click or text counts


def _picked(selected: ModelEntry | None) -> ModelEntry | None:
    if read_only():
        return selected
    typed = st.text_input(
        "Any other model",
        placeholder="owner/model, or a folder or .gguf file here",
        key=TYPED,
        help="A Hugging Face id, a folder as `save_pretrained` writes it, with safetensors weights, or a GGUF file, "
        "quantised or not. Only its configuration is read now.",
    ).strip()
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
    """When a folder's configuration or a file was last written, so that a corrected one is read again."""
    path = name if name.lower().endswith(ENDING) else os.path.join(name, "config.json")
    try:
        return os.stat(path).st_mtime
    except (OSError, ValueError):
        return None


main()
