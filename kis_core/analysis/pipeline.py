"""The whole way, and the only place that knows it: a request in, a cached result out.

facts, model -> keys;  model, corpus -> second moment C;  keys, C -> superposition P -> statistics
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np

from kis_core import __version__, progress
from kis_core.analysis import unfinished as records
from kis_core.analysis.resolve import (
    FORMAT,
    SECOND_MOMENT,
    ResolvedRequest,
    resolve,
    second_moment_key,
    text_here,
    weights_fingerprint,
)
from kis_core.analysis.second_moments import LayerSecondMoment, Looked, moments, second_moment
from kis_core.analysis.text_sample import keys_of_text
from kis_core.analysis.unfinished import UnfinishedRequest
from kis_core.errors import KisError
from kis_core.models import catalog
from kis_core.models.files import ModelFiles
from kis_core.models.holder import LoadedModels
from kis_core.models.loaded import LoadedModel
from kis_core.request import DEFAULT_TOKENS, Request, RequestError
from kis_core.results import archive
from kis_core.results.result import LayerReport, Result
from kis_core.results.tags import FactTags
from kis_core.store.store import Entry, Store
from kis_core.superposition import leverage, matrix

__all__ = [
    "DEFAULT_TOKENS",
    "SECOND_MOMENT",
    "Request",
    "RequestError",
    "ResolvedRequest",
    "Result",
    "cached",
    "chosen_layers",
    "model_of",
    "provenance",
    "resolve",
    "run",
    "second_moment",
    "second_moment_key",
    "text_here",
    "unfinished",
]

VERSIONED = ("torch", "transformers", "tokenizers", "numpy", "scipy")


def cached(resolved: ResolvedRequest, store: Store) -> Result | None:
    """The result, if it is already there; loads no model."""
    entry = store.get(resolved.key, **_sizes(resolved))
    return _result(resolved, entry) if entry else None


def unfinished(store: Store) -> list[UnfinishedRequest]:
    """What was begun and not finished; the record of what was finished meanwhile, by any process, is dropped."""
    requests = []
    for begun in records.unfinished(store):
        with suppress(KisError):  # what it names is not here, so it is not known to be finished
            if store.holds(resolve(begun.request, store, download=False).key):
                records.forget(store, begun.request)
                continue
        requests.append(begun)
    return requests


def run(
    request: Request,
    store: Store,
    *,
    device: str = "auto",
    models: LoadedModels | None = None,
    report: progress.Report = progress.silent,
    looked: Looked | None = None,
) -> Result:
    """The result of a request, from the store or computed now and stored.

    Args:
        request: what is asked for.
        store: where it is kept, and what it took.
        device: the model runs on; see `loading.load`.
        models: who lends it; by default it is loaded for this run alone.
        report: called with every batch.
        looked: called with each look at how far P still moves while C grows.

    Raises:
        ModelError, UnsupportedArchitecture, FactFileError, CorpusError, RequestError, SubjectNotFound: wrong input.
        StatisticsError: C was to come from files, and they do not fit the model.
        OutOfMemory: not a single text fits beside the model.
        NotFinite: the model's keys or answers are not numbers; seen before the text is read.
        Cancelled: `report` called it off.
    """
    report("Reading facts and text", 0, 1)
    resolved = resolve(request, store, report=report)
    report("Reading facts and text", 1, 1)
    load = loader(resolved, models or LoadedModels(), device, report)
    entry = store.get_or_compute(
        resolved.key, lambda: _compute(resolved, store, load, report, looked), report, **_sizes(resolved)
    )
    return _result(resolved, entry)


def loader(
    resolved: ResolvedRequest, models: LoadedModels, device: str, report: progress.Report
) -> Callable[[], LoadedModel]:
    """Gets the model of a request, and reports that it is loading."""

    def load() -> LoadedModel:
        report("Loading the model", 0, 1)
        loaded = models.lend(resolved.weights, lambda: resolved.files, device=device, dtype=resolved.request.dtype)
        report("Loading the model", 1, 1)
        return loaded

    return load


def model_of(result: Result, store: Store, *, device: str = "auto", models: LoadedModels | None = None) -> LoadedModel:
    """The model that a result came from, lent by `models` or else loaded for this call alone.

    Raises:
        RequestError: its weights changed since; what they give would not fit what is stored of the result.
        ModelError, UnsupportedArchitecture: it cannot be had or loaded.
    """
    request, expected = result.request, result.provenance["weights_sha256"]

    def files() -> ModelFiles:
        on_disk = catalog.locate(request.model, revision=request.revision)
        if (weights := weights_fingerprint(on_disk, store)) != expected:
            raise RequestError(
                f"The files of {request.model} changed since P was computed: their fingerprint was {expected[:12]}… "
                f"and is {weights[:12]}… now. Analyse it anew."
            )
        return on_disk

    return (models or LoadedModels()).lend(expected, files, device=device, dtype=request.dtype)


def _sizes(resolved: ResolvedRequest) -> dict[str, int]:
    """What is known of a result's matrices before they are there."""
    layers = resolved.request.layers
    return {"m": len(resolved.facts)} | ({} if layers is None else {"L": len(layers)})


