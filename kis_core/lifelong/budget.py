"""The edit budget: the whole forgetting curve, forecast before the edits are made.

What lands on an unrelated fact is Σ p(k_ei, k_j) δ_i at every token (Hu et al., arXiv 2408.07413, eq. 11). Keys and C
give p exactly; the δ's are needed as a population only. So a few pilot edits are searched for, every planned edit gets
its own key and a δ drawn from theirs (`stand_ins`), and the model is run with the sum.

Edits of a damaged model need larger δ, so pilots are also made after 5, 10, 20, … stand-in edits, and the population is
fitted to all of them (`pilots`). They are the next edits of the queue at that point: a queue of one relation or in some
order has δ's of its own kind, and there need be no other facts. Then the run is gone through several times from the
beginning, each time with other pilots (drawn from these with replacement), other δ's, and the planned keys and order:
how far these redraws lie apart is the interval.

What is left out: that a real δ is found for its own key, on the very model that the real edits before left.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from kis_core import progress
from kis_core.editing import EditError, method
from kis_core.lifelong.pilots import Pilots, Population
from kis_core.lifelong.queue import draw_queue
from kis_core.lifelong.redraws import BY_FACT, CURVES, SPENT, redraws
from kis_core.lifelong.request import LifelongRequest
from kis_core.lifelong.stand_ins import Plan, StandIns
from kis_core.lifelong.summary import HalfLife, Lifetimes, crossing
from kis_core.store.store import Entry, key_of

if TYPE_CHECKING:
    from kis_core.simulator import Simulator

FORMAT = 1  # raise it when the meaning of a stored budget changes
KIND = "budget"  # of the keys that budgets are stored under
STAGE = "Searching for pilot edits"
SHARE = 1 / 5  # of the run's edits, at most, are pilots, but for very short runs
LEAST, MOST = 2, 6  # pilots at a checkpoint: one alone says nothing of scatter, more add little
FIRST = 5  # edits at the first checkpoint after the unedited model; then twice as many each time
LEVEL = 0.9  # of intervals: of one run, not of the mean of runs


@dataclass(frozen=True, eq=False)
class Budget:
    """A forecast: r redraws of the run, s steps, m unrelated facts.

    Attributes:
        steps: (s,) numbers of edits; the first is 0.
        planned: edits of the run; the steps end before where every redraw has forgotten nearly all (`SPENT`).
        recall: (r, s) share of the unrelated facts known at first that are still answered.
        log_odds: (r, s) of the right answers to unrelated facts, on average.
        perplexity: (r, s) on text held out.
        delta_norm: (r, s) mean ‖δ‖ of the stand-ins since the step before; NaN at the first.
        carried: (r, s) x: what the edits add to the layer's output, see `StandIns.carried`.
        fact_change, fact_spread: (s, m) change of each unrelated fact's log-odds: mean and standard deviation over the
            redraws that are numbers.
        pilots: the values searched for.
        searches: edits that values were searched for.
        seconds: it took, in all.
    """

    planned: int
    steps: np.ndarray
    recall: np.ndarray
    log_odds: np.ndarray
    perplexity: np.ndarray
    delta_norm: np.ndarray
    carried: np.ndarray
    fact_change: np.ndarray
    fact_spread: np.ndarray
    pilots: Pilots
    searches: int
    seconds: float

    @property
    def share(self) -> float:
        """Searches, of those that the run takes."""
        return self.searches / self.planned


def checkpoints(edits: int) -> list[tuple[int, int]]:
    """Where pilots are made: (stand-in edits before, pilots), for so many planned edits.

    As many as `SHARE` allows; where that is too few for all checkpoints, the later ones are left out.
    """
    places = [0]
    while (after := max(FIRST, 2 * places[-1])) < edits:
        places.append(after)
    allowed = max(2 * LEAST, int(edits * SHARE))
    places = places[: allowed // LEAST]
    each = min(MOST, allowed // len(places))
    return [(place, min(each, edits - place)) for place in places]


def key(simulator: Simulator, request: LifelongRequest, without: str = "") -> str:
    """Name of a forecast in the store.

    Args:
        simulator: model, facts and C.
        request: the run.
        without: what was taken away from it, see `why.WITHOUT`.
    """
    determined_by = {"of": simulator.result.identity, "format": FORMAT, "request": request.to_json(simulator.scale)}
    determined_by |= {"without": without} if without else {}
    return key_of(KIND, determined_by | {"drawn_from": simulator.known_facts.fingerprint})


def known(simulator: Simulator, request: LifelongRequest, without: str = "") -> Budget | None:
    """The forecast if it is stored whole, or None; needs no model. `without` is that of `key`."""
    entry = simulator.store.get(key(simulator, request, without), d=simulator.scale.width)
    return _from_entry(entry) if entry and _is_whole(entry) else None


def _is_whole(entry: Entry) -> bool:
    """Whether nothing of it is to be done; redraws that were stored without their facts are made anew."""
    return bool(entry.meta["whole"]) and set(BY_FACT) <= set(entry.arrays)


def refusal(method_name: str) -> str | None:
    """Why runs of a method are not forecast, or None."""
    named = method(method_name)
    if named.searches:
        return None
    return (
        f"The edit budget is not forecast for {named.label}: it searches for no value and its edits have no key of "
        f"their own, so nothing stands in for them but themselves. Make the run."
    )


def forecast(simulator: Simulator, request: LifelongRequest, *, report: progress.Report = progress.silent) -> Budget:
    """The forgetting curve of a planned run; what is stored of it is not done again.

    Args:
        simulator: model, facts and C.
        request: the run.
        report: called after every step of a search, and after every stand-in edit.

    Raises:
        EditError: the method searches for no values, or no pilot edit could be made.
        RequestError: there are not that many edits.
        Cancelled: `report` called it off; pilots that were searched for are kept.
    """
    if why := refusal(request.method):
        raise EditError(why)
    name = key(simulator, request)
    with simulator.store.alone(name, report):
        entry = simulator.store.get(name, d=simulator.scale.width)
        so_far = _from_entry(entry) if entry else None
        if so_far and entry and _is_whole(entry):
            return so_far
        report("Loading the model", 0, 1)
        _ = simulator.model
        report("Loading the model", 1, 1)
        queue = draw_queue(simulator, request.draw, request.edits, request.layers[0], report)
        forecasting = _Forecasting(Plan(simulator, request, queue, report), report, so_far)
        return forecasting.go(searched=bool(entry and entry.meta["whole"]))


class _Forecasting:
    """A forecast while it is made."""

    def __init__(self, plan: Plan, report: progress.Report, so_far: Budget | None) -> None:
        self.plan, self.report = plan, report
        self.pilots = so_far.pilots if so_far else Pilots.none(plan.simulator.scale.width)
        self.searches = so_far.searches if so_far else 0
        self.before = so_far.seconds if so_far else 0.0
        self.began = time.monotonic()

    def go(self, *, searched: bool) -> Budget:
        if not searched:
            self._pilots()
        steps, curves = redraws(self.plan, self.pilots, report=self.report)
        planned = self.plan.request.edits
        budget = Budget(planned, steps, **curves, pilots=self.pilots, searches=self.searches, seconds=self._seconds())
        self._store(budget, whole=True)
        return budget

    def _pilots(self) -> None:
        """Search for pilots at every checkpoint that is not stored, on one way through the queue."""
        scout, rng = StandIns(self.plan), np.random.default_rng([self.plan.request.draw.seed, 0])
        planned, batch = checkpoints(self.plan.request.edits), self.plan.request.batch
        total = sum(count for _, count in planned)
        for place, count in planned:
            at = -(-place // batch) * batch
            if 0 < self.plan.request.edits <= at:
                break
            if at:
                population = Population.of(self.pilots)
                scout.make(at, partial(population.draw, rng=rng))
                if scout.health().recall <= SPENT:
                    break
            if not (self.pilots.at == at).any():
                self._search(scout, count, total)
        if not len(self.pilots):
            raise EditError("No pilot edit could be made at these layers, so nothing is forecast; choose other layers.")

    def _search(self, scout: StandIns, count: int, total: int) -> None:
        layers, deltas = [], []
        for edit in self.plan.queue.edits[scout.done : scout.done + count]:
            for layer, delta in scout.searched(edit, lambda *_: self.report(STAGE, self.searches, total)):
                layers.append(layer)
                deltas.append(delta)
            self.searches += 1
        self.report(STAGE, self.searches, total)
        self.pilots = self.pilots.and_also(deltas, layers, scout.done, scout.carried)
        nothing: dict[str, Any] = {name: np.zeros((0, 1)) for name in CURVES}
        nothing |= {name: np.zeros((1, 0)) for name in BY_FACT}
        about: dict[str, Any] = {"pilots": self.pilots, "searches": self.searches, "seconds": 0.0}
        begun = Budget(self.plan.request.edits, np.zeros(1, dtype=np.int64), **nothing, **about)
        self._store(begun, whole=False)

    def _seconds(self) -> float:
        return self.before + time.monotonic() - self.began

    def _store(self, budget: Budget, *, whole: bool) -> None:
        keep(self.plan, replace(budget, seconds=self._seconds()), whole=whole)


def keep(plan: Plan, budget: Budget, without: str = "", *, whole: bool = True) -> None:
    """Store a forecast, or what there is of it; `without` is that of `key`."""
    request, result = plan.request, plan.simulator.result
    label = f"{request.label}{f', without: {without}' if without else ''}"
    about = {"name": f"forecast of {request.edits} edits, {label}", "model": result.request.model}
    about |= {part: str(result.provenance[part]) for part in ("facts", "corpus")}
    meta = {name: getattr(budget, name) for name in ("planned", "searches", "seconds")}
    arrays = {name: getattr(budget, name) for name in ("steps", *CURVES, *BY_FACT)}
    arrays |= {f"pilots.{f.name}": getattr(budget.pilots, f.name) for f in fields(Pilots)}
    name = key(plan.simulator, request, without)
    plan.simulator.store.put(name, meta | {"whole": whole, "about": about}, arrays)


def _from_entry(entry: Entry) -> Budget:
    pilots = Pilots(**{f.name: entry.arrays[f"pilots.{f.name}"] for f in fields(Pilots)})
    curves: dict[str, Any] = {name: entry.arrays[name] for name in ("steps", *CURVES)}
    curves |= {name: entry.arrays.get(name, np.zeros((1, 0))) for name in BY_FACT}
    about: dict[str, Any] = {name: entry.meta[name] for name in ("planned", "searches", "seconds")}
    return Budget(**curves, **about, pilots=pilots)


def fact_changes(budget: Budget, edits: int) -> np.ndarray:
    """Forecast change of each unrelated fact's log-odds after so many edits, (m,); after its last step, that of it."""
    return np.array([np.interp(edits, budget.steps, changes) for changes in budget.fact_change.T])


