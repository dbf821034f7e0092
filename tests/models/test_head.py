"""Whoever asks a model for an answer gets the logits the model itself gives, also where it bends or scales them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kis_core.editing import Hyperparameters, search
from kis_core.facts import Fact
from kis_core.models import head
from kis_core.models.loaded import LoadedModel
from kis_core.scoring.answers import next_token_logits
from kis_core.scoring.log_odds import read, tokenize_sentences
from kis_core.scoring.perplexity import perplexity
from tests import tiny
from tests.models.test_architectures import assert_close, lively

FLOAT32 = 1e-5  # relative: logits of size 30, and sums of their exponentials; seen 3e-7
LOUD = 20  # times the weights that make logits, which then pass Gemma 2's cap of 30 by far; tied inputs grow with them
FACT = Fact("Malta", "The capital of {} is", "Valletta")


@pytest.fixture(params=tiny.in_full(tiny.EVERY_ARCHITECTURE, ("GPT-2", "Gemma 2", "Granite", "Cohere")), scope="module")
def loud(request: pytest.FixtureRequest) -> tuple[str, LoadedModel]:
    loaded = lively(request.param)
    loaded.model.get_output_embeddings().weight.mul_(LOUD)
    return request.param, loaded


@torch.no_grad()
def own_logits(loaded: LoadedModel, ids: list[int]) -> torch.Tensor:
    """Of the model's own forward pass, (T, vocabulary)."""
    return loaded.model(torch.tensor([ids]), use_cache=False).logits[0].double()


@torch.no_grad()
def test_logits_are_the_models_own(loud: tuple[str, LoadedModel]) -> None:
    name, loaded = loud
    hidden = loaded.model.base_model(torch.tensor([[5, 6, 7]]), use_cache=False).last_hidden_state
    own, bare = own_logits(loaded, [5, 6, 7]), loaded.model.get_output_embeddings()(hidden)[0]
    assert_close(head.logits(loaded, hidden)[0].numpy(), own.numpy(), FLOAT32)
    assert bare.abs().max() > 35, "a test of no cap"
    assert (loaded.architecture.logit_cap is not None) == (name == "Gemma 2")
    assert loaded.architecture.logit_scale == {"Granite": 1 / 8, "Cohere": 0.1}.get(name, 1)
    bent = float((own - bare).abs().max()) > 0.1 * float(bare.abs().max())
    assert bent == (name in ("Gemma 2", "Granite", "Cohere"))


def test_whoever_asks_gets_them(loud: tuple[str, LoadedModel]) -> None:
    """Next tokens, log-probabilities, perplexity, and the first step of the search for a value."""
    _, loaded = loud
    [sentence] = tokenize_sentences(loaded.tokenizer, [FACT], context=loaded.context)
    own = own_logits(loaded, sentence.tokens)[sentence.prompt_end :]
    asked = next_token_logits(loaded, [sentence.tokens[: sentence.prompt_end + 1]])
    assert_close(asked[0].numpy(), own[0].numpy(), FLOAT32)
    logs = [float(row[token]) for row, token in zip(own.log_softmax(dim=-1), sentence.answer, strict=True)]
    with torch.no_grad():
        actual = read(loaded, [sentence])
    assert float(actual.log_prob[0]) == pytest.approx(sum(logs), rel=FLOAT32)
    assert_close(actual.first_token[0].numpy(), own[0].numpy(), FLOAT32)
    how = Hyperparameters(steps=1, prefixes=(), stop_loss=0, weight_decay=0, kl=0)
    assert search(loaded, FACT, FACT.target, 1, how).losses[0] == pytest.approx(-np.mean(logs), rel=FLOAT32)
    ids = loaded.tokenizer.encode("Oslo lies in Norway.")
    every = own_logits(loaded, ids).log_softmax(dim=-1)
    mean = np.mean([float(every[at - 1, ids[at]]) for at in range(1, len(ids))])
    assert math.log(perplexity(loaded, ["Oslo lies in Norway."])) == pytest.approx(-mean, rel=FLOAT32)
