"""The texts in which a value is searched for: the prompt after beginnings, given or sampled."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from tokenizers import processors
from torch import Tensor

from kis_core.editing import contexts
from kis_core.editing.contexts import LIKELY, about, random_prefixes
from kis_core.models.loaded import LoadedModel
from tests.editing.value_tools import MALTA, Running, gpt2, how, loaded, running

__all__ = ["gpt2", "loaded"]  # fixtures


class TestContexts:
    def test_the_prompt_first_and_then_after_each_beginning(self) -> None:
        beginnings = ["It was so", "He said. Then", "Ends. ", "...", "", "{}", "a {b} {}", " . "]
        made = contexts.contexts(MALTA, beginnings)
        assert [fact.text for fact in made] == [
            "The capital of Malta is",
            "It was so. The capital of Malta is",
            "He said. Then. The capital of Malta is",
            "Ends. The capital of Malta is",
            "a b. The capital of Malta is",
        ]
        for fact in made:
            begin, end = fact.subject_span
            assert fact.text[begin:end] == fact.subject == "Malta"
            assert fact.target == MALTA.target

    def test_what_is_said_of_the_subject(self) -> None:
        assert about(MALTA).text == "Malta is a"
        assert about(MALTA).subject_span == (0, 5)

    def test_no_beginnings_but_the_prompts_own(self) -> None:
        assert contexts.contexts(MALTA, []) == [MALTA]


class TestRandomPrefixes:
    def test_are_sampled_among_the_likeliest_next_tokens(self, loaded: LoadedModel) -> None:
        """Against sampling on the whole model, one text at a time, with the same generator."""
        chosen = how(prefixes=((2, 3), (0, 9), (1, 5)), seed=11)
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
        assert random_prefixes(loaded, chosen) == expected
        assert LIKELY == 5

    def test_differ_from_each_other_and_by_the_seed(self, gpt2: LoadedModel) -> None:
        first, again, other = (random_prefixes(gpt2, how(prefixes=((4, 6),), seed=seed)) for seed in (0, 0, 1))
        assert first == again
        assert len({*first, *other}) == 8

    def test_never_longer_than_the_model_reads(self, gpt2: LoadedModel) -> None:
        [text] = random_prefixes(gpt2, how(prefixes=((1, 100),)))
        assert text

    def test_the_token_they_begin_with_is_not_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where a tokenizer has no special tokens, its token 0 begins, which is a word like any other."""
        monkeypatch.setattr(contexts, "next_token_logits", lambda _, begun: torch.arange(8.0).repeat(len(begun), 1))
        [text] = random_prefixes(running(), how(prefixes=((1, 3),)))
        assert len(text.split()) == 3
        assert set(text.split()) <= set(Running.WORDS[3:])

    def test_none_wanted_none_made(self, gpt2: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            pytest.fail("the model was asked for nothing")

        monkeypatch.setattr(contexts, "next_token_logits", refuse)
        assert random_prefixes(gpt2, how(prefixes=())) == random_prefixes(gpt2, how(prefixes=((0, 5),))) == []

    def test_begin_with_what_the_tokenizer_puts_before_every_text(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loaded, begun = running(), first_asked(monkeypatch)
        loaded.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="a of $A", special_tokens=[("a", 5), ("of", 6)]
        )
        random_prefixes(loaded, how(prefixes=((2, 1),)))
        assert begun == [[5, 6], [5, 6]]

    def test_else_with_its_first_token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loaded, begun = running(), first_asked(monkeypatch)
        loaded.tokenizer.bos_token, loaded.tokenizer.eos_token = Running.WORDS[1], Running.WORDS[4]
        random_prefixes(loaded, how(prefixes=((1, 1),)))
        assert begun == [[1]]

    def test_else_with_its_last(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loaded, begun = running(), first_asked(monkeypatch)
        loaded.tokenizer.eos_token = Running.WORDS[4]
        random_prefixes(loaded, how(prefixes=((1, 1),)))
        assert begun == [[4]]

    def test_a_first_token_may_have_the_number_0(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loaded, begun = running(), first_asked(monkeypatch)
        loaded.tokenizer.bos_token, loaded.tokenizer.eos_token = Running.WORDS[0], Running.WORDS[4]
        assert (loaded.tokenizer.bos_token_id, loaded.tokenizer.eos_token_id) == (0, 4)
        random_prefixes(loaded, how(prefixes=((1, 1),)))
        assert begun == [[0]]


def first_asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Will hold what the model is asked to go on from."""
    begun: list[list[int]] = []

    def anything(_: LoadedModel, sequences: Sequence[Sequence[int]]) -> Tensor:
        begun.extend(list(sequence) for sequence in sequences)
        return torch.zeros(len(sequences), len(Running.WORDS))

    monkeypatch.setattr(contexts, "next_token_logits", anything)
    return begun
