"""How much P of the facts still moves while C grows, and the pass that ends once it does not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from kis_core import corpora
from kis_core.covariance import reading
from kis_core.covariance import settling as module
from kis_core.covariance.passes import Pass
from kis_core.covariance.reading import Extent
from kis_core.covariance.settling import FIRST_LOOK, STEP, Look, Settling, as_json, from_json, moved
from kis_core.models.loaded import LoadedModel
from kis_core.progress import Cancelled
from kis_core.store.store import Store
from kis_core.superposition.matrix import superposition
from tests.covariance.pass_tools import Ended, after, run

GUARDED = 1e-6  # what is added to C's diagonal while looking moves P by some 1e-9
KEYS = np.array([[1.0, 0.0], [1.0, 2.0]], dtype=np.float32)
MOVED = 0.3 / np.sqrt(2) / 0.25
"""By hand: under C = 1 P's two entries are 1 and 1/5, under C = diag(1, 4) they are 1 and 1/2, spread 0.25."""


def means(*diagonal: float) -> dict[int, np.ndarray]:
    return {0: np.diag(diagonal)}


def look(settling: Settling, c: dict[int, np.ndarray], tokens: int) -> bool:
    return settling.look(c.__getitem__, tokens)


class TestMoved:
    def test_by_hand(self) -> None:
        before, after_ = np.array([[1.0, 1.0], [0.2, 1.0]]), np.array([[1.0, 1.0], [0.5, 1.0]])
        assert moved(before, after_) == pytest.approx(MOVED)
        assert moved(after_, after_) == 0.0

    def test_the_diagonal_which_is_always_one_counts_for_nothing(self) -> None:
        before, after_ = np.array([[7.0, 1.0], [0.2, -5.0]]), np.array([[1.0, 1.0], [0.5, 1.0]])
        assert moved(before, after_) == pytest.approx(MOVED)

    def test_entries_that_are_not_finite_are_left_out(self) -> None:
        p = np.arange(9.0).reshape(3, 3)
        q = p + 1
        q[0] = np.nan  # the row of a zero key
        spread = np.std([q[1, 0], q[1, 2], q[2, 0], q[2, 1]])
        assert moved(p, q) == pytest.approx(1 / spread)

    @pytest.mark.parametrize("p", [np.full((2, 2), np.nan), np.ones((3, 3)), np.ones((1, 1))])
    def test_where_there_is_no_spread_it_is_not_a_number(self, p: np.ndarray) -> None:
        assert np.isnan(moved(p, p))


class TestSettling:
    def test_by_hand(self) -> None:
        told: list[Look] = []
        settling = Settling({0: KEYS}, looked=told.append)
        assert not look(settling, means(1.0, 1.0), 100)
        assert settling.looks == []
        assert not look(settling, means(1.0, 4.0), 150)
        [found] = settling.looks
        assert (found.tokens, found.layer) == (150, 0)
        assert found.moved == pytest.approx(MOVED, rel=GUARDED)
        assert told == settling.looks

    def test_times_of_looks_form_a_ladder(self) -> None:
        settling = Settling({0: KEYS})
        first = FIRST_LOOK * KEYS.shape[1]
        assert not settling.due(first - 1)
        assert settling.due(first)
        look(settling, means(1.0, 1.0), first)
        assert not settling.due(first * STEP - 1)
        assert settling.due(int(first * STEP))

    @pytest.mark.parametrize("keys", [{}, {0: KEYS[:1]}])
    def test_without_two_facts_there_is_nothing_to_look_at(self, keys: dict[int, np.ndarray]) -> None:
        assert not Settling(keys, 0.5).due(10**9)
        assert not Settling(keys, 0.5).settled

    def test_below_the_threshold_twice_in_a_row(self) -> None:
        settling = Settling({0: KEYS}, threshold=0.1)
        found = [look(settling, means(1.0, c), n) for n, c in enumerate((1, 4, 4, 1, 1, 1), 1)]
        assert found == [False, False, False, False, False, True]
        assert module.STILL_LOOKS == 2

    def test_every_watched_layer_has_to_be_still(self) -> None:
        settling = Settling({0: KEYS, 3: KEYS}, threshold=0.1)
        still, restless = np.diag([1.0, 1.0]), (np.diag([1.0, c]) for c in (1, 4, 1, 4, 4, 4))
        found = [settling.look({0: still, 3: c}.__getitem__, n) for n, c in enumerate(restless, 1)]
        assert found == [False] * 5 + [True]

    def test_without_a_threshold_it_only_looks_on(self) -> None:
        settling = Settling({0: KEYS})
        assert not any(look(settling, means(1.0, 1.0), n) for n in range(1, 9))
        assert [one.moved for one in settling.looks] == [0.0] * 7

    def test_a_c_that_cannot_be_inverted_yet_is_no_settled_one(self) -> None:
        settling = Settling({0: KEYS}, threshold=0.9)
        assert not any(look(settling, means(0.0, 0.0), n) for n in range(1, 5))
        assert np.isnan([one.moved for one in settling.looks]).all()
        assert not look(settling, means(1.0, 1.0), 5), "from nothing to something it moved"

    def test_a_singular_c_is_looked_at_all_the_same(self) -> None:
        settling = Settling({0: KEYS})
        look(settling, means(1.0, 0.0), 1)
        look(settling, means(1.0, 0.0), 2)
        assert [one.moved for one in settling.looks] == [0.0]

    @pytest.mark.parametrize("share", [0.25, 0.0, float("nan"), float("inf")])
    def test_looks_as_json(self, share: float) -> None:
        found = from_json(as_json(Look(7, 2, share)))
        assert (found.tokens, found.layer) == (7, 2)
        assert found.moved == share or (np.isnan(found.moved) and not np.isfinite(share))

    def test_goes_on_from_its_state(self) -> None:
        told: list[Look] = []
        whole, first = (Settling({0: KEYS}, 0.1, of="these") for _ in range(2))
        for n, c in enumerate((1, 4, 4), 1):
            look(whole, means(1.0, c), n)
        for n, c in enumerate((1, 4), 1):
            look(first, means(1.0, c), n)
        second = Settling({0: KEYS}, 0.1, told.append, of="these")
        second.resume(*first.state())
        assert told == first.looks
        assert second.due(8) == first.due(8)
        look(second, means(1.0, 4), 3)
        assert second.looks == whole.looks
        assert second.state()[0] == whole.state()[0]

    def test_looks_at_other_facts_are_not_taken_up(self) -> None:
        other = Settling({0: np.ones((5, 2))}, of="others")
        look(other, means(1.0, 4.0), 10)
        look(other, means(1.0, 1.0), 20)
        mine = Settling({0: KEYS}, of="mine")
        mine.resume(*other.state())
        assert mine.looks == []
        look(mine, means(1.0, 1.0), 30)
        look(mine, means(1.0, 4.0), 45)
        assert mine.looks == [Look(45, 0, pytest.approx(MOVED, rel=GUARDED))]

    @pytest.mark.parametrize(
        ("layers", "expected"),
        [
            ([5], [5]),
            ([2, 4], [2, 4]),
            ([0, 1, 2], [0, 1, 2]),
            (list(range(12)), [0, 6, 11]),
            (list(range(9)), [0, 4, 8]),
        ],
    )
    def test_first_middle_and_last_layer_are_watched(self, layers: Sequence[int], expected: list[int]) -> None:
        assert module.watched(layers) == expected


