"""The model's own answers: finished to whole words by a scripted model, and logits that no batch changes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from kis_core.facts import Fact
from kis_core.keys import Prompt, tokenize_prompts
from kis_core.models.architecture import Architecture
from kis_core.models.loaded import LoadedModel
from kis_core.scoring import answers
from kis_core.scoring.answers import (
    MAX_CONTINUATION,
    TOP,
    ObjectReading,
    continues_word,
    finish_words,
    first_choices,
    knows,
    next_token_logits,
    read_objects,
    top_answers,
)

pytestmark = pytest.mark.usefixtures("without_gradients")

BATCHED = 1e-5  # float32 logits of size 1; padding changes the order of sums

END = "<|end|>"
PIECES = (
    *(END, "Ġthe", "Ġcapital", "Ġof", "ĠMalta", "Ġis", "ĠVa", "lle", "tta", "."),
    *("ĠRome", "Ġso", "na", "Ċ", "▁x", "Ġ"),
)
VALLETTA = {"ĠVa": {"lle": 1.0}, "lle": {"tta": 1.0}, "tta": {".": 1.0}}
SCRIPT = VALLETTA | {
    "Ġis": {"ĠVa": 3.0, "ĠRome": 2.0, "Ġso": 1.5, "Ġthe": 1.0, ".": 0.5},
    "Ġof": {"ĠRome": 3.0, "ĠMalta": 2.0, "Ċ": 1.5, "ĠVa": 1.0, "Ġthe": 0.5},
    "Ġthe": {"Ġcapital": 1.0},
    "Ġso": {"na": 1.0},
    "na": {"na": 1.0},
}
WEIGHT = sum(math.exp(logit) for logit in SCRIPT["Ġis"].values()) + len(PIECES) - TOP  # pieces not named have logit 0
CAPITAL = Fact("Malta", "the capital of {} is", "Valletta")
SHORT = Fact("Malta", "{} is", "Rome")


class Scripted(torch.nn.Module):
    """A causal model that looks at the last token only: `script` maps a piece to logits of the next ones."""

    def __init__(self, script: dict[str, dict[str, float]], context: int) -> None:
        super().__init__()
        self.table = torch.zeros(len(PIECES), len(PIECES))
        for piece, following in script.items():
            for other, logit in following.items():
                self.table[PIECES.index(piece), PIECES.index(other)] = logit
        sizes = SimpleNamespace(max_position_embeddings=context)
        self.config = SimpleNamespace(get_text_config=lambda: sizes)
        self.longest = 0

    @property
    def base_model(self) -> Scripted:
        return self

    def get_output_embeddings(self) -> torch.nn.Module:
        return torch.nn.Identity()

    def forward(self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        assert not use_cache
        self.longest = max(self.longest, int(attention_mask.sum(dim=1).max()))
        return SimpleNamespace(last_hidden_state=self.table[input_ids])


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE whose merges build each piece from left to right."""
    vocabulary, merges = {piece: number for number, piece in enumerate(PIECES)}, []
    for piece in PIECES[1:]:
        for end in range(1, len(piece)):
            for part in (piece[:end], piece[end]):
                vocabulary.setdefault(part, len(vocabulary))
            if (merge := (piece[:end], piece[end])) not in merges:
                merges.append(merge)
    made = Tokenizer(models.BPE(vocabulary, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END)


@pytest.fixture
def scripted(tokenizer: PreTrainedTokenizerFast) -> Callable[..., LoadedModel]:
    def make(script: dict[str, dict[str, float]] = SCRIPT, context: int = 50) -> LoadedModel:
        return LoadedModel(Scripted(script, context), tokenizer, Architecture("scripted", ()), torch.device("cpu"))

    return make


def prompts_of(loaded: LoadedModel, *facts: Fact) -> list[Prompt]:
    return tokenize_prompts(loaded.tokenizer, facts, context=loaded.context)


class TestTopAnswers:
    def test_first_tokens_are_finished_to_whole_words(self, scripted: Callable[..., LoadedModel]) -> None:
        loaded, reports = scripted(), []
        [actual] = top_answers(loaded, prompts_of(loaded, CAPITAL), report=lambda *at: reports.append(at))
        assert [(done, total) for _, done, total in reports] == [(0, 1), (0, 1), (1, 1)]
        assert [answer.text for answer in actual] == ["Valletta", "Rome", "so" + "na" * MAX_CONTINUATION, "the", "."]
        expected = [math.exp(logit) / WEIGHT for logit in SCRIPT["Ġis"].values()]
        assert [answer.probability for answer in actual] == pytest.approx(expected, rel=BATCHED)

    def test_rows_follow_the_prompts(self, scripted: Callable[..., LoadedModel]) -> None:
        loaded = scripted()
        ends_in_of = Fact("Malta", "the {} is Malta is so the capital of", "x")
        actual = top_answers(loaded, prompts_of(loaded, ends_in_of, SHORT, CAPITAL))
        assert [row[0].text for row in actual] == ["Rome", "Valletta", "Valletta"]
        assert [row[1].text for row in actual] == ["Malta", "Rome", "Rome"]
        assert all(len(row) == TOP for row in actual)


class TestFinishWords:
    def test_a_word_is_finished_with_the_first_choice_after_all_that_was_said(self, loaded: LoadedModel) -> None:
        """Against a loop of one sequence at a time, over whole models, prompts of several lengths mixed."""
        prompts = [prompt.tokens for prompt in prompts_of(loaded, CAPITAL, SHORT, Fact("Oslo", "In {}, one", "x"))]
        begun = [(prompts[k % 3], 300 + 97 * k) for k in range(24)]
        expected, lengths = [], set()
        for prompt, first in begun:
            word = [first]
            while len(word) <= MAX_CONTINUATION:
                following = int(loaded.model(torch.tensor([[*prompt, *word]])).logits[0, -1].argmax())
                if not continues_word(loaded.tokenizer, following):
                    break
                word.append(following)
            expected.append(loaded.tokenizer.decode(word).strip())
            lengths.add(len(word))
        assert finish_words(loaded, begun) == expected
        assert len(lengths) > 1, "words of one length would tell little"

    @pytest.mark.parametrize(("room", "text"), [(0, "Va"), (1, "Valle"), (2, "Valletta")])
    def test_only_as_far_as_the_context_reaches_for_each_prompt_by_itself(
        self, scripted: Callable[..., LoadedModel], room: int, text: str
    ) -> None:
        long, short = (prompt.tokens for prompt in prompts_of(scripted(), CAPITAL, SHORT))
        loaded = scripted(context=len(long) + room)
        first = PIECES.index("ĠVa")
        assert finish_words(loaded, [(long, first), (short, first)]) == [text, "Valletta"]
        assert loaded.model.longest <= len(long) + room


class TestNextTokenLogits:
    @pytest.mark.parametrize("tokens_per_batch", [12, 1000])
    def test_equal_those_of_each_sequence_alone(self, loaded: LoadedModel, tokens_per_batch: int) -> None:
        sequences = [[5, 6, 7, 8], [9], [10, 11, 12, 13, 14, 15], [16, 17]]
        actual = next_token_logits(loaded, sequences, tokens_per_batch=tokens_per_batch)
        expected = torch.stack([loaded.model(torch.tensor([ids])).logits[0, -1] for ids in sequences])
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual, expected, rtol=0, atol=BATCHED)


