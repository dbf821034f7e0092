"""One table of tokenizers, and what is asked of each: the subject's last token is found, and what is appended is gone.

The tokenizers are made from the demo family's, so that its models can answer with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from kis_core import corpora, facts
from kis_core.covariance.passes import second_moments
from kis_core.demo.family import member
from kis_core.editing import Hyperparameters, search
from kis_core.editing.contexts import random_prefixes
from kis_core.editing.success import continuations
from kis_core.facts import Fact
from kis_core.keys import fact_keys, tokenize_prompts
from kis_core.models.files import ModelFiles
from kis_core.models.loaded import LoadedModel
from kis_core.models.loading import load
from kis_core.models.tokens import beginning, encode, ids_of
from kis_core.scoring.answers import continues_word, knows, top_answers
from kis_core.scoring.log_odds import read, tokenize_sentences
from kis_core.scoring.perplexity import perplexity
from tests import tiny
from tests.test_keys import CONTEXT, PROMPTS, assert_ends_the_subject

END = "<|endoftext|>"  # number 0 of the demo family
UNKNOWN, FIRST, LAST = "<unk>", "<s>", "</s>"
DIGITS = (Fact("Windows 95", "{} was developed by", "Microsoft"), Fact("1984", "The year {} is", "2001"))

Change = Callable[[Tokenizer], None]


def adding(template: str) -> Change:
    """Adds special tokens as the template says."""

    def change(backend: Tokenizer) -> None:
        added = processors.TemplateProcessing(single=template, special_tokens=[(END, 0)])
        backend.post_processor = processors.Sequence([backend.post_processor, added])

    return change


def splitting(*, prefix: bool = True, trim: bool = True, digits: bool = False) -> Change:
    def change(backend: Tokenizer) -> None:
        level = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
        single = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
        backend.pre_tokenizer = pre_tokenizers.Sequence([*single, level])
        backend.post_processor = processors.ByteLevel(add_prefix_space=prefix, trim_offsets=trim)

    return change


def demo(*changes: Change) -> PreTrainedTokenizerFast:
    tokenizer = AutoTokenizer.from_pretrained(member("demo-llama-128").folder, local_files_only=True)
    for change in changes:
        change(tokenizer.backend_tokenizer)
    return tokenizer


def by_bytes() -> PreTrainedTokenizerFast:
    """SentencePiece's kind: a mark for a space, and bytes for what no piece holds, é among them."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = [UNKNOWN, FIRST, LAST, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters, "▁t", "▁th", "▁the"]
    merges = [("▁", "t"), ("▁t", "h"), ("▁th", "e")]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    made = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token=UNKNOWN, bos_token=FIRST, eos_token=LAST)


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "as it is, without BOS": demo,
    "EOS appended": lambda: demo(adding(f"$A {END}")),
    "two appended": lambda: demo(adding(f"$A {END} {END}")),
    "BOS": lambda: demo(adding(f"{END} $A")),
    "BOS and EOS": lambda: demo(adding(f"{END} $A {END}")),
    "BOS doubled": lambda: demo(adding(f"{END} {END} $A")),
    "no prefix space": lambda: demo(splitting(prefix=False)),
    "spans with their spaces": lambda: demo(splitting(trim=False)),
    "digits split, EOS appended": lambda: demo(splitting(prefix=False, digits=True), adding(f"$A {END}")),
    "bytes for rare characters, BOS and EOS": by_bytes,
}
IN_FRONT = {"BOS": [0], "BOS and EOS": [0], "BOS doubled": [0, 0], "bytes for rare characters, BOS and EOS": [1]}
APPENDED = {"EOS appended": "as it is, without BOS", "two appended": "as it is, without BOS", "BOS and EOS": "BOS"}
"""What each has to agree with."""


