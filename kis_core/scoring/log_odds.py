"""Log-probability and log-odds of the right answer, all of its tokens together.

A model that knows a fact gives its answer a probability near 1, where damage hardly shows: a loss of 5 in log-odds can
take log p from -0.0001 to -0.015. Log-odds log(p / (1 - p)) show it, so spillover is measured in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kis_core.facts import Fact
from kis_core.keys import SubjectNotFound
from kis_core.models import head
from kis_core.models.batching import SENTENCE_TOKENS, batches, pad
from kis_core.models.tokens import encode

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel


@dataclass(frozen=True, slots=True)
class Sentence:
    """A fact as the model reads it when it is scored on the answer.

    Attributes:
        tokens: prompt and answer, special tokens in front included, without the answer's last token.
        key_index: position of the subject's last token.
        answer: the answer's tokens; the last `len(answer)` positions of `tokens` predict them.
    """

    tokens: list[int]
    key_index: int
    answer: list[int]

    @property
    def prompt_end(self) -> int:
        """Position of the prompt's last token, which predicts the answer's first."""
        return len(self.tokens) - len(self.answer)


def tokenize_sentences(tokenizer: object, facts: Sequence[Fact], *, context: int) -> list[Sentence]:
    """Tokenise each fact once, answer included.

    Raises:
        SubjectNotFound: a fact without a token for its subject or its answer, or too long for the model; names it.
    """
    texts = [f"{fact.text} {fact.target}" for fact in facts]
    sentences = []
    for index, (fact, encoded) in enumerate(zip(facts, encode(tokenizer, texts), strict=True)):
        ids, offsets = encoded.ids, encoded.spans
        begin, end = fact.subject_span
        length = len(fact.text)
        # a space that is a token of its own has an empty span, and belongs to the answer; special tokens end at 0
        answer = [at for at, (_, last) in enumerate(offsets) if last > length]
        subject = [at for at, (a, b) in enumerate(offsets) if max(a, begin) < min(b, end) and b <= length]
        if not subject or not answer:
            lacks = "answer" if subject else "subject"
            raise SubjectNotFound(f"fact {index}: no token of {texts[index][:80]!r} covers the {lacks}")
        final = answer[-1]
        if final > context:
            raise SubjectNotFound(f"fact {index}: {final} tokens, but this model reads at most {context}")
        sentences.append(Sentence(ids[:final], subject[-1], ids[answer[0] : final + 1]))
    return sentences


@dataclass(frozen=True)
class AnswerOdds:
    """The scores of a batch of facts; all tensors have one row a fact.

    Attributes:
        log_prob: (n,) float64, of all tokens of the right answer.
        log_odds: (n,) float64.
        first_token: (n, vocabulary), logits of the token after the prompt.
        rank: (n,) ints, the worst rank of any token of the right answer, given those before; 1 when all come first.
        choices: for each fact, the first choice at the place of each token of its answer.
    """

    log_prob: Tensor
    log_odds: Tensor
    first_token: Tensor
    rank: Tensor
    choices: list[list[int]]


def read(loaded: LoadedModel, sentences: Sequence[Sentence]) -> AnswerOdds:
    """One forward pass over a batch; differentiable."""
    ids, mask = pad([s.tokens for s in sentences], loaded.device)
    hidden = loaded.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    return of_hidden(loaded, sentences, hidden)


def of_hidden(
    loaded: LoadedModel, sentences: Sequence[Sentence], hidden: Tensor, begin: Sequence[int] | None = None
) -> AnswerOdds:
    """The same from the base model's last hidden states, (n, T, d), of which row r begins at token `begin[r]`, or 0."""
    rows = [row for row, s in enumerate(sentences) for _ in s.answer]
    positions = [s.prompt_end + k for s in sentences for k in range(len(s.answer))]
    first = [k for k, at in enumerate(positions) if at == sentences[rows[k]].prompt_end]
    columns = [at - begin[row] for row, at in zip(rows, positions, strict=True)] if begin else positions
    logits = head.logits(loaded, hidden[rows, columns])
    answers = torch.tensor([token for s in sentences for token in s.answer], device=loaded.device)
    per_token = token_log_odds(logits, answers).cpu().double()  # on the CPU, as some devices have no float64
    log_prob = torch.zeros(len(sentences), dtype=torch.float64)
    log_prob = log_prob.index_add(0, torch.tensor(rows), torch.nn.functional.logsigmoid(per_token))
    rank = torch.zeros(len(sentences), dtype=torch.long)
    rank = rank.scatter_reduce(0, torch.tensor(rows), token_rank(logits.detach(), answers).cpu(), "amax")
    choices: list[list[int]] = [[] for _ in sentences]
    for row, token in zip(rows, logits.detach().argmax(dim=1).tolist(), strict=True):
        choices[row].append(token)
    return AnswerOdds(log_prob, of_log_prob(log_prob), logits[first], rank, choices)


def token_log_odds(logits: Tensor, tokens: Tensor) -> Tensor:
    """log(p / (1 - p)) of one token a row, without ever forming 1 - p.

    Args:
        logits: (n, vocabulary).
        tokens: (n,).
    """
    others = logits.scatter(1, tokens[:, None], -torch.inf)
    return logits.gather(1, tokens[:, None])[:, 0] - torch.logsumexp(others, dim=1)


def token_rank(logits: Tensor, tokens: Tensor) -> Tensor:
    """1 for the model's first choice, 2 for its second, …; the last rank where a logit is not a number.

    Args:
        logits: (n, vocabulary).
        tokens: (n,).
    """
    own = logits.gather(1, tokens[:, None])
    before = torch.arange(logits.shape[1], device=logits.device) < tokens[:, None]  # of equals the first is chosen
    ranks = ((logits > own) | ((logits == own) & before)).sum(dim=1) + 1
    return torch.where(torch.isfinite(logits).all(dim=1), ranks, logits.shape[1])


def of_log_prob(log_prob: Tensor) -> Tensor:
    """Log-odds from log-probabilities below 0."""
    return log_prob - torch.log(-torch.expm1(log_prob))


def batched(
    sentences: Sequence[Sentence], *, tokens_per_batch: int = SENTENCE_TOKENS
) -> Iterator[tuple[list[int], list[Sentence]]]:
    """Sentences in batches of similar length, with their numbers."""
    for batch in batches([len(s.tokens) for s in sentences], tokens_per_batch=tokens_per_batch):
        yield batch, [sentences[k] for k in batch]
