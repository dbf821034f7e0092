"""Layers and scaling: kurtosis over depth and size for everything computed, and how alike the layers are (Fig. 5)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from kis_core import charts, superposition
from kis_core.models import catalog
from kis_core.results import archive, published
from kis_core.results.archive import Computed
from kis_core.superposition.verdicts import Verdict, falls_with_depth, rises_with_size
from kis_core.wording import counted, number
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, Pick, figure
from pages.parts.figures.verdicts import verdicts
from pages.parts.frame import state
from pages.parts.frame.glossary import explain
from pages.parts.frame.page import frame, panel, request_for, split
from pages.parts.frame.text import plain
from pages.parts.frame.views import ResultView
from pages.parts.jobs.background import store
from pages.parts.jobs.missing import compute
from pages.parts.jobs.results import remembered, shown

HELP = (
    "**Paper, Fig. 5.** The paper reads a higher kurtosis as weaker superposition: fewer pairs carry the overlap. "
    "Bars: 95 % interval, bootstrapped over facts. Lines are wider the larger the model. Click a point to open its "
    "model and layer.\n\n" + explain("kurtosis")
)


@dataclass(frozen=True)
class Kurtosis:
    """Kurtosis of everything comparable that is computed.

    Attributes:
        frame: as `archive.kurtosis_frame` gives it.
        like: the results it is taken from.
        others: how many other results there are.
        clean: whether artefact pairs are left out.
    """

    frame: pd.DataFrame
    like: list[Computed]
    others: int
    clean: bool

    @property
    def pairs(self) -> str:
        """Which pairs count, in words."""
        return "without artefact pairs" if self.clean else "all pairs"


def main() -> None:
    """The page."""
    view = frame("Layers and scaling")
    st.subheader("Does superposition thin out with size, and thicken with depth?", anchor=False)
    seen, place = shown(view), st.container()
    drawn(seen)
    with place:
        family = [request_for(entry.name) for entry in catalog.demo()]
        compute(family, "demo models")


@panel
def drawn(view: ResultView) -> None:
    """Both sides of the scaling law, and the layers of the chosen model against each other."""
    clean = st.toggle("Leave out artefact pairs", help=explain("tag"), **state.toggle("artefacts", on="without"))
    kurtosis = _computed(view, clean)
    if kurtosis.frame.empty:
        st.info(
            "No layer has a kurtosis here: with so few facts, or none but artefact pairs, there is no spread to "
            "describe. Choose more facts on the left.",
            icon=":material/info:",
        )
        return
    verdicts(_verdicts(view, kurtosis))
    _kurtosis(view, kurtosis)
    _layers(view)


def _verdicts(view: ResultView, kurtosis: Kurtosis) -> list[Verdict]:
    """What the layers of this model, and the models at this layer, say to the paper's two claims."""
    result, clean = view.result, kurtosis.clean
    kept = result.provenance.get("facts_kept")

    def by_depth() -> Verdict:
        return falls_with_depth([result.clean(layer) for layer in result.layers] if clean else list(result.p))

    def by_size() -> Verdict:
        models = archive.at_layer(kurtosis.like, view.layer, store(), kept=kept, clean=clean)
        return rises_with_size([p for _, p in models], [one.parameters for one, _ in models])

    models = tuple(one.key for one in kurtosis.like)
    return [
        remembered(result, ("depth", clean), by_depth),
        remembered(result, ("size", clean, view.layer, models), by_size),
    ]


def _computed(view: ResultView, clean: bool) -> Kurtosis:
    everything = archive.computed(store())
    like = archive.fullest_of_each_model(archive.comparable(view.result, everything))
    if kept := view.result.provenance.get("facts_kept"):
        like = [
            remembered(view.result, ("narrowed", result.key), partial(archive.narrowed, result, store(), kept))
            for result in like
        ]
    table = archive.kurtosis_frame(like, clean=clean)
    return Kurtosis(table[table["kurtosis"].notna()], like, len(everything) - len(like), clean)