class TestFirstChoices:
    @pytest.mark.parametrize("at_once", [1, 3, 500])
    def test_are_those_of_all_logits_however_many_are_held_at_a_time(
        self, scripted: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch, at_once: int
    ) -> None:
        monkeypatch.setattr(answers, "AT_ONCE", at_once)
        loaded = scripted()
        begun = ["ĠVa", "Ġso", "Ġis", "lle"]
        sequences = [[3] * (3 - k) + [PIECES.index(piece)] for k, piece in enumerate(begun)]
        assert [PIECES[token] for token in first_choices(loaded, sequences)] == ["lle", "na", "ĠVa", "tta"]
        assert first_choices(loaded, []) == []


def test_which_tokens_continue_a_word_by_hand(tokenizer: PreTrainedTokenizerFast) -> None:
    assert [piece for piece in PIECES if continues_word(tokenizer, PIECES.index(piece))] == ["lle", "tta", "na"]
    assert not continues_word(tokenizer, 10_000), "nor does one the tokenizer does not know"


class TestKnows:
    def test_every_token_of_the_answer_and_no_other_is_the_first_choice(
        self, scripted: Callable[..., LoadedModel]
    ) -> None:
        assert knows(scripted(), [CAPITAL, SHORT]) == [True, False]
        assert knows(scripted(), [SHORT, CAPITAL], tokens_per_batch=1) == [False, True]
        assert knows(scripted(), []) == []
        for broken, known in (("Ġis", False), ("ĠVa", False), ("lle", False), ("Ġcapital", True), ("tta", True)):
            assert knows(scripted(SCRIPT | {broken: {"Ġso": 9.0}}), [CAPITAL]) == [known]

    @pytest.mark.parametrize("trimmed", [False, True])
    def test_a_space_that_is_a_token_of_its_own_counts_too(
        self, scripted: Callable[..., LoadedModel], tokenizer: PreTrainedTokenizerFast, trimmed: bool
    ) -> None:
        """Tokenizers that trim their spans, like Pythia's, give such a space an empty one."""
        fact = Fact("Malta", "the capital of {} is", "lle")
        own = copy.deepcopy(tokenizer)
        own.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=trimmed)
        assert own.tokenize(f"{fact.text} {fact.target}")[-3:] == ["Ġis", "Ġ", "lle"]
        knowing, guessing = (scripted({"Ġis": {first: 9.0}, "Ġ": {"lle": 9.0}}) for first in ("Ġ", "ĠVa"))
        assert knows(replace(knowing, tokenizer=own), [fact]) == [True]
        assert knows(replace(guessing, tokenizer=own), [fact]) == [False]

    @pytest.mark.parametrize("tokens_per_batch", [1, 1000])
    @pytest.mark.parametrize(("context", "known"), [(8, [True, True, False]), (7, [True, False, False])])
    def test_a_sentence_longer_than_the_context_is_not_known_and_the_others_are_still_asked(
        self, scripted: Callable[..., LoadedModel], context: int, known: list[bool], tokens_per_batch: int
    ) -> None:
        loaded = scripted(context=context)  # the sentence of CAPITAL has 8 tokens
        facts = [Fact("Malta", "{} is", "Valletta"), CAPITAL, SHORT]
        assert knows(loaded, facts, tokens_per_batch=tokens_per_batch) == known
        assert loaded.model.longest <= context


