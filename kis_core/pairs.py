"""One pair of facts (i, j) in full: what an edit of i does to j, in every way the paper looks at it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kis_core.request import RequestError
from kis_core.result import Result
from kis_core.superposition import strongest_pairs


@dataclass(frozen=True, slots=True)
class Pair:
    """Edited fact i, suffering fact j, at one layer.

    Attributes:
        i, j: the facts.
        p, p_back: P[i, j], and P[j, i] of the opposite edit.
        whitened_angle, activation_angle: in degrees; 90 means unrelated (Fig. 6).
        same_subject, same_last_token: why a large P may be an artefact of the prompts.
        p_by_layer, p_back_by_layer: P[i, j] and P[j, i] in every computed layer.
    """

    i: int
    j: int
    p: float
    p_back: float
    whitened_angle: float
    activation_angle: float
    same_subject: bool
    same_last_token: bool
    p_by_layer: tuple[float, ...]
    p_back_by_layer: tuple[float, ...]


def inspect(result: Result, layer: int, i: int, j: int) -> Pair:
    """All there is to know of the pair (i, j) at a layer.

    Raises:
        RequestError: no such fact or layer.
    """
    count = len(result.facts)
    if not (0 <= i < count and 0 <= j < count):
        raise RequestError(f"facts count from 0 to {count - 1}; the pair ({i}, {j}) was asked for")
    at = result.at(layer)
    first, second = result.facts.facts[i], result.facts.facts[j]
    return Pair(
        i=i,
        j=j,
        p=float(result.p[at, i, j]),
        p_back=float(result.p[at, j, i]),
        whitened_angle=_degrees(result.whitening_cosine[at, i, j]),
        activation_angle=_degrees(result.activation_cosine[at, i, j]),
        same_subject=i != j and first.subject == second.subject,
        same_last_token=i != j and result.key_token_ids[i] == result.key_token_ids[j],
        p_by_layer=tuple(float(value) for value in result.p[:, i, j]),
        p_back_by_layer=tuple(float(value) for value in result.p[:, j, i]),
    )


def _degrees(cosine: float) -> float:
    return float(np.degrees(np.arccos(cosine)))


def strongest_between_subjects(result: Result, layer: int) -> np.ndarray:
    """Pairs (i, j) of facts about different subjects, by falling |P[i, j]|, shape (n, 2).

    Facts about one subject are left out: their overlap is a matter of the prompts more than of the model.
    """
    return strongest_pairs(np.where(result.same_subject, np.nan, result.p[result.at(layer)]))
