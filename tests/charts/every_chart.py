"""Something to draw in every kind of chart, and every chart of it, odd numbers and names of strangers included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from kis_core import charts
from kis_core.analysis.large_sets import sweep
from kis_core.charts import Window, whole
from tests.charts.chart_tools import HOSTILE, NAN
from tests.charts.edit_chart_tools import AFTER, BEFORE, frame, spillover

INF = float("inf")
ORDER = np.array([3, 1, 0, 2, 5, 4])
OFF_CENTRE = Window(1, 4, 2, 6)  # of 6 positions
P = np.array([[1.0, 0.2], [-0.1, 1.0]])
STRIP = pd.DataFrame({"at": [-1.0, 0.0, 1.0], "density": [0.001, 4.0, 0.2]})
MEASURED = pd.DataFrame({"at": [-0.2, 0.0, 0.2, 0.4], "density": [0.5, 4.0, 1.0, 0.01], "curve": "measured"})
NORMAL = pd.DataFrame({"at": [-0.2, 0.0, 0.2], "density": [0.001, 3.0, 0.001], "curve": "normal"})
CURVES = pd.concat([MEASURED, NORMAL], ignore_index=True)
WHITENED = pd.DataFrame({"low": [0.0, 5.0, 85.0, 90.0], "share": [0.0, 0.25, 0.5, 0.25], "space": "whitened"})
SHARES = pd.concat([WHITENED, pd.DataFrame({"low": [85.0], "share": 1.0, "space": "activations"})], ignore_index=True)
SHARES["high"] = SHARES["low"] + 5
SMALL = pd.DataFrame({"model": "small", "family": "B", "parameters": 100, "layer": [0, 3], "kurtosis": [5.0, 2.0]})
LARGE = pd.DataFrame(
    {"model": "large", "family": "A", "parameters": 900, "layer": range(3), "kurtosis": [9.0, 8.0, 7.0]}
)
SCALED = pd.concat([SMALL, LARGE], ignore_index=True)
SCALED["low"], SCALED["high"] = SCALED["kurtosis"] - 1, SCALED["kurtosis"] + 1
UNKNOWN_SCALED = SCALED.assign(kurtosis=NAN, low=NAN, high=NAN)
GROWING = pd.DataFrame({"x": [16, 32, 128], "middle": [3.0, NAN, 4.0], "low": [1.0, NAN, 4.0], "high": [5.0, NAN, 4.0]})
GROWING["note"] = "a"
BARS = sweep.bars(sweep.sweep(np.random.default_rng(0).standard_normal((40, 16))).every, 16)
ADVICE = pd.DataFrame({"layer": [0, 1, 5], "damage": [0.5, 2.0, 1.0], "probability": [0.99, 0.5, 0.0]})
ADVICE["took"], ADVICE["note"] = ["takes", "takes", "does not take"], "2 other answers forecast to change"
HELD = pd.DataFrame({"run": "one", "edits": [0, 5, 10, 15] * 2, "series": ["unrelated"] * 4 + ["edited"] * 4})
HELD["share"] = [1.0, 0.75, 0.5, 0.25, NAN, 1.0, 0.8, 0.6]
TWO = pd.concat([HELD, HELD.assign(run="two", share=HELD["share"] / 2)], ignore_index=True)
KINDS = ["measured", "forecast", "guess"]
LINES = pd.DataFrame({"edits": [0, 5, 10] * 3, "kind": np.repeat(KINDS, 3)})
LINES["change"] = [0.0, -1.0, -4.0, 0.0, -1.5, -2.0, NAN, INF, 3.0]
MOST = 30  # right end of the axis of edits
DAMAGE = pd.DataFrame({"row": [0, 1] * 3, "fact": [7, 4] * 3, "told": ["a → b", "c → d"] * 3})
DAMAGE["from"], DAMAGE["to"] = [0, 0, 5, 5, 10, 10], [5, 5, 10, 10, 15, 15]
DAMAGE["change"], DAMAGE["rank"] = [0.0, 0.0, -1.0, 0.5, -8.0, 2.0], [1, 1, 3, 1, 9, 2]
DAMAGE["answers"] = ["right", "right", "wrong", "right", "wrong", "wrong"]
LIVES = pd.DataFrame({"model": ["small", "large", "small"], "width": [32, 128, 32], "name": ["ROME", "ROME", "MEMIT"]})
LIVES["middle"], LIVES["low"], LIVES["high"] = [10.0, 40.0, 30.0], [5.0, NAN, 20.0], [20.0, NAN, 45.0]
LIVES["unreached"] = [0, 2, 0]

NODES = pd.DataFrame({"fact": range(4), "x": [-1.0, 0.0, 0.1, 0.9], "y": [0.0, 1.0, -0.8, 0.1]})
NODES["subject"], NODES["told"], NODES["group"] = list("abcd"), list("abcd"), ["one", "two", "one", "others"]
NODES["reaches"], NODES["reached"] = [1, 1, 0, 0], [0, 1, 1, 0]
ARROWS = pd.DataFrame({"i": [0, 1, 3], "j": [1, 2, 0], "p": [0.9, -0.4, 0.2], "edited": "a", "suffers": "b"})
for end, names in (("i", ("x", "y")), ("j", ("x2", "y2"))):
    for name in names:
        ARROWS[name] = NODES[name[0]].to_numpy()[ARROWS[end]]
EFFECTS = pd.DataFrame({"fact": [1, 2, 3], "forecast": [-1.0, NAN, 0.0], "measured": [-2.0, 0.5, NAN]})
EFFECTS["answer"] = ["new", "", ""]

MANY = len(HOSTILE)
FALLING = [float(value) for value in range(1 - MANY, 1)]
STRANGE = frame(FALLING, measured=FALLING, subjects=list(HOSTILE), flips=dict(enumerate(HOSTILE)))
STRANGE = STRANGE.assign(told=HOSTILE, answers=HOSTILE)
STRANGE_MODELS = pd.concat([SCALED[:1]] * MANY, ignore_index=True).assign(model=HOSTILE)


def matrix(m: int = 6, seed: int = 0) -> np.ndarray:
    p = np.random.default_rng(seed).normal(0, 0.1, (m, m))
    np.fill_diagonal(p, 1.0)
    return p


def heatmap(p: np.ndarray, order: np.ndarray | None = None, **options: Any) -> alt.LayerChart:
    options.setdefault("names", [f"fact {k}" for k in range(len(p))])
    options.setdefault("labels", options["names"])
    return charts.heatmap(p, np.arange(len(p)) if order is None else order, limit=0.5, **options)


def overview(p: np.ndarray, order: np.ndarray | None = None, **options: Any) -> alt.LayerChart:
    options.setdefault("labels", [f"fact {k}" for k in range(len(p))])
    options.setdefault("window", whole(len(p)))
    return charts.overview(p, np.arange(len(p)) if order is None else order, limit=0.5, **options)


def network(nodes: pd.DataFrame = NODES, links: pd.DataFrame = ARROWS, **options: Any) -> alt.LayerChart:
    return charts.network(nodes, links, others="others", **options)


def density(curves: pd.DataFrame = CURVES, **options: Any) -> alt.LayerChart:
    return charts.density(curves, span=(-0.3, 0.3), top=5.0, floor=0.01, **options)


def strips(layers: range | tuple[int, ...], **options: Any) -> alt.LayerChart:
    curves = pd.concat([STRIP.assign(layer=layer) for layer in layers], ignore_index=True)
    return charts.strips(curves, layers=layers, span=(-1, 1), title="P", **({"current": layers[0]} | options))


def scatter(first: np.ndarray, second: np.ndarray, **options: Any) -> alt.LayerChart:
    options.setdefault("subjects", [f"fact {k}" for k in range(len(first))])
    return charts.scatter(first, second, **({"names": ("this", "that")} | options))


def convergence(table: pd.DataFrame = GROWING, **options: Any) -> alt.LayerChart:
    return charts.convergence(table, x_title="facts", y_title="kurtosis", **options)


def retention(held: pd.DataFrame = HELD, *, step: int = 10, most: int = MOST) -> alt.LayerChart:
    return charts.retention(held, step=step, most=most)


def over_edits(lines: pd.DataFrame = LINES, *, step: int = 5, **options: Any) -> alt.LayerChart:
    usual = {"most": MOST, "quantity": "loss", "kinds": KINDS}
    return charts.over_edits(lines, step=step, **usual | options)


EVERY: dict[str, Callable[[], alt.LayerChart]] = {
    "heatmap": lambda: heatmap(matrix(), ORDER, picked=(0, 5)),
    "window": lambda: heatmap(matrix(), ORDER, picked=(0, 5), window=OFF_CENTRE, hide_diagonal=True),
    "overview": lambda: overview(matrix(), ORDER, window=OFF_CENTRE, picked=(0, 5)),
    "overview of blocks": lambda: overview(matrix(129), picked=(0, 128)),
    "similarity": lambda: charts.similarity(np.array([[1.0, NAN], [NAN, 1.0]]), (0, 3), 3),
    "density": lambda: density(picked={"P[i, j]": 0.1, "P[j, i]": NAN}, tail=(0.1, 0.2)),
    "densities": lambda: charts.overlaid(STRIP.assign(size=16), title="P", legend_title="facts"),
    "strip": lambda: strips((0,)),
    "angles": lambda: charts.angle_histogram(SHARES, picked={"whitened": 60.0, "activations": NAN}, chosen=(85, 90)),
    "counts": lambda: charts.counts(BARS, picked={"P[1, 2]": 0.1}),
    "scatter": lambda: scatter(P, P.T, picked=(0, 1)),
    "by layer": lambda: charts.by_layer((0, 1, 5), {"P[i, j]": (0.1, NAN, 0.3)}, 5),
    "kurtosis by layer": lambda: charts.kurtosis_by_layer(SCALED, current=("large", 1)),
    "kurtosis by size": lambda: charts.kurtosis_by_size(SCALED, current=("large", 1)),
    "convergence": lambda: convergence(),
    "spillover": lambda: spillover(AFTER, picked=10),
    "against": lambda: charts.against(AFTER, quantity="shift", picked=10),
    "losses": lambda: charts.losses((4.0, 2.5, 0.04), stop=0.05),
    "advice": lambda: charts.advice(ADVICE, layer=1),
    "one run": lambda: retention(),
    "several runs": lambda: retention(TWO, step=0),
    "lines": lambda: over_edits(),
    "rings": lambda: over_edits(dotted=KINDS),
    "damage": lambda: charts.damage(DAMAGE, step=5, picked=4),
    "lifetimes": lambda: charts.lifetimes(LIVES),
    "network": lambda: network(),
    "network with an edit": lambda: network(picked=(0, 0), effects=EFFECTS),
    "network with a pair": lambda: network(picked=(1, 2)),
}
"""Every kind, as it usually is."""

ODD: dict[str, Callable[[], alt.LayerChart]] = {
    "heatmap of one fact": lambda: heatmap(np.ones((1, 1))),
    "heatmap of nothing": lambda: heatmap(np.full((3, 3), NAN)),
    "overview of one fact": lambda: overview(np.ones((1, 1))),
    "similarity of many layers": lambda: charts.similarity(np.eye(13), range(13), 0),
    "logarithmic density": lambda: density(log=True, picked={"P[i, j]": 0.1}),
    "density of a constant P": lambda: density(CURVES[:0], picked={"P[i, j]": NAN}),
    "logarithmic density of a constant P": lambda: density(CURVES[:0], log=True),
    "40 logarithmic strips": lambda: strips(range(40), log_floor=0.01, middle=0.0),
    "strips of a constant P": lambda: charts.strips(
        STRIP.assign(layer=0)[:0], layers=(0, 1), current=0, span=(-1, 1), title="P", log_floor=0.01
    ),
    "no angles": lambda: charts.angle_histogram(SHARES.assign(share=0.0)),
    "no counts": lambda: charts.counts(sweep.bars(sweep.sweep(np.zeros((3, 2))).every, 2)),
    "scatter of a constant P": lambda: scatter(np.ones((3, 3)), np.ones((3, 3)), picked=(0, 1)),
    "scatter with missing values": lambda: scatter(np.full((2, 2), NAN), P, picked=(0, 1)),
    "scatter of one fact": lambda: scatter(np.ones((1, 1)), np.ones((1, 1))),
    "kurtosis by layer, none": lambda: charts.kurtosis_by_layer(SCALED[:0], current=("small", 0)),
    "kurtosis by layer, unknown": lambda: charts.kurtosis_by_layer(UNKNOWN_SCALED, current=("small", 0)),
    "kurtosis by size, one model": lambda: charts.kurtosis_by_size(SCALED[:1], current=("small", 0)),
    "kurtosis by size, unknown": lambda: charts.kurtosis_by_size(UNKNOWN_SCALED, current=("small", 0)),
    "logarithmic convergence": lambda: convergence(log=True),
    "spillover before": lambda: spillover(BEFORE, picked=10),
    "spillover of a shift": lambda: spillover(frame([-1.0, 0.5], kinds=("against", "along"))),
    "spillover of no other fact": lambda: spillover(frame([])),
    "nothing measured": lambda: charts.against(BEFORE, quantity="shift"),
    "no losses": lambda: charts.losses((), stop=0.0),
    "losses that are not finite": lambda: charts.losses((4.0, NAN, INF), stop=0.05),
    "advice of no layer": lambda: charts.advice(ADVICE[:0], layer=0),
    "advice without damage": lambda: charts.advice(ADVICE.assign(damage=NAN), layer=0),
    "a run of nothing": lambda: retention(HELD[:0], step=0, most=1),
    "a run of which nothing is known": lambda: retention(HELD.assign(share=NAN)),
    "no lines": lambda: over_edits(LINES[:0], step=0, kinds=[]),
    "lines without a number": lambda: over_edits(LINES.assign(change=NAN)),
    "lines none of which is above 0": lambda: over_edits(LINES.assign(change=-1.0), log=True),
    "damage of no fact": lambda: charts.damage(DAMAGE[:0], step=0),
    "unknown damage": lambda: charts.damage(DAMAGE.assign(change=NAN, rank=0), step=5),
    "no lifetime": lambda: charts.lifetimes(LIVES[:0]),
    "network without links": lambda: network(links=ARROWS[:0], picked=(3, 3), effects=EFFECTS[:0]),
}

OF_STRANGERS: dict[str, Callable[[], alt.LayerChart]] = {
    "heatmap": lambda: heatmap(matrix(MANY), names=list(HOSTILE), picked=(0, 1)),
    "overview": lambda: overview(matrix(MANY), labels=list(HOSTILE)),
    "density": lambda: density(CURVES.replace({"curve": {"measured": HOSTILE[0], "normal": HOSTILE[1]}})),
    "marks": lambda: density(picked=dict.fromkeys(HOSTILE, 0.1)),
    "scatter": lambda: scatter(np.eye(MANY), np.ones((MANY, MANY)), subjects=list(HOSTILE)),
    "axis": lambda: scatter(P, P.T, names=(" ".join(HOSTILE), "\\")),
    "kurtosis by layer": lambda: charts.kurtosis_by_layer(STRANGE_MODELS, current=(HOSTILE[0], 0)),
    "kurtosis by size": lambda: charts.kurtosis_by_size(STRANGE_MODELS, current=(HOSTILE[0], 0)),
    "convergence": lambda: convergence(GROWING.assign(note=HOSTILE[: len(GROWING)])),
    "spillover": lambda: spillover(STRANGE, span=(-9.0, 1.0), quantity=HOSTILE[3]),
    "against": lambda: charts.against(STRANGE, quantity=HOSTILE[2]),
    "runs": lambda: retention(TWO.replace({"one": HOSTILE[1], "two": HOSTILE[3]}), step=5),
    "lines": lambda: over_edits(quantity=HOSTILE[3]),
    "damage": lambda: charts.damage(DAMAGE.assign(told=HOSTILE[1]), step=5, picked=7),
    "network": lambda: network(NODES.assign(subject=HOSTILE[1], told=HOSTILE[0], group=HOSTILE[2]), picked=(0, 1)),
}
"""With names that would act, if anything took them for more than text."""
