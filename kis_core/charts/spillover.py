"""Charts of one edit: every fact's forecast with its measurement, the two against each other, losses, and layers."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from kis_core.charts.colours import BLUE, INK, MUTED, ORANGE, PAPER
from kis_core.charts.common import LABEL_SIZE, axis, clicks, legend, plain, shorten, texts, title

FACT = "fact"  # selection of a clicked fact, with the field `fact`
LAYER = "layer"  # selection of a clicked layer, with the field `layer`
KINDS = {"loses": "loses certainty of its answer", "gains": "gains"}  # by change of log-odds
WAYS = {"against": "pushed against δ", "along": "pushed along δ"}  # by shift at the layer
MEASURED = "measured"
LABELLED = 5  # facts that may be named at either end
MOST_NAMED = 8  # in all
APART = 0.055  # of the height: two names closer than that would overlap


def spillover(
    frame: pd.DataFrame, *, quantity: str, span: tuple[float, float], picked: int | None = None, size: int = 400
) -> alt.LayerChart:
    """Every fact as a bar, ordered by forecast; what was measured as a diamond; answers that change as a cross.

    Args:
        frame: as `simulator.spill_frame` gives it.
        quantity: what the bars show, for the axis.
        span: of the axis, so that a change of strength changes the bars and not the axis.
        picked: fact to mark.
        size: height in pixels.

    Returns:
        a chart whose selection `FACT` has the field `fact`.
    """
    low, high = span
    kinds = WAYS if frame["kind"].isin(WAYS).all() else KINDS
    bars = frame.assign(left=frame["rank"] - 0.42, right=frame["rank"] + 0.42, zero=0.0, bottom=low, top=high)
    count = len(frame)
    x = alt.X("left:Q", title=None).scale(domain=(-1.5, count + 0.5), nice=False).axis(None)
    y = alt.Y("forecast:Q", title=title(quantity)).axis(axis(tickCount=6, grid=True, gridOpacity=0.25))
    y = y.scale(domain=(low, high), nice=False)
    base = alt.Chart(bars)
    tooltip = [
        alt.Tooltip("told:N", title="fact"),
        alt.Tooltip("p:Q", title="P[e, j]", format=".3f"),
        alt.Tooltip("forecast:Q", title="forecast", format="+.3g"),
        alt.Tooltip("measured_text:N", title="measured"),
        alt.Tooltip("answers:N", title="answer"),
    ]
    drawn = base.mark_rect(strokeWidth=0).encode(
        x=x,
        x2=alt.X2("right:Q"),
        y=y,
        y2=alt.Y2("zero:Q"),
        color=alt.Color("kind:N")
        .scale(domain=list(kinds), range=[ORANGE, BLUE])
        .legend(legend(labelExpr=f"{kinds!r}[datum.label]", symbolType="square")),
    )
    middle = alt.X("rank:Q").scale(domain=(-1.5, count + 0.5), nice=False).axis(None)
    # what is not there is left out of the data, not filtered in the chart: a chart that stays the same is drawn faster
    measured = frame[frame["measured"].notna()]
    links = alt.Chart(measured).mark_rule(color=MUTED, strokeWidth=1).encode(x=middle, y=y, y2=alt.Y2("measured:Q"))
    at = alt.Y("measured:Q").scale(domain=(low, high), nice=False)
    diamonds = (
        alt.Chart(measured.assign(shown=MEASURED))
        .mark_point(filled=True, size=42, shape="diamond", color=INK, stroke=PAPER, strokeWidth=0.8, opacity=1)
        .encode(x=middle, y=at)
    )
    crosses = (
        alt.Chart(frame[frame["flips"] != ""])
        .mark_point(shape="cross", size=120, angle=45, filled=True, color=INK, stroke=PAPER, strokeWidth=1.2,
                    opacity=1)
        .encode(x=middle, y=alt.Y("end:Q").scale(domain=(low, high), nice=False))
    )  # fmt: skip
    zero = alt.Chart(pd.DataFrame({"y": [0.0]})).mark_rule(color=MUTED).encode(y=alt.Y("y:Q"))
    hits = base.mark_rect(opacity=0.001, strokeWidth=0).encode(
        x=alt.X("hit:Q").scale(domain=(-1.5, count + 0.5), nice=False).axis(None), x2=alt.X2("hit_end:Q"),
        y=alt.Y("bottom:Q"), y2=alt.Y2("top:Q"), tooltip=tooltip,
    )  # fmt: skip
    hits = (
        texts(hits, measured="+.3g")
        .transform_calculate(hit="datum.rank - 0.5", hit_end="datum.rank + 0.5")
        .add_params(clicks(FACT, ["fact"]))
    )
    ring = alt.Chart(frame[frame["fact"] == (-1 if picked is None else picked)]).encode(x=middle, y=y)
    names = _names(frame, span)
    layers = [
        zero, drawn, links, diamonds, crosses,
        ring.mark_point(size=190, filled=False, stroke=PAPER, strokeWidth=4, opacity=1),
        ring.mark_point(size=190, filled=False, stroke=INK, strokeWidth=1.8, opacity=1),
        *(
            alt.Chart(names[(names["side"] == side) & (names["changes"] == changes)])
            .mark_text(align=side, dx=dx, fontSize=LABEL_SIZE + 1, baseline="middle", fontWeight="bold", color=colour)
            .encode(x=middle, y=alt.Y("at:Q").scale(domain=(low, high), nice=False), text=alt.Text("label:N"))
            for side, dx in (("left", 12), ("right", -12))
            for changes, colour in ((True, ORANGE), (False, MUTED))
        ),
        hits,
    ]  # fmt: skip
    return plain(alt.layer(*layers), size)


def _names(frame: pd.DataFrame, span: tuple[float, float]) -> pd.DataFrame:
    """Facts named beside their marks: those whose answer changes first, then both ends, as many as find room."""
    rows: list[tuple[int, float, str, str, bool]] = []
    room = APART * (span[1] - span[0])
    half = len(frame) / 2
    ordered = frame.sort_values("end", kind="stable")
    ends = [*ordered.head(LABELLED).to_dict("records"), *ordered.tail(LABELLED).iloc[::-1].to_dict("records")]
    for one in [*frame[frame["flips"] != ""].to_dict("records"), *ends]:
        side = "left" if one["rank"] < half else "right"
        at = float(one["end"])
        small = not one["flips"] and abs(at) < room
        taken = any(other == side and abs(at - y) < room for _, y, other, *_ in rows)
        if small or taken or len(rows) >= MOST_NAMED:
            continue
        flips = f" → {one['flips']}" if one["flips"] else ""
        rows.append((int(one["rank"]), at, side, f"{shorten(str(one['subject']))}{flips}", bool(flips)))
    return pd.DataFrame(rows, columns=["rank", "at", "side", "label", "changes"])


def against(frame: pd.DataFrame, *, quantity: str, picked: int | None = None, size: int = 340) -> alt.LayerChart:
    """Measured against forecast, one dot a fact; on the dashed line the forecast was right.

    Args:
        frame: as `simulator.spill_frame` gives it, with measurements.
        quantity: what both are.
        picked: fact to mark.
        size: height in pixels.

    Returns:
        a chart whose selection `FACT` has the field `fact`.
    """
    known = frame[frame["measured"].notna()]
    values = np.concatenate([known["forecast"], known["measured"], [0.0]])
    margin = 0.05 * (float(np.ptp(values)) or 1.0)
    low, high = float(values.min()) - margin, float(values.max()) + margin
    x = alt.X("forecast:Q", title=f"forecast {title(quantity)}").axis(axis(tickCount=6))
    y = alt.Y("measured:Q", title=f"measured {title(quantity)}").axis(axis(tickCount=6))
    x, y = x.scale(domain=(low, high), nice=False), y.scale(domain=(low, high), nice=False)
    line = alt.Chart(pd.DataFrame({"forecast": [low, high], "measured": [low, high]}))
    dots = (
        alt.Chart(known)
        .mark_point(filled=True, opacity=1, stroke=PAPER, strokeWidth=0.5)
        .encode(
            x=x,
            y=y,
            color=alt.Color("outcome:N")
            .scale(domain=list(OUTCOMES), range=list(OUTCOMES.values()))
            .legend(legend(labelExpr=f"{OUTCOME_LABELS!r}[datum.label]")),
            shape=alt.Shape("outcome:N").scale(domain=list(OUTCOMES), range=["circle", "diamond"]).legend(None),
            size=alt.Size("outcome:N").scale(domain=list(OUTCOMES), range=[55, 150]).legend(None),
            tooltip=[
                alt.Tooltip("told:N", title="fact"),
                alt.Tooltip("forecast:Q", format="+.3g"),
                alt.Tooltip("measured:Q", format="+.3g"),
                alt.Tooltip("answers:N", title="answer"),
            ],
        )
        .add_params(clicks(FACT, ["fact"]))
    )
    ring = alt.Chart(known[known["fact"] == (-1 if picked is None else picked)]).encode(x=x, y=y)
    layers = [
        line.mark_line(color=MUTED, strokeDash=[4, 4]).encode(x=x, y=y),
        dots,
        ring.mark_point(size=260, filled=False, stroke=PAPER, strokeWidth=4, opacity=1),
        ring.mark_point(size=260, filled=False, stroke=INK, strokeWidth=1.8, opacity=1),
    ]
    return plain(alt.layer(*layers), size)


OUTCOMES = {"stays": BLUE, "flips": ORANGE}
OUTCOME_LABELS = {"stays": "answer stays", "flips": "answer changes"}


def losses(values: tuple[float, ...] | list[float], *, stop: float, size: int = 180) -> alt.LayerChart:
    """The loss of the value search, step by step, with the loss that is enough.

    Args:
        values: after 0, 1, 2, … steps.
        stop: enough is enough.
        size: height in pixels.
    """
    frame = pd.DataFrame({"step": range(len(values)), "loss": values})
    x = alt.X("step:Q", title="step").axis(axis(tickMinStep=1))
    y = alt.Y("loss:Q", title="loss").axis(axis(tickCount=4)).scale(zero=True)
    enough = alt.Chart(pd.DataFrame({"loss": [stop]})).mark_rule(color=MUTED, strokeDash=[4, 4]).encode(y=y)
    line = alt.Chart(frame).mark_line(color=BLUE, point=alt.OverlayMarkDef(size=22, color=BLUE)).encode(
        x=x, y=y, tooltip=[alt.Tooltip("step:Q"), alt.Tooltip("loss:Q", format=".3g")]
    )  # fmt: skip
    return plain(alt.layer(enough, line), size, bare=True)


def advice(frame: pd.DataFrame, *, layer: int, size: int = 300) -> alt.LayerChart:
    """Layers as numbered points: forecast damage to others against how surely the edited fact is answered anew.

    Args:
        frame: columns `layer`, `damage`, `probability`, `took` ("takes" or "does not take"), `note`.
        layer: the one looked at.
        size: height in pixels.

    Returns:
        a chart whose selection `LAYER` has the field `layer`.
    """
    most = float(frame["damage"].max()) if len(frame) else 1.0
    x = alt.X("damage:Q", title="forecast change of the others’ log-odds, mean size").axis(axis(tickCount=6))
    y = alt.Y("probability:Q", title="probability of the new object").axis(axis(format=".0%", tickCount=5))
    x, y = x.scale(domain=(0, 1.15 * most or 1.0), nice=False), y.scale(domain=(0, 1.08), nice=False)
    points = alt.Chart(frame).encode(x=x, y=y)
    dots = points.mark_point(filled=True, opacity=1, stroke=PAPER, size=700).encode(
        color=alt.Color("took:N")
        .scale(domain=["takes", "does not take"], range=[BLUE, ORANGE])
        .legend(legend(labelExpr="{'takes': 'the edit takes', 'does not take': 'it does not'}[datum.label]")),
        tooltip=[
            alt.Tooltip("layer:Q"),
            alt.Tooltip("probability:Q", format=".1%"),
            alt.Tooltip("damage:Q", format=".3g"),
            alt.Tooltip("note:N", title="also"),
        ],
    )
    numbers = points.mark_text(fontSize=LABEL_SIZE + 2, fontWeight="bold", color=PAPER).encode(text=alt.Text("layer:Q"))
    here = alt.Chart(frame[frame["layer"] == layer]).encode(x=x, y=y)
    ring = here.mark_point(size=1100, filled=False, stroke=MUTED, strokeWidth=2, opacity=1)
    return plain(alt.layer(ring, dots.add_params(clicks(LAYER, ["layer"])), numbers), size)
