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
from kis_core.models.hooks import hooked
from kis_core.scoring.answers import finish_words
from kis_core.scoring.log_odds import Sentence, batched, read
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


def answers(loaded: LoadedModel, sentences: Sequence[Sentence]) -> tuple[str, ...]:
    """The model's first choice after each prompt, finished to a word."""
    return _finished(loaded, sentences, _first_tokens(loaded, sentences))


@dataclass(frozen=True, eq=False)
class Observation:
    """What the model does with n sentences as it stands.

    Attributes:
        outputs: (n, d) float32, of a layer's down-projection at the subject's last token.
        log_odds, log_prob: (n,) of the right answer.
        rank: (n,) ints, the worst rank of any of its tokens, given those before; 1 when the model answers right.
        first: (n,) the first choice after each prompt.
    """

    outputs: np.ndarray
    log_odds: np.ndarray
    log_prob: np.ndarray
    rank: np.ndarray
    first: list[int]


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
    log_odds, log_prob, rank, first = np.empty(count), np.empty(count), np.empty(count, dtype=np.int64), [0] * count
    done = 0
    for numbers, batch in batched(sentences):
        report(STAGE, done, count)
        done += len(batch)
        at = [sentence.key_index for sentence in batch]

        def keep(_: int, keys: Tensor, output: Tensor, numbers: list[int] = numbers, at: list[int] = at) -> None:
            outputs[numbers] = output[list(range(len(at))), at].float().cpu().numpy()

        with hooked([module], keep):  # set after an overlay's, so that it sees what the overlay put out
            reading = read(loaded, batch)
        log_odds[numbers], log_prob[numbers] = reading.log_odds.numpy(), reading.log_prob.numpy()
        rank[numbers] = reading.rank.numpy()
        for number, token in zip(numbers, reading.first_token.argmax(dim=1).tolist(), strict=True):
            first[number] = token
    report(STAGE, done, count)
    return Observation(outputs, log_odds, log_prob, rank, first)


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
        answers = _finished(loaded, sentences, seen.first)
    moved = seen.outputs.astype(np.float64) - facts.outputs
    along = moved @ edit.delta / edit.size if edit.size else np.zeros(len(sentences))
    return Measurement(along, seen.log_odds - facts.log_odds, seen.log_prob - facts.log_prob, answers)


@torch.inference_mode()
def _first_tokens(loaded: LoadedModel, sentences: Sequence[Sentence]) -> list[int]:
    first = [0] * len(sentences)
    for numbers, batch in batched(sentences):
        for number, token in zip(numbers, read(loaded, batch).first_token.argmax(dim=1).tolist(), strict=True):
            first[number] = token
    return first


def _finished(loaded: LoadedModel, sentences: Sequence[Sentence], first: Sequence[int]) -> tuple[str, ...]:
    prompts = [sentence.tokens[: sentence.prompt_end + 1] for sentence in sentences]
    return tuple(finish_words(loaded, list(zip(prompts, first, strict=True))))
