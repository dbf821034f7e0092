"""What a report holds of a layer: its matrices, the order of its pairs, its distributions, angles and verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from kis_core import superposition
from kis_core.report.packing import drawable, encoded, packed
from kis_core.results.result import LayerReport, Result
from kis_core.results.tags import TAGS
from kis_core.superposition import verdicts
from kis_core.superposition.leverage import place_in_text
from kis_core.superposition.ordering import order_facts
from kis_core.wording import MISSING, number

P_DECIMALS, ANGLE_DECIMALS = 3, 1
"""As the dashboard writes P and angles; the report holds them to so many decimals."""
MOST_RANKED = 20_000  # pairs of a layer that can be searched: all of 128 facts
LARGE = 100  # leverage from which on no decimals are shown
ANGLES = {"whitened": "whitening_cosine", "plain": "activation_cosine"}
HEADROOM = 1.06  # of a density's axis over its highest point
MOMENTS = {
    "pairs": ",.0f",
    "mean": ".3f",
    "std": ".3f",
    "skewness": ".2f",
    "excess kurtosis": ".1f",
    "from": ".1f",
    "to": ".1f",
}
"""Numbers of `superposition.description` with their format; the others are quantiles."""


def layer(result: Result, at: int) -> dict[str, Any]:
    """A layer as JSON.

    Args:
        result: the analysis.
        at: position of the layer.
    """
    p, report = result.p[at], result.reports[at]
    limit = superposition.colour_limit(p)
    pairs = result.ranking(report.layer)[:MOST_RANKED]
    clean = result.clean(report.layer)
    sides = {"all": (p, report.moments, report.interval), "clean": (clean, report.clean_moments, report.clean_interval)}
    cosines = {name: getattr(result, field)[at] for name, field in ANGLES.items()}
    angles = {name: superposition.angles(cosine) for name, cosine in cosines.items()}
    return {
        "layer": report.layer,
        "p": packed(p, P_DECIMALS),
        **{name: packed(degrees, ANGLE_DECIMALS) for name, degrees in angles.items()},
        "tags": encoded(_tags(result, report.layer)),
        "ranking": encoded((pairs[:, 0] * len(p) + pairs[:, 1]).astype("<u4")),
        "ranked": len(result.ranking(report.layer)),
        "similarity": order_facts(result.facts.facts, p, "similarity")[0].tolist(),
        "leverage": [_leverage(result, at, fact) for fact in range(len(p))],
        "limit": limit,
        "beyond": superposition.beyond(p, limit),
        "density": _densities({name: side for name, (side, *_) in sides.items()}, result.mlp_width),
        "numbers": {name: _numbers(*side) for name, side in sides.items()},
        "heavy": {
            name: judged(verdicts.heavy_tail(side), verdicts.zero_mean(side)) for name, (side, *_) in sides.items()
        },
        "overlap": judged(verdicts.overlap(p, result.mlp_width)),
        "angles": _angles(cosines),
        "right": judged(*(verdicts.right_angles(c, whitened=name == "whitened") for name, c in cosines.items())),
        "kurtosis": {"all": _kurtosis(report, clean=False), "clean": _kurtosis(report, clean=True)},
    }


def _tags(result: Result, layer: int) -> np.ndarray:
    """For each pair a bit for each of the `TAGS` but the last, from the lowest bit on, (m, m) bytes."""
    every = np.arange(len(result.facts))
    tags, bits = result.tags(layer), np.zeros((len(every), len(every)), dtype=np.uint8)
    for bit, tag in enumerate(TAGS[:-1]):
        bits |= tags.holds(tag, every[:, None], every[None, :]).astype(np.uint8) << bit
    return bits


def _leverage(result: Result, at: int, fact: int) -> str:
    """The leverage of a fact at a layer, and how large it is beside that of general text."""
    size = float(result.leverage[at, fact])
    beside = place_in_text(size, result.text_leverage[at]) or "beside general text unknown, as C came without it"
    return f"{number(size, ',.0f' if size >= LARGE else '.2g')}, {beside}"


def _densities(sides: Mapping[str, np.ndarray], mlp_width: int) -> dict[str, Any] | None:
    """Curves of both sides on the same axes; None where there is no density to draw."""
    curves = {name: superposition.density_curves(p, mlp_width) for name, p in sides.items()}
    every = pd.concat(list(curves.values()))
    if every.empty:
        return None
    top = HEADROOM * float(every["density"].max())
    lines = {
        name: [
            {"curve": curve, "at": drawable(line["at"]), "density": drawable(line["density"])}
            for curve, line in frame.groupby("curve", sort=False)
        ]
        for name, frame in curves.items()
    }
    return {
        "span": drawable([every["at"].min(), every["at"].max()]),
        "top": top,
        "floor": min(superposition.density_floor(sides["all"]), top / 10),
        **lines,
    }


def _numbers(p: np.ndarray, moments: superposition.Moments, interval: superposition.Interval) -> list[tuple[str, str]]:
    """Names and texts of the moments of P and the quantiles of its tails; the interval stands beside the kurtosis."""
    described = superposition.description(p, moments, interval)
    texts = {name: number(value, MOMENTS.get(name, ".2f")) for name, value in described.items()}
    low, high = texts.pop("from"), texts.pop("to")
    texts["excess kurtosis"] += f" ({low} to {high})" if low != MISSING else ""
    return list(texts.items())


def judged(*claims: verdicts.Verdict) -> list[dict[str, Any]]:
    """What the data say to claims of the paper, as JSON."""
    return [asdict(verdict) for verdict in claims]


def _angles(cosines: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The histogram of both angles, and their mean and spread in words."""
    shares = superposition.angle_shares(cosines)
    each = {name: cosine[None] for name, cosine in cosines.items()}
    spreads = superposition.angle_spreads(each, [0])
    return {
        "shares": {name: drawable(bars["share"]) for name, bars in shares.groupby("space", sort=False)},
        "spreads": {
            name: f"{number(mean, '.1f')}° ± {number(std, '.1f')}°"
            for name, mean, std in zip(spreads["space"], spreads["mean"], spreads["std"], strict=True)
        },
        "mean": dict(zip(spreads["space"], drawable(spreads["mean"]), strict=True)),
    }


def _kurtosis(report: LayerReport, *, clean: bool) -> dict[str, Any]:
    """What the charts over layers draw, and the same as texts."""
    moments = report.clean_moments if clean else report.moments
    interval = report.clean_interval if clean else report.interval
    value, low, high, mean = drawable([moments.kurtosis, interval.low, interval.high, moments.mean])
    between = f" ({number(interval.low, '.1f')} to {number(interval.high, '.1f')})" if low is not None else ""
    texts = {"text": number(moments.kurtosis, ".1f") + between, "mean_text": number(moments.mean)}
    return {"value": value, "low": low, "high": high, "mean": mean, **texts}
