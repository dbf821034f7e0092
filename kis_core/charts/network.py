"""P as a network: facts as marks, strong pairs as links with a head at the fact that suffers, an edit as discs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from kis_core.charts.colours import (
    AMBER,
    DIVERGING,
    FAINT,
    GREEN,
    INK,
    MUTED,
    PAPER,
    PINK,
    VIOLET,
    Shades,
    shade,
)
from kis_core.charts.common import LABEL_SIZE, clicks, legend, line_legend, on_axis, outline, plain, shorten, tip

LINK = "link"  # selection of a clicked link or fact, with the fields `i` and `j`: a fact is its link with itself
HEIGHT = 580  # pixels
EDGE = 1.08  # of the plane, whose facts lie within ±1
SIGNS = {
    "positive": shade(Shades(DIVERGING[0][-2], DIVERGING[1][-2])),
    "negative": shade(Shades(DIVERGING[0][1], DIVERGING[1][1])),
}
"""Colours of P > 0 and P < 0, near the ends of the scale of the heatmap."""
SIGN_LABELS = {"positive": "P > 0", "negative": "P < 0"}
HUES, SHAPES = (GREEN, PINK, AMBER, VIOLET), ("circle", "square")
"""Every hue with every shape marks one relation; the hues are none of the signs'."""
PLAIN, FAINTER = 0.9, 0.12  # opacity of links, and of those that the picked ones are to stand out from
NODE, HEAD, HIT = 110, 80, 12  # square pixels of a fact and of a head, and pixels around a link that take a click
NAMED = 12  # facts with their names beside them
CHARACTER, LINE = 0.025, 0.065  # of the plane, that a name takes across and down
PLACES: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {
    "right": ((1, 0), {"align": "left", "dx": 10}),
    "above": ((0, 1), {"align": "center", "dy": -18}),
    "below": ((0, -1), {"align": "center", "dy": 18}),
    "left": ((-1, 0), {"align": "right", "dx": -10}),
}
"""Where a name can stand beside its fact, across and up, and how it is written there."""
SEEN = 0.06  # of the largest change: what is smaller would hide in the fact's own mark
LARGEST = 2600  # square pixels of the disc of the fact that an edit changes most


def network(
    nodes: pd.DataFrame,
    links: pd.DataFrame,
    *,
    others: str,
    picked: tuple[int, int] | None = None,
    effects: pd.DataFrame | None = None,
) -> alt.LayerChart:
    """Facts and their links; one picked fact with all that an edit of it reaches, or one picked pair.

    Args:
        nodes: as `results.network.nodes` gives them.
        links: as `results.network.links` gives them, the strongest first.
        others: the group of facts that are told apart by no mark of their own.
        picked: a pair, or a fact twice.
        effects: of an edit of the picked fact, columns `fact`, `forecast`, `measured` (changes of log-odds), `answer`
            (the new answer where it changed, else empty).

    Returns:
        a chart whose selection `LINK` has the fields `i` and `j`.
    """
    x = on_axis(alt.X, None, None, domain=(-EDGE, EDGE))
    y = on_axis(alt.Y, None, None, domain=(-EDGE, EDGE))
    links = _lit(links, picked)
    nodes = nodes.assign(i=nodes["fact"], j=nodes["fact"])
    if effects is not None:
        nodes = nodes.merge(effects, on="fact", how="left")
    layers = [*_lines(links, x, y), *(_discs(nodes, x, y) if effects is not None else [])]
    layers += [_marks(nodes, others, x, y, with_effects=effects is not None)]
    here = nodes[nodes["fact"].isin([] if picked is None else picked)]
    layers += outline(alt.Chart(here).encode(x=x("x"), y=y("y")).mark_point, size=2.4 * NODE, opacity=1)
    layers += _names(nodes, links, picked, x, y)
    return plain(alt.layer(*layers), HEIGHT).configure_view(stroke=None)