def _compute(
    resolved: ResolvedRequest,
    store: Store,
    load: Callable[[], LoadedModel],
    report: progress.Report,
    looked: Looked | None,
) -> Entry:
    loaded = load()
    from kis_core.keys import fact_keys, tokenize_prompts
    from kis_core.scoring import answers

    request, facts = resolved.request, resolved.facts.facts
    layers = chosen_layers(request, loaded.architecture.layers)
    prompts = tokenize_prompts(loaded.tokenizer, facts, context=loaded.context)
    keys = dict(zip(layers, fact_keys(loaded, prompts, layers=layers, report=report), strict=True))
    top = answers.top_answers(loaded, prompts, report=report)
    known = answers.knows(loaded, facts, checked=True)  # from here on the model's numbers are numbers
    token_ids = tuple(prompt.tokens[prompt.key_index] for prompt in prompts)
    places = tuple(prompt.key_index for prompt in prompts)
    artefacts = FactTags.of(facts, token_ids, places).artefacts
    text = keys_of_text(resolved, loaded, layers)

    computed: dict[int, _Layer] = {}
    last = None
    for last in moments(resolved, loaded, layers, store, report, keys=keys, looked=looked):
        if not last.later:  # no pass is to come: only now does whitening count as the stage
            report("Whitening", len(computed), len(layers))
        of_text = None if text is None else text[layers.index(last.layer)]
        computed[last.layer] = _layer(last, keys[last.layer], of_text, artefacts)
    if last is None:
        raise RequestError("no layer was asked for")
    report("Whitening", len(layers), len(layers))
    result = Result(
        request=request,
        facts=resolved.facts,
        layers=tuple(layers),
        p=np.stack([computed[layer].p for layer in layers]),
        whitening_cosine=np.stack([computed[layer].whitening for layer in layers]),
        activation_cosine=np.stack([computed[layer].activation for layer in layers]),
        leverage=np.stack([computed[layer].leverage for layer in layers]),
        text_leverage=np.stack([computed[layer].text_leverage for layer in layers]),
        reports=tuple(computed[layer].report for layer in layers),
        key_token_index=places,
        key_tokens=tuple(prompt.key_token for prompt in prompts),
        key_token_ids=token_ids,
        answers=tuple(tuple((answer.text, answer.probability) for answer in row) for row in top),
        known=tuple(known),
        provenance=provenance(resolved, loaded, last),
        key=resolved.key,
    )
    return archive.to_entry(result)


class _Layer(NamedTuple):
    p: np.ndarray
    whitening: np.ndarray
    activation: np.ndarray
    leverage: np.ndarray
    text_leverage: np.ndarray
    report: LayerReport


def _layer(moment: LayerSecondMoment, keys: np.ndarray, text: np.ndarray | None, artefacts: np.ndarray) -> _Layer:
    from kis_core.covariance.whitener import Whitener

    whitener = Whitener.fit(moment.matrix)
    whitened = whitener.whiten(keys)
    p = matrix.superposition(whitened)
    report = LayerReport.describe(
        p,
        artefacts,
        layer=moment.layer,
        rank=whitener.rank,
        condition_number=whitener.condition_number,
        ridge=whitener.ridge,
    )
    of_text = leverage.quantiles(matrix.leverage(whitener.whiten(keys[:0] if text is None else text)))
    return _Layer(p, matrix.cosines(whitened), matrix.cosines(keys), matrix.leverage(whitened), of_text, report)


def chosen_layers(request: Request, count: int) -> list[int]:
    """The layers of a request, of a model that has so many.

    Raises:
        RequestError: it asks for one that the model has not.
    """
    if request.layers is None:
        return list(range(count))
    if request.layers[-1] >= count:
        raise RequestError(f"the model has layers 0 to {count - 1}; layer {request.layers[-1]} was asked for")
    return list(request.layers)


def provenance(resolved: ResolvedRequest, loaded: LoadedModel, moment: LayerSecondMoment) -> dict[str, Any]:
    """Everything needed to get the same numbers again, but for the arrays; `moment` is C of any of the layers."""
    request = resolved.request
    entry = catalog.find(request.model)
    width, mlp_width = loaded.architecture.widths
    return {
        "request": asdict(request),
        "model": request.model,
        "revision": request.revision or resolved.files.commit,
        "weights_sha256": resolved.weights,
        "quantisation": resolved.files.quantisation,
        "architecture": loaded.architecture.name,
        "family": _family(entry, loaded.architecture.name),
        "parameters": resolved.files.parameters(),
        "width": width,
        "mlp_width": mlp_width,
        "layers_in_model": loaded.architecture.layers,
        "facts": resolved.facts.name,
        "facts_count": len(resolved.facts),
        "facts_sha256": resolved.facts.fingerprint,
        "corpus": resolved.corpus.name,
        "corpus_sha256": resolved.text,
        "tokens_requested": resolved.second_moment_key["tokens"],
        "documents_requested": resolved.second_moment_key["documents"],
        "moment_dtype": resolved.second_moment_key["dtype"],
        "tokens_counted": moment.tokens,
        "documents_read": moment.reading.get("documents"),
        "documents_sha256_sum": moment.reading.get("sha256_sum"),
        "padding": moment.reading.get("padding"),
        "settled": moment.reading.get("settled", False),
        "looks": moment.reading.get("looks", []),
        "statistics": moment.reading.get("statistics"),
        "dtype": request.dtype,
        "device": str(loaded.device),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONED}
        | {"python": platform.python_version(), "kis_core": __version__, "store_format": f"{FORMAT}.{archive.FORMAT}"},
    }


def _family(entry: catalog.ModelEntry | None, architecture: str) -> str:
    """What a model is coloured by: the demo family has two architectures, which are families of their own."""
    if entry is None:
        return architecture
    return f"Demo {architecture}" if entry.family == catalog.DEMO else entry.family


def _result(resolved: ResolvedRequest, entry: Entry) -> Result:
    """The stored result under the names of this request: they are no part of the key, so it may carry earlier ones."""
    stored, request, facts = archive.from_entry(entry, resolved.key), resolved.request, resolved.facts
    names = {"request": asdict(request), "facts": facts.name, "corpus": resolved.corpus.name}
    return replace(stored, request=request, facts=facts, provenance=stored.provenance | names)
