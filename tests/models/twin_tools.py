"""What a model edits and forecasts, as numbers: of two models that are to give the same."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from kis_core.covariance.whitener import Whitener
from kis_core.editing import METHODS, Edit, Hyperparameters, RequestedEdit, Settings, Site, method
from kis_core.editing.method import Change
from kis_core.models.loaded import LoadedModel
from kis_core.scoring.log_odds import tokenize_sentences
from kis_core.spillover import forecast, measure, sensitivity
from tests.editing.sequence_tools import SETTINGS
from tests.spillover.test_sensitivity import FACTS

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
