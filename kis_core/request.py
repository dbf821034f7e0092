"""What is asked for: one frozen dataclass that is cache key, provenance line, permalink and command line in one."""

from __future__ import annotations

from dataclasses import dataclass

from kis_core.corpus import BUILTIN_NAME as BUILTIN_CORPUS
from kis_core.errors import KisError
from kis_core.facts import BUILTIN_NAME as BUILTIN_FACTS
from kis_core.models import catalog

DEFAULT_TOKENS = 100_000  # P of the demo family over them correlates 0.995 to 0.999 with P over all 230,000 tokens


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
    facts: str = BUILTIN_FACTS
    corpus: str = BUILTIN_CORPUS
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
