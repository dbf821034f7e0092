"""Charts of a sequence of edits: what still holds, who is damaged, forecasts, and how soon half is forgotten.

A step of a run is shown by data alone: the specification of a chart stays the same from step to step, so that the
browser only exchanges numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from kis_core.charts.colours import AMBER, BLUE, GREEN, MUTED, ORANGE, PAPER, PINK, SKY, VIOLET, on, ramp
from kis_core.charts.common import (
    LABEL_SIZE,
    axis,
    clicks,
    gradient_legend,
    legend,
    line_legend,
    on_axis,
    outline,
    plain,
    texts,
    tip,
    title,
)
from kis_core.charts.spillover import FACT
from kis_core.superposition.overview import limit_of_changes

SERIES = {"unrelated": "unrelated facts still answered (Δo)", "edited": "edits still in force (Δe)"}
FORECAST, MEASURED = "forecast", "measured"
AFTER = 1.2  # width in pixels of a line after the step
AGE_COLOURS = tuple(ramp(6))  # from young to old
RUN_COLOURS = (BLUE, ORANGE, GREEN, PINK, AMBER, SKY, MUTED, VIOLET)
RUN_MARKS = (
    "stroke",
    "M-1,-.08L-.5,-.08L0,-.6L.5,-.08L1,-.08L1,.08L.5,.08L0,.6L-.5,.08L-1,.08Z",
    "M-1,-.08L-.5,-.08L-.5,-.5L.5,-.5L.5,-.08L1,-.08L1,.08L.5,.08L.5,.5L-.5,.5L-.5,.08L-1,.08Z",
    "M-1,-.08L-.25,-.08L0,-.7L.25,-.08L1,-.08L1,.08L.6,.08L.6,.5L-.6,.5L-.6,.08L-1,.08Z",
)
"""On the lines of the first runs, which are as many as there are colours, and of as many each after these: nothing,
then diamonds, squares, triangles, on a piece of the line (SVG paths, as in the legend). So colours that come again
differ in shape, which everyone sees."""
FORECAST_COLOURS = (MUTED, GREEN, BLUE, PINK)
"""Of what was measured, and of forecasts with gradients renewed, over all tokens, and at the subject."""
SHIFT_COLOURS = (BLUE, SKY, ORANGE, AMBER)
"""Of unrelated facts, measured and forecast, and of edited ones."""
BEYOND = 3  # the axis of half-lives goes so many times beyond them
ENDS = {"reached": "circle", "not reached: at least": "triangle-up"}  # marks of half-lives


def retention(frame: pd.DataFrame, *, step: int, most: int) -> alt.LayerChart:
    """Share of unrelated facts and of edits that still hold, over the edits made; one run, or several by colour.

    Args:
        frame: columns `run`, `edits`, `series` (a name in `SERIES`), `share`.
        step: where the reader is: lines are strong up to there.
        most: right end of the axis.
    """
    runs = list(dict.fromkeys(frame["run"]))
    frame = frame.assign(label=frame["series"].map(SERIES))
    x = _edits(most, tickCount=8)("edits")
    y_axis = axis(format="%", tickCount=5, grid=True, gridOpacity=0.3)
    y = on_axis(alt.Y, "share", y_axis, domain=(0, 1.02))("share")
    labels = list(SERIES.values())
    if len(runs) <= 1:
        key, colours = "series", {"unrelated": BLUE, "edited": ORANGE}
        colour = alt.Color("label:N").scale(domain=labels, range=[BLUE, ORANGE]).legend(line_legend())
        dash = alt.StrokeDash("label:N").scale(domain=labels, range=[[1, 0], [1, 0]]).legend(None)
    else:
        key, colours = "run", dict(zip(runs, _run_colours(len(runs)), strict=True))
        colour = _run_colour(runs)
        dash = alt.StrokeDash("label:N").scale(domain=labels, range=[[1, 0], [5, 4]])
        dash = dash.legend(line_legend(symbolStrokeColor=MUTED, orient="bottom"))
    base, past = (
        alt.Chart(rows).encode(x=x, y=y, color=colour, strokeDash=dash, detail="run:N")
        for rows in (frame, frame[frame["edits"] <= step])
    )
    # without the dashes: Vega-Lite would draw their legend as it draws points, which have none
    tooltip = [tip("run:N"), tip("label:N", "what"), tip("edits:Q"), tip("share:Q", form=".0%")]
    hits = alt.Chart(frame).encode(x=x, y=y, color=colour, detail="run:N", tooltip=tooltip)
    half = alt.Chart(pd.DataFrame({"share": [0.5], "label": ["half"]}))
    layers = [
        half.mark_rule(color=MUTED, strokeDash=[2, 4]).encode(y=y),
        _step(step, x),
        base.mark_line(strokeWidth=AFTER),
        past.mark_line(strokeWidth=3.5),
        *(_run_marks(frame, runs, x=x, y=y, color=colour) if key == "run" else []),
        hits.mark_point(filled=True, size=90, opacity=0.01),
        *_ends(frame[frame["edits"] <= step], x, y, key, colours),
    ]
    return plain(alt.layer(*layers), 340)


def _ends(past: pd.DataFrame, x: alt.X, y: alt.Y, key: str, colours: Mapping[str, alt.ExprRef]) -> list[alt.Chart]:
    """A dot at the end of each line so far, coloured by the column `key`; if that is `series`, with its value."""
    at = past.dropna(subset="share").sort_values("edits").drop_duplicates(["run", "series"], keep="last")
    at = at.assign(text=[f"{share:.0%}" for share in at["share"]])
    parts = []
    for name, colour in colours.items():
        here = at[at[key] == name]
        dot = alt.Chart(here).mark_point(filled=True, size=110, opacity=1, color=colour, stroke=PAPER)
        parts.append(dot.encode(x=x, y=y))
        if key == "series":  # above the dot of the upper line and below that of the lower; one of the two has no data
            own, others = here["share"].max(), at[at[key] != name]["share"].max()
            above = not (own < others or (own == others and name == "edited"))
            for dy, there in ((-14, above), (16, not above)):
                mark = alt.Chart(here if there else here.head(0)).mark_text(
                    dy=dy, dx=4, align="left", fontSize=LABEL_SIZE + 3, fontWeight="bold", color=colour
                )
                parts.append(mark.encode(x=x, y=y, text=alt.Text("text:N")))
    return parts


def _edits(most: int, **options: float) -> Callable[[str], alt.X]:
    """Encodings on the axis of edits made."""
    return on_axis(alt.X, "edits made", axis(format="d", labelFlush=True, **options), domain=(0, most))


def _step(step: int, x: alt.X) -> alt.Chart:
    """A line where the reader is."""
    return alt.Chart(pd.DataFrame({"edits": [step]})).mark_rule(color=MUTED, strokeWidth=1.5).encode(x=x)


def _run_colours(count: int) -> list[alt.ExprRef]:
    return [RUN_COLOURS[k % len(RUN_COLOURS)] for k in range(count)]


def _run_colour(runs: Sequence[str]) -> alt.Color:
    """The colours of runs; where there are more of these, `_run_marks` says more."""
    colour = alt.Color("run:N").scale(domain=list(runs), range=_run_colours(len(runs)))
    return colour.legend(line_legend(columns=2) if len(runs) > 1 else None)


def _run_marks(frame: pd.DataFrame, runs: Sequence[str], **encodings: Any) -> list[alt.Chart]:
    """What tells runs apart whose colours come again (`RUN_MARKS`), on their lines and in the legend of colours."""
    first = len(RUN_COLOURS)
    if len(runs) <= first:
        return []
    marks = [RUN_MARKS[k // first % len(RUN_MARKS)] for k in range(len(runs))]
    shape = alt.Shape("run:N").scale(domain=list(runs), range=marks).legend(line_legend(columns=2))
    points = alt.Chart(frame[frame["run"].isin(list(runs[first:]))]).mark_point(filled=True, size=320, opacity=1)
    return [points.encode(shape=shape, **encodings)]


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
    mark: int | None = None,
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
        dotted: kinds drawn as rings without a line, so that they can be seen on the line of another kind.
        mark: a number of edits to mark with a dashed line.
        columns: of the legend.
        size: height in pixels.
    """
    kept = frame[np.isfinite(frame["change"]) & ((frame["change"] > 0) | (not log))]
    x = _edits(most, tickCount=6)("edits")
    style = {"format": "%"} if percent else {"format": "~s"} if log else {}
    span = span or ((1, 10) if log and kept.empty else None)
    y_axis = axis(tickCount=5, grid=True, gridOpacity=0.3, **style)
    ends = {"domain": span} if span else {}
    y = alt.Y("change:Q", title=title(quantity)).axis(y_axis)
    y = y.scale(type="log" if log else "linear", nice=not span, zero=not log, **ends)
    colour = alt.Color("kind:N").scale(domain=list(kinds), range=list(colours or RUN_COLOURS)[: len(kinds)])
    colour = colour.legend(line_legend(columns=columns) if len(kinds) > 1 else None)
    apart = kept["kind"].isin(list(dotted))
    before = kept["edits"] <= step
    all_lines, past, rings, hits = (
        alt.Chart(rows).encode(x=x, y=y, color=colour)
        for rows in (kept[~apart], kept[~apart & before], kept[apart & before], kept)
    )
    tooltip = [tip("kind:N", "what"), tip("edits:Q"), tip("change:Q", form=".3g")]
    rules = [_step(step, x)]
    if mark is not None:
        there = alt.Chart(pd.DataFrame({"edits": [mark]}))
        rules.append(there.mark_rule(color=ORANGE, strokeWidth=2, strokeDash=[6, 4]).encode(x=x))
    layers = [
        *rules,
        all_lines.mark_line(strokeWidth=AFTER),
        past.mark_line(strokeWidth=3, point=alt.OverlayMarkDef(size=35, filled=True)),
        rings.mark_point(size=110, strokeWidth=2.2, filled=False, opacity=1),
        hits.mark_point(filled=True, size=80, opacity=0.01).encode(tooltip=tooltip),
    ]
    return plain(alt.layer(*layers), size, bare=len(kinds) < 2)


