"""Many sequences of edits over models, layers, methods, orders and seeds: how fast models forget.

`python -m kis_core forgetting --out DIR` writes `forgetting.csv` (one row a run), `forgetting.md` (the tables) and
`forgetting.png` (the figure).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kis_core import charts, lifelong, progress
from kis_core.analysis import pipeline
from kis_core.editing import method
from kis_core.files import atomic
from kis_core.lifelong import Draw, summary
from kis_core.models.holder import LoadedModels
from kis_core.request import Request, RequestError
from kis_core.results import caveats, export
from kis_core.simulator import Simulator
from kis_core.simulator import of as simulator_of
from kis_core.store.store import Store
from kis_core.studies.forgetting import EARLY, lifetimes, markdown
from kis_core.studies.program import made_by

COLUMNS = (
    "model", "family", "width", "layer", "method", "draw", "order", "seed", "edits", "half_life", "reached", "efficacy",
    "retention", "drift", "shift_error", "early_shift", "early_subject", "early_all",
    "early_renewed", "half_shift", "half_subject", "half_all", "half_renewed", "commit",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One run of the study."""

    layer: int
    method: str
    draw: Draw


def cases(layers: Sequence[int], methods: Sequence[str], seeds: int) -> Iterator[Case]:
    """All runs of a model: every method at every layer, then, for ROME, the most and the least superposed first."""
    for layer in layers:
        for name in methods:
            for seed in range(seeds):
                yield Case(layer, name, Draw(seed=seed))
        if "rome" in methods:
            for by in ("most", "least"):
                for seed in range(seeds):
                    yield Case(layer, "rome", Draw(by, seed))


@dataclass(frozen=True, slots=True)
class SequenceStudy:
    """Many sequences of edits.

    Attributes:
        requests: what is analysed, one a model.
        edits: at most, in one run; it ends when half is forgotten.
        every: edits between two measurements.
        seeds: how many runs of a kind.
        methods: by name.
        layers: or None for all but the last.
        device: where to run.
    """

    requests: tuple[Request, ...]
    edits: int
    every: int
    seeds: int
    methods: tuple[str, ...]
    layers: tuple[int, ...] | None = None
    device: str = "auto"

    def run(self, folder: Path, store: Store, report: progress.Report = progress.silent) -> list[Path]:
        """Do the study and write its files; runs that are stored are not done again.

        Args:
            folder: for the files.
            store: of analyses and runs.
            report: called after every measurement.

        Returns:
            the files written.
        """
        runs = pd.DataFrame(list(self._rows(store, report)), columns=list(COLUMNS))
        return [*atomic.write(folder, {"forgetting.csv": export.frame_csv(runs)}), *write(runs, folder)]

    def _rows(self, store: Store, report: progress.Report) -> Iterator[dict[str, Any]]:
        models = LoadedModels()
        for request in self.requests:
            model = request.model
            result = pipeline.run(request, store, device=self.device, models=models, report=report)
            caveats.log_of(result)
            simulator = simulator_of(result, store, device=self.device, models=models)
            there = result.editable_layers
            chosen = [layer for layer in there if self.layers is None or layer in self.layers]
            wanted = list(cases(chosen, self.methods, self.seeds))
            if not wanted:
                raise RequestError(
                    f"nothing to study of {model}: it has layers 0 to {there[-1] if there else 0} to edit, "
                    f"and at least one seed and one method are needed"
                )
            for done, case in enumerate(wanted):
                report(f"{model}, layer {case.layer}, {case.method}, {case.draw.label}", done, len(wanted))
                yield _row(simulator, case, self.edits, self.every)


def write(runs: pd.DataFrame, folder: Path) -> list[Path]:
    """Tables and figure of a study's rows."""
    lives = lifetimes(runs[(runs["draw"] == "random") & (runs["layer"] == runs["layer"].min())])
    figure = charts.lifetimes(lives.assign(name=[method(str(name)).label for name in lives["method"]]))
    lines = ["Edits until half of the unrelated facts are forgotten, by model and method; bars: 95 % over seeds."]
    picture = charts.to_png(figure, "How long a model remembers", lines)
    return atomic.write(folder, {"forgetting.md": markdown(runs), "forgetting.png": picture})


def _row(simulator: Simulator, case: Case, edits: int, every: int) -> dict[str, Any]:
    request = lifelong.ask(simulator, case.layer, case.method, edits, case.draw, every=every)
    trace = lifelong.run(
        simulator, request, until=lambda trace: summary.half_life(trace).reached and trace.edits >= EARLY
    )
    half = summary.half_life(trace)
    end = summary.forgotten_at(trace)
    if end is None:
        end = len(trace.steps) - 1
    else:  # a longer run may be stored; what came after half was forgotten is not looked at
        trace = trace.until(int(trace.steps[max(end, int(np.searchsorted(trace.steps, EARLY)))]))
    early = trace.at(EARLY)
    source = simulator.result.provenance
    row: dict[str, Any] = {
        "model": simulator.result.request.model,
        "family": source["family"],
        "width": source["width"],
        "layer": case.layer,
        "method": case.method,
        "draw": case.draw.by,
        "order": case.draw.order,
        "seed": case.draw.seed,
        "edits": trace.edits,
        "half_life": half.edits,
        "reached": half.reached,
        "efficacy": float(trace.took[: trace.steps[end]].mean()),
        "retention": float(summary.retention(trace)[end]),
        "drift": float(trace.drift[end, 0]),
        "shift_error": float(np.nanmax([0.0, *summary.exactness(trace)])),
        "commit": made_by(),
    }
    for name, at in (("early", early), ("half", max(end, 1))):
        row |= {f"{name}_{kind}": rank for kind, (rank, _) in summary.forecasts(trace, at).items()}
    return row
