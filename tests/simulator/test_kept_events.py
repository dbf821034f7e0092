"""Kept edits as stories: which is told, what counts as a consequence, and what an edit opens on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from kis_core.results import pairs
from kis_core.simulator import Event, Simulator, event, events, first_edited, kept_edits, without_model
from kis_core.store.store import Store
from tests.facts.mutation_tools import good
from tests.results.results_tools import WIDTH, made

FACTS = 6
ABOVE = np.triu(np.linspace(0.9, 0.1, FACTS * FACTS).reshape(FACTS, -1), 1)
P = np.stack([np.eye(FACTS) + ABOVE, np.eye(FACTS) + 2 * ABOVE])
EDIT = next(entry for key, entry in good().items() if key.startswith("performed-edit"))
NOTHING: Mapping[int, str] = {}
Keep = Callable[..., None]


@pytest.fixture
def bench(tmp_path: Path) -> Simulator:
    """Six facts, of which the first two have their keys at the same token."""
    result = made(P, relations=["a"] * FACTS, key_token_ids=[7, 7, 10, 11, 12, 13])
    return without_model(result, Store(tmp_path, gallery=""))


@pytest.fixture
def keep(bench: Simulator) -> Keep:
    """Keep an edit of a fact to the land of another, after which answers are those given."""

    def kept(
        fact: int,
        to: int,
        layer: int,
        after: Mapping[int, str],
        coming: Mapping[int, str] = NOTHING,
        **success: bool,
    ) -> None:
        request = bench.request(fact, f"land {to}", layer)
        answers = [after.get(k, before) for k, before in enumerate(bench.answers_before)]
        flips = [[k, 0.5, word] for k, word in coming.items()] + [[5, 1.25, "too strong an edit"]]
        of_facts = {name: np.arange(FACTS) - 9.0 for name, array in EDIT.arrays.items() if array.shape == (4,)}
        arrays = EDIT.arrays | of_facts | {"p": bench.result.p[layer, fact], "scores": np.zeros((2, FACTS))}
        arrays |= {"delta": np.ones(WIDTH), "flipped": np.array([k in after for k in range(FACTS)], np.uint8)}
        meta = {"layer": layer, "answers": answers, "flips": flips, "success": EDIT.meta["success"] | success}
        bench.store.put(bench.edit_key(request), EDIT.meta | meta, arrays)

    return kept


def told(bench: Simulator, layer: int) -> Event:
    chosen = event(events(bench), layer)
    assert chosen
    return chosen


def test_where_none_is_kept_none_is_told_and_an_edit_opens_on_the_first_pair(bench: Simulator) -> None:
    assert event(events(bench), 0) is None
    assert first_edited(bench.result, [], 0) == pairs.first_shown(bench.result, 0)


def test_what_changed_is_told_without_the_edited_fact_and_those_with_a_tag(bench: Simulator, keep: Keep) -> None:
    keep(0, 3, 1, {0: "land 3", 1: "land 3", 2: "rock", 4: "land 3", 5: "sand"}, {2: "rock", 0: "land 3", 3: "foam"})
    (request,) = kept_edits(bench)
    assert (request.fact, request.target, request.layer) == (0, "land 3", 1)
    story = told(bench, 0)
    assert story.request == request
    assert story.changed == story.told == (4, 2, 5), "those that follow first, then by falling loss"
    assert (story.follow, story.tagged, story.foreseen, story.unfulfilled) == (1, 1, 1, 1)
    assert story.coming == {2: "rock", 3: "foam"}, "at full strength, and of others"
    frame = story.frame(bench).set_index("fact")
    assert frame.loc[2, ["before", "after", "after_forecast"]].tolist() == ["land 2", "rock", "rock"]
    assert frame["measured"].is_monotonic_increasing


def test_where_nothing_changed_the_fact_is_told_that_moved_most(bench: Simulator, keep: Keep) -> None:
    keep(0, 3, 0, {0: "land 3"})
    assert told(bench, 0).told == (2,), "fact 1 moved more, and has a tag"


def test_the_edit_is_told_that_most_follow_but_one_of_the_layer_first(bench: Simulator, keep: Keep) -> None:
    keep(2, 3, 0, {4: "rock", 5: "rock"})
    keep(3, 4, 1, {5: "land 4", 2: "land 4"}, efficacy=False)
    keep(4, 3, 1, {5: "land 3"})
    assert told(bench, 0).request.fact == 4, "another layer's, which one follows"
    assert first_edited(bench.result, events(bench), 0) == (2, 3), "an edit of the layer is shown all the same"
    keep(0, 4, 0, {1: "land 4"})
    assert told(bench, 0).request.fact == 4, "what follows has a tag"
    keep(5, 4, 0, {0: "land 4"})
    assert told(bench, 0).request.fact == 5
    assert told(bench, 1).request.fact == 4, "the one that most follow did not take"


def test_an_edit_of_another_result_is_not_found(bench: Simulator, keep: Keep) -> None:
    keep(2, 3, 0, {4: "rock"})
    smaller = bench.result.subset([2, 3, 4], "some")
    assert not kept_edits(without_model(smaller, bench.store))
    bench.store.put(next(iter(bench.store.listed("performed-edit"))) + "0", EDIT.meta, EDIT.arrays)
    assert len(kept_edits(bench)) == 1
