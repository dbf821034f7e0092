"""Pilot edits, which are really searched for, and the population of δ's that stand-in edits are drawn from.

Edits made on a damaged model need a larger δ, and a larger δ does more damage: the loop that arXiv 2602.02543 calls
norm feedback. What sets the size is the noise that the edits before left in the layer: with x the root mean square of
what they add there at the subjects of the facts looked at, sizes follow ‖δ‖² = a² + (g x)², where a is the size on the
unedited model: an edit has to outweigh what the layer carries. The form was found on runs of ROME on the demo family
(widths 32 and 64, all layers): it leaves a scatter of about 0.3 in log ‖δ‖, and g came out between 1.5 and 2.6 there.
a and g are fitted to the pilots of each model, layer and method, with that range of g as the prior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

GAINS = np.geomspace(0.02, 40, 200)  # values of g that are tried, times a over the pilots' mean size
USUAL_GAIN, GAIN_SPREAD = 2.0, 0.35  # prior of g: its middle, and its spread in log g; see the module
SCATTER = 0.3  # of log ‖δ‖ about the law: how much a pilot weighs against the prior


@dataclass(frozen=True, eq=False)
class Pilots:
    """Values that were really searched for, on the model as stand-in edits left it: n of them.

    Attributes:
        deltas: (n, d).
        layers: (n,) each is for.
        at: (n,) how many stand-in edits the model had then.
        carried: (n,) x, see the module; 0 on the unedited model.
    """

    deltas: np.ndarray
    layers: np.ndarray
    at: np.ndarray
    carried: np.ndarray

    @classmethod
    def none(cls, width: int) -> Self:
        """No pilot yet, of a model of residual width d."""
        whole = np.zeros(0, dtype=np.int64)
        return cls(np.zeros((0, width)), whole, whole, np.zeros(0))

    def __len__(self) -> int:
        return len(self.deltas)

    def rows(self, chosen: np.ndarray) -> Self:
        """Some of them, by number or mask."""
        return type(self)(self.deltas[chosen], self.layers[chosen], self.at[chosen], self.carried[chosen])

    def and_also(self, deltas: Sequence[np.ndarray], layers: Sequence[int], at: int, carried: float) -> Self:
        """These and more of one checkpoint."""
        if not deltas:
            return self
        return type(self)(
            np.concatenate([self.deltas, np.stack(deltas)]),
            np.concatenate([self.layers, np.array(layers, dtype=np.int64)]),
            np.concatenate([self.at, np.full(len(deltas), at, dtype=np.int64)]),
            np.concatenate([self.carried, np.full(len(deltas), carried)]),
        )

    def redrawn(self, rng: np.random.Generator) -> Self:
        """As many of each checkpoint, drawn from its own with replacement: what other pilots could have been."""
        chosen = [rng.choice(own, len(own)) for n in np.unique(self.at) for own in [np.flatnonzero(self.at == n)]]
        return self.rows(np.concatenate(chosen))


@dataclass(frozen=True, slots=True)
class Growth:
    """How ‖δ‖ grows with x: ‖δ‖² = a² + (g x)².

    Attributes:
        size: a.
        gain: g.
    """

    size: float
    gain: float

    @classmethod
    def fitted(cls, pilots: Pilots) -> Self:
        """By least squares of log ‖δ‖, with the prior of g; pilots are of one layer, and at least one."""
        sizes = np.log(np.maximum(np.linalg.norm(pilots.deltas, axis=1), np.finfo(float).tiny))
        slopes = GAINS[:, None] / np.exp(sizes.mean())  # g / a
        rest = sizes - 0.5 * np.log1p((slopes * pilots.carried) ** 2)
        size = np.exp(rest.mean(axis=1))
        gain = slopes[:, 0] * size
        cost = rest.var(axis=1) * len(sizes) / SCATTER**2 + (np.log(gain / USUAL_GAIN) / GAIN_SPREAD) ** 2
        best = int(cost.argmin())
        return cls(float(size[best]), float(gain[best]))

    def at(self, carried: float) -> float:
        """‖δ‖ of a usual edit where x is carried."""
        return float(np.hypot(self.size, self.gain * carried))


@dataclass(frozen=True, eq=False)
class Population:
    """The δ's of edits, at any x: what a stand-in edit writes is drawn from it.

    Attributes:
        pilots: whose δ's are drawn.
        growth: of their sizes, by layer.
    """

    pilots: Pilots
    growth: dict[int, Growth]

    @classmethod
    def of(cls, pilots: Pilots, *, grows: bool = True) -> Self:
        """Fitted to pilots, of which there is at least one.

        Args:
            pilots: all there are.
            grows: False for those of the unedited model alone, which keep their size whatever the layer carries.
        """
        if not grows:
            first = pilots.rows(pilots.at == pilots.at.min())
            return cls(first, {layer: Growth(1.0, 0.0) for layer in np.unique(first.layers).tolist()})
        layers = np.unique(pilots.layers).tolist()
        return cls(pilots, {layer: Growth.fitted(pilots.rows(pilots.layers == layer)) for layer in layers})

    def draw(self, layer: int, carried: float, rng: np.random.Generator) -> np.ndarray:
        """A δ, (d,), for a layer that carries x: that of one of its pilots, resized from the x that it was made at."""
        pilots = self.pilots
        there = np.flatnonzero(pilots.layers == layer)
        chosen = int(rng.choice(there if len(there) else len(pilots)))
        growth = self.growth[int(pilots.layers[chosen])]
        return np.asarray(pilots.deltas[chosen] * (growth.at(carried) / growth.at(float(pilots.carried[chosen]))))
