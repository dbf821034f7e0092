"""Angles: how keys stand to each other with and without whitening (Fig. 6)."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from kis_core import charts, superposition
from kis_core.results import pairs
from kis_core.results.result import Result
from kis_core.wording import counted, number
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure, say
from pages.parts.figures.grid import grid
from pages.parts.figures.inspector import has_pairs, inspector, picked_or_strongest
from pages.parts.figures.pair_list import pair_list
from pages.parts.frame import state
from pages.parts.frame.page import View, frame, panel, split
from pages.parts.jobs.results import remembered, shown

SPACES = {"whitening": "whitening space", "activation": "activation space"}
LISTED = 200
HELP = (
    "**Paper, Fig. 6.** The angle between two keys. In whitening space, cos = kᵢᵀC⁻¹kⱼ / √(kᵢᵀC⁻¹kᵢ · kⱼᵀC⁻¹kⱼ), and "
    "P[i, j]·P[j, i] is its square; in activation space it is the plain cosine of kᵢ and kⱼ. At 90° an edit of one "
    "fact leaves the other alone. Click a bar to list its pairs."
)


def main() -> None:
    """The page."""
    view = frame("Angles")
    st.subheader("Whitened keys stand at right angles; plain ones do not", anchor=False)
    drawn(view, shown(view))


@panel
def drawn(view: View, result: Result) -> None:
    """Histograms, the pairs of a bar, and every layer; a click reruns only this."""
    if not has_pairs(result, view.layer):
        return
    at = result.at(view.layer)
    every = {SPACES["whitening"]: result.whitening_cosine, SPACES["activation"]: result.activation_cosine}
    here = {space: cosine[at] for space, cosine in every.items()}
    shares = remembered(result, ("angles", view.layer), lambda: superposition.angle_shares(here))
    spreads = remembered(result, ("spreads",), lambda: superposition.angle_spreads(every, result.layers))
    filled = shares[shares["share"] > 0]
    span = (float(max(0, filled["low"].min() - 5)), float(min(180, max(filled["high"].max() + 5, 95))))
    pair = picked_or_strongest(result, view.layer)
    left, right = split(1.45, 1)
    below = st.container()
    with right:  # first, so that it answers before the browser redraws the figure
        inspector(view, result, pair)
    with below:
        _bar(view, result, here, pair)
    with left:
        _histogram(view, result, here, shares, spreads, span, pair)
    _layers(view, result, every, spreads, span)


def _histogram(
    view: View,
    result: Result,
    here: dict[str, np.ndarray],
    shares: pd.DataFrame,
    spreads: pd.DataFrame,
    span: tuple[float, float],
    pair: tuple[int, int] | None,
) -> None:
    means = spreads[spreads["layer"] == view.layer].set_index("space")
    told = "; ".join(f"{space} {_spread(means.loc[space, 'mean'], means.loc[space, 'std'], '.0f')}" for space in here)
    marks, marked = None, ""
    if pair and pair[0] != pair[1]:
        marks = {f"picked, {space}": float(superposition.angles(cosine[pair])) for space, cosine in here.items()}
        both = " and ".join(f"{number(angle, '.1f')}°" for angle in marks.values())
        marked = f" Marked: the picked pair, {pair[0]} and {pair[1]}, at {both}."
    key = "angles"
    figure(
        view,
        result,
        drawing(charts.angle_histogram, shares, picked=marks, span=span, chosen=state.get("angle")),
        FigureText(
            title="Angles between keys",
            caption=f"Mean and spread: {told}. 90° means unrelated (Fig. 6). Click a bar to list its pairs.{marked}",
            help=HELP,
            data=lambda: shares,
            code=f"at = result.at({view.layer})\n"
            "shares = statistics.angle_shares({'whitening space': result.whitening_cosine[at],\n"
            "                                  'activation space': result.activation_cosine[at]})",
            layer=view.layer,
        ),
        key=key,
        on_select=partial(_clicked, key),
        selection_mode=charts.TAIL,
    )


def _spread(mean: float, std: float, form: str) -> str:
    return f"{number(mean, form)}° ± {number(std, form)}°"


def _clicked(key: str) -> None:
    bars = state.clicked(key, charts.TAIL)
    if bars:
        space = next(name for name, long in SPACES.items() if long == bars[0]["space"])
        state.choose("space", space)
        state.choose("angle", (float(bars[0]["low"]), float(bars[0]["high"])))


def _bar(view: View, result: Result, here: dict[str, np.ndarray], pair: tuple[int, int] | None) -> None:
    space = SPACES[state.get("space")]
    angle = superposition.angles(here[space])
    off = superposition.finite_entries(angle)
    chosen = state.get("angle")
    low, high = chosen or (0.0, float(np.quantile(off, 0.001)) if len(off) else 0.0)
    where = (angle >= low) & (angle <= high)
    found = pairs.table(result, view.layer, count=LISTED, where=where)
    count = int(((off >= low) & (off <= high)).sum())
    cut = f", the strongest {LISTED} shown" if count > len(found) else ""
    what = f"The {counted(count, 'pair')}" if count != 1 else "The one pair"
    st.markdown(f"**{what} at {low:.0f}° to {high:.0f}° in {space}**{cut}")
    pair_list(found, pair, key="bar", height=330)
    cosine = "whitening_cosine" if space == SPACES["whitening"] else "activation_cosine"
    say(
        view,
        result,
        FigureText(
            title="Pairs at an angle",
            caption="By falling |P[i, j]|. Click a row to open its pair.",
            help=HELP,
            data=lambda: found,
            code=f"angle = statistics.angles(result.{cosine}[result.at({view.layer})])\n"
            f"pairs.table(result, {view.layer}, count={LISTED}, where=(angle >= {low!r}) & (angle <= {high!r}))",
            layer=view.layer,
            brief=True,
        ),
        chart=None,
        key="angle-pairs",
    )


def _layers(
    view: View, result: Result, every: dict[str, np.ndarray], spreads: pd.DataFrame, span: tuple[float, float]
) -> None:
    if len(result.layers) < 2:
        return
    st.markdown("**Every layer on one scale**")
    strips = remembered(result, ("angle strips",), lambda: _strips(result, every))
    left, right = split(1.45, 1, "split-layers")
    with left:
        figure(
            view,
            result,
            drawing(
                charts.strips,
                strips,
                layers=result.layers,
                current=view.layer,
                span=span,
                title="angle between two keys, in degrees",
                middle=90,
            ),
            FigureText(
                title="Angles by layer",
                caption="One strip a layer, all on the same scale; the dashed line is 90° (Fig. 6).",
                help=HELP,
                data=lambda: strips.rename(columns={"at": "angle", "density": "share", "curve": "space"}),
                code="spreads = statistics.angle_spreads({'whitening space': result.whitening_cosine,\n"
                "                                    'activation space': result.activation_cosine}, result.layers)",
            ),
            key="angle-layers",
        )
    with right:
        table = spreads.pivot(index="layer", columns="space", values=["mean", "std"])
        shown_table = pd.DataFrame(
            {
                space: [_spread(m, s, ".1f") for m, s in zip(table["mean"][space], table["std"][space], strict=True)]
                for space in every
            },
            index=[f"layer {layer}" for layer in table.index],
        )  # fmt: skip
        grid(shown_table)
        st.caption("Mean and standard deviation of the angles between all pairs of keys.")


def _strips(result: Result, every: dict[str, np.ndarray]) -> pd.DataFrame:
    parts = []
    for at, layer in enumerate(result.layers):
        shares = superposition.angle_shares({space: cosine[at] for space, cosine in every.items()}, width=2.0)
        parts.append(
            pd.DataFrame(
                {"layer": layer, "at": (shares["low"] + shares["high"]) / 2, "density": shares["share"],
                 "curve": shares["space"]}
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


main()
