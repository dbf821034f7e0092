"""Which facts are edited, to what, and in which order; and how much interference is forecast for them.

Forecasts here need keys and C alone, before any value is searched for: they take every δ for equally large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kis_core import progress
from kis_core.editing import RequestedEdit
from kis_core.facts import Fact
from kis_core.facts.known import KnownFacts
from kis_core.files.field_text import fault, tidy
from kis_core.lifelong.request import Draw
from kis_core.request import RequestError
from kis_core.store.store import Entry, key_of
from kis_core.superposition.matrix import superposition
from kis_core.wording import counted

if TYPE_CHECKING:
    from kis_core.simulator import Simulator

FORMAT = 1  # raise it when the meaning of a stored pool changes
LIKELY_OBJECTS = 5  # a new object is drawn from the most frequent ones of the relation
STAGE = "Choosing the edits"


@dataclass(frozen=True, eq=False)
class Pool:
    """The facts that edits are drawn from.

    Attributes:
        facts: n of them.
        known: (n,) booleans: the model answers them.
        leverage: (L, n), k_eᵀC⁻¹k_e by layer of the analysis.
        leak: (L, n), √ mean_j P[e, j]² over the facts looked at, the fact itself left out: forecast interference of an
            edit of the fact on them.
        apart: none of them is among the facts looked at.
    """

    facts: tuple[Fact, ...]
    known: np.ndarray
    leverage: np.ndarray
    leak: np.ndarray
    apart: bool


@dataclass(frozen=True, eq=False)
class Queue:
    """Edits in order.

    Attributes:
        edits: in their order.
        leverage: (L, n) of their facts.
        leak: (L, n) of their facts.
        unrelated: facts of the set that are not edited, by number.
    """

    edits: tuple[RequestedEdit, ...]
    leverage: np.ndarray
    leak: np.ndarray
    unrelated: tuple[int, ...]

    def begins_like(self, rows: Sequence[Sequence[str]]) -> bool:
        """Whether edits, given as by `rows`, are this queue's first."""
        return [list(row) for row in rows] == self.rows()[: len(rows)]

    def rows(self) -> list[list[str]]:
        """Subject, prompt, object, relation and new object of each edit."""
        return [
            [edit.fact.subject, edit.fact.prompt, edit.fact.target, edit.fact.relation, edit.target]
            for edit in self.edits
        ]


def pool(simulator: Simulator, report: progress.Report = progress.silent) -> Pool:
    """The facts that edits of a model are drawn from, from the store or worked out now."""
    facts, apart, key = simulator.known_facts.pool, simulator.known_facts.apart, pool_key(simulator)
    entry = simulator.store.get_or_compute(
        key, lambda: _worked_out(simulator, facts, apart, report), report, n=len(facts), L=len(simulator.result.layers)
    )
    arrays = entry.arrays
    return Pool(facts, arrays["known"].astype(bool), arrays["leverage"], arrays["leak"], apart)


def pool_key(simulator: Simulator) -> str:
    """Name in the store of what was worked out of the facts that edits are drawn from."""
    drawn_from = simulator.known_facts.fingerprint
    return key_of("edit-pool", {"of": simulator.result.identity, "format": FORMAT, "drawn_from": drawn_from})


def _worked_out(simulator: Simulator, facts: tuple[Fact, ...], apart: bool, report: progress.Report) -> Entry:
    from kis_core.keys import fact_keys, tokenize_prompts
    from kis_core.scoring.answers import knows

    report(STAGE, 0, 2)
    model = simulator.model
    if apart:
        keys = fact_keys(model, tokenize_prompts(model.tokenizer, facts, context=model.context))
        keys = keys[list(simulator.result.layers)]
        report(STAGE, 1, 2)
        known = np.array(knows(model, facts))
    else:
        keys = np.stack([simulator.sensitivity(layer, report).subject_keys for layer in simulator.result.layers])
        known = np.array(simulator.result.known)
    per_layer = []
    for at, layer in enumerate(simulator.result.layers):
        whitener = simulator.whitener(layer, report)
        own = whitener.whiten(keys[at])
        looked_at = own if not apart else whitener.whiten(simulator.sensitivity(layer, report).subject_keys)
        per_layer.append(_leverage_and_leak(own, looked_at, apart=apart))
    report(STAGE, 2, 2)
    leverage, leak = map(np.stack, zip(*per_layer, strict=True))
    return Entry({"facts": len(facts)}, {"known": known.astype(np.uint8), "leverage": leverage, "leak": leak})


def _leverage_and_leak(own: np.ndarray, looked_at: np.ndarray, *, apart: bool) -> tuple[np.ndarray, np.ndarray]:
    """Of a layer, see `Pool`: from the whitened keys to draw from, (n, d_m), and those looked at, (m, d_m)."""
    squares = (own**2).sum(axis=1)
    p = superposition(own, looked_at, squares=squares)
    if not apart:
        np.fill_diagonal(p, np.nan)
    return squares, _root_mean_square(p)


def _root_mean_square(p: np.ndarray) -> np.ndarray:
    counted = np.isfinite(p).sum(axis=1)
    total = np.nansum(np.where(np.isfinite(p), p, 0.0) ** 2, axis=1)
    return np.asarray(np.sqrt(np.divide(total, counted, out=np.full(len(p), np.nan), where=counted > 0)))


