"""P as a network of facts: where each fact stands in the plane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NEIGHBOURS = 3  # most similar facts that each fact is drawn towards
GRAVITY = 4.0  # towards the middle, against the repulsion of all: facts come to fill a disc of radius about a half
ROUNDS = 300
FEWEST_ROUNDS = 60
WORK = 40_000_000  # pairs of facts looked at in all: a second or two, whatever their number
FIRST_STEP = 0.1  # of the disc that a fact moves at most, in the first round; in the last it moves no more
NEAR = 1e-4  # two facts nearer than that push each other no harder


def layout(similarity: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Places of facts in the plane: similar ones side by side, all apart from each other.

    The forces are those of Fruchterman and Reingold (1991), with a pull to the middle: two facts at distance d push
    each other apart by k²/d, with k = 1/√m; a fact and each of its `NEIGHBOURS` most similar ones pull each other by
    w d²/k, where w is their similarity over the mean of these. Facts are taken in the order of their names, so that
    places belong to facts, whatever order they come in; and the first places are drawn from a fixed seed, so that they
    are the same every time.

    Args:
        similarity: (m, m) symmetric, its size counts; NaN is none.
        names: of the m facts, each its own.

    Returns:
        (m, 2) float64, the middle at 0 and the farthest coordinate at ±1.
    """
    m = len(names)
    order = np.array(sorted(range(m), key=names.__getitem__), dtype=int)
    places = np.zeros((m, 2))
    if m < 2:
        return places
    weights = np.nan_to_num(np.abs(similarity[np.ix_(order, order)]))
    first, second, pull = _pulls(weights)
    at = np.random.default_rng(0).uniform(-0.5, 0.5, (m, 2))
    k = 1 / np.sqrt(m)
    rounds = int(np.clip(WORK // m**2, FEWEST_ROUNDS, ROUNDS))
    for step in np.linspace(FIRST_STEP, 0, rounds, endpoint=False):
        squares = (at**2).sum(axis=1)
        push = k**2 / np.maximum(squares[:, None] + squares[None, :] - 2 * at @ at.T, NEAR**2)
        force = at * push.sum(axis=1, keepdims=True) - push @ at - GRAVITY * at
        between = at[second] - at[first]
        drawn = between * (pull * np.linalg.norm(between, axis=1) / k)[:, None]
        np.add.at(force, first, drawn)
        np.add.at(force, second, -drawn)
        size = np.linalg.norm(force, axis=1, keepdims=True)
        at += force * np.minimum(step / np.maximum(size, NEAR), 1.0)
    at -= (at.max(axis=0) + at.min(axis=0)) / 2
    places[order] = at / np.maximum(np.abs(at).max(), NEAR)
    return places


def _pulls(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of facts that pull each other, each once, and how strongly."""
    m = len(weights)
    others = weights - 2 * weights.max() * np.eye(m) - np.eye(m)
    nearest = np.argsort(-others, axis=1, kind="stable")[:, : min(NEIGHBOURS, m - 1)]
    ends = np.sort(np.column_stack([np.repeat(np.arange(m), nearest.shape[1]), nearest.ravel()]), axis=1)
    first, second = np.unique(ends, axis=0).T
    pull = weights[first, second]
    return first, second, pull / (pull.mean() or 1.0)
