"""Charts of a sequence of edits: what still holds, who is damaged, theory and measurement, how soon half is forgotten.

A step of a run is shown by data alone: the specification of a chart stays the same from step to step, so that the
browser only exchanges numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from kis_core.charts.colours import AMBER, BLUE, GREEN, INK, MUTED, ORANGE, PAPER, PINK, SKY, VIOLET, on, ramp
from kis_core.charts.common import LABEL_SIZE, axis, clicks, legend, plain, texts, title
from kis_core.charts.spillover import FACT

SERIES = {"unrelated": "unrelated facts still answered (Δo)", "edited": "edits still in force (Δe)"}
AFTER = 1.2  # width in pixels of a line after the step
AGE_COLOURS = tuple(ramp(6))  # from young to old
RUN_COLOURS = (BLUE, ORANGE, GREEN, PINK, AMBER, SKY, MUTED, VIOLET)
THEORY = (MUTED, GREEN, BLUE, PINK)  # measured; forecast with gradients renewed, over all tokens, at the subject
SHIFTED = (BLUE, SKY, ORANGE, AMBER)  # of unrelated facts, measured and forecast; of edited ones
BEYOND = 3  # the axis of half-lives goes so many times beyond them
LIMIT_SHARE = 0.9  # of all changes that the colours of the heatmap tell apart; beyond, they are clamped


def retention(frame: pd.DataFrame, *, step: int, most: int, size: int = 340) -> alt.LayerChart:
    """Share of unrelated facts and of edits that still hold, over the edits made; one run, or several by colour.

    Args:
        frame: columns `run`, `edits`, `series` (a name in `SERIES`), `share`.
        step: where the reader is: lines are strong up to there.
        most: right end of the axis.
        size: height in pixels.
    """
    runs = list(dict.fromkeys(frame["run"]))
    frame = frame.assign(told=frame["series"].map(SERIES))
    x = alt.X("edits:Q", title="edits made").axis(axis(tickCount=8, format="d", labelFlush=True))
    x = x.scale(domain=(0, most), nice=False)
    y = alt.Y("share:Q", title="share").axis(axis(format="%", tickCount=5, grid=True, gridOpacity=0.3))
    y = y.scale(domain=(0, 1.02), nice=False)
    one = len(runs) <= 1
    names = list(SERIES.values())
    if one:
        colour = (
            alt.Color("told:N")
            .scale(domain=names, range=[BLUE, ORANGE])
            .legend(legend(symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=3))
        )
        dash = alt.StrokeDash("told:N").scale(domain=names, range=[[1, 0], [1, 0]]).legend(None)
    else:
        colours = [RUN_COLOURS[at % len(RUN_COLOURS)] for at in range(len(runs))]
        colour = alt.Color("run:N").scale(domain=runs, range=colours)
        colour = colour.legend(legend(symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=3, columns=2))
        dash = alt.StrokeDash("told:N").scale(domain=names, range=[[1, 0], [5, 4]])
        dash = dash.legend(
            legend(symbolType="stroke", symbolStrokeColor=MUTED, orient="bottom", symbolOpacity=1, symbolStrokeWidth=3)
        )
    tooltip = [
        alt.Tooltip("run:N"), alt.Tooltip("told:N", title="what"), alt.Tooltip("edits:Q"),
        alt.Tooltip("share:Q", format=".0%"),
    ]  # fmt: skip
    base = alt.Chart(frame).encode(x=x, y=y, color=colour, strokeDash=dash, detail="run:N")
    past = alt.Chart(frame[frame["edits"] <= step]).encode(x=x, y=y, color=colour, strokeDash=dash, detail="run:N")
    # without the dashes: Vega-Lite would draw their legend as it draws points, which have none
    hits = alt.Chart(frame).encode(x=x, y=y, color=colour, detail="run:N", tooltip=tooltip)
    half = alt.Chart(pd.DataFrame({"share": [0.5], "told": ["half"]}))
    return plain(
        alt.layer(
            half.mark_rule(color=MUTED, strokeDash=[2, 4]).encode(y=y),
            *_step(step, x),
            base.mark_line(strokeWidth=AFTER),
            past.mark_line(strokeWidth=3.5),
            hits.mark_point(filled=True, size=90, opacity=0.01),
            *_ends(frame, x, y, runs, one, step),
        ),
        size,
    )


def _ends(frame: pd.DataFrame, x: alt.X, y: alt.Y, runs: list[str], one: bool, step: int) -> list[alt.Chart]:
    """A dot where each line is at the step, with its value where there is but one run."""
    at = frame[frame["edits"] <= step].dropna(subset="share").sort_values("edits")
    at = at.drop_duplicates(["run", "series"], keep="last")
    key, names = ("series", list(SERIES)) if one else ("run", runs)
    colours = [BLUE, ORANGE] if one else [RUN_COLOURS[k % len(RUN_COLOURS)] for k in range(len(runs))]
    parts = []
    for name, colour in zip(names, colours, strict=True):
        chart = alt.Chart(at[at[key] == name].assign(text=lambda rows: [f"{share:.0%}" for share in rows["share"]]))
        parts.append(
            chart.mark_point(filled=True, size=110, opacity=1, color=colour, stroke=PAPER).encode(x=x, y=y)
        )  # fmt: skip
        if one:  # above the dot where this line is the upper one, else below it; both are there, one without data
            own, others = at[at[key] == name]["share"].max(), at[at[key] != name]["share"].max()
            above = not (own < others or (own == others and name == "edited"))
            for dy, there in ((-14, above), (16, not above)):
                mark = alt.Chart(chart.data if there else chart.data.head(0)).mark_text(
                    dy=dy, dx=4, align="left", fontSize=LABEL_SIZE + 3, fontWeight="bold", color=colour
                )
                parts.append(mark.encode(x=x, y=y, text=alt.Text("text:N")))
    return parts


def _step(step: int, x: alt.X) -> list[alt.Chart]:
    return [alt.Chart(pd.DataFrame({"edits": [step]})).mark_rule(color=MUTED, strokeWidth=1.5).encode(x=x)]


def over_edits(
    frame: pd.DataFrame,
    *,
    step: int,
    most: int,
    quantity: str,
    kinds: Sequence[str],
    colours: Sequence[str] | None = None,
    log: bool = False,
    span: tuple[float, float] | None = None,
    percent: bool = False,
    dotted: Sequence[str] = (),
    columns: int = 4,
    size: int = 300,
) -> alt.LayerChart:
    """Numbers over the edits made, one line a kind, with the step marked.

    Args:
        frame: columns `edits`, `kind`, `change`.
        step: where the reader is.
        most: right end of the axis.
        quantity: what is shown, for the axis.
        kinds: names of the lines, in order.
        colours: of the lines.
        log: a logarithmic axis; what is not above 0 is left out.
        span: of the axis.
        percent: the numbers are shares.
        dotted: kinds drawn as rings without a line, so that one sees whether they lie on another's.
        columns: of the legend.
        size: height in pixels.
    """
    kept = frame[np.isfinite(frame["change"]) & ((frame["change"] > 0) | (not log))]
    x = alt.X("edits:Q", title="edits made").axis(axis(tickCount=6, format="d", labelFlush=True))
    x = x.scale(domain=(0, most), nice=False)
    style = {"format": "%"} if percent else {"format": "~s"} if log else {}
    y = alt.Y("change:Q", title=title(quantity)).axis(axis(tickCount=5, grid=True, gridOpacity=0.3, **style))
    span = span or ((1, 10) if log and kept.empty else None)
    options = {"domain": span} if span else {}
    y = y.scale(type="log" if log else "linear", nice=not span, zero=not log, **options)
    used = list(colours or RUN_COLOURS)[: len(kinds)]
    colour = alt.Color("kind:N").scale(domain=list(kinds), range=used)
    colour = colour.legend(
        legend(symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=3, columns=columns) if len(kinds) > 1 else None
    )
    tooltip = [alt.Tooltip("kind:N", title="what"), alt.Tooltip("edits:Q"), alt.Tooltip("change:Q", format=".3g")]
    lined = kept[~kept["kind"].isin(list(dotted))]
    past = lined[lined["edits"] <= step]
    rings = kept[kept["kind"].isin(list(dotted)) & (kept["edits"] <= step)]
    layers = [
        *_step(step, x),
        alt.Chart(lined).mark_line(strokeWidth=AFTER).encode(x=x, y=y, color=colour),
        alt.Chart(past)
        .mark_line(strokeWidth=3, point=alt.OverlayMarkDef(size=35, filled=True))
        .encode(x=x, y=y, color=colour),
        alt.Chart(rings).mark_point(size=110, strokeWidth=2.2, filled=False, opacity=1).encode(x=x, y=y, color=colour),
        alt.Chart(kept).mark_point(filled=True, size=80, opacity=0.01).encode(x=x, y=y, color=colour, tooltip=tooltip),
    ]
    return plain(alt.layer(*layers), size, bare=len(kinds) < 2)


def damage(frame: pd.DataFrame, *, step: int, picked: int | None = None, size: int = 520) -> alt.LayerChart:
    """Who is damaged when: facts down, edits across, the change of each fact's log-odds as colour.

    Args:
        frame: as `lifelong.frames.damage` gives it.
        step: where the reader is.
        picked: fact to mark.
        size: height in pixels.

    Returns:
        a chart whose selection `FACT` has the field `fact`.
    """
    finite = frame["change"][np.isfinite(frame["change"])].abs()
    limit = float(np.quantile(finite, LIMIT_SHARE)) if len(finite) else 1.0
    limit = limit or 1.0
    rows = int(frame["row"].max()) + 1 if len(frame) else 1
    cells = frame.assign(
        shown=(-frame["change"]).clip(-limit, limit).round(2), bottom=frame["row"] + 1, change=frame["change"].round(2)
    )
    x = alt.X("from:Q", title="edits made").axis(axis(tickCount=8, format="d", labelFlush=True))
    x = x.scale(domain=(0, int(frame["to"].max()) if len(frame) else 1), nice=False)
    y = alt.Y("row:Q", title="facts, the first forgotten on top").axis(axis(labels=False, ticks=False))
    y = y.scale(domain=(rows, 0), nice=False)
    colour = alt.Color("shown:Q").scale(domain=[-limit, limit], domainMid=0)
    colour = colour.legend(
        orient="top", title=f"loss of log-odds (clamped at ±{limit:.3g})", gradientLength=260,
        labelFontSize=LABEL_SIZE, titleFontSize=LABEL_SIZE, titleLimit=320,
    )  # fmt: skip
    base = texts(alt.Chart(cells), change="+.2f").encode(x=x, x2=alt.X2("to:Q"), y=y, y2=alt.Y2("bottom:Q"))
    drawn = base.mark_rect(strokeWidth=0).encode(
        color=colour,
        tooltip=[
            alt.Tooltip("told:N", title="fact"), alt.Tooltip("from:Q", title="after edits"),
            alt.Tooltip("change_text:N", title="change of log-odds"), alt.Tooltip("answers:N", title="answers"),
            alt.Tooltip("rank:Q", title="rank of the right answer"),
        ],
    ).add_params(clicks(FACT, ["fact"]))  # fmt: skip
    wrong = cells[cells["answers"] == "wrong"].assign(
        middle=lambda rows: (rows["from"] + rows["to"]) / 2, centre=lambda rows: rows["row"] + 0.5
    )
    dots = alt.Chart(wrong).mark_point(
        filled=True, size=9, fill=alt.ExprRef(on("scale('color', datum.shown)")), opacity=1
    ).encode(
        x=alt.X("middle:Q").scale(domain=(0, int(frame["to"].max()) if len(frame) else 1), nice=False),
        y=alt.Y("centre:Q").scale(domain=(rows, 0), nice=False),
    )  # fmt: skip
    ring = cells[(cells["fact"] == (-1 if picked is None else picked))]
    ring = ring.assign(to=ring["to"].max(), **{"from": ring["from"].min()}).head(1) if len(ring) else ring
    outline = alt.Chart(ring).encode(x=x, x2=alt.X2("to:Q"), y=y, y2=alt.Y2("bottom:Q"))
    layers = [
        drawn, dots, *_step(step, x),
        outline.mark_rect(filled=False, stroke=PAPER, strokeWidth=4),
        outline.mark_rect(filled=False, stroke=INK, strokeWidth=2),
    ]  # fmt: skip
    return plain(alt.layer(*layers), size)


def lifetimes(frame: pd.DataFrame, *, size: int = 340) -> alt.LayerChart:
    """Edits until half is forgotten, one mark a model and kind of run, with its interval over seeds.

    Args:
        frame: columns `model`, `width`, `name` (what the colours tell apart), `middle`, `low`, `high`, `unreached`.
        size: height in pixels.
    """
    ordered = frame.sort_values(["width", "model"], kind="stable")
    models, names = list(dict.fromkeys(ordered["model"])), list(dict.fromkeys(frame["name"]))
    marked = frame.assign(end=np.where(frame["unreached"] > 0, "not reached: at least", "reached"))
    marked = marked.assign(low=marked["low"].fillna(marked["middle"]), high=marked["high"].fillna(marked["middle"]))
    x = alt.X("model:N", title=None, sort=models).axis(axis(labelAngle=-20, labelLimit=160, labelOverlap=False))
    y = alt.Y("middle:Q", title="edits until half is forgotten").axis(axis(grid=True, gridOpacity=0.3, format="~s"))
    middles = marked["middle"]  # few seeds give wide intervals: what runs out of this span is cut
    y = y.scale(type="log", domain=(middles.min() / BEYOND, middles.max() * BEYOND) if len(marked) else (1, 10))
    colour = alt.Color("name:N").scale(
        domain=names, range=[RUN_COLOURS[k % len(RUN_COLOURS)] for k in range(len(names))]
    )
    colour = colour.legend(legend(symbolType="circle", symbolOpacity=1, columns=6))
    aside = alt.XOffset("name:N", sort=names)
    base = alt.Chart(marked).encode(x=x, xOffset=aside, color=colour)
    bars = base.mark_rule(strokeWidth=2, clip=True).encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q"))
    points = base.mark_point(filled=True, size=150, opacity=1, stroke=PAPER).encode(
        y=y,
        shape=alt.Shape("end:N")
        .scale(domain=["reached", "not reached: at least"], range=["circle", "triangle-up"])
        .legend(legend(symbolFillColor=MUTED, orient="bottom")),
        tooltip=[
            alt.Tooltip("model:N"), alt.Tooltip("name:N", title="run"), alt.Tooltip("middle:Q", format=".0f"),
            alt.Tooltip("low:Q", format=".0f"), alt.Tooltip("high:Q", format=".0f"),
            alt.Tooltip("unreached:Q", title="runs that ended before"),
        ],
    )  # fmt: skip
    return plain(alt.layer(bars, points), size)
