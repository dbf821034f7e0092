"""Numbers over layers, model sizes and sample sizes."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from kis_core.charts.colours import MUTED, PAPER
from kis_core.charts.common import LABEL_SIZE, axis, clicks, legend, plain, texts, tip

APART = 0.4  # of the way between two layers, which the points of the models share so that no interval hides another
MODEL = "model"  # name of the selection that a click on a model's point makes
KURTOSIS = alt.Y("kurtosis:Q", title="excess kurtosis of P").axis(axis(grid=True, tickCount=6))
SCALED = [
    tip("model:N"),
    tip("parameters:Q", form=",.3s"),
    tip("layer:Q"),
    tip("kurtosis:Q", form=".1f"),
    tip("low_text:N", "interval from"),
    tip("high_text:N", "to"),
]


def by_layer(layers: Sequence[int], series: dict[str, Sequence[float]], current: int) -> alt.LayerChart:
    """Small lines over the layers, one per series, with the current layer marked and the last value named."""
    frame = pd.DataFrame(
        [(layer, name, value) for name, values in series.items() for layer, value in zip(layers, values, strict=True)],
        columns=["layer", "series", "value"],
    )
    colour = alt.Color("series:N", title=None, sort=list(series))
    base = alt.Chart(frame).encode(
        x=alt.X("layer:Q", title="layer").axis(axis(values=list(layers), format="d")),
        y=alt.Y("value:Q", title=None).axis(axis(tickCount=4, grid=True)),
        color=colour.legend(legend(labelFontSize=LABEL_SIZE + 1, symbolType="stroke")),
    )
    marker = alt.Chart(pd.DataFrame({"layer": [current]})).mark_rule(strokeDash=[4, 4], color=MUTED).encode(x="layer:Q")
    zero = alt.Chart(pd.DataFrame({"value": [0.0]})).mark_rule(color=MUTED).encode(y="value:Q")
    lines = base.mark_line(point=alt.OverlayMarkDef(size=60), strokeWidth=2.5)
    lines = lines.encode(tooltip=[tip("layer:Q"), tip("series:N"), tip("value:Q", form=".3f")])
    return plain(alt.layer(zero, marker, lines), 110)


def kurtosis_by_layer(frame: pd.DataFrame, *, current: tuple[str, int]) -> alt.LayerChart:
    """Kurtosis of P over the layers, one line a model, coloured by family, wider the larger the model (Fig. 5).

    Args:
        frame: columns `model`, `family`, `parameters`, `layer`, `kurtosis`, `low`, `high`.
        current: model and layer to ring.

    Returns:
        a chart whose selection `MODEL` has the fields `model` and `layer`.
    """
    layers = sorted(frame["layer"].unique())
    models = list(dict.fromkeys(frame["model"]))
    aside = {model: APART * (at - (len(models) - 1) / 2) / len(models) for at, model in enumerate(models)}
    frame = frame.assign(at=frame["layer"] + frame["model"].map(aside).astype(float))
    x = alt.X("at:Q", title="layer").axis(axis(values=[int(layer) for layer in layers], format="d"))
    x = x.scale(domain=(min(layers) - 0.3, max(layers) + 0.3) if layers else (0, 1), nice=False)
    width = alt.StrokeWidth("parameters:Q", legend=None).scale(type="log", range=[1, 5])
    area = alt.Size("parameters:Q", legend=None).scale(type="log", range=[60, 260])
    bars, lines, points, ring = _kurtosis(frame, x, current)
    last = frame.dropna(subset="kurtosis").sort_values("layer").drop_duplicates("model", keep="last")
    names = _names(last, x, dx=12, limit=150)
    layered = [bars, lines.encode(detail="model:N", strokeWidth=width), points.encode(size=area), names, *ring]
    return plain(alt.layer(*layered), 360)


def kurtosis_by_size(frame: pd.DataFrame, *, current: tuple[str, int]) -> alt.LayerChart:
    """Kurtosis of P against the number of parameters, one point a model (Fig. 5).

    Args:
        frame: as of `kurtosis_by_layer`, one row a model.
        current: model and layer to ring.

    Returns:
        a chart whose selection `MODEL` has the fields `model` and `layer`.
    """
    x = alt.X("parameters:Q", title="parameters").scale(type="log", nice=False, padding=30)
    x = x.axis(axis(format=".2~s", tickCount=5))
    bars, lines, points, ring = _kurtosis(frame, x, current)
    ordered = frame.sort_values("parameters", ignore_index=True)
    # names of neighbours stand below and above in turn, so that they do not meet
    names = [_names(ordered[side::2], x, dx=9, dy=dy, limit=160) for side, dy in ((0, 14), (1, -10))]
    return plain(alt.layer(bars, lines, points, *names, *ring), 360)


def _kurtosis(
    frame: pd.DataFrame, x: alt.X, current: tuple[str, int]
) -> tuple[alt.Chart, alt.Chart, alt.Chart, list[alt.Chart]]:
    """Kurtosis of models on an x axis: intervals, lines by family, clickable points, and a ring around the current."""
    families = sorted(frame["family"].unique())
    colour = alt.Color("family:N", sort=families).legend(legend(symbolType="circle", symbolOpacity=1))
    base = texts(alt.Chart(frame), low=".1f", high=".1f").encode(x=x, color=colour)
    points = base.mark_point(filled=True, size=150, opacity=1, stroke=PAPER, strokeWidth=1)
    points = points.encode(y=KURTOSIS, shape=alt.Shape("family:N", sort=families, legend=None), tooltip=SCALED)
    chosen = frame[(frame["model"] == current[0]) & (frame["layer"] == current[1])]
    ring = alt.Chart(chosen).mark_point(size=420, filled=False, color=MUTED, strokeWidth=3).encode(x=x, y=KURTOSIS)
    return (
        base.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q"),
        base.mark_line(strokeWidth=1.5).encode(y=KURTOSIS),
        points.add_params(clicks(MODEL, ["model", "layer"])),
        [] if chosen.empty else [ring],
    )


def _names(frame: pd.DataFrame, x: alt.X, **place: int) -> alt.Chart:
    """The models' names beside their points."""
    names = alt.Chart(frame).mark_text(align="left", fontSize=LABEL_SIZE, color=MUTED, **place)
    return names.encode(x=x, y=KURTOSIS, text="model:N")


