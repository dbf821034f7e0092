"""The library: a result comes back from the store as it was, and a list of them that reads no matrix."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from kis_core.facts import RowIssue, saved
from kis_core.request import Request
from kis_core.results import archive
from kis_core.results.archive import FORMAT, Computed, computed, from_entry, kurtosis_frame, read, to_entry
from kis_core.results.result import Result
from kis_core.store.store import Store, key_of
from tests.results.results_tools import MLP_WIDTH, NAME, WIDTH, made
from tests.store.store_tools import close, matrices

NAN, INF = float("nan"), float("inf")
MATRICES = ("p", "whitening_cosine", "activation_cosine", "leverage", "text_leverage")
HOSTILE = ("</script>", 'quote "', "line\nbreak", "\\", "Ünïcode 🦆", "=1+1", "{}", "\u2028")

wild = arrays_of.arrays(
    np.float64, (2, 3, 3), elements=st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)
)


def random_p(layers: int = 2, m: int = 4, seed: int = 0) -> np.ndarray:
    p = np.random.default_rng(seed).normal(0, 0.1, (layers, m, m))
    p[:, range(m), range(m)] = 1.0
    return p


OF_THREE = made(random_p(2, 3))


def same(actual: Result, expected: Result) -> None:
    """Equal in every field, and the matrices bit by bit."""
    for field in fields(Result):
        one, other = getattr(actual, field.name), getattr(expected, field.name)
        if field.name in MATRICES:
            assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
        elif field.name == "reports":
            assert [report.to_json() for report in one] == [report.to_json() for report in other]  # NaN is not NaN
        elif field.name == "provenance":
            assert json.dumps(one) == json.dumps(other)  # the store makes lists of tuples
        else:
            assert one == other, field.name


def keep(
    store: Store, *, request: Request | None = None, layers: int = 1, seed: int = 0, **provenance: Any
) -> tuple[str, Result]:
    """A result put into the store under a key of its own."""
    result = made(random_p(layers, seed=seed))
    request = request or result.request
    asked = {name: getattr(request, name) for name in ("model", "facts", "corpus", "tokens", "layers", "seed")}
    result = replace(result, request=request, provenance=result.provenance | {"request": asked} | provenance)
    key = key_of(archive.KIND, asked | provenance | {"at": seed})
    entry = to_entry(result)
    store.put(key, entry.meta, entry.arrays)
    return key, result


def test_a_result_comes_back_from_the_store_as_it_was(store: Store) -> None:
    p = random_p()
    p[0, 1, :] = p[0, :, 1] = NAN  # a zero key
    p[1, 3, 1] = -0.0
    result = made(p, layers=(3, 7), subjects=HOSTILE[:4], relations=HOSTILE[4:], key_token_ids=(5, 5, 6, 7))
    result = replace(
        result,
        leverage=np.arange(8.0).reshape(2, 4),
        facts=replace(result.facts, issues=(RowIssue(3, "target is blank"), RowIssue(9, HOSTILE[1]))),
        reports=(replace(result.reports[0], condition_number=INF, ridge=0.1 + 0.2), result.reports[1]),
        answers=(((HOSTILE[0], 1 / 3), ("", 1e-300)), (), ((HOSTILE[5], 0.5),), ((" x", 0.0),)),
    )
    for expected in (result, result.subset([2, 0, 3], "three of them")):
        entry = to_entry(expected)
        json.dumps(entry.meta, allow_nan=False)
        store.put("superposition-0", entry.meta, entry.arrays)
        close(store)
        read_back = read("superposition-0", Store(store.root))
        assert read_back is not None
        same(read_back, expected)


@given(wild, wild, wild)
def test_matrices_come_back_bit_by_bit(p: np.ndarray, whitening: np.ndarray, activation: np.ndarray) -> None:
    result = replace(OF_THREE, p=p, whitening_cosine=whitening, activation_cosine=activation)
    same(from_entry(to_entry(result), result.key), result)


def test_a_missing_or_damaged_result_is_no_result(store: Store) -> None:
    key, _ = keep(store)
    assert read("superposition-none", store) is None
    (matrix,) = matrices(store.root)
    matrix.write_bytes(matrix.read_bytes()[:-1])
    assert read(key, store) is None


@pytest.mark.parametrize("meta", [{"format": FORMAT - 1}, {"tokens": 7}], ids=["an older result", "another kind"])
def test_what_is_no_result_of_this_version_is_not_read(store: Store, meta: dict[str, Any]) -> None:
    result = to_entry(made(random_p()))
    store.put("superposition-0", result.meta | meta if "format" in meta else meta, result.arrays)
    assert read("superposition-0", store) is None


def test_the_list_tells_all_there_is_to_know_without_the_matrices(store: Store) -> None:
    request = Request(model="gpt2", facts="mine", corpus="text", tokens=500, layers=(1,), seed=4)
    key, result = keep(store, request=request, family="GPT-2", parameters=124, layers_in_model=12, tokens_counted=499)
    (actual,) = computed(store)
    assert (actual.key, actual.request, actual.reports) == (key, request, result.reports)
    assert (actual.family, actual.parameters, actual.layers_in_model) == ("GPT-2", 124, 12)
    assert (actual.width, actual.mlp_width, actual.tokens) == (WIDTH, MLP_WIDTH, 499)
    assert (actual.facts, actual.facts_sha256, actual.facts_count) == (NAME, result.facts.fingerprint, 4)
    assert (actual.corpus, actual.corpus_sha256) == ("builtin", "0" * 64)


def test_the_smallest_model_comes_first_then_names_then_tokens_and_all_of_the_text_last(store: Store) -> None:
    assert computed(store) == []
    kept = [("b", 100, None), ("a", 300, 9), ("b", 100, 11), ("b", 100, 8), ("c", 20, 9), ("a", 100, 90)]
    for model, parameters, tokens in kept:
        keep(store, request=Request(model=model, tokens=tokens), parameters=parameters, tokens_counted=12)
    listed = [(actual.request.model, actual.parameters, actual.request.tokens) for actual in computed(store)]
    of_b = [("b", 100, tokens) for tokens in (8, 11, None)]
    assert listed == [("c", 20, 9), ("a", 100, 90), *of_b, ("a", 300, 9)]


@pytest.mark.parametrize("one", [{"documents": 5}, {"settled": 0.02}, {"revision": "main"}, {"tokens": None}])
def test_a_request_with_more_to_it_is_listed(store: Store, one: dict[str, Any]) -> None:
    keep(store, tokens_counted=7)
    result = to_entry(made(random_p()))
    asked = with_provenance(request=result.meta["provenance"]["request"] | one, tokens_counted=7)
    store.put(key_of(archive.KIND, one), asked(result.meta), result.arrays)
    assert Request(layers=(0, 1), **one) in [actual.request for actual in computed(store)]


def test_other_kinds_and_other_formats_are_not_listed(store: Store) -> None:
    key, result = keep(store)
    entry = to_entry(result)
    for number in (FORMAT - 1, FORMAT + 1, None, str(FORMAT)):
        store.put(key_of(archive.KIND, {"format": number}), entry.meta | {"format": number}, entry.arrays)
    store.put(key_of(archive.KIND, {}), {}, {})
    store.put(key_of("second-moment", {}), entry.meta, entry.arrays)
    assert [one.key for one in computed(store)] == [key]


def with_provenance(**changed: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda meta: meta | {"provenance": meta["provenance"] | changed}


def with_report(**changed: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda meta: meta | {"reports": [meta["reports"][0] | changed]}


UNREADABLE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "no parameters": with_provenance(parameters=None),
    "a family that is a list": with_provenance(family=["GPT-2"]),
    "tokens that are a table": with_provenance(tokens_counted={"all": 1}),
    "a request of a numbered model": with_provenance(request={"model": 5}),
    "a request of a share of a token": with_provenance(request={"tokens": 2.5}),
    "a request with a list for a revision": with_provenance(request={"revision": ["main"]}),
    "a layer between two": with_report(layer=0.5),
    "no provenance": lambda meta: {name: value for name, value in meta.items() if name != "provenance"},
    "a report of another shape": lambda meta: meta | {"reports": [{"layer": 0}]},
    "a request with more to it": with_provenance(request={"model": "gpt2", "speed": 3}),
}


@pytest.mark.parametrize("spoil", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_metadata_is_left_out(store: Store, spoil: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    key, result = keep(store)
    entry = to_entry(result)
    store.put(key_of(archive.KIND, {}), spoil(entry.meta), entry.arrays)
    assert [one.key for one in computed(store)] == [key]


OTHERWISE: tuple[dict[str, Any], ...] = (
    {"tokens": 99}, {"tokens": None}, {"documents": 5}, {"settled": 0.02}, {"dtype": "bfloat16"},
)  # fmt: skip
"""How much of the text C is taken over, and in which arithmetic, another way."""


@pytest.mark.parametrize("one", OTHERWISE)
def test_the_result_of_a_model_that_is_not_here_is_that_of_this_very_request(store: Store, one: dict[str, Any]) -> None:
    plain = made(random_p())
    wanted = Request(facts=str(saved.path_of(store.root, saved.save(store.root, plain.facts))))
    asked = asdict(replace(wanted, **one)) | {"layers": [0, 1]}
    source = plain.provenance | {"request": asked, "tokens_counted": 7}
    entry = to_entry(replace(plain, provenance=source))
    store.put(key_of(archive.KIND, one), entry.meta, entry.arrays)
    assert archive.without_model(wanted, store) is None
    assert archive.without_model(replace(wanted, **one), store) is not None


def test_comparable_results_differ_in_the_model_alone(store: Store) -> None:
    keep(store)
    (mine,) = computed(store)
    other_model = replace(mine.request, model="other", layers=(1,), revision="main", seed=3, facts="x", corpus="y")
    other = replace(mine, key="k", request=other_model, family="f", parameters=1, facts="x", corpus="y", tokens=7)
    differ = [
        replace(mine, facts_sha256="1"),
        replace(mine, corpus_sha256="1"),
        *(replace(mine, request=replace(mine.request, **one)) for one in OTHERWISE),
    ]
    result = archive.read(mine.key, store)
    assert result is not None
    assert archive.comparable(result, [mine, *differ, other]) == [mine, other]
    part = result.subset([0], "part").subset([0], "part of a part")
    assert archive.comparable(part, [mine, *differ, other]) == [mine, other], "the facts it was taken from"


def test_the_fullest_of_each_model_has_most_layers(store: Store) -> None:
    keep(store)
    (mine,) = computed(store)
    (report,) = mine.reports

    def of(model: str, layers: int, key: str) -> Computed:
        return replace(mine, key=key, request=replace(mine.request, model=model), reports=(report,) * layers)

    results = [of("b", 1, "b1"), of("a", 2, "a2"), of("b", 3, "b3"), of("a", 2, "a2 again"), of("b", 2, "b2")]
    assert [fullest.key for fullest in archive.fullest_of_each_model(iter(results))] == ["b3", "a2"]


@pytest.mark.parametrize("clean", [False, True])
def test_the_frame_of_kurtoses_has_a_row_for_every_layer_of_every_model(store: Store, clean: bool) -> None:
    result = made(random_p(2, 6), layers=(0, 4), key_token_ids=(1, 1, 2, 3, 4, 5))
    entry = to_entry(replace(result, provenance=result.provenance | {"family": "F", "parameters": 7}))
    store.put("superposition-0", entry.meta, entry.arrays)
    shapes = [
        (report.clean_moments, report.clean_interval) if clean else (report.moments, report.interval)
        for report in result.reports
    ]
    expected = [
        (result.request.model, "F", 7, layer, moments.kurtosis, interval.low, interval.high)
        for layer, (moments, interval) in zip((0, 4), shapes, strict=True)
    ]
    assert result.reports[0].moments.kurtosis != result.reports[0].clean_moments.kurtosis
    frame = kurtosis_frame(computed(store), clean=clean)
    columns = ["model", "family", "parameters", "layer", "kurtosis", "low", "high"]
    assert frame.columns.tolist() == kurtosis_frame([]).columns.tolist() == columns
    assert list(frame.itertuples(index=False, name=None)) == expected
