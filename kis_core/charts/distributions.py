"""How P and its angles are distributed: densities with their nulls, histograms, and small multiples of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from kis_core.charts.colours import INK, MUTED, ORANGE, PAPER, ramp
from kis_core.charts.common import LABEL_SIZE, axis, clicks, legend, plain

VALUE = "P[i, j] off the diagonal"
TAIL = "tail"  # name of the selection that a click on a density makes
TAIL_BINS = 60  # places along the axis that a click can tell apart
STRIP_PIXELS = 54
LEAST_STRIP_PIXELS = 24
STRIPS_PIXELS = 620  # about what fits a screen
ASIDE = 0.8  # opacity of the other layers than the one looked at
FILL = 0.92  # of a strip's height that its highest curve takes


def density(
    curves: pd.DataFrame,
    *,
    span: tuple[float, float],
    top: float,
    floor: float,
    log: bool = False,
    picked: Mapping[str, float] | None = None,
    tail: tuple[float, float] | None = None,
    size: int = 300,
) -> alt.LayerChart:
    """Densities of P off the diagonal, one line a curve (Fig. 4); a click tells where.

    Args:
        curves: columns `at`, `density`, `curve`; the first curve is the measured one and is filled.
        span: first and last value on the axis, the same for charts that stand side by side.
        top: highest density on the axis.
        floor: lowest density on a logarithmic axis.
        log: draw the density on a logarithmic axis, where a heavy tail is seen.
        picked: name and value of what is to be marked, such as P[i, j] of the picked pair.
        tail: range of values to shade, exactly: what lies in it is what is listed elsewhere.
        size: height in pixels.

    Returns:
        a chart whose selection `TAIL` has the fields `low` and `high`: the place that was clicked.
    """
    names = list(dict.fromkeys(curves["curve"]))
    scale = alt.Scale(type="log", domain=(floor, top), clamp=True) if log else alt.Scale(domain=(0, top))
    x = alt.X("at:Q", title=VALUE).axis(axis(tickCount=8)).scale(domain=span, nice=False)
    y_axis = axis(tickCount=5, format=".0e" if log else "~g")
    y = alt.Y("density:Q", title="density").scale(scale).axis(y_axis)
    shown = curves[curves["density"] >= floor] if log else curves
    colour = (
        alt.Color("curve:N", sort=names)
        .legend(legend(symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=3))
        .scale(domain=names)
    )
    dash = alt.StrokeDash("curve:N", sort=names, legend=None).scale(
        domain=names, range=[[1, 0], [8, 4], [2, 3], [10, 3]][: len(names)]
    )
    edges = np.linspace(*span, TAIL_BINS + 1)
    places = pd.DataFrame({"low": edges[:-1], "high": edges[1:]})
    places["base"], places["top"] = (floor if log else 0.0), top
    catch = (
        alt.Chart(places)
        .mark_rect(color=ORANGE, opacity=0.001)
        .encode(
            x=alt.X("low:Q", title=VALUE).axis(axis(tickCount=8)).scale(domain=span, nice=False),
            x2="high:Q",
            y=alt.Y("base:Q", title="density").scale(scale).axis(y_axis),
            y2="top:Q",
            tooltip=[alt.Tooltip("low:Q", title="from", format=".3f"), alt.Tooltip("high:Q", title="to", format=".3f")],
        )
        .add_params(clicks(TAIL, ["low", "high"]))
    )
    ends = [] if tail is None else [[max(tail[0], span[0]), min(tail[1], span[1]), floor if log else 0.0, top]]
    band = (
        alt.Chart(pd.DataFrame(ends, columns=["from", "to", "base", "top"], dtype=float))
        .mark_rect(fill=ORANGE, fillOpacity=0.18, stroke=ORANGE, strokeWidth=1)
        .encode(
            x=alt.X("from:Q", title=VALUE).axis(axis(tickCount=8)).scale(domain=span, nice=False),
            x2="to:Q",
            y=alt.Y("base:Q", title="density").scale(scale).axis(y_axis),
            y2="top:Q",
        )
    )
    measured = shown[shown["curve"] == names[0]] if names else shown
    layers: list[alt.Chart] = [
        band,
        alt.Chart(measured).mark_area(opacity=0.15).encode(x=x, y=y, color=colour),
        alt.Chart(shown).mark_line(strokeWidth=2.5).encode(x=x, y=y, color=colour, strokeDash=dash),
    ]
    if picked:
        layers += _marks(picked, x_scale=span, field="at", title=VALUE)
    return plain(alt.layer(*layers, catch), size)


def _marks(picked: Mapping[str, float], *, x_scale: tuple[float, float], field: str, title: str) -> list[alt.Chart]:
    """Vertical lines with their names at the top, for the picked pair."""
    marks = pd.DataFrame(
        [(value, name, row) for row, (name, value) in enumerate(picked.items()) if np.isfinite(value)],
        columns=[field, "name", "row"],
    )
    base = alt.Chart(marks).encode(
        x=alt.X(f"{field}:Q").scale(domain=x_scale, nice=False).axis(axis(tickCount=8, title=title))
    )

    def near_end(value: float) -> bool:
        return value > x_scale[0] + 0.7 * (x_scale[1] - x_scale[0])

    # two lines, so that one of them stands out on any ground
    texts = [
        base.transform_filter(f"datum.row === {row}")
        .mark_text(
            align="right" if near_end(value) else "left",
            baseline="top",
            dx=-6 if near_end(value) else 6,
            dy=4 + 18 * row,
            fontSize=LABEL_SIZE,
            fontWeight="bold",
            color=INK,
        )
        .encode(text="name:N", y=alt.value(0))
        for row, value in enumerate(picked.values())
    ]
    return [
        base.mark_rule(color=PAPER, strokeWidth=4),
        base.mark_rule(color=INK, strokeWidth=2, strokeDash=[6, 3]),
        *texts,
    ]


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
    position = {layer: at for at, layer in enumerate(layers)}
    curves["base"] = -curves["layer"].map(position).astype(float)
    curves["height"] = curves["base"] + FILL * height
    pixels = min(STRIP_PIXELS, max(LEAST_STRIP_PIXELS, STRIPS_PIXELS // max(1, len(layers))))
    x = alt.X("at:Q", title=title).axis(axis(tickCount=8)).scale(domain=span, nice=False)
    every = -(-len(layers) // 24)
    values = [-at for at in range(0, len(layers), every)]
    numbers = f"[{','.join(str(int(layer)) for layer in layers)}]"
    y_axis = axis(
        values=values,
        labelExpr=f"'layer ' + {numbers}[-datum.value]",
        labelFontWeight=alt.condition(
            f"{numbers}[-datum.value] === {int(current)}", alt.value("bold"), alt.value("normal")
        ),
        ticks=False,
        domain=False,
        labelBaseline="bottom",
    )
    y = alt.Y("height:Q", title=None).axis(y_axis).scale(domain=(-len(layers) + 0.9, 1), nice=False)
    colour = alt.Color("curve:N", sort=names).scale(domain=names)
    colour = colour.legend(legend() if len(names) > 1 else None)
    areas = (
        alt.Chart(curves[["layer", "at", "base", "height", "curve"]])
        .mark_area(line={"strokeWidth": 1.5}, fillOpacity=0.35, clip=True)
        .encode(
            x=x,
            y=y,
            y2="base:Q",
            color=colour,
            detail=["layer:N", "curve:N"],
            opacity=alt.condition(f"datum.layer === {int(current)}", alt.value(1), alt.value(ASIDE)),
        )
    )
    marks = []
    if middle is not None:
        marks.append(alt.Chart(pd.DataFrame({"at": [middle]})).mark_rule(color=MUTED, strokeDash=[4, 4]).encode(x=x))
    return plain(alt.layer(*marks, areas), pixels * max(1, len(layers)), bare=len(names) < 2)


def angle_histogram(
    shares: pd.DataFrame,
    *,
    picked: Mapping[str, float] | None = None,
    span: tuple[float, float] = (0, 180),
    chosen: tuple[float, float] | None = None,
    size: int = 320,
) -> alt.LayerChart:
    """Histograms of angles in two spaces on one axis, 90° marked (Fig. 6); a click tells which bar.

    Args:
        shares: columns `low`, `high`, `share`, `space`.
        picked: name and angle of what is to be marked, at most two.
        span: first and last angle drawn.
        chosen: range of angles to outline, as clicked before.
        size: height in pixels.

    Returns:
        a chart whose selection `TAIL` has the fields `low`, `high` and `space`.
    """
    names = list(dict.fromkeys(shares["space"]))
    x_axis = axis(values=list(range(0, 181, 15)), labelExpr="datum.value + '°'", title="angle between two keys")
    x = alt.X("low:Q").axis(x_axis).scale(domain=span, nice=False)
    shares = shares[(shares["share"] > 0) & (shares["high"] > span[0]) & (shares["low"] < span[1])].copy()
    shares["zero"] = 0.0
    shares["chosen"] = (
        False if chosen is None else (shares["low"] >= chosen[0] - 1e-9) & (shares["high"] <= chosen[1] + 1e-9)
    )
    y = alt.Y("share:Q", title="share of the pairs").axis(axis(format="~%", tickCount=5))
    bars = (
        alt.Chart(shares)
        .mark_rect(fillOpacity=0.55, strokeWidth=1)
        .encode(
            x=x,
            x2="high:Q",
            y=y,
            y2="zero:Q",
            color=alt.Color("space:N", sort=names).scale(domain=names).legend(legend()),
            stroke=alt.Stroke("space:N", sort=names, legend=None).scale(domain=names),
            tooltip=[
                alt.Tooltip("space:N", title="in"),
                alt.Tooltip("low:Q", title="from", format=".0f"),
                alt.Tooltip("high:Q", title="to", format=".0f"),
                alt.Tooltip("share:Q", title="share of the pairs", format=".2%"),
            ],
        )
        .add_params(clicks(TAIL, ["low", "high", "space"]))
    )
    outlined = (
        alt.Chart(shares[shares["chosen"]])
        .mark_rect(fill=None, stroke=INK, strokeWidth=2.5)
        .encode(x=x, x2="high:Q", y=y, y2="zero:Q")
    )
    right = (
        alt.Chart(pd.DataFrame({"low": [90.0]})).mark_rule(color=MUTED, strokeDash=[4, 4], strokeWidth=2).encode(x=x)
    )
    layers = [right, bars, outlined]
    if picked:
        layers += _marks(picked, x_scale=span, field="low", title="angle between two keys")
        for mark in layers[3:]:
            mark.encoding.x.axis = x_axis
    return plain(alt.layer(*layers), size)


def overlaid(curves: pd.DataFrame, *, title: str, legend_title: str, size: int = 300) -> alt.LayerChart:
    """Densities over each other; they stand out the more, the more went into them.

    Args:
        curves: columns `at`, `density`, `size`.
        title: of the x axis.
        legend_title: what a size counts.
        size: height in pixels.
    """
    sizes = sorted(curves["size"].unique())
    lines = (
        alt.Chart(curves)
        .mark_line(strokeWidth=2.5)
        .encode(
            x=alt.X("at:Q", title=title).axis(axis(tickCount=8)).scale(nice=False),
            y=alt.Y("density:Q", title="density").axis(axis(tickCount=5)),
            color=alt.Color("size:O", title=legend_title, sort=[int(one) for one in sizes])
            .scale(domain=[int(one) for one in sizes], range=ramp(len(sizes)))
            .legend(
                orient="right",
                labelFontSize=LABEL_SIZE,
                titleFontSize=LABEL_SIZE,
                symbolType="stroke",
                labelExpr="format(datum.value, ',')",
            ),
        )
    )
    return plain(alt.layer(lines), size, bare=True)
