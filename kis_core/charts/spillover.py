"""Charts of one edit: every fact's forecast with its measurement, the two against each other, losses, and layers."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from kis_core.charts.colours import BLUE, INK, MUTED, ORANGE, PAPER
from kis_core.charts.common import (
    LABEL_SIZE,
    axis,
    clicks,
    legend,
    on_axis,
    outline,
    plain,
    shorten,
    texts,
    tip,
    title,
)

FACT = "fact"  # selection of a clicked fact, with the field `fact`
LAYER = "layer"  # selection of a clicked layer, with the field `layer`
CHANGES = {"loses": "loses certainty of its answer", "gains": "gains"}  # by change of log-odds
SHIFTS = {"against": "pushed against δ", "along": "pushed along δ"}  # by shift at the layer
OUTCOMES = {"stays": BLUE, "flips": ORANGE}
OUTCOME_LABELS = {"stays": "answer stays", "flips": "answer changes"}
TAKES = {"takes": "the edit takes", "does not take": "it does not"}
HALF_BAR = 0.42  # of the distance between two facts
LABELLED = 5  # facts that may be named at either end
MOST_NAMED = 8  # in all
APART = 0.055  # of the height: two names closer than that would overlap


def spillover(
    frame: pd.DataFrame, *, quantity: str, span: tuple[float, float], picked: int | None = None
) -> alt.LayerChart:
    """Every fact as a bar, ordered by forecast; its measurement as a diamond; a cross where its answer changes.

    Args:
        frame: as `simulator.spill_frame` gives it.
        quantity: what the bars show, for the axis.
        span: of the axis, so that a change of strength changes the bars and not the axis.
        picked: fact to mark.

    Returns:
        a chart whose selection `FACT` has the field `fact`.
    """
    low, high = span
    kinds = SHIFTS if frame["kind"].isin(SHIFTS).all() else CHANGES
    bars = frame.assign(left=frame["rank"] - HALF_BAR, right=frame["rank"] + HALF_BAR, zero=0.0, bottom=low, top=high)
    x = on_axis(alt.X, None, None, domain=(-1.5, len(frame) + 0.5))
    y = on_axis(alt.Y, title(quantity), axis(tickCount=6, grid=True, gridOpacity=0.25), domain=span)
    colour = alt.Color("kind:N").scale(domain=list(kinds), range=[ORANGE, BLUE])
    colour = colour.legend(legend(labelExpr=f"{kinds!r}[datum.label]", symbolType="square"))
    tooltip = [
        tip("told:N", "fact"),
        tip("p:Q", "P[e, j]", ".3f"),
        tip("forecast:Q", "forecast", "+.3g"),
        tip("measured_text:N", "measured"),
        tip("answers:N", "answer"),
    ]
    drawn = alt.Chart(bars).mark_rect(strokeWidth=0)
    # what is not there is left out of the data, not filtered in the chart: a chart that stays the same is drawn faster
    measured = alt.Chart(frame[frame["measured"].notna()]).encode(x=x("rank"))
    diamonds = measured.mark_point(
        shape="diamond", size=42, filled=True, color=INK, stroke=PAPER, strokeWidth=0.8, opacity=1
    )
    flips = alt.Chart(frame[frame["flips"] != ""]).encode(x=x("rank"), y=y("end"))
    crosses = flips.mark_point(
        shape="cross", size=120, angle=45, filled=True, color=INK, stroke=PAPER, strokeWidth=1.2, opacity=1
    )
    zero = alt.Chart(pd.DataFrame({"y": [0.0]})).mark_rule(color=MUTED).encode(y=alt.Y("y:Q"))
    hits = texts(alt.Chart(bars), measured="+.3g").mark_rect(opacity=0.001, strokeWidth=0)
    hits = hits.transform_calculate(hit="datum.rank - 0.5", hit_end="datum.rank + 0.5")
    hits = hits.encode(x=x("hit"), x2="hit_end:Q", y=y("bottom"), y2="top:Q", tooltip=tooltip)
    ring = alt.Chart(_of_fact(frame, picked)).encode(x=x("rank"), y=y("forecast"))
    names = _names(frame, span)
    layers = [
        zero,
        drawn.encode(x=x("left"), x2="right:Q", y=y("forecast"), y2="zero:Q", color=colour),
        measured.mark_rule(color=MUTED, strokeWidth=1).encode(y=y("forecast"), y2="measured:Q"),
        diamonds.encode(y=y("measured")),
        crosses,
        *outline(ring.mark_point, size=190, opacity=1),
        *(
            alt.Chart(names[(names["side"] == side) & (names["changes"] == changes)])
            .mark_text(align=side, dx=dx, fontSize=LABEL_SIZE + 1, baseline="middle", fontWeight="bold", color=shade)
            .encode(x=x("rank"), y=y("at"), text=alt.Text("label:N"))
            for side, dx in (("left", 12), ("right", -12))
            for changes, shade in ((True, ORANGE), (False, MUTED))
        ),
        hits.add_params(clicks(FACT, ["fact"])),
    ]
    return plain(alt.layer(*layers), 400)


def _of_fact(frame: pd.DataFrame, fact: int | None) -> pd.DataFrame:
    """The row of a fact; no row where no fact is given."""
    return frame[frame["fact"] == (-1 if fact is None else fact)]


def _names(frame: pd.DataFrame, span: tuple[float, float]) -> pd.DataFrame:
    """Facts named beside their marks: those whose answer changes first, then both ends, as many as find room."""
    rows: list[tuple[int, float, str, str, bool]] = []
    room = APART * (span[1] - span[0])
    half = len(frame) / 2
    ordered = frame.sort_values("end", kind="stable")
    ends = [*ordered.head(LABELLED).to_dict("records"), *ordered.tail(LABELLED).iloc[::-1].to_dict("records")]
    for fact in [*frame[frame["flips"] != ""].to_dict("records"), *ends]:
        side = "left" if fact["rank"] < half else "right"
        at = float(fact["end"])
        small = not fact["flips"] and abs(at) < room
        taken = any(other == side and abs(at - y) < room for _, y, other, *_ in rows)
        if small or taken or len(rows) >= MOST_NAMED:
            continue
        flips = f" → {fact['flips']}" if fact["flips"] else ""
        rows.append((int(fact["rank"]), at, side, f"{shorten(str(fact['subject']))}{flips}", bool(flips)))
    return pd.DataFrame(rows, columns=["rank", "at", "side", "label", "changes"])


def against(frame: pd.DataFrame, *, quantity: str, picked: int | None = None) -> alt.LayerChart:
    """Measured against forecast, one dot a fact; on the dashed line the forecast was right.

    Args:
        frame: as `simulator.spill_frame` gives it, with measurements.
        quantity: what both are.
        picked: fact to mark.

    Returns:
        a chart whose selection `FACT` has the field `fact`.
    """
    known = frame[frame["measured"].notna()]
    values = np.concatenate([known["forecast"], known["measured"], [0.0]])
    margin = 0.05 * (float(np.ptp(values)) or 1.0)
    span = (float(values.min()) - margin, float(values.max()) + margin)
    x = on_axis(alt.X, f"forecast {title(quantity)}", axis(tickCount=6), domain=span)("forecast")
    y = on_axis(alt.Y, f"measured {title(quantity)}", axis(tickCount=6), domain=span)("measured")
    line = alt.Chart(pd.DataFrame({"forecast": span, "measured": span})).mark_line(color=MUTED, strokeDash=[4, 4])
    outcomes = list(OUTCOMES)
    colour = alt.Color("outcome:N").scale(domain=outcomes, range=list(OUTCOMES.values()))
    dots = alt.Chart(known).mark_point(filled=True, opacity=1, stroke=PAPER, strokeWidth=0.5)
    dots = dots.encode(
        x=x,
        y=y,
        color=colour.legend(legend(labelExpr=f"{OUTCOME_LABELS!r}[datum.label]")),
        shape=alt.Shape("outcome:N").scale(domain=outcomes, range=["circle", "diamond"]).legend(None),
        size=alt.Size("outcome:N").scale(domain=outcomes, range=[55, 150]).legend(None),
        tooltip=[
            tip("told:N", "fact"),
            tip("forecast:Q", form="+.3g"),
            tip("measured:Q", form="+.3g"),
            tip("answers:N", "answer"),
        ],
    )
    ring = alt.Chart(_of_fact(known, picked)).encode(x=x, y=y)
    layers = [line.encode(x=x, y=y), dots.add_params(clicks(FACT, ["fact"]))]
    return plain(alt.layer(*layers, *outline(ring.mark_point, size=260, opacity=1)), 340)


def losses(values: Sequence[float], *, stop: float) -> alt.LayerChart:
    """The loss of the value search, step by step, with the loss at which the search stops.

    Args:
        values: after 0, 1, 2, … steps.
        stop: the loss at which the search stops.
    """
    x = alt.X("step:Q", title="step").axis(axis(tickMinStep=1))
    y = alt.Y("loss:Q", title="loss").axis(axis(tickCount=4)).scale(zero=True)
    enough = alt.Chart(pd.DataFrame({"loss": [stop]})).mark_rule(color=MUTED, strokeDash=[4, 4]).encode(y=y)
    line = alt.Chart(pd.DataFrame({"step": range(len(values)), "loss": values}))
    line = line.mark_line(color=BLUE, point=alt.OverlayMarkDef(size=22, color=BLUE))
    line = line.encode(x=x, y=y, tooltip=[tip("step:Q"), tip("loss:Q", form=".3g")])
    return plain(alt.layer(enough, line), 180, bare=True)


def advice(frame: pd.DataFrame, *, layer: int) -> alt.LayerChart:
    """Layers as numbered points: forecast damage to other facts against the probability of the new object.

    Args:
        frame: columns `layer`, `damage`, `probability`, `took` ("takes" or "does not take"), `note`.
        layer: the one looked at.

    Returns:
        a chart whose selection `LAYER` has the field `layer`.
    """
    most = float(frame["damage"].max()) if len(frame) else 1.0
    x_axis, y_axis = axis(tickCount=6), axis(format=".0%", tickCount=5)
    x = on_axis(alt.X, "forecast change of the others’ log-odds, mean size", x_axis, domain=(0, 1.15 * most or 1.0))
    y = on_axis(alt.Y, "probability of the new object", y_axis, domain=(0, 1.08))
    points = alt.Chart(frame).encode(x=x("damage"), y=y("probability"))
    colour = alt.Color("took:N").scale(domain=list(TAKES), range=[BLUE, ORANGE])
    dots = points.mark_point(filled=True, opacity=1, stroke=PAPER, size=700).encode(
        color=colour.legend(legend(labelExpr=f"{TAKES!r}[datum.label]")),
        tooltip=[
            tip("layer:Q"),
            tip("probability:Q", form=".1%"),
            tip("damage:Q", form=".3g"),
            tip("note:N", "also"),
        ],
    )
    numbers = points.mark_text(fontSize=LABEL_SIZE + 2, fontWeight="bold", color=PAPER).encode(text=alt.Text("layer:Q"))
    here = alt.Chart(frame[frame["layer"] == layer]).encode(x=x("damage"), y=y("probability"))
    ring = here.mark_point(size=1100, filled=False, stroke=MUTED, strokeWidth=2, opacity=1)
    return plain(alt.layer(ring, dots.add_params(clicks(LAYER, ["layer"])), numbers), 300)
