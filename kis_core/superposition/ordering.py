"""Orders in which facts can stand along the axes of P, and what the axes then say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kis_core.facts import Fact
from kis_core.superposition.matrix import cluster_order

ORDERS = ("index", "subject", "relation", "similarity")


def order_facts(facts: Sequence[Fact], p: np.ndarray, how: str) -> tuple[np.ndarray, list[str]]:
    """Facts in the wanted order.

    Args:
        facts: m facts.
        p: (m, m), used by "similarity" only: hierarchical clustering of strongly superposed facts.
        how: one of `ORDERS`.

    Returns:
        the fact at each position, (m,), and the axis label of each fact (not position).

    Raises:
        ValueError: no such order.
    """
    subjects = [fact.subject for fact in facts]
    relations = [fact.relation.replace("_", " ") or "no relation" for fact in facts]
    count = len(facts)
    if how == "index":
        return np.arange(count), [f"{index} {subject}" for index, subject in enumerate(subjects)]
    if how == "subject":
        return np.array(sorted(range(count), key=lambda k: (subjects[k].casefold(), k))), subjects
    if how == "relation":
        return np.array(sorted(range(count), key=lambda k: (relations[k], k))), relations
    if how == "similarity":
        return cluster_order(p), subjects
    raise ValueError(f"no order {how!r}; there are {', '.join(ORDERS)}")
