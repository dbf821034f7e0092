"""Distributions: the density of P, its null, its tail, and the pairs that live there (Fig. 4, App. E)."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from kis_core import charts, superposition
from kis_core.results import pairs
from kis_core.results.result import Result
from kis_core.wording import MISSING, counted, number
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure, say
from pages.parts.figures.grid import grid
from pages.parts.figures.inspector import has_pairs, inspector, picked_or_strongest
from pages.parts.figures.pair_list import pair_list
from pages.parts.frame import state
from pages.parts.frame.page import View, frame, panel, split
from pages.parts.jobs.results import remembered, shown

SIDES = {"with": "All pairs", "without": "Without artefact pairs"}
TOLD = {"with": "All pairs", "without": "Without artefacts"}
DEFAULT_TAIL = 0.999  # quantile from which pairs are listed before anything is clicked
LISTED = 200
HELP = (
    "**Paper, Fig. 4 and App. E.** A Gaussian kernel density estimate (Scott’s bandwidth) of the off-diagonal entries "
    "of P. The dashed line is a normal distribution of the same mean and standard deviation; the dotted one is what "
    "isotropic random keys would give, a normal of standard deviation 1/√dₘ. On the logarithmic axis a heavy tail "
    "stands above the parabola of the normal. *Artefact pairs* have the same subject or the same last token: their "
    "prompts alone make their keys alike. Click anywhere to list the pairs from there outward."
)


def main() -> None:
    """The page."""
    view = frame("Distributions")
    st.subheader("Most pairs hardly overlap; a few overlap a great deal", anchor=False)
    drawn(view, shown(view))


@panel
def drawn(view: View, result: Result) -> None:
    """Densities, their numbers, the pairs of the tail; a click reruns only this."""
    if not has_pairs(result, view.layer):
        return
    st.segmented_control("Density axis", ("linear", "log"), required=True, **state.widget("axis"))
    sides = {"with": result.p[result.at(view.layer)], "without": result.clean(view.layer)}
    tail = state.get("tail") or _default_tail(sides[state.get("artefacts")])
    pair = picked_or_strongest(result, view.layer)
    figures, pairs_of_tail, layers = st.container(), st.container(), st.container()
    with pairs_of_tail:  # first, so that it answers before the browser redraws the figures
        _tail(view, result, tail, pair)
    with figures:
        _densities(view, result, sides, tail, pair)
        _numbers(view, result, sides)
    with layers:
        _layers(view, result)


def _default_tail(p: np.ndarray) -> tuple[float, float]:
    entries = superposition.finite_entries(p)
    if not len(entries):
        return 0.0, 0.0
    return float(np.quantile(entries, DEFAULT_TAIL)), float(entries.max())


def _densities(
    view: View,
    result: Result,
    sides: dict[str, np.ndarray],
    tail: tuple[float, float],
    pair: tuple[int, int] | None,
) -> None:
    curves = {
        name: remembered(
            result, ("density", name, view.layer), lambda p=p: superposition.density_curves(p, result.mlp_width)
        )
        for name, p in sides.items()
    }
    every = pd.concat(list(curves.values()))
    if every.empty:
        st.info("All pairs have the same P, so there is no density to draw.", icon=":material/info:")
        return
    span, top = (float(every["at"].min()), float(every["at"].max())), 1.06 * float(every["density"].max())
    floor = remembered(result, ("floor", view.layer), lambda: superposition.density_floor(sides["with"]))
    columns = split(1, 1, "split-densities")
    for column, (name, p) in zip(columns, sides.items(), strict=True):
        with column:
            st.markdown(f"**{SIDES[name]}**")
            if curves[name].empty:
                st.info("No pair is left, or all have the same P.", icon=":material/info:")
                continue
            key = state.fresh(f"density-{name}")
            count = len(superposition.finite_entries(p))
            marked = pair is not None and bool(np.isfinite(p[pair])) and pair[0] != pair[1]
            told = ""
            if pair and marked:
                told = f" Marked: the picked pair, P[{pair[0]}, {pair[1]}] = {number(p[pair], '+.3f')}."
            figure(
                view,
                result,
                drawing(
                    charts.density,
                    curves[name],
                    span=span,
                    top=top,
                    floor=min(floor, top / 10),
                    log=state.get("axis") == "log",
                    picked={f"P[{pair[0]}, {pair[1]}]": float(p[pair])} if marked else None,
                    tail=tail if state.get("artefacts") == name else None,
                ),
                FigureText(
                    title=f"Density of P, {SIDES[name].lower()}",
                    caption=f"How often each P occurs among {counted(count, 'pair')} (Fig. 4). Click the tail for "
                    f"its pairs.{told}",
                    help=HELP,
                    data=lambda name=name: curves[name],
                    code=("p = result.clean({layer})\n" if name == "without" else "").format(layer=view.layer)
                    + "curves = statistics.density_curves(p, result.mlp_width)",
                    layer=view.layer,
                ),
                key=key,
                on_select=partial(_clicked, key, name, p, span),
                selection_mode=charts.TAIL,
            )


def _clicked(key: str, side: str, p: np.ndarray, span: tuple[float, float]) -> None:
    """From the clicked place outward, away from the mean."""
    places = state.clicked(key, charts.TAIL)
    if places:
        state.forget(*(f"density-{other}" for other in SIDES if other != side))
        low, high = float(places[0]["low"]), float(places[0]["high"])
        right = (low + high) / 2 >= float(np.nanmean(superposition.finite_entries(p)))
        state.choose("artefacts", side)
        state.choose("tail", (round(low, 6), round(span[1], 6)) if right else (round(span[0], 6), round(high, 6)))


def _numbers(view: View, result: Result, sides: dict[str, np.ndarray]) -> None:
    report = result.reports[result.at(view.layer)]
    known = {"with": (report.moments, report.interval), "without": (report.clean_moments, report.clean_interval)}
    rows = {
        TOLD[name]: remembered(
            result, ("description", name, view.layer), lambda name=name, p=p: superposition.description(p, *known[name])
        )
        for name, p in sides.items()
    }
    normal = superposition.tails(sides["with"])
    rows["Normal, same std"] = {
        f"{level:.1%}": value for level, value in normal[["level", "normal"]].itertuples(index=False)
    } | {"skewness": 0.0, "excess kurtosis": 0.0}
    rows["Isotropic keys"] = {"mean": 0.0, "std": superposition.isotropic_std(result.mlp_width)}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.insert(5, "interval", [_interval(*ends) for ends in zip(table.pop("from"), table.pop("to"), strict=True)])
    columns: dict[str, object] = {
        name: st.column_config.NumberColumn(name, format="%.2f", width=56) for name in table.columns if "%" in name
    }
    columns |= {name: st.column_config.NumberColumn(name, format="%.3f", width=64) for name in ("mean", "std")}
    columns |= {
        "_index": st.column_config.Column(width=144),
        "pairs": st.column_config.NumberColumn("pairs", format="localized", width=70),
        "skewness": st.column_config.NumberColumn("skew", format="%.2f", width=56),
        "excess kurtosis": st.column_config.NumberColumn(
            "kurtosis", format="%.1f", width=70, help="excess: 0 if normal"
        ),
        "interval": st.column_config.TextColumn("interval", width=100, help="95 %, bootstrapped over facts"),
    }
    grid(table, columns=columns)
    st.caption(
        "Interval: 95 % of the kurtosis over resampled facts, since the entries of a row share a fact. Percentages: "
        "quantiles of P."
    )


def _interval(low: float, high: float) -> str:
    return MISSING if np.isnan(low) else f"{number(low, '.1f')} to {number(high, '.1f')}"


def _tail(view: View, result: Result, tail: tuple[float, float], pair: tuple[int, int] | None) -> None:
    side = state.get("artefacts")
    found = pairs.table(result, view.layer, count=LISTED, between=tail, tags=("no tag",) if side == "without" else ())
    p = superposition.finite_entries(result.clean(view.layer) if side == "without" else result.p[result.at(view.layer)])
    count = int(((p >= tail[0]) & (p <= tail[1])).sum())
    left, right = split(1.45, 1, "split-tail")
    with right:
        inspector(view, result, pair)
    with left:
        cut = f", the strongest {LISTED} shown" if count > len(found) else ""
        what = "The one pair" if count == 1 else f"The {counted(count, 'pair')}"
        st.markdown(
            f"**{what} with P from {number(tail[0])} to {number(tail[1])}** ({SIDES[side].lower()}{cut})"
            f"{_outside(result, view, side, tail, pair)}"
        )
        pair_list(found, pair, key="tail", height=560)
        tags = ", tags=['no tag']" if side == "without" else ""
        say(
            view,
            result,
            FigureText(
                title="Pairs of the tail",
                caption="By falling |P[i, j]|. Click a row to open its pair.",
                help=HELP,
                data=lambda: found,
                code=f"pairs.table(result, {view.layer}, count={LISTED}, between={tail!r}{tags})",
                layer=view.layer,
                brief=True,
            ),
            chart=None,
            key="tail-pairs",
        )


def _outside(result: Result, view: View, side: str, tail: tuple[float, float], pair: tuple[int, int] | None) -> str:
    """Why the marked pair is not among those listed, if it is not."""
    if pair is None or pair[0] == pair[1]:
        return ""
    p = float(result.p[result.at(view.layer)][pair])
    if side == "without" and not np.isfinite(result.clean(view.layer)[pair]):
        why = "is an artefact pair and left out here"
    elif np.isfinite(p) and not tail[0] <= p <= tail[1]:
        why = f"has P = {number(p, '+.3f')}, outside of that"
    else:
        return ""
    return f". The marked pair, {pair[0]} and {pair[1]}, {why}."


def _layers(view: View, result: Result) -> None:
    if len(result.layers) < 2:
        return
    st.markdown("**All layers on one scale**")
    sides = {"with": result.p, "without": superposition.without(result.p, result.artefacts)}
    entries = [superposition.finite_entries(one) for one in result.p]
    low, high = min(e.min() for e in entries if len(e)), max(e.max() for e in entries if len(e))
    margin = 0.03 * (high - low) or 0.01
    span = (float(low - margin), float(high + margin))
    log = state.get("axis") == "log"
    for column, (name, p) in zip(split(1, 1, "split-layers"), sides.items(), strict=True):
        curves = remembered(
            result, ("layers", name), lambda p=p: superposition.layer_densities(p, result.layers, span=span)
        )
        floor = remembered(
            result, ("floor", view.layer), lambda: superposition.density_floor(result.p[result.at(view.layer)])
        )
        with column:
            figure(
                view,
                result,
                drawing(
                    charts.strips,
                    curves,
                    layers=result.layers,
                    current=view.layer,
                    span=span,
                    title="P[i, j] off the diagonal",
                    log_floor=floor if log else None,
                ),
                FigureText(
                    title=f"Density of P by layer, {SIDES[name].lower()}",
                    caption=f"{SIDES[name]}, one strip a layer, all on the same {state.get('axis')} scale (App. E).",
                    help="**Paper, App. E.** As above, for every layer. The layer chosen on the left is in bold.",
                    data=lambda curves=curves: curves,
                    code=(
                        "p = statistics.without(result.p, result.artefacts)\n"
                        if name == "without"
                        else "p = result.p\n"
                    )
                    + f"curves = statistics.layer_densities(p, result.layers, span={span!r})",
                ),
                key=f"layers-{name}",
            )


main()
