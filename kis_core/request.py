"""A request for an analysis: one frozen dataclass that is cache key, provenance, permalink and command line in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kis_core.corpora import BUILTIN_NAME as BUILTIN_CORPUS
from kis_core.corpora import PAPER_DOCUMENTS, WIKIPEDIA_NAME
from kis_core.errors import KisError
from kis_core.facts import BUILTIN_NAME as BUILTIN_FACTS
from kis_core.models import catalog

DEFAULT_TOKENS = 100_000  # P of the demo family over them correlates 0.995 to 0.999 with P over all 230,000 tokens

DTYPES = ("float32", "bfloat16", "float16")


class RequestError(KisError):
    """A request that makes no sense; the message says what does."""


SETTLED = 0.02  # of its spread: P that moves less than that between two looks is offered as settled
C_SETTINGS = ("corpus", "tokens", "documents", "layers", "revision", "dtype", "settled")
"""The fields of a request that determine how C of a model is computed: all but the model, the facts and the seed."""


@dataclass(frozen=True, slots=True)
class Request:
    """All that determines an analysis: cache key, provenance line, permalink and command line in one.

    Attributes:
        model: catalogue name, Hugging Face id or local folder.
        facts: `"builtin"`, or the path of a file in one of the formats of `facts`.
        corpus: `"builtin"`, `"wikipedia"`, the path of a text, JSONL or parquet file, or of statistics that hold C.
        tokens: how many tokens of the corpus C is taken over, at most; None for all of them.
        layers: which layers, or None for all.
        revision: commit or tag of a model on the Hub, or None for the one the catalogue pins.
        dtype: arithmetic of the model's forward pass, one of `DTYPES`; keys and C are float32 and float64 in any case.
        seed: of anything drawn at random.
        documents: how many documents of the corpus are read, at most; None for all of them.
        settled: stop reading once P of the facts moves less than this share of its spread between two looks, or None.
    """

    model: str = catalog.DEFAULT
    facts: str = BUILTIN_FACTS
    corpus: str = BUILTIN_CORPUS
    tokens: int | None = DEFAULT_TOKENS
    layers: tuple[int, ...] | None = None
    revision: str | None = None
    dtype: str = "float32"
    seed: int = 0
    documents: int | None = None
    settled: float | None = None

    def __post_init__(self) -> None:
        for what, count in (("token", self.tokens), ("document", self.documents)):
            if count is not None and count < 1:
                raise RequestError(f"C needs at least one {what}; {count} were asked for")
        if self.settled is not None and not 0 < self.settled < 1:
            raise RequestError(f"P settles at a share between 0 and 1, such as 0.02; {self.settled} was asked for")
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(sorted(set(self.layers))))  # one form, from JSON's list as well
            if not self.layers or self.layers[0] < 0:
                raise RequestError(f"layers count from 0; {self.layers} were asked for")
        if self.dtype not in DTYPES:
            raise RequestError(f"a model runs in one of {', '.join(DTYPES)}; {self.dtype!r} was asked for")

    @property
    def c_settings(self) -> dict[str, Any]:
        """How C is computed: the fields named in `C_SETTINGS`."""
        return {name: getattr(self, name) for name in C_SETTINGS}


def default_c_settings(model: str) -> dict[str, Any]:
    """How C of a model is computed where nobody chose: as in the paper, or for the demo family over its own text."""
    if catalog.is_demo(model):
        return {}
    return {"corpus": WIKIPEDIA_NAME, "tokens": None, "documents": PAPER_DOCUMENTS}
