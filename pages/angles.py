"""Angles: how keys stand to each other with and without whitening (Fig. 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from kis_core import charts, superposition
from kis_core.results import pairs
from kis_core.superposition.verdicts import right_angles
from kis_core.wording import counted, number
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, Pick, caption, figure
from pages.parts.figures.grid import grid
from pages.parts.figures.inspector import has_pairs, inspector, picked_or_strongest
from pages.parts.figures.pair_list import pair_list
from pages.parts.figures.verdicts import verdicts
from pages.parts.frame import state
from pages.parts.frame.glossary import explain
from pages.parts.frame.page import frame, panel, split
from pages.parts.frame.views import ResultView
from pages.parts.jobs.results import remembered, shown

SPACES = {"whitening": "whitened angle", "activation": "plain angle"}
COSINES = {"whitening": "whitening_cosine", "activation": "activation_cosine"}
PYTHON = {SPACES[space]: f"result.{COSINES[space]}" for space in SPACES}
LISTED = 200
HELP = (
    "**Paper, Fig. 6.** The angle between two keys. Whitened, cos = kᵢᵀC⁻¹kⱼ / √(kᵢᵀC⁻¹kᵢ · kⱼᵀC⁻¹kⱼ), and "
    "P[i, j]·P[j, i] is its square; plain, it is the cosine of kᵢ and kⱼ themselves. At 90°, whitened, an edit of one "
    "fact leaves the other alone. Click a bar to list its pairs.\n\n" + explain("whitened angle", "plain angle")
)


@dataclass(frozen=True, eq=False)
class AnglesView(ResultView):
    """The angles looked at.

    Attributes:
        pair: the picked pair.
        spreads: mean and standard deviation of both angles by layer.
        shares: of the pairs by their angle at this layer.
    """

    pair: tuple[int, int] | None
    spreads: pd.DataFrame
    shares: pd.DataFrame

    @property
    def span(self) -> tuple[float, float]:
        """The degrees that the axes show."""
        filled = self.shares[self.shares["share"] > 0]
        return float(max(0, filled["low"].min() - 5)), float(min(180, max(filled["high"].max() + 5, 95)))


def main() -> None:
    """The page."""
    view = frame("Angles")
    st.subheader("At which angles do keys stand, whitened and plain?", anchor=False)
    drawn(shown(view))


def _cosines(view: ResultView) -> dict[str, np.ndarray]:
    """The cosines of all layers, by the name of the angle, (L, m, m) each."""
    return {SPACES[space]: getattr(view.result, COSINES[space]) for space in SPACES}


def _here(view: ResultView) -> dict[str, np.ndarray]:
    """The cosines of the layer, (m, m) each."""
    return {space: cosine[view.result.at(view.layer)] for space, cosine in _cosines(view).items()}


@panel
def drawn(seen: ResultView) -> None:
    """Histograms, the pairs of a bar, and every layer; a click reruns only this."""
    if not has_pairs(seen):
        return
    result = seen.result
    shares = remembered(result, ("angles", seen.layer), lambda: superposition.angle_shares(_here(seen)))
    spreads = remembered(result, ("spreads",), lambda: superposition.angle_spreads(_cosines(seen), result.layers))
    here = _here(seen)
    judged = remembered(
        result,
        ("right angles", seen.layer),
        lambda: [right_angles(here[SPACES[space]], whitened=space == "whitening") for space in SPACES],
    )
    verdicts(judged)
    pair = picked_or_strongest(seen)
    view = AnglesView(seen.request, seen.layer, seen.known_only, result, pair, spreads, shares)
    left, right = split(1.45, 1)
    below = st.container()
    with right:  # first, so that it answers before the browser redraws the figure
        inspector(view, pair)
    with below:
        _bar(view)
    with left:
        _histogram(view)
    _layers(view)


def _histogram(view: AnglesView) -> None:
    here = view.spreads[view.spreads["layer"] == view.layer]
    rows = zip(here["space"], here["mean"], here["std"], strict=True)
    summary = "; ".join(f"{space} {_spread(mean, std, '.0f')}" for space, mean, std in rows)
    marks, marked = None, ""
    if view.pair and view.pair[0] != view.pair[1]:
        marks = {
            f"picked, {space}": float(superposition.angles(cosine[view.pair])) for space, cosine in _here(view).items()
        }
        both = " and ".join(f"{number(angle, '.1f')}°" for angle in marks.values())
        marked = f" Marked: the picked pair, {view.pair[0]} and {view.pair[1]}, at {both}."
    cosines = ", ".join(f"{space!r}: {code}[at]" for space, code in PYTHON.items())
    figure(
        view,
        drawing(charts.angle_histogram, view.shares, picked=marks, span=view.span, chosen=state.get("angle")),
        FigureText(
            title="Angles between keys",
            caption=f"Mean and spread: {summary}. 90° means unrelated (Fig. 6). Click a bar to list its pairs.{marked}",
            help=HELP,
            data=lambda: view.shares,
            code=f"at = result.at({view.layer})\nshares = superposition.angle_shares({{{cosines}}})",
        ),
        key="angles",
        pick=Pick(charts.TAIL, _picked),
    )


def _spread(mean: float, std: float, form: str) -> str:
    return f"{number(mean, form)}° ± {number(std, form)}°"


def _picked(bar: dict[str, Any]) -> None:
    state.choose("space", next(name for name, long in SPACES.items() if long == bar["space"]))
    state.choose("angle", (float(bar["low"]), float(bar["high"])))


def _bar(view: AnglesView) -> None:
    space = SPACES[state.get("space")]
    angle = superposition.angles(_here(view)[space])
    low, high = state.get("angle") or superposition.smallest_angles(angle)
    table = pairs.table(view.result, view.layer, count=LISTED, where=(angle >= low) & (angle <= high))
    entries = superposition.finite_entries(angle)
    count = int(((entries >= low) & (entries <= high)).sum())
    cut = f", the strongest {LISTED} shown" if count > len(table) else ""
    what = f"The {counted(count, 'pair')}" if count != 1 else "The one pair"
    st.markdown(f"**{what} at a {space} of {low:.0f}° to {high:.0f}°**{cut}")
    pair_list(table, view.pair, key="bar", height=330)
    where = f"(angle >= {low!r}) & (angle <= {high!r})"
    text = FigureText(
        title="Pairs at an angle",
        caption="By falling |P[i, j]|. Click a row to open its pair.",
        help=HELP,
        data=lambda: table,
        code=f"angle = superposition.angles({PYTHON[space]}[result.at({view.layer})])\n"
        f"pairs.table(result, {view.layer}, count={LISTED}, where={where})",
        brief=True,
    )
    caption(view, text, key="angle-pairs")


def _layers(view: AnglesView) -> None:
    result = view.result
    if len(result.layers) < 2:
        return
    st.markdown("**Every layer on one scale**")
    strips = remembered(result, ("angle strips",), lambda: superposition.angle_strips(_cosines(view), result.layers))
    cosines = ", ".join(f"{space!r}: {code}" for space, code in PYTHON.items())
    axes: dict[str, Any] = {"layers": result.layers, "current": view.layer, "span": view.span, "middle": 90}
    left, right = split(1.45, 1, "split-layers")
    with left:
        figure(
            view,
            drawing(charts.strips, strips, title="angle between two keys, in degrees", **axes),
            FigureText(
                title="Angles by layer",
                caption="One strip a layer, all on the same scale; the dashed line is 90° (Fig. 6).",
                help=HELP,
                data=lambda: strips.rename(columns={"at": "angle", "density": "share", "curve": "space"}),
                code=f"spreads = superposition.angle_spreads({{{cosines}}}, result.layers)",
                all_layers=True,
            ),
            key="angle-layers",
        )
    with right:
        table = view.spreads.pivot(index="layer", columns="space", values=["mean", "std"])
        cells = {
            space: [_spread(m, s, ".1f") for m, s in zip(table["mean"][space], table["std"][space], strict=True)]
            for space in PYTHON
        }
        grid(pd.DataFrame(cells, index=[f"layer {layer}" for layer in table.index]))
        st.caption("Mean and standard deviation of the angles between all pairs of keys.")


main()
