"""A model in half precision: every edit, forecast and measurement is that of float32, but for rounding.

The model in float32 has the same weights, rounded to half precision before: what differs is arithmetic alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from kis_core.covariance.whitener import Whitener
from kis_core.editing import METHODS, Edit, Hyperparameters, RequestedEdit, Settings, applied, method, search, succeeded
from kis_core.editing.method import Change, Site
from kis_core.editing.probes import Probes
from kis_core.keys import fact_keys, tokenize_prompts
from kis_core.models.architecture import recognise
from kis_core.models.loaded import LoadedModel
from kis_core.scoring.log_odds import tokenize_sentences
from kis_core.scoring.perplexity import perplexity
from kis_core.spillover import forecast, measure, sensitivity
from tests import tiny
from tests.editing.sequence_tools import SETTINGS
from tests.spillover.test_sensitivity import FACTS, hooks_of, lively

READ = 16
"""Roundings, of the largest number, that what is read off one pass may be off: a sum of some ten rounded terms, at each
of some ten operations in a row; seen 6."""
CHANGED = 64
"""The same of what is a difference of two passes, or the outcome of several steps down a gradient; seen 33."""
LAYER, SPREAD = 1, (0, 1)  # that are edited
ASKED = RequestedEdit(FACTS[0], "Rome")
_FEW = Hyperparameters(steps=4, learning_rate=0.3, weight_decay=0, prefixes=(), stop_loss=0)
HOWS = {"at the subject": replace(_FEW, kl=0.0625, mean_key=True), "everywhere": replace(_FEW, everywhere=True)}


def every_case() -> list[Any]:
    """Methods and hows, as parameters of a test; in quick those whose code differs."""
    quick = [*((name, "at the subject") for name in ("rome", "alphaedit", "fine-tuning")), ("rome", "everywhere")]
    every = product((one.name for one in METHODS), HOWS)
    return [pytest.param(*case, marks=[] if case in quick else pytest.mark.stress) for case in every]


def edited(
    loaded: LoadedModel,
    name: str,
    how: str,
    whiteners: dict[int, Whitener],
    *,
    steps: int = 4,
    standing: tuple[Change, ...] = (),
) -> tuple[tuple[Change, ...], np.ndarray, float]:
    """What a method changes, the keys it does so at, and the probability it aims at."""
    layers = SPREAD if method(name).spreads else (LAYER,)
    chosen, settings = {layer: whiteners[layer] for layer in layers}, SETTINGS.get(name, Settings())
    site = Site(loaded, layers, chosen, replace(HOWS[how], steps=steps), settings, ("It is said",), standing=standing)
    (made,) = method(name).perform(site, [ASKED])
    return made.changes, made.keys, made.probability


def spillover(loaded: LoadedModel, edit: Edit) -> list[np.ndarray]:
    """Every forecast of an edit, and its measurement."""
    sentences = tokenize_sentences(loaded.tokenizer, FACTS, context=loaded.context)
    facts = sensitivity(loaded, sentences, edit.layer)
    logits, change = forecast.first_order_logits(loaded, sentences, edit)
    measured = measure(loaded, sentences, edit, facts)
    by_hidden = (forecast.shift, forecast.subject_token, forecast.all_tokens, forecast.largest_share)
    return [
        *(predict(edit, facts) for predict in by_hidden),
        *(forecast.propagated(loaded, sentences, edit, facts), logits.numpy(), change.numpy()),
        *(measured.shift, measured.log_odds, measured.log_prob, facts.gradients, facts.hidden),
    ]


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

    def close(self, actual: np.ndarray, expected: np.ndarray, roundings: float) -> None:
        """Finite, and within so many roundings of the largest expected entry."""
        assert np.isfinite(actual).all()
        off = np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max() / self.rounding
        assert off <= roundings


KINDS = [f"{architecture} in {dtype}" for architecture in ("GPT-2", "Llama") for dtype in ("bfloat16", "float16")]


@pytest.fixture(params=tiny.in_full(KINDS, KINDS[:1]), scope="module")
def pair(request: pytest.FixtureRequest) -> Pair:
    architecture, dtype = request.param.split(" in ")
    loaded = lively(architecture)
    half = loaded.model.to(getattr(torch, dtype))
    models = [
        LoadedModel(one, loaded.tokenizer, recognise(one), loaded.device, kind)
        for one, kind in ((half, dtype), (copy.deepcopy(half).float(), "float32"))
    ]
    prompts = tokenize_prompts(loaded.tokenizer, FACTS, context=loaded.context)
    rng, whiteners = np.random.default_rng(3), {}
    for layer, own in enumerate(fact_keys(models[1], prompts).astype(np.float64)):
        sample = rng.normal(size=(200, own.shape[1])) * np.abs(own).mean()
        whiteners[layer] = Whitener.fit(sample.T @ sample / len(sample))
    return Pair(models[0], models[1], whiteners)


@pytest.fixture(autouse=True)
def weights_stay(pair: Pair) -> Iterator[None]:
    before = pair.half.digest()
    yield
    assert pair.half.digest() == before
    assert {weight.dtype for weight in pair.half.model.parameters()} == {getattr(torch, pair.half.dtype)}
    assert hooks_of(pair.half) == 0


def test_keys_and_the_search_for_a_value(pair: Pair) -> None:
    models = (pair.half, pair.single)
    prompts = tokenize_prompts(pair.half.tokenizer, FACTS, context=pair.half.context)
    actual, expected = (fact_keys(loaded, prompts) for loaded in models)
    assert actual.dtype == np.float32
    pair.close(actual, expected, READ)
    actual, expected = (search(loaded, ASKED.fact, ASKED.target, LAYER, HOWS["at the subject"]) for loaded in models)
    pair.close(np.array(actual.losses), np.array(expected.losses), READ)
    pair.close(actual.delta, expected.delta, CHANGED)
    assert expected.losses[-1] < expected.losses[0] - 0.1, "a test of nothing"


@pytest.mark.parametrize(("name", "how"), every_case())
def test_every_method_edits(pair: Pair, name: str, how: str) -> None:
    (actual, own_keys, own), (expected, keys, probability) = (
        edited(loaded, name, how, pair.whiteners) for loaded in (pair.half, pair.single)
    )
    for one, other in zip(actual, expected, strict=True):
        pair.close(one.moves(keys), other.moves(keys), CHANGED)
    pair.close(own_keys, keys, READ)
    assert own == pytest.approx(probability, rel=CHANGED * pair.rounding)


def test_forecasts_measurement_and_what_an_edited_model_says(pair: Pair) -> None:
    (edit,), *_ = edited(pair.single, "rome", "everywhere", pair.whiteners)
    assert isinstance(edit, Edit)
    for actual, expected in zip(spillover(pair.half, edit), spillover(pair.single, edit), strict=True):
        pair.close(actual, expected, CHANGED)
    said = []
    for loaded in (pair.half, pair.single):
        assert 0 <= succeeded(loaded, edit, ASKED.fact, "Rome", Probes()).probability_new <= 1
        with applied(loaded, edit):
            said.append(np.log(perplexity(loaded, ["Oslo lies in Norway.", "Malta is an island."])))
    pair.close(*map(np.array, said), READ)
