"""A request with everything it names found and fingerprinted: what results and second moments are stored under."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kis_core import corpora, progress
from kis_core import facts as fact_sets
from kis_core.corpora import Corpus, CorpusError
from kis_core.covariance import rome_files
from kis_core.covariance.rome_files import Statistics, StatisticsError
from kis_core.facts import FactSet
from kis_core.models import catalog
from kis_core.models.files import ModelFiles
from kis_core.request import Request
from kis_core.results import archive
from kis_core.results.result import Result
from kis_core.store.store import Entry, Store, key_of

FORMAT = 3  # raise it when the meaning of a stored C changes: it and the results of it are then computed anew
SECOND_MOMENT = "second-moment"  # kind of the keys that C is stored under
FINGERPRINT = "fingerprint"  # of files of this machine, by path, size and time of change


@dataclass(frozen=True, slots=True)
class ResolvedRequest:
    """A request with everything it names found and fingerprinted; no model is loaded yet.

    Attributes:
        request: what was asked.
        files: of the model.
        weights: SHA-256 of them.
        facts: the fact set.
        corpus: text that C is to be taken over, or statistics files that hold C.
        text: fingerprint of the corpus, where it is known already.
    """

    request: Request
    files: ModelFiles
    weights: str
    facts: FactSet
    corpus: Corpus | Statistics
    text: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", self.text or self.corpus.fingerprint)

    @property
    def second_moment_key(self) -> dict[str, Any]:
        """What determines C of a layer, but for the layer."""
        request = self.request
        if isinstance(self.corpus, Statistics):  # C is there whole, whatever was asked for
            return _moment_key(self.weights, self.text)
        settles = request.settled, self.facts.fingerprint
        return _moment_key(self.weights, self.text, request.tokens, request.documents, request.dtype, settles)

    @property
    def key(self) -> str:
        """Name of the result in the store: the model as it was asked for, and the content of every ingredient."""
        determined = self.second_moment_key | {
            "result_format": archive.FORMAT,
            "model": self.request.model,
            "revision": self.request.revision,
            "facts": self.facts.fingerprint,
            "layers": self.request.layers,
            "seed": self.request.seed,
            "dtype": self.request.dtype,
        }
        return key_of(archive.KIND, determined)


def _moment_key(
    weights: str,
    corpus: str,
    tokens: int | None = None,
    documents: int | None = None,
    dtype: str = "",
    settles: tuple[float | None, str] = (None, ""),
) -> dict[str, Any]:
    """What determines C but for the layer; `settles` is the threshold and the facts of a reading that ends early."""
    ingredients = {"format": FORMAT, "weights": weights, "corpus": corpus, "tokens": tokens, "documents": documents}
    return ingredients | {"dtype": dtype} | ({} if settles[0] is None else {"settled": settles[0], "facts": settles[1]})


def second_moment_key(result: Result, layer: int) -> str:
    """Name in the store of C of a result's layer."""
    source, request = result.provenance, result.request
    facts = source.get("facts_whole_sha256", source["facts_sha256"])
    read = source["tokens_requested"], source.get("documents_requested"), source.get("moment_dtype", source["dtype"])
    settled = None if source.get("statistics") else request.settled  # C from files is there whole
    determined = _moment_key(source["weights_sha256"], source["corpus_sha256"], *read, (settled, facts))
    return key_of(SECOND_MOMENT, determined | {"layer": layer})


def resolve(
    request: Request, store: Store, *, download: bool = True, report: progress.Report = progress.silent
) -> ResolvedRequest:
    """Find and fingerprint what a request names.

    Args:
        request: what is asked for.
        store: where fingerprints of large files are kept.
        download: whether to get from the Hub a model that is not here.
        report: called as a download proceeds.

    Raises:
        NotHere: the model is not on this machine, and was not to be downloaded.
        ModelError, FactFileError, CorpusError, StatisticsError: something named is not there or not usable.
    """
    files = catalog.locate(request.model, revision=request.revision, download=download, report=report)
    corpus = _corpus(request.corpus)
    weights, facts = weights_fingerprint(files, store), fact_sets.load(request.facts)
    return ResolvedRequest(request, files, weights, facts, corpus, _text_fingerprint(corpus, store))


def _corpus(source: str) -> Corpus | Statistics:
    if source == corpora.BUILTIN_NAME:
        return _builtin_corpus()
    if rome_files.recognises(source):
        return Statistics.find(Path(source))
    return corpora.load(source)


@cache
def _builtin_corpus() -> Corpus:
    return corpora.builtin()


@cache
def _builtin_fingerprint() -> str:
    return _builtin_corpus().fingerprint


def _text_fingerprint(corpus: Corpus | Statistics, store: Store) -> str:
    """The corpus's fingerprint; that of big files is read from disk only when one of them is new or was changed."""
    if corpus is _builtin_corpus():
        return _builtin_fingerprint()
    if (stamp := corpus.stamp) is None:
        return corpus.fingerprint
    key = key_of(FINGERPRINT, {"corpus": [list(file) for file in stamp]})
    return str(store.get_or_compute(key, lambda: Entry({"sha256": corpus.fingerprint}, {})).meta["sha256"])


def text_here(source: str, store: Store) -> str | None:
    """The fingerprint of a corpus by its name; None where it is not on this machine."""
    with suppress(CorpusError, StatisticsError):
        return _text_fingerprint(_corpus(source), store)
    return None


def weights_fingerprint(files: ModelFiles, store: Store) -> str:
    """The fingerprint of a model's files, read from disk only when a file's size or time of change is new."""
    stats = {name: path.stat() for name, path in files.parts().items()}
    seen = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()]
    key = key_of(FINGERPRINT, {"folder": str(files.path), "files": seen})
    return str(store.get_or_compute(key, lambda: Entry({"sha256": files.fingerprint()}, {})).meta["sha256"])
