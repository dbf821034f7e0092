"""Stages of an analysis and the share of the whole they add up to."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core.progress import STAGES, overall

ROUNDING = 1e-12  # a handful of float additions of shares below one


@pytest.mark.parametrize(
    ("stage", "done", "total", "share"),
    [
        ("Reading facts and text", 1, 2, 0.01),
        ("Loading the model", 1, 1, 0.22),
        ("Second moment of the keys", 1, 2, 0.625),
        ("Second moment of the keys", 0, 0, 0.9),
        ("The model's own answers", 1, 1, 0.35),
        ("Whitening", 900, 1, 1.0),
        ("Waiting for another run of the same", 1, 1, 0.0),
    ],
)
def test_the_share_by_hand(stage: str, done: int, total: int, share: float) -> None:
    assert overall(stage, done, total) == pytest.approx(share, abs=ROUNDING)


@given(st.lists(st.integers(1, 4), min_size=len(STAGES), max_size=len(STAGES)))
def test_the_share_rises_from_nothing_to_all_through_the_stages_in_order(batches: list[int]) -> None:
    steps = [(stage, done, total) for stage, total in zip(STAGES, batches, strict=True) for done in range(total + 1)]
    shares = [overall(*step) for step in steps]
    assert shares[0] == 0
    assert shares[-1] == pytest.approx(1, abs=ROUNDING)
    assert all(later >= earlier - ROUNDING for earlier, later in itertools.pairwise(shares))
    assert max(shares) <= 1
