"""Whoever asks a model for an answer gets the logits the model itself gives, also where it bends or scales them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from kis_core.editing import Hyperparameters, search
from kis_core.facts import Fact
from kis_core.models.loaded import LoadedModel
from kis_core.scoring.answers import knows, next_token_logits
from kis_core.scoring.log_odds import read, tokenize_sentences
from kis_core.scoring.perplexity import perplexity
from tests import tiny
from tests.spillover.test_sensitivity import FACTS, lively

FLOAT32 = 1e-5  # relative: logits of size 30, and sums of their exponentials; seen 3e-7
LOUD = 20  # times the weights that make logits, which then pass Gemma 2's cap of 30 by far
CAP = 30


@pytest.fixture(params=tiny.in_full(["Gemma 2", "Granite", "Cohere", "Llama"], ("Gemma 2", "Granite")), scope="module")
def loud(request: pytest.FixtureRequest) -> LoadedModel:
    loaded = lively(request.param)
    loaded.model.get_output_embeddings().weight.mul_(LOUD)
    return loaded


@torch.no_grad()
def own_logits(loaded: LoadedModel, ids: list[int]) -> np.ndarray:
    """Of the model's own forward pass, (T, vocabulary), one text at a time."""
    return np.asarray(loaded.model(torch.tensor([ids]), use_cache=False).logits[0].double().numpy())


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def test_the_fixture_is_loud_enough(loud: LoadedModel) -> None:
    with torch.no_grad():
        bare = loud.model.get_output_embeddings()(loud.model.base_model(torch.tensor([[5, 6, 7]])).last_hidden_state)
    assert bare.abs().max() > CAP, "a test of no cap"
    bent = np.abs(own_logits(loud, [5, 6, 7]) - bare[0].double().numpy()).max() > 0.1 * float(bare.abs().max())
    assert bent == (loud.model.config.model_type != "llama"), "a test of no scale"


def test_log_probabilities_and_first_tokens(loud: LoadedModel) -> None:
    sentences = tokenize_sentences(loud.tokenizer, FACTS, context=loud.context)
    with torch.no_grad():
        found = read(loud, sentences)
    for row, sentence in enumerate(sentences):
        logs = log_softmax(own_logits(loud, sentence.tokens))[sentence.prompt_end :]
        expected = sum(log[token] for log, token in zip(logs, sentence.answer, strict=True))
        assert float(found.log_prob[row]) == pytest.approx(expected, rel=FLOAT32)
        first = own_logits(loud, sentence.tokens)[sentence.prompt_end]
        next_token = next_token_logits(loud, [sentence.tokens[: sentence.prompt_end + 1]])[0].numpy()
        for logits in (found.first_token[row].numpy(), next_token):
            np.testing.assert_allclose(logits, first, rtol=0, atol=FLOAT32 * np.abs(first).max())


def test_perplexity(loud: LoadedModel) -> None:
    text = "Oslo lies in Norway."
    ids = loud.tokenizer.encode(text)
    logs = log_softmax(own_logits(loud, ids))
    mean = np.mean([logs[at - 1, ids[at]] for at in range(1, len(ids))])
    assert math.log(perplexity(loud, [text])) == pytest.approx(-mean, rel=FLOAT32)


def test_what_the_model_knows_is_its_own_first_choice(loud: LoadedModel) -> None:
    ids = loud.tokenizer.encode(FACTS[0].text)
    word = loud.tokenizer.decode([int(own_logits(loud, ids)[-1].argmax())])
    answered = Fact(FACTS[0].subject, FACTS[0].prompt, word.strip())
    sentence = loud.tokenizer.encode(f"{answered.text} {answered.target}")
    choices = own_logits(loud, sentence).argmax(axis=-1)
    expected = all(choices[at - 1] == sentence[at] for at in range(len(ids), len(sentence)))
    assert knows(loud, [FACTS[0], answered]) == [False, expected]


def test_the_search_for_a_value_begins_at_the_models_own_probability(loud: LoadedModel) -> None:
    how = Hyperparameters(steps=1, prefixes=(), stop_loss=0, weight_decay=0, kl=0)
    found = search(loud, FACTS[0], "Rome", 1, how)
    (sentence,) = tokenize_sentences(loud.tokenizer, [replace(FACTS[0], target="Rome")], context=loud.context)
    logs = log_softmax(own_logits(loud, sentence.tokens))[sentence.prompt_end :]
    mean = np.mean([log[token] for log, token in zip(logs, sentence.answer, strict=True)])
    assert found.losses[0] == pytest.approx(-mean, rel=FLOAT32)
