"""Distributions: the density of P, what it is compared with, its tail, and the pairs there (Fig. 4, App. E)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from kis_core import charts, superposition
from kis_core.results import caveats, pairs
from kis_core.superposition.verdicts import heavy_tail, zero_mean
from kis_core.wording import MISSING, counted, number
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, Pick, caption, figure
from pages.parts.figures.grid import grid
from pages.parts.figures.inspector import has_pairs, inspector, marked_off_diagonal, picked_or_strongest
from pages.parts.figures.pair_list import pair_list
from pages.parts.figures.verdicts import verdicts
from pages.parts.frame import state
from pages.parts.frame.glossary import explain
from pages.parts.frame.page import frame, panel, split
from pages.parts.frame.views import ResultView
from pages.parts.jobs.results import remembered, shown

SIDES = {"with": "All pairs", "without": "Without artefact pairs"}
SHORT = {"with": "All pairs", "without": "Without artefacts"}
LISTED = 200
HELP = (
    "**Paper, Fig. 4 and App. E.** A Gaussian kernel density estimate (Scott’s bandwidth) of the off-diagonal entries "
    "of P. The dashed line is a normal distribution of the same mean and standard deviation; the dotted one is what "
    "isotropic random keys would give, a normal of standard deviation 1/√dₘ. On the logarithmic axis a heavy tail "
    "stands above the parabola of the normal. Click anywhere to list the pairs from there outward.\n\n" + explain("tag")
)


Sides = Mapping[str, np.ndarray]  # P of the layer, and P without artefact pairs, by their name in `SIDES`
Ends = tuple[float, float]


def main() -> None:
    """The page."""
    view = frame("Distributions")
    st.subheader("How do pairs overlap: many a little, or a few a great deal?", anchor=False)
    drawn(shown(view))


@panel
def drawn(view: ResultView) -> None:
    """Densities, their numbers, the pairs of the tail; a click reruns only this."""
    if not has_pairs(view):
        return
    name = state.get("artefacts")
    p = view.result.clean(view.layer) if name == "without" else view.p
    judged = remembered(view.result, ("tail", name, view.layer), lambda: (heavy_tail(p), zero_mean(p)))
    verdicts(judged)
    st.segmented_control("Density axis", ("linear", "log"), required=True, **state.widget("axis"))
    sides = {"with": view.p, "without": view.result.clean(view.layer)}
    tail = state.get("tail") or superposition.upper_tail(sides[state.get("artefacts")])
    pair = picked_or_strongest(view)
    figures, pairs_of_tail, layers = st.container(), st.container(), st.container()
    with pairs_of_tail:  # first, so that it answers before the browser redraws the figures
        _tail(view, tail, pair)
    with figures:
        _densities(view, sides, tail, pair)
        _numbers(view, sides)
    with layers:
        _layers(view)


def _densities(view: ResultView, sides: Sides, tail: Ends, pair: tuple[int, int] | None) -> None:
    curves = {name: _curves(view, name, p) for name, p in sides.items()}
    every = pd.concat(list(curves.values()))
    if every.empty:
        st.info("All pairs have the same P, so there is no density to draw.", icon=":material/info:")
        return
    span, top = (float(every["at"].min()), float(every["at"].max())), 1.06 * float(every["density"].max())
    axes: dict[str, Any] = {
        "span": span,
        "top": top,
        "floor": min(_floor(view), top / 10),
        "log": state.get("axis") == "log",
    }
    for column, (name, p) in zip(split(1, 1, "split-densities"), sides.items(), strict=True):
        with column:
            st.markdown(f"**{SIDES[name]}**")
            if curves[name].empty:
                st.info("No pair is left, or all have the same P.", icon=":material/info:")
                continue
            mark, sentence = marked_off_diagonal(pair, float(p[pair]) if pair else None)
            count = counted(len(superposition.finite_entries(p)), "pair")
            clean = f"p = result.clean({view.layer})\n" if name == "without" else ""
            here = tail if state.get("artefacts") == name else None
            figure(
                view,
                drawing(charts.density, curves[name], picked=mark or None, tail=here, **axes),
                FigureText(
                    title=f"Density of P, {SIDES[name].lower()}",
                    caption=f"How often each P occurs among {count} (Fig. 4). Click the tail for its pairs.{sentence}",
                    help=HELP,
                    data=partial(curves.__getitem__, name),
                    code=f"{clean}curves = superposition.density_curves(p, result.mlp_width)",
                ),
                key=state.fresh(f"density-{name}"),
                pick=Pick(charts.TAIL, partial(_picked, name, p, span)),
            )


def _curves(view: ResultView, side: str, p: np.ndarray) -> pd.DataFrame:
    key = ("density", side, view.layer)
    return remembered(view.result, key, lambda: superposition.density_curves(p, view.result.mlp_width))


def _floor(view: ResultView) -> float:
    """Where a logarithmic axis ends."""
    return remembered(view.result, ("floor", view.layer), lambda: superposition.density_floor(view.p))


def _picked(side: str, p: np.ndarray, span: Ends, place: dict[str, Any]) -> None:
    """From the clicked place outward, away from the mean."""
    state.forget(*(f"density-{other}" for other in SIDES if other != side))
    low, high = float(place["low"]), float(place["high"])
    right = (low + high) / 2 >= float(np.nanmean(superposition.finite_entries(p)))
    state.choose("artefacts", side)
    state.choose("tail", (round(low, 6), round(span[1], 6)) if right else (round(span[0], 6), round(high, 6)))


def _numbers(view: ResultView, sides: Sides) -> None:
    report = view.result.reports[view.result.at(view.layer)]
    known = {"with": (report.moments, report.interval), "without": (report.clean_moments, report.clean_interval)}
    rows = {
        SHORT[name]: remembered(
            view.result, ("description", name, view.layer), partial(superposition.description, p, *known[name])
        )
        for name, p in sides.items()
    }
    normal = superposition.tails(sides["with"])[["level", "normal"]].itertuples(index=False)
    rows["Normal, same std"] = {f"{level:.1%}": value for level, value in normal}
    rows["Normal, same std"] |= {"skewness": 0.0, "excess kurtosis": 0.0}
    rows["Isotropic keys"] = {"mean": 0.0, "std": superposition.isotropic_std(view.result.mlp_width)}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.insert(5, "interval", [_interval(*ends) for ends in zip(table.pop("from"), table.pop("to"), strict=True)])
    column = st.column_config.NumberColumn
    quantiles = {name: column(name, format="%.2f", width=56) for name in table.columns if "%" in name}
    columns = {
        "_index": st.column_config.Column(width=144),
        "mean": column("mean", format="%.3f", width=64),
        "std": column("std", format="%.3f", width=64),
        "pairs": column("pairs", format="localized", width=70),
        "skewness": column("skew", format="%.2f", width=56),
        "excess kurtosis": column("kurtosis", format="%.1f", width=70, help=explain("kurtosis")),
        "interval": st.column_config.TextColumn("interval", width=100, help="95 %, bootstrapped over facts"),
    }
    grid(table, columns=quantiles | columns)
    st.caption(
        " ".join(
            [
                "Interval: 95 % of the kurtosis over resampled facts, since the entries of a row share a fact. "
                "Percentages: quantiles of P.",
                *caveats.of_tags(view.result, (view.layer,)),
            ]
        ),
        help=explain("moments of P", "first token", "weak key"),
    )


def _interval(low: float, high: float) -> str:
    return MISSING if np.isnan(low) else f"{number(low, '.1f')} to {number(high, '.1f')}"


def _tail(view: ResultView, tail: Ends, pair: tuple[int, int] | None) -> None:
    clean = state.get("artefacts") == "without"
    side = view.result.clean(view.layer) if clean else view.p
    table = pairs.table(
        view.result, view.layer, count=LISTED, between=tail, where=~view.result.artefacts if clean else None
    )
    entries = superposition.finite_entries(side)
    count = int(((entries >= tail[0]) & (entries <= tail[1])).sum())
    left, right = split(1.45, 1, "split-tail")
    with right:
        inspector(view, pair)
    with left:
        cut = f", the strongest {LISTED} shown" if count > len(table) else ""
        what = "The one pair" if count == 1 else f"The {counted(count, 'pair')}"
        between = f"P from {number(tail[0])} to {number(tail[1])}"
        name = SIDES["without" if clean else "with"].lower()
        st.markdown(f"**{what} with {between}** ({name}{cut}){_outside(view, side, tail, pair)}")
        pair_list(table, pair, key="tail", height=560)
        where = ", where=~result.artefacts" if clean else ""
        text = FigureText(
            title="Pairs of the tail",
            caption="By falling |P[i, j]|. Click a row to open its pair.",
            help=HELP,
            data=lambda: table,
            code=f"pairs.table(result, {view.layer}, count={LISTED}, between={tail!r}{where})",
            brief=True,
        )
        caption(view, text, key="tail-pairs")


def _outside(view: ResultView, side: np.ndarray, tail: Ends, pair: tuple[int, int] | None) -> str:
    """Why the marked pair is not among those listed, if it is not."""
    if pair is None or pair[0] == pair[1] or not np.isfinite(p := float(view.p[pair])):
        return ""
    if not np.isfinite(side[pair]):
        why = "is an artefact pair and left out here"
    elif not tail[0] <= p <= tail[1]:
        why = f"has P = {number(p, '+.3f')}, outside of that"
    else:
        return ""
    return f". The marked pair, {pair[0]} and {pair[1]}, {why}."


def _layers(view: ResultView) -> None:
    result = view.result
    if len(result.layers) < 2:
        return
    st.markdown("**All layers on one scale**")
    entries = [superposition.finite_entries(p) for p in result.p]
    low, high = min(e.min() for e in entries if len(e)), max(e.max() for e in entries if len(e))
    margin = 0.03 * (high - low) or 0.01
    span = (float(low - margin), float(high + margin))
    axes: dict[str, Any] = {
        "layers": result.layers,
        "current": view.layer,
        "span": span,
        "title": "P[i, j] off the diagonal",
    }
    axes["log_floor"] = _floor(view) if state.get("axis") == "log" else None
    without = superposition.without(result.p, result.artefacts)
    sides = {"with": (result.p, "result.p"), "without": (without, "superposition.without(result.p, result.artefacts)")}
    for column, (name, (p, code)) in zip(split(1, 1, "split-layers"), sides.items(), strict=True):
        curves = remembered(
            result, ("layers", name), partial(superposition.layer_densities, p, result.layers, span=span)
        )
        text = FigureText(
            title=f"Density of P by layer, {SIDES[name].lower()}",
            caption=f"{SIDES[name]}, one strip a layer, all on the same {state.get('axis')} scale (App. E).",
            help="**Paper, App. E.** As above, for every layer. The layer chosen on the left is in bold.",
            data=curves.copy,
            code=f"p = {code}\ncurves = superposition.layer_densities(p, result.layers, span={span!r})",
            all_layers=True,
        )
        with column:
            figure(view, drawing(charts.strips, curves, **axes), text, key=f"layers-{name}")


main()
