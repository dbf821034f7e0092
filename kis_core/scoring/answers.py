"""Answers of the model to a prompt: its most probable next words, and whether it knows a fact."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from kis_core import progress
from kis_core.facts import Fact
from kis_core.keys import Prompt
from kis_core.models import head
from kis_core.models.batching import SENTENCE_TOKENS, batches, pad
from kis_core.models.finite import check_logits
from kis_core.models.tokens import encode
from kis_core.scoring.log_odds import token_log_odds

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel

TOP = 5
AT_ONCE = 512  # rows of logits over the whole vocabulary
MAX_CONTINUATION = 4  # tokens added greedily to finish a word that the first token begins
BYTE = re.compile("<0x([0-9A-F]{2})>")  # SentencePiece's name of a byte that no other piece holds
NOT_ASCII = 0x80  # from here on a byte is part of a letter or sign of several


@dataclass(frozen=True, slots=True)
class Answer:
    """A candidate answer.

    Attributes:
        text: the first token, finished greedily to a whole word.
        probability: of the first token alone.
    """

    text: str
    probability: float


@torch.inference_mode()
def next_token_logits(
    loaded: LoadedModel, sequences: Sequence[Sequence[int]], *, tokens_per_batch: int = SENTENCE_TOKENS
) -> torch.Tensor:
    """Logits after the last token of each sequence, (n, vocabulary), float32 on the CPU."""
    parts, order = [], []
    for batch in batches([len(s) for s in sequences], tokens_per_batch=tokens_per_batch):
        ids, mask = pad([sequences[k] for k in batch], loaded.device)
        hidden = loaded.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        last = mask.sum(dim=1) - 1
        parts.append(head.logits(loaded, hidden[torch.arange(len(batch), device=loaded.device), last]).cpu())
        order += batch
    result = torch.cat(parts)
    return result[torch.argsort(torch.tensor(order))]


def first_choices(loaded: LoadedModel, sequences: Sequence[Sequence[int]]) -> list[int]:
    """The most probable token after each sequence; the logits of `AT_ONCE` of them are held at a time."""
    tokens: list[int] = []
    for begin in range(0, len(sequences), AT_ONCE):
        tokens += next_token_logits(loaded, sequences[begin : begin + AT_ONCE]).argmax(dim=-1).tolist()
    return tokens


def top_answers(
    loaded: LoadedModel, prompts: Sequence[Prompt], *, report: progress.Report = progress.silent
) -> list[list[Answer]]:
    """The `TOP` most probable next tokens of each prompt, best first, each finished to a whole word.

    Raises:
        NotFinite: the model gives no number for one of them.
    """
    report("The model's own answers", 0, len(prompts))
    logits = next_token_logits(loaded, [p.tokens for p in prompts])
    check_logits(loaded, logits, [p.tokens for p in prompts])
    probabilities, tokens = torch.softmax(logits, dim=-1).topk(TOP)
    report("The model's own answers", len(prompts) // 2, len(prompts))
    begun = [(prompt.tokens, int(token)) for prompt, row in zip(prompts, tokens, strict=True) for token in row]
    texts = finish_words(loaded, begun)
    report("The model's own answers", len(prompts), len(prompts))
    answers = [Answer(text, share) for text, share in zip(texts, probabilities.flatten().tolist(), strict=True)]
    return [answers[row * TOP : (row + 1) * TOP] for row in range(len(prompts))]


def finish_words(loaded: LoadedModel, begun: Sequence[tuple[Sequence[int], int]]) -> list[str]:
    """Answers whose first token is known, finished greedily to whole words.

    Args:
        loaded: the model.
        begun: for each answer, the tokens of its prompt and its first token.
    """
    words = [[first] for _, first in begun]
    unfinished = list(range(len(begun)))
    for _ in range(MAX_CONTINUATION):
        unfinished = [k for k in unfinished if len(begun[k][0]) + len(words[k]) <= loaded.context]
        if not unfinished:
            break
        following = first_choices(loaded, [[*begun[k][0], *words[k]] for k in unfinished])
        going_on = []
        for k, token in zip(unfinished, following, strict=True):
            if continues_word(loaded.tokenizer, token):
                words[k].append(token)
                going_on.append(k)
        unfinished = going_on
    return [loaded.tokenizer.decode(word).strip() for word in words]


def continues_word(tokenizer: object, token: int) -> bool:
    """Whether this token continues the word before it, rather than begin a word or be a mark."""
    piece = tokenizer.convert_ids_to_tokens(token)  # type: ignore[attr-defined]
    if piece is None or token in tokenizer.all_special_ids:  # type: ignore[attr-defined]
        return False
    if byte := BYTE.fullmatch(piece):
        value = int(byte[1], 16)
        return value >= NOT_ASCII or chr(value).isalnum()
    begins_word = piece[:1] in ("Ġ", "▁", "Ċ", " ")  # byte-level BPE and SentencePiece marks
    return not begins_word and any(character.isalnum() for character in piece)


@dataclass(frozen=True, slots=True)
class ObjectReading:
    """What a model makes of a fact's object, token by token, each read after the right ones before it.

    All three are empty where the sentence is longer than the model's context.

    Attributes:
        tokens: (n,) of the object.
        choices: (n,) the model's first choice at the place of each.
        log_probs: (n,) of each token, natural logarithm.
    """

    tokens: tuple[int, ...] = ()
    choices: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether every token is the model's first choice."""
        return bool(self.tokens) and self.choices == self.tokens

    @property
    def probability(self) -> float:
        """Of the whole object."""
        return math.exp(sum(self.log_probs)) if self.tokens else math.nan


