"""Does the theory foretell forgetting? Many runs: models, layers, methods, orders and seeds.

`python -m kis_core forgetting --out DIR` writes `forgetting.csv` (one row a run), `forgetting.md` (the tables) and
`forgetting.png` (the figure).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kis_core import charts, lifelong, progress, simulator
from kis_core.analysis import pipeline
from kis_core.editing import METHODS, method
from kis_core.files import atomic
from kis_core.lifelong import summary
from kis_core.lifelong.request import Draw
from kis_core.models.holder import LoadedModels
from kis_core.request import Request, RequestError
from kis_core.results import caveats, export
from kis_core.simulator import Simulator
from kis_core.spillover import correlations
from kis_core.store.store import Store

EARLY = 10  # edits after which forecasts are judged for the first time, while little is forgotten
KINDS = ("shift", "subject", "all", "renewed")  # of forecasts
COLUMNS = (
    "model", "family", "width", "layer", "method", "draw", "order", "seed", "edits", "half_life", "reached", "efficacy",
    "retention", "drift", "shift_error", "early_shift", "early_subject", "early_all",
    "early_renewed", "half_shift", "half_subject", "half_all", "half_renewed",
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


def run(
    models: Sequence[str],
    folder: Path,
    *,
    facts: str,
    edits: int,
    every: int,
    seeds: int,
    methods: Sequence[str],
    layers: Sequence[int] | None,
    device: str,
    store: Store,
    report: progress.Report = progress.silent,
) -> list[Path]:
    """Do the study and write its files; runs that are stored are not done again.

    Args:
        models: by name.
        folder: for the files.
        facts: fact set.
        edits: at most, in one run; it ends when half is forgotten.
        every: edits between two measurements.
        seeds: how many runs of a kind.
        methods: by name.
        layers: or None for all but the last.
        device: where to run.
        store: of analyses and runs.
        report: called after every measurement.

    Returns:
        the files written.
    """
    rows = list(_rows(models, facts, edits, every, seeds, methods, layers, device, store, report))
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    return [*atomic.write(folder, {"forgetting.csv": export.frame_csv(found)}), *write(found, folder)]


def write(found: pd.DataFrame, folder: Path) -> list[Path]:
    """Tables and figure of a study's rows."""
    lives = lifetimes(found[(found["draw"] == "random") & (found["layer"] == found["layer"].min())])
    figure = charts.lifetimes(lives.assign(name=[method(str(name)).told for name in lives["method"]]))
    lines = ["Edits until half of the unrelated facts are forgotten, by model and method; bars: 95 % over seeds."]
    picture = charts.to_png(figure, "How long a model remembers", lines)
    return atomic.write(folder, {"forgetting.md": markdown(found), "forgetting.png": picture})