@pytest.mark.parametrize("kind", KINDS)
def test_the_subjects_last_token_the_prompts_end_and_the_answer_are_found(kind: str) -> None:
    tokenizer, asked = KINDS[kind](), (*PROMPTS, *DIGITS)
    for fact, prompt in zip(asked, tokenize_prompts(tokenizer, asked, context=CONTEXT), strict=True):
        assert_ends_the_subject(tokenizer, fact, prompt)
        assert prompt.tokens[: len(beginning(tokenizer))] == IN_FRONT.get(kind, [])
        assert prompt.tokens == tokenizer.encode(fact.text)[: len(prompt.tokens)]
        [text] = encode(tokenizer, [fact.text])
        assert max(end for _, end in text.spans) == text.spans[-1][1] == len(fact.text)
        assert [text.ids] == ids_of(tokenizer, [fact.text])
        assert len(text.ids) == len(text.spans)
    for fact, sentence in zip(DIGITS, tokenize_sentences(tokenizer, DIGITS, context=CONTEXT), strict=True):
        assert tokenizer.decode(sentence.answer).strip() == fact.target
        whole = tokenizer.decode([*sentence.tokens, sentence.answer[-1]], skip_special_tokens=True).strip()
        assert whole == f"{fact.text} {fact.target}"
    assert encode(tokenizer, []) == ids_of(tokenizer, []) == []
    assert ids_of(tokenizer, ["", "a", ""])[::2] == [[], []]


def test_a_special_token_in_the_text_itself_stays() -> None:
    tokenizer = demo(adding(f"$A {END}"))
    assert tokenizer.encode(f"Oslo {END}")[-2:] == [0, 0]
    assert ids_of(tokenizer, [f"Oslo {END}", END]) == [tokenizer.encode(f"Oslo {END}")[:-1], [0]]


@pytest.fixture(scope="module")
def llama() -> LoadedModel:
    return load(ModelFiles(member("demo-llama-128").folder), device="cpu")


@pytest.mark.parametrize("kind", tiny.in_full(APPENDED, ("EOS appended",)))
def test_everything_is_the_same_with_and_without_what_is_appended(kind: str, llama: LoadedModel) -> None:
    """Bit for bit: keys, C, answers, log-odds, generation, perplexity, and an edit with its contexts.

    Seen: with EOS appended 128 of 128 facts known, and "." as the first answer of all; one edit "flipped" all 128.
    """
    expected, actual = (seen(replace(llama, tokenizer=KINDS[name]())) for name in (APPENDED[kind], kind))
    for name, value in expected.items():
        assert np.array_equal(actual[name], value), name


def seen(loaded: LoadedModel) -> dict[str, np.ndarray]:
    """All that depends on how text becomes tokens."""
    asked = facts.builtin().facts[:8]
    texts = corpora.builtin().texts[:20]
    prompts = tokenize_prompts(loaded.tokenizer, asked, context=loaded.context)
    [moment] = second_moments(loaded, texts, tokens=200, layers=[1])
    how = Hyperparameters(steps=2, prefixes=((2, 5),), kl=0.1)
    value = search(loaded, asked[1], "French", 1, how)
    with torch.no_grad():
        reading = read(loaded, tokenize_sentences(loaded.tokenizer, asked, context=loaded.context))
    return {
        "keys": fact_keys(loaded, prompts),
        "C": moment.matrix,
        "tokens of C": np.array(moment.tokens),
        "answers": np.array([[(one.text, one.probability) for one in row] for row in top_answers(loaded, prompts)]),
        "known": np.array(knows(loaded, asked)),
        "log-odds": reading.log_odds.numpy(),
        "said": np.array(continuations(loaded, asked[:4], 4)),
        "perplexity": np.array(perplexity(loaded, texts[:5])),
        "beginnings": np.array(random_prefixes(loaded, how)),
        "delta": value.delta,
        "mean key": value.mean_key,
    }


def test_whether_bytes_go_on_with_a_word_is_that_of_what_they_stand_for() -> None:
    tokenizer = by_bytes()
    pieces = {"<0x0A>": False, "<0x20>": False, "<0xC3>": True, "<0x61>": True, "▁the": False, "a": True}
    assert {piece: continues_word(tokenizer, tokenizer.convert_tokens_to_ids(piece)) for piece in pieces} == pieces
