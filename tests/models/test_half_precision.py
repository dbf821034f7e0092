"""A model in half precision: every edit, forecast and measurement is that of float32, but for rounding.

The model in float32 has the same weights, rounded to half precision before: what differs is arithmetic alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from kis_core.covariance.whitener import Whitener
from kis_core.editing import (
    METHODS,
    Edit,
    Hyperparameters,
    RequestedEdit,
    Settings,
    Site,
    applied,
    method,
    search,
    succeeded,
)
from kis_core.editing.probes import Probes
from kis_core.keys import fact_keys, tokenize_prompts
from kis_core.models.architecture import recognise
from kis_core.models.loaded import LoadedModel
from kis_core.scoring.log_odds import Sentence, tokenize_sentences
from kis_core.scoring.perplexity import perplexity
from kis_core.spillover import Sensitivity, forecast, measure, sensitivity
from tests import tiny
from tests.editing.sequence_tools import SETTINGS
from tests.spillover.test_sensitivity import FACTS, hooks_of, lively

READ = 16
"""Roundings, of the largest number, that what is read off one pass may be off: a sum of some ten rounded terms, at each
of some ten operations in a row; seen 6."""
CHANGED = 64
"""The same of what is a difference of two passes, or the outcome of several steps down a gradient; seen 33."""
LAYER = 1
FEW = Hyperparameters(steps=5, learning_rate=0.3, weight_decay=0, prefixes=(), stop_loss=0)
HOWS = {"at the subject": replace(FEW, kl=0.0625, mean_key=True), "everywhere": replace(FEW, everywhere=True)}
BEGINNINGS = ("It is said",)
ASKED = RequestedEdit(FACTS[0], "Rome")


@dataclass(frozen=True)
class Pair:
    """The same weights in half precision and in float32, and C of each layer."""

    half: LoadedModel
    single: LoadedModel
    whiteners: dict[int, Whitener]

    @property
    def rounding(self) -> float:
        """Largest relative error of one."""
        return float(torch.finfo(getattr(torch, self.half.dtype)).eps) / 2

    def sites(self, layers: tuple[int, ...], how: Hyperparameters, name: str) -> tuple[Site, Site]:
        chosen = {layer: self.whiteners[layer] for layer in layers}
        settings = SETTINGS.get(name, Settings())
        one, other = (Site(loaded, layers, chosen, how, settings, BEGINNINGS) for loaded in (self.half, self.single))
        return one, other

    def close(self, found: np.ndarray, expected: np.ndarray, roundings: float) -> None:
        """Finite, and within so many roundings of the largest expected entry."""
        assert np.isfinite(found).all()
        off = np.abs(np.asarray(found) - expected).max() / np.abs(expected).max() / self.rounding
        assert off <= roundings


def pair_of(architecture: str, dtype: str) -> Pair:
    loaded = lively(architecture)
    half = loaded.model.to(getattr(torch, dtype))
    single = copy.deepcopy(half).float()
    models = [
        LoadedModel(one, loaded.tokenizer, recognise(one), loaded.device, kind)
        for one, kind in ((half, dtype), (single, "float32"))
    ]
    prompts = tokenize_prompts(loaded.tokenizer, FACTS, context=loaded.context)
    keys = fact_keys(models[1], prompts).astype(np.float64)
    rng = np.random.default_rng(3)
    whiteners = {}
    for layer, own in enumerate(keys):
        sample = rng.normal(size=(200, own.shape[1])) * np.abs(own).mean()
        whiteners[layer] = Whitener.fit(sample.T @ sample / len(sample))
    return Pair(models[0], models[1], whiteners)


CASES = [f"{architecture} in {dtype}" for architecture in ("GPT-2", "Llama") for dtype in ("bfloat16", "float16")]


@pytest.fixture(params=tiny.in_full(CASES, CASES[:1]), scope="module")
def pair(request: pytest.FixtureRequest) -> Pair:
    return pair_of(*request.param.split(" in "))


@pytest.fixture(autouse=True)
def weights_stay(pair: Pair) -> Iterator[None]:
    before = pair.half.digest()
    yield
    assert pair.half.digest() == before
    assert {weight.dtype for weight in pair.half.model.parameters()} == {getattr(torch, pair.half.dtype)}
    assert hooks_of(pair.half) == 0


@pytest.fixture(scope="module")
def edit(pair: Pair) -> Edit:
    """One that float32 finds."""
    _, site = pair.sites((LAYER,), HOWS["everywhere"], "rome")
    (made,) = method("rome").perform(site, [ASKED])
    (change,) = made.changes
    assert isinstance(change, Edit)
    return change


@pytest.fixture(scope="module")
def sentences(pair: Pair) -> list[Sentence]:
    return tokenize_sentences(pair.half.tokenizer, FACTS, context=pair.half.context)


@pytest.fixture(scope="module")
def facts(pair: Pair, sentences: list[Sentence]) -> tuple[Sensitivity, Sensitivity]:
    return sensitivity(pair.half, sentences, LAYER), sensitivity(pair.single, sentences, LAYER)


def test_keys(pair: Pair) -> None:
    prompts = tokenize_prompts(pair.half.tokenizer, FACTS, context=pair.half.context)
    found, expected = (fact_keys(loaded, prompts) for loaded in (pair.half, pair.single))
    assert found.dtype == np.float32
    pair.close(found, expected, READ)


@pytest.mark.parametrize("how", HOWS)
def test_the_value_is_searched_for(pair: Pair, how: str) -> None:
    solved = pair.whiteners[LAYER].solve
    found, expected = (
        search(
            *(loaded, ASKED.fact, ASKED.target, LAYER, HOWS[how]),
            prefixes=BEGINNINGS,
            reach=lambda key, mean: solved(key) / (key @ solved(key)),
        )
        for loaded in (pair.half, pair.single)
    )
    pair.close(np.array(found.losses), np.array(expected.losses), READ)
    pair.close(found.delta, expected.delta, CHANGED)
    assert expected.losses[-1] < expected.losses[0] - 0.1, "a test of nothing"


@pytest.mark.parametrize("name", tiny.in_full([one.name for one in METHODS], ("rome", "alphaedit", "fine-tuning")))
@pytest.mark.parametrize("how", tiny.in_full(HOWS, ("at the subject",)))
def test_every_method_edits(pair: Pair, name: str, how: str) -> None:
    spreads = method(name).spreads
    half, single = pair.sites((0, LAYER) if spreads else (LAYER,), HOWS[how], name)
    (found,), (expected,) = (method(name).perform(site, [ASKED]) for site in (half, single))
    for one, other in zip(found.changes, expected.changes, strict=True):
        pair.close(one.moves(expected.keys), other.moves(expected.keys), CHANGED)
    pair.close(found.keys, expected.keys, READ)
    assert found.probability == pytest.approx(expected.probability, rel=CHANGED * pair.rounding)


def test_forecasts_and_measurement(
    pair: Pair, edit: Edit, sentences: list[Sentence], facts: tuple[Sensitivity, Sensitivity]
) -> None:
    models = (pair.half, pair.single)
    for predict in (forecast.shift, forecast.subject_token, forecast.all_tokens, forecast.largest_share):
        pair.close(*(predict(edit, own) for own in facts), CHANGED)
    ran = [forecast.propagated(loaded, sentences, edit, own) for loaded, own in zip(models, facts, strict=True)]
    pair.close(*ran, CHANGED)
    logits = [forecast.first_order_logits(loaded, sentences, edit) for loaded in models]
    for found, expected in zip(*logits, strict=True):
        pair.close(found.numpy(), expected.numpy(), CHANGED)
    half, single = (measure(loaded, sentences, edit, own) for loaded, own in zip(models, facts, strict=True))
    for name in ("shift", "log_odds", "log_prob"):
        pair.close(getattr(half, name), getattr(single, name), CHANGED)


def test_what_an_edited_model_says(pair: Pair, edit: Edit) -> None:
    for loaded in (pair.half, pair.single):
        assert 0 <= succeeded(loaded, edit, ASKED.fact, "Rome", Probes()).probability_new <= 1
    found = []
    for loaded in (pair.half, pair.single):
        with applied(loaded, edit):
            found.append(np.log(perplexity(loaded, ["Oslo lies in Norway.", "Malta is an island."])))
    pair.close(*map(np.array, found), READ)
