"""The result of an analysis: P and the angles of every layer, their provenance, and where each key was taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from kis_core import superposition
from kis_core.facts import FactSet
from kis_core.models.layers import editable_layers
from kis_core.request import Request, RequestError
from kis_core.results.tags import FactTags
from kis_core.store.store import key_of
from kis_core.superposition import Interval, Moments, leverage, matrix


@dataclass(frozen=True)
class LayerReport:
    """One layer: the condition of its C, and the shape of its P.

    Attributes:
        layer: its number.
        rank, condition_number, ridge: of C.
        moments, interval: of all off-diagonal entries of P; the interval is that of the kurtosis, over facts.
        clean_moments, clean_interval: the same without artefact pairs (`tags.ARTEFACTS`).
    """

    layer: int
    rank: int
    condition_number: float
    ridge: float
    moments: Moments
    interval: Interval
    clean_moments: Moments
    clean_interval: Interval

    @classmethod
    def describe(
        cls, p: np.ndarray, artefacts: np.ndarray, *, layer: int, rank: int, condition_number: float, ridge: float
    ) -> LayerReport:
        """Describe a layer's P, (m, m), whose artefact pairs are given as booleans, (m, m)."""
        clean = superposition.without(p, artefacts)
        return cls(
            layer,
            rank,
            condition_number,
            ridge,
            superposition.moments(p),
            superposition.kurtosis_interval(p),
            superposition.moments(clean),
            superposition.kurtosis_interval(clean),
        )

    def to_json(self) -> dict[str, Any]:
        """The report as JSON, in which infinities and NaN are text."""
        values = asdict(self)
        for table in (values, *(values[name] for name in NESTED)):
            table |= {k: str(v) for k, v in table.items() if isinstance(v, float) and not math.isfinite(v)}
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> LayerReport:
        """The report that `to_json` wrote."""

        def numbers(table: dict[str, Any]) -> dict[str, Any]:
            return {name: float(value) if isinstance(value, str) else value for name, value in table.items()}

        return cls(**numbers(values) | {name: kind(**numbers(values[name])) for name, kind in NESTED.items()})


NESTED: dict[str, type[Moments] | type[Interval]] = {
    "moments": Moments,
    "interval": Interval,
    "clean_moments": Moments,
    "clean_interval": Interval,
}
"""The fields of a report that are tables of their own."""
MATRICES = ("p", "whitening_cosine", "activation_cosine")
"""The fields of a result that are matrices of facts, one a layer."""
OF_LAYERS = ("leverage", "text_leverage")
"""The fields of a result that are a row of numbers a layer."""
OF_FACTS = ("key_token_index", "key_tokens", "key_token_ids", "answers", "known")
"""The fields of a result that have one item a fact."""