def damage(frame: pd.DataFrame, *, step: int, picked: int | None = None) -> alt.LayerChart:
    """Who is damaged when: facts down, edits across, the change of each fact's log-odds as colour.

    Args:
        frame: as `lifelong.frames.damage` gives it.
        step: where the reader is.
        picked: fact to mark.

    Returns:
        a chart whose selection `FACT` has the field `fact`.
    """
    limit = limit_of_changes(frame["change"].to_numpy(dtype=float))
    rows, most = (int(frame["row"].max()) + 1, int(frame["to"].max())) if len(frame) else (1, 1)
    change = frame["change"].round(2)
    loss = (-frame["change"]).clip(-limit, limit).round(2)
    cells = frame.assign(shown=loss, bottom=frame["row"] + 1, change=change)
    x = _edits(most, tickCount=8)
    y_axis = axis(labels=False, ticks=False)
    y = on_axis(alt.Y, "facts, the first forgotten on top", y_axis, domain=(rows, 0))
    name = f"loss of log-odds (clamped at ±{limit:.3g})"
    colour = alt.Color("shown:Q").scale(domain=[-limit, limit], domainMid=0)
    colour = colour.legend(
        gradient_legend(260, title=name, titleOrient="top", titleFontSize=LABEL_SIZE, titleLimit=320)
    )
    tooltip = [
        tip("told:N", "fact"),
        tip("from:Q", "after edits"),
        tip("change_text:N", "change of log-odds"),
        tip("answers:N", "answers"),
        tip("rank:Q", "rank of the right answer"),
    ]
    area = {"x": x("from"), "x2": "to:Q", "y": y("row"), "y2": "bottom:Q"}
    squares = texts(alt.Chart(cells), change="+.2f").mark_rect(strokeWidth=0)
    squares = squares.encode(**area, color=colour, tooltip=tooltip).add_params(clicks(FACT, ["fact"]))
    wrong = cells[cells["answers"] == "wrong"].assign(
        middle=lambda wrong: (wrong["from"] + wrong["to"]) / 2, centre=lambda wrong: wrong["row"] + 0.5
    )
    contrast = alt.ExprRef(on("scale('color', datum.shown)"))
    dots = alt.Chart(wrong).mark_point(filled=True, size=9, fill=contrast, opacity=1)
    ring = cells[cells["fact"] == (-1 if picked is None else picked)]
    ring = ring.assign(to=ring["to"].max(), **{"from": ring["from"].min()}).head(1) if len(ring) else ring
    around = outline(alt.Chart(ring).encode(**area).mark_rect)
    layers = [squares, dots.encode(x=x("middle"), y=y("centre")), _step(step, x("edits")), *around]
    return plain(alt.layer(*layers), 520)