def most(source: Pool, simulator: Simulator) -> int:
    """How many edits there can be: of facts looked at, half, so that the other half shows the damage."""
    known = int(source.known.sum())
    return known if source.apart else min(known, len(simulator.facts) // 2)


def draw_queue(
    simulator: Simulator, draw: Draw, edits: int, layer: int, report: progress.Report = progress.silent
) -> Queue:
    """The edits of a draw, in their order; the first of more edits are the same as fewer, unless they are reordered.

    Args:
        simulator: model, facts and C.
        draw: which.
        edits: how many.
        layer: by whose keys they are ordered.
        report: called while the pool is worked out.

    Raises:
        RequestError: there are not that many facts with another object in their relation.
    """
    at = simulator.result.at(layer)
    if draw.by == "hand":
        source, requested, rows = _by_hand(simulator, draw, report)
        requested, rows = requested[:edits], rows[:edits]
    else:
        source = pool(simulator, report)
        if not source.apart and edits > most(source, simulator):
            raise RequestError(
                f"at most half of the {len(simulator.facts)} facts can be edited here, and only those the model "
                f"answers: the others show the damage; {counted(edits, 'edit was', 'edits were')} asked for"
            )
        requested, rows = _drawn(source, draw, edits, at, simulator.known_facts)
    if draw.order != "drawn":
        order = gentle_order(source.leverage[at, rows])
        order = order if draw.order == "gentle" else order[::-1]
        requested, rows = [requested[k] for k in order], [rows[k] for k in order]
    edited = {edit.fact for edit in requested}
    unrelated = tuple(j for j, fact in enumerate(simulator.facts) if fact not in edited)
    return Queue(tuple(requested), source.leverage[:, rows], source.leak[:, rows], unrelated)


def gentle_order(leverage: np.ndarray) -> np.ndarray:
    """The order of edits with the least interference among them, forecast from keys alone: by rising k_eᵀC⁻¹k_e.

    An edit of j after one of i moves what i wrote by P[j, i] δ_j (eq. 15), and P[j, i]² = (k_iᵀC⁻¹k_j)² / (k_jᵀC⁻¹k_j)²
    is smaller than P[i, j]² when j has the larger k_jᵀC⁻¹k_j. That decides every pair alike, so sorting makes
    Σ_{i before j} P[j, i]² the least there is (for δ of one size).

    Args:
        leverage: (n,), k_eᵀC⁻¹k_e.

    Returns:
        the edits' numbers in that order.
    """
    return np.argsort(leverage, kind="stable")


def interference(whitened: np.ndarray) -> float:
    """√ of the mean of P[j, i]² over all pairs, i edited before j: what later edits do to earlier ones, on average.

    Args:
        whitened: (n, d_m), whitened keys in the order of the edits.
    """
    later = np.tril(superposition(whitened) ** 2, -1)
    pairs = len(later) * (len(later) - 1) // 2
    return float(np.sqrt(np.nansum(later) / pairs)) if pairs else 0.0


def _by_hand(simulator: Simulator, draw: Draw, report: progress.Report) -> tuple[Pool, list[RequestedEdit], list[int]]:
    if not draw.picked:
        raise RequestError("no edit was picked; add some on the page Edit a fact, or draw them")
    for fact, target in draw.picked:
        if not 0 <= fact < len(simulator.facts):
            raise RequestError(f"facts count from 0 to {len(simulator.facts) - 1}; fact {fact} was picked")
        if not tidy(target):
            raise RequestError(f"fact {fact} was picked without a new object")
        if why := fault(tidy(target)):
            raise RequestError(f"the new object of fact {fact} {why}")
    per_layer = []
    for layer in simulator.result.layers:
        own = simulator.whitener(layer, report).whiten(simulator.sensitivity(layer, report).subject_keys)
        per_layer.append(_leverage_and_leak(own, own, apart=False))
    leverage, leak = map(np.stack, zip(*per_layer, strict=True))
    source = Pool(simulator.facts, np.array(simulator.result.known), leverage, leak, apart=False)
    requested = [RequestedEdit(simulator.facts[fact], tidy(target)) for fact, target in draw.picked]
    return source, requested, [fact for fact, _ in draw.picked]


def _drawn(source: Pool, draw: Draw, edits: int, at: int, known: KnownFacts) -> tuple[list[RequestedEdit], list[int]]:
    rng = np.random.default_rng(draw.seed)
    candidates = rng.permutation(np.flatnonzero(source.known)).tolist()
    if draw.by == "relation":
        there = {fact.relation for fact in source.facts}
        wanted = list(draw.relations) or sorted(there)
        if missing := [name for name in wanted if name not in there]:
            raise RequestError(f"there is no relation {missing[0]!r} to edit; there are {', '.join(sorted(there))}")
        place = {name: number for number, name in enumerate(wanted)}
        candidates = [fact for fact in candidates if source.facts[fact].relation in place]
        candidates.sort(key=lambda fact: place[source.facts[fact].relation])
    elif draw.by in ("most", "least"):
        sign = -1 if draw.by == "most" else 1
        leak: Any = source.leak[at]
        candidates = [fact for fact in candidates if np.isfinite(leak[fact])]
        candidates.sort(key=lambda fact: sign * leak[fact])
    requested: list[RequestedEdit] = []
    rows: list[int] = []
    subjects: set[str] = set()
    for number in candidates:
        if len(requested) == edits:
            break
        fact = source.facts[number]
        others = known.new_objects(fact)[: 1 if fact.new_target else LIKELY_OBJECTS]
        if others and fact.subject not in subjects:
            subjects.add(fact.subject)
            requested.append(RequestedEdit(fact, others[int(rng.integers(len(others)))]))
            rows.append(number)
    if len(requested) < edits:
        raise RequestError(
            f"{counted(edits, 'edit was', 'edits were')} asked for; {len(requested)} of the facts to draw from can be "
            f"edited"
        )
    return requested, rows