@dataclass(frozen=True)
class Result:
    """An analysis.

    Attributes:
        request: the request it answers.
        facts: the m facts; row and column i of every matrix belong to fact i.
        layers: the L layer numbers the first axes stand for.
        p, whitening_cosine, activation_cosine: (L, m, m) float64.
        leverage: (L, m) k_iᵀC⁻¹k_i of each fact, which row i of P is divided by.
        text_leverage: (L, len(`leverage.LEVELS`)) quantiles of the same of tokens of general text; NaN where the text
            was not at hand.
        reports: one a layer.
        key_token_index, key_tokens, key_token_ids: (m,) where each key was taken.
        answers: for each fact the model's top answers, (text, probability), best first.
        known: for each fact, whether every token of its right answer is the model's first choice.
        provenance: everything needed to get the same numbers again.
        key: its name in the store; of a `subset`, that of the result it was taken from.
    """

    request: Request
    facts: FactSet
    layers: tuple[int, ...]
    p: np.ndarray
    whitening_cosine: np.ndarray
    activation_cosine: np.ndarray
    leverage: np.ndarray
    text_leverage: np.ndarray
    reports: tuple[LayerReport, ...]
    key_token_index: tuple[int, ...]
    key_tokens: tuple[str, ...]
    key_token_ids: tuple[int, ...]
    answers: tuple[tuple[tuple[str, float], ...], ...]
    known: tuple[bool, ...]
    provenance: dict[str, Any]
    key: str

    @property
    def identity(self) -> str:
        """A name that no other result has: whatever is computed from the result and kept is kept under this name.

        It is the name in the store, which follows from all that determines the numbers; for a `subset`, it follows
        from the kept facts as well.
        """
        kept = self.provenance.get("facts_kept")
        return self.key if kept is None else key_of("subset", {"of": self.key, "kept": kept})

    def at(self, layer: int) -> int:
        """Position of a layer number on the first axis.

        Raises:
            RequestError: that layer was not computed.
        """
        if layer not in self.layers:
            raise RequestError(f"layer {layer} was not computed; there are {', '.join(map(str, self.layers))}")
        return self.layers.index(layer)

    @property
    def editable_layers(self) -> tuple[int, ...]:
        """The computed layers that can be edited."""
        editable = editable_layers(self.provenance["layers_in_model"])
        return tuple(layer for layer in self.layers if layer in editable)

    @property
    def mlp_width(self) -> int:
        """d_m, the length of a key."""
        return int(self.provenance["mlp_width"])

    @cached_property
    def same_subject(self) -> np.ndarray:
        """(m, m): both facts are about the same subject, so their keys may be equal by causality alone."""
        return matrix.same([fact.subject for fact in self.facts.facts])

    @cached_property
    def same_last_token(self) -> np.ndarray:
        """(m, m): both keys were taken at the same token, which alone makes them alike in early layers."""
        return matrix.same(self.key_token_ids)

    @cached_property
    def artefacts(self) -> np.ndarray:
        """(m, m): the prompts alone may explain the pair; see `tags.ARTEFACTS`."""
        return FactTags.of(self.facts.facts, self.key_token_ids, self.key_token_index).artefacts

    def tags(self, layer: int) -> FactTags:
        """What tags of pairs follow from at a layer; no key is weak where general text was not at hand."""
        at = self.at(layer)
        weak = leverage.weak(self.leverage[at], self.text_leverage[at])
        return FactTags.of(self.facts.facts, self.key_token_ids, self.key_token_index, weak)

    def weak_below(self, layer: int) -> float:
        """The leverage below which a key is weak at a layer; NaN where general text was not at hand."""
        return leverage.weak_below(self.text_leverage[self.at(layer)])

    def clean(self, layer: int) -> np.ndarray:
        """P of a layer with NaN at the artefact pairs, (m, m)."""
        return superposition.without(self.p[self.at(layer)], self.artefacts)

    def ranking(self, layer: int) -> np.ndarray:
        """Off-diagonal pairs (i, j) by falling |P[i, j]|, shape (m(m-1), 2); sorted once for each layer."""
        if layer not in self._rankings:
            self._rankings[layer] = matrix.strongest_pairs(self.p[self.at(layer)])
        return self._rankings[layer]

    @cached_property
    def _rankings(self) -> dict[int, np.ndarray]:
        return {}

    def subset(self, kept: Sequence[int], name: str) -> Result:
        """The result for some of the facts: C does not depend on facts, so their P is a submatrix of this one.

        Args:
            kept: numbers of the facts, in the new order.
            name: of the smaller fact set.

        Raises:
            RequestError: no fact is kept, or one that does not exist, or one twice.
        """
        if not len(kept):
            raise RequestError(f"no fact of {self.facts.name} is left")
        count = len(self.facts)
        if len(set(kept)) < len(kept) or not all(0 <= k < count for k in kept):
            raise RequestError(f"facts count from 0 to {count - 1}, each once; {list(kept)[:10]} were to be kept")
        at = np.asarray(kept)
        before = self.provenance.get("facts_kept") or range(count)
        facts = replace(self.facts, name=name, facts=tuple(self.facts.facts[k] for k in kept))
        provenance = {
            "facts": name,
            "facts_count": len(facts),
            "facts_sha256": facts.fingerprint,
            "facts_kept": [int(before[k]) for k in kept],
            "facts_whole_sha256": self.provenance.get("facts_whole_sha256", self.provenance["facts_sha256"]),
        }
        parts: dict[str, Any] = {field: getattr(self, field)[:, at[:, None], at] for field in MATRICES}
        parts["leverage"] = self.leverage[:, at]
        parts |= {field: tuple(getattr(self, field)[k] for k in kept) for field in OF_FACTS}
        smaller = replace(self, facts=facts, provenance=self.provenance | provenance, **parts)
        reports = tuple(
            LayerReport.describe(
                layer_p,
                smaller.artefacts,
                layer=report.layer,
                rank=report.rank,
                condition_number=report.condition_number,
                ridge=report.ridge,
            )
            for layer_p, report in zip(smaller.p, self.reports, strict=True)
        )
        return replace(smaller, reports=reports)
