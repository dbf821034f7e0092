"""The whole way, and the only place that knows it: a request in, a cached result out.

facts, model -> keys;  model, corpus -> second moment C;  keys, C -> superposition P -> statistics
"""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from kis_core import corpus as corpora
from kis_core import facts as fact_sets
from kis_core import progress, statistics, superposition
from kis_core.corpus import Corpus
from kis_core.errors import KisError
from kis_core.facts import FactSet
from kis_core.models import catalog, loading
from kis_core.models.files import fingerprint
from kis_core.store import Entry, Store, key_of

FORMAT = 1  # raise it when the meaning of stored numbers changes: older entries are then computed anew
DEFAULT_TOKENS = 100_000  # more than 30 tokens a dimension of the largest demo model: P has settled by then
VERSIONED = ("torch", "transformers", "tokenizers", "numpy", "scipy")


class RequestError(KisError):
    """A request that makes no sense; the message says what does."""


@dataclass(frozen=True, slots=True)
class Request:
    """All that determines an analysis: cache key, provenance line, permalink and command line in one.

    Attributes:
        model: catalogue name, Hugging Face id or local folder.
        facts: `"builtin"`, or the path of a CSV or CounterFact JSON file.
        corpus: `"builtin"`, or the path of a text file with one document a line.
        tokens: how many tokens of the corpus C is taken over, at most.
        layers: which layers, or None for all.
        revision: commit or tag of a model on the Hub, or None for the newest.
        dtype: arithmetic of the model's forward pass.
        seed: of anything drawn at random.
    """

    model: str = catalog.DEFAULT
    facts: str = fact_sets.BUILTIN_NAME
    corpus: str = corpora.BUILTIN_NAME
    tokens: int = DEFAULT_TOKENS
    layers: tuple[int, ...] | None = None
    revision: str | None = None
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise RequestError(f"C needs at least one token; {self.tokens} were asked for")
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(sorted(set(self.layers))))  # one form, from JSON's list as well
            if not self.layers or self.layers[0] < 0:
                raise RequestError(f"layers count from 0; {self.layers} were asked for")
        if self.dtype != "float32":
            raise RequestError(f"keys are computed in float32; {self.dtype!r} is not available")


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
        return {
            "format": FORMAT,
            "weights": self.weights,
            "corpus": self.corpus.fingerprint,
            "tokens": self.request.tokens,
            "dtype": self.request.dtype,
        }

    @property
    def key(self) -> str:
        """Name of the result in the store: the content of every ingredient, not its name."""
        ingredients = self.second_moment_key | {
            "model": self.request.model,
            "revision": self.request.revision,
            "facts": self.facts.fingerprint,
            "layers": self.request.layers,
            "seed": self.request.seed,
        }
        return key_of("superposition", ingredients)


@dataclass(frozen=True)
class LayerReport:
    """Condition of one layer's C, and the moments of its P."""

    layer: int
    rank: int
    condition_number: float
    ridge: float
    moments: statistics.Moments


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

    p, whitening, activation, conditions = [], [], [], []
    for done, (layer, (matrix, _)) in enumerate(zip(layers, moments, strict=True)):
        report("Whitening", done, len(layers))
        whitener = Whitener.fit(matrix)
        whitened = whitener.whiten(keys[layer])
        p.append(superposition.superposition(whitened))
        whitening.append(superposition.cosines(whitened))
        activation.append(superposition.cosines(keys[layer]))
        condition = whitener.condition_number
        conditions.append(
            {
                "layer": layer,
                "rank": whitener.rank,
                "condition_number": condition if np.isfinite(condition) else None,  # JSON knows no infinity
                "ridge": whitener.ridge,
            }
        )
    report("Whitening", len(layers), len(layers))
    return Entry(
        {
            "layers": layers,
            "conditions": conditions,
            "key_token_index": [prompt.key_index for prompt in prompts],
            "key_tokens": [prompt.key_token for prompt in prompts],
            "key_token_ids": [prompt.tokens[prompt.key_index] for prompt in prompts],
            "answers": [[[answer.text, answer.probability] for answer in row] for row in top],
            "provenance": _provenance(ingredients, loaded, moments[0][1]),
        },
        {"p": np.stack(p), "whitening_cosine": np.stack(whitening), "activation_cosine": np.stack(activation)},
    )


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

    keys = {layer: key_of("second-moment", ingredients.second_moment_key | {"layer": layer}) for layer in layers}
    found = {layer: entry for layer, key in keys.items() if (entry := store.get(key))}
    missing = [layer for layer in layers if layer not in found]
    if missing:
        computed = second_moments(
            loaded,
            ingredients.corpus.documents,
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
    return {
        "request": asdict(request),
        "model": request.model,
        "revision": request.revision or _hub_commit(ingredients.folder),
        "weights_sha256": ingredients.weights,
        "architecture": loaded.architecture.name,
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
        | {"python": platform.python_version(), "kis_core": _own_version(), "store_format": str(FORMAT)},
    }


def _asked(ingredients: Ingredients) -> dict[str, Any]:
    """The names in the provenance: no part of the key, so a stored result may carry those of an earlier asker."""
    return {
        "request": asdict(ingredients.request),
        "facts": ingredients.facts.name,
        "corpus": ingredients.corpus.name,
    }


def _own_version() -> str:
    from kis_core import __version__

    return __version__


def _hub_commit(folder: Path) -> str | None:
    return folder.name if folder.parent.name == "snapshots" else None


def _result(ingredients: Ingredients, entry: Entry) -> Result:
    meta, arrays = entry.meta, entry.arrays
    reports = tuple(
        LayerReport(
            condition["layer"],
            condition["rank"],
            float("inf") if condition["condition_number"] is None else condition["condition_number"],
            condition["ridge"],
            statistics.moments(arrays["p"][at]),
        )
        for at, condition in enumerate(meta["conditions"])
    )
    return Result(
        request=ingredients.request,
        facts=ingredients.facts,
        layers=tuple(meta["layers"]),
        p=arrays["p"],
        whitening_cosine=arrays["whitening_cosine"],
        activation_cosine=arrays["activation_cosine"],
        reports=reports,
        key_token_index=tuple(meta["key_token_index"]),
        key_tokens=tuple(meta["key_tokens"]),
        key_token_ids=tuple(meta["key_token_ids"]),
        answers=tuple(tuple((text, share) for text, share in row) for row in meta["answers"]),
        provenance=meta["provenance"] | _asked(ingredients),
    )