def _rows(
    models: Sequence[str], facts: str, edits: int, every: int, seeds: int, methods: Sequence[str],
    layers: Sequence[int] | None, device: str, store: Store, report: progress.Report,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    models_in_memory = LoadedModels()
    for model in models:
        result = pipeline.run(Request(model, facts), store, device=device, models=models_in_memory, report=report)
        caveats.log_of(result)
        bench = simulator.of(result, store, device=device, models=models_in_memory)
        there = result.editable_layers
        wanted = list(cases([layer for layer in there if layers is None or layer in layers], methods, seeds))
        if not wanted:
            raise RequestError(f"nothing to study of {model}: it has layers 0 to {there[-1] if there else 0} to edit, "
                               f"and at least one seed and one method are needed")  # fmt: skip
        for done, case in enumerate(wanted):
            report(f"{model}, layer {case.layer}, {case.method}, {case.draw.told}", done, len(wanted))
            yield _row(bench, case, edits, every)


def _row(bench: Simulator, case: Case, edits: int, every: int) -> dict[str, Any]:
    request = lifelong.ask(bench, case.layer, case.method, edits, case.draw, every=every)
    film = lifelong.run(bench, request, until=lambda film: summary.half_life(film).reached and film.edits >= EARLY)
    half = summary.half_life(film)
    end = len(film.steps) - 1
    if half.reached:  # a longer run may be stored; what came after half was forgotten is not looked at
        end = int(np.flatnonzero(summary.recall(film) <= summary.HALF)[0])
        film = film.until(int(film.steps[max(end, int(np.searchsorted(film.steps, EARLY)))]))
    early = film.at(EARLY)
    source = bench.result.provenance
    row: dict[str, Any] = {
        "model": bench.result.request.model,
        "family": source["family"],
        "width": source["width"],
        "layer": case.layer,
        "method": case.method,
        "draw": case.draw.by,
        "order": case.draw.order,
        "seed": case.draw.seed,
        "edits": film.edits,
        "half_life": half.edits,
        "reached": half.reached,
        "efficacy": float(film.took[: film.steps[end]].mean()),
        "retention": float(summary.retention(film)[end]),
        "drift": float(film.drift[end, 0]),
        "shift_error": float(np.nanmax([0.0, *summary.exactness(film)])),
    }
    for name, at in (("early", early), ("half", max(end, 1))):
        row |= {f"{name}_{kind}": rank for kind, (rank, _) in summary.forecasts(film, at).items()}
    return row


def lifetimes(found: pd.DataFrame) -> pd.DataFrame:
    """Half-lives over seeds, one row a model, layer, method, draw and order; the fields of `verdict.Lifetimes`."""
    rows = []
    kinds = ["model", "family", "width", "layer", "method", "draw", "order"]
    for names, group in found.groupby(kinds, sort=False):
        one = summary.over_seeds([
            summary.HalfLife(float(e), bool(r)) for e, r in zip(group["half_life"], group["reached"], strict=True)
        ])  # fmt: skip
        rows.append((*names, one.middle, one.low, one.high, one.runs, one.unreached))
    return pd.DataFrame(rows, columns=[*kinds, "middle", "low", "high", "runs", "unreached"])


def markdown(found: pd.DataFrame) -> str:
    """The tables of a study."""
    random = found[(found["draw"] == "random") & (found["order"] == "drawn")]
    names = [one.name for one in METHODS if (random["method"] == one.name).any()]
    parts = [
        (
            "Edits until half of the unrelated facts are forgotten (geometric mean over seeds, 95 % interval; > where "
            "a run ended before)",
            _table(["model", "layer", *(method(n).told for n in names)], _lives(lifetimes(random), "method", names)),
        ),
        (
            "Share of the edits that took, right after each was made",
            _table(["model", "layer", *(method(n).told for n in names)], _means(random, names, "efficacy", "{:.0%}")),
        ),
        (
            "Which edits come first: ROME, edits until half is forgotten",
            _table(
                ["model", "layer", "most superposed first", "at random", "least superposed first"],
                _lives(
                    lifetimes(found[(found["method"] == "rome") & (found["order"] == "drawn")]),
                    "draw",
                    ["most", "random", "least"],
                ),
            ),
        ),
        (
            f"Which facts lose: Spearman correlation of forecast and measured loss of log-odds, ROME, after {EARLY} "
            f"edits / when half is forgotten; mean over seeds",
            _table(
                [
                    "model",
                    "layer",
                    "‖Σ p δ‖ (eq. 11)",
                    "first order, subject token",
                    "first order, all tokens",
                    "the same, gradients renewed",
                ],
                [
                    [*names_, *(_pair(group, kind) for kind in KINDS)]
                    for names_, group in random[random["method"] == "rome"].groupby(["model", "layer"], sort=False)
                ],
            ),
        ),
        (
            "The same over all methods, when half is forgotten",
            _table(
                [
                    "method",
                    "‖Σ p δ‖ (eq. 11)",
                    "first order, subject token",
                    "first order, all tokens",
                    "the same, gradients renewed",
                    "runs",
                ],
                [
                    [
                        method(str(name)).told,
                        *(_number(group[f"half_{k}"]) for k in KINDS),
                        len(group),
                    ]
                    for name, group in random.groupby("method", sort=False)
                ],
            ),
        ),
    ]
    worst = found["shift_error"].max()
    lines = [
        f"{len(found)} runs. Δo and Δe at the layer, forecast against measured: largest relative error {worst:.0e}.",
        *(f"**{title}**\n\n{table}" for title, table in parts),
    ]
    return "\n\n".join(lines) + "\n"


def committed() -> pd.DataFrame:
    """The rows of the study that comes with the project: the demo family, as `forgetting.csv` has them."""
    source = resources.files(__package__).joinpath("forgetting.csv")
    return pd.read_csv(io.StringIO(source.read_text("utf-8")))


def findings(found: pd.DataFrame) -> list[str]:
    """What a study says of the theory, where it holds and where it falls short, in sentences with its own numbers."""
    random = found[found["draw"] == "random"]
    rome = random[random["method"] == "rome"]
    worst = found["shift_error"].max()
    full = rome.dropna(subset=["half_renewed"])
    told = full if len(full) else rome  # forecasts are set against each other over the same runs
    lines = [
        f"**At the layer it is exact**: Σ p·δ and the measured change differ by at most {worst:.0e}, relative, over "
        f"{len(found)} runs of up to {int(found['edits'].max())} edits.",
        f"**Which facts lose** (ROME, {len(told)} runs, Spearman with the measured loss, after {EARLY} edits / when "
        "half "
        f"is forgotten or the run ends): the size of Σ p·δ alone {_pair(told, 'shift')}; first order at the subject’s "
        f"token {_pair(told, 'subject')}; over all tokens {_pair(told, 'all')}; with gradients renewed as the run goes "
        f"{_pair(told, 'renewed')}. What lands on a fact is known; what that does to its answer is not, and less so "
        "the "
        f"further the model has gone.",
    ]
    orders = _orders(found)
    if orders:
        fewer, pairs = orders
        lines.append(
            f"**Which edits are dangerous**: with the most superposed facts edited first, half was forgotten sooner "
            "than "
            f"with the least superposed first in {fewer} of {pairs} pairs of runs."
        )
    short = rome[rome["reached"]]
    if len(short) > 2 and short["width"].nunique() > 1:
        rank, _ = correlations(short["width"].to_numpy(float), short["half_life"].to_numpy(float))
        lines.append(
            f"**Size**: wider models remember longer (ROME, Spearman of width and half-life {rank:.2f} over the runs "
            "that "
            f"forgot half)."
        )
    return lines


def _orders(found: pd.DataFrame) -> tuple[int, int] | None:
    """In how many pairs of runs, alike but for the draw, the most superposed first forgot sooner; and of how many."""
    rome = found[(found["method"] == "rome") & found["draw"].isin(["most", "least"])]
    lives = rome.pivot_table(index=["model", "layer", "seed"], columns="draw", values="half_life")
    reached = rome.pivot_table(index=["model", "layer", "seed"], columns="draw", values="reached", aggfunc="max")
    if not {"most", "least"} <= set(lives.columns):
        return None
    told = lives.dropna()[reached.reindex(lives.dropna().index).any(axis=1)]  # where neither forgot, nothing is told
    return (int((told["most"] < told["least"]).sum()), len(told)) if len(told) else None


def _lives(lives: pd.DataFrame, column: str, names: Iterable[str]) -> list[list[Any]]:
    rows = []
    for (model, layer), group in lives.groupby(["model", "layer"], sort=False):
        of = {row[column]: {str(name): value for name, value in row.items()} for row in group.to_dict("records")}
        rows.append([model, layer, *(_life(of[name]) if name in of else "–" for name in names)])
    return rows


def _life(row: dict[str, Any]) -> str:
    if row["unreached"]:
        return f"> {row['middle']:.0f}"
    interval = f" ({row['low']:.0f}–{row['high']:.0f})" if row["runs"] > 1 else ""
    return f"{row['middle']:.0f}{interval}"


def _means(found: pd.DataFrame, names: Sequence[str], column: str, style: str) -> list[list[Any]]:
    rows = []
    for (model, layer), group in found.groupby(["model", "layer"], sort=False):
        means = group.groupby("method")[column].mean()
        rows.append([model, layer, *(style.format(means[name]) if name in means else "–" for name in names)])
    return rows


def _pair(group: pd.DataFrame, kind: str) -> str:
    return f"{_number(group[f'early_{kind}'])} / {_number(group[f'half_{kind}'])}"


def _number(values: pd.Series[Any]) -> str:
    known = values.dropna()
    return f"{known.mean():.2f}" if len(known) else "–"


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
