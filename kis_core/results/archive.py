"""Results in the store: a list of them that reads no matrix, and how one is written and read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from kis_core import facts as fact_sets
from kis_core.facts import Fact, FactSet, RowIssue
from kis_core.read_only import last_part
from kis_core.request import Request
from kis_core.results.result import MATRICES, OF_FACTS, OF_LAYERS, LayerReport, Result
from kis_core.store.store import Entry, Store

KIND = "superposition"  # of the keys that results are stored under
SHIPPED = "shipped"  # in the provenance of a result that came with the program: when and where it was computed
ALIAS = 8  # digits of a fingerprint that tell models apart whose folders have the same name
FORMAT = 4  # raise it when the meaning of a stored result changes: older entries are then computed anew


@dataclass(frozen=True, slots=True)
class Computed:
    """What is known of a result in the store without its matrices.

    Attributes:
        key: its name in the store.
        request: the request it answers.
        family, parameters, layers_in_model, width, mlp_width: of the model.
        reports: one a computed layer.
        facts, facts_sha256, facts_count: of the fact set.
        corpus, corpus_sha256, tokens: of the text that C was taken over.
    """

    key: str
    request: Request
    family: str
    parameters: int
    layers_in_model: int
    width: int
    mlp_width: int
    reports: tuple[LayerReport, ...]
    facts: str
    facts_sha256: str
    facts_count: int
    corpus: str
    corpus_sha256: str
    tokens: int


def computed(store: Store) -> list[Computed]:
    """Every result in the store that this version can read, smallest model first."""
    return sorted((_computed(key, meta) for key, meta in store.listed(KIND).items()), key=_order)


def _order(result: Computed) -> tuple[Any, ...]:
    tokens = result.request.tokens  # None stands for all of the text, which comes last
    return result.parameters, result.request.model, tokens is None, tokens or 0, result.key


def _computed(key: str, meta: dict[str, Any]) -> Computed:
    origin = meta["provenance"]
    named = {
        "key": key,
        "request": _request(origin),
        "reports": tuple(map(LayerReport.from_json, meta["reports"])),
        "tokens": origin["tokens_counted"],
    }
    return Computed(
        **named, **{field.name: origin[field.name] for field in fields(Computed) if field.name not in named}
    )


def comparable(result: Result, results: Iterable[Computed]) -> list[Computed]:
    """The results that differ from this one in the model alone: same facts, same amount of the same text, same dtype.

    For a `Result.subset`, the facts are those of the result it was taken from.
    """
    origin = result.provenance
    facts = origin.get("facts_whole_sha256", origin["facts_sha256"])
    wanted = (facts, origin["corpus_sha256"], _c_settings(result.request))
    return [
        other for other in results if (other.facts_sha256, other.corpus_sha256, _c_settings(other.request)) == wanted
    ]


def _c_settings(request: Request) -> tuple[int | None, int | None, float | None, str]:
    """The amount of text that C is taken over, and the dtype."""
    return request.tokens, request.documents, request.settled, request.dtype


def fullest_of_each_model(results: Iterable[Computed]) -> list[Computed]:
    """One result of each model: the one with most layers, where the store holds several of a model."""
    best: dict[str, Computed] = {}
    for result in results:
        known = best.setdefault(result.request.model, result)
        if len(result.reports) > len(known.reports):
            best[result.request.model] = result
    return list(best.values())


def at_layer(
    results: Iterable[Computed], layer: int, store: Store, *, kept: Sequence[int] | None = None, clean: bool = False
) -> list[tuple[Computed, np.ndarray]]:
    """P of several results at one layer, (m, m) each; those without that layer, or gone meanwhile, are left out.

    Args:
        results: over the same facts.
        layer: its number.
        store: where they are.
        kept: numbers of the facts to keep; all by default.
        clean: with NaN at artefact pairs.
    """
    matrices = []
    for computed in results:
        result = read(computed.key, store)
        if result is not None and layer in result.layers:
            p = result.clean(layer) if clean else result.p[result.at(layer)]
            matrices.append((computed, p if kept is None else p[np.ix_(kept, kept)]))
    return matrices


def without_model(request: Request, store: Store, text: str | None = None) -> Result | None:
    """The stored result of a request with most layers, found by names: for a model whose weights are not here.

    Args:
        request: the request.
        store: where its result may be.
        text: fingerprint of its corpus; None to go by its name, as the corpus is not here either.

    Raises:
        FactFileError: the request names facts that do not exist.
    """
    facts = fact_sets.load(request.facts).fingerprint
    results = [
        result
        for result in computed(store)
        if result.facts_sha256 == facts
        and _names(result.request) == _names(request)
        and text in (None, result.corpus_sha256)
    ]
    return read(fullest_of_each_model(results)[0].key, store) if results else None


def _names(request: Request) -> tuple[Any, ...]:
    return request.model, request.revision, request.corpus, _c_settings(request)


def narrowed(result: Computed, store: Store, kept: Sequence[int]) -> Computed:
    """The description of a result for some of its facts; unchanged if the result is gone meanwhile."""
    whole = read(result.key, store)
    return result if whole is None else replace(result, reports=whole.subset(kept, result.facts).reports)


def kurtosis_frame(results: Iterable[Computed], *, clean: bool = False) -> pd.DataFrame:
    """Kurtosis of P by model and layer with its interval over facts (Fig. 5).

    Args:
        results: one of each model.
        clean: without artefact pairs.

    Returns:
        columns `model`, `family`, `parameters`, `layer`, `kurtosis`, `low`, `high`.
    """
    rows = []
    for result in results:
        for report in result.reports:
            kurtosis = (report.clean_moments if clean else report.moments).kurtosis
            interval = report.clean_interval if clean else report.interval
            model = (result.request.model, result.family, result.parameters)
            rows.append((*model, report.layer, kurtosis, interval.low, interval.high))
    return pd.DataFrame(rows, columns=["model", "family", "parameters", "layer", "kurtosis", "low", "high"])


def read(key: str, store: Store) -> Result | None:
    """A stored result by its key; None if it is gone or damaged. Needs neither model nor fact file."""
    entry = store.get(key)
    return from_entry(entry, key) if entry and entry.meta.get("format") == FORMAT else None


def to_entry(result: Result) -> Entry:
    """A result as it is stored: all that `from_entry` needs, and nothing about this machine."""
    facts = result.facts
    return Entry(
        {
            "format": FORMAT,
            "layers": list(result.layers),
            "reports": [report.to_json() for report in result.reports],
            "facts": [fact.to_json() for fact in facts.facts],
            "issues": [asdict(issue) for issue in facts.issues],
            **{field: list(getattr(result, field)) for field in OF_FACTS},
            "answers": [[list(answer) for answer in row] for row in result.answers],
            "provenance": result.provenance,
        },
        {field: getattr(result, field) for field in (*MATRICES, *OF_LAYERS)},
    )


def from_entry(entry: Entry, key: str) -> Result:
    """The result that `to_entry` wrote, stored under that key."""
    meta = entry.meta
    parts: dict[str, Any] = {field: entry.arrays[field] for field in (*MATRICES, *OF_LAYERS)}
    parts |= {field: tuple(meta[field]) for field in OF_FACTS}
    parts["answers"] = tuple(tuple((text, share) for text, share in row) for row in meta["answers"])
    source = meta["provenance"] | ({SHIPPED: entry.shipped} if entry.shipped else {})
    return Result(
        request=_request(source),
        facts=FactSet(
            source["facts"],
            tuple(Fact.from_json(fact) for fact in meta["facts"]),
            tuple(RowIssue(**issue) for issue in meta["issues"]),
        ),
        layers=tuple(meta["layers"]),
        reports=tuple(map(LayerReport.from_json, meta["reports"])),
        provenance=source,
        key=key,
        **parts,
    )


def _request(provenance: dict[str, Any]) -> Request:
    """The request of a stored result; in read-only mode it names no path of this machine.

    A model known by its path then goes by the last part of that and the first digits of its weights' fingerprint.
    """
    request = Request(**provenance["request"])
    model, corpus = last_part(request.model), last_part(request.corpus)
    if model != request.model:
        model = f"{model} ({provenance['weights_sha256'][:ALIAS]})"
    return replace(request, model=model, corpus=corpus)
