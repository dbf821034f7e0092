"""P as a network: facts with their places, and links from an edited fact to one that suffers, as frames for a chart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from kis_core.facts import Fact
from kis_core.results.pairs import label_of
from kis_core.results.result import Result
from kis_core.superposition.network import layout

MOST_GROUPS = 8  # relations with a mark of their own: more are not told apart
MOST_LINKS = 400  # drawn at once: more are a blot
OTHERS, NO_RELATION = "other relations", "no relation"
LEAST, MOST = 0.01, 1.5  # |P| from which links can be drawn
DECIMALS = 2


def places(result: Result) -> np.ndarray:
    """Where the facts stand, (m, 2) within ±1: the same in every layer, so that layers can be compared.

    Two facts are as similar as their whitened keys are parallel, |cos| averaged over the layers; its square is
    P[i, j] P[j, i] (eq. 16), so that neither a weak key nor a large one counts for more.
    """
    similarity = np.nanmean(np.abs(np.nan_to_num(result.whitening_cosine)), axis=0)
    return layout(similarity, [f"{fact.text}\n{fact.target}" for fact in result.facts.facts])


def groups(facts: Sequence[Fact]) -> list[str]:
    """(m,) the relation of each fact; beyond `MOST_GROUPS` of them, the less frequent ones are `OTHERS`."""
    relations = [fact.relation.replace("_", " ") or NO_RELATION for fact in facts]
    ranked = sorted(Counter(relations).items(), key=lambda known: (-known[1], known[0]))
    kept = {name for name, _ in (ranked if len(ranked) <= MOST_GROUPS else ranked[: MOST_GROUPS - 1])}
    return [name if name in kept else OTHERS for name in relations]


def usual_least(result: Result, layer: int) -> float:
    """|P| from which links are drawn at first: about as many as there are facts, and never too many."""
    pairs = result.ranking(layer)
    if not len(pairs):
        return LEAST
    i, j = pairs[min(len(result.facts), MOST_LINKS, len(pairs)) - 1]
    size = abs(float(result.p[result.at(layer), i, j]))
    return float(np.clip(np.ceil(size * 10**DECIMALS) / 10**DECIMALS, LEAST, MOST))


def nodes(result: Result, layer: int, at: np.ndarray, least: float) -> pd.DataFrame:
    """The facts.

    Args:
        result: the analysis.
        layer: its layer.
        at: their `places`.
        least: |P| from which a fact counts as reached.

    Returns:
        columns `fact`, `x`, `y`, `subject`, `told` (by `label_of`), `group` (of `groups`), `reaches` (the number of
        facts that an edit of this one reaches), `reached` (the number of facts whose edit reaches this one).
    """
    facts = result.facts.facts
    strong = np.abs(np.nan_to_num(result.p[result.at(layer)])) >= least
    np.fill_diagonal(strong, False)
    return pd.DataFrame(
        {
            "fact": range(len(facts)),
            "x": at[:, 0],
            "y": at[:, 1],
            "subject": [fact.subject for fact in facts],
            "told": [label_of(fact) for fact in facts],
            "group": groups(facts),
            "reaches": strong.sum(axis=1),
            "reached": strong.sum(axis=0),
        }
    )


def links(result: Result, layer: int, at: np.ndarray, least: float, most: int = MOST_LINKS) -> tuple[pd.DataFrame, int]:
    """Links from fact i to fact j with |P[i, j]| of at least so much, the strongest first.

    Returns:
        columns `i`, `j`, `p`, `x`, `y` (of i), `x2`, `y2` (of j), `edited`, `suffers` (by `label_of`), at most `most`
        rows; and how many links there are in all.
    """
    p, pairs, facts = result.p[result.at(layer)], result.ranking(layer), result.facts.facts
    count = int((np.abs(p[pairs[:, 0], pairs[:, 1]]) >= least).sum())
    i, j = pairs[: min(count, most)].T
    frame = pd.DataFrame({"i": i, "j": j, "p": p[i, j], "x": at[i, 0], "y": at[i, 1], "x2": at[j, 0], "y2": at[j, 1]})
    names = {"edited": [label_of(facts[k]) for k in i], "suffers": [label_of(facts[k]) for k in j]}
    return frame.assign(**names), count
