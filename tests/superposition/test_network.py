"""Places of facts in the network: the same every time, in whatever order facts come, and similar ones side by side."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core.superposition.network import layout


def similarity(m: int, seed: int = 0) -> np.ndarray:
    keys = np.random.default_rng(seed).normal(size=(m, 8))
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    return np.asarray(keys @ keys.T)


@given(st.integers(0, 30), st.integers(0, 99))
def test_places_belong_to_facts_whatever_order_they_come_in(m: int, seed: int) -> None:
    similar, names = similarity(m, seed), [f"fact {k}" for k in range(m)]
    order = np.random.default_rng(seed).permutation(m)
    places = layout(similar, names)
    np.testing.assert_array_equal(layout(similar[np.ix_(order, order)], [names[k] for k in order]), places[order])
    assert places.shape == (m, 2)
    assert np.isfinite(places).all()
    assert np.abs(places).max(initial=0) == pytest.approx(1 if m > 1 else 0)


def test_similar_facts_stand_side_by_side_and_all_apart() -> None:
    """Three groups of six: within each cosines of 0.9, between them of 0."""
    groups = np.repeat(range(3), 6)
    together = groups[:, None] == groups[None, :]
    places = layout(np.where(together, -0.9, 0.0) + 1.9 * np.eye(18), [f"{k:02}" for k in range(18)])
    between = np.linalg.norm(places[:, None] - places[None, :], axis=2)
    assert between[~np.eye(18, dtype=bool)].min() > 0.01
    assert between[together].mean() < between[~together].mean() / 2


def test_keys_of_zero_and_facts_that_are_all_alike_have_places_too() -> None:
    nothing = np.full((5, 5), np.nan)
    for similar in (nothing, np.ones((5, 5)), np.zeros((5, 5))):
        places = layout(similar, list("abcde"))
        assert len(np.unique(places, axis=0)) == 5
        assert np.isfinite(places).all()