def budget(frame: pd.DataFrame, measured: pd.DataFrame, *, most: int) -> alt.LayerChart:
    """Forgetting curves as they were forecast, each with its band, and as they were measured; one colour a run.

    Args:
        frame: columns `run`, `edits`, `recall`, `recall_low`, `recall_high`.
        measured: columns `run`, `edits`, `recall`; without rows where no run was made.
        most: right end of the axis.
    """
    runs = list(dict.fromkeys(frame["run"]))
    both = pd.concat([frame.assign(kind=FORECAST), measured.assign(kind=MEASURED)], ignore_index=True)
    x = _edits(most, tickCount=8)("edits")
    y = on_axis(alt.Y, "share", axis(format="%", tickCount=5, grid=True, gridOpacity=0.3), domain=(0, 1.02))
    colour = _run_colour(runs)
    dash = alt.StrokeDash("kind:N").scale(domain=[MEASURED, FORECAST], range=[[1, 0], [5, 4]])
    dash = dash.legend(line_legend(symbolStrokeColor=MUTED, orient="bottom"))
    tooltip = [tip("run:N"), tip("kind:N", "what"), tip("edits:Q"), tip("recall:Q", form=".0%")]
    half = alt.Chart(pd.DataFrame({"recall": [0.5]})).mark_rule(color=MUTED, strokeDash=[2, 4]).encode(y=y("recall"))
    band = (
        alt.Chart(frame)
        .mark_area(opacity=0.18)
        .encode(x=x, y=y("recall_low"), y2="recall_high:Q", color=colour, detail="run:N")
    )
    base = alt.Chart(both).encode(x=x, y=y("recall"), color=colour, detail="run:N")
    lines = base.mark_line(strokeWidth=3).encode(strokeDash=dash)
    hits = base.mark_point(filled=True, size=80, opacity=0.01).encode(tooltip=tooltip)
    marks = _run_marks(both, runs, x=x, y=y("recall"), color=colour)
    return plain(alt.layer(half, band, lines, *marks, hits), 340)


