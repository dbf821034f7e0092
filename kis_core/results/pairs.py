"""Pairs of facts (i, j): a single pair in full, the strongest as a table, and those that recur in every layer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kis_core.facts import Fact
from kis_core.request import RequestError
from kis_core.results.result import Result
from kis_core.results.tags import NO_TAG
from kis_core.superposition.angles import angles
from kis_core.superposition.matrix import strongest_pairs, strongest_partner

NOTABLE = 0.1  # share of an edit from which on a fact counts as reached
AT_A_TIME = 4096  # pairs whose tags are looked at: most results have one without a tag among the first few


@dataclass(frozen=True, slots=True)
class Pair:
    """Edited fact i, suffering fact j, at one layer.

    Attributes:
        i, j: the facts.
        p, p_back: P[i, j], and P[j, i] of the opposite edit.
        whitened_angle, activation_angle: in degrees; 90 means unrelated (Fig. 6).
        leverage, leverage_back: k_iᵀC⁻¹k_i and k_jᵀC⁻¹k_j, which P[i, j] and P[j, i] are divided by.
        tags: what may explain a large P, of `tags.TAGS`.
        p_by_layer, p_back_by_layer: P[i, j] and P[j, i] in every computed layer.
    """

    i: int
    j: int
    p: float
    p_back: float
    whitened_angle: float
    activation_angle: float
    leverage: float
    leverage_back: float
    tags: tuple[str, ...]
    p_by_layer: tuple[float, ...]
    p_back_by_layer: tuple[float, ...]


def inspect(result: Result, layer: int, i: int, j: int) -> Pair:
    """Everything known of the pair (i, j) at a layer.

    Raises:
        RequestError: no such fact or layer.
    """
    count = len(result.facts)
    if not (0 <= i < count and 0 <= j < count):
        raise RequestError(f"facts count from 0 to {count - 1}; the pair ({i}, {j}) does not exist")
    at = result.at(layer)
    return Pair(
        i=i,
        j=j,
        p=float(result.p[at, i, j]),
        p_back=float(result.p[at, j, i]),
        whitened_angle=float(angles(result.whitening_cosine[at, i, j])),
        activation_angle=float(angles(result.activation_cosine[at, i, j])),
        leverage=float(result.leverage[at, i]),
        leverage_back=float(result.leverage[at, j]),
        tags=tuple(result.tags(layer).names([i], [j])[0]),
        p_by_layer=tuple(float(value) for value in result.p[:, i, j]),
        p_back_by_layer=tuple(float(value) for value in result.p[:, j, i]),
    )


def strongest_between_subjects(result: Result, layer: int) -> np.ndarray:
    """Pairs (i, j) of facts about different subjects, by falling |P[i, j]|, shape (n, 2).

    Pairs about one subject are left out, as their overlap comes from the prompts more than from the model.
    """
    pairs = result.ranking(layer)
    return np.asarray(pairs[~result.same_subject[pairs[:, 0], pairs[:, 1]]])


def first_shown(result: Result, layer: int) -> tuple[int, int] | None:
    """The pair to look at before any is picked: the strongest without a tag.

    A pair with a tag is no example of what the model knows: its prompts alone may explain it. Where every pair has one,
    it is the strongest between two subjects, or else the strongest; None where no pair has a value.
    """
    ranking, tags = result.ranking(layer), result.tags(layer)
    for begin in range(0, len(ranking), AT_A_TIME):
        some = ranking[begin : begin + AT_A_TIME]
        if len(free := some[tags.holds(NO_TAG, some[:, 0], some[:, 1])]):
            return _pair(free[0])
    between = strongest_between_subjects(result, layer)
    return next((_pair(pairs[0]) for pairs in (between, ranking) if len(pairs)), None)


def partner(result: Result, layer: int, i: int) -> int:
    """The fact to look at beside an edited fact i: that of its strongest pair (i, j) without a tag, or else of any."""
    p, every = result.p[result.at(layer)], np.arange(len(result.facts))
    free = result.tags(layer).holds(NO_TAG, np.full_like(every, i), every) & np.isfinite(p[i])
    return int(np.where(free, np.abs(p[i]), -1.0).argmax()) if free.any() else strongest_partner(p, i)


def _pair(pair: np.ndarray) -> tuple[int, int]:
    return int(pair[0]), int(pair[1])


def table(
    result: Result,
    layer: int,
    *,
    count: int,
    merge: bool = False,
    relations: Collection[str] = (),
    tags: Collection[str] = (),
    text: str = "",
    between: tuple[float, float] | None = None,
    where: np.ndarray | None = None,
) -> pd.DataFrame:
    """The strongest pairs at a layer, one row a pair, by falling |P[i, j]| (App. F, Tables 1-4).

    Args:
        result: the analysis.
        layer: its layer.
        count: rows at most.
        merge: list (i, j) and (j, i) once, in the direction of the larger |P|.
        relations: keep pairs with one of these relations on either side; all if empty.
        tags: keep pairs with one of these `TAGS`; all if empty.
        text: keep pairs with this text in a subject, a sentence or an answer, in upper or lower case.
        between: keep pairs whose P[i, j] lies in this range.
        where: (m, m) booleans, keep these pairs.

    Returns:
        columns `rank` (among all ordered pairs, from 1), `i`, `j`, `p`, `p_back`, `whitened_angle`, `edited`,
        `suffers` (both by `label_of`), `relation_i`, `relation_j`, `tags`, `sentence_i`, `sentence_j`.
    """
    p = result.p[result.at(layer)]
    pairs = result.ranking(layer)
    rank = np.arange(1, len(pairs) + 1)
    i, j = pairs[:, 0], pairs[:, 1]
    keep = np.ones(len(pairs), dtype=bool)
    if between is not None:
        keep &= (p[i, j] >= between[0]) & (p[i, j] <= between[1])
    if where is not None:
        keep &= where[i, j]
    if merge:
        forward, back = np.abs(p[i, j]), np.abs(p[j, i])
        keep &= (forward > back) | ((forward == back) & (i < j)) | np.isnan(back)
    facts = result.facts.facts
    if relations:
        keep &= _either(np.array([fact.relation in relations for fact in facts]), i, j)
    tagged = result.tags(layer)
    if tags:
        keep &= tagged.any_of(tags, i, j)
    if text.strip():
        wanted = text.strip().casefold()
        matches = [wanted in f"{fact.subject}\n{fact.text} {fact.target}".casefold() for fact in facts]
        keep &= _either(np.array(matches), i, j)
    at = np.flatnonzero(keep)[:count]
    i, j = i[at], j[at]
    back = p[j, i]
    angle = angles(result.whitening_cosine[result.at(layer)][i, j])
    return pd.DataFrame(
        {
            "rank": rank[at],
            "i": i,
            "j": j,
            "p": p[i, j],
            "p_back": back,
            "whitened_angle": angle,
            "edited": [label_of(facts[k]) for k in i],
            "suffers": [label_of(facts[k]) for k in j],
            "relation_i": [facts[k].relation.replace("_", " ") for k in i],
            "relation_j": [facts[k].relation.replace("_", " ") for k in j],
            "tags": list(map(", ".join, tagged.names(i, j))),
            "sentence_i": [f"{facts[k].text} {facts[k].target}" for k in i],
            "sentence_j": [f"{facts[k].text} {facts[k].target}" for k in j],
        }
    )


def _either(facts: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    return np.asarray(facts[i] | facts[j])


def label_of(fact: Fact) -> str:
    """A label of a fact: its subject and its answer."""
    return f"{fact.subject} → {fact.target}"


def reach_of_edits(result: Result, layer: int) -> pd.DataFrame:
    """Facts by the size of what an edit of them does to others, the largest first.

    Returns:
        columns `i`, `j` (the fact with the largest |P[i, j]|), `edited`, `suffers` (both by `label_of`), `reach` (the
        norm of row i of P without its diagonal), `p` (P[i, j]), `leaks` (the number of facts that get a tenth of the
        edit or more); facts whose key is zero are left out.
    """
    p = result.p[result.at(layer)].copy()
    np.fill_diagonal(p, 0.0)
    size = np.abs(np.nan_to_num(p))
    norms = np.linalg.norm(np.nan_to_num(p), axis=1)
    facts, hit = result.facts.facts, size.argmax(axis=1)
    order = np.argsort(-norms, kind="stable")
    order = order[~np.isnan(result.p[result.at(layer)][order, order])]
    return pd.DataFrame(
        {
            "i": order,
            "j": hit[order],
            "edited": [label_of(facts[k]) for k in order],
            "suffers": [label_of(facts[k]) for k in hit[order]],
            "reach": norms[order],
            "p": p[order, hit[order]],
            "leaks": (size[order] >= NOTABLE).sum(axis=1),
        }
    )


@dataclass(frozen=True, slots=True)
class EditedKey:
    """The key of a fact that is to be edited at a layer, and what an edit of eq. 2 does to the others there.

    Attributes:
        leverage: k_eᵀC⁻¹k_e.
        tags: those of its whole row, "first token" and "weak key".
        others: facts with a P[e, j].
        leaks: those of them that get a tenth of the edit or more.
        largest: the one with the largest |P[e, j]|; None where there are no others.
        p: its P[e, j]; NaN likewise.
    """

    leverage: float
    tags: tuple[str, ...]
    others: int
    leaks: int
    largest: int | None
    p: float


def edited_key(result: Result, layer: int, e: int) -> EditedKey:
    """The key of fact e, before any edit of it is made.

    Raises:
        RequestError: that layer was not computed.
    """
    at = result.at(layer)
    row = result.p[at, e].copy()
    row[e] = np.nan
    size = np.abs(row)
    others = int(np.isfinite(size).sum())
    largest = int(np.nanargmax(size)) if others else None
    return EditedKey(
        leverage=float(result.leverage[at, e]),
        tags=tuple(result.tags(layer).of_fact(e)),
        others=others,
        leaks=int((size >= NOTABLE).sum()),
        largest=largest,
        p=float("nan") if largest is None else float(row[largest]),
    )


def that_stay(p: np.ndarray | Sequence[np.ndarray], names: Sequence[str], count: int) -> pd.DataFrame:
    """The pairs that are among the strongest `count` most often: in several layers, or in several models.

    Args:
        p: (n, m, m), one P a layer or model, over the same facts.
        names: of the n.
        count: number of strongest ordered pairs that are taken from each.

    Returns:
        columns `i`, `j`, `times` (the number of layers or models), `mean` (of P[i, j] over all n), and a column of
        each name with P[i, j] there; the most frequent pairs first, then by |mean|.
    """
    p = np.asarray(p)
    times = np.zeros(p.shape[1:], dtype=int)
    for layer_p in p:
        strongest = strongest_pairs(layer_p)[:count]
        times[strongest[:, 0], strongest[:, 1]] += 1
    i, j = np.nonzero(times)
    values = p[:, i, j]
    frame = pd.DataFrame({"i": i, "j": j, "times": times[i, j], "mean": values.mean(axis=0)})
    frame = pd.concat([frame, pd.DataFrame(values.T, columns=list(names))], axis=1)
    order = np.lexsort((-frame["mean"].abs().to_numpy(), -frame["times"].to_numpy()))
    return frame.iloc[order].reset_index(drop=True)
