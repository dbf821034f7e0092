"""What is in the store: results as they lie there, and a list of them that reads no matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pandas as pd

from kis_core import facts as fact_sets
from kis_core.facts import Fact, FactSet, RowIssue
from kis_core.request import Request, RequestError
from kis_core.results.result import LayerReport, Result
from kis_core.store.store import Entry, Store

KIND = "superposition"  # of the keys that results are stored under
FORMAT = 3  # raise it when the meaning of a stored result changes: older entries are then computed anew


@dataclass(frozen=True, slots=True)
class Computed:
    """A result in the store, as far as it can be told without its matrices.

    Attributes:
        key: its name in the store.
        request: what was asked.
        family, parameters, layers_in_model, width, mlp_width: of the model.
        reports: one a computed layer.
        facts, facts_sha256, facts_count: the fact set.
        corpus, corpus_sha256, tokens: what C was taken over.
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
    found = []
    for key, meta in store.listed(KIND).items():
        if meta.get("format") == FORMAT:
            with suppress(KeyError, TypeError, ValueError, AttributeError, RequestError):  # written by another version
                found.append(_computed(key, meta))
    return sorted(found, key=_order)


def _order(one: Computed) -> tuple[Any, ...]:
    tokens = one.request.tokens
    return one.parameters, one.request.model, tokens is None, tokens or 0, one.key  # all of the text comes last


def _computed(key: str, meta: dict[str, Any]) -> Computed:
    origin = meta["provenance"]
    found = Computed(
        key=key,
        request=_request(origin),
        family=origin["family"],
        parameters=origin["parameters"],
        layers_in_model=origin["layers_in_model"],
        width=origin["width"],
        mlp_width=origin["mlp_width"],
        reports=tuple(map(LayerReport.from_json, meta["reports"])),
        facts=origin["facts"],
        facts_sha256=origin["facts_sha256"],
        facts_count=origin["facts_count"],
        corpus=origin["corpus"],
        corpus_sha256=origin["corpus_sha256"],
        tokens=origin["tokens_counted"],
    )
    _check(found)
    return found


def _check(table: Any) -> None:
    """Hold each field of a dataclass, and of those in it, against its type: what was imported may hold anything."""
    for name, kinds in _kinds(table.__class__).items():
        value = getattr(table, name)
        if not isinstance(value, kinds):
            raise TypeError(f"{type(table).__name__}.{name} is a {type(value).__name__}")
        for part in value if isinstance(value, tuple) else (value,):
            if is_dataclass(part):
                _check(part)


@cache
def _kinds(table: type) -> dict[str, tuple[type, ...]]:
    """What the fields of a dataclass may hold, by name; an int also stands for a float, as in JSON."""
    found = {}
    for name, hint in get_type_hints(table).items():
        parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        kinds = tuple(get_origin(part) or part for part in parts)
        found[name] = (*kinds, int) if float in kinds else kinds
    return found


def comparable(result: Result, results: Iterable[Computed]) -> list[Computed]:
    """Those that differ from a result in the model alone: same facts, same text, as much of it asked for, same dtype.

    For a `Result.subset`, the facts are those of the result it was taken from.
    """
    origin = result.provenance
    facts = origin.get("facts_whole_sha256", origin["facts_sha256"])
    mine = (facts, origin["corpus_sha256"], _manner(result.request))
    return [one for one in results if (one.facts_sha256, one.corpus_sha256, _manner(one.request)) == mine]


def _manner(request: Request) -> tuple[int | None, int | None, float | None, str]:
    """How much of the text C is taken over, and in which arithmetic."""
    return request.tokens, request.documents, request.settled, request.dtype


def fullest_of_each_model(results: Iterable[Computed]) -> list[Computed]:
    """One result a model: the one with most layers, where the store holds several of a model."""
    best: dict[str, Computed] = {}
    for one in results:
        known = best.get(one.request.model)
        if known is None or len(one.reports) > len(known.reports):
            best[one.request.model] = one
    return list(best.values())


