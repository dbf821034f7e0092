"""The value an edit is to write, v* = v₀ + δ, by gradient descent (Meng et al., arXiv 2202.05262, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from kis_core import progress
from kis_core.editing.contexts import about, contexts, random_prefixes
from kis_core.editing.edit import EditError
from kis_core.editing.finding import Found, find
from kis_core.editing.hyperparameters import Hyperparameters
from kis_core.editing.insertion import Insertion
from kis_core.editing.overlay import device_of
from kis_core.facts import Fact
from kis_core.keys import Prompt, tokenize_prompts
from kis_core.models import head
from kis_core.models.batching import pad
from kis_core.models.hooks import hooked
from kis_core.models.layers import editable_layers
from kis_core.models.tail import PassFromLayer, from_layer
from kis_core.models.tokens import ids_of
from kis_core.scoring.log_odds import Sentence, of_hidden, tokenize_sentences

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel

STAGE = "Searching for the value"
EASED, QUIET = 0.1, 0.01
"""Of PMET's code: the weight of the new object in the loss once it is the first choice in all contexts, and the KL
term, with its factor, at which the search then ends."""


@dataclass(frozen=True, eq=False)
class Value:
    """The value that a search found, with the keys and outputs at its site: all that a method makes an edit of.

    Attributes:
        delta: δ, (d,) float64.
        key, output: the prompt's key k_e, (d_m,), and v₀ = W k_e (+ b), (d,); float64.
        mean_key, mean_output: the same, as means over all contexts.
        losses: after 0, 1, 2, … steps.
        probability: of the new object in the contexts (geometric mean a token), with δ added as the search found it.
        everywhere: δ acted on every token while it was searched for.
    """

    delta: np.ndarray
    key: np.ndarray
    output: np.ndarray
    mean_key: np.ndarray
    mean_output: np.ndarray
    losses: tuple[float, ...]
    probability: float
    everywhere: bool

    @property
    def norm(self) -> float:
        """‖v*‖, with v* = v₀ + δ."""
        return float(np.linalg.norm(self.output + self.delta))

    def rescaled(self, norm: float | None, most: float) -> Value:
        """The value with ‖v*‖ as given, by norm-anchor scaling (Liu et al., arXiv 2602.02543, and its code).

        v* becomes v* · norm / ‖v*‖. A value that is more than `most` times as large was found on a model that is
        beyond repair there, and writes nothing: v* = v₀.

        Args:
            norm: the anchor, or None for the value as it is.
            most: how many times the anchor ‖v*‖ may be.
        """
        if norm is None:
            return self
        found = self.output + self.delta
        delta = np.zeros_like(found) if self.norm > most * norm else found * (norm / self.norm) - self.output
        return replace(self, delta=delta)


def reaches_answer(*, layer: int, layers: int, ends_with_subject: bool) -> bool:
    """Whether what a layer writes at the subject's last token can be read where the answer is given."""
    return layer in editable_layers(layers) or ends_with_subject


def check_target(loaded: LoadedModel, target: str, layer: int) -> None:
    """Whether an edit makes sense at all.

    Raises:
        EditError: no such layer, or an empty target.
    """
    if not target.strip():
        raise EditError("the new object is empty; type one, or choose one of the same relation")
    if not 0 <= layer < loaded.architecture.layers:
        raise EditError(f"layer {layer} was to be edited; the model has layers 0 to {loaded.architecture.layers - 1}")


