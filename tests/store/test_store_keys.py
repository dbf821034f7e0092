"""Under which name a value is stored: every ingredient counts, by its content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kis_core.analysis.pipeline import Request, ResolvedRequest
from kis_core.corpora import Texts
from kis_core.facts import Fact, FactSet
from kis_core.models.files import ModelFiles
from kis_core.store.store import key_of

PARIS = Fact("Paris", "{} is the capital of", "France")
REQUEST = Request(model="owner/model", layers=(0, 1), revision="main")
FILES = ModelFiles(Path("folder"))
INGREDIENTS = ResolvedRequest(REQUEST, FILES, "0" * 64, FactSet("facts", (PARIS,)), Texts("text", ("One.",)))


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
@example({"model": "a/b"}, {"model": "a_b"})
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
