"""Keys: the subject's last token found in real tokenizers, one pass for all layers, hooks that never stay behind."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from kis_core import facts as fact_sets
from kis_core import keys
from kis_core.facts import Fact
from kis_core.keys import NotFinite, SubjectNotFound, fact_keys, tokenize_prompts
from kis_core.models.batching import batches, pad
from kis_core.models.loaded import LoadedModel
from kis_core.models.tokens import beginning
from tests import tiny

pytestmark = pytest.mark.usefixtures("without_gradients")

CONTEXT = 1000  # out of the way where the length of prompts is not the point
BATCHED = 1e-6  # RELIABILITY case 18; float32 sums in another order differ by about 1e-8 at these magnitudes
DEMO = "demo"
UNKNOWN = "[UNK]"
TOKENIZERS = (DEMO, "gpt2", "pythia", "llama2")

PROMPTS = (
    Fact("Paris", "{} is not Paris, Texas, but", "x"),
    Fact("Paris", "Not Paris but {} is", "x"),
    Fact("Finn", "The {}ish language is spoken in", "x"),
    Fact("Vladimir Mayakovsky", "The native language of {}", "x"),
    Fact("Widgets Ltd.", "{}, based in", "x"),
    Fact("Zoe\u0301", "The mother of {} is", "x"),  # a decomposed accent
    Fact("cafe", "A {}\u0301 in the town of", "x"),  # an accent cut off by the subject
    Fact("\u212b", "One {} is", "x"),  # the Angstrom sign
    Fact("ﬁ", "The sign {} means", "x"),
    Fact("👩‍👩‍👧", "See {} in the park of", "x"),  # five code points
    Fact("中国", "{}的首都是", "x"),
    Fact("لا", "{} is", "x"),
    Fact("New  York", "In {} it is", "x"),  # two spaces
    Fact("a</s>", "The tag {} is", "x"),  # a special token as text
)
AT_THE_END = PROMPTS[3]


@pytest.fixture(params=TOKENIZERS, scope="module")
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    if request.param == DEMO:
        return demo_tokenizer()
    shared: Path = request.getfixturevalue("shared_data")
    return AutoTokenizer.from_pretrained(shared / "tokenizers" / request.param, local_files_only=True)


@pytest.fixture(scope="module")
def demo() -> PreTrainedTokenizerFast:
    return demo_tokenizer()


def demo_tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(tiny.TOKENIZER_FOLDER, local_files_only=True)


def made_of(model: models.Model) -> PreTrainedTokenizerFast:
    """A tokenizer of that model over whole words."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=UNKNOWN)


def prompts_of(loaded: LoadedModel, count: int) -> list[keys.Prompt]:
    subjects = ("Paris", "Vladimir Mayakovsky", "a quartz clock", "Zoë", "the 42nd Street Theatre", "Oslo", "Ghana")
    templates = ("{} lies in", "Everybody who has ever been to see {} knows", "So {} is")
    facts = [Fact(subjects[k % 7], templates[k % 3], "x") for k in range(count)]
    return tokenize_prompts(loaded.tokenizer, facts, context=loaded.context)


def decoded_to(tokenizer: PreTrainedTokenizerFast, tokens: list[int]) -> str:
    """What those tokens say so far, with every accent apart: tokenizers may compose, and bytes may end midway."""
    return unicodedata.normalize("NFD", tokenizer.decode(tokens[len(beginning(tokenizer)) :]).removeprefix(" "))


def assert_ends_the_subject(tokenizer: PreTrainedTokenizerFast, fact: Fact, prompt: keys.Prompt) -> None:
    """With the key token the decoded text holds all of the subject, and without it not yet."""
    wanted = unicodedata.normalize("NFD", fact.text[: fact.subject_span[1]])
    assert decoded_to(tokenizer, prompt.tokens[: prompt.key_index + 1]).startswith(wanted)
    assert not decoded_to(tokenizer, prompt.tokens[: prompt.key_index]).startswith(wanted)


def hooks_on(loaded: LoadedModel) -> int:
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in loaded.model.modules())