def without_model(request: Request, store: Store, text: str | None = None) -> Result | None:
    """The fullest stored result of a request, found by what it names: for a model whose weights are not here.

    Args:
        request: what is asked for.
        store: where it may be.
        text: fingerprint of its corpus; None where the corpus is not here either, and its name has to do.

    Raises:
        FactFileError: the request names facts that are not there.
    """
    facts = fact_sets.load(request.facts).fingerprint
    like = (facts, request.model, request.revision, request.corpus, _manner(request))
    found = [
        one
        for one in computed(store)
        if (one.facts_sha256, one.request.model, one.request.revision, one.request.corpus, _manner(one.request)) == like
        and text in (None, one.corpus_sha256)
    ]
    return read(fullest_of_each_model(found)[0].key, store) if found else None


def narrowed(one: Computed, store: Store, kept: Sequence[int]) -> Computed:
    """A result as `computed` tells it, described anew for some of its facts; as it is if it is gone meanwhile."""
    whole = read(one.key, store)
    return one if whole is None else replace(one, reports=whole.subset(kept, one.facts).reports)


def kurtosis_frame(results: Iterable[Computed], *, clean: bool = False) -> pd.DataFrame:
    """Kurtosis of P by model and layer with its interval over facts (Fig. 5).

    Args:
        results: one a model.
        clean: without artefact pairs.

    Returns:
        columns `model`, `family`, `parameters`, `layer`, `kurtosis`, `low`, `high`.
    """
    rows = []
    for one in results:
        for report in one.reports:
            moments = report.clean_moments if clean else report.moments
            interval = report.clean_interval if clean else report.interval
            rows.append(
                (one.request.model, one.family, one.parameters, report.layer, moments.kurtosis, interval.low,
                 interval.high)
            )  # fmt: skip
    return pd.DataFrame(rows, columns=["model", "family", "parameters", "layer", "kurtosis", "low", "high"])


def read(key: str, store: Store) -> Result | None:
    """A stored result by its key; None if it is gone or damaged. Needs neither model nor fact file."""
    entry = store.get(key)
    return from_entry(entry, key) if entry and entry.meta.get("format") == FORMAT else None


def to_entry(result: Result) -> Entry:
    """A result as it is stored: all that `from_entry` needs, and nothing of this machine."""
    facts = result.facts
    return Entry(
        {
            "format": FORMAT,
            "layers": list(result.layers),
            "reports": [report.to_json() for report in result.reports],
            "facts": [fact.to_json() for fact in facts.facts],
            "issues": [asdict(issue) for issue in facts.issues],
            "key_token_index": list(result.key_token_index),
            "key_tokens": list(result.key_tokens),
            "key_token_ids": list(result.key_token_ids),
            "answers": [[list(answer) for answer in row] for row in result.answers],
            "known": list(result.known),
            "provenance": result.provenance,
        },
        {
            "p": result.p,
            "whitening_cosine": result.whitening_cosine,
            "activation_cosine": result.activation_cosine,
        },
    )


def from_entry(entry: Entry, key: str) -> Result:
    """The result that `to_entry` wrote, stored under that key."""
    meta, arrays = entry.meta, entry.arrays
    return Result(
        request=_request(meta["provenance"]),
        facts=FactSet(
            meta["provenance"]["facts"],
            tuple(Fact.from_json(fact) for fact in meta["facts"]),
            tuple(RowIssue(**issue) for issue in meta["issues"]),
        ),
        layers=tuple(meta["layers"]),
        p=arrays["p"],
        whitening_cosine=arrays["whitening_cosine"],
        activation_cosine=arrays["activation_cosine"],
        reports=tuple(map(LayerReport.from_json, meta["reports"])),
        key_token_index=tuple(meta["key_token_index"]),
        key_tokens=tuple(meta["key_tokens"]),
        key_token_ids=tuple(meta["key_token_ids"]),
        answers=tuple(tuple((text, share) for text, share in row) for row in meta["answers"]),
        known=tuple(meta["known"]),
        provenance=meta["provenance"],
        key=key,
    )


def _request(provenance: dict[str, Any]) -> Request:
    return Request(**provenance["request"])
