"""Orders of the facts along the axes of P, and the labels of the axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kis_core.facts import Fact
from kis_core.superposition.matrix import cluster_order

ORDERS = ("index", "subject", "relation", "similarity")


def order_facts(facts: Sequence[Fact], p: np.ndarray, order: str) -> tuple[np.ndarray, list[str]]:
    """Facts in one of the `ORDERS`.

    Args:
        facts: m facts.
        p: (m, m), used by "similarity" only: hierarchical clustering of strongly superposed facts.
        order: one of `ORDERS`.

    Returns:
        the fact at each position, (m,), and the axis label of each fact (not position).

    Raises:
        ValueError: no such order.
    """
    subjects = [fact.subject for fact in facts]
    relations = [fact.relation.replace("_", " ") or "no relation" for fact in facts]
    count = len(facts)
    if order == "index":
        return np.arange(count), [f"{index} {subject}" for index, subject in enumerate(subjects)]
    if order == "subject":
        return np.array(sorted(range(count), key=lambda k: (subjects[k].casefold(), k))), subjects
    if order == "relation":
        return np.array(sorted(range(count), key=lambda k: (relations[k], k))), relations
    if order == "similarity":
        return cluster_order(p), subjects
    raise ValueError(f"no order {order!r}; there are {', '.join(ORDERS)}")
