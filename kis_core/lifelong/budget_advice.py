"""Several forecasts set side by side: which run is forecast to last longest, in one sentence, and all in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from kis_core.editing import method
from kis_core.lifelong.budget import LEVEL, Budget, half_life
from kis_core.lifelong.request import DRAWS, ORDERS, LifelongRequest
from kis_core.lifelong.summary import Lifetimes
from kis_core.wording import counted, number, ranges

MOST_NAMED = 2  # runs that may last as long, before they are counted instead
HALVING = (0.4, 0.6)  # shares of the best half-life that are called half of it


@dataclass(frozen=True, eq=False)
class ForecastRun:
    """A planned run with its forecast.

    Attributes:
        model: its name.
        request: the run.
        budget: its forecast.
    """

    model: str
    request: LifelongRequest
    budget: Budget


def table(runs: Sequence[ForecastRun]) -> pd.DataFrame:
    """One row a run, in the order given.

    Returns:
        columns `model`, `layers`, `method`, `draw`, `order`, `seed`, `batch`, `edits` (planned), `forecast` (edits
        until half is forgotten), `low` and `high` (the interval that one run is to lie in; `high` infinite where some
        redraws end before), `redraws`, `unreached` (of them), `searches`, `share` (of the run's searches), `seconds`.
    """
    rows = []
    for run in runs:
        request, budget, half = run.request, run.budget, half_life(run.budget)
        draw = request.draw
        planned = (run.model, ranges(request.layers), request.method, draw.by, draw.order, draw.seed, request.batch)
        lives = (budget.planned, half.middle, half.low, half.high, half.runs, half.unreached)
        rows.append((*planned, *lives, budget.searches, budget.share, budget.seconds))
    columns = ["model", "layers", "method", "draw", "order", "seed", "batch", "edits", "forecast", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "redraws", "unreached", "searches", "share", "seconds"])


def markdown(runs: Sequence[ForecastRun]) -> str:
    """The same for people, in Markdown, with the runs called by what tells them apart."""
    rows = [
        (name, run.model, life(half_life(run.budget)), f"{run.budget.searches} ({run.budget.share:.0%})")
        for name, run in zip(names(runs), runs, strict=True)
    ]
    heads = ["run", "model", f"edits until half is forgotten, {LEVEL:.0%}", "searches"]
    cells = pd.DataFrame(rows, columns=heads).map(lambda cell: cell.replace("|", "\\|"))
    return cells.to_markdown(index=False, disable_numparse=True)


def life(half: Lifetimes) -> str:
    """A forecast half-life with the interval that one run is to lie in."""
    if half.unreached == half.runs:
        return f"more than {number(half.middle, '.0f')}"
    middle, low = number(half.middle, ".0f"), number(half.low, ".0f")
    return f"more than {middle} (from {low})" if half.unreached else f"{middle} ({low}–{number(half.high, '.0f')})"


def names(runs: Sequence[ForecastRun]) -> list[str]:
    """What tells each run from the others; where nothing does, what it is."""

    def varies(values: Sequence[object]) -> bool:
        return len(set(values)) > 1

    requests, draws = [run.request for run in runs], [run.request.draw for run in runs]
    of_model, of_layers = varies([run.model for run in runs]), varies([request.layers for request in requests])
    of_method = varies([(request.method, request.how.nas) for request in requests])
    actual = []
    for run in runs:
        request, draw = run.request, run.request.draw
        label = f"{method(request.method).label}{' with NAS' if request.how.nas else ''}"
        many = "s" if len(request.layers) > 1 else ""
        parts = [f"layer{many} {ranges(request.layers)}"] if of_layers else []
        parts += [f"with {label}" if parts else label] if of_method else []
        parts += [f"on {run.model}" if parts else run.model] if of_model else []
        how = [DRAWS[draw.by]] if varies([(other.by, other.relations) for other in draws]) else []
        how += [", ".join(draw.relations)] if draw.relations and how else []
        how += [ORDERS[draw.order]] if varies([other.order for other in draws]) else []
        how += [f"seed {draw.seed}"] if varies([other.seed for other in draws]) else []
        how += [f"{request.batch} at once"] if varies([other.batch for other in requests]) and not of_method else []
        actual.append(", ".join([*([" ".join(parts)] if parts else []), *how]) or request.label)
    return actual


def advice(runs: Sequence[ForecastRun]) -> str:
    """One sentence: which of several runs is forecast to last longest, which may last as long, and what shortens it.

    A run may last as long as the best where the interval that one run of it is to lie in reaches the best half-life.
    Runs that differ in their seed alone differ by chance, and are not ranked.

    Raises:
        ValueError: there are fewer than two.
    """
    if len(runs) < 2:
        raise ValueError(f"advice needs two forecasts to choose from; found {len(runs)}")
    named, lives = names(runs), [half_life(run.budget) for run in runs]
    if all(name.startswith("seed ") for name in named):
        ends = sorted(lives, key=lambda half: half.middle)
        spread = f"{ends[0].label.removesuffix(' edits')} to {ends[-1].label}"
        return f"These differ in their seed alone, by chance: half is forecast to be forgotten after {spread}."
    whole = [half.unreached == half.runs for half in lives]  # half is not forgotten within the run
    places = sorted(range(len(runs)), key=lambda k: (whole[k], lives[k].middle), reverse=True)
    best, worst, endless = places[0], places[-1], [k for k in places if whole[k]]
    alike = [k for k in places if k not in (endless or [best]) and lives[k].high >= lives[best].middle]
    if len(endless) > 1:
        which = ", ".join(named[k] for k in endless) if len(endless) <= MOST_NAMED + 1 else counted(len(endless), "run")
        text = f"Of these, {which} are forecast not to forget half within the run"
    else:
        text = f"Of these, {named[best]} is forecast to last longest: {life(lives[best])} edits"
    if 0 < len(alike) <= MOST_NAMED:
        text += f"; {' and '.join(f'{named[k]} may last as long, {life(lives[k])}' for k in alike)}"
    elif alike:
        text += f"; {counted(len(alike), 'other')} may last as long within their intervals"
    if worst not in (*alike, *(endless or [best])):
        left = max(lives[worst].middle, 1) / max(lives[best].middle, 1)
        low, high = HALVING
        loss = "halve it" if low <= left <= high else f"cut it to {number(left, '.0%')}"
        text += f"; {named[worst]} would " + (f"last {life(lives[worst])}" if endless else loss)
    return f"{text}."
