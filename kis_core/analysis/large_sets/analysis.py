"""Many facts at one layer: their whitened keys and one sweep over P, computed once and kept; P is never there whole.

What `pipeline` is to an analysis of all layers, this is to thousands of facts: a request in, a stored answer out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from kis_core import facts as fact_sets
from kis_core import progress
from kis_core.analysis import pipeline
from kis_core.analysis.large_sets import sweep as sweeps
from kis_core.analysis.large_sets import tally
from kis_core.analysis.large_sets.sweep import EntrySpread, Reach, Sweep
from kis_core.analysis.pipeline import ResolvedRequest
from kis_core.analysis.second_moments import moments
from kis_core.analysis.text_sample import keys_of_text
from kis_core.facts import FactSet
from kis_core.models.files import ModelError
from kis_core.models.holder import LoadedModels
from kis_core.request import Request, RequestError
from kis_core.results.result import LayerReport
from kis_core.results.tags import FactTags
from kis_core.store.store import Entry, Store, key_of
from kis_core.superposition import Interval, Moments, leverage, matrix

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel

KIND, KEYS, KNOWN = "sweep", "whitened-keys", "known-facts"  # of the keys they are stored under
FORMAT = 3  # raise it when the meaning of what is stored changes: older entries are then computed anew
WHITENED_AT_ONCE = 2048  # keys, in float64: 270 MB of the widest layer in use (16,384)
ANSWERED_AT_ONCE = 512  # facts between two reports
ANSWERING = "Which facts the model answers"
STAGES = {
    "Reading facts and text": 0.01,
    "Loading the model": 0.09,
    ANSWERING: 0.15,
    "Keys of the facts": 0.15,
    "Second moment of the keys": 0.40,
    "Whitening": 0.05,
    sweeps.STAGE: 0.15,
}
"""Stages in order, with their rough share of the time: for the progress bar only."""
NO_INTERVAL = Interval(float("nan"), float("nan"))  # of the kurtosis: its bootstrap would need P whole
NAMED = ("model", "revision", "corpus", "tokens", "documents", "settled", "dtype")  # what tells two requests apart


class NothingKnown(RequestError):
    """The model answers none of the facts, and only those it answers were asked for."""

    def __init__(self, model: str, count: int) -> None:
        super().__init__(
            f"{model} answers none of these {count:,} facts, so there is nothing to show. Switch off “Only facts the "
            f"model answers” on the left, or choose other facts."
        )


@dataclass(frozen=True, eq=False)
class LargeSet:
    """What is known of many facts at one layer.

    Attributes:
        request: what was asked.
        facts: the m facts; those the model answers, if only these were asked for.
        layer: its number.
        sweep: over their P.
        whitened: (m, d_m) float32, the whitened keys. Keys come from float32 activations, so this rounds them no more
            than they are already (6e-8 of each number), in half the memory and disk.
        key_token_ids, key_token_index: (m,) the token each key was taken at, and its position in the prompt.
        text_leverage: as `Result.text_leverage` of the layer.
        report: the condition of C and the shape of P; its intervals are empty.
        provenance: everything needed to get the same numbers again.
    """

    request: Request
    facts: FactSet
    layer: int
    sweep: Sweep
    whitened: np.ndarray
    key_token_ids: np.ndarray
    key_token_index: np.ndarray
    text_leverage: np.ndarray
    report: LayerReport
    provenance: dict[str, Any]

    @property
    def layers(self) -> tuple[int, ...]:
        """The one layer, as a `Result` tells its layers."""
        return (self.layer,)

    @property
    def reports(self) -> tuple[LayerReport, ...]:
        """The one report."""
        return (self.report,)

    def at(self, layer: int) -> int:
        """Position of the layer in `layers`.

        Raises:
            RequestError: it is another one.
        """
        if layer != self.layer:
            raise RequestError(f"layer {layer} was not computed; there is {self.layer}")
        return 0

    @property
    def mlp_width(self) -> int:
        """d_m, the length of a key."""
        return int(self.whitened.shape[1])

    @cached_property
    def tags(self) -> FactTags:
        """What tags of pairs follow from; no key is weak where general text was not at hand."""
        weak = leverage.weak(self.sweep.squares, self.text_leverage)
        return FactTags.of(self.facts.facts, self.key_token_ids, self.key_token_index, weak)

    def window(self, rows: Sequence[int] | np.ndarray, columns: Sequence[int] | np.ndarray) -> np.ndarray:
        """P of these edited facts and these that suffer, (rows, columns) float64."""
        return sweeps.window(self.whitened, rows, columns)

    def row(self, i: int) -> np.ndarray:
        """P[i, :], (m,): what an edit of i does to every fact; NaN at zero keys."""
        return matrix.from_products(self._inner(i), self.sweep.squares[i])

    def column(self, j: int) -> np.ndarray:
        """P[:, j], (m,): what j gets of an edit of every fact; NaN at zero keys."""
        return matrix.from_products(self._inner(j), self.sweep.squares)

    def _inner(self, fact: int) -> np.ndarray:
        products = self.whitened @ self.whitened[fact]  # in float32: to find facts by, not to report
        return np.where(self.sweep.squares > 0, products, np.nan)


def key(resolved: ResolvedRequest, layer: int, *, known_only: bool = False) -> str:
    """Name of a sweep in the store."""
    determined = {"model": resolved.request.model, "revision": resolved.request.revision, "known": known_only}
    return key_of(KIND, _determines_keys(resolved, layer) | determined)


def _determines_keys(resolved: ResolvedRequest, layer: int) -> dict[str, Any]:
    facts = {"facts": resolved.facts.fingerprint, "many_format": FORMAT, "keys_dtype": resolved.request.dtype}
    return resolved.second_moment_key | facts | {"layer": layer}


def run(
    request: Request,
    layer: int,
    store: Store,
    *,
    known_only: bool = False,
    device: str = "auto",
    models: LoadedModels | None = None,
    report: progress.Report = progress.silent,
) -> LargeSet:
    """The sweep of a request at a layer, from the store or computed now and stored; `request.layers` is not looked at.

    Args:
        request: model, facts and text.
        layer: its number.
        store: where everything is kept: C, the whitened keys and the sweep, each for itself.
        known_only: of the facts whose answer is the model's first choice, token by token.
        device: the model runs on.
        models: who lends it; by default it is loaded for this run alone.
        report: called with every batch and block.

    Raises:
        ModelError, UnsupportedArchitecture, FactFileError, CorpusError, SubjectNotFound, NotFinite: as `pipeline.run`.
        RequestError: there is no such layer.
        NothingKnown: the model answers none of the facts.
        Cancelled: `report` called it off.
    """
    report("Reading facts and text", 0, 1)
    resolved = pipeline.resolve(request, store)
    report("Reading facts and text", 1, 1)
    load = pipeline.loader(resolved, models or LoadedModels(), device, report)
    known = _known(resolved, store, load, report) if known_only else None  # nothing known: nothing to read text for
    of_keys = key_of(KEYS, _determines_keys(resolved, layer))
    count = len(resolved.facts)
    keys = store.get_or_compute(of_keys, lambda: _whitened(resolved, layer, store, load(), report), report, m=count)
    name = key(resolved, layer, known_only=known_only)
    kept = count if known is None else int(known.sum())
    swept = store.get_or_compute(
        name, lambda: _swept(resolved, of_keys, keys, known, report), report, m=kept, facts=count
    )
    return _from_entries(resolved.request, resolved.facts, swept, keys)


def find(request: Request, layer: int, store: Store, *, known_only: bool = False) -> LargeSet | None:
    """The stored sweep of a request, or None; loads no model, and needs none where what was asked is stored.

    Raises:
        ModelError: the model is not here, and no sweep of it is stored.
        FactFileError, CorpusError: something else that is named is not there or not usable.
    """
    try:
        resolved = pipeline.resolve(request, store, download=False)
    except ModelError:
        if large := _without_model(request, layer, store, known_only):
            return large
        raise
    return _read(request, resolved.facts, key(resolved, layer, known_only=known_only), store)


def _without_model(request: Request, layer: int, store: Store, known_only: bool) -> LargeSet | None:
    facts = fact_sets.load(request.facts)
    wanted = _asked(request, layer, facts, known_only)
    text = pipeline.text_here(request.corpus, store)
    for name, meta in store.listed(KIND).items():
        if (meta.get("format"), meta.get("asked")) != (FORMAT, wanted):
            continue
        large = _read(request, facts, name, store)
        if large and text in (None, large.provenance["corpus_sha256"]):
            return large
    return None


def _asked(request: Request, layer: int, facts: FactSet, known_only: bool) -> dict[str, Any]:
    named = {name: getattr(request, name) for name in NAMED}
    return named | {"layer": layer, "facts_sha256": facts.fingerprint, "known_only": known_only}


def _read(request: Request, facts: FactSet, name: str, store: Store) -> LargeSet | None:
    swept = store.get(name, facts=len(facts))
    keys = store.get(swept.meta["keys"], m=len(facts)) if swept else None
    return _from_entries(request, facts, swept, keys) if swept and keys else None


def _whitened(
    resolved: ResolvedRequest, layer: int, store: Store, loaded: LoadedModel, report: progress.Report
) -> Entry:
    from kis_core.covariance.whitener import Whitener
    from kis_core.keys import fact_keys, tokenize_prompts

    if layer >= loaded.architecture.layers:
        raise RequestError(f"the model has layers 0 to {loaded.architecture.layers - 1}; layer {layer} was asked for")
    prompts = tokenize_prompts(loaded.tokenizer, resolved.facts.facts, context=loaded.context)
    keys = fact_keys(loaded, prompts, layers=[layer], report=report)[0]
    text = keys_of_text(resolved, loaded, [layer])
    [moment] = moments(resolved, loaded, [layer], store, report, keys={layer: keys})
    report("Whitening", 0, len(keys))
    whitener = Whitener.fit(moment.matrix)
    of_text = matrix.leverage(whitener.whiten(keys[:0] if text is None else text[0]))
    for begin in range(0, len(keys), WHITENED_AT_ONCE):
        at = slice(begin, begin + WHITENED_AT_ONCE)
        keys[at] = whitener.whiten(keys[at])
        report("Whitening", min(at.stop, len(keys)), len(keys))
    shape = tally.NOTHING, NO_INTERVAL  # until the sweep
    condition = LayerReport(layer, whitener.rank, whitener.condition_number, whitener.ridge, *shape, *shape)
    places = [prompt.key_index for prompt in prompts]
    ids = np.array([prompt.tokens[place] for prompt, place in zip(prompts, places, strict=True)], dtype=np.int64)
    provenance = pipeline.provenance(resolved, loaded, moment)
    arrays = {"whitened": keys, "token_ids": ids, "token_index": np.array(places, dtype=np.int64)}
    arrays["text_leverage"] = leverage.quantiles(of_text)
    return Entry({"condition": condition.to_json(), "provenance": provenance}, arrays)


def _known(
    resolved: ResolvedRequest, store: Store, load: Callable[[], LoadedModel], report: progress.Report
) -> np.ndarray:
    """Which facts the model answers, (m,) booleans."""
    facts = resolved.facts.facts

    def compute() -> Entry:
        from kis_core.scoring.answers import knows

        known: list[bool] = []
        loaded = load()
        for begin in range(0, len(facts), ANSWERED_AT_ONCE):
            report(ANSWERING, begin, len(facts))
            known += knows(loaded, facts[begin : begin + ANSWERED_AT_ONCE], checked=True)
        return Entry({}, {"known": np.array(known)})

    determined = {"weights": resolved.weights, "dtype": resolved.request.dtype}
    name = key_of(KNOWN, determined | {"facts": resolved.facts.fingerprint, "format": FORMAT})
    return store.get_or_compute(name, compute, report, m=len(facts)).arrays["known"]


def _swept(
    resolved: ResolvedRequest, of_keys: str, keys: Entry, known: np.ndarray | None, report: progress.Report
) -> Entry:
    whitened = keys.arrays["whitened"]
    tags = FactTags.of(resolved.facts.facts, keys.arrays["token_ids"], keys.arrays["token_index"])
    kept = np.arange(len(whitened)) if known is None else np.flatnonzero(known)
    if not len(kept):
        raise NothingKnown(resolved.request.model, len(whitened))
    if known is not None:
        whitened = whitened[kept]
    labels = [tags.subjects[kept], tags.token_ids[kept]]
    sweep = sweeps.sweep(whitened, labels, rows=tags.first[kept], report=report)
    condition = LayerReport.from_json(keys.meta["condition"])
    described = replace(condition, moments=sweep.every.moments, clean_moments=sweep.clean.moments)
    meta = {
        "format": FORMAT,
        "asked": _asked(resolved.request, condition.layer, resolved.facts, known is not None),
        "keys": of_keys,
        "report": described.to_json(),
    }
    return Entry(meta, arrays(sweep) | {"kept": kept})


SPREAD, WAYS = ("counts", "beyond", "pairs", "values"), ("leaks", "suffers")  # what there is of a `Spread`


def arrays(sweep: Sweep) -> dict[str, np.ndarray]:
    """Everything of a sweep but the moments: `squares`, and of `every` and `clean` the parts, such as `clean.pairs`."""
    parts = {"squares": sweep.squares, "edges": tally.EDGES, "thresholds": np.array(tally.THRESHOLDS)}
    for side, spread in (("every", sweep.every), ("clean", sweep.clean)):
        parts |= {f"{side}.{name}": getattr(spread, name) for name in SPREAD}
        for way in WAYS:
            reach = getattr(spread, way)
            parts |= {f"{side}.{way}.{field.name}": getattr(reach, field.name) for field in fields(Reach)}
    return parts


def _from_entries(request: Request, facts: FactSet, swept: Entry, keys: Entry) -> LargeSet:
    stored, kept = swept.arrays, swept.arrays["kept"]
    report = LayerReport.from_json(swept.meta["report"])
    sweep = Sweep(
        stored["squares"], _spread(stored, "every", report.moments), _spread(stored, "clean", report.clean_moments)
    )
    provenance = keys.meta["provenance"] | {"request": asdict(request), "facts": facts.name}
    whitened, ids, places = (keys.arrays[name] for name in ("whitened", "token_ids", "token_index"))
    if len(kept) < len(facts):
        name = f"{facts.name}, the {len(kept)} of {len(facts)} the model answers"
        facts = replace(facts, name=name, facts=tuple(facts.facts[k] for k in kept))
        whitened, ids, places = whitened[kept], ids[kept], places[kept]
        provenance |= {"facts": name, "facts_count": len(facts), "facts_sha256": facts.fingerprint}
    return LargeSet(
        request=request,
        facts=facts,
        layer=report.layer,
        sweep=sweep,
        whitened=whitened,
        key_token_ids=ids,
        key_token_index=places,
        text_leverage=keys.arrays["text_leverage"],
        report=report,
        provenance=provenance,
    )


def _spread(stored: Mapping[str, np.ndarray], side: str, moments: Moments) -> EntrySpread:
    parts: dict[str, Any] = {name: stored[f"{side}.{name}"] for name in SPREAD}
    for way in WAYS:
        parts[way] = Reach(**{field.name: stored[f"{side}.{way}.{field.name}"] for field in fields(Reach)})
    return EntrySpread(moments, **parts)