def _lit(links: pd.DataFrame, picked: tuple[int, int] | None) -> pd.DataFrame:
    """Links with their sign, their width, and their opacity: those of the picked pair or fact stand out."""
    lit = np.ones(len(links), dtype=bool)
    if picked is not None:
        i, j = picked
        of_fact = links["i"] == i
        of_pair = (of_fact & (links["j"] == j)) | ((links["i"] == j) & (links["j"] == i))
        lit = np.asarray(of_fact if i == j else of_pair)
    sign = np.where(links["p"] < 0, "negative", "positive")
    return links.assign(sign=sign, size=links["p"].abs(), lit=lit, opacity=np.where(lit, PLAIN, FAINTER))


def _lines(links: pd.DataFrame, x: Callable[[str], Any], y: Callable[[str], Any]) -> list[alt.Chart]:
    tooltip = [tip("edited:N", "edit"), tip("suffers:N", "suffers"), tip("p:Q", "P[i, j]", "+.3f")]
    known = [sign for sign in SIGNS if (links["sign"] == sign).any()]
    colour = alt.Stroke("sign:N").scale(domain=known, range=[SIGNS[sign] for sign in known])
    base = alt.Chart(links).encode(opacity=alt.Opacity("opacity:Q", scale=None))
    ends = {"x": x("x"), "y": y("y"), "x2": alt.X2("x2:Q"), "y2": alt.Y2("y2:Q")}
    lines = base.mark_rule(strokeCap="round").encode(
        stroke=colour.legend(line_legend(labelExpr=f"{SIGN_LABELS!r}[datum.label]")),
        strokeWidth=alt.StrokeWidth("size:Q").scale(domain=(0, 1), range=(0.6, 4.5), clamp=True).legend(None),
        **ends,
    )
    across = "(scale('x', datum.x2) - scale('x', datum.x))"
    down = "(scale('y', datum.y2) - scale('y', datum.y))"
    back = f"{NODE**0.5 + 3} / max(1, sqrt(pow({across}, 2) + pow({down}, 2)))"  # of a link: its head ends at the mark
    heads = base.mark_point(
        shape="triangle",
        size=HEAD,
        angle=alt.ExprRef(f"90 + atan2({down}, {across}) * 180 / PI"),
        xOffset=alt.ExprRef(f"-{across} * {back}"),
        yOffset=alt.ExprRef(f"-{down} * {back}"),
        fill=alt.ExprRef("scale('stroke', datum.sign)"),
        filled=True,
        strokeWidth=0,
    ).encode(x=x("x2"), y=y("y2"))
    hits = alt.Chart(links).mark_rule(strokeWidth=HIT, opacity=0.001).encode(tooltip=tooltip, **ends)
    return [lines, heads, hits]


