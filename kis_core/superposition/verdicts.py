"""What the data at hand say to the paper's claims (Hu et al., arXiv 2408.07413): each a number with its 95 % interval.

Intervals are over facts (`moments.moment_draws`): they say what other facts of the kind would give, not other text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kis_core.superposition.angles import angles
from kis_core.superposition.densities import isotropic_std
from kis_core.superposition.moments import Interval, finite_entries, interval_of, moment_draws, moments
from kis_core.wording import counted, number

NEGLIGIBLE = 0.1  # of the spread of P: a mean below it moves no entry by what tells it from another
RIGHT = 2.0  # degrees around 90 within which a mean angle counts as right: isotropic keys of d_m = 1,000 spread as much
LEAST_TREND = 3  # layers or models, of which a trend can be told at all
TREND_DRAWS = 200  # of each of them: thirty layers of a thousand facts then take seconds
TOO_FEW = "too few facts to tell"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the data say to a claim.

    Attributes:
        claim: of the paper, a sentence with its place.
        finding: the number here, its interval, and the judgement.
        holds: whether the claim holds here; None where the interval leaves it open, or there is nothing to judge by.
    """

    claim: str
    finding: str
    holds: bool | None


def overlap(p: np.ndarray, mlp_width: int) -> Verdict:
    """Do the keys overlap more than random ones would? From P of a layer, (m, m)."""
    chance, spread = isotropic_std(mlp_width), moments(p).std
    interval = interval_of(moment_draws(p).std)
    holds = _beyond(interval, chance)
    words = _judged(
        interval, {True: "more than chance", False: "less than chance", None: "not told from chance"}[holds]
    )
    return Verdict(
        "Facts are stored in superposition: their keys overlap (section 4).",
        f"P spreads by {_with(spread, interval, '.3f')}, keys without structure by {chance:.3f}: {words}.",
        holds,
    )


def heavy_tail(p: np.ndarray) -> Verdict:
    """Is a tail of P heavier than a normal distribution's? From P of a layer, (m, m)."""
    interval = interval_of(moment_draws(p).kurtosis)
    holds = _beyond(interval, 0.0)
    words = {True: "heavy tail", False: "lighter than normal", None: "not told from a normal tail"}[holds]
    words = _judged(interval, words)
    return Verdict(
        "Most pairs hardly overlap and a few overlap a great deal: P has a heavy tail in every layer (Fig. 4).",
        f"Excess kurtosis {_with(moments(p).kurtosis, interval, '.1f')}: {words}.",
        holds,
    )


def zero_mean(p: np.ndarray) -> Verdict:
    """Is the mean of P off the diagonal zero? From P of a layer, (m, m)."""
    of_p = moments(p)
    interval = interval_of(moment_draws(p).mean)
    beyond = _beyond(interval, 0.0)
    small = abs(of_p.mean) < NEGLIGIBLE * of_p.std
    if np.isnan(interval.low):
        holds, words = None, TOO_FEW
    elif beyond is None:
        holds, words = True, "zero within its interval"
    elif small:
        holds, words = True, f"not zero, yet small beside the spread of {of_p.std:.3f}"
    else:
        holds, words = False, "not zero"
    return Verdict("The mean of P is zero (Fig. 4).", f"Mean {_with(of_p.mean, interval, '.3f')}: {words}.", holds)


def right_angles(cosine: np.ndarray, *, whitened: bool) -> Verdict:
    """Do keys stand at right angles? From the cosines of a layer, (m, m); the paper says yes of whitened ones alone."""
    degrees = angles(cosine)
    entries = finite_entries(degrees)
    off = moment_draws(degrees).mean - 90
    interval, mean = interval_of(off), float(entries.mean()) if len(entries) else float("nan")
    inside = interval.low >= -RIGHT and interval.high <= RIGHT
    outside = interval.low > RIGHT or interval.high < -RIGHT
    right = True if inside else False if outside else None
    words = {True: "at right angles", False: "not at right angles", None: f"not told from 90° ± {RIGHT:g}°"}[right]
    words = _judged(interval, words)
    shown = _with(mean, Interval(interval.low + 90, interval.high + 90), ".1f", "°")
    claim = "Whitened keys stand at right angles" if whitened else "Plain keys do not stand at right angles"
    return Verdict(
        f"{claim} (Fig. 6).",
        f"The mean {'whitened' if whitened else 'plain'} angle is {shown}: {words}.",
        None if right is None else right is whitened,
    )


def falls_with_depth(p: Sequence[np.ndarray]) -> Verdict:
    """Does kurtosis fall from layer to layer? From P of the layers in order, (m, m) each."""
    return _trend("Kurtosis falls with depth (Fig. 5).", "depth", "layer", p, range(len(p)), rising=False)


def rises_with_size(p: Sequence[np.ndarray], parameters: Sequence[int]) -> Verdict:
    """Does kurtosis rise with size? From P of several models at one layer over the same facts, and their sizes."""
    return _trend("Kurtosis rises with the size of the model (Fig. 5).", "size", "model", p, parameters, rising=True)


def _trend(claim: str, along: str, unit: str, p: Sequence[np.ndarray], at: Sequence[int], *, rising: bool) -> Verdict:
    """Spearman correlation of kurtosis with something, and its interval over facts: all P get the same draws."""
    kurtosis = np.array([[moments(one).kurtosis, *moment_draws(one, draws=TREND_DRAWS).kurtosis] for one in p])
    some = ~np.isnan(kurtosis[:, 0]) if len(p) else np.zeros(0, dtype=bool)
    if some.sum() < LEAST_TREND or len(set(np.asarray(at)[some].tolist())) < LEAST_TREND:
        found = counted(int(some.sum()), f"{unit} has", f"{unit}s have")
        return Verdict(claim, f"{found} a kurtosis here: too few to tell.", None)
    correlations = _spearman(np.asarray(at, dtype=float)[some], kurtosis[some])
    interval = interval_of(correlations[1:])
    above, below = _beyond(interval, 0.0) is True, _beyond(interval, 0.0) is False
    words = "rises" if above else "falls" if below else "neither rises nor falls for sure"
    shown = _with(float(correlations[0]), interval, ".2f")
    finding = f"Rank correlation of kurtosis with {along} {shown} over {counted(int(some.sum()), unit)}: it {words}."
    return Verdict(claim, finding, None if above == below else above is rising)


def _spearman(at: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rank correlation of `at`, (n,), with each column of values, (n, draws); NaN where a column has one or is even."""
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=0, nan_policy="propagate") - (len(at) + 1) / 2
    places = rankdata(at) - (len(at) + 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((places @ ranks) / np.sqrt((places**2).sum() * (ranks**2).sum(axis=0)))


def _beyond(interval: Interval, threshold: float) -> bool | None:
    """Whether all of an interval lies above a threshold; False where all lies below, None otherwise."""
    if interval.low > threshold:
        return True
    return False if interval.high < threshold else None


def _judged(interval: Interval, words: str) -> str:
    """These words, or that there are too few facts for an interval."""
    return TOO_FEW if np.isnan(interval.low) else words


def _with(value: float, interval: Interval, form: str, unit: str = "") -> str:
    """A number with its interval, as `39.6 (31.0 to 52.3)`."""
    low, high = number(interval.low, form), number(interval.high, form)
    return f"{number(value, form)}{unit} ({low}{unit} to {high}{unit})"
