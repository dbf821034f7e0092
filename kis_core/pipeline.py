"""The whole way, and the only place that knows it: a request in, a cached result out.

facts, model -> keys;  model, corpus -> second moment C;  keys, C -> superposition P -> statistics
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from kis_core import archive, corpora, progress, superposition
from kis_core import facts as fact_sets
from kis_core.corpora import Corpus
from kis_core.facts import FactSet
from kis_core.models import catalog, loading
from kis_core.models.files import fingerprint, parameters
from kis_core.request import DEFAULT_TOKENS, Request, RequestError
from kis_core.result import LayerReport, Result
from kis_core.store import Entry, Store, key_of

__all__ = ["DEFAULT_TOKENS", "Ingredients", "Request", "RequestError", "Result", "cached", "resolve", "run"]

FORMAT = 1  # raise it when the meaning of a stored C changes: it and the results of it are then computed anew
SECOND_MOMENT = "second-moment"  # kind of the keys that C is stored under
VERSIONED = ("torch", "transformers", "tokenizers", "numpy", "scipy")


@dataclass(frozen=True, slots=True)
class Ingredients:
    """A request with everything it names found and fingerprinted; no model is loaded yet."""

    request: Request
    folder: Path
    weights: str
    facts: FactSet
    corpus: Corpus

    @property
    def second_moment_key(self) -> dict[str, Any]:
        """What determines C of a layer, but for the layer."""
        return _second_moment_key(self.weights, self.corpus.fingerprint, self.request.tokens, self.request.dtype)

    @property
    def key(self) -> str:
        """Name of the result in the store: the model as it was asked for, and the content of every ingredient."""
        ingredients = self.second_moment_key | {
            "result_format": archive.FORMAT,
            "model": self.request.model,
            "revision": self.request.revision,
            "facts": self.facts.fingerprint,
            "layers": self.request.layers,
            "seed": self.request.seed,
        }
        return key_of(archive.KIND, ingredients)


def resolve(request: Request, store: Store) -> Ingredients:
    """Find and fingerprint what a request names.

    Raises:
        ModelError, FactFileError, CorpusError: something named is not there or not usable.
    """
    folder = catalog.locate(request.model, revision=request.revision)
    return Ingredients(
        request, folder, _weights_fingerprint(folder, store), fact_sets.load(request.facts), _corpus(request.corpus)
    )


@cache
def _builtin_corpus() -> Corpus:
    return corpora.builtin()


def _corpus(source: str) -> Corpus:
    return _builtin_corpus() if source == corpora.BUILTIN_NAME else corpora.load(source)


def _weights_fingerprint(folder: Path, store: Store) -> str:
    """The folder's fingerprint, read from disk only when a file's size or time of change is new."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    seen = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    key = key_of("fingerprint", {"folder": str(folder), "files": seen})
    entry = store.get_or_compute(key, lambda: Entry({"sha256": fingerprint(folder)}, {}))
    return str(entry.meta["sha256"])


def cached(ingredients: Ingredients, store: Store) -> Result | None:
    """The result, if it is already there; loads no model."""
    entry = store.get(ingredients.key)
    return _result(ingredients, entry) if entry else None


def run(
    request: Request,
    store: Store,
    *,
    device: str = "auto",
    report: progress.Report = progress.silent,
) -> Result:
    """The result of a request, from the store or computed now and stored.

    Raises:
        ModelError, UnsupportedArchitecture, FactFileError, CorpusError, RequestError, SubjectNotFound: wrong input.
        NotFinite: the model's activations are not numbers.
        Cancelled: `report` called it off.
    """
    report("Reading facts and text", 0, 1)
    ingredients = resolve(request, store)
    report("Reading facts and text", 1, 1)
    entry = store.get_or_compute(ingredients.key, lambda: _compute(ingredients, store, device, report), report)
    return _result(ingredients, entry)


def _compute(ingredients: Ingredients, store: Store, device: str, report: progress.Report) -> Entry:
    report("Loading the model", 0, 1)
    from kis_core import answers
    from kis_core.covariance import Whitener
    from kis_core.keys import fact_keys, tokenize_prompts

    request, facts = ingredients.request, ingredients.facts.facts
    loaded = loading.load(ingredients.folder, device=device)
    report("Loading the model", 1, 1)
    layers = _chosen_layers(request, loaded.architecture.layers)
    prompts = tokenize_prompts(loaded.tokenizer, facts, context=loaded.context)
    moments = _second_moments(ingredients, loaded, layers, store, report)
    keys = fact_keys(loaded, prompts, report=report)
    top = answers.top_answers(loaded, prompts, report=report)

    known = answers.knows(loaded, facts)
    token_ids = tuple(prompt.tokens[prompt.key_index] for prompt in prompts)
    artefacts = superposition.same(token_ids) | superposition.same([fact.subject for fact in facts])

    p, whitening, activation, reports = [], [], [], []
    for done, (layer, (matrix, _)) in enumerate(zip(layers, moments, strict=True)):
        report("Whitening", done, len(layers))
        whitener = Whitener.fit(matrix)
        whitened = whitener.whiten(keys[layer])
        p.append(superposition.superposition(whitened))
        whitening.append(superposition.cosines(whitened))
        activation.append(superposition.cosines(keys[layer]))
        reports.append(
            LayerReport.describe(
                p[-1],
                artefacts,
                layer=layer,
                rank=whitener.rank,
                condition_number=whitener.condition_number,
                ridge=whitener.ridge,
            )
        )
    report("Whitening", len(layers), len(layers))
    result = Result(
        request=request,
        facts=ingredients.facts,
        layers=tuple(layers),
        p=np.stack(p),
        whitening_cosine=np.stack(whitening),
        activation_cosine=np.stack(activation),
        reports=tuple(reports),
        key_token_index=tuple(prompt.key_index for prompt in prompts),
        key_tokens=tuple(prompt.key_token for prompt in prompts),
        key_token_ids=token_ids,
        answers=tuple(tuple((answer.text, answer.probability) for answer in row) for row in top),
        known=tuple(known),
        provenance=_provenance(ingredients, loaded, moments[0][1]),
    )
    return archive.to_entry(result)


