"""Many facts at one layer: the same numbers as the analysis of all layers, kept, and found again without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kis_core import facts as fact_sets
from kis_core import progress, superposition
from kis_core.analysis import large_sets, pipeline
from kis_core.analysis.large_sets import LargeSet, NothingKnown
from kis_core.analysis.large_sets import tables as many_tables
from kis_core.analysis.large_sets.tally import THRESHOLDS
from kis_core.analysis.pipeline import Result
from kis_core.facts import Fact, FactSet, saved
from kis_core.models import catalog, loading
from kis_core.models.files import ModelError
from kis_core.request import Request, RequestError
from kis_core.results import pairs
from kis_core.results.pairs import TAGS
from kis_core.store.store import Store

MODEL, LAYER, TOKENS = "demo-gpt2-32", 1, 1000
ANSWERED, MIXED = 12, 20
SINGLE = 2e-6  # |P| is about 1 at most, and its keys are kept in float32
ROUNDED = {"rel": 1e-4, "abs": SINGLE}


def facts() -> tuple[Fact, ...]:
    """Some facts the model answers and some it cannot; the last is about the subject of the first."""
    builtin = fact_sets.builtin().facts
    wrong = [Fact(fact.subject, fact.prompt, "zebra", fact.relation) for fact in builtin[ANSWERED : MIXED - 1]]
    return (*builtin[:ANSWERED], *wrong, Fact(builtin[0].subject, builtin[0].prompt, "zebra"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("many"))


@pytest.fixture(scope="module")
def request_(store: Store) -> Request:
    name = saved.save(store.root, FactSet("mixed", facts()))
    return Request(model=MODEL, facts=str(saved.path_of(store.root, name)), tokens=TOKENS)


@pytest.fixture(scope="module")
def dense(store: Store, request_: Request) -> Result:
    return pipeline.run(request_, store, device="cpu")


@pytest.fixture(scope="module")
def found(store: Store, request_: Request, dense: Result) -> LargeSet:
    return large_sets.run(request_, LAYER, store, device="cpu")


def gone(*_: Any, **__: Any) -> None:
    raise ModelError("the weights are not here")


def test_it_is_the_analysis_of_one_layer(found: LargeSet, dense: Result) -> None:
    p, report = dense.p[LAYER], dense.reports[LAYER]
    assert found.window(range(MIXED), range(MIXED)) == pytest.approx(p, **ROUNDED)
    for name in ("rank", "condition_number", "ridge", "layer"):
        assert getattr(found.report, name) == getattr(report, name)
    for mine, theirs in ((found.report.moments, report.moments), (found.report.clean_moments, report.clean_moments)):
        assert (mine.count, mine.masked) == (theirs.count, theirs.masked)
        for name in ("mean", "std", "skewness", "kurtosis", "max"):
            assert getattr(mine, name) == pytest.approx(getattr(theirs, name), **ROUNDED), name
    assert found.row(3) == pytest.approx(p[3], **ROUNDED)
    assert found.column(3) == pytest.approx(p[:, 3], **ROUNDED)
    assert found.sweep.every.moments == found.report.moments
    assert found.key_token_ids.tolist() == list(dense.key_token_ids)
    assert found.provenance == dense.provenance
    assert found.mlp_width == dense.mlp_width
    assert found.at(LAYER) == 0
    with pytest.raises(RequestError, match="layer 0 was not computed; there is 1"):
        found.at(0)


def test_only_the_facts_the_model_answers(store: Store, request_: Request, dense: Result, found: LargeSet) -> None:
    known = large_sets.run(request_, LAYER, store, known_only=True, device="cpu")
    kept = [fact for fact, answered in enumerate(dense.known) if answered]
    assert kept == list(range(ANSWERED))
    assert known.facts.facts == found.facts.facts[:ANSWERED]
    assert f"the {ANSWERED} of {MIXED} the model answers" in known.facts.name
    assert known.sweep.every.moments.kurtosis == pytest.approx(
        superposition.moments(dense.p[LAYER][:ANSWERED, :ANSWERED]).kurtosis, **ROUNDED
    )
    assert known.window([2], [5]) == pytest.approx(found.window([2], [5]))
    assert large_sets.find(request_, LAYER, store, known_only=True) is not None
    name = saved.save(store.root, FactSet("wrong", facts()[ANSWERED:]))
    none_known = Request(model=MODEL, facts=str(saved.path_of(store.root, name)), tokens=TOKENS)
    with pytest.raises(NothingKnown, match=r"demo-gpt2-32 answers none of these 8 facts.*Switch off"):
        large_sets.run(none_known, LAYER, store, known_only=True, device="cpu")


def test_what_is_stored_needs_no_model(
    store: Store, request_: Request, found: LargeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    for again in (large_sets.run(request_, LAYER, store), large_sets.find(request_, LAYER, store)):
        assert again is not None
        assert again.report.to_json() == found.report.to_json()
        assert np.array_equal(again.whitened, found.whitened)
        for name, array in large_sets.arrays(found.sweep).items():
            assert np.array_equal(large_sets.arrays(again.sweep)[name], array, equal_nan=array.dtype.kind == "f"), name
    assert large_sets.find(request_, LAYER + 1, store) is None
    monkeypatch.setattr(catalog, "locate", gone)
    assert large_sets.find(request_, LAYER, store) is not None
    for other, layer in ((request_, 0), (Request(model=MODEL, tokens=TOKENS), LAYER)):
        with pytest.raises(ModelError, match="not here"):
            large_sets.find(other, layer, store)


def test_what_is_lost_or_was_cancelled_is_computed_anew(tmp_path: Path, request_: Request) -> None:
    store = Store(tmp_path)

    def stop(stage: str, *_: object) -> None:
        if stage == "Whitening":
            raise progress.Cancelled(stage)

    with pytest.raises(progress.Cancelled):
        large_sets.run(request_, LAYER, store, device="cpu", report=stop)
    assert store.listed(pipeline.SECOND_MOMENT)
    assert not store.listed(large_sets.KEYS)
    stages: list[str] = []
    first = large_sets.run(request_, LAYER, store, device="cpu", report=lambda stage, *_: stages.append(stage))
    assert set(stages) <= large_sets.STAGES.keys()
    assert sum(large_sets.STAGES.values()) == pytest.approx(1)
    (keys,) = store.listed(large_sets.KEYS)
    store.delete(keys)
    assert large_sets.find(request_, LAYER, store) is None
    again = large_sets.run(request_, LAYER, store, device="cpu")
    assert again.sweep.every.values.tolist() == first.sweep.every.values.tolist()
    with pytest.raises(RequestError, match="the model has layers 0 to 3; layer 7 was asked for"):
        large_sets.run(request_, 7, store, device="cpu")


def test_the_strongest_pairs_are_those_of_the_dense_table(found: LargeSet, dense: Result) -> None:
    for clean, tags in ((False, ()), (True, ("no tag",))):
        theirs = pairs.table(dense, LAYER, count=500, tags=tags)
        mine = many_tables.pairs(found, clean=clean)
        assert list(mine.columns) == list(theirs.columns)
        assert len(mine) == len(theirs)
        assert mine["p"].to_numpy() == pytest.approx(theirs["p"].to_numpy(), **ROUNDED)
        apart = np.abs(np.diff(np.abs(theirs["p"].to_numpy()))) > SINGLE  # equal keys may swap places
        for name in ("edited", "suffers", "tags", "sentence_i"):
            assert mine[name][:5][apart[:5]].tolist() == theirs[name][:5][apart[:5]].tolist(), name
        assert mine["p_back"][:3].to_numpy() == pytest.approx(found.window(mine["j"][:3], mine["i"][:3]).diagonal())
        angles = np.degrees(np.arccos(dense.whitening_cosine[LAYER][mine["i"], mine["j"]]))
        assert mine["whitened_angle"].to_numpy() == pytest.approx(angles, abs=0.2), "steep where the cosine is 1"
    tagged = many_tables.pairs(found, tags=TAGS[:1])
    expected = np.argwhere(dense.same_subject).tolist()
    assert sorted(tagged[["i", "j"]].to_numpy().tolist()) == expected
    assert [0, MIXED - 1] in expected


def test_who_leaks_and_who_suffers(found: LargeSet, dense: Result) -> None:
    p = dense.p[LAYER].copy()
    np.fill_diagonal(p, 0.0)
    for frame, fact, other, rows in (
        (many_tables.leaking(found), "i", "j", p),
        (many_tables.suffering(found), "j", "i", p.T),
    ):
        norms = np.sqrt((rows**2).sum(axis=1) / (MIXED - 1))
        assert frame["rms"].to_numpy() == pytest.approx(np.sort(norms)[::-1], **ROUNDED)
        assert norms[frame[fact]] == pytest.approx(frame["rms"].to_numpy(), **ROUNDED)
        largest = np.abs(rows).max(axis=1)
        assert frame["p"].abs().to_numpy() == pytest.approx(largest[frame[fact]], **ROUNDED)
        assert frame["p"].to_numpy() == pytest.approx(rows[frame[fact], frame[other]], **ROUNDED)
    assert len(many_tables.leaking(found, count=3)) == 3


def test_the_numbers_of_p_by_name(found: LargeSet, dense: Result) -> None:
    told = many_tables.description(found, clean=True)
    entries = superposition.finite_entries(dense.clean(LAYER))
    assert told["pairs"] == len(entries)
    assert told["excess kurtosis"] == pytest.approx(dense.reports[LAYER].clean_moments.kurtosis, **ROUNDED)
    assert [told[f"|P| ≥ {one:g}"] for one in THRESHOLDS] == [(np.abs(entries) >= one).sum() for one in THRESHOLDS]


@pytest.mark.parametrize("arranged", many_tables.ARRANGED)
def test_the_part_around_a_pair(arranged: str, found: LargeSet, dense: Result) -> None:
    for i, j in ((4, 9), (0, MIXED - 1), (7, 7)):
        part = many_tables.around(found, i, j, arranged=arranged, most=6)
        assert part.p == pytest.approx(dense.p[LAYER][np.ix_(part.rows, part.columns)], **ROUNDED)
        assert (i in part.rows, j in part.columns) == (True, True)
        assert part.p.shape == (6, 6)
        frame = part.frame(found)
        assert frame["p"].tolist() == part.p.ravel().tolist()
        assert np.isnan(part.between).sum() == len(set(part.rows) & set(part.columns))
    assert many_tables.around(found, 0, 1, arranged=arranged).p.shape == (MIXED, MIXED), "all there are"
    p, part = np.abs(dense.p[LAYER]), many_tables.around(found, 4, 9, most=5)
    assert part.columns.tolist() == [9, *[k for k in np.argsort(-p[4]) if k not in (4, 9)][:4]]
    assert part.rows.tolist() == [4, *[k for k in np.argsort(-p[:, 9]) if k not in (4, 9)][:4]]