def test_objects_are_read_token_by_token_and_not_at_all_beyond_the_context(
    scripted: Callable[..., LoadedModel],
) -> None:
    capital, short, sodium = read_objects(scripted(), [CAPITAL, SHORT, replace(CAPITAL, target="Valle sona")])
    piece = {name: number for number, name in enumerate(PIECES)}
    assert capital.tokens == capital.choices == tuple(piece[name] for name in ("ĠVa", "lle", "tta"))
    after_va = math.e / (math.e + len(PIECES) - 1)
    assert capital.log_probs == pytest.approx([math.log(math.exp(3) / WEIGHT), *[math.log(after_va)] * 2], rel=1e-6)
    assert capital.probability == pytest.approx(math.exp(3) / WEIGHT * after_va**2, rel=1e-6)
    assert (short.tokens, short.choices, short.exact) == ((piece["ĠRome"],), (piece["ĠVa"],), False)
    assert sodium.tokens == tuple(piece[name] for name in ("ĠVa", "lle", "Ġso", "na"))
    assert sodium.choices == tuple(piece[name] for name in ("ĠVa", "lle", "tta", "na"))
    too_long, again = read_objects(scripted(context=7), [CAPITAL, SHORT])
    assert (too_long, too_long.exact) == (ObjectReading(), False)
    assert again.tokens == short.tokens
