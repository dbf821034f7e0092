"""What tests of methods of editing share: a model, and a slow float64 one whose weights are written to."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from kis_core import progress
from kis_core.covariance.whitener import Whitener
from kis_core.editing import DenseEdit, Edit, Hyperparameters, PerformedEdit, RequestedEdit, Settings, Site, method
from kis_core.editing.methods.alphaedit import AlphaEditSettings
from kis_core.editing.methods.emmet import EmmetSettings
from kis_core.editing.methods.fine_tuning import FineTuningSettings
from kis_core.editing.methods.memit import MemitSettings
from kis_core.editing.methods.pmet import PmetSettings
from kis_core.editing.methods.prune import PruneSettings
from kis_core.editing.methods.rect import RectSettings
from kis_core.facts import Fact
from kis_core.models.loaded import LoadedModel
from tests.editing.lively_models import IN_FULL, untouched
from tests.spillover.test_sensitivity import Slow, lively

FOUND = 2e-5
"""A δ searched for, relative to its largest number: Adam in float32 on float32 logits; seen 2.4e-6."""
READ = 2e-6  # keys and outputs, relative to the largest: transformers takes softmax in float32 anyway; seen 2.2e-7
REACHED = 1e-5  # C⁻¹ of such a key at a condition of 1e4; seen 6e-7
FORMULA = 1e-9  # float64 with an inverse where the program solves, at a condition below 1e5

RATE, STEPS = 0.3, 2
PLAIN = Hyperparameters(steps=STEPS, learning_rate=RATE, stop_loss=0, mean_key=False)
MEAN = replace(PLAIN, mean_key=True, weight_decay=2.0, clamp=0.5)
ACTING = replace(PLAIN, everywhere=True)
HOWS = {"plain": PLAIN, "mean key": MEAN, "acting everywhere": ACTING}
LAMBDA = 0.5
SETTINGS = {
    "memit": MemitSettings(LAMBDA),
    "memit-past": MemitSettings(LAMBDA),
    "emmet": EmmetSettings(LAMBDA),
    "pmet": PmetSettings(LAMBDA),
    "rect": RectSettings(0.2),
    "prune": PruneSettings(1.2),
    "alphaedit": AlphaEditSettings(None, None),
    "fine-tuning": FineTuningSettings(0.02, 4),
}
BEGINNINGS = ("It is said", "Long {ago. ", "  .")  # braces and the full stop go out, and one that leaves nothing too
ASKED = (
    RequestedEdit(Fact("Malta", "The capital of {} is", "Valletta"), "Rome"),
    RequestedEdit(Fact("Vladimir Mayakovsky", "{} speaks", "Russian"), " Norwegian "),
    RequestedEdit(Fact("Malta", "The capital of {} is", "Valletta"), "Paris"),  # once more
)
PAIR = (ASKED[0], ASKED[1])


@dataclass(frozen=True)
class Search:
    """What a search gives: δ, the loss before every step and at the end, and the probability of the new object."""

    delta: np.ndarray
    losses: list[float]
    probability: float


class Written(Slow):
    """A slow model whose weights are really written to, and which is searched and edited by formula."""

    beginnings = ("It is said", "Long ago")  # those of `BEGINNINGS` as a reader would clean them

    def write(self, layer: int, change: np.ndarray) -> None:
        with torch.no_grad():
            weight = self.projections[layer].weight
            assert isinstance(weight, Tensor)
            weight += torch.from_numpy(change.T if self.transposed else change)

    def in_contexts(self, edit: RequestedEdit) -> list[Fact]:
        """The prompt alone, then after the beginnings."""
        fact = replace(edit.fact, target=edit.target.strip())
        return [fact, *(replace(fact, prompt=f"{begun}. {fact.prompt}") for begun in self.beginnings)]

    def subject(self, fact: Fact, layer: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Key, output and residual stream after the layer at the subject's last token."""
        seen, at = self.read(fact, layer), self.subject_at(fact)
        return seen.keys[at], seen.outputs[at], seen.hidden[at]

    def means(self, edit: RequestedEdit, layer: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same as means over all contexts."""
        parts = [self.subject(fact, layer) for fact in self.in_contexts(edit)]
        return tuple(np.mean([part[k] for part in parts], axis=0) for k in range(3))  # type: ignore[return-value]

    def over_types(self, edit: RequestedEdit, layer: int) -> np.ndarray:
        """The key as MEMIT's code takes it: a mean within each type of contexts, the prompt alone being one, then over
        the types."""
        types = [self.in_contexts(edit)[:1], self.in_contexts(edit)[1:]]
        return np.mean([np.mean([self.subject(fact, layer)[0] for fact in of_type], axis=0) for of_type in types], 0)

    def search(
        self, edit: RequestedEdit, layer: int, how: Hyperparameters, reach: np.ndarray, *, of_stream: bool = False
    ) -> Search:
        """Adam on δ in float64, one context at a time (Meng et al., arXiv 2202.05262, eq. 4).

        Weight decay and clamp are relative to the MLP's output in ROME's code, to the residual stream in MEMIT's.
        """
        facts, essence = self.in_contexts(edit), replace(edit.fact, prompt="{} is a")
        size = np.linalg.norm(self.subject(facts[0], layer)[2 if of_stream else 1])
        tokens = len(self.tokens(facts[0])[1])
        delta = torch.zeros(self.width, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([delta], lr=how.learning_rate)

        def logits(fact: Fact) -> Tensor:
            keys = self.read(fact, layer).keys
            share = keys @ reach if how.everywhere else np.eye(len(keys))[self.subject_at(fact)]
            return self.read(fact, layer, torch.from_numpy(share)[:, None] * delta).logits

        def said_of_it() -> Tensor:
            return torch.log_softmax(logits(essence)[self.subject_at(essence)], dim=-1)

        losses: list[float] = []
        before = said_of_it().detach()
        while True:
            log_prob: Tensor = torch.zeros(())
            for fact in facts:
                log_prob = log_prob + self.log_prob(fact, logits(fact)) / len(facts) / tokens
            loss = -log_prob + how.weight_decay * delta.norm() / size**2
            if how.kl:
                now = said_of_it()
                loss = loss + how.kl * (now.exp() * (now - before)).sum()
            losses.append(float(loss.detach()))
            if len(losses) > how.steps:
                return Search(delta.detach().numpy(), losses, float(log_prob.detach().exp()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                delta *= min(1.0, how.clamp * size / float(delta.norm()))


@dataclass(frozen=True)
class Place:
    """A model in float32 and float64, and C of each layer."""

    loaded: LoadedModel
    double: LoadedModel
    cs: tuple[np.ndarray, ...]

    def site(self, layers: Sequence[int], how: Hyperparameters = PLAIN, **more: object) -> Site:
        whiteners = {layer: Whitener.fit(self.cs[layer]) for layer in layers}
        options = {"settings": Settings(), "prefixes": BEGINNINGS} | more
        return Site(self.double, tuple(layers), whiteners, how, **options)  # type: ignore[arg-type]


def perform(name: str, site: Site, edits: Sequence[RequestedEdit], *report: progress.Report) -> list[PerformedEdit]:
    """A method's edits, by `SETTINGS` where the site has none."""
    if type(site.settings) is Settings:
        site = replace(site, settings=SETTINGS.get(name, site.settings))
    return method(name).perform(site, edits, *report)


def place_of(architecture: str) -> Place:
    loaded = lively(architecture)
    model, recognised = copy.deepcopy((loaded.model, loaded.architecture))
    rng = np.random.default_rng(5)
    cs = []
    for layer in range(3):
        key = np.abs(Slow(loaded).read(ASKED[0].fact, layer).keys).max()
        sample = rng.normal(size=(80, 40)) * key * np.geomspace(1, 0.03, 40) + rng.normal(size=40) * key / 10
        turn, _ = np.linalg.qr(rng.normal(size=(40, 40)))
        cs.append(turn @ (sample.T @ sample / 80) @ turn.T)
    return Place(loaded, LoadedModel(model.double(), loaded.tokenizer, recognised, loaded.device), tuple(cs))


@pytest.fixture(params=IN_FULL, scope="module")
def place(request: pytest.FixtureRequest) -> Place:
    return place_of(request.param)


@pytest.fixture(scope="module")
def gpt2() -> Place:
    return place_of("GPT-2")


@pytest.fixture(autouse=True)
def weights_stay(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test the model of its place is as it was."""
    name = next((name for name in ("place", "gpt2") if name in request.fixturenames), None)
    places = [request.getfixturevalue(name)] if name else []
    with untouched(*(model for there in places for model in (there.loaded, there.double))):
        yield


def close(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Within a share of the largest expected entry."""
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def before(seed: int = 0) -> tuple[Edit | DenseEdit, ...]:
    """Edits that stand already, in two layers."""
    rng = np.random.default_rng(seed)
    return (
        Edit(1, rng.normal(size=40), rng.normal(size=24)),
        DenseEdit(0, rng.normal(size=(24, 40)) / 5),
        Edit(0, rng.normal(size=40), rng.normal(size=24) / 2),
    )


def written(place: Place, edits: Sequence[Edit | DenseEdit]) -> Written:
    slow = Written(place.double)
    for one in edits:
        slow.write(one.layer, one.matrix if isinstance(one, DenseEdit) else np.outer(one.delta, one.reach))
    return slow
