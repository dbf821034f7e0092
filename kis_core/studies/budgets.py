"""Forecasts of the edit budget held against the runs of docs/forgetting.md, beside simple rivals.

`python -m kis_core budgets --out DIR` writes `budgets.csv` (one row a run that was measured) and `budgets.md`. What is
stored of the forecasts is not made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kis_core import lifelong, progress
from kis_core.analysis import pipeline
from kis_core.editing import method
from kis_core.files import atomic
from kis_core.lifelong import Draw, LifelongRequest, budget, summary
from kis_core.lifelong.queue import draw_queue
from kis_core.lifelong.redraws import redraws
from kis_core.lifelong.stand_ins import Plan
from kis_core.models.holder import LoadedModels
from kis_core.request import Request, RequestError
from kis_core.results import export
from kis_core.simulator import Simulator
from kis_core.simulator import of as simulator_of
from kis_core.store.store import Store
from kis_core.studies import forgetting
from kis_core.studies.forgetting import FORECASTS
from kis_core.studies.tables import mean, table
from kis_core.wording import MISSING, number

FACTS = {kind: FORECASTS[kind] for kind in ("subject", "all", "renewed")} | {
    "stand_ins": "the budget’s stand-ins",
    "both": "stand-ins and renewed gradients",
}
"""Forecasts of which facts lose, by the names of their columns (`summary.forecasts`), with their labels."""
COLUMNS = (
    "model", "layer", "method", "seed", "measured", "reached", "forecast", "low", "high", "unreached", "fixed_pool",
    "mean_p2", "first_edits", "searches", "share", "seconds",
    *(f"{when}_{kind}" for when in ("early", "half") for kind in FACTS),
)  # fmt: skip
APART = (("demo-gpt2-128", 2), ("demo-gpt2-256", 0), ("demo-llama-128", 1))
"""Models and layers that nothing of the forecast was chosen on: kept for judging it."""
FIRST_EDITS = 10  # that a rival extrapolates
NEAR = 1.5  # a factor by which a forecast may be off
RIVALS = {
    "forecast": "the budget",
    "fixed_pool": "pilots of the unedited model alone",
    "mean_p2": "edits × mean P²",
    "first_edits": f"the first {FIRST_EDITS} edits, extrapolated",
}
"""What is judged, by column, in words."""


@dataclass(frozen=True, slots=True)
class BudgetStudy:
    """Forecasts of runs that were measured.

    Attributes:
        requests: what is analysed, one a model.
        edits: planned in each run.
        seeds: how many runs of a kind, at most.
        methods: by name.
        layers: or None for all that were measured.
        device: where to run.
    """

    requests: tuple[Request, ...]
    edits: int
    seeds: int
    methods: tuple[str, ...]
    layers: tuple[int, ...] | None = None
    device: str = "auto"

    def run(self, folder: Path, store: Store, report: progress.Report = progress.silent) -> list[Path]:
        """Make the forecasts and write the files.

        Returns:
            the files written.

        Raises:
            EditError: there is no method of that name.
            RequestError: no run of a model was measured.
        """
        for name in self.methods:
            method(name)
        rows = pd.DataFrame(list(self._rows(store, report)), columns=list(COLUMNS))
        return atomic.write(folder, {"budgets.csv": export.frame_csv(rows), "budgets.md": markdown(rows)})

    def _rows(self, store: Store, report: progress.Report) -> Iterator[dict[str, Any]]:
        runs, models = forgetting.committed(), LoadedModels()
        runs = runs[(runs["draw"] == "random") & (runs["order"] == "drawn") & (runs["seed"] < self.seeds)]
        runs = runs[runs["method"].isin(self.methods)]
        for request in self.requests:
            own = runs[runs["model"] == request.model]
            own = own if self.layers is None else own[own["layer"].isin(self.layers)]
            if own.empty:
                raise RequestError(f"no run of {request.model} by these methods and layers is in docs/forgetting.md")
            result = pipeline.run(request, store, device=self.device, models=models, report=report)
            simulator = simulator_of(result, store, device=self.device, models=models)
            for done, measured in enumerate(own.to_dict("records")):
                name, layer, seed = str(measured["method"]), int(measured["layer"]), int(measured["seed"])
                if budget.refusal(name) is None:
                    report(f"{request.model}, layer {layer}, {name}, seed {seed}", done, len(own))
                    planned = lifelong.ask(simulator, layer, name, self.edits, Draw(seed=seed))
                    about = {"model": request.model, "layer": layer, "method": name, "seed": seed}
                    measures = {"measured": float(measured["half_life"]), "reached": bool(measured["reached"])}
                    yield about | measures | _forecasts(simulator, planned)


def _forecasts(simulator: Simulator, request: LifelongRequest) -> dict[str, Any]:
    """The half-life of a run by the budget and by each rival; infinite where one sees no end."""
    forecast = budget.forecast(simulator, request)
    half = budget.half_life(forecast)
    queue = draw_queue(simulator, request.draw, request.edits, request.layers[0])
    steps, curves = redraws(Plan(simulator, request, queue), forecast.pilots, grows=False)
    fixed = [summary.crossing(steps, recall).edits for recall in curves["recall"]]
    leak = queue.leak[simulator.result.at(request.layers[0])]
    begin = lifelong.ask(simulator, request.layers, request.method, FIRST_EDITS, request.draw, every=request.every)
    first, known = lifelong.run(simulator, begin), lifelong.known(simulator, request)
    return {
        "forecast": half.middle,
        "low": half.low,
        "high": half.high,
        "unreached": half.unreached,
        "fixed_pool": float(np.exp(np.log(np.maximum(fixed, 1)).mean())),
        "mean_p2": float(np.nanmean(leak**2)),
        "first_edits": extrapolated(first),
        "searches": forecast.searches,
        "share": forecast.share,
        "seconds": forecast.seconds,
        **_facts("early", first, len(first.steps) - 1, forecast),
        **(_facts("half", known, end, forecast) if known and (end := summary.forgotten_at(known)) else {}),
    }


def _facts(when: str, trace: lifelong.EditTrace, row: int, forecast: budget.Budget) -> dict[str, float]:
    """How well each forecast says which facts lose, at a measurement of the real run: Spearman's correlations."""
    ranks = summary.forecasts(trace, row, budget.fact_changes(forecast, int(trace.steps[row])))
    return {f"{when}_{kind}": ranks[kind][0] for kind in FACTS}


