"""Choices in a link: what is written is read back, and nonsense is refused with a word on what makes sense."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from kis_core.request import BUILTIN_CORPUS, DTYPES, Request
from pages.parts.frame import state
from pages.parts.frame.choices import (
    MOST_CHARACTERS,
    Behind,
    Choice,
    Number,
    OneOf,
    Range,
    SettingsChoice,
    Several,
    Tuple,
    Whole,
    Words,
)

CORPORA = (BUILTIN_CORPUS, "wikipedia", "/data/50% of it~all: my text.txt", "all", "corpus:x")
NAMES = ("alpha", "beta gamma", "d-1")
PAIR = Tuple(2, "a pair of facts is written like 0-1")
WINDOW = Tuple(4, "a window is written like 0-64-0-64")
KINDS: dict[str, Choice] = {
    "one of": OneOf(NAMES[0], lambda: NAMES),
    "several of": Several(NAMES),
    "several": Several(),
    "whole": Whole(0, 1, 500),
    "pair": PAIR,
    "window": WINDOW,
    "range": Range(),
    "words": Words(),
    "how C is taken": Behind(lambda: CORPORA),
    "strength": Number(1.0, 0.0, 1.5),
    "settings": SettingsChoice(("steps", "clamp", "mean_key")),
}
REFUSALS = (
    r"there are|a number from|(is|are) written like|no such text|C needs at least|settles at|count from|runs in one|"
    r"at most [\d,]+ characters"
)
COUNTS = st.none() | st.integers(1, 10**12 - 1)
WAYS = st.builds(
    Request,
    corpus=st.sampled_from(CORPORA),
    tokens=COUNTS,
    documents=COUNTS,
    layers=st.none() | st.lists(st.integers(0, 200), min_size=1, max_size=6).map(tuple),
    revision=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    dtype=st.sampled_from(DTYPES),
    settled=st.none() | st.floats(1e-6, 0.999),
)
WRITTEN = 1e-6  # a range is written with six digits
NUMBERS = st.floats(-999_999, 999_999)
FACTS = st.integers(0, 999_999)
NAMED = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "one of": st.sampled_from(NAMES),
    "several of": st.lists(st.sampled_from(NAMES), min_size=1, unique=True).map(tuple),
    "several": st.lists(NAMED, min_size=1, max_size=20).map(tuple),
    "whole": st.integers(1, 500),
    "pair": st.tuples(FACTS, FACTS),
    "window": st.tuples(FACTS, FACTS, FACTS, FACTS),
    "words": st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
    "how C is taken": WAYS.map(lambda request: request.c_settings),
    "strength": st.integers(0, 150).map(lambda hundredths: hundredths / 100),
}


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(max_size=500))
@example(text="x" * 81)
@example(text="x" * (MOST_CHARACTERS + 1))
def test_any_text_is_read_or_refused_in_words(kind: str, text: str) -> None:
    choice = KINDS[kind]
    try:
        value = choice.read(text)
    except ValueError as refusal:
        said = str(refusal)
    else:
        assert choice.read(choice.write(value)) == value
        return
    assert re.search(REFUSALS, said)


@pytest.mark.parametrize("kind", VALUES)
@given(data=st.data())
def test_a_value_comes_back(kind: str, data: st.DataObject) -> None:
    value = data.draw(VALUES[kind])
    assert KINDS[kind].read(KINDS[kind].write(value)) == value


def test_a_name_with_the_mark_between_names_comes_back() -> None:
    assert Several().read(Several().write(["name~of~a~relation"])) == ("name~of~a~relation",)


def test_very_many_names_come_back_whole_or_not_at_all() -> None:
    names = [f"relation_{number:03}" for number in range(MOST_CHARACTERS // 13 + 1)]
    text = Several().write(names)
    assert len(text) > MOST_CHARACTERS
    with pytest.raises(ValueError, match="at most"):
        Several().read(text)
    fitting = names[:100]
    assert Several().read(Several().write(fitting)) == tuple(fitting)


@given(NUMBERS, NUMBERS)
def test_a_range_comes_back_to_six_digits(low: float, high: float) -> None:
    assume(low <= high)
    read = Range().read(Range().write((low, high)))
    assert read == pytest.approx((low, high), abs=WRITTEN)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((0.25, 1.0), "0.25~1"),
        ((-0.5, 100.0), "-0.5~100"),
        ((0.0, 10.0), "0~10"),
        ((1 / 3, 2 / 3), "0.333333~0.666667"),
    ],
)
def test_a_range_is_written_as_people_write_it(value: tuple[float, float], text: str) -> None:
    assert Range().write(value) == text


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (Request(), "corpus:builtin"),
        (Request(tokens=9_000), "tokens:9000"),
        (Request(corpus="wikipedia", tokens=None, documents=100_000), "corpus:wikipedia~tokens:all~documents:100000"),
        (Request(layers=(3, 1), dtype="bfloat16", settled=0.02), "layers:1-3~dtype:bfloat16~settled:0.02"),
    ],
)
def test_how_c_is_taken_is_written_as_people_say_it(request_: Request, text: str) -> None:
    assert KINDS["how C is taken"].write(request_.c_settings) == text


def test_words_are_of_a_sensible_length() -> None:
    assert Words().read("x" * 80) == "x" * 80
    with pytest.raises(ValueError, match="at most 80 characters"):
        Words().read("x" * 81)


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("one of", "delta", "there are alpha, beta gamma, d-1"),
        ("one of", "Alpha", "there are"),
        ("one of", "", "there are"),
        ("several of", "alpha~delta", "there are alpha, beta gamma, d-1"),
        ("several of", "", "there are"),
        ("whole", "0", "a number from 1 to 500"),
        ("whole", "501", "a number from 1 to 500"),
        ("whole", "-1", "a number"),
        ("whole", "1.0", "a number"),
        ("whole", "1e2", "a number"),
        ("whole", " 1", "a number"),
        ("whole", "1\n", "a number"),
        ("whole", "10" * 2000, "a number"),
        ("pair", "1", "0-1"),
        ("pair", "1-2-3", "0-1"),
        ("pair", "1--2", "0-1"),
        ("pair", "1-2\n", "0-1"),
        ("pair", "1234567-1", "0-1"),
        ("window", "0-64-0", "0-64-0-64"),
        ("range", "1", "0.25~1"),
        ("range", "1~0", "0.25~1"),
        ("range", "nan~1", "0.25~1"),
        ("range", "0~inf", "0.25~1"),
        ("range", "0~1e3", "0.25~1"),
        ("range", "0~1\n", "0.25~1"),
        ("range", "0-1", "0.25~1"),
        ("how C is taken", "", "there are corpus, tokens"),
        ("how C is taken", "model:gpt2", "there are corpus, tokens"),
        ("how C is taken", "seed:1", "there are corpus, tokens"),
        ("how C is taken", "corpus:/etc/passwd", "no such text is known"),
        ("how C is taken", "corpus:", "no such text is known"),
        ("how C is taken", "tokens:many", "is written like"),
        ("how C is taken", "tokens:0", "C needs at least one token"),
        ("how C is taken", "tokens:1" + "0" * 12, "is written like"),
        ("how C is taken", "documents:-1", "is written like"),
        ("how C is taken", "layers:", "is written like"),
        ("how C is taken", "layers:all", "is written like"),
        ("how C is taken", "layers:0--1", "is written like"),
        ("how C is taken", "settled:nan", "settles at a share"),
        ("how C is taken", "settled:soon", "is written like"),
        ("how C is taken", "dtype:int8", "runs in one of"),
        ("how C is taken", "revision:" + "x" * 2_000, "at most 2,000 characters"),
    ],
)
def test_nonsense_is_refused_with_what_makes_sense(kind: str, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        KINDS[kind].read(text)


@pytest.mark.parametrize("name", [name for name, choice in state.CHOICES.items() if isinstance(choice, OneOf)])
def test_a_default_is_one_of_the_names(name: str) -> None:
    choice = state.CHOICES[name]
    assert choice.default is None or choice.default in tuple(choice.options())  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [name for name, choice in state.CHOICES.items() if isinstance(choice, OneOf)])
def test_every_name_there_is_comes_back(name: str) -> None:
    choice = state.CHOICES[name]
    for option in choice.options():  # type: ignore[attr-defined]
        assert choice.read(choice.write(option)) == option