def search(
    loaded: LoadedModel,
    fact: Fact,
    target: str,
    layer: int,
    hyperparameters: Hyperparameters,
    *,
    prefixes: Sequence[str] | None = None,
    reach: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    size: float | None = None,
    with_attention: bool = False,
    seen: Callable[[float], None] | None = None,
    report: progress.Report = progress.silent,
) -> Value:
    """Find the δ that, added to a layer's down-projection at the subject's last token, makes the model say `target`.

    Args:
        loaded: the model.
        fact: the fact to change.
        target: its new object.
        layer: to edit.
        hyperparameters: of the search.
        prefixes: the random beginnings, if they are known already.
        reach: u from the prompt's key and the mean key, both (d_m,); needed where `hyperparameters.everywhere`.
        size: ‖v₀‖, what weight decay and clamp are relative to; by default that of the down-projection's output. MEMIT
            takes the residual stream after the layer, which δ is added to just as well.
        with_attention: search as PMET does: for another δ at the same time, at the attention's output at the subject's
            last token, which is then dropped; and where there is a KL term, let the new object count less once the
            model says it (`EASED`), and end as soon as the KL term is small as well (`QUIET`).
        seen: called with the loss of every step.
        report: called after every step.

    Raises:
        EditError: no such layer, one that cannot reach the answer, an empty target, or numbers that are not finite.
        SubjectNotFound: the prompt is too long for the model, or holds no subject.
        Cancelled: `report` called it off.
    """
    check_target(loaded, target, layer)
    if prefixes is None:
        prefixes = random_prefixes(loaded, hyperparameters)
    in_own_prompt, *after_prefixes = contexts(replace(fact, target=target.strip()), list(prefixes))
    sentences = [tokenize_sentences(loaded.tokenizer, [in_own_prompt], context=loaded.context)[0]]
    if fitting := that_fit(loaded, after_prefixes):
        sentences += tokenize_sentences(loaded.tokenizer, fitting, context=loaded.context)
    own = sentences[0]
    if not reaches_answer(
        layer=layer, layers=loaded.architecture.layers, ends_with_subject=own.key_index == own.prompt_end
    ):
        raise EditError(
            f"layer {layer} is the last one: what it writes at the subject is never read where the answer is given, "
            f"so no edit there changes it. "
            + (f"Choose a layer from 0 to {layer - 1}." if layer else "It is also the only one: edit another model.")
        )
    projection = loaded.architecture.down_projections[layer]
    keys, outputs = _site(loaded, sentences, projection)
    if not bool(torch.isfinite(keys).all() and torch.isfinite(outputs).all()):
        raise EditError(f"layer {layer}: the key or value of {fact.subject!r} is not finite; are the weights damaged?")
    reaching = None
    if hyperparameters.everywhere:
        if reach is None:
            raise ValueError("to let δ act everywhere, the search has to know how the edit reaches")
        spread = reach(keys[0].numpy(), keys.mean(dim=0).numpy())
        reaching = torch.tensor(spread[None], dtype=torch.float32, device=device_of(loaded, layer))
    insertions = [Insertion(projection, float(outputs[0].norm()) if size is None else size, reaching)]
    if with_attention:
        attention = loaded.architecture.attention_outputs[layer]
        insertions.append(Insertion(attention, float(_site(loaded, sentences[:1], attention)[1].norm())))
    drift = _drift(loaded, fact) if hyperparameters.kl else None
    objective = _Objective(loaded, layer, tuple(insertions), sentences, drift)

    def descend() -> Found:
        delta, losses, probability = _descend(objective, hyperparameters, seen, report)
        return Found(delta.cpu().double().numpy(), tuple(losses), probability)

    found = find(layer, descend)
    return Value(
        delta=found.delta,
        key=keys[0].numpy(),
        output=outputs[0].numpy(),
        mean_key=keys.mean(dim=0).numpy(),
        mean_output=outputs.mean(dim=0).numpy(),
        losses=found.losses,
        probability=found.probability,
        everywhere=hyperparameters.everywhere,
    )


def that_fit(loaded: LoadedModel, in_contexts: Sequence[Fact]) -> list[Fact]:
    """Contexts but for those that a prefix has made too long for the model."""
    lengths = map(len, ids_of(loaded.tokenizer, [f"{fact.text} {fact.target}" for fact in in_contexts]))
    return [fact for fact, length in zip(in_contexts, lengths, strict=True) if length <= loaded.context]


@torch.no_grad()
def _site(loaded: LoadedModel, sentences: Sequence[Sentence], module: nn.Module) -> tuple[Tensor, Tensor]:
    """Input (n, d_m) and output (n, d) of a projection at the subject's last token of each sentence."""
    kept: list[Tensor] = []
    at = [sentence.key_index for sentence in sentences]

    def keep(_: int, keys: Tensor, output: Tensor) -> None:
        rows = list(range(len(at)))
        kept.extend((keys[rows, at].cpu().double(), output[rows, at].cpu().double()))

    ids, mask = pad([s.tokens for s in sentences], loaded.device)
    with hooked([module], keep):
        loaded.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    return kept[0], kept[1]


def _drift(loaded: LoadedModel, fact: Fact) -> Prompt:
    return tokenize_prompts(loaded.tokenizer, [about(fact)], context=loaded.context)[0]


@dataclass(frozen=True, slots=True)
class _Objective:
    """What the descent lowers.

    Attributes:
        loaded: the model.
        layer: edited.
        insertions: where a δ is added: at the down-projection, and for PMET at the attention's output as well.
        sentences: the new object in its contexts.
        drift: the prompt whose next word is to stay, or None.
    """

    loaded: LoadedModel
    layer: int
    insertions: tuple[Insertion, ...]
    sentences: Sequence[Sentence]
    drift: Prompt | None

    def over(self, texts: Sequence[Sentence | Prompt]) -> _Texts:
        """These texts, to be run again and again: nothing changes before the first token that δ is added at."""
        everywhere = self.insertions[0].reach is not None
        subjects = [text.key_index for text in texts]
        begin = [0] * len(texts) if everywhere else subjects
        passes = from_layer(self.loaded, [text.tokens for text in texts], self.layer, begin)
        keys = _keys(passes, self.insertions[0].module) if everywhere and len(self.insertions) > 1 else None
        return _Texts(self.insertions, subjects, begin, passes, keys)