class TestTokenizePrompts:
    def test_key_token_is_the_last_of_the_subject(self, tokenizer: PreTrainedTokenizerFast) -> None:
        for fact, prompt in zip(PROMPTS, tokenize_prompts(tokenizer, PROMPTS, context=CONTEXT), strict=True):
            assert prompt.tokens == tokenizer(fact.text)["input_ids"]
            assert prompt.key_token == tokenizer.decode([prompt.tokens[prompt.key_index]])
            assert_ends_the_subject(tokenizer, fact, prompt)

    @pytest.mark.parametrize(
        ("fact", "index", "token"),
        [
            (Fact("Paris", "{} not Paris", "x"), 0, "Paris"),
            (Fact("Paris", "Paris not {}", "x"), 2, "Paris"),
            (Fact("Finn", "not {}ish of", "x"), 1, "Finn"),
            (Fact("Mayak", "not {}ovsky of", "x"), 2, "ak"),
            (Fact("Maya", "not {}kovsky of", "x"), 2, "ak"),
            (Fact("Paris Mayakovsky", "not {}", "x"), 4, "ovsky"),
            (Fact("Atlantis", "not {} of", "x"), 1, UNKNOWN),  # where the vocabulary has no better
        ],
    )
    def test_by_hand(self, fact: Fact, index: int, token: str) -> None:
        pieces = (UNKNOWN, "not", "of", "Paris", "Finn", "##ish", "May", "##ak", "##ovsky")
        tokenizer = made_of(models.WordPiece({piece: k for k, piece in enumerate(pieces)}, unk_token=UNKNOWN))
        [prompt] = tokenize_prompts(tokenizer, [fact], context=CONTEXT)
        assert (prompt.key_index, prompt.key_token.removeprefix("##")) == (index, token)

    def test_counterfact_in_real_tokenizers(self, tokenizer: PreTrainedTokenizerFast, shared_data: Path) -> None:
        known = fact_sets.load(shared_data / "counterfact_known.json").facts
        for fact, prompt in zip(known, tokenize_prompts(tokenizer, known, context=CONTEXT), strict=True):
            assert_ends_the_subject(tokenizer, fact, prompt)

    def test_a_subject_the_tokenizer_drops_is_an_error_that_names_it(self) -> None:
        tokenizer = made_of(models.WordLevel({UNKNOWN: 0, "the": 1}, unk_token=UNKNOWN))
        tokenizer.backend_tokenizer.normalizer = normalizers.Replace("🦄", "")
        fine, dropped = Fact("horse", "the {}", "x"), Fact("🦄", "the {} the", "x")
        with pytest.raises(SubjectNotFound, match=r"fact 1: no token of 'the 🦄 the' covers the subject '🦄'"):
            tokenize_prompts(tokenizer, [fine, dropped], context=CONTEXT)

    def test_the_context_is_a_limit_on_tokens_that_may_be_reached(self) -> None:
        tokenizer, fact = demo_tokenizer(), AT_THE_END
        length = len(tokenizer(fact.text)["input_ids"])
        assert len(tokenize_prompts(tokenizer, [fact], context=length)) == 1
        too_long = f"fact 0: {length} tokens, but this model reads at most {length - 1}"
        with pytest.raises(SubjectNotFound, match=too_long):
            tokenize_prompts(tokenizer, [fact], context=length - 1)

    @given(
        subject=st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="{}<\ufffd"), min_size=1)
        .map(str.strip)
        .filter(bool),
        before=st.sampled_from(["", "The ", "The(", "中"]),
        after=st.sampled_from(["", " is", "'s town", "ish", "."]),
    )
    def test_any_subject(self, demo: PreTrainedTokenizerFast, subject: str, before: str, after: str) -> None:
        fact = Fact(subject, f"{before}{{}}{after}", "x")
        [prompt] = tokenize_prompts(demo, [fact], context=CONTEXT)
        wanted = fact.text[: fact.subject_span[1]]
        read = [demo.decode(prompt.tokens[: prompt.key_index + more]).removeprefix(" ") for more in (0, 1)]
        assert [text.startswith(wanted) for text in read] == [False, True]


class TestBatches:
    @given(st.lists(st.integers(1, 40), max_size=40), st.integers(1, 100))
    def test_every_index_once_within_the_limit_and_short_ones_first(self, lengths: list[int], limit: int) -> None:
        made = list(batches(lengths, tokens_per_batch=limit))
        flat = [index for batch in made for index in batch]
        assert sorted(flat) == list(range(len(lengths)))
        assert [lengths[index] for index in flat] == sorted(lengths)
        for batch in made:
            assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= limit

    def test_by_hand(self) -> None:
        assert list(batches([5, 2, 9, 2, 3], tokens_per_batch=6)) == [[1, 3], [4], [0], [2]]
        assert list(batches([])) == []
        tokens, mask = pad([[7, 8, 9], [5]], torch.device("cpu"))
        assert tokens.tolist() == [[7, 8, 9], [5, 0, 0]]
        assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


class TestFactKeys:
    def test_batches_of_any_size_and_order_give_the_same(self, loaded: LoadedModel) -> None:
        prompts = prompts_of(loaded, 14)
        assert len({len(p.tokens) for p in prompts}) > 2, "prompts of one length would need no padding"
        alone = np.concatenate([fact_keys(loaded, [p]) for p in prompts], axis=1)
        assert (alone.shape, alone.dtype) == ((3, 14, 40), np.float32)
        shuffled = np.random.default_rng(0).permutation(14)
        together = fact_keys(loaded, [prompts[k] for k in shuffled])
        np.testing.assert_allclose(together, alone[:, shuffled], rtol=0, atol=BATCHED)
        reports: list[tuple[str, int, int]] = []
        small = fact_keys(loaded, prompts, tokens_per_batch=25, report=lambda *report: reports.append(report))
        np.testing.assert_allclose(small, alone, rtol=0, atol=BATCHED)
        sizes = np.diff([0, *(count for _, count, _ in reports)])
        assert (sizes.sum(), {stage for stage, _, _ in reports}) == (14, {"Keys of the facts"})
        assert 1 < len(sizes) < 14, "a batch never exceeds its tokens"
        assert (sizes > 0).all()
        assert hooks_on(loaded) == 0

    def test_a_key_depends_on_the_subject_and_what_stands_before_only(self, loaded: LoadedModel) -> None:
        ends = [Fact("Malta", f"The capital of {{}} {end}", "x") for end in ("is", "was once the town of")]
        actual = fact_keys(loaded, tokenize_prompts(loaded.tokenizer, ends, context=loaded.context))
        np.testing.assert_allclose(actual[:, 0], actual[:, 1], rtol=0, atol=BATCHED)

    def test_a_nan_names_layer_and_fact(self, gpt2: LoadedModel) -> None:
        prompts = prompts_of(gpt2, 3)
        others = {token for p in (prompts[0], prompts[1]) for token in p.tokens}
        only_here = next(t for t in prompts[2].tokens[: prompts[2].key_index + 1] if t not in others)
        gpt2.model.transformer.wte.weight[only_here] = float("nan")
        with pytest.raises(NotFinite, match=r"layer 0: the key of fact 2 is not finite"):
            fact_keys(gpt2, prompts)
        assert hooks_on(gpt2) == 0
