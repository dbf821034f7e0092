"""Which facts a sequence of edits takes, and in which order; what keys alone foretell of their interference."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kis_core import lifelong
from kis_core.demo import factbase
from kis_core.editing import RequestedEdit
from kis_core.facts import Fact
from kis_core.facts.known import KnownFacts
from kis_core.lifelong import Draw, Pool, Queue
from kis_core.lifelong.queue import _drawn, gentle_order, most
from kis_core.request import RequestError
from kis_core.simulator import Simulator
from tests.lifelong import lifelong_tools as tools

READ = 1e-4  # of a float32 key, relative, that goes into P; its C is inverted
EXACT = 1e-12
FACT_BASE = factbase.load()
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


def rows(source: Pool, queue: Queue) -> list[int]:
    return [source.facts.index(one.fact) for one in queue.edits]


def root_mean_square(p: np.ndarray) -> np.ndarray:
    return np.sqrt((p**2).mean(axis=1))


class TestPool:
    def test_a_demo_model_is_edited_beside_the_facts_looked_at_another_among_them(
        self, demo: Simulator, stranger: Simulator
    ) -> None:
        source, subjects = lifelong.pool(demo), [fact.subject for fact in lifelong.pool(demo).facts]
        assert source.apart
        assert len(set(subjects)) == len(subjects), "one a subject"
        assert {*subjects} == {base.subject for base in FACT_BASE} - {fact.subject for fact in demo.facts}
        assert most(source, demo) == source.known.sum() > 0.9 * len(subjects)
        among = lifelong.pool(stranger)
        assert not among.apart
        assert among.facts == stranger.facts
        assert among.known.tolist() == list(stranger.result.known)
        assert not among.known[tools.UNKNOWN]
        assert most(among, stranger) == len(stranger.facts) // 2 < among.known.sum()

    def test_leverage_and_leak_from_keys_and_c(self, demo: Simulator, stranger: Simulator) -> None:
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
            p = np.array([np.delete(row, e) for e, row in enumerate(stranger.result.p[layer])])
            leak = lifelong.pool(stranger).leak[layer]
            np.testing.assert_allclose(leak, root_mean_square(p), rtol=READ, err_msg="its own share does not count")


class TestDrawing:
    @pytest.mark.parametrize("by", ["random", "relation", "most", "least"])
    def test_a_seed_draws_and_fewer_are_the_first_of_more(self, demo: Simulator, by: str) -> None:
        rows = drawn(demo, 30, by, seed=4).rows()
        assert rows != drawn(demo, 30, by, seed=5).rows()
        for edits in (1, 7, 30):
            assert drawn(demo, edits, by, seed=4).rows() == rows[:edits]

    def test_known_facts_one_a_subject_and_likely_objects_of_the_relation(self, demo: Simulator) -> None:
        source, queue = lifelong.pool(demo), drawn(demo, 300)
        assert len({edit.fact.subject for edit in queue.edits}) == 300
        counts: dict[str, Counter[str]] = {}
        for base in FACT_BASE:
            counts.setdefault(base.relation, Counter())[base.object] += 1
        targets: dict[str, set[str]] = {}
        for edit in queue.edits:
            others = {name: count for name, count in counts[edit.fact.relation].items() if name != edit.fact.target}
            assert edit.target in sorted(others, key=lambda name: (-others[name], name))[:5]
            targets.setdefault(edit.fact.relation, set()).add(edit.target)
        assert len(targets) > 20
        assert sum(len(some) > 2 for some in targets.values()) > len(targets) // 2, "not always the same"
        at = rows(source, queue)
        assert source.known[at].all()
        np.testing.assert_array_equal(queue.leverage, source.leverage[:, at])
        np.testing.assert_array_equal(queue.leak, source.leak[:, at])

    def test_a_subject_is_edited_once(self, stranger: Simulator) -> None:
        both = {fact for fact in stranger.facts if fact.subject == "Croatia"}
        assert len(both) == 2
        drawn_ones = [[one.fact for one in drawn(stranger, 11, seed=seed).edits] for seed in range(12)]
        assert all(len({fact.subject for fact in some}) == 11 for some in drawn_ones)
        assert {fact for some in drawn_ones for fact in some} >= both

    def test_most_and_least_superposed_first(self, demo: Simulator) -> None:
        source = lifelong.pool(demo)
        for layer in (0, 2):
            every = np.sort(source.leak[layer, source.known])
            np.testing.assert_array_equal(drawn(demo, 40, "most", layer).leak[layer], every[::-1][:40])
            np.testing.assert_array_equal(drawn(demo, 40, "least", layer).leak[layer], every[:40])

    def test_of_some_relations_one_after_the_other(self, demo: Simulator) -> None:
        def relations(edits: int, *names: str) -> list[str]:
            return [edit.fact.relation for edit in drawn(demo, edits, "relation", relations=names).edits]

        count = sum(fact.relation == "sport" for fact in lifelong.pool(demo).facts)
        assert [name for name, _ in itertools.groupby(relations(count + 5, "sport", "religion"))] == [
            "sport",
            "religion",
        ]
        assert set(relations(5, "religion", "sport")) == {"religion"}
        every = relations(150)
        assert every == sorted(every), "all of them, one after the other"
        assert len(set(every)) > 1

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
        fewer = drawn(demo, 2, "hand", picked=self.PICKED)
        assert [edit.target for edit in fewer.edits] == ["Nokia", "French"]
        assert 9 in fewer.unrelated


class TestRefusals:
    @pytest.mark.parametrize(
        ("picked", "message"),
        [
            ((), "no edit was picked"),
            (((22, "x"),), "facts count from 0 to 21; fact 22 was picked"),
            (((-1, "x"),), "fact -1 was picked"),
            (((3, "  "),), "fact 3 was picked without a new object"),
        ],
    )
    def test_of_what_was_picked(self, demo: Simulator, picked: Any, message: str) -> None:
        with pytest.raises(RequestError, match=message):
            drawn(demo, 3, "hand", picked=picked)

    def test_of_what_is_not_there(self, demo: Simulator, stranger: Simulator) -> None:
        with pytest.raises(RequestError, match=r"at most half of the 22 facts .* 12 edits were asked for"):
            drawn(stranger, 12)
        with pytest.raises(RequestError, match=rf"{SUBJECTS_OF_ONE:,} edits were asked for; \d+ of the facts to draw"):
            drawn(demo, SUBJECTS_OF_ONE, "relation", relations=("sport",))
        with pytest.raises(RequestError, match="no relation 'shoe size' to edit; there are airline_country, animal_"):
            drawn(demo, 3, "relation", relations=("sport", "shoe size"))
        with pytest.raises(RequestError, match="layer 4 was not computed"):
            drawn(demo, 3, layer=4)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"by": "luck"}, "edits are drawn random, relation, most, least, hand; found 'luck'"),
            ({"order": "up"}, "edits are ordered drawn, gentle, harsh; found 'up'"),
            ({"seed": -1}, "a seed is 0 or more; found -1"),
            ({"by": "hand", "picked": ((1, "a"), (1, "b"))}, "a fact was picked twice"),
        ],
    )
    def test_of_a_draw(self, wrong: dict[str, Any], message: str) -> None:
        with pytest.raises(RequestError, match=message):
            Draw(**wrong)


def test_a_fact_without_a_relation_gets_an_object_of_such_facts() -> None:
    plain = tuple(Fact(f"s{i}", "{} is", target) for i, target in enumerate(["a", "b", "a"]))
    source = Pool(plain, np.ones(3, dtype=bool), np.ones((1, 3)), np.array([[0.1, np.nan, 0.3]]), apart=False)
    edits, at = _drawn(source, Draw(seed=2), 3, 0, KnownFacts(plain))
    assert sorted(at) == [0, 1, 2]
    assert {edit.fact.subject: edit.target for edit in edits} == {"s0": "b", "s1": "a", "s2": "b"}
    _, at = _drawn(source, Draw("most"), 2, 0, KnownFacts(plain))
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
    @given(five_keys)
    def test_gentle_is_the_least_of_all_permutations_and_harsh_the_most(self, keys: np.ndarray) -> None:
        assume((np.linalg.norm(keys, axis=1) > 0.1).all())
        actual = {order: forecast(order, keys) for order in itertools.permutations(range(5))}
        gentle = gentle_order((keys**2).sum(axis=1)).tolist()
        assert actual[tuple(gentle)] <= min(actual.values()) * (1 + 1e-9) + EXACT
        assert actual[tuple(gentle[::-1])] >= max(actual.values()) * (1 - 1e-9) - EXACT
        assert lifelong.interference(keys[gentle]) == pytest.approx(
            np.sqrt(actual[tuple(gentle)] / 10), rel=1e-9, abs=EXACT
        )

    def test_interference_by_hand(self) -> None:
        """P[1, 0] = 2/4, P[2, 0] = 3/9, P[2, 1] = 6/9."""
        keys = np.array([[1.0], [2.0], [3.0]])
        assert lifelong.interference(keys) == pytest.approx(np.sqrt((1 / 4 + 1 / 9 + 4 / 9) / 3), rel=EXACT)
        assert lifelong.interference(keys[::-1]) == pytest.approx(np.sqrt((9 / 4 + 9 + 4) / 3), rel=EXACT)
        assert lifelong.interference(np.eye(3)) == 0
        assert lifelong.interference(keys[:1]) == lifelong.interference(keys[:0]) == 0
        dead = np.array([[1.0], [0.0], [1.0]])
        assert lifelong.interference(dead) == pytest.approx(np.sqrt(1 / 3), rel=EXACT)

    def test_of_a_queue(self, demo: Simulator) -> None:
        plain, gentle, harsh = (drawn(demo, 25, "most", 1, order=order) for order in ("drawn", "gentle", "harsh"))
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
