"""Log-odds: sentences as the model is asked them, and how sure it is, against float64 and 60 decimal digits."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from decimal import Decimal, localcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from kis_core import facts as fact_sets
from kis_core.facts import Fact
from kis_core.keys import SubjectNotFound, tokenize_prompts
from kis_core.models.architecture import Architecture
from kis_core.models.loaded import LoadedModel
from kis_core.scoring.log_odds import (
    Sentence,
    of_log_prob,
    read,
    token_log_odds,
    token_rank,
    tokenize_sentences,
)
from tests import tiny

CONTEXT = 1000  # out of the way where the length of sentences is not the point
READ = 1e-5  # float32 logits of size 3 against float64: some fifty roundings of 6e-8, of each; seen 1.4e-6
EXACT = 1e-12  # relative: a few float64 roundings
ROUNDED = 1e-6  # relative: log-odds leave the logits in float32
LIVELY = 8  # fresh weights of size 0.02 leave all probabilities alike
DIGITS = 200  # of z = 300, 1 - p begins at the 131st

UNKNOWN, BEGIN, END = "[UNK]", "<s>", "</s>"
PIECES = (UNKNOWN, BEGIN, END, "the", "capital", "of", "Malta", "is", "Va", "##lle", "##tta", "Rome", "Mal", "##tese")
CAPITAL = Fact("Malta", "the capital of {} is", "Valletta")
ASKED = (
    Fact("Malta", "the capital of {} is", "Valletta"),
    Fact("Zoë", "The mother tongue of {} is", "Māori, says she"),
    Fact("Oslo", "In {}", "snow"),
    Fact("the Bank of England", "Who once worked for {}, lives in", "London"),
    Fact("🦄", "The {} is a sign of", "purity"),
)
SPACED = (  # the space before the answer, or before the subject, is a token of its own in some tokenizers
    Fact("Malta", "The sign for {} is", "中国"),
    Fact("中国", "The capital of {} is", "北京"),
    Fact("Malta", "The flag of {} shows a", "🦄"),
)


@pytest.fixture(scope="module")
def wordpiece() -> PreTrainedTokenizerFast:
    """Word pieces of known numbers, no special tokens."""
    made = Tokenizer(models.WordPiece({piece: k for k, piece in enumerate(PIECES)}, unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token=UNKNOWN)


@pytest.fixture(params=tiny.in_full(tiny.ARCHITECTURES), scope="module")
def lively(request: pytest.FixtureRequest) -> LoadedModel:
    """A tiny model that finds some tokens far likelier than others."""
    loaded = tiny.model(request.param)
    for parameter in loaded.model.parameters():
        if parameter.ndim == 2:
            parameter.mul_(LIVELY)
    return loaded


def pieces(tokens: Sequence[int]) -> list[str]:
    return [PIECES[token] for token in tokens]


class TestTokenizeSentences:
    def test_by_hand(self, wordpiece: PreTrainedTokenizerFast) -> None:
        facts = [CAPITAL, Fact("Rome", "{}", "is the capital"), Fact("Malta Rome", "of {} of", "Rome")]
        first, second, third = tokenize_sentences(wordpiece, facts, context=CONTEXT)
        assert pieces(first.tokens) == ["the", "capital", "of", "Malta", "is", "Va", "##lle"]
        assert (first.key_index, pieces(first.answer), first.prompt_end) == (3, ["Va", "##lle", "##tta"], 4)
        assert pieces(second.tokens) == ["Rome", "is", "the"]
        assert (second.key_index, pieces(second.answer), second.prompt_end) == (0, ["is", "the", "capital"], 0)
        assert pieces(third.tokens) == ["of", "Malta", "Rome", "of"]
        assert (third.key_index, pieces(third.answer), third.prompt_end) == (2, ["Rome"], 3)

    @pytest.mark.parametrize(
        ("fact", "token"),
        [
            (Fact("Valletta", "the {} of", "Rome"), "##tta"),
            (Fact("Mal", "the {}tese of", "Rome"), "Mal"),
            (Fact("Malte", "the {}se of", "Rome"), "##tese"),
            (Fact("Malta", "{} is Malta of", "Rome"), "Malta"),
        ],
    )
    def test_the_key_is_the_last_token_that_touches_the_subject(
        self, wordpiece: PreTrainedTokenizerFast, fact: Fact, token: str
    ) -> None:
        [sentence] = tokenize_sentences(wordpiece, [fact], context=CONTEXT)
        assert PIECES[sentence.tokens[sentence.key_index]] == token
        assert sentence.key_index < 4, "the first Malta is meant, not the second"

    def test_special_tokens_before_count_and_those_after_do_not(self, wordpiece: PreTrainedTokenizerFast) -> None:
        around = copy.deepcopy(wordpiece)
        around.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BEGIN} $A {END}", special_tokens=[(BEGIN, 1), (END, 2)]
        )
        [plain], [with_both] = (tokenize_sentences(t, [CAPITAL], context=CONTEXT) for t in (wordpiece, around))
        assert with_both == Sentence([1, *plain.tokens], plain.key_index + 1, plain.answer)
        assert with_both.prompt_end == plain.prompt_end + 1

    def test_a_token_that_reaches_into_the_answer_belongs_to_the_answer(self) -> None:
        """Without a pre-tokenizer a token may span words; the key has to come before what is predicted."""
        vocabulary = {piece: k for k, piece in enumerate(["a", "b", "c", " ", "b ", "b c"])}
        spanning = Tokenizer(models.BPE(vocabulary, [("b", " "), ("b ", "c")]))
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=spanning)
        [sentence] = tokenize_sentences(tokenizer, [Fact("ab", "c{}", "c")], context=CONTEXT)
        assert (sentence.tokens, sentence.key_index, sentence.answer) == ([2, 0], 1, [5])

    @pytest.mark.parametrize("name", tiny.in_full(["demo", "gpt2", "pythia", "llama2"], ("demo", "pythia")))
    def test_the_answer_is_what_the_full_sentence_adds(self, shared_data: Path, name: str) -> None:
        folder = tiny.TOKENIZER_FOLDER if name == "demo" else shared_data / "tokenizers" / name
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        facts = [*ASKED, *fact_sets.builtin().facts[:20], *(SPACED if name != "demo" else ())]
        sentences = tokenize_sentences(tokenizer, facts, context=CONTEXT)
        prompts = tokenize_prompts(tokenizer, facts, context=CONTEXT)
        assert {len(sentence.answer) > 1 for sentence in sentences} == {True, False}
        for fact, prompt, sentence in zip(facts, prompts, sentences, strict=True):
            whole = tokenizer(f"{fact.text} {fact.target}")["input_ids"]
            assert [*sentence.tokens, sentence.answer[-1]] == prompt.tokens + sentence.answer == whole
            assert (sentence.key_index, sentence.prompt_end) == (prompt.key_index, len(prompt.tokens) - 1)
            assert tokenizer.decode(sentence.answer).strip() == fact.target

    @pytest.mark.parametrize(
        ("fact", "message"),
        [
            (Fact("🦄", "the {} is", "Rome"), "no token of 'the 🦄 is Rome' covers the subject"),
            (Fact("Malta", "the {} is", "🦄"), "no token of 'the Malta is 🦄' covers the answer"),
            (Fact("🦄", "the{} is", "Rome"), "'the🦄 is Rome' covers the subject"),  # nor does the token before it
            (Fact("🦄", "the {} is", "Malta"), "covers the subject"),
        ],
    )
    def test_what_the_tokenizer_drops_is_an_error_that_names_it(self, fact: Fact, message: str) -> None:
        with pytest.raises(SubjectNotFound, match=f"fact 1: .*{message}"):
            tokenize_sentences(without_unicorns(), [Fact("Malta", "the {} is", "Rome"), fact], context=CONTEXT)

    def test_a_token_of_no_characters_is_never_the_key_and_part_of_the_answer_where_it_begins_it(self) -> None:
        """Some tokenizers give a space that is a token of its own an empty span; special tokens stand at (0, 0)."""
        offsets = [(0, 0), (0, 5), (5, 5), (6, 8), (9, 9), (9, 13), (0, 0)]

        def tokenizer(_: list[str], **__: object) -> dict[str, list[object]]:
            ids, added = [1, 11, 3, 12, 3, 13, 2], [1, 0, 0, 0, 0, 0, 1]
            return {"input_ids": [ids], "offset_mapping": [offsets], "special_tokens_mask": [added]}

        [sentence] = tokenize_sentences(tokenizer, [Fact("Malta", "{} is", "Rome")], context=CONTEXT)
        assert sentence == Sentence([1, 11, 3, 12, 3], 1, [3, 13])

    def test_the_answers_last_token_need_not_fit_for_nothing_is_read_there(
        self, wordpiece: PreTrainedTokenizerFast
    ) -> None:
        [sentence] = tokenize_sentences(wordpiece, [CAPITAL], context=7)
        assert len(sentence.tokens) == 7
        with pytest.raises(SubjectNotFound, match="fact 1: 7 tokens, but this model reads at most 6"):
            tokenize_sentences(wordpiece, [Fact("Malta", "{} is", "Rome"), CAPITAL], context=6)


def without_unicorns() -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordLevel({UNKNOWN: 0, "the": 1, "Malta": 2, "is": 3, "Rome": 4}, unk_token=UNKNOWN))
    made.pre_tokenizer, made.normalizer = pre_tokenizers.Whitespace(), normalizers.Replace("🦄", "")
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token=UNKNOWN)


@pytest.mark.usefixtures("without_gradients")
class TestRead:
    def test_equals_float64_one_sentence_at_a_time(self, lively: LoadedModel) -> None:
        sentences = sentences_of(lively)
        reading = read(lively, sentences)
        assert reading.log_prob.dtype == reading.log_odds.dtype == torch.float64
        assert (reading.rank.dtype, reading.rank.requires_grad) == (torch.long, False)
        slow = copy.deepcopy(lively.model).double()
        sizes = []
        for row, sentence in enumerate(sentences):
            whole = [*sentence.tokens, sentence.answer[-1]]
            logits = slow(torch.tensor([whole])).logits[0]
            log_prob = sum(
                float(torch.log_softmax(logits[len(whole) - 1 - back], dim=-1)[whole[len(whole) - back]])
                for back in range(1, len(sentence.answer) + 1)
            )
            sizes.append(log_prob)
            assert float(reading.log_prob[row]) == pytest.approx(log_prob, abs=READ)
            assert float(reading.log_odds[row]) == pytest.approx(log_prob - math.log1p(-math.exp(log_prob)), abs=READ)
            after_prompt = logits[len(whole) - len(sentence.answer) - 1]
            torch.testing.assert_close(reading.first_token[row].double(), after_prompt, rtol=0, atol=READ)
        assert max(sizes) - min(sizes) > 1, "sentences that are all as likely would tell nothing"


def sentences_of(loaded: LoadedModel) -> list[Sentence]:
    return tokenize_sentences(loaded.tokenizer, ASKED, context=loaded.context)


class TestSaturated:
    """Models that know a fact: 1 - p is far below what float32, or even float64, holds beside 1."""

    @pytest.mark.parametrize(
        "logits", [(20.75,), (300.0,), (-60.0,), (20.75, 20.75), (20.75, 18.0, 25.5), (-2.0, 40.0, 1.5)]
    )
    def test_against_many_digits(self, logits: tuple[float, ...]) -> None:
        reading = read(saying(logits), [Sentence([0] * len(logits), 0, [1] * len(logits))])
        log_prob, log_odds = in_decimal(logits)
        assert float(reading.log_prob[0]) == pytest.approx(log_prob, rel=EXACT)
        assert float(reading.log_odds[0]) == pytest.approx(log_odds, rel=EXACT)
        if len(logits) == 1:
            assert log_odds == pytest.approx(logits[0], rel=EXACT), "its logit above the rest"

    @pytest.mark.parametrize("logits", [(20.75,), (20.75, 20.75), (20.75, 18.0, 25.5), (30.0, 0.25), (300.0,)])
    def test_gradients_are_finite_and_right(self, logits: tuple[float, ...]) -> None:
        """d log-odds / dz_k = (1 - p_k) / (1 - p): 1 for one token, a half each for two alike."""
        loaded = saying(logits)
        loaded.model.table.requires_grad_(True)
        read(loaded, [Sentence([0] * len(logits), 0, [1] * len(logits))]).log_odds.sum().backward()
        actual = loaded.model.table.grad[: len(logits), 1].tolist()
        with localcontext() as digits:
            digits.prec = 200
            each = [1 / (1 + (-Decimal(z)).exp()) for z in logits]
            missing = 1 - math.prod(each)
            expected = [float((1 - p) / missing) for p in each]
        assert actual == pytest.approx(expected, rel=ROUNDED)
        if len(set(logits)) == 1:
            assert actual == pytest.approx([1 / len(logits)] * len(logits), rel=ROUNDED)

    @pytest.mark.parametrize("log_prob", [-1e-300, -1e-9, -0.7, -2000.0])
    def test_of_log_prob_against_many_digits(self, log_prob: float) -> None:
        with localcontext() as digits:
            digits.prec = 1000  # 1 - exp(-1e-300) begins at the 301st, exp(-2000) at the 869th
            exact = Decimal(log_prob)
            expected = float(exact - (1 - exact.exp()).ln())
        actual = of_log_prob(torch.tensor([log_prob], dtype=torch.float64))
        assert float(actual) == pytest.approx(expected, rel=EXACT)


class Table(torch.nn.Module):
    """A model whose logits of tokens 0 and 1 at position t are 0 and z_t, whatever it reads."""

    def __init__(self, logits: Sequence[float]) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor([[0.0, z] for z in logits]), requires_grad=False)

    @property
    def base_model(self) -> Table:
        return self

    def get_output_embeddings(self) -> torch.nn.Module:
        return torch.nn.Identity()

    def forward(self, *, input_ids: torch.Tensor, **_: object) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=self.table.expand(len(input_ids), -1, -1))


def saying(logits: Sequence[float]) -> LoadedModel:
    return LoadedModel(Table(logits), None, Architecture("table", ()), torch.device("cpu"))


def in_decimal(logits: Sequence[float]) -> tuple[float, float]:
    """log p and log-odds of an answer whose tokens are so far above the only other one."""
    with localcontext() as digits:
        digits.prec = DIGITS
        p = math.prod(1 / (1 + (-Decimal(z)).exp()) for z in logits)
        return float(p.ln()), float(p.ln() - (1 - p).ln())


class TestTokenLogOdds:
    @given(st.lists(st.floats(-30, 30), min_size=2, max_size=6), st.data())
    def test_is_log_p_over_1_minus_p(self, row: list[float], data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(row) - 1))
        p = [math.exp(z) for z in row]
        expected = math.log(p[at]) - math.log(sum(p[:at] + p[at + 1 :]))
        actual = token_log_odds(torch.tensor([row], dtype=torch.float64), torch.tensor([at]))
        assert float(actual) == pytest.approx(expected, rel=EXACT, abs=EXACT)

    def test_stays_finite_where_p_is_1_or_0_and_leaves_the_logits(self) -> None:
        logits = torch.tensor([[1e4, 0.0], [-1e4, 0.0]])
        assert token_log_odds(logits, torch.tensor([0, 0])).tolist() == [1e4, -1e4]
        assert logits.tolist() == [[1e4, 0.0], [-1e4, 0.0]]


class TestTokenRank:
    @given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
    def test_is_the_place_in_a_stable_sort_so_that_only_argmax_comes_first(self, row: list[int]) -> None:
        logits = torch.tensor([row], dtype=torch.float32).repeat(len(row), 1)
        order = sorted(range(len(row)), key=lambda at: -row[at])
        expected = [1 + order.index(at) for at in range(len(row))]
        assert token_rank(logits, torch.arange(len(row))).tolist() == expected

    @pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
    def test_is_the_last_where_any_logit_is_not_finite(self, number: float) -> None:
        for at in range(3):
            logits = torch.tensor([[5.0, 1.0, 0.0], [5.0, 1.0, 0.0]])
            logits[0, at] = number
            assert token_rank(logits, torch.tensor([0, 0])).tolist() == [3, 1]