@torch.inference_mode()
def read_objects(loaded: LoadedModel, facts: Sequence[Fact]) -> list[ObjectReading]:
    """How the model, edited or not, reads the object of each fact after its prompt."""
    rows: list[list[tuple[int, int, float]]] = [[] for _ in facts]
    for owners, logits, tokens in _of_objects(loaded, facts):
        log_probs = torch.nn.functional.logsigmoid(token_log_odds(logits, tokens).cpu().double())
        read = zip(tokens.tolist(), logits.argmax(dim=-1).tolist(), log_probs.tolist(), strict=True)
        for k, row in zip(owners, read, strict=True):
            rows[k].append(row)
    return [ObjectReading(*zip(*of_fact, strict=True)) for of_fact in rows]


@torch.inference_mode()
def knows(
    loaded: LoadedModel, facts: Sequence[Fact], *, checked: bool = False, tokens_per_batch: int = SENTENCE_TOKENS
) -> list[bool]:
    """For each fact, whether every token of the right answer is the model's first choice, given those before it.

    A sentence longer than the model's context counts as not known.

    Args:
        loaded: the model, edited or not.
        facts: any number.
        checked: raise an error where a logit is not a number: the model is as it was loaded, so that only its weights
            can be at fault.
        tokens_per_batch: padded tokens in one forward pass.

    Raises:
        NotFinite: see `checked`.
    """
    read: set[int] = set()
    wrong: set[int] = set()
    for owners, logits, tokens in _of_objects(loaded, facts, checked=checked, tokens_per_batch=tokens_per_batch):
        read.update(owners)
        right = (logits.argmax(dim=-1) == tokens).tolist()
        wrong.update(k for k, hit in zip(owners, right, strict=True) if not hit)
    return [k in read and k not in wrong for k in range(len(facts))]


def _of_objects(
    loaded: LoadedModel, facts: Sequence[Fact], *, checked: bool = False, tokens_per_batch: int = SENTENCE_TOKENS
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Batch by batch, one row a token of an object: the number of its fact, the logits at its place, the token."""
    if not facts:
        return
    encoded = encode(loaded.tokenizer, [f"{fact.text} {fact.target}" for fact in facts])
    lengths = [len(sentence.ids) for sentence in encoded]
    for whole in batches(lengths, tokens_per_batch=tokens_per_batch):
        batch = [k for k in whole if lengths[k] <= loaded.context]
        if not batch:
            continue
        ids, mask = pad([encoded[k].ids for k in batch], loaded.device)
        hidden = loaded.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        places = [
            (row, at)
            for row, k in enumerate(batch)
            for at, (_, last) in enumerate(encoded[k].spans)
            if last > len(facts[k].text)  # a space that is a token of its own has an empty span
        ]
        rows, at = [row for row, _ in places], [at for _, at in places]
        logits = head.logits(loaded, hidden[rows, [place - 1 for place in at]])
        if checked:
            check_logits(loaded, logits, [encoded[batch[row]].ids[:place] for row, place in places])
        yield [batch[row] for row in rows], logits, ids[rows, at]
