"""Under which name a value is stored: every ingredient counts, by its content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core.analysis import resolve as ingredients_module
from kis_core.analysis.pipeline import Request, ResolvedRequest
from kis_core.corpora import Texts
from kis_core.facts import Fact, FactSet
from kis_core.models.files import ModelFiles
from kis_core.store.store import key_of

PARIS = Fact("Paris", "{} is the capital of", "France")
REQUEST = Request(model="owner/model", layers=(0, 1), revision="main")
FILES = ModelFiles(Path("folder"))
INGREDIENTS = ResolvedRequest(REQUEST, FILES, "0" * 64, FactSet("facts", (PARIS,)), Texts("text", ("One.",)))
OTHER_REQUESTS = (
    {"model": "owner_model"}, {"model": "owner-model"}, {"model": "owner/Model"}, {"tokens": 1}, {"layers": (0,)},
    {"layers": None}, {"revision": None}, {"revision": "v1"}, {"seed": 1}, {"documents": 7},
    {"dtype": "bfloat16"}, {"settled": 0.02},
)  # fmt: skip
OTHER_INGREDIENTS = (
    *(replace(INGREDIENTS, request=replace(REQUEST, **changed)) for changed in OTHER_REQUESTS),
    replace(INGREDIENTS, weights="1" * 64),
    replace(INGREDIENTS, facts=FactSet("facts", (PARIS, PARIS))),
    replace(INGREDIENTS, facts=FactSet("facts", (replace(PARIS, relation="capital"),))),
    replace(INGREDIENTS, corpus=Texts("text", ("One", ".")), text=""),
)


def test_each_ingredient_varied_gives_another_key() -> None:
    keys = {ingredients.key for ingredients in (INGREDIENTS, *OTHER_INGREDIENTS)}
    assert len(keys) == 1 + len(OTHER_INGREDIENTS)


def test_a_new_format_of_the_numbers_gives_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = INGREDIENTS.key
    monkeypatch.setattr(ingredients_module, "FORMAT", ingredients_module.FORMAT + 1)
    assert INGREDIENTS.key != before


def test_the_key_depends_on_content_not_on_names_places_or_order_of_layers() -> None:
    same = ResolvedRequest(
        replace(REQUEST, facts="mine.csv", corpus="mine.txt", layers=(1, 0, 1)),
        ModelFiles(Path("elsewhere")), "0" * 64, FactSet("mine.csv", (PARIS,)), Texts("mine.txt", ("One.",)),
    )  # fmt: skip
    assert same.key == INGREDIENTS.key


@pytest.mark.parametrize("changed", [{"tokens": 1}, {"model": "other"}, {"layers": None}, {"seed": 1}])
def test_the_second_moment_depends_on_little(changed: dict[str, Any]) -> None:
    other = replace(INGREDIENTS, request=replace(REQUEST, **changed), facts=FactSet("none", ()))
    assert (other.second_moment_key == INGREDIENTS.second_moment_key) == ("tokens" not in changed)


plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text())
ingredients = st.dictionaries(st.text(max_size=2), st.one_of(plain, st.lists(plain, max_size=2)), max_size=3)


@given(ingredients, ingredients)
def test_keys_are_equal_only_for_equal_ingredients(one: dict[str, Any], other: dict[str, Any]) -> None:
    def typed(value: Any) -> str:
        return repr(sorted(value.items()))

    assert (key_of("kind", one) == key_of("kind", other)) == (typed(one) == typed(other))
    assert key_of("kind", dict(reversed(one.items()))) == key_of("kind", one)
    assert key_of("other", one) != key_of("kind", one)
    assert key_of("kind", one).removeprefix("kind-").isalnum()


def test_ingredients_that_have_no_canonical_form_are_refused() -> None:
    for ingredient in (float("nan"), float("inf"), object(), b"bytes", {1, 2}):
        with pytest.raises((TypeError, ValueError)):
            key_of("kind", {"ingredient": ingredient})