THRESHOLD = 0.25
TEXTS = corpora.builtin().texts[:120]


class TestPass:
    """A pass that ends once P of three random keys has settled."""

    @pytest.fixture(autouse=True)
    def small_groups(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reading, "DOCUMENTS_AT_ONCE", 5)

    def keys(self) -> dict[int, np.ndarray]:
        rng = np.random.default_rng(0)
        return {layer: rng.normal(size=(3, 40)).astype(np.float32) for layer in (0, 2)}

    def watched_run(
        self, loaded: LoadedModel, threshold: float | None, store: Store | None = None, stop: int | None = None
    ) -> tuple[Ended, Settling]:
        settling = Settling(self.keys(), threshold)
        one = Pass(loaded, [0, 2], Extent(), 256)
        report = after(stop) if stop else lambda *_: None
        return run(one, store=store, settling=settling, report=report, documents=TEXTS), settling

    def test_ends_as_soon_as_p_has_settled(self, gpt2: LoadedModel) -> None:
        whole, looked_on = self.watched_run(gpt2, None)
        early, settling = self.watched_run(gpt2, THRESHOLD)
        assert early.outcome.settled
        assert not whole.outcome.settled
        assert early.tokens[0] < whole.tokens[0]
        assert settling.looks == looked_on.looks[: len(settling.looks)]
        assert settling.looks[-1].tokens == early.tokens[0]
        below = [max(pair) < THRESHOLD for pair in zip(*[iter(one.moved for one in settling.looks)] * 2, strict=True)]
        assert below[-2:] == [True, True]
        assert not any(here and there for here, there in pairwise(below[:-1]))

    def test_a_look_tells_of_p_as_the_whole_way_gives_it(self, gpt2: LoadedModel) -> None:
        _, settling = self.watched_run(gpt2, None)
        counts = [one.tokens for one in settling.looks if one.layer == 2][-2:]
        p = []
        for tokens in counts:
            one = Pass(gpt2, [2], Extent(tokens), 256)
            one.run(lambda: iter(TEXTS))
            [(_, moment)] = one.moments()
            keys = self.keys()[2].astype(float)
            p.append(superposition(keys @ np.linalg.cholesky(np.linalg.inv(moment.matrix))))
        assert settling.looks[-1].moved == pytest.approx(moved(*p), rel=1e-4)

    def test_ends_at_the_same_token_whatever_interrupts_it(self, gpt2: LoadedModel, store: Store) -> None:
        whole, settling = self.watched_run(gpt2, THRESHOLD)
        for stop in (2, 3, 7, 1, whole.outcome.batches // 3):
            with pytest.raises(Cancelled):
                self.watched_run(gpt2, THRESHOLD, store, stop)
        again, resumed = self.watched_run(gpt2, THRESHOLD, store)
        assert again == whole
        assert resumed.looks == settling.looks

    def test_one_that_had_settled_when_it_was_killed_reads_no_more(self, gpt2: LoadedModel, store: Store) -> None:
        whole, _ = self.watched_run(gpt2, THRESHOLD, store)  # the checkpoint stays: nobody cleared it
        again, _ = self.watched_run(gpt2, THRESHOLD, store, stop=1)
        assert again == whole
