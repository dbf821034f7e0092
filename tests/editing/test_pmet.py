"""PMET against its authors' loop in float64, one context at a time, on weights that are written to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kis_core.editing import Edit, EditError, Hyperparameters, RequestedEdit, search
from kis_core.facts import Fact
from tests import tiny
from tests.editing.sequence_tools import (
    ASKED,
    FOUND,
    HOWS,
    LAMBDA,
    PAIR,
    PLAIN,
    Place,
    Search,
    Written,
    before,
    close,
    gpt2,
    perform,
    place,
    place_of,
    weights_stay,
    written,
)

__all__ = ["gpt2", "place", "weights_stay"]  # fixtures

ATTENTIONS = {
    "GPT-2": "attn.c_proj",
    "GPT-J": "attn.out_proj",
    "GPT-NeoX": "attention.dense",
    "Llama": "self_attn.o_proj",
}
SAYING = replace(PLAIN, steps=6, learning_rate=1.0, weight_decay=0.0, clamp=100.0)
AT_THE_END = RequestedEdit(Fact("Malta", "The capital of {}", "Valletta"), "is")
"""An edit that a random model says after three such steps, as the answer is read where the value is written."""


class TwoDeltas:
    """The authors' search: δ's of attention and MLP in one Adam; attention's acts at the subject's last token."""

    def __init__(self, slow: Written, name: str, edit: RequestedEdit, layer: int, how: Hyperparameters) -> None:
        self.slow, self.edit, self.layer, self.how = slow, edit, layer, how
        self.attention: nn.Module = slow.blocks[layer].get_submodule(ATTENTIONS[name])
        self.facts, self.essence = slow.in_contexts(edit), replace(edit.fact, prompt="{} is a")

    def logits(self, fact: Fact, shares: np.ndarray, mlp: Tensor, attention: Tensor) -> Tensor:
        at = self.slow.subject_at(fact)
        rows = torch.zeros(len(shares), 1, dtype=torch.float64)
        rows[at] = 1
        handle = self.attention.register_forward_hook(lambda _, __, output: output + rows * attention)
        try:
            return self.slow.read(fact, self.layer, torch.from_numpy(shares)[:, None] * mlp).logits
        finally:
            handle.remove()

    def size_of_attention(self) -> float:
        seen: list[Tensor] = []
        handle = self.attention.register_forward_hook(lambda _, __, output: seen.append(output[0].detach()))
        self.slow.read(self.facts[0], self.layer)
        handle.remove()
        return float(seen[0][self.slow.subject_at(self.facts[0])].norm())

    def run(self, reach: np.ndarray) -> tuple[Search, list[float]]:
        """What is found, and how much the new object weighed at each look."""
        slow, how = self.slow, self.how
        sizes = float(np.linalg.norm(slow.subject(self.facts[0], self.layer)[1])), self.size_of_attention()
        shares = {}
        for fact in (*self.facts, self.essence):  # of keys as they are before any δ
            keys = slow.read(fact, self.layer).keys
            shares[fact] = keys @ reach if how.everywhere else np.eye(len(keys))[slow.subject_at(fact)]
        deltas = [torch.zeros(slow.width, dtype=torch.float64, requires_grad=True) for _ in sizes]
        optimizer = torch.optim.Adam(deltas, lr=how.learning_rate)
        losses: list[float] = []
        weights: list[float] = []
        factor = 1.0
        first = None
        for look in range(how.steps + 1):
            each, said = [], []
            for fact in self.facts:
                logits = self.logits(fact, shares[fact], *deltas)
                prompt, answer = slow.tokens(fact)
                each.append(slow.log_prob(fact, logits) / len(answer))
                best = logits[len(prompt) - 1 : len(prompt) - 1 + len(answer)].argmax(dim=-1)
                said.append(best.tolist() == answer)
            log_prob = torch.stack(each).mean()
            about = self.logits(self.essence, shares[self.essence], *deltas)[slow.subject_at(self.essence)]
            now = torch.log_softmax(about, dim=-1)
            first = now.detach() if first is None else first
            kl = how.kl * (now.exp() * (now - first)).sum()
            decay = sum(how.weight_decay * delta.norm() / size**2 for delta, size in zip(deltas, sizes, strict=True))
            loss = -factor * log_prob + kl + decay
            losses.append(float(loss.detach()))
            weights.append(factor)
            if how.kl:
                factor = 0.1 if all(said) else 1.0
            if look == how.steps or (how.kl and all(said) and float(kl.detach()) <= 0.01):
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for delta, size in zip(deltas, sizes, strict=True):
                    delta *= min(1.0, how.clamp * size / float(delta.norm()))
        return Search(deltas[0].detach().numpy(), losses, float(log_prob.detach().exp())), weights


CASES = [
    ("GPT-2", (0, 1), "mean key"),
    ("GPT-2", (1,), "acting everywhere"),
    *((name, (0, 1), "acting everywhere") for name in ("GPT-J", "GPT-NeoX", "Llama")),  # the first two in parallel
]


@pytest.mark.parametrize(("place", "layers", "chosen"), tiny.in_full(CASES, ("GPT-2",)), indirect=["place"])
def test_is_the_authors_loop_layer_after_layer(place: Place, layers: tuple[int, ...], chosen: str) -> None:
    name, how, last = place.loaded.architecture.name, HOWS[chosen], layers[-1]
    site = place.site(layers, how, standing=before())
    made = perform("pmet", site, PAIR)
    slow = written(place, site.standing)

    def key_of(one: RequestedEdit, layer: int) -> np.ndarray:
        return slow.over_types(one, layer) if how.mean_key else slow.subject(slow.in_contexts(one)[0], layer)[0]

    def output_of(one: RequestedEdit) -> np.ndarray:
        return slow.subject(slow.in_contexts(one)[0], last)[1]

    def formula(layer: int, keys: np.ndarray) -> np.ndarray:
        return np.asarray(keys @ np.linalg.inv(LAMBDA * place.cs[layer] + keys.T @ keys))

    z = []
    for one, its in zip(PAIR, made, strict=True):
        alone = formula(last, key_of(one, last)[None])[0]
        alone = alone / (alone @ slow.subject(slow.in_contexts(one)[0], last)[0])
        found, _ = TwoDeltas(slow, name, one, last, how).run(alone)
        assert its.steps == len(found.losses) - 1
        assert its.probability == pytest.approx(found.probability, rel=FOUND)
        z.append(output_of(one) + found.delta)
    for done, layer in enumerate(layers):
        keys = np.array([key_of(one, layer) for one in PAIR])
        missing = (np.array(z) - [output_of(one) for one in PAIR]) / np.sqrt(len(layers) - done)
        expected = missing.T @ formula(layer, keys)
        close(np.sum([its.changes[done].matrix for its in made], axis=0), expected, 2 * FOUND)
        close(np.array([its.keys[done] for its in made]), keys, FOUND)
        slow.write(layer, expected)


@pytest.mark.parametrize(("kl", "eased", "ended"), [(1.0, True, False), (1e-3, False, True), (0.0, False, False)])
def test_what_is_said_counts_a_tenth_and_ends_the_search_where_hardly_anything_drifts(
    gpt2: Place, kl: float, eased: bool, ended: bool
) -> None:
    how, slow = replace(SAYING, kl=kl), written(gpt2, ())
    slow.beginnings = ()
    found, weights = TwoDeltas(slow, "GPT-2", AT_THE_END, 1, how).run(np.zeros(40))
    assert (0.1 in weights, len(weights) - 1 < how.steps) == (eased, ended)
    value = search(gpt2.double, AT_THE_END.fact, AT_THE_END.target, 1, how, prefixes=(), with_attention=True)
    assert value.losses == pytest.approx(found.losses, rel=FOUND)
    close(value.delta, found.delta, FOUND)


def test_a_model_that_norms_what_the_mlp_puts_out_is_edited_in_one_layer_alone() -> None:
    gemma = place_of("Gemma 2")
    gemma = replace(gemma, double=gemma.loaded)  # float64 makes its masks not a number
    (made,) = perform("pmet", gemma.site((1,)), ASKED[:1])
    assert isinstance(made.changes[0], Edit)
    with pytest.raises(EditError, match=r"PMET spreads .* is scaled or normed .* Choose one layer, or ROME"):
        perform("pmet", gemma.site((0, 1)), ASKED[:1])


def test_where_the_attention_puts_out_elsewhere_it_is_refused(gpt2: Place) -> None:
    unknown = replace(gpt2.double, architecture=replace(gpt2.double.architecture, attention_outputs=()))
    with pytest.raises(EditError, match=r"attention’s output, which is not where GPT-2 has it\. Choose MEMIT or ROME"):
        perform("pmet", replace(gpt2, double=unknown).site((1,)), ASKED[:1])
