"""Text on its way to the model: what is read, in which groups, and how little of it is padding."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core import corpora
from kis_core.covariance import reading
from kis_core.covariance.reading import MOST_PADDING, Extent, Group, ahead, batches, groups

PATIENCE = 20.0  # seconds until a test gives up on a thread; reached only when something hangs


def characters(texts: list[str], **_: object) -> dict[str, list[list[int]]]:
    """A tokenizer whose tokens are the characters."""
    return {
        "input_ids": [[ord(letter) for letter in text] for text in texts],
        "special_tokens_mask": [[0] * len(text) for text in texts],
    }


def padded(lengths: list[int], batch: list[int]) -> int:
    return len(batch) * max(lengths[k] for k in batch)


class TestBatches:
    @given(st.lists(st.integers(1, 300), max_size=80), st.integers(1, 1000))
    def test_every_row_once_little_padding_and_within_the_limit(self, lengths: list[int], limit: int) -> None:
        made = list(batches(lengths, tokens_per_batch=limit))
        assert sorted(k for batch in made for k in batch) == list(range(len(lengths)))
        for batch in made:
            real = sum(lengths[k] for k in batch)
            assert padded(lengths, batch) - real <= MOST_PADDING * padded(lengths, batch)
            assert padded(lengths, batch) <= limit or len(batch) == 1

    def test_by_hand(self) -> None:
        assert list(batches([20, 10, 10, 19], tokens_per_batch=40)) == [[1, 2], [3, 0]]
        assert list(batches([20, 10, 10, 18], tokens_per_batch=40)) == [[1, 2], [3, 0]], "2 of 40: just the share"
        assert list(batches([20, 10, 10, 17], tokens_per_batch=40)) == [[1, 2], [3], [0]]
        assert list(batches([7, 7, 7], tokens_per_batch=14)) == [[0, 1], [2]]
        assert list(batches([], tokens_per_batch=14)) == []


TEXTS = ("aaaa", "", "bb", "cccccc", "", "", "ddd", "e")


class TestGroups:
    def made(self, monkeypatch: pytest.MonkeyPatch, extent: Extent, **arguments: int) -> list[Group]:
        monkeypatch.setattr(reading, "DOCUMENTS_AT_ONCE", 2)
        return list(groups(characters, TEXTS, extent, **{"context": 5} | arguments))

    def test_by_hand(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = self.made(monkeypatch, Extent())
        assert [group.first for group in made] == [0, 2, 4, 6]
        assert [group.tokens for group in made] == [4, 7, 0, 4]
        assert [group.tokens_before for group in made] == [0, 4, 11, 11]
        assert [document for group in made for document in group.documents] == list(TEXTS)

    def test_documents_and_tokens_both_bound_what_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for tokens, documents, expected in (
            *((None, 3, (3, 6)), (None, 100, (8, 15)), (5, None, (3, 5)), (6, None, (3, 6)), (7, 3, (3, 6))),
            *((4, 3, (1, 4)), (11, None, (4, 11)), (12, None, (7, 12))),
        ):
            made = self.made(monkeypatch, Extent(tokens=tokens, documents=documents))
            read = (sum(len(group.documents) for group in made), sum(group.tokens for group in made))
            assert read == expected, (tokens, documents)
        [group] = groups(characters, ["x" * 10_000], Extent(), context=131_072)
        assert group.tokens == reading.LONGEST

    @pytest.mark.parametrize("extent", [Extent(), Extent(tokens=12), Extent(documents=7), Extent(tokens=4)])
    def test_going_on_after_any_group_gives_the_rest(self, monkeypatch: pytest.MonkeyPatch, extent: Extent) -> None:
        made = self.made(monkeypatch, extent)
        for number, group in enumerate(made, 1):
            place = {"first": group.first + len(group.documents), "tokens_before": group.tokens_before + group.tokens}
            assert self.made(monkeypatch, extent, **place) == made[number:]

    def test_a_corpus_without_end_is_read_only_as_far_as_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reading, "DOCUMENTS_AT_ONCE", 2)
        given_out = 0

        def endless() -> Iterator[str]:
            nonlocal given_out
            while True:
                given_out += 1
                yield "abc"

        assert sum(group.tokens for group in groups(characters, endless(), Extent(10), context=9)) == 10
        assert given_out == 4
        assert sum(len(group.rows) for group in groups(characters, endless(), Extent(documents=3), context=9)) == 3
        assert given_out == 7


class TestAhead:
    def test_gives_what_there_is_in_order(self) -> None:
        assert list(ahead(iter(range(5)))) == [0, 1, 2, 3, 4]
        assert list(ahead(iter(()))) == []
        assert list(ahead(iter([None, 0, ""]))) == [None, 0, ""]

        def failing() -> Iterator[int]:
            yield 1
            raise corpora.CorpusError("the second one cannot be read")

        stream = ahead(failing())
        assert next(stream) == 1
        with pytest.raises(corpora.CorpusError, match="the second one"):
            next(stream)

    def test_the_next_is_made_meanwhile_and_who_stops_does_not_wait_for_a_slow_reader(self) -> None:
        made: list[int] = []
        second, slow = threading.Event(), threading.Event()

        def items() -> Iterator[int]:
            for number in range(5):
                made.append(number)
                if number == 1:
                    second.set()
                    slow.wait(PATIENCE)
                yield number

        stream = ahead(items())
        assert next(stream) == 0
        assert second.wait(PATIENCE)
        time.sleep(0.01)
        assert made == [0, 1]
        began = time.monotonic()
        stream.close()
        assert time.monotonic() - began < PATIENCE / 2
        slow.set()
