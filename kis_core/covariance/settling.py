"""Whether enough text was read: how much P of the facts at hand still changes as C grows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg

from kis_core.superposition.matrix import superposition

FIRST_LOOK = 4  # times d_m tokens: with fewer C is hardly more than noise
STEP = 1.5  # each look at that many times the tokens of the one before
STILL_LOOKS = 2  # in a row below the threshold: one may be chance
WATCHED_LAYERS = 3  # of a pass: its first, middle and last; factorising C of all at every look would cost too much
GUARD = 1e-9  # of C's mean eigenvalue, added for a look only: an early C may be singular


@dataclass(frozen=True, slots=True)
class Look:
    """How far P of one layer has moved since the last look.

    Attributes:
        tokens: behind C at this look.
        layer: the layer.
        moved: root mean square of the change of P's off-diagonal entries, as a share of their standard deviation.
    """

    tokens: int
    layer: int
    moved: float


def as_json(look: Look) -> list[float | None]:
    """A look as JSON, in which NaN becomes null."""
    return [look.tokens, look.layer, look.moved if math.isfinite(look.moved) else None]


def from_json(values: Sequence[float | None]) -> Look:
    """The look that `as_json` wrote."""
    tokens, layer, share = values
    return Look(int(tokens or 0), int(layer or 0), float("nan") if share is None else float(share))


def watched(layers: Sequence[int]) -> list[int]:
    """The layers of a pass whose P is watched: first, middle and last."""
    places = np.linspace(0, len(layers) - 1, min(WATCHED_LAYERS, len(layers)))
    return [layers[round(place)] for place in places]


@dataclass
class Settling:
    """Looks at P as C grows, at token counts that rise by `STEP`.

    Attributes:
        keys: (m, d_m) keys of the facts by watched layer.
        threshold: movement below which P counts as settled, or None to watch only.
        looked: called with each look.
        of: fingerprint of the facts, so that looks at P of other facts are not resumed.
        looks: all looks so far.
    """

    keys: Mapping[int, np.ndarray]
    threshold: float | None = None
    looked: Callable[[Look], None] | None = None
    of: str = ""
    looks: list[Look] = field(default_factory=list)
    _before: dict[int, np.ndarray] = field(default_factory=dict)
    _next: float = 0.0

    def due(self, tokens: int) -> bool:
        """Whether it is time for a look; never where there are no two facts to make a P of."""
        if not self.keys:
            return False
        first = next(iter(self.keys.values()))
        return len(first) > 1 and tokens >= max(self._next, FIRST_LOOK * first.shape[1])

    def look(self, mean: Callable[[int], np.ndarray], tokens: int) -> bool:
        """Compare P with that of the look before.

        Args:
            mean: gives C so far of a layer, (d_m, d_m); called for one layer after the other.
            tokens: number of tokens behind C.

        Returns:
            whether P has settled in all watched layers, `STILL_LOOKS` times in a row.
        """
        self._next = tokens * STEP
        for layer, keys in self.keys.items():
            p = _p(mean(layer), keys)
            if (before := self._before.get(layer)) is not None:
                self.looks.append(Look(tokens, layer, moved(before, p)))
                if self.looked:
                    self.looked(self.looks[-1])
            self._before[layer] = p
        return self.settled

    @property
    def settled(self) -> bool:
        """Whether the last looks were all below the threshold."""
        last = self.looks[-STILL_LOOKS * len(self.keys) :]
        enough = len(last) == STILL_LOOKS * len(self.keys) > 0
        return self.threshold is not None and enough and all(look.moved < self.threshold for look in last)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What `resume` needs, as JSON and as arrays."""
        state = {"of": self.of, "looks": [as_json(look) for look in self.looks], "next": self._next}
        return state, {f"p{layer}": p for layer, p in self._before.items()}

    def resume(self, state: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Resume from a `state`, if it is of the same facts."""
        if state["of"] != self.of:
            return
        self.looks[:] = map(from_json, state["looks"])
        if self.looked:
            for look in self.looks:
                self.looked(look)
        self._next = float(state["next"])
        self._before = {layer: arrays[f"p{layer}"] for layer in self.keys if f"p{layer}" in arrays}


def moved(before: np.ndarray, after: np.ndarray) -> float:
    """Root mean square change of the off-diagonal entries, as a share of their standard deviation; NaN if that is 0."""
    off = ~np.eye(len(after), dtype=bool) & np.isfinite(before) & np.isfinite(after)
    spread = float(after[off].std()) if off.any() else 0.0
    return float(np.sqrt(np.mean((after[off] - before[off]) ** 2)) / spread) if spread else float("nan")


def _p(matrix: np.ndarray, keys: np.ndarray) -> np.ndarray:
    guarded = matrix.copy(order="F")  # as LAPACK wants it: the factor takes its place
    guarded[np.diag_indices_from(guarded)] += GUARD * np.trace(matrix) / len(matrix)
    try:
        factor = scipy.linalg.cholesky(guarded, lower=True, overwrite_a=True)
    except scipy.linalg.LinAlgError:
        return np.full((len(keys), len(keys)), np.nan)  # not invertible yet; it may be by the next look
    return superposition(scipy.linalg.solve_triangular(factor, keys.astype(np.float64).T, lower=True).T)