def half_lives(budget: Budget) -> list[HalfLife]:
    """Edits until half is forgotten, of each redraw."""
    return [crossing(budget.steps, recall) for recall in budget.recall]


def half_life(budget: Budget) -> Lifetimes:
    """Edits until half is forgotten: geometric mean of the redraws, and the interval that one run is to lie in.

    Where some redraws end before half is forgotten, a lower bound, as for runs; then without an upper end.
    """
    lives = half_lives(budget)
    unreached = sum(not life.reached for life in lives)
    logs = np.log([max(life.edits, 1.0) for life in lives])
    low, high = _interval(logs[None].T)
    upper = float("inf") if unreached else float(np.exp(high[0]))
    return Lifetimes(float(np.exp(logs.mean())), float(np.exp(low[0])), upper, len(lives), unreached)


def curve(budget: Budget) -> pd.DataFrame:
    """One row a step: the forecast as a table.

    Returns:
        columns `edits`, `recall` (mean of the redraws), `recall_low` and `recall_high` (the interval that one run is to
        lie in), `log_odds` (mean), `perplexity` (geometric mean), `delta_norm` (mean ‖δ‖ since the step before).
    """
    low, high = _interval(budget.recall)
    with np.errstate(divide="ignore", invalid="ignore"):
        perplexity = np.exp(np.log(budget.perplexity).mean(axis=0))
    return pd.DataFrame(
        {
            "edits": budget.steps,
            "recall": budget.recall.mean(axis=0),
            "recall_low": low.clip(0, 1),
            "recall_high": high.clip(0, 1),
            "log_odds": budget.log_odds.mean(axis=0),
            "perplexity": perplexity,
            "delta_norm": budget.delta_norm.mean(axis=0),
        }
    )


def _interval(redraws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where one more draw of each column lies with probability `LEVEL` (Student's t); redraws are (r, s)."""
    count = len(redraws)
    reach = stats.t.ppf((1 + LEVEL) / 2, count - 1) * redraws.std(axis=0, ddof=1) * np.sqrt(1 + 1 / count)
    middle = redraws.mean(axis=0)
    return middle - reach, middle + reach