def _kurtosis(view: ResultView, kurtosis: Kurtosis) -> None:
    pairs, table, layer = kurtosis.pairs, kurtosis.frame, view.layer
    current = (view.request.model, layer)
    narrow = "like = [archive.narrowed(one, Store(), result.provenance['facts_kept']) for one in like]\n"
    code = (
        "from kis_core.results import archive\n\n"
        "like = archive.fullest_of_each_model(archive.comparable(result, archive.computed(Store())))\n"
        f"{narrow if view.known_only else ''}frame = archive.kurtosis_frame(like, clean={kurtosis.clean})"
    )
    names = ", ".join(plain(result.request.model) for result in kurtosis.like)
    others = counted(kurtosis.others, "other result in the cache has", "other results in the cache have")
    left_out = f" {others} other facts, text or settings." if kurtosis.others else ""
    left, right = split(1.3, 1)
    with left:
        text = FigureText(
            title=f"Kurtosis by layer, {pairs}",
            caption=f"One line a computed model ({names}), {pairs} (Fig. 5).{left_out}",
            help=HELP,
            data=lambda: table,
            code=code,
            all_layers=True,
        )
        chart = drawing(charts.kurtosis_by_layer, table, current=current)
        figure(view, chart, text, key="by-layer", pick=Pick(charts.MODEL, _open_point))
    with right:
        here = table[table["layer"] == layer]
        if here.empty:
            st.info(f"No model has a kurtosis at layer {layer}.", icon=":material/info:")
            return
        text = FigureText(
            title=f"Kurtosis by size at layer {layer}, {pairs}",
            caption=f"The same at layer {layer}, against the number of parameters, {pairs}.",
            help=HELP,
            data=lambda: here,
            code=f"{code}\nframe = frame[frame['layer'] == {layer}]",
        )
        chart = drawing(charts.kurtosis_by_size, here, current=current)
        figure(view, chart, text, key="by-size", pick=Pick(charts.MODEL, _open_point))
    if st.session_state.pop("open-point", False):
        state.go("pages/superposition.py")
    theirs = published.KURTOSIS.get(view.request.model)
    if theirs and published.are_the_papers(view.result.facts.facts):
        values = ", ".join(f"{value:g}" for value in theirs)
        st.caption(f"Published for this model, by layer: {values} (read off plots).")


def _open_point(point: dict[str, Any]) -> None:
    if point["model"] in state.models():
        state.choose("model", point["model"])
        state.choose("layer", int(point["layer"]))
        st.session_state["open-point"] = True


def _layers(view: ResultView) -> None:
    layers = view.result.layers
    if len(layers) < 2:
        st.caption("This model has a single layer, so there are no layers to set against each other.")
        return
    similarity = remembered(view.result, ("similarity",), lambda: superposition.layer_similarity(view.result.p))
    names = [f"layer {layer}" for layer in layers]
    st.markdown(f"**How alike are the layers of {plain(view.request.model)}?**")
    left, right = split(1.3, 1, "split-layers")
    with left:
        text = FigureText(
            title="Layer against layer",
            caption="Spearman correlation of the off-diagonal entries of P in two layers; click to compare them.",
            help="1: both layers rank all pairs alike. 0: the P of one layer says nothing about that of the other. Not "
            "in the paper.",
            data=lambda: pd.DataFrame(similarity, index=names, columns=names).reset_index(names="layer"),
            code="similarity = superposition.layer_similarity(result.p)",
            all_layers=True,
        )
        chart = drawing(charts.similarity, similarity, layers, view.layer)
        figure(view, chart, text, key="similarity", pick=Pick(charts.PICK, _open_layers))
    with right:
        off = superposition.off_diagonal(similarity)
        st.metric("mean correlation of two layers", number(off.mean(), ".2f"), border=True)
        st.caption(
            "The lower, the less an edit’s neighbours in one layer are its neighbours in another: which facts leak "
            "into which depends on the layer that is edited."
        )
    if st.session_state.pop("open-layers", False):
        state.go("pages/compare.py")


def _open_layers(cell: dict[str, Any]) -> None:
    if cell["a"] != cell["b"]:
        state.choose("layer", int(cell["a"]))
        state.choose("other", None)
        state.choose("otherlayer", int(cell["b"]))
        st.session_state["open-layers"] = True


main()
