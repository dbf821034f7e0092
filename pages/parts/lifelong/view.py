"""Runs of edits as their page looks at them: made once a run of the page, and handed to what draws a part of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kis_core import charts, lifelong
from kis_core.lifelong import EVERY, EditTrace, LifelongRequest
from kis_core.request import Request
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure
from pages.parts.frame.views import ResultView
from pages.parts.lifelong.runs import Run

HELP = (
    "**Paper, eq. 3–5, 11 and 15; App. H.** Each edit adds δₙuₙᵀ to the matrix that the edits before it left. At the "
    "layer, an unedited fact j is moved by Δo = Σᵢ p(kₑᵢ, kⱼ) δᵢ over all edits i, an edited one by Δe: the same sum "
    "over the edits after it. Keys do not move when one layer is edited, so both are exact there; what that does to "
    "answers can only be measured.\n"
    "- **unrelated facts**: the facts of the set chosen on the left that are not edited, counted if the model answered "
    "them before the first edit.\n"
    "- **edits in force**: the new object is still the model’s first choice, token by token.\n"
    "- thin lines: after the step looked at."
)


@dataclass(frozen=True, eq=False)
class RunPlan:
    """What is to be shown.

    Attributes:
        main: the run chosen.
        others: runs it is set against.
    """

    main: Run
    others: tuple[Run, ...]

    @property
    def model(self) -> str:
        """The model of the run chosen."""
        return self.main.bench.result.request.model

    @property
    def runs(self) -> tuple[Run, ...]:
        """All of them, the chosen one first."""
        return (self.main, *self.others)

    def unfinished(self, traces: Mapping[Run, EditTrace]) -> list[Run]:
        """Those whose edits are not all made."""
        return [run for run in self.runs if not lifelong.finished(traces.get(run), run.request)]


@dataclass(frozen=True, eq=False)
class RunView(ResultView):
    """The run looked at, and those it is set against.

    Attributes:
        plan: the runs.
        traces: of those that were begun; that of the chosen one is among them.
        step: how many edits the page shows as made.
    """

    plan: RunPlan
    traces: Mapping[Run, EditTrace]
    step: int

    @property
    def run(self) -> Run:
        """The chosen one."""
        return self.plan.main

    @property
    def trace(self) -> EditTrace:
        """Of the chosen one."""
        return self.traces[self.run]

    @property
    def row(self) -> int:
        """Of the trace, at the step."""
        return self.trace.at(self.step)

    def over_edits(self, frame: pd.DataFrame, text: FigureText, *, key: str, **options: Any) -> None:
        """The figure of something that changes from edit to edit; `options` are those of `charts.over_edits`."""
        chart = drawing(charts.over_edits, frame, step=self.step, most=self.run.request.edits, **options)
        figure(self, chart, text, key=key)

    def python_lines(self) -> str:
        """Python that makes the run, or reads it from the store; ends with `trace`."""
        return (
            "from kis_core import lifelong, simulator\n\nbench = simulator.of(result, Store())\n"
            f"{request_line(self.run.request)}\ntrace = lifelong.run(bench, request)\n"
        )

    def python_lines_of(self, runs: Sequence[Run]) -> str:
        """Python that makes runs and says what holds in each; ends with `frame`."""
        lines = ["from kis_core import lifelong, simulator", "", "bench = simulator.of(result, Store())", "traces = {}"]
        for run in runs:
            other = run.bench.result
            if other.request != self.result.request:
                kept = ".subset(result.provenance['facts_kept'], 'known')" if "facts_kept" in other.provenance else ""
                facts = f", {other.request.facts!r}" if other.request.facts != Request().facts else ""
                lines.append(f"other = run(Request({other.request.model!r}{facts}), Store()){kept}")
                lines.append("bench = simulator.of(other, Store())")
            lines += [request_line(run.request), f"traces[{run.name!r}] = lifelong.run(bench, request)"]
        return "\n".join([*lines, "frame = lifelong.frames.holding(traces)"])


def request_line(request: LifelongRequest) -> str:
    """Python that describes the run."""
    draw = request.draw
    parts = [f"{draw.by!r}", f"seed={draw.seed}"]
    parts += [f"relations={draw.relations!r}"] if draw.relations else []
    parts += [f"picked={draw.picked!r}"] if draw.picked else []
    parts += [f"order={draw.order!r}"] if draw.order != "drawn" else []
    layers = request.layers[0] if len(request.layers) == 1 else request.layers
    every = f", every={request.every}" if request.every != EVERY else ""
    nas = ", nas=True" if request.how.nas else ""
    return (
        f"request = lifelong.ask(bench, {layers}, {request.method!r}, {request.edits}, "
        f"lifelong.Draw({', '.join(parts)}){every}{nas})"
    )
