"""What was asked for and is not finished: it comes back as it was, whatever else lies under its name."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core.analysis import unfinished
from kis_core.analysis.unfinished import KIND, UnfinishedRequest
from kis_core.request import DTYPES, Request
from kis_core.store.store import Store, key_of

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
COUNTS = st.none() | st.integers(1, 10**12)
REQUESTS = st.builds(
    Request,
    *(WORDS, WORDS, WORDS, COUNTS, st.none() | st.lists(st.integers(0, 99), min_size=1, max_size=4).map(tuple)),
    *(st.none() | WORDS, st.sampled_from(DTYPES), st.integers(0, 9), COUNTS, st.none() | st.floats(0.001, 0.999)),
)
OTHER: dict[str, Any] = {
    **{"model": "gpt2", "facts": "else", "corpus": "wikipedia", "tokens": 7, "layers": (1,), "revision": "v1"},
    **{"dtype": "bfloat16", "seed": 1, "documents": 7, "settled": 0.1},
}


WRONG: tuple[dict[str, Any], ...] = (
    *({"model": 3}, {"facts": None}, {"tokens": 0}, {"tokens": "many"}, {"dtype": "int8"}, {"layers": "03"}),
    *({"layers": []}, {"layers": [-1]}, {"settled": 2}, {"documents": -1}, {"sudo": True}),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("asked"))


@given(request=REQUESTS, device=st.sampled_from(["auto", "cpu", "cuda:1"]))
def test_what_is_remembered_comes_back_until_it_is_forgotten(shared: Store, request: Request, device: str) -> None:
    unfinished.remember(shared, UnfinishedRequest(request, device))
    assert unfinished.unfinished(shared) == [UnfinishedRequest(request, device)]
    unfinished.forget(shared, request)
    assert unfinished.unfinished(shared) == []


def test_they_are_listed_by_model_and_asked_for_twice_remembered_once_with_the_last_device(store: Store) -> None:
    unfinished.forget(store, Request())
    for model, device in (("b", "cpu"), ("a", "cpu"), ("b", "cuda:0")):
        unfinished.remember(store, UnfinishedRequest(Request(model), device))
    actual = unfinished.unfinished(Store(store.root))
    assert actual == [UnfinishedRequest(Request("a"), "cpu"), UnfinishedRequest(Request("b"), "cuda:0")], (
        "by any process"
    )


def test_everything_but_the_device_tells_two_apart() -> None:
    assert set(OTHER) == {field.name for field in fields(Request)}
    requests = [Request(), *(replace(Request(), **{name: value}) for name, value in OTHER.items())]
    assert len({UnfinishedRequest(request).key for request in requests}) == len(OTHER) + 1
    assert UnfinishedRequest(Request(), "cpu").key == UnfinishedRequest(Request(), "cuda:0").key


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_what_another_version_wrote_is_left_alone(change: dict[str, Any], store: Store) -> None:
    unfinished.remember(store, UnfinishedRequest(Request()))
    store.put(key_of(KIND, change), {"request": asdict(Request()) | change, "device": "cpu"}, {})
    for number, meta in enumerate(({}, {"request": None, "device": "cpu"}, {"request": asdict(Request())})):
        store.put(key_of(KIND, {"odd": number}), meta, {})
    assert unfinished.unfinished(store) == [UnfinishedRequest(Request())]
