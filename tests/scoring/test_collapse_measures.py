"""What is watched while edits pile up: perplexity, what the model goes on to say, and what methods start from."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import astuple

import numpy as np
import pytest
import torch

from kis_core import editing
from kis_core.editing import DenseEdit, EditError, Weights, applied
from kis_core.editing.success import WORDS, continuations, generate
from kis_core.facts import Fact
from kis_core.models import catalog
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
    "Oslo lies in Norway. " * 40,  # longer than the model reads
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

    def test_every_token_counts_the_same_and_not_every_text(self, gpt2: LoadedModel) -> None:
        short, long = (text for text in TEXTS[:2])
        tokens = [len(gpt2.tokenizer.encode(text)) - 1 for text in (short, long)]
        logs = [math.log(perplexity(gpt2, [text])) for text in (short, long)]
        expected = math.exp((tokens[0] * logs[0] + tokens[1] * logs[1]) / sum(tokens))
        assert perplexity(gpt2, [short, long]) == pytest.approx(expected, rel=READ)
        assert perplexity(gpt2, [short, long]) != pytest.approx(math.exp(sum(logs) / 2), rel=READ)

    def test_more_rows_than_are_held_at_once(self, gpt2: LoadedModel) -> None:
        texts = (TEXTS[4],) * 3 + (TEXTS[1],) * 20
        count = sum(min(tiny.CONTEXT, len(gpt2.tokenizer.encode(text))) - 1 for text in texts)
        assert count > 512
        losses = [(math.log(perplexity(gpt2, [text])), text) for text in (TEXTS[4], TEXTS[1])]
        own = {text: min(tiny.CONTEXT, len(gpt2.tokenizer.encode(text))) - 1 for _, text in losses}
        mean = sum(loss * own[text] * texts.count(text) for loss, text in losses) / count
        assert perplexity(gpt2, texts) == pytest.approx(math.exp(mean), rel=READ)

    def test_of_a_model_that_knows_nothing_is_the_size_of_its_vocabulary(self) -> None:
        flat = tiny.model("GPT-NeoX")
        flat.model.get_output_embeddings().weight.zero_()
        assert perplexity(flat, TEXTS) == pytest.approx(tiny.VOCABULARY, rel=READ)

    def test_sees_the_edits_that_stand(self, gpt2: LoadedModel) -> None:
        edit = DenseEdit(1, np.random.default_rng(0).normal(size=(24, 40)))
        edited = copy.deepcopy(gpt2)
        edited.architecture.weight(1).add_(torch.from_numpy(edit.matrix).float())
        with applied(gpt2, edit):
            found = perplexity(gpt2, TEXTS)
        assert found == pytest.approx(slow_perplexity(edited, TEXTS), rel=READ)
        assert found != pytest.approx(perplexity(gpt2, TEXTS), rel=0.01)

    @pytest.mark.parametrize("texts", [(), ("",), ("the", "", "of")])
    def test_is_not_a_number_where_there_is_nothing_to_foretell(
        self, gpt2: LoadedModel, texts: tuple[str, ...]
    ) -> None:
        assert all(len(gpt2.tokenizer.encode(text)) < 2 for text in texts)
        assert math.isnan(perplexity(gpt2, texts))

    def test_is_not_a_number_where_the_model_says_none(self, gpt2: LoadedModel) -> None:
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
        found = continuations(model, facts)
        assert found == [slow_words(model, fact, WORDS) for fact in facts]
        assert found == [generate(model, fact) for fact in facts]
        assert len(set(found)) > 3, "a test of nothing"
        assert continuations(model, facts[::-1], 3) == [slow_words(model, fact, 3) for fact in facts[::-1]]

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
        found = continuations(ending, FACTS, 6)
        assert found == [slow_words(ending, fact, 6) for fact in FACTS]
        lengths = {len(tokenizer.encode(words)) for words in found}
        assert len(lengths) > 1, "a test of nothing"

    def test_nothing_is_said_of_nothing_or_in_no_words_or_where_no_room_is(self, gpt2: LoadedModel) -> None:
        assert continuations(gpt2, []) == []
        assert continuations(gpt2, FACTS[:2], 0) == ["", ""]
        full = Fact("Malta", "of " * 90 + "{} is", "x")
        assert len(gpt2.tokenizer.encode(full.text)) > tiny.CONTEXT
        assert continuations(gpt2, [full, FACTS[0]]) == ["", slow_words(gpt2, FACTS[0], WORDS)]

    def test_sees_the_edits_that_stand(self, gpt2: LoadedModel) -> None:
        before = continuations(gpt2, FACTS)
        with applied(gpt2, DenseEdit(0, np.random.default_rng(0).normal(size=(24, 40)))):
            assert continuations(gpt2, FACTS) != before
        assert continuations(gpt2, FACTS) == before


def some(**changed: object) -> Weights:
    good = {"memit_lambda": 1.0, "null_below": 0.02, "null_l2": 10.0, "tuning_rate": 5e-4, "tuning_steps": 25}
    return Weights(**(good | changed))  # type: ignore[arg-type]


class TestWeights:
    @pytest.mark.parametrize("name", ["memit_lambda", "null_below", "null_l2", "tuning_rate"])
    @pytest.mark.parametrize("wrong", [0, -1.0, math.nan, math.inf, -math.inf])
    def test_only_positive_numbers(self, name: str, wrong: float) -> None:
        with pytest.raises(EditError, match=f"{name} has to be a positive number; found {wrong}"):
            some(**{name: wrong})
        assert getattr(some(**{name: 1e-300}), name) == 1e-300

    @pytest.mark.parametrize("wrong", [0, -1, 1001, 2.5, 25.0, None, math.nan])
    def test_whole_steps_in_bounds(self, wrong: object) -> None:
        with pytest.raises(EditError, match=f"whole steps of fine-tuning from 1 to 1000; {wrong} were asked for"):
            some(tuning_steps=wrong)
        assert (some(tuning_steps=1).tuning_steps, some(tuning_steps=1000).tuning_steps) == (1, 1000)

    def test_the_null_space_may_be_left_open_but_nothing_else(self) -> None:
        assert some(null_below=None, null_l2=None).null_below is None

    @pytest.mark.parametrize("name", ["memit_lambda", "tuning_rate"])
    def test_a_missing_number_is_refused(self, name: str) -> None:
        with pytest.raises(EditError, match=name):
            some(**{name: None})

    def test_json_and_back(self) -> None:
        one = some(null_below=None)
        assert Weights(**json.loads(json.dumps(one.to_json()))) == one


class TestWhatMethodsStartFrom:
    def of(self, name: str) -> Weights:
        entry = catalog.find(name)
        assert entry
        return editing.weights(name, width=entry.width, mlp_width=entry.mlp_width)

    def test_of_gpt_j(self) -> None:
        assert self.of("gpt-j-6b") == Weights(15_000, 0.02, 10, 5e-4, 25)
        assert self.of("EleutherAI/gpt-j-6b") == self.of("gpt-j-6b")

    def test_of_llama_3(self) -> None:
        """AlphaEdit's own L2 for it is 1; λ is that of the settings its authors run MEMIT by."""
        assert astuple(self.of("llama-3-8b")) == pytest.approx((15_000, 0.02, 1, 5e-4, 25))

    def test_of_another_model_of_the_paper(self) -> None:
        assert astuple(self.of("gpt2-medium")) == pytest.approx((409.6, 0.02, 10, 5e-4, 25))

    def test_of_the_demo_family_and_what_is_unknown_by_scale(self) -> None:
        for name in ("demo-gpt2-128", "/some/folder", "openai-community/gpt3"):
            found = editing.weights(name, width=128, mlp_width=512)
            assert astuple(found) == pytest.approx((51.2, None, None, 5e-4, 25))
        wide = editing.weights("/some/folder", width=256, mlp_width=1024)
        assert (wide.tuning_rate, wide.memit_lambda) == (pytest.approx(2.5e-4), pytest.approx(102.4))

    def test_of_gpt2_xl(self) -> None:
        """The very model on which FT's rate and AlphaEdit's threshold were published, too."""
        assert self.of("gpt2-xl") == Weights(20_000, 0.02, 10, 5e-4, 25)
        assert self.of("openai-community/gpt2-xl") == self.of("gpt2-xl")