def lifetimes(frame: pd.DataFrame) -> alt.LayerChart:
    """Edits until half is forgotten, one mark a model and kind of run, with its interval over seeds.

    Args:
        frame: columns `model`, `width`, `name` (what the colours tell apart), `middle`, `low`, `high`, `unreached`.
    """
    ordered = frame.sort_values(["width", "model"], kind="stable")
    models, names = list(dict.fromkeys(ordered["model"])), list(dict.fromkeys(frame["name"]))
    reached, unreached = ENDS
    marked = frame.assign(
        end=np.where(frame["unreached"] > 0, unreached, reached),
        low=frame["low"].fillna(frame["middle"]),
        high=frame["high"].fillna(frame["middle"]),
    )
    x = alt.X("model:N", title=None, sort=models).axis(axis(labelAngle=-20, labelLimit=160, labelOverlap=False))
    y = alt.Y("middle:Q", title="edits until half is forgotten").axis(axis(grid=True, gridOpacity=0.3, format="~s"))
    middles = marked["middle"]  # few seeds give wide intervals: what runs out of this span is cut
    y = y.scale(type="log", domain=(middles.min() / BEYOND, middles.max() * BEYOND) if len(marked) else (1, 10))
    colour = alt.Color("name:N").scale(domain=names, range=_run_colours(len(names)))
    colour = colour.legend(legend(symbolType="circle", symbolOpacity=1, columns=6))
    base = alt.Chart(marked).encode(x=x, xOffset=alt.XOffset("name:N", sort=names), color=colour)
    bars = base.mark_rule(strokeWidth=2, clip=True).encode(y="low:Q", y2="high:Q")
    shape = alt.Shape("end:N").scale(domain=list(ENDS), range=list(ENDS.values()))
    points = base.mark_point(filled=True, size=150, opacity=1, stroke=PAPER)
    if len(names) > len(RUN_COLOURS):  # colours come again: then marks are hollow
        colours, legend_of_both = _run_colours(len(names)), legend(symbolType="circle", symbolOpacity=1, columns=6)
        inside = [each if k // len(RUN_COLOURS) % 2 == 0 else PAPER for k, each in enumerate(colours)]
        fill = alt.Fill("name:N").scale(domain=names, range=inside).legend(legend_of_both)
        ring = alt.Stroke("name:N").scale(domain=names, range=colours).legend(legend_of_both)
        base = alt.Chart(marked).encode(x=x, xOffset=alt.XOffset("name:N", sort=names), stroke=ring)
        points = base.mark_point(size=150, opacity=1, strokeWidth=2.5).encode(fill=fill)
        bars = base.mark_rule(strokeWidth=2, clip=True).encode(y="low:Q", y2="high:Q")
    points = points.encode(
        y=y,
        shape=shape.legend(legend(symbolFillColor=MUTED, orient="bottom")),
        tooltip=[
            tip("model:N"),
            tip("name:N", "run"),
            *(tip(f"{field}:Q", form=".0f") for field in ("middle", "low", "high")),
            tip("unreached:Q", "runs that ended before"),
        ],
    )
    return plain(alt.layer(bars, points), 340)
