"""Whether an edit took, as the field measures it (Meng et al., arXiv 2202.05262, section 3.2 and CounterFact)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache

from kis_core.editing.edit import Edit
from kis_core.editing.overlay import applied
from kis_core.editing.probes import Probes
from kis_core.editing.scores import BothObjects, Readings, Scores, scores_of
from kis_core.facts import Fact
from kis_core.models import head
from kis_core.models.tokens import ids_of
from kis_core.scoring.answers import read_objects

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel

WORDS = 12  # tokens generated for a look


@dataclass(frozen=True, slots=True)
class Success:
    """Whether the edit of a fact took.

    Attributes:
        efficacy: every token of the new object is now the model's first choice.
        likelier: the new object is now likelier than the old one, by the mean log-likelihood of its tokens (ROME's ES).
        probability_new, probability_old: of both objects on the prompt, all tokens together, after the edit.
        paraphrase: share of the paraphrases answered with the new object, token by token; None where there are none.
        neighbourhood, neighbourhood_before: share of the neighbours that keep their object, and that had it before.
        generated, generated_before: what the model goes on to say after the prompt.
        scores, scores_before: as ROME's and EasyEdit's tables have them, of the edited model and of the model as it is.
    """

    efficacy: bool
    likelier: bool
    probability_new: float
    probability_old: float
    paraphrase: float | None
    neighbourhood: float | None
    neighbourhood_before: float | None
    generated: str
    generated_before: str
    scores: Scores
    scores_before: Scores


def succeeded(loaded: LoadedModel, edit: Edit, fact: Fact, target: str, probes: Probes) -> Success:
    """Measure it on the edited model, and what was before on the model as it is.

    Args:
        loaded: the model.
        edit: of the fact.
        fact: as it was.
        target: its new object.
        probes: paraphrases and neighbours.
    """
    before, said_before = _read(loaded, fact, target, probes), generate(loaded, fact)
    with applied(loaded, edit):
        after, said = _read(loaded, fact, target, probes), generate(loaded, fact)
    scores, edited = scores_of(after, before), after.edited
    return Success(
        efficacy=edited.new.exact,
        likelier=scores.ES == 1,
        probability_new=edited.new.probability,
        probability_old=edited.old.probability,
        paraphrase=_share([both.new.exact for both in after.paraphrases]),
        neighbourhood=_share([both.old.exact for both in after.neighbours]),
        neighbourhood_before=_share([both.old.exact for both in before.neighbours]),
        generated=said,
        generated_before=said_before,
        scores=scores,
        scores_before=scores_of(before, before),
    )


def _read(loaded: LoadedModel, fact: Fact, target: str, probes: Probes) -> Readings:
    """Both objects after every prompt; a neighbour's old object is its own."""
    prompts = [fact, *probes.paraphrases, *probes.neighbours]
    objects = read_objects(loaded, [*(replace(prompt, target=target) for prompt in prompts), *prompts])
    edited, *others = map(BothObjects, objects[: len(prompts)], objects[len(prompts) :])
    count = len(probes.paraphrases)
    return Readings(edited, tuple(others[:count]), tuple(others[count:]))


def generate(loaded: LoadedModel, fact: Fact, tokens: int = WORDS) -> str:
    """What the model says after the prompt, always its first choice."""
    return continuations(loaded, [fact], tokens)[0]


def continuations(loaded: LoadedModel, facts: Sequence[Fact], tokens: int = WORDS) -> list[str]:
    """What the model says after each prompt, always its first choice.

    The first choice is that of our own logits, in float32. transformers' `generate` takes it from logits in the model's
    precision: the same tokens in float32, but in bfloat16 logits tie, and a tenth to a fifth of the texts differ.
    """
    texts = ids_of(loaded.tokenizer, [fact.text for fact in facts])
    return [str(loaded.tokenizer.decode(_continued(loaded, text, tokens))).strip() for text in texts]


@torch.inference_mode()
def _continued(loaded: LoadedModel, text: Sequence[int], most: int) -> list[int]:
    """The tokens that follow a text; keys and values of those before are kept from one to the next."""
    past, said, unread = DynamicCache(), list[int](), list(text)
    while len(said) < most and len(text) + len(said) < loaded.context:
        ids = torch.tensor([unread], device=loaded.device)
        hidden = loaded.model.base_model(input_ids=ids, past_key_values=past, use_cache=True).last_hidden_state
        token = int(head.logits(loaded, hidden[:, -1]).argmax())
        if token == loaded.tokenizer.eos_token_id:
            break
        said.append(token)
        unread = [token]
    return said


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None
