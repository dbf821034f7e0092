"""What comes out: P and the angles of every layer, how they were come by, and where each key was taken."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kis_core import superposition
from kis_core.facts import FactSet
from kis_core.request import Request, RequestError
from kis_core.statistics import Moments


@dataclass(frozen=True)
class LayerReport:
    """Condition of one layer's C, and the moments of its P."""

    layer: int
    rank: int
    condition_number: float
    ridge: float
    moments: Moments

    def to_json(self) -> dict[str, Any]:
        """As JSON, which knows no infinity and no NaN: such numbers become text."""
        values = asdict(self)
        for table in (values, values["moments"]):
            table |= {k: str(v) for k, v in table.items() if isinstance(v, float) and not math.isfinite(v)}
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> LayerReport:
        """The report that `to_json` wrote."""
        tables = [dict(values), dict(values["moments"])]
        for table in tables:
            table |= {k: float(v) for k, v in table.items() if isinstance(v, str)}
        return cls(**tables[0] | {"moments": Moments(**tables[1])})


@dataclass(frozen=True)
class Result:
    """An analysis.

    Attributes:
        request: what was asked.
        facts: the m facts; row and column i of every matrix belong to fact i.
        layers: the L layer numbers the first axes stand for.
        p, whitening_cosine, activation_cosine: (L, m, m) float64.
        reports: one a layer.
        key_token_index, key_tokens, key_token_ids: (m,) where each key was taken.
        answers: for each fact the model's top answers, (text, probability), best first.
        provenance: everything needed to get the same numbers again.
    """

    request: Request
    facts: FactSet
    layers: tuple[int, ...]
    p: np.ndarray
    whitening_cosine: np.ndarray
    activation_cosine: np.ndarray
    reports: tuple[LayerReport, ...]
    key_token_index: tuple[int, ...]
    key_tokens: tuple[str, ...]
    key_token_ids: tuple[int, ...]
    answers: tuple[tuple[tuple[str, float], ...], ...]
    provenance: dict[str, Any]

    def at(self, layer: int) -> int:
        """Position of a layer number on the first axis.

        Raises:
            RequestError: that layer was not computed.
        """
        if layer not in self.layers:
            raise RequestError(f"layer {layer} was not computed; there are {', '.join(map(str, self.layers))}")
        return self.layers.index(layer)

    @property
    def same_subject(self) -> np.ndarray:
        """(m, m): both facts are about the same subject, so their keys may be equal by causality alone."""
        return superposition.same([fact.subject for fact in self.facts.facts])

    @property
    def same_last_token(self) -> np.ndarray:
        """(m, m): both keys were taken at the same token, which alone makes them alike in early layers."""
        return superposition.same(self.key_token_ids)