def extrapolated(trace: lifelong.EditTrace) -> float:
    """Edits until the mean log-odds of the unrelated facts are 0, if they go on falling as over this run."""
    means = trace.log_odds.mean(axis=1)
    lost = float(means[0] - means[-1])
    return trace.edits * float(means[0]) / lost if lost > 0 else float("inf")


def factors(rows: pd.DataFrame) -> pd.DataFrame:
    """By how much each forecast is off, for the runs that forgot half: larger over smaller, 1 where it is right.

    The rival that counts mean P² says no number of edits by itself: its one constant is fitted to the runs that are not
    kept apart.
    """
    reached = rows[rows["reached"]].copy()
    reached["apart"] = [pair in APART for pair in zip(reached["model"], reached["layer"].astype(int), strict=True)]
    fitted = reached[~reached["apart"]] if (~reached["apart"]).any() else reached
    level = np.log(fitted["measured"] * fitted["mean_p2"]).mean()
    said = reached[["forecast", "fixed_pool", "first_edits"]].assign(mean_p2=np.exp(level) / reached["mean_p2"])
    for name in RIVALS:
        reached[name] = np.exp(np.abs(np.log(said[name] / reached["measured"])))
    reached["covered"] = (reached["low"] <= reached["measured"]) & (reached["measured"] <= reached["high"])
    return reached


def markdown(rows: pd.DataFrame) -> str:
    """The tables: how far off the forecasts are, and each model, layer and method."""
    judged = factors(rows)
    groups = {"kept apart": judged[judged["apart"]], "the others": judged[~judged["apart"]], "all": judged}
    heads = ["runs", "forecast by", "how many", "median factor", f"within a factor {NEAR}", "band covers it"]
    lines = [
        [label, words, len(group), *_quality(group, name)]
        for label, group in groups.items()
        for name, words in RIVALS.items()
        if len(group)
    ]
    cells = []
    for names, group in rows.groupby(["model", "layer", "method"], sort=False):
        model, layer, name = names
        cells.append([model, layer, method(str(name)).label, *_cell(group)])
    columns = ["model", "layer", "method", "measured", "forecast, 90 %", "pilots only at first", "searches"]
    ranks = [
        [model, layer, method(str(name)).label, *(_pair(group, kind) for kind in FACTS)]
        for (model, layer, name), group in rows.groupby(["model", "layer", "method"], sort=False)
    ]
    parts = {
        "How far off, of runs that forgot half": table(heads, lines),
        "Edits until half is forgotten, seed by seed": table(columns, cells),
        f"Which facts lose: Spearman correlation of forecast and measured loss of log-odds, after {FIRST_EDITS} edits "
        "/ when half is forgotten, where such a run is stored; mean over seeds": table(
            [*columns[:3], *FACTS.values()], ranks
        ),
    }
    return "\n\n".join(f"**{title}**\n\n{body}" for title, body in parts.items()) + "\n"


def _pair(group: pd.DataFrame, kind: str) -> str:
    return f"{mean(group[f'early_{kind}'])} / {mean(group[f'half_{kind}'])}"


def _quality(group: pd.DataFrame, name: str) -> Sequence[str]:
    covered = f"{group['covered'].mean():.0%}" if name == "forecast" else MISSING
    return [f"{group[name].median():.2f}", f"{(group[name] <= NEAR).mean():.0%}", covered]


def _cell(group: pd.DataFrame) -> Sequence[str]:
    """The seeds of one kind side by side."""
    measured = [f"{'' if row['reached'] else '> '}{row['measured']:.0f}" for row in group.to_dict("records")]
    forecast = [
        f"{'> ' if row['unreached'] else ''}{row['forecast']:.0f} ({row['low']:.0f}–"
        f"{number(row['high'], '.0f') if np.isfinite(row['high']) else ''})"
        for row in group.to_dict("records")
    ]
    fixed = [f"{value:.0f}" for value in group["fixed_pool"]]
    searches = f"{group['searches'].mean():.0f} ({group['share'].mean():.0%})"
    return [", ".join(measured), ", ".join(forecast), ", ".join(fixed), searches]