def second_moment(
    result: Result,
    layer: int,
    store: Store,
    load: Callable[[], loading.LoadedModel],
    report: progress.Report = progress.silent,
) -> np.ndarray:
    """C of a result's layer, (d_m, d_m): the stored one, which needs no model; computed anew if it was deleted.

    Raises:
        ModelError, FactFileError, CorpusError: it is gone, and so is what it came from.
        RequestError: it is gone, and what it came from has changed.
    """
    if entry := store.get(second_moment_key(result, layer)):
        return entry.arrays["matrix"]
    ingredients, source = resolve(result.request, store), result.provenance
    found = (ingredients.weights, ingredients.corpus.fingerprint)
    if found != (source["weights_sha256"], source["corpus_sha256"]):
        what = "weights" if found[0] != source["weights_sha256"] else "text"
        raise RequestError(
            f"C of layer {layer} is no longer stored, and the {what} it was taken from changed since; analyse anew"
        )
    return _second_moments(ingredients, load(), [layer], store, report)[0][0]


def second_moment_key(result: Result, layer: int) -> str:
    """Name of C of a result's layer in the store."""
    source = result.provenance
    ingredients = _second_moment_key(
        source["weights_sha256"], source["corpus_sha256"], source["tokens_requested"], source["dtype"]
    )
    return key_of(SECOND_MOMENT, ingredients | {"layer": layer})


def _second_moment_key(weights: str, corpus: str, tokens: int, dtype: str) -> dict[str, Any]:
    return {"format": FORMAT, "weights": weights, "corpus": corpus, "tokens": tokens, "dtype": dtype}


def _chosen_layers(request: Request, count: int) -> list[int]:
    if request.layers is None:
        return list(range(count))
    if request.layers[-1] >= count:
        raise RequestError(f"the model has layers 0 to {count - 1}; layer {request.layers[-1]} was asked for")
    return list(request.layers)


def _second_moments(
    ingredients: Ingredients, loaded: loading.LoadedModel, layers: list[int], store: Store, report: progress.Report
) -> list[tuple[np.ndarray, int]]:
    """C and the token count of each layer, from the store where it is there; the rest in one pass over the text."""
    from kis_core.covariance import second_moments

    keys = {layer: key_of(SECOND_MOMENT, ingredients.second_moment_key | {"layer": layer}) for layer in layers}
    found = {layer: entry for layer, key in keys.items() if (entry := store.get(key))}
    missing = [layer for layer in layers if layer not in found]
    if missing:
        computed = second_moments(
            loaded,
            list(ingredients.corpus.documents()),
            tokens=ingredients.request.tokens,
            layers=missing,
            report=report,
        )
        for layer, moment in zip(missing, computed, strict=True):
            entry = Entry({"tokens": moment.tokens}, {"matrix": moment.matrix})
            found[layer] = _kept(entry, keys[layer], store)
    report("Second moment of the keys", 1, 1)
    return [(found[layer].arrays["matrix"], int(found[layer].meta["tokens"])) for layer in layers]


def _kept(entry: Entry, key: str, store: Store) -> Entry:
    return store.get_or_compute(key, lambda: entry)


def _provenance(ingredients: Ingredients, loaded: loading.LoadedModel, tokens: int) -> dict[str, Any]:
    request = ingredients.request
    entry = catalog.find(request.model)
    width, mlp_width = loaded.architecture.widths
    return {
        "request": asdict(request),
        "model": request.model,
        "revision": request.revision or _hub_commit(ingredients.folder),
        "weights_sha256": ingredients.weights,
        "architecture": loaded.architecture.name,
        "family": _family(entry, loaded.architecture.name),
        "parameters": parameters(ingredients.folder),
        "width": width,
        "mlp_width": mlp_width,
        "layers_in_model": loaded.architecture.layers,
        "facts": ingredients.facts.name,
        "facts_count": len(ingredients.facts),
        "facts_sha256": ingredients.facts.fingerprint,
        "corpus": ingredients.corpus.name,
        "corpus_sha256": ingredients.corpus.fingerprint,
        "tokens_requested": request.tokens,
        "tokens_counted": tokens,
        "dtype": request.dtype,
        "device": str(loaded.device),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONED}
        | {
            "python": platform.python_version(),
            "kis_core": _own_version(),
            "store_format": f"{FORMAT}.{archive.FORMAT}",
        },
    }


def _asked(ingredients: Ingredients) -> dict[str, Any]:
    """The names in the provenance: no part of the key, so a stored result may carry those of an earlier asker."""
    return {
        "request": asdict(ingredients.request),
        "facts": ingredients.facts.name,
        "corpus": ingredients.corpus.name,
    }


def _family(entry: catalog.Entry | None, architecture: str) -> str:
    """What a model is coloured by: the demo family has two architectures, which are families of their own."""
    if entry is None:
        return architecture
    return f"Demo {architecture}" if entry.family == catalog.DEMO else entry.family


def _own_version() -> str:
    from kis_core import __version__

    return __version__


def _hub_commit(folder: Path) -> str | None:
    return folder.name if folder.parent.name == "snapshots" else None


def _result(ingredients: Ingredients, entry: Entry) -> Result:
    stored = archive.from_entry(entry)
    return replace(
        stored,
        request=ingredients.request,
        facts=ingredients.facts,
        provenance=stored.provenance | _asked(ingredients),
    )
