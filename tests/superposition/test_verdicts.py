"""Verdicts on the paper's claims, at numbers made so that each of the three judgements is due."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from kis_core.superposition import kurtosis_interval, moments
from kis_core.superposition.moments import interval_of, moment_draws
from kis_core.superposition.verdicts import (
    Verdict,
    falls_with_depth,
    heavy_tail,
    overlap,
    right_angles,
    rises_with_size,
    zero_mean,
)

M, STD = 40, 0.05
JUDGE: dict[str, Callable[[np.ndarray], Verdict]] = {
    "overlap": lambda p: overlap(p, mlp_width=400),  # keys without structure spread by 0.05
    "tail": heavy_tail,
    "mean": zero_mean,
    "whitened": lambda cosine: right_angles(cosine, whitened=True),
    "plain": lambda cosine: right_angles(cosine, whitened=False),
}


def entries(
    seed: int = 0, *, tail: float = 0.0, mean: float = 0.0, std: float = STD, uniform: bool = False
) -> np.ndarray:
    """Numbers of pairs: normal or uniform, some of them `tail` times as large."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(-1, 1, (M, M)) if uniform else rng.normal(size=(M, M))
    p = std * np.where(rng.random((M, M)) < 0.02, 1 + tail, 1) * p + mean
    np.fill_diagonal(p, 1.0)
    return p


@pytest.mark.parametrize(
    ("what", "p", "holds", "words"),
    [
        ("overlap", entries(std=0.2), True, "more than chance"),
        ("overlap", entries(std=0.01), False, "less than chance"),
        ("overlap", entries(), None, "not told from chance"),
        ("tail", entries(tail=9), True, "heavy tail"),
        ("tail", entries(uniform=True), False, "lighter than normal"),
        ("tail", entries(), None, "not told from a normal tail"),
        ("mean", entries(), True, "zero within its interval"),
        ("mean", entries(mean=0.005), True, "not zero, yet small beside the spread of 0.049"),
        ("mean", entries(mean=0.17), False, "not zero"),
        ("whitened", entries(), True, "at right angles"),
        ("whitened", entries(mean=0.2), False, "not at right angles"),
        ("whitened", entries(mean=np.sin(np.radians(2)), std=0.2), None, "not told from 90° ± 2°"),
        ("plain", entries(mean=0.2), True, "not at right angles"),
        ("plain", entries(), False, "at right angles"),
        *((what, np.ones((2, 2)), None, "too few facts to tell") for what in JUDGE),
    ],
)
def test_each_judgement(what: str, p: np.ndarray, holds: bool | None, words: str) -> None:
    actual = JUDGE[what](p)
    assert actual.holds is holds
    assert actual.finding.endswith(f": {words}.")


def test_the_number_and_its_interval_are_shown() -> None:
    p = entries(tail=9)
    interval = kurtosis_interval(p)
    assert heavy_tail(p).finding == (
        f"Excess kurtosis {moments(p).kurtosis:.1f} ({interval.low:.1f} to {interval.high:.1f}): heavy tail."
    )
    found = re.fullmatch(
        r"The mean whitened angle is (.*)° \((.*)° to (.*)°\): .*", right_angles(p, whitened=True).finding
    )
    assert found
    angle, low, high = map(float, found.groups())
    assert low < angle < high
    assert angle == pytest.approx(90 - np.degrees(moments(p).mean), abs=0.2)


def test_draws_of_the_mean_and_the_spread_are_about_those_of_all_facts() -> None:
    p = entries(tail=9, mean=0.17)
    drawn, actual = moment_draws(p), moments(p)
    for draws, value in ((drawn.mean, actual.mean), (drawn.std, actual.std)):
        interval = interval_of(draws)
        assert interval.low < value < interval.high
        assert interval.high - interval.low < value
    assert interval_of(drawn.kurtosis) == kurtosis_interval(p)


FALLING = [entries(seed, tail=tail) for seed, tail in enumerate((9, 5, 3, 1.5, 0))]


def test_trends_by_rank_correlation() -> None:
    falls, rises = falls_with_depth(FALLING), falls_with_depth(FALLING[::-1])
    assert (falls.holds, rises.holds) == (True, False)
    assert falls.finding.startswith("Rank correlation of kurtosis with depth -1.00 (-1.00 to ")
    assert falls.finding.endswith(" over 5 layers: it falls.")
    assert rises.finding.endswith(" over 5 layers: it rises.")
    alike = [entries(seed) for seed in range(5)]
    assert falls_with_depth(alike).holds is None
    by_size = rises_with_size(FALLING, [5, 4, 3, 2, 1])
    assert by_size.holds is True
    assert by_size.finding.endswith("over 5 models: it rises.")
    assert rises_with_size(FALLING, [1, 2, 3, 4, 5]).holds is False


def test_two_layers_or_models_make_no_trend() -> None:
    nothing = np.ones((2, 2))
    assert falls_with_depth(FALLING[:2]).finding == "2 layers have a kurtosis here: too few to tell."
    assert falls_with_depth([FALLING[0], nothing, nothing]).finding == "1 layer has a kurtosis here: too few to tell."
    assert rises_with_size([], []).holds is None
    assert rises_with_size(FALLING, [1, 1, 2, 2, 1]).holds is None, "of two sizes"