def _marks(
    nodes: pd.DataFrame, others: str, x: Callable[[str], Any], y: Callable[[str], Any], *, with_effects: bool
) -> alt.Chart:
    """The facts; a click on one, or on a link below, makes the selection."""
    counts = nodes["group"].value_counts()
    named = sorted((group for group in counts.index if group != others), key=lambda group: (-counts[group], group))
    groups = [*named, *([others] if others in counts.index else [])]
    hues = [FAINT if group == others else HUES[at % len(HUES)] for at, group in enumerate(groups)]
    shapes = ["circle" if group == others else SHAPES[at // len(HUES) % len(SHAPES)] for at, group in enumerate(groups)]
    usual = legend(symbolSize=120, columns=4, labelFontSize=LABEL_SIZE)
    tooltip = [
        tip("told:N", "fact"),
        tip("reaches:Q", "an edit of it reaches"),
        tip("reached:Q", "is reached by"),
        *((tip("forecast:Q", "forecast", "+.3g"), tip("measured:Q", "measured", "+.3g")) if with_effects else ()),
    ]
    marks = alt.Chart(nodes).mark_point(filled=True, size=NODE, opacity=1, stroke=PAPER, strokeWidth=1)
    return marks.encode(
        x=x("x"),
        y=y("y"),
        fill=alt.Fill("group:N").scale(domain=groups, range=hues).legend(usual),
        shape=alt.Shape("group:N").scale(domain=groups, range=shapes).legend(usual),
        tooltip=tooltip,
    ).add_params(clicks(LINK, ["i", "j"]))


def _discs(nodes: pd.DataFrame, x: Callable[[str], Any], y: Callable[[str], Any]) -> list[alt.Chart]:
    """Around each fact what an edit does to it: a disc as measured, and a ring as forecast; areas go by size."""
    nodes = nodes.assign(disc=nodes["measured"].abs().fillna(0.0), ring=nodes["forecast"].abs().fillna(0.0))
    most = float(nodes[["disc", "ring"]].to_numpy().max(initial=0.0)) or 1.0
    base = alt.Chart(nodes).encode(x=x("x"), y=y("y"))
    scale = {"domain": (0, most), "range": (0, LARGEST)}
    discs = base.mark_point(shape="circle", filled=True, fill=INK, opacity=0.22, strokeWidth=0)
    rings = base.mark_point(shape="circle", filled=False, stroke=INK, strokeWidth=2, strokeDash=[4, 3], opacity=1)
    return [
        discs.transform_filter(f"datum.disc > {SEEN * most}").encode(
            size=alt.Size("disc:Q").scale(**scale).legend(None)
        ),
        rings.transform_filter(f"datum.ring > {SEEN * most}").encode(
            size=alt.Size("ring:Q").scale(**scale).legend(None)
        ),
    ]


def _names(
    nodes: pd.DataFrame,
    links: pd.DataFrame,
    picked: tuple[int, int] | None,
    x: Callable[[str], Any],
    y: Callable[[str], Any],
) -> list[alt.Chart]:
    """Names beside the facts that are looked at: the changed and the picked ones, then ends of links that find room."""
    known = nodes.set_index("fact")
    changed = known.index[known["answer"].fillna("") != ""].tolist() if "answer" in known else []
    ends = links.loc[links["lit"], ["i", "j"]].to_numpy().ravel().tolist()
    rows: list[dict[str, Any]] = []
    for fact in dict.fromkeys([*changed, *(picked or ()), *ends]):
        here, subject = known.loc[fact], shorten(known.loc[fact, "subject"])
        name = f"{subject} → {here['answer']}" if fact in changed else subject
        boxes = {place: _box(here["x"], here["y"], len(name), *at) for place, (at, _) in PLACES.items()}
        roomy = [place for place, (left, right, _, top) in boxes.items() if max(-left, right, abs(top)) <= EDGE]
        free = [place for place in roomy if not any(_overlap(boxes[place], row["box"]) for row in rows)]
        if len(rows) < NAMED and (free or fact in (picked or ())):
            place = next(iter(free), "right")
            at = {"x": here["x"], "y": here["y"], "i": fact, "j": fact}
            rows.append({**at, "name": name, "place": place, "box": boxes[place]})
    frame = pd.DataFrame(rows, columns=["x", "y", "i", "j", "name", "place"])
    texts = []
    for place, (_, look) in PLACES.items():
        base = alt.Chart(frame[frame["place"] == place]).encode(x=x("x"), y=y("y"), text="name:N")
        usual = {"fontSize": LABEL_SIZE + 1, "fontWeight": "bold", "baseline": "middle", **look}
        halo = base.mark_text(**usual, fill=PAPER, stroke=PAPER, strokeWidth=4, strokeJoin="round")
        texts += [halo, base.mark_text(**usual, fill=INK if picked else MUTED)]
    return texts


def _box(x: float, y: float, characters: int, across: int, up: int) -> tuple[float, float, float, float]:
    """Where a name beside a fact lies: left, right, bottom and top."""
    width, y = CHARACTER * characters, y + up * LINE
    left = {1: x + CHARACTER, -1: x - CHARACTER - width, 0: x - width / 2}[across]
    return left, left + width, y - LINE / 2, y + LINE / 2


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]
