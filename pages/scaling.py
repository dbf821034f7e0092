"""Layers and scaling: kurtosis over depth and size for everything computed, and how alike the layers are (Fig. 5)."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from kis_core import charts, superposition
from kis_core.models import catalog
from kis_core.results import archive, published
from kis_core.results.archive import Computed
from kis_core.results.result import Result
from kis_core.wording import counted, number
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure
from pages.parts.frame import state
from pages.parts.frame.page import View, frame, panel, request_for, split
from pages.parts.frame.text import plain
from pages.parts.jobs.background import store
from pages.parts.jobs.results import compute, remembered, shown

HELP = (
    "**Paper, Fig. 5.** Excess kurtosis of the off-diagonal entries of P; 0 for a normal distribution. The paper reads "
    "a higher kurtosis as weaker superposition: fewer pairs carry the overlap. Bars: 95 % interval, bootstrapped over "
    "facts. Lines are wider the larger the model. Click a point to open its model and layer."
)


def main() -> None:
    """The page."""
    view = frame("Layers and scaling")
    st.subheader("Does superposition thin out with size, and thicken with depth?", anchor=False)
    result, place = shown(view), st.container()
    drawn(view, result)
    with place:
        compute([request_for(entry.name) for entry in catalog.demo()], "demo models")


@panel
def drawn(view: View, result: Result) -> None:
    """Both sides of the scaling law, and the layers of the chosen model against each other."""
    everything = archive.computed(store())
    like = archive.fullest_of_each_model(archive.comparable(result, everything))
    kept = result.provenance.get("facts_kept")
    if kept:
        like = [
            remembered(result, ("narrowed", one.key), lambda one=one: archive.narrowed(one, store(), kept))
            for one in like
        ]
    clean = st.toggle(
        "Leave out artefact pairs",
        help="Same subject, or same last token: the prompts alone make these keys alike, and kurtosis hangs on them.",
        **state.toggle("artefacts", on="without"),
    )
    frame_ = archive.kurtosis_frame(like, clean=clean)
    frame_ = frame_[frame_["kurtosis"].notna()]
    if frame_.empty:
        st.info(
            "No layer has a kurtosis here: with so few facts, or none but artefact pairs, there is no spread to "
            "describe. Choose more facts on the left.",
            icon=":material/info:",
        )
        return
    _kurtosis(view, result, frame_, like, len(everything) - len(like), clean)
    _layers(view, result)


def _kurtosis(view: View, result: Result, frame_: pd.DataFrame, like: list[Computed], others: int, clean: bool) -> None:
    what = "without artefact pairs" if clean else "all pairs"
    current = (view.request.model, view.layer)
    here = frame_[frame_["layer"] == view.layer]
    names = ", ".join(plain(one.request.model) for one in like)
    left_out = counted(others, "other result in the cache has", "other results in the cache have")
    left_out = f" {left_out} other facts, text or settings." if others else ""
    left, right = split(1.3, 1)
    narrowed = ""
    if view.known_only:
        narrowed = "like = [archive.narrowed(one, Store(), result.provenance['facts_kept']) for one in like]\n"
    code = (
        "from kis_core import archive\n"
        "like = archive.fullest_of_each_model(archive.comparable(result, archive.computed(Store())))\n"
        f"{narrowed}frame = archive.kurtosis_frame(like, clean={clean})"
    )
    with left:
        key = "by-layer"
        figure(
            view,
            result,
            drawing(charts.kurtosis_by_layer, frame_, current=current),
            FigureText(
                title=f"Kurtosis by layer, {what}",
                caption=f"One line a computed model ({names}), {what} (Fig. 5).{left_out}",
                help=HELP,
                data=lambda: frame_,
                code=code,
            ),
            key=key,
            on_select=partial(_clicked, key),
            selection_mode=charts.MODEL,
        )
    with right:
        key = "by-size"
        if here.empty:
            st.info(f"No model has a kurtosis at layer {view.layer}.", icon=":material/info:")
            return
        figure(
            view,
            result,
            drawing(charts.kurtosis_by_size, here, current=current),
            FigureText(
                title=f"Kurtosis by size at layer {view.layer}, {what}",
                caption=f"The same at layer {view.layer}, against the number of parameters, {what}.",
                help=HELP,
                data=lambda: here,
                code=f"{code}\nframe = frame[frame['layer'] == {view.layer}]",
                layer=view.layer,
            ),
            key=key,
            on_select=partial(_clicked, key),
            selection_mode=charts.MODEL,
        )
    if st.session_state.pop("open-point", False):
        state.go("pages/superposition.py")
    theirs = published.KURTOSIS.get(view.request.model)
    if theirs and published.are_the_papers(result.facts.facts):
        st.caption(
            f"Published for this model, by layer: {', '.join(f'{value:g}' for value in theirs)} (read off plots)."
        )


def _clicked(key: str) -> None:
    points = state.clicked(key, charts.MODEL)
    if points and points[0]["model"] in state.models():
        state.choose("model", points[0]["model"])
        state.choose("layer", int(points[0]["layer"]))
        st.session_state["open-point"] = True


def _layers(view: View, result: Result) -> None:
    if len(result.layers) < 2:
        st.caption("This model has a single layer, so there are no layers to set against each other.")
        return
    similarity = remembered(result, ("similarity",), lambda: superposition.layer_similarity(result.p))
    st.markdown(f"**How alike are the layers of {plain(view.request.model)}?**")
    left, right = split(1.3, 1, "split-layers")
    names = [f"layer {layer}" for layer in result.layers]
    key = "similarity"
    with left:
        figure(
            view,
            result,
            drawing(charts.similarity, similarity, result.layers, view.layer),
            FigureText(
                title="Layer against layer",
                caption="Spearman correlation of the off-diagonal entries of P in two layers; click to compare them.",
                help="1: both layers rank all pairs alike. 0: knowing one layer’s P tells nothing about the other’s. "
                "Not in the paper.",
                data=lambda: pd.DataFrame(similarity, index=names, columns=names).reset_index(names="layer"),
                code="similarity = statistics.layer_similarity(result.p)",
            ),
            key=key,
            on_select=partial(_layers_clicked, key),
            selection_mode=charts.PICK,
        )
    with right:
        off = superposition.off_diagonal(similarity)
        st.metric("mean correlation of two layers", number(off.mean(), ".2f"), border=True)
        st.caption(
            "The lower, the less an edit’s neighbours in one layer are its neighbours in another: which facts leak "
            "into which depends on the layer that is edited."
        )
    if st.session_state.pop("open-layers", False):
        state.go("pages/compare.py")


def _layers_clicked(key: str) -> None:
    cells = state.clicked(key, charts.PICK)
    if cells and cells[0]["a"] != cells[0]["b"]:
        state.choose("layer", int(cells[0]["a"]))
        state.choose("other", None)
        state.choose("otherlayer", int(cells[0]["b"]))
        st.session_state["open-layers"] = True


main()
