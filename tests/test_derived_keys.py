"""Whatever is worked out of a result and kept goes by the result's own name: nothing of one is served for another."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kis_core import lifelong
from kis_core.analysis import large_sets, resolve
from kis_core.analysis.large_sets import analysis
from kis_core.analysis.resolve import ResolvedRequest
from kis_core.corpora import Corpus
from kis_core.corpora.corpus import Texts
from kis_core.covariance.rome_files import Statistics
from kis_core.demo import factbase
from kis_core.facts import Fact, FactSet
from kis_core.lifelong import queue, sequence
from kis_core.models.files import ModelFiles
from kis_core.models.loaded import LoadedModel
from kis_core.request import Request
from kis_core.results import archive
from kis_core.simulator import Simulator, groundwork
from kis_core.store.store import Store
from tests.results.results_tools import made

FACTS = FactSet("mine", (Fact("Oslo", "{} lies in", "Norway"), Fact("Rome", "{} lies in", "Italy")))
BASE = Request(model="demo-gpt2-32", facts="mine.csv", corpus="text.txt", tokens=5000, layers=(0, 1))
CHANGED: dict[str, Any] = {"model": "demo-gpt2-64", "facts": "others.csv", "corpus": "other.txt", "tokens": 6000}
CHANGED |= {"layers": (0, 1, 2), "revision": "0123abc", "dtype": "bfloat16", "seed": 1, "documents": 7, "settled": 0.02}
LAYER = 0
P = np.stack([np.eye(5) + 0.1] * 2)


def resolved(request: Request, *, weights: str = "w", text: Corpus | Statistics | None = None) -> ResolvedRequest:
    """A request with what it names: other names stand for other content."""
    facts = FACTS if request.facts == BASE.facts else FactSet("others", FACTS.facts[::-1])
    corpus = text or Texts("text", (request.corpus,))
    of_text = "t" if isinstance(corpus, Statistics) else ""
    return ResolvedRequest(request, ModelFiles(Path()), weights, facts, corpus, text=of_text)


def derived(actual: ResolvedRequest, store: Store) -> dict[str, str]:
    """The names of everything that is worked out of a result, by kind."""
    result = replace(made(P), request=actual.request, key=actual.key)

    def no_model() -> LoadedModel:
        raise AssertionError("a name needs no model")

    simulator = Simulator(result, store, no_model)
    edit = simulator.request(0, "French", LAYER)
    run = lifelong.ask(simulator, LAYER, edits=2)
    kept = [0, 1]
    return {
        "result": result.key,
        "what pages remember": result.identity,
        "subset": result.subset(kept, "some").identity,
        "value": simulator.value_key(edit),
        "kept edit": simulator.edit_key(edit),
        "gradients": simulator.sensitivity_key(LAYER),
        "facts to edit": queue.pool_key(simulator),
        "run of edits": lifelong.key(simulator, run),
        "sweep of many facts": large_sets.key(actual, LAYER),
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_every_field_of_a_request_is_changed_here() -> None:
    assert CHANGED.keys() == {field.name for field in fields(Request)}
    assert all(getattr(BASE, name) != value for name, value in CHANGED.items())


def changed_kinds(one: ResolvedRequest, other: ResolvedRequest, store: Store) -> set[str]:
    """Of what is worked out, the kinds whose names differ."""
    before, after = derived(one, store), derived(other, store)
    return {kind for kind in before if before[kind] != after[kind]}


@pytest.mark.parametrize("name", CHANGED)
def test_another_request_shares_no_name(name: str, store: Store) -> None:
    changed = changed_kinds(resolved(BASE), resolved(replace(BASE, **{name: CHANGED[name]})), store)
    # a sweep has a layer of its own and draws nothing at random
    assert KINDS - changed == ({"sweep of many facts"} if name in ("layers", "seed") else set())


def test_other_content_under_the_same_names_shares_no_name(store: Store) -> None:
    for other in ({"weights": "v"}, {"text": Texts("text", ("another text under the same name",))}):
        assert changed_kinds(resolved(BASE), resolved(BASE, **other), store) == KINDS


def test_where_c_comes_from_files_the_keys_still_depend_on_the_precision(store: Store) -> None:
    files = Statistics("statistics", {LAYER: Path("layer0.npz")})
    half, full = (resolved(replace(BASE, dtype=dtype), text=files) for dtype in ("float32", "bfloat16"))
    assert changed_kinds(half, full, store) == KINDS


OF_EDITS = {"value", "kept edit", "gradients"}
OF_RESULTS = {"result", "what pages remember", "subset", "facts to edit", "run of edits"} | OF_EDITS
KINDS = OF_RESULTS | {"sweep of many facts"}
OF_POOL = {"facts to edit", "run of edits"}
OF_FORMAT = (
    *((archive, OF_RESULTS), (resolve, KINDS), (groundwork, OF_EDITS), (queue, {"facts to edit"})),
    *((sequence, {"run of edits"}), (analysis, {"sweep of many facts"})),
)


def test_a_raised_format_or_another_fact_base_is_another_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = derived(resolved(BASE), store)
    changes = [*((module, "FORMAT", module.FORMAT + 1, kinds) for module, kinds in OF_FORMAT)]
    for module, name, value, kinds in (*changes, (factbase, "fingerprint", lambda: "another", OF_POOL)):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, value)
            after = derived(resolved(BASE), store)
        assert {kind for kind in before if before[kind] != after[kind]} == kinds


def test_what_depends_on_all_facts_is_not_shared_with_a_subset(store: Store) -> None:
    whole = made(P)
    twice = whole.subset([3, 1, 2], "three").subset([2, 0], "two")
    assert twice.identity == whole.subset([2, 3], "the same two").identity
    others = [whole.subset([3, 2], "turned round"), whole.subset([2], "one"), whole]
    assert len({one.identity for one in (twice, *others)}) == 4
    assert {one.key for one in (twice, *others)} == {whole.key}
    both = [Simulator(one, store, lambda: pytest.fail("a name needs no model")) for one in (whole, twice)]
    assert both[0].sensitivity_key(LAYER) != both[1].sensitivity_key(LAYER)
    assert queue.pool_key(both[0]) != queue.pool_key(both[1])
    assert len({lifelong.key(one, lifelong.ask(one, LAYER, edits=2)) for one in both}) == 2
    both[1] = Simulator(whole.subset([0, 1], "two"), store, lambda: pytest.fail("a name needs no model"))
    values = {one.value_key(one.request(0, "French", LAYER)) for one in both}
    assert len(values) == 1, "of the same fact, whatever stands beside it"
