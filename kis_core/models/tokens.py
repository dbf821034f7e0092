"""Text on its way to the model: the one place that turns it into token ids.

What the model's own tokenizer puts in front of a text stays, a BOS once, twice or not at all: the model was trained on
texts that begin so, and keys, C and answers have to come from what it knows. What the tokenizer appends goes, an EOS or
SEP: a prompt ends with its own last token, as whatever stands behind that would be answered instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenised text.

    Attributes:
        ids: special tokens in front included.
        spans: of characters that each token stands for, end excluded; (0, 0) for what was put in front.
    """

    ids: list[int]
    spans: list[tuple[int, int]]


def encode(tokenizer: Any, texts: Sequence[str]) -> list[Tokens]:
    """Tokenise texts, each by itself.

    Args:
        tokenizer: a fast tokenizer.
        texts: any number.
    """
    encoding = _encoded(tokenizer, texts, return_offsets_mapping=True)
    spans = encoding["offset_mapping"] if texts else []
    return [Tokens(ids, list(spans[row][: len(ids)])) for row, ids in enumerate(_kept(encoding))]


def ids_of(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The ids alone, which is faster for long texts."""
    return _kept(_encoded(tokenizer, texts))


def beginning(tokenizer: Any) -> list[int]:
    """What the tokenizer puts in front of a text; often nothing."""
    encoding = _encoded(tokenizer, ["a"])
    [ids], [added] = encoding["input_ids"], encoding["special_tokens_mask"]
    first = next((at for at, special in enumerate(added) if not special), 0)
    return list(ids[:first])


def _encoded(tokenizer: Any, texts: Sequence[str], **more: Any) -> Any:
    if not texts:
        return {"input_ids": [], "special_tokens_mask": []}
    return tokenizer(  # not verbose: over-long texts are cut or refused by whoever asked, who says so
        list(texts), padding=False, truncation=False, return_special_tokens_mask=True, verbose=False, **more
    )


def _kept(encoding: Any) -> list[list[int]]:
    """Ids without the special tokens behind the last token of the text; none where the text has none."""
    kept = []
    for ids, added in zip(encoding["input_ids"], encoding["special_tokens_mask"], strict=True):
        end = next((at for at in range(len(ids), 0, -1) if not added[at - 1]), 0)
        kept.append(list(ids[:end]))
    return kept
