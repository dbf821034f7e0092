"""The health of a model in the middle of a sequence of edits: what it still says, and its perplexity on other text."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from kis_core import corpora
from kis_core.analysis import pipeline
from kis_core.covariance import rome_files
from kis_core.covariance.reading import LONGEST
from kis_core.editing.success import continuations
from kis_core.facts import Fact
from kis_core.models import catalog
from kis_core.models.tokens import ids_of
from kis_core.request import RequestError
from kis_core.scoring.perplexity import perplexity

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel
    from kis_core.simulator import Simulator

HELD_OUT_SENTENCES = 60  # about 700 tokens: enough to see a model fall silent, little enough to read at every step
HELD_OUT_DOCUMENTS = 8
HELD_OUT_TOKENS = 256  # of each document: the same in all, and not minutes at every step
SEED = 1408  # of the choice of held-out sentences, the same for all runs


@dataclass(frozen=True, slots=True)
class HeldOutText:
    """Text to take the perplexity on.

    Attributes:
        texts: some.
        source: where they are from, in words.
        longest: so many tokens of each are read; None for all that the model's context holds.
    """

    texts: tuple[str, ...]
    source: str
    longest: int | None = None


def held_out(simulator: Simulator) -> HeldOutText:
    """Text the model was not trained on, or that C at least was not taken over, as far as there is any.

    Of the demo corpus: held-out sentences about the facts looked at, which no drawn edit is about, or about any. The
    same where C came as statistics, without its text.

    Raises:
        CorpusError: the corpus is no longer there.
        RequestError: it is another text now.
    """
    request, provenance = simulator.result.request, simulator.result.provenance
    without_text = bool(provenance.get("statistics")) or rome_files.recognises(request.corpus)
    if request.corpus == corpora.BUILTIN_NAME or without_text:
        known = simulator.known_facts.held_out(HELD_OUT_SENTENCES)
        if not known.sentences:  # the built-in text is the demo family's, whatever model reads it
            known = catalog.known_facts(catalog.DEFAULT, simulator.facts).held_out(HELD_OUT_SENTENCES)
        chosen = random.Random(SEED).sample(known.sentences, HELD_OUT_SENTENCES)  # noqa: S311 - no secret
        whose = " about the facts looked at" if known.about_the_facts else ""
        why = ", as C came without its text" if without_text else ""
        return HeldOutText(tuple(chosen), f"{len(chosen)} sentences{whose} held out in the demo family’s training{why}")
    if pipeline.text_here(request.corpus, simulator.store) not in (None, provenance["corpus_sha256"]):
        raise RequestError(f"The text {request.corpus} changed since C was taken over it; analyse anew.")
    documents = corpora.load(request.corpus).documents()
    taken = deque(_behind_c(simulator, documents), maxlen=HELD_OUT_DOCUMENTS)
    begun = f"the first {HELD_OUT_TOKENS} tokens of"
    if following := tuple(islice(documents, HELD_OUT_DOCUMENTS)):
        source = f"{begun} {len(following)} documents of the corpus that C was not taken over"
        return HeldOutText(following, source, HELD_OUT_TOKENS)
    source = f"{begun} the last {len(taken)} documents of the corpus, which C was taken over too"
    return HeldOutText(tuple(taken), source, HELD_OUT_TOKENS)


def _behind_c(simulator: Simulator, documents: Iterator[str]) -> Iterator[str]:
    """Those at the beginning that C was taken over: by their number, or by their tokens where nobody counted them."""
    source = simulator.result.provenance
    if (count := source.get("documents_read")) is not None:
        yield from islice(documents, count)
        return
    counted, longest = 0, min(simulator.model.context, LONGEST)
    while counted < source["tokens_counted"] and (document := next(documents, None)) is not None:
        yield document
        counted += min(longest, *map(len, ids_of(simulator.model.tokenizer, [document])))


def say(loaded: LoadedModel, facts: Sequence[Fact]) -> tuple[tuple[str, str], ...]:
    """What the model goes on to say after these facts' prompts."""
    said = continuations(loaded, facts)
    return tuple((fact.text, text) for fact, text in zip(facts, said, strict=True))


def read(loaded: LoadedModel, text: HeldOutText) -> float:
    """Perplexity on the text."""
    return perplexity(loaded, text.texts, longest=text.longest)


def condition_number(weight: torch.Tensor, change: np.ndarray) -> float:
    """Largest over smallest singular value of W + ΔW; infinite when singular, NaN when not finite."""
    matrix = weight.double().cpu().numpy() + change
    if not np.isfinite(matrix).all():
        return float("nan")
    values = np.linalg.svd(matrix, compute_uv=False)
    return float(values[0] / values[-1]) if values[-1] > 0 else float("inf")
