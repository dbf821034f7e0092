"""The demo family's own text: training sentences, and the built-in corpus for the second moment C."""

from __future__ import annotations

import random
from functools import cache

from kis_core.demo import factbase

SENTENCES_PER_DOCUMENT = 4  # about 50 tokens: a document fits the demo models' context of 64
CORPUS_SEED = 2408


@cache
def documents() -> tuple[str, ...]:
    """The built-in corpus: short paragraphs of trained and held-out sentences in a fixed shuffled order."""
    sentences = [
        sentence
        for fact in factbase.load()
        for held_out in (False, True)
        for sentence in fact.sentences(held_out=held_out)
    ]
    random.Random(CORPUS_SEED).shuffle(sentences)
    step = SENTENCES_PER_DOCUMENT
    return tuple(" ".join(sentences[start : start + step]) for start in range(0, len(sentences), step))
