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


def test_how_much_p_moved_by_hand() -> None:
    before, after_ = np.array([[7.0, 1.0], [0.2, -5.0]]), np.array([[1.0, 1.0], [0.5, 1.0]])
    assert moved(before, after_) == pytest.approx(MOVED), "the diagonal, which is always one, counts for nothing"
    assert moved(after_, after_) == 0.0
    p = np.arange(9.0).reshape(3, 3)
    q = p + 1
    q[0] = np.nan  # the row of a zero key
    assert moved(p, q) == pytest.approx(1 / np.std([q[1, 0], q[1, 2], q[2, 0], q[2, 1]]))
    for flat in (np.full((2, 2), np.nan), np.ones((3, 3)), np.ones((1, 1))):
        assert np.isnan(moved(flat, flat)), "where there is no spread it is not a number"


class TestSettling:
    def test_by_hand(self) -> None:
        reports: list[Look] = []
        settling = Settling({0: KEYS}, looked=reports.append)
        assert not look(settling, means(1.0, 1.0), 100)
        assert settling.looks == []
        assert not look(settling, means(1.0, 4.0), 150)
        [actual] = settling.looks
        assert (actual.tokens, actual.layer) == (150, 0)
        assert actual.moved == pytest.approx(MOVED, rel=GUARDED)
        assert reports == settling.looks

    def test_times_of_looks_form_a_ladder(self) -> None:
        settling = Settling({0: KEYS})
        first = FIRST_LOOK * KEYS.shape[1]
        assert not settling.due(first - 1)
        assert settling.due(first)
        look(settling, means(1.0, 1.0), first)
        assert not settling.due(first * STEP - 1)
        assert settling.due(int(first * STEP))
        for alone in ({}, {0: KEYS[:1]}):  # without two facts there is nothing to look at
            assert not Settling(alone, 0.5).due(10**9)
            assert not Settling(alone, 0.5).settled

    def test_below_the_threshold_twice_in_a_row(self) -> None:
        settling = Settling({0: KEYS}, threshold=0.1)
        actual = [look(settling, means(1.0, c), n) for n, c in enumerate((1, 4, 4, 1, 1, 1), 1)]
        assert actual == [False, False, False, False, False, True]
        assert module.STILL_LOOKS == 2

    def test_every_watched_layer_has_to_be_still(self) -> None:
        settling = Settling({0: KEYS, 3: KEYS}, threshold=0.1)
        still, restless = np.diag([1.0, 1.0]), (np.diag([1.0, c]) for c in (1, 4, 1, 4, 4, 4))
        actual = [settling.look({0: still, 3: c}.__getitem__, n) for n, c in enumerate(restless, 1)]
        assert actual == [False] * 5 + [True]

    def test_a_c_that_cannot_be_inverted_yet_is_no_settled_one(self) -> None:
        settling = Settling({0: KEYS}, threshold=0.9)
        assert not any(look(settling, means(0.0, 0.0), n) for n in range(1, 5))
        assert np.isnan([one.moved for one in settling.looks]).all()
        assert not look(settling, means(1.0, 1.0), 5), "from nothing to something it moved"
        looks_on = Settling({0: KEYS})  # without a threshold
        assert not any(look(looks_on, means(1.0, 0.0), n) for n in range(1, 9))
        assert [one.moved for one in looks_on.looks] == [0.0] * 7, "a singular one is looked at all the same"
        assert [from_json(as_json(one)) for one in looks_on.looks] == looks_on.looks
        assert np.isnan([from_json(as_json(one)).moved for one in settling.looks]).all()

    @pytest.mark.parametrize(("layers", "expected"), [([2, 4], [2, 4]), (range(12), [0, 6, 11]), (range(9), [0, 4, 8])])
    def test_first_middle_and_last_layer_are_watched(self, layers: Sequence[int], expected: list[int]) -> None:
        assert module.watched(list(layers)) == expected


THRESHOLD = 0.25
TEXTS = corpora.builtin().texts[:120]


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "DOCUMENTS_AT_ONCE", 5)


def random_keys() -> dict[int, np.ndarray]:
    """Of three facts."""
    rng = np.random.default_rng(0)
    return {layer: rng.normal(size=(3, 40)).astype(np.float32) for layer in (0, 2)}


def watched_run(
    loaded: LoadedModel, threshold: float | None, store: Store | None = None, stop: int | None = None
) -> tuple[Ended, Settling]:
    """A pass that ends once P of random keys has settled."""
    settling = Settling(random_keys(), threshold)
    one = Pass(loaded, [0, 2], Extent(), 256)
    report = after(stop) if stop else lambda *_: None
    return run(one, store=store, settling=settling, report=report, documents=TEXTS), settling


def test_a_pass_ends_as_soon_as_p_has_settled(gpt2: LoadedModel) -> None:
    whole, looked_on = watched_run(gpt2, None)
    early, settling = watched_run(gpt2, THRESHOLD)
    assert early.outcome.settled
    assert not whole.outcome.settled
    assert early.tokens[0] < whole.tokens[0]
    assert settling.looks == looked_on.looks[: len(settling.looks)]
    assert settling.looks[-1].tokens == early.tokens[0]
    below = [max(pair) < THRESHOLD for pair in zip(*[iter(one.moved for one in settling.looks)] * 2, strict=True)]
    assert below[-2:] == [True, True]
    assert not any(here and there for here, there in pairwise(below[:-1]))
    counts = [one.tokens for one in settling.looks if one.layer == 2][-2:]
    p = []  # as the whole way gives it
    for tokens in counts:
        one = Pass(gpt2, [2], Extent(tokens), 256)
        one.run(lambda: iter(TEXTS))
        [(_, moment)] = one.moments()
        keys = random_keys()[2].astype(float)
        p.append(superposition(keys @ np.linalg.cholesky(np.linalg.inv(moment.matrix))))
    assert settling.looks[-1].moved == pytest.approx(moved(*p), rel=1e-4)


def test_a_pass_ends_at_the_same_token_whatever_interrupts_it(gpt2: LoadedModel, store: Store) -> None:
    whole, settling = watched_run(gpt2, THRESHOLD)
    for stop in (3, 1, whole.outcome.batches // 3):
        with pytest.raises(Cancelled):
            watched_run(gpt2, THRESHOLD, store, stop)
    for stop in (None, 1):  # killed once it has settled, it reads no more
        again, resumed = watched_run(gpt2, THRESHOLD, store, stop)
        assert again == whole
        assert resumed.looks == settling.looks