@torch.no_grad()
def _keys(passes: PassFromLayer, projection: nn.Module) -> Tensor:
    """What a down-projection takes in at every token, (B, S, d_m)."""
    kept: list[Tensor] = []
    with hooked([projection], lambda _, keys, output: kept.append(keys)):
        passes.run()
    return kept[0]


@dataclass(frozen=True, slots=True)
class _Texts:
    """Texts that the model is run over with a δ added at each insertion.

    Attributes:
        insertions: where.
        subjects: position of each subject's last token.
        begin: the first token of each that changes.
        passes: over them.
        keys: (B, S, d_m) as they are without any δ, by which the share of every token goes: the edit will meet these,
            and not those that a δ at the attention's output makes of them. None where no δ changes keys.
    """

    insertions: Sequence[Insertion]
    subjects: Sequence[int]
    begin: Sequence[int]
    passes: PassFromLayer
    keys: Tensor | None

    def hidden(self, deltas: Sequence[Tensor]) -> Tensor:
        """The last hidden states, (B, S, d), of each text from its first changed token on."""
        at = [subject - first for subject, first in zip(self.subjects, self.passes.first, strict=True)]
        with ExitStack() as stack:
            for insertion, delta in zip(self.insertions, deltas, strict=True):
                stack.enter_context(insertion.adding(at, delta, self.keys))
            return self.passes.run()


def _descend(
    objective: _Objective, settings: Hyperparameters, seen: Callable[[float], None] | None, report: progress.Report
) -> tuple[Tensor, list[float], float]:
    """Adam on δ. Returns δ, the losses, and the probability of the new object."""
    loaded, layer, sentences = objective.loaded, objective.layer, objective.sentences
    insertions, drift = objective.insertions, objective.drift
    width, _ = loaded.architecture.widths
    tokens = len(sentences[0].answer)
    with torch.inference_mode(False), torch.enable_grad():
        deltas = [torch.zeros(width, device=device_of(loaded, layer), requires_grad=True) for _ in insertions]
        optimizer = torch.optim.Adam(deltas, lr=settings.learning_rate)
        texts, about_subject = objective.over(sentences), objective.over([drift]) if drift else None
        before = _next_at_subject(loaded, about_subject, deltas).detach() if about_subject else None
        losses: list[float] = []
        probability, weight = 0.0, 1.0
        for step in range(settings.steps + 1):
            report(STAGE, step, settings.steps)
            answers = of_hidden(loaded, sentences, texts.hidden(deltas), texts.begin)
            log_prob = answers.log_prob.mean() / tokens
            loss = -weight * log_prob + sum(
                settings.weight_decay * delta.norm().cpu() / insertion.size**2
                for delta, insertion in zip(deltas, insertions, strict=True)
            )
            drifted = torch.zeros(())
            if about_subject and before is not None:
                now = _next_at_subject(loaded, about_subject, deltas)
                drifted = settings.kl * torch.nn.functional.kl_div(before, now, log_target=True, reduction="sum").cpu()
                loss = loss + drifted
            if not torch.isfinite(loss):
                advice = "take a smaller learning rate" if step else "choose another layer or fact"
                raise EditError(f"layer {layer}: the loss is not finite at step {step}; {advice}")
            losses.append(float(loss.detach()))
            probability = float(log_prob.detach().exp())
            if seen:
                seen(losses[-1])
            said = len(insertions) > 1 and drift is not None and bool((answers.rank == 1).all())
            weight = EASED if said else 1.0
            if losses[-1] < settings.stop_loss or step == settings.steps or (said and float(drifted.detach()) <= QUIET):
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for delta, insertion in zip(deltas, insertions, strict=True):
                    delta *= min(1.0, settings.clamp * insertion.size / max(float(delta.norm()), 1e-30))
    report(STAGE, settings.steps, settings.steps)
    return deltas[0].detach(), losses, probability


def _next_at_subject(loaded: LoadedModel, text: _Texts, deltas: Sequence[Tensor]) -> Tensor:
    """Log-probabilities of what follows the subject in "{subject} is a", with each δ added there."""
    hidden = text.hidden(deltas)[0, text.subjects[0] - text.begin[0]]
    return torch.log_softmax(head.logits(loaded, hidden), dim=-1)
