"""What a study of forgetting shows: its tables, its findings in sentences, and the rows that come with the project."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from importlib import resources
from typing import Any

import pandas as pd

from kis_core.editing import METHODS, method
from kis_core.lifelong.summary import HalfLife, over_seeds
from kis_core.spillover import correlations
from kis_core.studies.tables import mean, table

EARLY = 10  # edits after which forecasts are judged for the first time, while little is forgotten
FORECASTS = {
    "shift": "‖Σ p δ‖ (eq. 11)",
    "subject": "first order, subject token",
    "all": "first order, all tokens",
    "renewed": "the same, gradients renewed",
}
"""The forecasts of which facts lose, by their names in the columns of a study, with their labels."""


def committed() -> pd.DataFrame:
    """The rows of the study that comes with the project: the demo family, as `forgetting.csv` has them."""
    source = resources.files(__package__).joinpath("forgetting.csv")
    return pd.read_csv(io.StringIO(source.read_text("utf-8")), dtype={"commit": str})


def lifetimes(runs: pd.DataFrame) -> pd.DataFrame:
    """Half-lives over seeds, one row a model, layer, method, draw and order; the fields of `summary.Lifetimes`."""
    rows = []
    kinds = ["model", "family", "width", "layer", "method", "draw", "order"]
    for names, group in runs.groupby(kinds, sort=False):
        ends = zip(group["half_life"], group["reached"], strict=True)
        rows.append((*names, *astuple(over_seeds([HalfLife(float(edits), bool(reached)) for edits, reached in ends]))))
    return pd.DataFrame(rows, columns=[*kinds, "middle", "low", "high", "runs", "unreached"])


def markdown(runs: pd.DataFrame) -> str:
    """The tables of a study."""
    random = runs[(runs["draw"] == "random") & (runs["order"] == "drawn")]
    rome = runs[(runs["method"] == "rome") & (runs["order"] == "drawn")]
    methods = [known for known in METHODS if (random["method"] == known.name).any()]
    names, labels = [known.name for known in methods], [known.label for known in methods]
    by_size = random[random["method"] == "rome"].groupby(["model", "layer"], sort=False)
    parts = {
        "Edits until half of the unrelated facts are forgotten (geometric mean over seeds, 95 % interval; > where a "
        "run ended before)": table(["model", "layer", *labels], _lives(lifetimes(random), "method", names)),
        "Share of the edits that took, right after each was made": table(
            ["model", "layer", *labels], _means(random, names, "efficacy", "{:.0%}")
        ),
        "Which edits come first: ROME, edits until half is forgotten": table(
            ["model", "layer", "most superposed first", "at random", "least superposed first"],
            _lives(lifetimes(rome), "draw", ["most", "random", "least"]),
        ),
        "Which facts lose: Spearman correlation of forecast and measured loss of log-odds, ROME, after "
        f"{EARLY} edits / when half is forgotten; mean over seeds": table(
            ["model", "layer", *FORECASTS.values()],
            [[*names_, *(_pair(group, kind) for kind in FORECASTS)] for names_, group in by_size],
        ),
        "The same over all methods, when half is forgotten": table(
            ["method", *FORECASTS.values(), "runs"],
            [
                [method(str(name)).label, *(mean(group[f"half_{kind}"]) for kind in FORECASTS), len(group)]
                for name, group in random.groupby("method", sort=False)
            ],
        ),
    }
    worst = runs["shift_error"].max()
    lines = [
        f"{len(runs)} runs. Δo and Δe at the layer, forecast against measured: largest relative error {worst:.0e}.",
        *(f"**{title}**\n\n{rows}" for title, rows in parts.items()),
    ]
    return "\n\n".join(lines) + "\n"


def findings(runs: pd.DataFrame) -> list[str]:
    """What a study says of the theory, where it holds and where it falls short, in sentences with its own numbers."""
    random = runs[runs["draw"] == "random"]
    rome = random[random["method"] == "rome"]
    worst = runs["shift_error"].max()
    full = rome.dropna(subset=["half_renewed"])
    compared = full if len(full) else rome  # forecasts are set against each other over the same runs
    rank = {kind: _pair(compared, kind) for kind in FORECASTS}
    lines = [
        f"**At the layer it is exact**: Σ p·δ and the measured change differ by at most {worst:.0e}, relative, over "
        f"{len(runs)} runs of up to {int(runs['edits'].max())} edits.",
        f"**Which facts lose** (ROME, {len(compared)} runs, Spearman with the measured loss, after {EARLY} edits / "
        f"when half is forgotten or the run ends): the size of Σ p·δ alone {rank['shift']}; first order at the "
        f"subject’s token {rank['subject']}; over all tokens {rank['all']}; with gradients renewed as the run goes "
        f"{rank['renewed']}. What lands on a fact is known; what that does to its answer is not, and less so the "
        f"further the model has gone.",
    ]
    orders = _orders(runs)
    if orders:
        fewer, pairs = orders
        lines.append(
            f"**Which edits are dangerous**: with the most superposed facts edited first, half was forgotten sooner "
            f"than with the least superposed first in {fewer} of {pairs} pairs of runs."
        )
    short = rome[rome["reached"]]
    if len(short) > 2 and short["width"].nunique() > 1:
        of_width, _ = correlations(short["width"].to_numpy(float), short["half_life"].to_numpy(float))
        lines.append(
            f"**Size**: wider models remember longer (ROME, Spearman of width and half-life {of_width:.2f} over the "
            f"runs that forgot half)."
        )
    return lines


def _orders(runs: pd.DataFrame) -> tuple[int, int] | None:
    """In how many pairs of runs, alike but for the draw, the most superposed first forgot sooner; and of how many."""
    rome = runs[(runs["method"] == "rome") & runs["draw"].isin(["most", "least"])]
    lives = rome.pivot_table(index=["model", "layer", "seed"], columns="draw", values="half_life")
    reached = rome.pivot_table(index=["model", "layer", "seed"], columns="draw", values="reached", aggfunc="max")
    if not {"most", "least"} <= set(lives.columns):
        return None
    pairs = lives.dropna()
    pairs = pairs[reached.reindex(pairs.index).any(axis=1)]  # where neither forgot, neither was sooner
    return (int((pairs["most"] < pairs["least"]).sum()), len(pairs)) if len(pairs) else None


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


def _means(runs: pd.DataFrame, names: Sequence[str], column: str, style: str) -> list[list[Any]]:
    rows = []
    for (model, layer), group in runs.groupby(["model", "layer"], sort=False):
        means = group.groupby("method")[column].mean()
        rows.append([model, layer, *(style.format(means[name]) if name in means else "–" for name in names)])
    return rows


def _pair(group: pd.DataFrame, kind: str) -> str:
    return f"{mean(group[f'early_{kind}'])} / {mean(group[f'half_{kind}'])}"
