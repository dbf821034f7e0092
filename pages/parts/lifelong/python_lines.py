"""What is said about sequences of edits: help, and the Python lines that make one."""

from __future__ import annotations

from collections.abc import Sequence

from kis_core.lifelong import EVERY, LifelongRequest
from kis_core.request import Request
from kis_core.results.result import Result
from pages.parts.lifelong.runs import Run

HELP = (
    "**Paper, eq. 3–5, 11 and 15; App. H.** Each edit adds δₙuₙᵀ to the matrix the edits before it left. At the layer, "
    "an unedited fact j is moved by Δo = Σᵢ p(kₑᵢ, kⱼ) δᵢ over all edits i, an edited one by Δe: the same sum over the "
    "edits after it. Keys do not move when one layer is edited, so both are exact there; what that does to answers is "
    "only measured.\n"
    "- **unrelated facts**: the facts of the set chosen on the left that are not edited, counted if the model answered "
    "them before the first edit.\n"
    "- **edits in force**: the new object is still the model’s first choice, token by token.\n"
    "- thin lines: after the step looked at."
)


def python_lines(run: Run) -> str:
    """Python that makes the run, or reads it from the store; ends with `film`."""
    return (
        "from kis_core import lifelong, simulator\n\nbench = simulator.of(result, Store())\n"
        f"{request_line(run.asked)}\nfilm = lifelong.run(bench, request)\n"
    )


def python_lines_of(runs: Sequence[Run], result: Result) -> str:
    """Python that makes runs and says what holds in each; ends with `frame`."""
    lines = ["from kis_core import lifelong, simulator", "", "bench = simulator.of(result, Store())", "films = {}"]
    for run in runs:
        other = run.bench.result
        if other.request != result.request:
            kept = ".subset(result.provenance['facts_kept'], 'known')" if "facts_kept" in other.provenance else ""
            facts = f", {other.request.facts!r}" if other.request.facts != Request().facts else ""
            lines.append(f"other = run(Request({other.request.model!r}{facts}), Store()){kept}")
            lines.append("bench = simulator.of(other, Store())")
        lines += [request_line(run.asked), f"films[{run.name!r}] = lifelong.run(bench, request)"]
    return "\n".join([*lines, "frame = lifelong.frames.holding(films)"])


def request_line(asked: LifelongRequest) -> str:
    """Python that asks for the run."""
    draw = asked.draw
    parts = [f"{draw.by!r}", f"seed={draw.seed}"]
    parts += [f"relations={draw.relations!r}"] if draw.relations else []
    parts += [f"picked={draw.picked!r}"] if draw.picked else []
    parts += [f"order={draw.order!r}"] if draw.order != "drawn" else []
    layers = asked.layers[0] if len(asked.layers) == 1 else asked.layers
    every = f", every={asked.every}" if asked.every != EVERY else ""
    return (
        f"request = lifelong.ask(bench, {layers}, {asked.method!r}, {asked.edits}, "
        f"lifelong.Draw({', '.join(parts)}){every})"
    )
