"""How P and its angles are distributed: densities and counts with their nulls, histograms, and multiples of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from kis_core.charts.colours import INK, MUTED, ORANGE, ramp
from kis_core.charts.common import LABEL_SIZE, axis, clicks, legend, line_legend, named_lines, on_axis, plain, tip
from kis_core.superposition.densities import ISOTROPIC, MEASURED, SAME_STD

VALUE = "P[i, j] off the diagonal"
TAIL = "tail"  # name of the selection that a click on a density makes
TAIL_BINS = 60  # places along the axis that a click can tell apart
STRIP_PIXELS = 54
LEAST_STRIP_PIXELS = 24
STRIPS_PIXELS = 620  # about what fits a screen
MOST_LABELLED = 24  # strips whose layer is written beside them
ASIDE = 0.8  # opacity of the layers that are not looked at
FILL = 0.92  # of a strip's height that its highest curve takes
FLOOR = 0.5  # pairs, where an axis of counts ends: half as high as the bar of a single pair
DASHES = [[1, 0], [8, 4], [2, 3], [10, 3]]
ROUNDING = 1e-9  # degrees, far less than a bar is wide


def density(
    curves: pd.DataFrame,
    *,
    span: tuple[float, float],
    top: float,
    floor: float,
    log: bool = False,
    picked: Mapping[str, float] | None = None,
    tail: tuple[float, float] | None = None,
) -> alt.LayerChart:
    """Densities of P off the diagonal, one line a curve (Fig. 4); a click selects a place on the axis.

    Args:
        curves: columns `at`, `density`, `curve`; the first curve is the measured one and is filled.
        span: first and last value on the axis, the same for charts that stand side by side.
        top: highest density on the axis.
        floor: lowest density on a logarithmic axis.
        log: draw the density on a logarithmic axis, where a heavy tail is seen.
        picked: name and value of what is to be marked, such as P[i, j] of the picked pair.
        tail: range of values to shade, exactly: the pairs in it are those listed elsewhere.

    Returns:
        a chart whose selection `TAIL` has the fields `low` and `high`: the place that was clicked.
    """
    names = list(dict.fromkeys(curves["curve"]))
    base = floor if log else 0.0
    scale = {"type": "log", "domain": (floor, top), "clamp": True} if log else {"domain": (0, top)}
    y_axis = axis(tickCount=5, format=".0e" if log else "~g")
    x = on_axis(alt.X, VALUE, axis(tickCount=8), domain=span)
    y = alt.Y("density:Q", title="density").scale(**scale).axis(y_axis)
    low = alt.Y("base:Q", title="density").scale(**scale).axis(y_axis)
    colour, dash = _line_styles(names)
    edges = np.linspace(*span, TAIL_BINS + 1)
    places = alt.Chart(pd.DataFrame({"low": edges[:-1], "high": edges[1:], "base": base, "top": top}))
    catch = places.mark_rect(color=ORANGE, opacity=0.001).encode(
        x=x("low"), x2="high:Q", y=low, y2="top:Q", tooltip=[tip("low:Q", "from", ".3f"), tip("high:Q", "to", ".3f")]
    )
    ends = [] if tail is None else [[max(tail[0], span[0]), min(tail[1], span[1]), base, top]]
    band = alt.Chart(pd.DataFrame(ends, columns=["from", "to", "base", "top"], dtype=float))
    band = band.mark_rect(fill=ORANGE, fillOpacity=0.18, stroke=ORANGE, strokeWidth=1)
    shown = curves[curves["density"] >= floor] if log else curves
    measured = shown[shown["curve"] == names[0]] if names else shown
    layers = [
        band.encode(x=x("from"), x2="to:Q", y=low, y2="top:Q"),
        alt.Chart(measured).mark_area(opacity=0.15).encode(x=x("at"), y=y, color=colour),
        alt.Chart(shown).mark_line(strokeWidth=2.5).encode(x=x("at"), y=y, color=colour, strokeDash=dash),
        *(named_lines(picked, x, span) if picked else []),
        catch.add_params(clicks(TAIL, ["low", "high"])),
    ]
    return plain(alt.layer(*layers), 300)


def counts(bars: pd.DataFrame, *, picked: Mapping[str, float] | None = None) -> alt.LayerChart:
    """A histogram of counts, in which the tail of a few pairs is seen beside the bulk of millions.

    Args:
        bars: columns `low`, `high`, `count`, `SAME_STD` and `ISOTROPIC`, as `sweep.bars` gives them.
        picked: name and value of what is to be marked, such as P[i, j] of the picked pair.
    """
    names = [MEASURED, SAME_STD, ISOTROPIC]
    low, high = (float(bars["low"].min()), float(bars["high"].max())) if len(bars) else (-1.0, 1.0)
    top = 1.6 * max(1.0, float(bars["count"].max()) if len(bars) else 1.0)
    x = on_axis(alt.X, VALUE, axis(tickCount=8), domain=(low, high))
    y = on_axis(alt.Y, "pairs", axis(tickCount=6, format="~s"), type="log", domain=(FLOOR, top), clamp=True)
    colour, dash = _line_styles(names)
    filled = bars.loc[bars["count"] > 0, ["low", "high", "count"]].assign(curve=MEASURED, base=FLOOR)
    rects = alt.Chart(filled).mark_rect(opacity=0.85)
    rects = rects.encode(
        x=x("low"),
        x2="high:Q",
        y=y("count"),
        y2="base:Q",
        color=colour,
        tooltip=[tip("low:Q", "from", ".4f"), tip("high:Q", "to", ".4f"), tip("count:Q", "pairs", ",")],
    )
    nulls = bars[[SAME_STD, ISOTROPIC]].assign(at=(bars["low"] + bars["high"]) / 2)
    nulls = nulls.melt("at", var_name="curve", value_name="count")
    lines = alt.Chart(nulls[nulls["count"] >= FLOOR]).mark_line(strokeWidth=2.5)
    lines = lines.encode(x=x("at"), y=y("count"), color=colour, strokeDash=dash)
    seen = {name: value for name, value in (picked or {}).items() if low <= value <= high}
    return plain(alt.layer(rects, lines, *(named_lines(seen, x, (low, high)) if seen else [])), 320)


def _line_styles(names: list[str]) -> tuple[alt.Color, alt.StrokeDash]:
    """Colour and dashes of lines by the field `curve`; the first line has no dashes."""
    dash = alt.StrokeDash("curve:N", sort=names, legend=None).scale(domain=names, range=DASHES[: len(names)])
    return alt.Color("curve:N", sort=names).scale(domain=names).legend(line_legend()), dash


def strips(
    curves: pd.DataFrame,
    *,
    layers: Sequence[int],
    current: int,
    span: tuple[float, float],
    title: str,
    log_floor: float | None = None,
    middle: float | None = None,
) -> alt.LayerChart:
    """Small multiples: one strip a layer, all with the same axes, the current layer named in bold.

    Args:
        curves: columns `layer`, `at`, `density`, and `curve` where there are several a layer.
        layers: layer numbers, first on top.
        current: the layer to stress.
        span: first and last value on the axis.
        title: of that axis.
        log_floor: draw the logarithm of the density, from this value up; linear if None.
        middle: a value to mark in every strip.
    """
    curves = curves.copy()
    if "curve" not in curves:
        curves["curve"] = ""
    names = list(dict.fromkeys(curves["curve"]))
    top = float(curves["density"].max()) if len(curves) else 1.0
    if log_floor is None:
        height = curves["density"] / top
    else:
        height = np.log(curves["density"].clip(lower=log_floor) / log_floor) / np.log(max(top / log_floor, 1.001))
    curves["base"] = -curves["layer"].map({layer: at for at, layer in enumerate(layers)}).astype(float)
    curves["height"] = curves["base"] + FILL * height
    x = on_axis(alt.X, title, axis(tickCount=8), domain=span)
    # positions of the strips fall from 0; the axis looks their layers up, as no field of the data holds both
    number = f"[{','.join(str(int(layer)) for layer in layers)}][-datum.value]"
    y_axis = axis(
        values=[-at for at in range(0, len(layers), -(-len(layers) // MOST_LABELLED))],
        labelExpr=f"'layer ' + {number}",
        labelFontWeight=alt.condition(f"{number} === {int(current)}", alt.value("bold"), alt.value("normal")),
        ticks=False,
        domain=False,
        labelBaseline="bottom",
    )
    colour = alt.Color("curve:N", sort=names).scale(domain=names).legend(legend() if len(names) > 1 else None)
    areas = alt.Chart(curves[["layer", "at", "base", "height", "curve"]])
    areas = areas.mark_area(line={"strokeWidth": 1.5}, fillOpacity=0.35, clip=True).encode(
        x=x("at"),
        y=alt.Y("height:Q", title=None).axis(y_axis).scale(domain=(-len(layers) + 0.9, 1), nice=False),
        y2="base:Q",
        color=colour,
        detail=["layer:N", "curve:N"],
        opacity=alt.condition(f"datum.layer === {int(current)}", alt.value(1), alt.value(ASIDE)),
    )
    marks = []
    if middle is not None:
        marks.append(_dashed(pd.DataFrame({"at": [middle]})).encode(x=x("at")))
    pixels = min(STRIP_PIXELS, max(LEAST_STRIP_PIXELS, STRIPS_PIXELS // max(1, len(layers))))
    return plain(alt.layer(*marks, areas), pixels * max(1, len(layers)), bare=len(names) < 2)


def _dashed(places: pd.DataFrame, **options: float) -> alt.Chart:
    """Dashed lines to compare with."""
    return alt.Chart(places).mark_rule(color=MUTED, strokeDash=[4, 4], **options)


def angle_histogram(
    shares: pd.DataFrame,
    *,
    picked: Mapping[str, float] | None = None,
    span: tuple[float, float] = (0, 180),
    chosen: tuple[float, float] | None = None,
) -> alt.LayerChart:
    """Histograms of angles in two spaces on one axis, 90° marked (Fig. 6); a click selects a bar.

    Args:
        shares: columns `low`, `high`, `share`, `space`.
        picked: name and angle of what is to be marked, at most two.
        span: first and last angle drawn.
        chosen: range of angles to outline, as clicked before.

    Returns:
        a chart whose selection `TAIL` has the fields `low`, `high` and `space`.
    """
    names = list(dict.fromkeys(shares["space"]))
    shares = shares[(shares["share"] > 0) & (shares["high"] > span[0]) & (shares["low"] < span[1])].assign(zero=0.0)
    low, high = chosen or (np.inf, -np.inf)
    outlined = shares[(shares["low"] >= low - ROUNDING) & (shares["high"] <= high + ROUNDING)]
    x_axis = axis(values=list(range(0, 181, 15)), labelExpr="datum.value + '°'")
    x = on_axis(alt.X, "angle between two keys", x_axis, domain=span)
    y = alt.Y("share:Q", title="share of the pairs").axis(axis(format="~%", tickCount=5))
    bars = alt.Chart(shares).mark_rect(fillOpacity=0.55, strokeWidth=1)
    bars = bars.encode(
        x=x("low"),
        x2="high:Q",
        y=y,
        y2="zero:Q",
        color=alt.Color("space:N", sort=names).scale(domain=names).legend(legend()),
        stroke=alt.Stroke("space:N", sort=names, legend=None).scale(domain=names),
        tooltip=[
            tip("space:N", "in"),
            tip("low:Q", "from", ".0f"),
            tip("high:Q", "to", ".0f"),
            tip("share:Q", "share of the pairs", ".2%"),
        ],
    )
    ring = alt.Chart(outlined).mark_rect(fill=None, stroke=INK, strokeWidth=2.5)
    layers = [
        _dashed(pd.DataFrame({"low": [90.0]}), strokeWidth=2).encode(x=x("low")),
        bars.add_params(clicks(TAIL, ["low", "high", "space"])),
        ring.encode(x=x("low"), x2="high:Q", y=y, y2="zero:Q"),
        *(named_lines(picked, x, span) if picked else []),
    ]
    return plain(alt.layer(*layers), 320)


def overlaid(curves: pd.DataFrame, *, title: str, legend_title: str) -> alt.LayerChart:
    """Densities over each other; a curve stands out the more, the more facts or tokens went into it.

    Args:
        curves: columns `at`, `density`, `size`.
        title: of the x axis.
        legend_title: what a size counts.
    """
    sizes = [int(count) for count in sorted(curves["size"].unique())]
    colour = alt.Color("size:O", title=legend_title, sort=sizes).scale(domain=sizes, range=ramp(len(sizes)))
    lines = alt.Chart(curves).mark_line(strokeWidth=2.5)
    lines = lines.encode(
        x=alt.X("at:Q", title=title).axis(axis(tickCount=8)).scale(nice=False),
        y=alt.Y("density:Q", title="density").axis(axis(tickCount=5)),
        color=colour.legend(
            orient="right",
            labelFontSize=LABEL_SIZE,
            titleFontSize=LABEL_SIZE,
            symbolType="stroke",
            labelExpr="format(datum.value, ',')",
        ),
    )
    return plain(alt.layer(lines), 300, bare=True)
