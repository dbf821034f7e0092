"""A pass that is cut off anywhere ends with the same bytes, and leaves nothing behind."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kis_core import progress
from kis_core.covariance import reading
from kis_core.covariance.checkpoint import SECONDS_BETWEEN, WRITING_SHARE, Checkpoints, unfinished
from kis_core.models.loaded import LoadedModel
from kis_core.progress import Cancelled
from kis_core.store.leftovers import HEAD, PART
from kis_core.store.store import Store, StoreError
from tests.covariance import pass_tools
from tests.covariance.pass_tools import AT_ONCE, DOCUMENTS, NAME, SCARCE, Counting, after, before, new, run

Parts = dict[str, dict[str, np.ndarray]]
A, B = np.arange(4.0), np.ones((2, 3))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def checkpoints(store: Store, clock: Any = lambda: 0.0, **name: Any) -> Checkpoints:
    return Checkpoints(store, NAME | name, {"model": "tiny"} | name, clock)


def save(one: Checkpoints, tokens: int, parts: Parts | None = None) -> None:
    one.save({"tokens": tokens}, iter((parts or {"a": {"a": A * tokens}, "b": {"b": B * tokens}}).items()))


def left(store: Store) -> list[str]:
    return sorted(item.kind for item in store.inventory() if item.kind in (HEAD, PART))


class FailsAt:
    """A store whose n-th writing fails; of the disk, or of the process."""

    def __init__(self, store: Store, number: int, error: BaseException) -> None:
        self._store, self._numbers, self._error = store, iter(range(number - 1)), error

    def put(self, *arguments: Any) -> None:
        if next(self._numbers, None) is None:
            raise self._error
        self._store.put(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class TestCheckpoints:
    def test_what_is_kept_is_read_and_the_one_before_is_gone(self, store: Store) -> None:
        one = checkpoints(store)
        assert one.read() is None
        for tokens in (6, 5, 5):
            save(one, tokens)
            assert left(store) == [HEAD, PART, PART]
        assert len(list((store.root / "matrices").iterdir())) == 3
        taken = checkpoints(store).read()
        assert taken.place == {"tokens": 5}
        arrays = {name: array.tolist() for name, array in taken.arrays.items()}
        assert arrays == {"a": (A * 5).tolist(), "b": (B * 5).tolist()}

    @pytest.mark.parametrize(
        ("number", "error"), [(1, StoreError("disk full")), (3, StoreError("disk full")), (2, MemoryError())]
    )
    def test_not_written_costs_nothing(
        self, store: Store, number: int, error: Exception, caplog: pytest.LogCaptureFixture
    ) -> None:
        save(checkpoints(store), 5)
        with caplog.at_level(logging.WARNING):
            save(checkpoints(FailsAt(store, number, error)), 6)
        assert "the checkpoint was not kept" in caplog.text
        assert checkpoints(store).read().place == {"tokens": 5}
        assert left(store) == [HEAD, PART, PART], "a full disk is not filled with halves"

    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_a_writer_killed_at_any_step_leaves_the_one_before(self, store: Store, number: int) -> None:
        save(checkpoints(store), 5)
        with pytest.raises(KeyboardInterrupt):
            save(checkpoints(FailsAt(store, number, KeyboardInterrupt())), 5, {"a": {"a": -A}, "b": {"b": -B}})
        taken = checkpoints(store).read()
        assert (taken.arrays["a"] == A * 5).all(), "of the same place, and yet of another time"
        assert (taken.arrays["b"] == B * 5).all()
        save(checkpoints(store), 7)
        assert left(store) == [HEAD, PART, PART], "its halves are swept up"

    @pytest.mark.parametrize("number", [0, 1])
    def test_a_damaged_part_makes_it_none(self, store: Store, number: int) -> None:
        save(checkpoints(store), 5)
        path = [item.path for item in store.inventory(PART)][number]
        path.write_bytes(path.read_bytes()[:-1])
        assert checkpoints(store).read() is None
        save(checkpoints(store), 6)
        assert checkpoints(store).read().place == {"tokens": 6}
        assert left(store) == [HEAD, PART, PART]

    def test_passes_do_not_know_each_other(self, store: Store) -> None:
        one, other = checkpoints(store, rank=0), checkpoints(store, rank=1)
        save(one, 5)
        save(other, 6)
        told = sorted(unfinished(store), key=lambda about: about["rank"])
        assert told == [{"model": "tiny", "rank": k, "tokens_read": 5 + k} for k in (0, 1)]
        one.clear()
        assert one.read() is None
        assert other.read().place == {"tokens": 6}
        other.clear()
        assert left(store) == []
        assert unfinished(store) == []

    def test_one_a_minute_or_less_where_writing_takes_more_than_its_share(self, store: Store) -> None:
        clock = Clock()
        one = checkpoints(store, clock)
        assert SECONDS_BETWEEN == 60
        assert not one.due()
        clock.now += SECONDS_BETWEEN
        assert one.due()
        save(one, 1)
        assert not one.due()

        def slow() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
            clock.now += 30.0
            yield "a", {"a": A}

        one.save({"tokens": 1}, slow())
        clock.now += 30.0 / WRITING_SHARE - 1
        assert not one.due()
        clock.now += 1
        assert one.due()


class TestResume:
    @pytest.fixture(autouse=True)
    def small_groups(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reading, "DOCUMENTS_AT_ONCE", AT_ONCE)

    def test_after_a_kill_at_any_batch_the_bytes_are_the_same(self, gpt2: LoadedModel, tmp_path: Path) -> None:
        def one(report: progress.Report = progress.silent, **store: Any) -> pass_tools.Ended:
            return run(new(gpt2, layers=[1]), documents=DOCUMENTS[:12], report=report, **store)

        whole = one()
        assert whole.outcome.batches > 6
        for stop in (1, 2, 5, whole.outcome.batches):
            store = Store(tmp_path / str(stop))
            with pytest.raises(Cancelled):
                one(after(stop), store=store)
            counting = Counting()
            assert one(counting, store=store, saving=False) == whole
            assert counting.batches == whole.outcome.batches - (stop - 1), "it went on, and did not begin anew"

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_after_many_kills_and_with_little_memory(self, gpt2: LoadedModel, store: Store, dtype: str) -> None:
        gpt2.model.to(getattr(torch, dtype))  # sums go on in the precision they began in

        def scarce(stop: int | None) -> Any:
            with before(gpt2.architecture.blocks[1], pass_tools.out_of_memory_above(SCARCE, MemoryError)):
                return run(new(gpt2, tokens=200), store=store if stop else None, report=after(stop or 1000))

        whole = scarce(None)
        for stop in (2, 1, 4):
            with pytest.raises(Cancelled):
                scarce(stop)
        assert scarce(1000) == whole
        assert whole.tokens == (200, 200)

    def test_other_batches_begin_anew(self, gpt2: LoadedModel, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(Cancelled):
            run(new(gpt2), store=store, report=after(5))
        monkeypatch.setattr(reading, "DOCUMENTS_AT_ONCE", AT_ONCE + 1)
        whole, counting = run(new(gpt2)), Counting()
        assert run(new(gpt2), store=store, report=counting) == whole
        assert counting.batches == whole.outcome.batches
