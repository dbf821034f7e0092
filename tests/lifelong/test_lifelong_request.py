"""What a sequence of edits is asked for by: requests, what they refuse, and under which name a run is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kis_core import lifelong
from kis_core.editing import METHODS
from kis_core.editing.methods.alphaedit import AlphaEditSettings
from kis_core.editing.methods.memit import MemitSettings
from kis_core.lifelong import Draw
from kis_core.request import RequestError
from kis_core.simulator import Simulator
from tests.lifelong import lifelong_tools as tools
from tests.lifelong.lifelong_tools import asked


class TestKeys:
    def test_every_ingredient_counts(self, demo: tools.Setting, bench: Simulator) -> None:
        one = asked(bench, "memit", 20, layers=(0, 1), batch=5, every=5)
        changed: dict[str, Any] = {"layers": (0, 2), "draw": Draw(seed=1), "every": 4, "batch": 4, "edits": 19}
        changed |= {"how": replace(one.how, kl=0.5), "settings": MemitSettings(1.0)}
        requests = [one, replace(one, method="alphaedit", settings=AlphaEditSettings(None, None))]
        requests += [replace(one, **{name: value}) for name, value in changed.items()]
        draws = [*map(Draw, ("most", "least", "relation")), Draw("relation", relations=("sport",))]
        draws += [Draw(order=order) for order in ("gentle", "harsh")]
        draws += [Draw("hand", picked=((0, target),)) for target in ("x", "y")]
        requests += [replace(one, draw=draw) for draw in draws]
        keys = [lifelong.key(bench, request) for request in requests]
        other = replace(bench.result, key="superposition-other")  # what it depends on: test_derived_keys.py
        keys.append(lifelong.key(replace(bench, result=other), one))
        fewer = bench.result.subset(range(20), "fewer")
        keys.append(lifelong.key(replace(bench, result=fewer), one))
        assert len(set(keys)) == len(keys) == len(requests) + 2
        assert all(key.startswith("lifelong-") for key in keys)
        assert lifelong.key(demo.bench(bench.store.root.parent / "again"), one) == keys[0]

    def test_the_number_of_edits_counts_only_where_it_changes_them(self, bench: Simulator) -> None:
        by_hand = Draw("hand", picked=tuple((fact, "x") for fact in range(8)))
        alike = [({}, True), ({"draw": Draw("most")}, True), ({"draw": Draw(order="gentle")}, False)]
        for how, same in (*alike, ({"draw": by_hand}, False), ({"every": 3}, False)):
            few, many = (lifelong.key(bench, asked(bench, edits=edits, **how)) for edits in (4, 8))
            assert (few == many) == same, how

    def test_the_same_weights_under_another_name_have_other_facts_to_edit(
        self, bench: Simulator, stranger: tools.Setting, tmp_path: Path
    ) -> None:
        other, request = stranger.bench(tmp_path / "stranger"), asked(bench)
        queues = [lifelong.draw_queue(one, request.draw, 6, 0).rows() for one in (bench, other)]
        assert queues[0] != queues[1]
        assert lifelong.key(bench, request) != lifelong.key(other, request)


class TestRequests:
    def test_suits_the_model(self, shared: Simulator) -> None:
        for kind in METHODS:
            request = lifelong.ask(shared, 0, kind.name)
            assert (request.layers, request.edits, request.draw, request.every) == ((0,), 100, Draw(), 5)
            assert request.batch == (5 if kind.batches else 1)
            assert request.how == shared.recipe.hyperparameters, "narrow models have one recipe for all methods"
            assert request.settings == kind.settings.suited(shared.scale)
        given = MemitSettings(15_000)
        assert lifelong.ask(shared, (0, 1), "memit", batch=3, settings=given).settings == given
        assert lifelong.ask(shared, (0, 1), "memit", batch=3).batch == 3

    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ({"edits": 0}, "from 1 to 2000 edits; 0 were asked for"),
            ({"edits": 2001}, "from 1 to 2000 edits; 2001"),
            ({"every": 0}, "measuring every 1 or more edits"),
            ({"batch": 0}, "batches of 1 or more"),
            ({"batch": 2}, "ROME makes one edit at a time; a batch of 2 was asked for"),
            ({"layers": (0, 1)}, "ROME edits one layer; 2 were asked for"),
            ({"layers": (1, 0), "method": "memit"}, r"layers in order, from 0; found \(1, 0\)"),
            ({"layers": (1, 1), "method": "memit"}, r"layers in order, from 0; found \(1, 1\)"),
            ({"layers": (), "method": "memit"}, r"layers in order, from 0; found \(\)"),
            ({"layers": 4}, "layer 4 was not computed"),
            ({"layers": -1}, "layer -1 was not computed"),
        ],
    )
    def test_refusals(self, shared: Simulator, how: dict[str, Any], message: str) -> None:
        with pytest.raises(RequestError, match=message):
            asked(shared, **how)

    def test_in_words(self, shared: Simulator) -> None:
        assert asked(shared).label == "ROME, layer 0, at random, seed 0"
        spread = asked(shared, "memit", layers=(0, 1, 2), batch=3, draw=Draw("most"))
        assert spread.label == "MEMIT, layers 0–2, most superposed first, seed 0, 3 at once"

    def test_more_edits_than_there_are_make_none(self, shared: Simulator) -> None:
        with pytest.raises(RequestError, match="of the facts to draw from can be edited"):
            lifelong.run(shared, asked(shared, "rome", 2000, Draw("relation", relations=("sport",))))
