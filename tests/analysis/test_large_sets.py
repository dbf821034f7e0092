"""Many facts at one layer: the numbers of the analysis of all layers, kept and found again; a sweep tells all of P."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kis_core import facts as fact_sets
from kis_core.analysis import large_sets, pipeline
from kis_core.analysis.large_sets import LargeSet, NothingKnown, sweep
from kis_core.analysis.large_sets import tables as many_tables
from kis_core.analysis.large_sets.sweep import EntrySpread, Sweep
from kis_core.analysis.large_sets.tally import EDGES, THRESHOLDS, Sums, counted
from kis_core.analysis.pipeline import Result
from kis_core.facts import Fact, FactSet, saved
from kis_core.models import catalog, loading
from kis_core.models.files import ModelError
from kis_core.request import Request, RequestError
from kis_core.results import pairs
from kis_core.results.tags import TAGS
from kis_core.store.store import Store
from kis_core.superposition import ISOTROPIC, SAME_STD, moments, without
from kis_core.superposition.matrix import same, strongest_pairs, superposition

MODEL, LAYER, TOKENS = "demo-gpt2-32", 1, 1000
ANSWERED, MIXED = 12, 20
FIRST_TOKEN = 92  # of the built-in facts: "Guyana is a land of"
SINGLE = 2e-6  # |P| is about 1 at most, and its keys are kept in float32
ROUNDED = {"rel": 1e-4, "abs": SINGLE}


def facts() -> tuple[Fact, ...]:
    """Some facts the model answers and some it cannot; the last is about the subject of the first."""
    builtin = fact_sets.builtin().facts
    others = (*builtin[ANSWERED : MIXED - 2], builtin[FIRST_TOKEN])
    wrong = [Fact(fact.subject, fact.prompt, "zebra", fact.relation) for fact in others]
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
def actual(store: Store, request_: Request, dense: Result) -> LargeSet:
    return large_sets.run(request_, LAYER, store, device="cpu")


def gone(*_: Any, **__: Any) -> None:
    raise ModelError("the weights are not here")


def test_it_is_the_analysis_of_one_layer(actual: LargeSet, dense: Result) -> None:
    p, report = dense.p[LAYER], dense.reports[LAYER]
    assert actual.window(range(MIXED), range(MIXED)) == pytest.approx(p, **ROUNDED)
    for name in ("rank", "condition_number", "ridge", "layer"):
        assert getattr(actual.report, name) == getattr(report, name)
    for mine, theirs in ((actual.report.moments, report.moments), (actual.report.clean_moments, report.clean_moments)):
        assert (mine.count, mine.masked) == (theirs.count, theirs.masked)
        for name in ("mean", "std", "skewness", "kurtosis", "max"):
            assert getattr(mine, name) == pytest.approx(getattr(theirs, name), **ROUNDED), name
    assert actual.row(3) == pytest.approx(p[3], **ROUNDED)
    assert actual.column(3) == pytest.approx(p[:, 3], **ROUNDED)
    assert actual.sweep.every.moments == actual.report.moments
    assert actual.key_token_ids.tolist() == list(dense.key_token_ids)
    assert actual.sweep.squares == pytest.approx(dense.leverage[LAYER], rel=1e-4)
    assert actual.text_leverage.tolist() == dense.text_leverage[LAYER].tolist()
    assert np.isfinite(actual.text_leverage).all()
    tags, expected = actual.tags, dense.tags(LAYER)
    assert (tags.first.tolist(), tags.weak.tolist()) == (expected.first.tolist(), expected.weak.tolist())
    assert tags.first.nonzero()[0].tolist() == [MIXED - 2]
    assert actual.provenance == dense.provenance
    assert actual.mlp_width == dense.mlp_width
    assert actual.at(LAYER) == 0
    with pytest.raises(RequestError, match="layer 0 was not computed; there is 1"):
        actual.at(0)


def test_only_the_facts_the_model_answers(store: Store, request_: Request, dense: Result, actual: LargeSet) -> None:
    known = large_sets.run(request_, LAYER, store, known_only=True, device="cpu")
    kept = [fact for fact, answered in enumerate(dense.known) if answered]
    assert kept == list(range(ANSWERED))
    assert known.facts.facts == actual.facts.facts[:ANSWERED]
    assert f"the {ANSWERED} of {MIXED} the model answers" in known.facts.name
    assert known.sweep.every.moments.kurtosis == pytest.approx(
        moments(dense.p[LAYER][:ANSWERED, :ANSWERED]).kurtosis, **ROUNDED
    )
    assert known.window([2], [5]) == pytest.approx(actual.window([2], [5]))
    assert large_sets.find(request_, LAYER, store, known_only=True) is not None
    name = saved.save(store.root, FactSet("wrong", facts()[ANSWERED:]))
    none_known = Request(model=MODEL, facts=str(saved.path_of(store.root, name)), tokens=TOKENS)
    with pytest.raises(NothingKnown, match=r"demo-gpt2-32 answers none of these 8 facts.*Switch off"):
        large_sets.run(none_known, LAYER, store, known_only=True, device="cpu")


def test_what_is_stored_needs_no_model(
    store: Store, request_: Request, actual: LargeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    for again in (large_sets.run(request_, LAYER, store), large_sets.find(request_, LAYER, store)):
        assert again is not None
        assert again.report.to_json() == actual.report.to_json()
        assert np.array_equal(again.whitened, actual.whitened)
        for name, array in large_sets.arrays(actual.sweep).items():
            assert np.array_equal(large_sets.arrays(again.sweep)[name], array, equal_nan=array.dtype.kind == "f"), name
    assert large_sets.find(request_, LAYER + 1, store) is None
    monkeypatch.setattr(catalog, "locate", gone)
    assert large_sets.find(request_, LAYER, store) is not None
    for other, layer in ((request_, 0), (Request(model=MODEL, tokens=TOKENS), LAYER)):
        with pytest.raises(ModelError, match="not here"):
            large_sets.find(other, layer, store)


def test_what_is_lost_is_computed_anew(store: Store, request_: Request, actual: LargeSet) -> None:
    seen: list[str] = []
    for one in list(store.listed(large_sets.KEYS)):
        store.delete(one)
    assert large_sets.find(request_, LAYER, store) is None
    again = large_sets.run(request_, LAYER, store, device="cpu", report=lambda stage, *_: seen.append(stage))
    assert again.sweep.every.values.tolist() == actual.sweep.every.values.tolist()
    assert set(seen) <= large_sets.STAGES.keys()
    assert sum(large_sets.STAGES.values()) == pytest.approx(1)
    with pytest.raises(RequestError, match="the model has layers 0 to 3; layer 7 was asked for"):
        large_sets.run(request_, 7, store, device="cpu")


def test_the_strongest_pairs_are_those_of_the_dense_table(actual: LargeSet, dense: Result) -> None:
    for clean in (False, True):
        theirs = pairs.table(dense, LAYER, count=500, where=~dense.artefacts if clean else None)
        mine = many_tables.pairs(actual, clean=clean)
        assert list(mine.columns) == list(theirs.columns)
        assert len(mine) == len(theirs)
        assert mine["p"].to_numpy() == pytest.approx(theirs["p"].to_numpy(), **ROUNDED)
        apart = np.abs(np.diff(np.abs(theirs["p"].to_numpy()))) > SINGLE  # equal keys may swap places
        for name in ("edited", "suffers", "tags", "sentence_i"):
            assert mine[name][:5][apart[:5]].tolist() == theirs[name][:5][apart[:5]].tolist(), name
        assert mine["p_back"][:3].to_numpy() == pytest.approx(actual.window(mine["j"][:3], mine["i"][:3]).diagonal())
        angles = np.degrees(np.arccos(dense.whitening_cosine[LAYER][mine["i"], mine["j"]]))
        assert mine["whitened_angle"].to_numpy() == pytest.approx(angles, abs=0.2), "steep where the cosine is 1"
    tagged = many_tables.pairs(actual, tags=TAGS[:1])
    expected = np.argwhere(dense.same_subject).tolist()
    assert sorted(tagged[["i", "j"]].to_numpy().tolist()) == expected
    assert [0, MIXED - 1] in expected


def test_who_leaks_and_who_suffers(actual: LargeSet, dense: Result) -> None:
    p = dense.p[LAYER].copy()
    np.fill_diagonal(p, 0.0)
    for frame, fact, other, rows in (
        (many_tables.leaking(actual), "i", "j", p),
        (many_tables.suffering(actual), "j", "i", p.T),
    ):
        norms = np.sqrt((rows**2).sum(axis=1) / (MIXED - 1))
        assert frame["rms"].to_numpy() == pytest.approx(np.sort(norms)[::-1], **ROUNDED)
        assert norms[frame[fact]] == pytest.approx(frame["rms"].to_numpy(), **ROUNDED)
        largest = np.abs(rows).max(axis=1)
        assert frame["p"].abs().to_numpy() == pytest.approx(largest[frame[fact]], **ROUNDED)
        assert frame["p"].to_numpy() == pytest.approx(rows[frame[fact], frame[other]], **ROUNDED)
    assert len(many_tables.leaking(actual, count=3)) == 3


@pytest.mark.parametrize("arranged", many_tables.ARRANGED)
def test_the_part_around_a_pair(arranged: str, actual: LargeSet, dense: Result) -> None:
    for i, j in ((4, 9), (0, MIXED - 1), (7, 7)):
        part = many_tables.around(actual, i, j, arranged=arranged, most=6)
        assert part.p == pytest.approx(dense.p[LAYER][np.ix_(part.rows, part.columns)], **ROUNDED)
        assert (i in part.rows, j in part.columns) == (True, True)
        assert part.p.shape == (6, 6)
        frame = part.frame(actual)
        assert frame["p"].tolist() == part.p.ravel().tolist()
        assert np.isnan(part.between).sum() == len(set(part.rows) & set(part.columns))
    assert many_tables.around(actual, 0, 1, arranged=arranged).p.shape == (MIXED, MIXED), "all there are"
    p, part = np.abs(dense.p[LAYER]), many_tables.around(actual, 4, 9, most=5)
    assert part.columns.tolist() == [9, *[k for k in np.argsort(-p[4]) if k not in (4, 9)][:4]]
    assert part.rows.tolist() == [4, *[k for k in np.argsort(-p[:, 9]) if k not in (4, 9)][:4]]


SIDES = (None, 1, 7)
CLOSE = {"rel": 1e-12, "abs": 1e-12}
KEPT = 40


def keys(m: int, width: int = 12, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((m, width))


def labels(m: int, *, seed: int = 1) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.integers(0, max(1, m // 3), m), draw.integers(0, max(1, m // 2), m)]


def check(actual: Sweep, p: np.ndarray, codes: list[np.ndarray], kept: int = KEPT) -> None:
    """Against the dense matrix."""
    artefacts = np.logical_or.reduce([np.zeros(p.shape, dtype=bool), *(same(code.tolist()) for code in codes)])
    for spread, dense in ((actual.every, p.copy()), (actual.clean, without(p, artefacts))):
        check_moments(spread, dense)
        np.fill_diagonal(dense, np.nan)
        entries = dense[np.isfinite(dense)]
        assert spread.counts.tolist() == np.histogram(entries, EDGES)[0].tolist()
        assert spread.beyond.tolist() == [int((np.abs(entries) >= one).sum()) for one in THRESHOLDS]
        expected = strongest_pairs(dense)[:kept]
        assert spread.pairs.tolist() == expected.tolist()
        assert spread.values == pytest.approx(dense[expected[:, 0], expected[:, 1]], **CLOSE)
        for reach, rows in ((spread.leaks, dense), (spread.suffers, dense.T)):
            check_reach(reach, rows)


def check_moments(spread: EntrySpread, dense: np.ndarray) -> None:
    expected = moments(dense)
    assert (spread.moments.count, spread.moments.masked) == (expected.count, expected.masked)
    for name in ("mean", "std", "skewness", "kurtosis", "max"):
        assert getattr(spread.moments, name) == pytest.approx(getattr(expected, name), nan_ok=True, **CLOSE), name


def check_reach(reach: sweep.Reach, rows: np.ndarray) -> None:
    there = np.isfinite(rows).any(axis=1)
    assert np.isnan(reach.rms[~there]).all()
    assert np.isnan(reach.largest[~there]).all()
    assert (reach.partner[~there] == -1).all()
    some = rows[there]
    assert reach.rms[there] == pytest.approx(np.sqrt(np.nanmean(some**2, axis=1)), **CLOSE)
    assert reach.largest[there] == pytest.approx(np.nanmax(np.abs(some), axis=1), **CLOSE)
    assert reach.partner[there].tolist() == np.nanargmax(np.abs(some), axis=1).tolist()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("m", [1, 2, 3, 20])
def test_it_is_what_the_dense_matrix_gives(m: int, side: int | None) -> None:
    whitened, codes = keys(m), labels(m)
    check(sweep.sweep(whitened, codes, strongest=KEPT, side=side), superposition(whitened), codes)


@given(
    arrays(np.int8, st.tuples(st.integers(1, 9), st.just(3)), elements=st.integers(-2, 2)),
    st.integers(1, 9),
    st.integers(1, 30),
    st.data(),
)
def test_zero_and_equal_keys_and_ties(small: np.ndarray, side: int, kept: int, data: st.DataObject) -> None:
    """Whole numbers: every product is exact, so ties are ties whatever the size of the blocks."""
    whitened = small.astype(np.float64)
    codes = [data.draw(arrays(np.int64, len(small), elements=st.integers(0, 3)))]
    check(sweep.sweep(whitened, codes, strongest=kept, side=side), superposition(whitened), codes, kept)


def test_values_by_hand() -> None:
    actual = sweep.sweep(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0], [1.0, 1.0]]), [np.array([5, 6, 7, 5])])
    # P[0, 1] = 2, P[1, 0] = 1/2, P[0, 3] = 1, P[3, 0] = 1/2, P[1, 3] = 1/2, P[3, 1] = 1; fact 2 has a zero key
    assert actual.zero_keys == 1
    assert actual.squares.tolist() == [1, 4, 0, 2]
    assert actual.every.moments.mean == pytest.approx(5.5 / 6)
    assert (actual.every.moments.count, actual.every.moments.masked) == (6, 6)
    assert actual.every.pairs.tolist() == [[0, 1], [0, 3], [3, 1], [1, 0], [1, 3], [3, 0]]
    assert actual.every.values.tolist() == [2, 1, 1, 0.5, 0.5, 0.5]
    assert actual.back(actual.every.pairs, actual.every.values).tolist() == [0.5, 0.5, 0.5, 2, 1, 1]
    assert actual.every.beyond.tolist() == [6, 6, 6, 3]
    assert actual.every.leaks.rms == pytest.approx([np.sqrt(2.5), 0.5, np.nan, np.sqrt(0.625)], nan_ok=True)
    assert actual.every.leaks.partner.tolist() == [1, 0, -1, 1]
    assert actual.every.suffers.partner.tolist() == [1, 0, -1, 0]
    assert actual.clean.pairs.tolist() == [[0, 1], [3, 1], [1, 0], [1, 3]]
    assert (actual.clean.moments.count, actual.clean.moments.masked) == (4, 8)


def test_all_keys_zero_or_equal() -> None:
    nothing = sweep.sweep(np.zeros((5, 3)), [np.zeros(5, dtype=int)], side=2)
    assert nothing.zero_keys == 5
    assert np.isnan(nothing.every.moments.mean)
    assert (nothing.every.moments.count, nothing.every.moments.masked) == (0, 20)
    assert nothing.every.pairs.shape == (0, 2)
    assert sweep.bars(nothing.every, 3).empty
    equal = sweep.sweep(np.tile(keys(1), (30, 1)), side=7)
    assert np.isnan(equal.every.moments.kurtosis), "a constant has no shape"
    assert np.count_nonzero(equal.every.counts) == 1, "1 lies amid a cell"
    assert len(equal.clean.pairs) == sweep.STRONGEST


def test_a_large_mean_does_not_cost_digits() -> None:
    values = 1e6 + keys(1, 3000)[0]
    parts = Sums()
    for part in np.array_split(values, 13):
        parts += Sums.of(part)
    whole = Sums.of(values)
    for name in ("mean", "second", "fourth"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-9)
    assert parts.moments().kurtosis == pytest.approx(Sums.of(values - 1e6).moments().kurtosis, abs=1e-6)


@given(
    st.lists(st.floats(-5000, 5000) | st.sampled_from([*EDGES[1:-1], -0.0, 0.5 / 2048, np.nextafter(0.5 / 2048, 0)]))
)
def test_counts_are_those_of_numpy(values: list[float]) -> None:
    actual = counted(np.array(values))
    assert actual.tolist() == np.histogram(values, EDGES)[0].tolist()


def test_bars_hold_every_entry_once_beside_what_a_normal_would_give() -> None:
    actual = sweep.sweep(keys(200, 64)).every
    frame = sweep.bars(actual, 64, most=50)
    assert len(frame) <= 50
    assert frame["count"].sum() == actual.moments.count == 200 * 199
    assert frame["low"].to_numpy()[1:].tolist() == frame["high"].to_numpy()[:-1].tolist()
    assert frame[SAME_STD].sum() == pytest.approx(actual.moments.count, rel=1e-2)
    middle = frame["count"].argmax()
    assert frame[ISOTROPIC][middle] == pytest.approx(frame["count"][middle], rel=0.1), "random keys are isotropic"
    far = sweep.sweep(np.array([[1.0], [3.0], [2000.0], [-5.0]])).every
    assert sweep.outside(far) + sweep.bars(far, 1)["count"].sum() == 12


def test_memory_is_bounded_whatever_the_number_of_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    most, m = 4 * 2**20, 3000
    monkeypatch.setattr(sweep, "WORKING_BYTES", most)
    whitened = keys(m, 32).astype(np.float32)
    tracemalloc.start()
    sweep.sweep(whitened, labels(m))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    side = sweep.block_side(32)
    held = 2 * 8 * 32 * side + 8 * sweep.TILES_HELD * side**2
    assert held <= most < 2 * 8 * 32 * (side + 1) + 64 * (side + 1) ** 2 or side == sweep.LEAST_SIDE
    assert peak < 2 * most < m * m * 8 / 8, "an eighth of the matrix would not fit"


def test_progress_is_told_and_what_cannot_be_swept_refused() -> None:
    reports: list[tuple[str, int, int]] = []
    sweep.sweep(keys(50), side=10, report=lambda *at: reports.append(at))
    assert [done for _, done, _ in reports[:-1]] == [5, 9, 12, 14, 15]
    assert reports[-1] == (sweep.STAGE, 1, 1)
    with pytest.raises(ValueError, match=r"5 keys, but labels of shape \(4,\)"):
        sweep.sweep(keys(5), [np.zeros(4, dtype=int)])
    broken = keys(5)
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="fact 3 is not finite"):
        sweep.sweep(broken)
