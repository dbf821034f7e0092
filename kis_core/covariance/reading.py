"""Text on its way to the model: documents, tokenised in groups, sorted by length into batches with little padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from kis_core.models.tokens import ids_of

DOCUMENTS_AT_ONCE = 512  # tokenised together and sorted by length, to keep padding low
LONGEST = 4096  # tokens of a document that are read: models of 128k tokens of context would run out of memory
MOST_PADDING = 0.05  # of the tokens of a batch; sorted documents of similar length need no more

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a corpus is read; None stands for all of it.

    Attributes:
        tokens: at most, counted in the order of the documents; the last one is cut to fit.
        documents: at most.
    """

    tokens: int | None = None
    documents: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Documents that are tokenised and batched together.

    Attributes:
        first: place of its first document in the corpus.
        documents: their texts.
        rows: their tokens, each cut at the context; empty documents have none and are left out.
        tokens_before: tokens in all groups before this one.
    """

    first: int
    documents: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]
    tokens_before: int

    @property
    def tokens(self) -> int:
        """Tokens in this group."""
        return sum(map(len, self.rows))


def groups(
    tokenizer: Any, documents: Iterable[str], extent: Extent, *, context: int, first: int = 0, tokens_before: int = 0
) -> Iterator[Group]:
    """Groups of tokenised documents, each document cut at `context` tokens.

    Args:
        tokenizer: a fast tokenizer; what it puts in front of a document counts, what it appends does not.
        documents: the corpus from its beginning.
        extent: how much of it.
        context: longest sequence the model takes.
        first: number of documents to skip, as an earlier run has read them.
        tokens_before: their number of tokens.
    """
    length, left = min(context, LONGEST), None if extent.tokens is None else extent.tokens - tokens_before
    stream = islice(documents, first, extent.documents)
    while texts := tuple(islice(stream, DOCUMENTS_AT_ONCE)):
        rows, read = [], 0
        for ids in ids_of(tokenizer, texts):
            if left is not None and left <= 0:
                break
            row = tuple(ids[: length if left is None else min(length, left)])
            left = None if left is None else left - len(row)
            read += 1
            if row:
                rows.append(row)
        if read:
            group = Group(first, texts[:read], tuple(rows), tokens_before)
            tokens_before += group.tokens
            yield group
        first += len(texts)
        if left is not None and left <= 0:
            return


def cut(tokens_per_batch: int) -> list[float]:
    """The settings by which `groups` and `batches` cut a text, and on which the number of a batch depends."""
    return [DOCUMENTS_AT_ONCE, LONGEST, MOST_PADDING, tokens_per_batch]


def batches(lengths: Sequence[int], *, tokens_per_batch: int) -> Iterator[list[int]]:
    """Indices by rising length, in batches that keep to `tokens_per_batch` and `MOST_PADDING` when padded.

    A row longer than `tokens_per_batch` is a batch of its own.
    """
    batch: list[int] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda k: lengths[k]):
        padded = lengths[index] * (len(batch) + 1)
        if batch and (padded > tokens_per_batch or padded - tokens - lengths[index] > MOST_PADDING * padded):
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += lengths[index]
    if batch:
        yield batch


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made in a thread while the one before is worked on."""
    reader = ThreadPoolExecutor(1, "kis-reader")
    try:
        coming = reader.submit(list[T], islice(items, 1))
        while item := coming.result():
            coming = reader.submit(list[T], islice(items, 1))
            yield item[0]
    finally:
        reader.shutdown(wait=False, cancel_futures=True)  # a caller that stops does not wait for a slow network
