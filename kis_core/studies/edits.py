"""Many edits in every layer of several models: how often they take, and which forecast of their damage is best.

`python -m kis_core study --out DIR` writes `edits.csv` (one row an edit), `quality.csv` (one row an edit and forecast),
`flips.csv` (one row a layer and forecast) and `edits.md`, the tables of all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kis_core import progress
from kis_core.analysis import pipeline
from kis_core.editing.scores import CONVENTIONS, SCORES, MeanScores, Scores
from kis_core.files import atomic
from kis_core.models.holder import LoadedModels
from kis_core.request import Request, RequestError
from kis_core.results import caveats, export
from kis_core.results.result import Result
from kis_core.simulator import EditOutcome, Forecast, Simulator
from kis_core.simulator import of as simulator_of
from kis_core.spillover import FEW_FLIPS, auc
from kis_core.store.store import Store
from kis_core.studies.tables import mean, table
from kis_core.wording import counted, number

BEFORE = "_before"  # ends the names of columns about the model as it is
LIKELY_OBJECTS = 5  # a new object is drawn from the most frequent ones of the relation


def choose(simulator: Simulator, count: int, seed: int) -> list[tuple[int, str]]:
    """Facts the model answers, at random, each with a new object of the same relation, at random.

    Raises:
        RequestError: there are not that many facts with another object in their relation.
    """
    if count < 1:
        raise RequestError(f"a study needs at least one edit a layer; {count} were asked for")
    rng = np.random.default_rng(seed)
    chosen: list[tuple[int, str]] = []
    for fact in rng.permutation(np.flatnonzero(simulator.result.known)).tolist():
        objects = simulator.known_facts.new_objects(simulator.facts[fact])[:LIKELY_OBJECTS]
        if objects and len(chosen) < count:
            chosen.append((fact, objects[int(rng.integers(len(objects)))]))
    if len(chosen) < count:
        raise RequestError(
            f"{counted(count, 'edit was', 'edits were')} asked for; {len(chosen)} of these facts can be edited"
        )
    return chosen


def studied(result: Result, layers: Sequence[int] | None) -> list[int]:
    """The layers of a model that a study is of: all, or those that were named.

    Raises:
        RequestError: the model does not have one of them.
    """
    if missing := sorted(set(layers or ()) - set(result.layers)):
        raise RequestError(
            f"{result.request.model} has layers {result.layers[0]} to {result.layers[-1]}; "
            f"{', '.join(map(str, missing))} cannot be studied"
        )
    return [layer for layer in result.layers if layers is None or layer in layers]


@dataclass(frozen=True, slots=True)
class EditStudy:
    """Many edits, each by itself.

    Attributes:
        requests: what is analysed, one a model.
        edits: how many a layer; the same in all layers, and in all models that answer the same facts.
        method: name of the method.
        seed: of the choice of edits.
        how: hyper-parameters that are not to be the model's own.
        layers: or None for all.
        device: where to run.
    """

    requests: tuple[Request, ...]
    edits: int
    method: str
    seed: int
    how: Mapping[str, Any]
    layers: tuple[int, ...] | None = None
    device: str = "auto"

    def run(self, folder: Path, store: Store, report: progress.Report = progress.silent) -> list[Path]:
        """Do the study and write its files.

        Args:
            folder: for the files.
            store: of analyses, values and gradients.
            report: called after every edit.

        Returns:
            the files written.
        """
        rows: list[dict[str, Any]] = []
        tables: list[pd.DataFrame] = []
        pooled: list[pd.DataFrame] = []
        models = LoadedModels()
        for request in self.requests:
            model = request.model
            result = pipeline.run(request, store, device=self.device, models=models, report=report)
            caveats.log_of(result)
            simulator = simulator_of(result, store, device=self.device, models=models)
            layers, chosen = studied(result, self.layers), choose(simulator, self.edits, self.seed)
            for layer in layers:
                scores: list[dict[str, np.ndarray]] = []
                flipped: list[np.ndarray] = []
                for done, (fact, target) in enumerate(chosen):
                    report(f"{model}, layer {layer}", done, len(chosen))
                    row = {"model": model, "layer": layer, "fact": fact, "target": target}
                    if not simulator.reaches(fact, layer):
                        rows.append(row | {"reaches": False})
                        continue
                    edit = simulator.request(fact, target, layer, self.method, **self.how)
                    forecast, outcome = simulator.forecast(edit, flips=True), simulator.perform(edit)
                    rows.append(row | _row(simulator, forecast, outcome))
                    tables.append(simulator.quality(forecast, outcome).assign(model=model, layer=layer, fact=fact))
                    others = np.arange(len(simulator.facts)) != fact
                    scores.append({name: score[others] for name, score in simulator.scores(forecast, outcome).items()})
                    flipped.append(outcome.flipped[others])
                if scores:
                    pooled.append(_pooled(scores, flipped).assign(model=model, layer=layer))
        by_edit = pd.DataFrame(rows)
        quality, flips = _joined(tables), _joined(pooled)
        contents = {
            "edits.csv": export.frame_csv(by_edit),
            "quality.csv": export.frame_csv(quality),
            "flips.csv": export.frame_csv(flips),
            "edits.md": markdown(by_edit, quality, flips),
        }
        return atomic.write(folder, contents)


def _row(simulator: Simulator, forecast: Forecast, outcome: EditOutcome) -> dict[str, Any]:
    others = np.arange(len(simulator.facts)) != outcome.request.fact
    expected = set(forecast.flips.by(1.0)) if forecast.flips else set()
    flipped = set(np.flatnonzero(outcome.flipped & others).tolist())
    moved = outcome.measured.shift
    return {
        "reaches": True,
        "efficacy": outcome.success.efficacy,
        "paraphrase": outcome.success.paraphrase,
        "neighbourhood": outcome.success.neighbourhood,
        "steps": len(simulator.value(outcome.request).losses) - 1,
        "flips": len(flipped),
        "flips_forecast": len(expected - {outcome.request.fact}),
        "flips_both": len(expected & flipped),
        "mean_loss": float(-outcome.measured.log_odds[others].mean()),
        "shift_error": float(np.abs(forecast.shift - moved).max() / forecast.edit.size),
        **asdict(outcome.success.scores),
        **{f"{name}{BEFORE}": score for name, score in asdict(outcome.success.scores_before).items()},
        "prompts": simulator.probes(outcome.request.fact).origin,
    }


def _joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    empty = pd.DataFrame(columns=["model", "layer", "forecast"])
    return pd.concat(tables, ignore_index=True) if tables else empty


def _pooled(scores: Sequence[Mapping[str, np.ndarray]], flipped: Sequence[np.ndarray]) -> pd.DataFrame:
    """How well each forecast tells pairs (edit, fact) that flip from those that do not, over all edits of a layer."""
    flips = np.concatenate(flipped)
    rows = []
    for name in scores[0]:
        score = np.concatenate([of_edit[name] for of_edit in scores])
        there = np.isfinite(score)
        rows.append((name, auc(score[there], flips[there]), int(flips[there].sum()), int(there.sum())))
    return pd.DataFrame(rows, columns=["forecast", "auc", "flips", "pairs"])


def markdown(edits: pd.DataFrame, quality: pd.DataFrame, flips: pd.DataFrame) -> str:
    """The tables, one row a model and layer."""
    parts = (
        ("Whether edits take, and what flips", _success(edits)),
        ("Scores as in the tables of ROME and EasyEdit, mean over edits", _scores(edits)),
        (
            "Spearman correlation of forecast and measured loss of log-odds, mean over edits",
            _means(quality, "spearman"),
        ),
        ("The same of sizes alone, |forecast| and |change|", _means(quality, "spearman_size")),
        ("Pearson correlation of forecast and measured loss of log-odds, mean over edits", _means(quality, "pearson")),
        (
            f"Flips forecast: AUC over all pairs of an edit and another fact; under {FEW_FLIPS} flips it means little",
            _flips(flips),
        ),
    )
    return "\n\n".join(f"**{title}**\n\n{table}" for title, table in parts) + "\n"


def _success(edits: pd.DataFrame) -> str:
    rows = []
    for (model, layer), group in edits.groupby(["model", "layer"], sort=False):
        made = group[group["reaches"]]
        if made.empty:
            rows.append([model, layer, 0, "cannot reach the answer", "", "", "", "", ""])
            continue
        flips = int(made["flips"].sum())
        shares = [_percent(made[name]) for name in ("efficacy", "paraphrase", "neighbourhood")]
        forecast = number(made["flips_both"].sum() / flips if flips else None, ".0%")
        rows.append([model, layer, len(made), *shares, flips, forecast, f"{made['shift_error'].max():.0e}"])
    heads = ("model", "layer", "edits", "efficacy", "paraphrase", "neighbourhood", "flips", "of them forecast")
    return table([*heads, "shift error"], rows)


def _scores(edits: pd.DataFrame) -> str:
    """A row for the model as it is, then one a layer; a number of edits in brackets where not all have the score."""
    made = edits[edits["reaches"]]
    rows = []
    origins: Counter[str] = Counter()
    for model, of_model in made.groupby("model", sort=False):
        requested = of_model.drop_duplicates(["fact", "target"])  # of all layers, where the model before is the same
        origins.update(requested["prompts"])
        before = requested[[f"{name}{BEFORE}" for name in SCORES]].set_axis(list(SCORES), axis=1)
        rows.append([model, "before", *_mean_scores(before)])
        rows += [[model, layer, *_mean_scores(group)] for layer, group in of_model.groupby("layer", sort=False)]
    prompts = "; ".join(f"{origin} ({counted(count, 'edit')})" for origin, count in origins.items())
    protocol = f"{' '.join(CONVENTIONS)} S: harmonic mean of ES, PS and NS. Prompts: {prompts or 'none'}."
    return f"{table(['model', 'layer', 'edits', *SCORES, 'S'], rows)}\n\n{protocol}"


def _mean_scores(edits: pd.DataFrame) -> list[str]:
    over = MeanScores.over(Scores(*row) for row in edits[list(SCORES)].astype(float).to_numpy().tolist())
    fewer = {name: "" if n in (0, len(edits)) else f" ({n})" for name, n in over.edits.items()}
    means = [number(mean, ".0%") + fewer[name] for name, mean in asdict(over.means).items()]
    return [str(len(edits)), *means, number(over.S, ".0%")]


def _means(quality: pd.DataFrame, measure: str) -> str:
    names = list(dict.fromkeys(quality["forecast"]))
    rows = [
        [model, layer, *(mean(group.loc[group["forecast"] == name, measure]) for name in names)]
        for (model, layer), group in quality.groupby(["model", "layer"], sort=False)
    ]
    return table(["model", "layer", *names], rows)


def _flips(flips: pd.DataFrame) -> str:
    names = list(dict.fromkeys(flips["forecast"]))
    rows = []
    for (model, layer), group in flips.groupby(["model", "layer"], sort=False):
        count = int(group["flips"].max())
        few = " (few)" if count < FEW_FLIPS else ""
        cells = [mean(group.loc[group["forecast"] == name, "auc"]) for name in names]
        rows.append([model, layer, f"{count}{few}", *cells])
    return table(["model", "layer", "flips", *names], rows)


def _percent(values: pd.Series[Any]) -> str:
    return number(float(values.dropna().astype(float).mean()), ".0%")
