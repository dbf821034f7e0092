"""The texts in which a value is searched for: the prompt after beginnings, given or sampled."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from tokenizers import processors
from torch import Tensor

from kis_core.editing import contexts
from kis_core.editing.contexts import about, random_prefixes
from kis_core.models.loaded import LoadedModel
from tests.editing.value_tools import MALTA, Running, gpt2, how, loaded, running

__all__ = ["gpt2", "loaded"]  # fixtures


def test_the_prompt_comes_first_and_then_after_each_beginning() -> None:
    beginnings = ["It was so", "He said. Then", "Ends. ", "...", "", "{}", "a {b} {}", " . "]
    facts = contexts.contexts(MALTA, beginnings)
    assert [fact.text for fact in facts] == [
        "The capital of Malta is",
        "It was so. The capital of Malta is",
        "He said. Then. The capital of Malta is",
        "Ends. The capital of Malta is",
        "a b. The capital of Malta is",
    ]
    for fact in facts:
        begin, end = fact.subject_span
        assert fact.text[begin:end] == "Malta"
        assert fact.target == MALTA.target
    assert (about(MALTA).text, about(MALTA).subject_span) == ("Malta is a", (0, 5))


class TestRandomPrefixes:
    def test_are_sampled_among_the_likeliest_next_tokens(self, loaded: LoadedModel) -> None:
        """Against sampling on the whole model, one text at a time, with the same generator."""
        generator = torch.Generator().manual_seed(11)
        start = loaded.tokenizer("")["input_ids"] or [0]
        expected = []
        for count, length in ((2, 3), (1, 5)):
            texts = [list(start) for _ in range(count)]
            for _ in range(length):
                with torch.no_grad():
                    rows = torch.stack([loaded.model(torch.tensor([text])).logits[0, -1] for text in texts])
                likely = rows.sort(dim=-1, descending=True)
                shares = likely.values[:, :5].exp() / likely.values[:, :5].exp().sum(dim=-1, keepdim=True)
                picked = torch.multinomial(shares, 1, generator=generator)[:, 0].tolist()
                for text, pick, row in zip(texts, picked, likely.indices, strict=True):
                    text.append(int(row[pick]))
            expected += [loaded.tokenizer.decode(text[len(start) :]).strip() for text in texts]
        assert random_prefixes(loaded, how(prefixes=((2, 3), (0, 9), (1, 5)), seed=11)) == expected
        assert not set(random_prefixes(loaded, how(prefixes=((2, 3),), seed=12))) & set(expected)

    def test_never_longer_than_the_model_reads(self, gpt2: LoadedModel) -> None:
        [text] = random_prefixes(gpt2, how(prefixes=((1, 100),)))
        assert text

    def test_the_token_they_begin_with_is_not_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where a tokenizer has no special tokens, its token 0 begins, which is a word like any other."""
        monkeypatch.setattr(contexts, "next_token_logits", lambda _, begun: torch.arange(8.0).repeat(len(begun), 1))
        [text] = random_prefixes(running(), how(prefixes=((1, 3),)))
        assert len(text.split()) == 3
        assert set(text.split()) <= set(Running.WORDS[3:])

    @pytest.mark.parametrize(
        ("before", "first", "last", "expected"),
        [("a of $A", None, None, [5, 6]), ("$A", 1, 4, [1]), ("$A", None, 4, [4]), ("$A", 0, 4, [0])],
        ids=["what stands before every text", "the first token", "the last token", "a first token of number 0"],
    )
    def test_what_they_begin_with(
        self, monkeypatch: pytest.MonkeyPatch, before: str, first: int | None, last: int | None, expected: list[int]
    ) -> None:
        loaded, begun = running(), []

        def anything(_: LoadedModel, sequences: Sequence[Sequence[int]]) -> Tensor:
            begun.extend(list(sequence) for sequence in sequences)
            return torch.zeros(len(sequences), len(Running.WORDS))

        monkeypatch.setattr(contexts, "next_token_logits", anything)
        added = [("a", 5), ("of", 6)]
        loaded.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(before, special_tokens=added)
        loaded.tokenizer.bos_token, loaded.tokenizer.eos_token = (
            None if number is None else Running.WORDS[number] for number in (first, last)
        )
        assert random_prefixes(loaded, how(prefixes=())) == random_prefixes(loaded, how(prefixes=((0, 5),))) == []
        assert begun == [], "the model is asked for nothing"
        random_prefixes(loaded, how(prefixes=((2, 1),)))
        assert begun == [expected] * 2
