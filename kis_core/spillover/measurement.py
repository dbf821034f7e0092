"""What an edit really does to every other fact: one batched pass with the overlay on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kis_core import progress
from kis_core.editing.edit import Edit
from kis_core.editing.overlay import applied
from kis_core.models import head
from kis_core.models.batching import pad
from kis_core.models.hooks import hooked
from kis_core.scoring.answers import MAX_CONTINUATION, continues_word, finish_words
from kis_core.scoring.log_odds import Sentence, batched, of_hidden
from kis_core.spillover.sensitivity import Sensitivity

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel


STAGE = "Measuring every fact"


@dataclass(frozen=True, eq=False)
class Measurement:
    """Of m facts, with the edit on.

    Attributes:
        shift: (m,) how far the down-projection's output moved along δ at the subject's last token.
        log_odds, log_prob: (m,) change of those of the right answer.
        answers: (m,) the model's first choice, finished to a word.
    """

    shift: np.ndarray
    log_odds: np.ndarray
    log_prob: np.ndarray
    answers: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Observation:
    """What the model does with n sentences as it stands.

    Attributes:
        outputs: (n, d) float32, of a layer's down-projection at the subject's last token.
        log_odds, log_prob: (n,) of the right answer.
        rank: (n,) ints, the worst rank of any of its tokens, given those before; 1 when the model answers right.
        said: n lists of tokens, the first choices after each prompt: the first, and as long as they are those of the
            right answer, which is what was read, the next.
    """

    outputs: np.ndarray
    log_odds: np.ndarray
    log_prob: np.ndarray
    rank: np.ndarray
    said: list[list[int]]


@torch.inference_mode()
def observe(
    loaded: LoadedModel, sentences: Sequence[Sentence], layer: int, *, report: progress.Report = progress.silent
) -> Observation:
    """Run the model over sentences, with whatever edits are applied around this call.

    Args:
        loaded: the model.
        sentences: of the facts.
        layer: whose outputs are kept.
        report: called before every batch.
    """
    module, count = loaded.architecture.down_projections[layer], len(sentences)
    outputs = np.empty((count, loaded.architecture.widths[0]), dtype=np.float32)
    log_odds, log_prob, rank = np.empty(count), np.empty(count), np.empty(count, dtype=np.int64)
    said: list[list[int]] = [[] for _ in sentences]
    done = 0
    for numbers, batch in batched(sentences):
        report(STAGE, done, count)
        done += len(batch)
        at = [sentence.key_index for sentence in batch]

        def keep(_: int, keys: Tensor, output: Tensor, numbers: list[int] = numbers, at: list[int] = at) -> None:
            outputs[numbers] = output[list(range(len(at))), at].float().cpu().numpy()

        with hooked([module], keep):  # set after an overlay's, so that it sees what the overlay put out
            hidden = _read_whole(loaded, batch)
        reading = of_hidden(loaded, batch, hidden)
        log_odds[numbers], log_prob[numbers] = reading.log_odds.numpy(), reading.log_prob.numpy()
        rank[numbers] = reading.rank.numpy()
        for number, tokens in zip(numbers, _said(loaded, batch, hidden, reading.choices), strict=True):
            said[number] = tokens
    report(STAGE, done, count)
    return Observation(outputs, log_odds, log_prob, rank, said)


def measure(
    loaded: LoadedModel,
    sentences: Sequence[Sentence],
    edit: Edit,
    facts: Sensitivity,
    *,
    report: progress.Report = progress.silent,
) -> Measurement:
    """Run the edited model over all facts and compare with what it did before.

    Args:
        loaded: the model.
        sentences: of the facts.
        edit: to apply.
        facts: what the model did without it.
        report: called before every batch.
    """
    with applied(loaded, edit):
        seen = observe(loaded, sentences, edit.layer, report=report)
        answers = _words(loaded, sentences, seen.said)
    moved = seen.outputs.astype(np.float64) - facts.outputs
    along = moved @ edit.delta / edit.size if edit.size else np.zeros(len(sentences))
    return Measurement(along, seen.log_odds - facts.log_odds, seen.log_prob - facts.log_prob, answers)


def _read_whole(loaded: LoadedModel, sentences: Sequence[Sentence]) -> Tensor:
    """Last hidden states of prompts and answers, with an answer's last token too wherever the context holds it."""
    whole = [[*sentence.tokens, sentence.answer[-1]][: loaded.context] for sentence in sentences]
    ids, mask = pad(whole, loaded.device)
    hidden: Tensor = loaded.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    return hidden


def _said(
    loaded: LoadedModel, sentences: Sequence[Sentence], hidden: Tensor, choices: Sequence[Sequence[int]]
) -> list[list[int]]:
    """`Observation.said`: from the choices at the answers' tokens and, where all were right, the one after the last."""
    pairs = list(zip(sentences, choices, strict=True))
    wrong = [next((k for k, at in enumerate(s.answer) if chosen[k] != at), None) for s, chosen in pairs]
    rows = [row for row, (s, _) in enumerate(pairs) if wrong[row] is None and len(s.tokens) < loaded.context]
    ends = head.logits(loaded, hidden[rows, [len(sentences[row].tokens) for row in rows]]).argmax(dim=1)
    after = dict(zip(rows, ends.tolist(), strict=True))
    said = [list(chosen if k is None else chosen[: k + 1]) for (_, chosen), k in zip(pairs, wrong, strict=True)]
    return [[*tokens, after[row]] if row in after else tokens for row, tokens in enumerate(said)]


def _words(loaded: LoadedModel, sentences: Sequence[Sentence], said: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """What the model says, finished to words; it is run on only where the word goes on beyond what is known."""
    words = [_ended(loaded, sentence, tokens) for sentence, tokens in zip(sentences, said, strict=True)]
    open_ = [k for k, word in enumerate(words) if word is None]
    begun = [(sentences[k].tokens[: sentences[k].prompt_end + 1], said[k][0]) for k in open_]
    for k, word in zip(open_, finish_words(loaded, begun), strict=True):
        words[k] = word
    return tuple(word or "" for word in words)


def _ended(loaded: LoadedModel, sentence: Sentence, said: Sequence[int]) -> str | None:
    """The word that these tokens begin, or None where they do not tell its end."""
    for length, token in enumerate(said[1:], start=1):
        if length > MAX_CONTINUATION or not continues_word(loaded.tokenizer, token):
            return str(loaded.tokenizer.decode(list(said[:length]))).strip()
    return None
