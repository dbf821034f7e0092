"""Which facts a sequence of edits takes, and in which order; what keys alone foretell of their interference."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kis_core import lifelong
from kis_core.demo import factbase
from kis_core.editing import RequestedEdit
from kis_core.facts import Fact
from kis_core.facts.known import KnownFacts
from kis_core.lifelong import Draw, Pool, Queue
from kis_core.lifelong.queue import gentle_order, most
from kis_core.progress import Cancelled
from kis_core.request import RequestError
from kis_core.simulator import Simulator
from tests.lifelong import lifelong_tools as tools

READ = 1e-4  # of a float32 key, relative, that goes into P; its C is inverted
EXACT = 1e-12
SUBJECTS_OF_ONE = 2000  # more edits than there are of any one relation


@pytest.fixture(scope="module")
def demo(demo: tools.Setting, tmp_path_factory: pytest.TempPathFactory) -> Simulator:
    return demo.bench(tmp_path_factory.mktemp("demo") / "store")


@pytest.fixture(scope="module")
def stranger(stranger: tools.Setting, tmp_path_factory: pytest.TempPathFactory) -> Simulator:
    return stranger.bench(tmp_path_factory.mktemp("stranger") / "store")


@pytest.fixture(autouse=True)
def weights_stay(demo: Simulator, stranger: Simulator) -> Iterator[None]:
    before = demo.model.digest(), stranger.model.digest()
    yield
    assert (demo.model.digest(), stranger.model.digest()) == before


def drawn(bench: Simulator, edits: int, by: str = "random", layer: int = 0, **how: Any) -> Queue:
    return lifelong.draw_queue(bench, Draw(by, **how), edits, layer)


def objects(relation: str) -> set[str]:
    return {base.object for base in factbase.load() if base.relation == relation}


def rows(source: Pool, queue: Queue) -> list[int]:
    return [source.facts.index(one.fact) for one in queue.edits]


def root_mean_square(p: np.ndarray) -> np.ndarray:
    return np.sqrt((p**2).mean(axis=1))


class TestPool:
    def test_a_demo_model_is_edited_beside_the_facts_looked_at(self, demo: Simulator) -> None:
        source = lifelong.pool(demo)
        assert source.apart
        subjects = [fact.subject for fact in source.facts]
        assert len(set(subjects)) == len(subjects), "one a subject"
        assert not set(subjects) & {fact.subject for fact in demo.facts}
        assert {*subjects} == {b.subject for b in factbase.load()} - {fact.subject for fact in demo.facts}
        assert most(source, demo) == source.known.sum() > 0.9 * len(subjects)

    def test_another_model_among_them(self, stranger: Simulator) -> None:
        source = lifelong.pool(stranger)
        assert not source.apart
        assert source.facts == stranger.facts
        assert source.known.tolist() == list(stranger.result.known)
        assert not source.known[tools.UNKNOWN]
        assert most(source, stranger) == len(stranger.facts) // 2 < source.known.sum()

    def test_leverage_and_leak_from_keys_and_c(self, demo: Simulator) -> None:
        source, some = lifelong.pool(demo), [0, 17, 400, 2000]
        assert source.leak.shape == source.leverage.shape == (len(demo.result.layers), len(source.facts))
        for layer in (0, 2):
            inverse = np.linalg.inv(tools.moment(demo, layer))
            own = np.stack([tools.at_subject(demo.model, source.facts[e], layer)[0] for e in some])
            others = np.stack([tools.at_subject(demo.model, fact, layer)[0] for fact in demo.facts])
            leverage = np.einsum("ei,ij,ej->e", own, inverse, own)
            p = own @ inverse @ others.T / leverage[:, None]
            np.testing.assert_allclose(source.leverage[layer, some], leverage, rtol=READ)
            np.testing.assert_allclose(source.leak[layer, some], root_mean_square(p), rtol=READ)

    def test_among_the_facts_looked_at_its_own_share_does_not_count(self, stranger: Simulator) -> None:
        source = lifelong.pool(stranger)
        for layer in (0, 2):
            p = np.array([np.delete(row, e) for e, row in enumerate(stranger.result.p[layer])])
            np.testing.assert_allclose(source.leak[layer], root_mean_square(p), rtol=READ)

    def test_is_worked_out_once(self, demo: Simulator, tmp_path: Path) -> None:
        def refuse(stage: str, done: int, total: int) -> None:
            if stage == "Choosing the edits":
                raise Cancelled

        again = Simulator(demo.result, demo.store, lambda: demo.model)
        found, known = lifelong.pool(again, refuse), lifelong.pool(demo)
        for name in ("known", "leverage", "leak"):
            np.testing.assert_array_equal(getattr(found, name), getattr(known, name))

    def test_one_fact_looked_at_leaks_on_no_other(self) -> None:
        from kis_core.lifelong.queue import _root_mean_square

        assert np.isnan(_root_mean_square(np.array([[np.nan]]))).all()
        np.testing.assert_allclose(_root_mean_square(np.array([[3.0, np.nan, 4.0], [np.inf, 2, 2]])), [12.5**0.5, 2])


class TestDrawing:
    @pytest.mark.parametrize("by", ["random", "relation", "most", "least"])
    def test_a_seed_draws_and_fewer_are_the_first_of_more(self, demo: Simulator, by: str) -> None:
        told = drawn(demo, 30, by, seed=4).rows()
        assert told == drawn(demo, 30, by, seed=4).rows()
        assert told != drawn(demo, 30, by, seed=5).rows()
        for fewer in (1, 7, 29):
            assert drawn(demo, fewer, by, seed=4).rows() == told[:fewer]

    def test_known_facts_one_a_subject_and_other_objects_of_the_relation(self, demo: Simulator) -> None:
        source, queue = lifelong.pool(demo), drawn(demo, 300)
        assert len({one.fact.subject for one in queue.edits}) == 300
        for one in queue.edits:
            assert one.target != one.fact.target
            assert one.target in objects(one.fact.relation)
        assert source.known[rows(source, queue)].all()
        assert len({one.fact.relation for one in queue.edits}) > 20
        np.testing.assert_array_equal(queue.leverage, source.leverage[:, rows(source, queue)])
        np.testing.assert_array_equal(queue.leak, source.leak[:, rows(source, queue)])

    def test_a_subject_is_edited_once(self, stranger: Simulator) -> None:
        both = {fact for fact in stranger.facts if fact.subject == "Croatia"}
        assert len(both) == 2
        drawn_ones = [[one.fact for one in drawn(stranger, 11, seed=seed).edits] for seed in range(12)]
        assert all(len({fact.subject for fact in some}) == 11 for some in drawn_ones)
        assert {fact for some in drawn_ones for fact in some} >= both

    def test_new_objects_are_likely_ones_and_not_always_the_same(self, demo: Simulator) -> None:
        found: dict[str, set[str]] = {}
        for one in drawn(demo, 600).edits:
            found.setdefault(one.fact.relation, set()).add(one.target)
            counts = sorted((-sum(b.object == o for b in factbase.load() if b.relation == one.fact.relation), o)
                            for o in objects(one.fact.relation) - {one.fact.target})  # fmt: skip
            assert one.target in [o for _, o in counts[:5]]
        assert sum(len(targets) > 2 for targets in found.values()) > len(found) // 2

    def test_tell_and_begins_like(self, demo: Simulator) -> None:
        queue = drawn(demo, 5)
        one = queue.edits[3]
        expected = [one.fact.subject, one.fact.prompt, one.fact.target, one.fact.relation, one.target]
        assert queue.rows()[3] == expected
        assert queue.begins_like([])
        assert queue.begins_like([tuple(row) for row in queue.rows()[:4]])
        assert not queue.begins_like(drawn(demo, 5, seed=1).rows())
        assert not queue.begins_like(drawn(demo, 6).rows())
        assert not queue.begins_like([*queue.rows()[:4], [*queue.rows()[4][:4], "elsewhere"]])

    @pytest.mark.parametrize("layer", [0, 2])
    def test_most_and_least_superposed_first(self, demo: Simulator, layer: int) -> None:
        source = lifelong.pool(demo)
        every = np.sort(source.leak[layer, source.known])
        first = drawn(demo, 40, "most", layer).leak[layer]
        last = drawn(demo, 40, "least", layer).leak[layer]
        np.testing.assert_array_equal(first, every[::-1][:40])
        np.testing.assert_array_equal(last, every[:40])
        assert first.min() > last.max()

    def test_of_some_relations_one_after_the_other(self, demo: Simulator) -> None:
        count = sum(fact.relation == "sport" for fact in lifelong.pool(demo).facts)
        told = [one.fact.relation for one in drawn(demo, count + 5, "relation", relations=("sport", "religion")).edits]
        changes = [name for name, _ in itertools.groupby(told)]
        assert changes == ["sport", "religion"]
        other = [one.fact.relation for one in drawn(demo, 5, "relation", relations=("religion", "sport")).edits]
        assert set(other) == {"religion"}
        names = [one.fact.relation for one in drawn(demo, 150, "relation").edits]
        assert names == sorted(names), "all of them, one after the other"
        assert len(set(names)) > 1

    def test_what_is_not_edited_tells_of_the_damage(self, demo: Simulator, stranger: Simulator) -> None:
        assert drawn(demo, 30).unrelated == tuple(range(len(demo.facts)))
        queue = drawn(stranger, 11)
        edited = {stranger.facts.index(one.fact) for one in queue.edits}
        assert queue.unrelated == tuple(j for j in range(len(stranger.facts)) if j not in edited)
        assert len(queue.unrelated) == len(stranger.facts) - 11
        assert tools.UNKNOWN not in edited
        assert tools.ENDS_WITH_SUBJECT not in edited, "nothing else is of its kind"


class TestByHand:
    PICKED = ((5, "Nokia"), (2, " French "), (9, "Greek"))

    def test_as_picked(self, demo: Simulator, stranger: Simulator) -> None:
        for bench in (demo, stranger):
            queue = drawn(bench, 3, "hand", picked=self.PICKED)
            assert queue.edits == tuple(
                RequestedEdit(bench.facts[fact], target.strip()) for fact, target in self.PICKED
            )
            assert queue.unrelated == tuple(j for j in range(len(bench.facts)) if j not in (2, 5, 9))
            p = np.array([np.delete(bench.result.p[2, e], e) for e, _ in self.PICKED])
            np.testing.assert_allclose(queue.leak[2], root_mean_square(p), rtol=READ)
            keys = np.stack([tools.at_subject(bench.model, bench.facts[e], 2)[0] for e, _ in self.PICKED])
            inverse = np.linalg.inv(tools.moment(bench, 2))
            np.testing.assert_allclose(queue.leverage[2], np.einsum("ei,ij,ej->e", keys, inverse, keys), rtol=READ)

    def test_fewer_are_the_first(self, demo: Simulator) -> None:
        queue = drawn(demo, 2, "hand", picked=self.PICKED)
        assert [one.target for one in queue.edits] == ["Nokia", "French"]
        assert 9 in queue.unrelated

    @pytest.mark.parametrize(
        ("picked", "told"),
        [
            ((), "no edit was picked"),
            (((22, "x"),), "facts count from 0 to 21; fact 22 was picked"),
            (((-1, "x"),), "fact -1 was picked"),
            (((3, "  "),), "fact 3 was picked without a new object"),
        ],
    )
    def test_refusals(self, demo: Simulator, picked: Any, told: str) -> None:
        with pytest.raises(RequestError, match=told):
            drawn(demo, 3, "hand", picked=picked)


class TestRefusals:
    def test_more_than_there_are(self, demo: Simulator, stranger: Simulator) -> None:
        with pytest.raises(RequestError, match=r"at most half of the 22 facts .* 12 edits were asked for"):
            drawn(stranger, 12)
        with pytest.raises(RequestError, match=rf"{SUBJECTS_OF_ONE:,} edits were asked for; \d+ of the facts to draw"):
            drawn(demo, SUBJECTS_OF_ONE, "relation", relations=("sport",))

    def test_a_relation_that_is_not_there(self, demo: Simulator) -> None:
        with pytest.raises(RequestError, match="no relation 'shoe size' to edit; there are airline_country, animal_"):
            drawn(demo, 3, "relation", relations=("sport", "shoe size"))

    def test_a_layer_that_is_not_there(self, demo: Simulator) -> None:
        with pytest.raises(RequestError, match="layer 4 was not computed"):
            drawn(demo, 3, layer=4)

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"by": "luck"}, "edits are drawn random, relation, most, least, hand; found 'luck'"),
            ({"order": "up"}, "edits are ordered drawn, gentle, harsh; found 'up'"),
            ({"seed": -1}, "a seed is 0 or more; found -1"),
            ({"by": "hand", "picked": ((1, "a"), (1, "b"))}, "a fact was picked twice"),
        ],
    )
    def test_of_a_draw(self, wrong: dict[str, Any], told: str) -> None:
        with pytest.raises(RequestError, match=told):
            Draw(**wrong)

    def test_draws_in_words(self) -> None:
        assert Draw().label == "at random, seed 0"
        assert Draw("most", 3, order="gentle").label == "most superposed first, least interference first, seed 3"
        assert Draw("relation", relations=("a", "b")).label == "of a, b, seed 0"
        assert Draw("relation", 1).label == "of some relations, seed 1"
        assert Draw("hand", picked=((0, "x"),)).label == "picked by hand"

    def test_a_fact_without_a_relation_gets_an_object_of_such_facts(self) -> None:
        from kis_core.lifelong.queue import _drawn

        plain = tuple(Fact(f"s{i}", "{} is", target) for i, target in enumerate(["a", "b", "a"]))
        source = Pool(plain, np.ones(3, dtype=bool), np.ones((1, 3)), np.array([[0.1, np.nan, 0.3]]), apart=False)
        asked, at = _drawn(source, Draw(seed=2), 3, 0, KnownFacts(plain))
        assert sorted(at) == [0, 1, 2]
        assert {one.fact.subject: one.target for one in asked} == {"s0": "b", "s1": "a", "s2": "b"}
        asked, at = _drawn(source, Draw("most"), 2, 0, KnownFacts(plain))
        assert at == [2, 0], "one without a leak is not among the most superposed"
        alike = Pool(plain[::2], np.ones(2, dtype=bool), np.ones((1, 2)), np.ones((1, 2)), False)
        with pytest.raises(RequestError, match="1 edit was asked for; 0 of the facts"):
            _drawn(alike, Draw(), 1, 0, KnownFacts(plain[::2]))


def forecast(order: tuple[int, ...], keys: np.ndarray) -> float:
    """Σ over i edited before j of P[j, i]², P by its formula; `keys` are whitened."""
    total = 0.0
    for at, j in enumerate(order):
        for i in order[:at]:
            total += float((keys[i] @ keys[j] / (keys[j] @ keys[j])) ** 2)
    return total


five_keys = arrays.arrays(np.float64, (5, 3), elements=st.floats(-8, 8, width=32))


class TestOrder:
    @settings(max_examples=60, deadline=None)
    @given(five_keys)
    def test_gentle_is_the_least_of_all_permutations_and_harsh_the_most(self, keys: np.ndarray) -> None:
        assume((np.linalg.norm(keys, axis=1) > 0.1).all())
        found = {order: forecast(order, keys) for order in itertools.permutations(range(5))}
        gentle = gentle_order((keys**2).sum(axis=1)).tolist()
        assert found[tuple(gentle)] <= min(found.values()) * (1 + 1e-9) + EXACT
        assert found[tuple(gentle[::-1])] >= max(found.values()) * (1 - 1e-9) - EXACT
        told = lifelong.interference(keys[gentle])
        assert told == pytest.approx(np.sqrt(found[tuple(gentle)] / 10), rel=1e-9, abs=EXACT)

    def test_interference_by_hand(self) -> None:
        """P[1, 0] = 2/4, P[2, 0] = 3/9, P[2, 1] = 6/9."""
        keys = np.array([[1.0], [2.0], [3.0]])
        assert lifelong.interference(keys) == pytest.approx(np.sqrt((1 / 4 + 1 / 9 + 4 / 9) / 3), rel=EXACT)
        assert lifelong.interference(keys[::-1]) == pytest.approx(np.sqrt((9 / 4 + 9 + 4) / 3), rel=EXACT)
        assert lifelong.interference(np.eye(3)) == 0
        assert lifelong.interference(keys[:1]) == lifelong.interference(keys[:0]) == 0
        dead = np.array([[1.0], [0.0], [1.0]])
        assert lifelong.interference(dead) == pytest.approx(np.sqrt(1 / 3), rel=EXACT)

    @pytest.mark.parametrize("by", ["random", "most"])
    def test_of_a_queue(self, demo: Simulator, by: str) -> None:
        plain, gentle, harsh = (drawn(demo, 25, by, 1, order=order) for order in ("drawn", "gentle", "harsh"))
        for ordered in (gentle, harsh):
            assert sorted(ordered.rows()) == sorted(plain.rows())
            assert ordered.unrelated == plain.unrelated
        assert gentle.rows() == harsh.rows()[::-1] != plain.rows()
        np.testing.assert_array_equal(gentle.leverage[1], np.sort(plain.leverage[1]))
        np.testing.assert_array_equal(gentle.leak, harsh.leak[:, ::-1])
        source = lifelong.pool(demo)
        np.testing.assert_array_equal(gentle.leak, source.leak[:, rows(source, gentle)])
        inverse = np.linalg.cholesky(np.linalg.inv(tools.moment(demo, 1)))
        least, usual, largest = (
            lifelong.interference(
                np.stack([tools.at_subject(demo.model, one.fact, 1)[0] for one in queue.edits]) @ inverse
            )
            for queue in (gentle, plain, harsh)
        )
        assert least < usual < largest

    def test_picked_by_hand_too(self, demo: Simulator) -> None:
        picked = tuple((fact, "Nokia") for fact in (9, 1, 5, 3))
        gentle = drawn(demo, 4, "hand", picked=picked, order="gentle")
        leverage = [float(row @ row) for row in demo.whitener(0).whiten(demo.sensitivity(0).subject_keys)]
        expected = sorted((fact for fact, _ in picked), key=lambda fact: leverage[fact])
        assert [demo.facts.index(one.fact) for one in gentle.edits] == expected
