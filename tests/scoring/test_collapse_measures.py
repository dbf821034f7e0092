"""What is watched while edits pile up: perplexity, what the model goes on to say, and what methods start from."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from kis_core.editing import DenseEdit, applied
from kis_core.editing.success import WORDS, continuations, generate
from kis_core.facts import Fact
from kis_core.models.loaded import LoadedModel
from kis_core.scoring.perplexity import perplexity
from tests import tiny
from tests.spillover.test_sensitivity import FACTS, hooks_of, lively

READ = 1e-5  # relative: float32 losses of size 8 and their mean; seen 1e-7
TEXTS = (
    "Malta is an island.",
    "The quick brown fox jumps over the lazy dog, and nobody knows why it did so on that day of all days.",
    "x",
    "",
    "Oslo lies in Norway. " * 20,  # longer than the model reads
    "Rome",
)


@pytest.fixture(params=tiny.in_full(tiny.ARCHITECTURES), scope="module")
def model(request: pytest.FixtureRequest) -> LoadedModel:
    return lively(request.param)


@pytest.fixture(scope="module")
def gpt2() -> LoadedModel:
    return lively("GPT-2")


@pytest.fixture(autouse=True)
def weights_stay(request: pytest.FixtureRequest) -> Iterator[None]:
    name = next((name for name in ("model", "gpt2") if name in request.fixturenames), None)
    loaded: LoadedModel | None = request.getfixturevalue(name) if name else None
    before = loaded.digest() if loaded else ""
    yield
    if loaded:
        assert loaded.digest() == before
        assert hooks_of(loaded) == 0


def slow_perplexity(loaded: LoadedModel, texts: tuple[str, ...]) -> float:
    """One text and one token at a time, in float64."""
    slow = copy.deepcopy(loaded.model).double()
    losses = []
    for text in texts:
        ids = loaded.tokenizer.encode(text)[: tiny.CONTEXT]
        for at in range(1, len(ids)):
            with torch.no_grad():
                logits = slow(torch.tensor([ids[:at]])).logits[0, -1].numpy()
            losses.append(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[ids[at]])
    return math.exp(sum(losses) / len(losses))


class TestPerplexity:
    def test_equals_one_token_at_a_time(self, model: LoadedModel) -> None:
        assert len(model.tokenizer.encode(TEXTS[4])) > tiny.CONTEXT > len(model.tokenizer.encode(TEXTS[1])) > 2
        expected = slow_perplexity(model, TEXTS)
        assert perplexity(model, TEXTS) == pytest.approx(expected, rel=READ)
        assert perplexity(model, TEXTS[::-1], tokens_per_batch=1) == pytest.approx(expected, rel=READ)

    def test_of_the_beginning_of_each_text_alone(self, model: LoadedModel) -> None:
        begun = [model.tokenizer.decode(model.tokenizer.encode(text)[:3]) for text in TEXTS]
        assert perplexity(model, TEXTS, longest=3) == pytest.approx(slow_perplexity(model, begun), rel=READ)

    def test_more_rows_than_are_held_at_once(self, gpt2: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = perplexity(gpt2, TEXTS)
        monkeypatch.setattr("kis_core.scoring.perplexity.AT_ONCE", 7)
        assert perplexity(gpt2, TEXTS) == pytest.approx(expected, rel=READ)

    def test_of_a_model_that_knows_nothing_is_the_size_of_its_vocabulary(self) -> None:
        flat = tiny.model("GPT-NeoX")
        flat.model.get_output_embeddings().weight.zero_()
        assert perplexity(flat, TEXTS) == pytest.approx(tiny.VOCABULARY, rel=READ)

    def test_is_not_a_number_where_nothing_is_predicted_or_the_model_says_none(self, gpt2: LoadedModel) -> None:
        for texts in ((), ("",), ("the", "", "of")):
            assert all(len(gpt2.tokenizer.encode(text)) < 2 for text in texts)
            assert math.isnan(perplexity(gpt2, texts))
        with applied(gpt2, DenseEdit(1, np.full((24, 40), 1e38))):
            assert math.isnan(perplexity(gpt2, TEXTS))

    def test_of_a_model_sure_of_what_is_wrong_is_infinite(self) -> None:
        sure = lively("GPT-NeoX")
        sure.model.get_output_embeddings().weight.mul_(10_000)
        assert perplexity(sure, TEXTS[:2]) == math.inf


def slow_words(loaded: LoadedModel, fact: Fact, tokens: int) -> str:
    ids = loaded.tokenizer.encode(fact.text)
    begun = len(ids)
    while len(ids) < min(begun + tokens, tiny.CONTEXT):
        with torch.no_grad():
            token = int(loaded.model(torch.tensor([ids])).logits[0, -1].argmax())
        if token == loaded.tokenizer.eos_token_id:
            break
        ids.append(token)
    return str(loaded.tokenizer.decode(ids[begun:])).strip()


class TestContinuations:
    LONG = Fact("Malta", "of " * 58 + "{} is", "x")

    def test_in_a_batch_equal_one_at_a_time(self, model: LoadedModel) -> None:
        facts = [*FACTS, self.LONG]
        assert tiny.CONTEXT - WORDS < len(model.tokenizer.encode(self.LONG.text)) < tiny.CONTEXT
        actual = continuations(model, facts)
        assert actual == [slow_words(model, fact, WORDS) for fact in facts]
        assert len(set(actual)) > 3, "a test of nothing"
        assert generate(model, facts[1], 3) == slow_words(model, facts[1], 3)

    def test_each_ends_where_the_model_ends_it_and_the_others_go_on(self, gpt2: LoadedModel) -> None:
        """One of the tokens said becomes the end of text."""
        spoken = [gpt2.tokenizer(fact.text)["input_ids"] for fact in FACTS]
        with torch.no_grad():
            seconds = []
            for ids in spoken:
                first = int(gpt2.model(torch.tensor([ids])).logits[0, -1].argmax())
                seconds.append(int(gpt2.model(torch.tensor([[*ids, first]])).logits[0, -1].argmax()))
        tokenizer = copy.deepcopy(gpt2.tokenizer)
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(seconds[0])
        ending = LoadedModel(gpt2.model, tokenizer, gpt2.architecture, gpt2.device)
        actual = continuations(ending, FACTS, 6)
        assert actual == [slow_words(ending, fact, 6) for fact in FACTS]
        lengths = {len(tokenizer.encode(words)) for words in actual}
        assert len(lengths) > 1, "a test of nothing"

    def test_nothing_is_said_of_nothing_or_in_no_words_or_where_no_room_is(self, gpt2: LoadedModel) -> None:
        assert continuations(gpt2, []) == []
        assert continuations(gpt2, FACTS[:2], 0) == ["", ""]
        full = Fact("Malta", "of " * 90 + "{} is", "x")
        assert len(gpt2.tokenizer.encode(full.text)) > tiny.CONTEXT
        assert continuations(gpt2, [full, FACTS[0]]) == ["", slow_words(gpt2, FACTS[0], WORDS)]
