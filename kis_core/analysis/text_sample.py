"""A sample of the text that C is taken over: how large keys of general text are, beside which a fact's key is weak."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from kis_core.analysis.resolve import ResolvedRequest
from kis_core.corpora import Corpus, CorpusError
from kis_core.errors import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kis_core.models.loaded import LoadedModel

log = logging.getLogger(__name__)

TOKENS = 1024  # of the sample: the share of all keys below its 5 % quantile is then 5 ± 0.7 %
LEAST_ROW = 128
"""Tokens of a document, where it has as many. Words at its beginning have keys of their own: at layers 3 and 6 of
SmolLM2-135M, 64 tokens instead quarter the 5 % quantile and nothing is weak; 256 make it a fifth to a half larger, and
the same six of 436 facts are weak."""
DOCUMENTS = 64  # that are looked at; fewer are run where they are long


def keys_of_text(resolved: ResolvedRequest, loaded: LoadedModel, layers: Sequence[int]) -> np.ndarray | None:
    """Keys of the beginnings of the first documents that C of a request is taken over, the same ones at every call.

    The first token of a document is left out: many models rest their attention on it, and its key is like no other.

    Returns:
        float32 array (L, n, d_m), n at most `TOKENS`; None where the text is not at hand, as C comes from files or the
        text cannot be read.
    """
    from kis_core.keys import text_keys

    rows = [row for row in _rows(resolved, loaded) if len(row) > 1]
    return text_keys(loaded, rows, [range(1, len(row)) for row in rows], layers=layers) if rows else None


def _rows(resolved: ResolvedRequest, loaded: LoadedModel) -> list[tuple[int, ...]]:
    """Tokens of these beginnings, `TOKENS` in all where the text has as many."""
    from kis_core.covariance.reading import Extent, groups

    text, request = resolved.corpus, resolved.request
    if not isinstance(text, Corpus):
        return []
    extent = Extent(request.tokens, min(DOCUMENTS, request.documents or DOCUMENTS))
    try:
        read = [
            row
            for group in groups(loaded.tokenizer, text.documents(), extent, context=loaded.context)
            for row in group.rows
        ]
    except CorpusError as error:
        log.warning(
            "how large keys of general text are stays unknown, as the text cannot be read: %s", shown(str(error))
        )
        return []
    rows: list[tuple[int, ...]] = []
    left = TOKENS
    for row in read:
        rows.append(row[: min(left, max(LEAST_ROW, -(-TOKENS // len(read))))])
        left -= len(rows[-1])
    return rows
