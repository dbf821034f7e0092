"""One model: how its C is to be taken, what that needs on this machine, and the button that computes it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from kis_core import machine
from kis_core.analysis.requirements import Requirements, choose, needs
from kis_core.corpora import BUILTIN_NAME, PAPER_DOCUMENTS, WIKIPEDIA_NAME
from kis_core.errors import KisError
from kis_core.machine import Device, Speed
from kis_core.models.catalog import ModelEntry
from kis_core.request import DEFAULT_TOKENS, Request, default_c_settings
from pages.parts.frame import state
from pages.parts.frame.text import count, duration, plain, volume
from pages.parts.jobs.background import submit

TOKENS_A_DOCUMENT = 600  # of Wikipedia, roughly, for the estimate alone: told as such beside it
FILE = "a file or folder on this machine"
SETTLED = 0.02
SHORT = 60  # seconds below which an estimate is not worth a number
TYPED = "typed-model"  # the state of the page's field for any other model


@dataclass(frozen=True, slots=True)
class AnalysisPlan:
    """A request, where it is to run, and over about how many tokens."""

    request: Request
    device: Device
    tokens: int
    guessed: bool


def card(entry: ModelEntry, facts: str) -> None:
    """Draw the card of a model; `facts` is the chosen fact set."""
    st.markdown(f"#### {plain(Path(entry.name).name if entry.folder else entry.name)}")
    _facts(entry)
    if not entry.safetensors:
        st.warning(
            "The Hub has no safetensors weights of this model, and other formats are not read, as they can run code. "
            "Convert it once with `save_pretrained` elsewhere and give the folder.",
            icon=":material/block:",
        )
        return
    first = st.container()  # what it needs stands above the choices it depends on
    plan = _plan(entry, facts)
    if plan is None:
        return
    found = needs(entry, plan.tokens, device=plan.device, dtype=plan.request.dtype, layers=plan.request.layers,
                  speed=_speed(plan.device.name, plan.request.dtype))  # fmt: skip
    with first:
        _needs(found, plan, entry)
    _command(plan)


def _facts(entry: ModelEntry) -> None:
    parts = [
        f"{entry.family}", f"{count(entry.parameters)} parameters", f"{entry.layers} layers", f"d = {entry.width:,}",
        f"dₘ = {entry.mlp_width:,}", f"context {entry.context:,}",
    ]  # fmt: skip
    if not entry.folder:
        parts.append(f"download about {volume(entry.download_bytes)}")
    st.caption(plain(" · ".join(parts)))
    if entry.gated:
        st.markdown(
            f":material/gavel: Gated: [accept its licence](https://huggingface.co/{entry.source}) once, and run "
            f"`hf auth login` on this machine."
        )


def _plan(entry: ModelEntry, facts: str) -> AnalysisPlan | None:
    how = default_c_settings(entry.name)
    devices = machine.devices()
    named = {one.name: one for one in devices}
    best, best_dtype = choose(entry, devices)
    with st.container(horizontal=True):
        device = named[st.selectbox("Device", named, index=list(named).index(best), key=f"device-{entry.name}")]
        chosen = best_dtype if device.name == best else device.dtypes[0]
        dtype = st.selectbox(
            "Precision of the model", device.dtypes, index=device.dtypes.index(chosen), key=f"dtype-{entry.name}",
            help="Of the forward pass. Keys are cast to float32 and C is summed in float64 in any case.",
        )  # fmt: skip
    texts = [BUILTIN_NAME, WIKIPEDIA_NAME, FILE]
    usually = how.get("corpus", BUILTIN_NAME)
    corpus = st.selectbox("Text behind C", texts, index=texts.index(usually), key=f"corpus-{entry.name}")
    if corpus == FILE:
        corpus = st.text_input(
            "Path", placeholder="text, JSONL or parquet; or a folder of ROME’s statistics (.npz)", key="corpus-path"
        ).strip()
        if not corpus:
            st.caption("Type the path of the text.")
            return None
    with st.container(horizontal=True):
        documents = st.number_input(
            "Documents, at most", 1, 10_000_000, PAPER_DOCUMENTS, key=f"documents-{entry.name}",
            help="The paper takes 100,000.", disabled=corpus == BUILTIN_NAME,
        )  # fmt: skip
        tokens = st.number_input(
            "Tokens, at most", 1, None, DEFAULT_TOKENS if corpus == BUILTIN_NAME else None,
            key=f"tokens-{entry.name}-{corpus == BUILTIN_NAME}",
            placeholder="all of them",
        )  # fmt: skip
    layers = _layers(entry)
    settled = st.toggle(
        f"Stop as soon as P moves less than {SETTLED:.0%} of its spread", key=f"settled-{entry.name}",
        help="P of the chosen facts is looked at whenever the text has grown by half, in the first, middle and last "
        "layer; twice in a row below this, and reading ends.",
    )  # fmt: skip
    try:
        request = Request(
            entry.name, facts, corpus, tokens, layers, None if entry.folder else entry.revision, dtype,
            documents=None if corpus == BUILTIN_NAME else documents, settled=SETTLED if settled else None,
        )  # fmt: skip
    except KisError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return None
    return AnalysisPlan(request, device, tokens or documents * _tokens_a_document(entry), tokens is None)


def _tokens_a_document(entry: ModelEntry) -> int:
    return min(TOKENS_A_DOCUMENT, entry.context or TOKENS_A_DOCUMENT)


def _layers(entry: ModelEntry) -> tuple[int, ...] | None:
    if entry.layers == 1:
        return None
    first, last = st.slider("Layers", 0, entry.layers - 1, (0, entry.layers - 1), key=f"layers-{entry.name}")
    return None if (first, last) == (0, entry.layers - 1) else tuple(range(first, last + 1))


@st.cache_data(show_spinner="Trying for two seconds how fast this machine is", ttl=3600)
def _speed(device: str, dtype: str) -> Speed:
    from kis_core.covariance.speed import probe

    return probe(device, dtype)


def _needs(found: Requirements, plan: AnalysisPlan, entry: ModelEntry) -> None:
    if not found.fits:
        st.warning(plain(found.reason), icon=":material/memory:")
        if found.nearest:
            st.button(f"Look at {found.nearest}", icon=":material/arrow_forward:",
                      on_click=st.session_state.__setitem__, args=(TYPED, found.nearest))  # fmt: skip
        return
    about = "about " if plan.guessed else ""
    rows = [
        ("weights", volume(found.weights_bytes)),
        ("C of all layers", volume(found.moments_bytes)),
        ("passes", f"{found.passes}"),
        ("time", _time(found.seconds)),
    ]
    heads, rule, values = (" | ".join(cells) for cells in ((r[0] for r in rows), ("---",) * len(rows),
                                                          (f"**{r[1]}**" for r in rows)))  # fmt: skip
    st.markdown(f"{heads}\n{rule}\n{values}", width="stretch")
    told = (
        f"Estimated for {about}{plan.tokens:,} tokens"
        + (f" ({_tokens_a_document(entry)} a document)" if plan.guessed else "")
        + f", from a two-second trial of {plan.device.label}; download and loading come on top. "
        f"{volume(found.free_bytes)} are free."
    )
    st.caption(plain(told))
    if st.button("Compute", type="primary", icon=":material/play_arrow:", key=f"compute-{entry.name}"):
        submit(plan.request, plan.device.name)
        state.show(entry.name, plan.request.c_settings)
        st.rerun()


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return duration(seconds) if seconds >= SHORT else "under a minute"  # small models keep no machine busy


def _command(plan: AnalysisPlan) -> None:
    with st.popover("The same on a cluster", icon=":material/terminal:"):
        request = plan.request
        words: list[Any] = ["python", "-m", "kis_core", "analyse", "--model", request.model, "--facts", request.facts]
        words += ["--corpus", request.corpus]
        for name in ("documents", "tokens", "settled", "revision"):
            if (value := getattr(request, name)) is not None:
                words += [f"--{name}", value]
        if request.layers is not None:
            words += ["--layers", ",".join(map(str, request.layers))]
        words += ["--dtype", request.dtype, "--device", plan.device.name, "--out", "results"]
        st.code(shlex.join(map(str, words)), language="bash")
        st.caption("Then `python -m kis_core export --out bundle.zip` there, and import it on the page Library here.")