def convergence(frame: pd.DataFrame, *, x_title: str, y_title: str, log: bool = False) -> alt.LayerChart:
    """A number against how much went into it, with the spread of its samples or its interval as a band (App. C).

    Args:
        frame: columns `x`, `middle`, `low`, `high`, and `note` for the tooltip.
        x_title: of the x axis.
        y_title: of the y axis.
        log: logarithmic x axis.
    """
    values = [float(value) for value in frame["x"]]
    x = alt.X("x:Q", title=x_title).axis(axis(values=values, format=".2~s" if log else "d"))
    x = x.scale(type="log" if log else "linear", nice=False, padding=12, zero=False)
    y = alt.Y("middle:Q", title=y_title).axis(axis(grid=True, tickCount=5))
    base = texts(alt.Chart(frame.assign(series="P")), low=".2f", high=".2f")
    base = base.encode(x=x, color=alt.Color("series:N", legend=None))
    band = base.mark_area(opacity=0.2).encode(y="low:Q", y2="high:Q")
    bars = base.mark_rule(strokeWidth=2).encode(y="low:Q", y2="high:Q")
    line = base.mark_line(strokeWidth=2.5).encode(y=y)
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        y=y,
        tooltip=[
            tip("x:Q", x_title, ","),
            tip("middle:Q", y_title, ".2f"),
            tip("low_text:N", "from"),
            tip("high_text:N", "to"),
            tip("note:N", " "),
        ],
    )
    return plain(alt.layer(band, bars, line, points), 300, bare=True)
