"""Choices in a link: what is written is read back, and nonsense is refused with a word on what makes sense."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kis_core.request import BUILTIN_CORPUS, DTYPES, Request
from pages.parts.frame import state
from pages.parts.frame.choices import (
    MOST_CHARACTERS,
    Behind,
    Choice,
    Edits,
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
SETTINGS = ("steps", "clamp", "mean_key")
MOST, LONGEST = 4, 12  # edits, and characters of a new object
KINDS: dict[str, Choice] = {
    "one of": OneOf(NAMES[0], lambda: NAMES), "several of": Several(NAMES), "several": Several(),
    "whole": Whole(0, 1, 500), "pair": Tuple(2, "a pair of facts is written like 0-1"),
    "window": Tuple(4, "a window is written like 0-64-0-64"), "range": Range(), "words": Words(),
    "how C is taken": Behind(lambda: CORPORA), "strength": Number(1.0, 0.0, 1.5), "size": Number(1.0, 0.5, 4.0),
    "settings": SettingsChoice(SETTINGS), "edits": Edits(MOST, LONGEST),
}  # fmt: skip
REFUSALS = (
    r"there are|a number from|(is|are) written like|no such text|C needs at least|settles at|count from|runs in one|"
    r"at most [\d,]+ (characters|edits)"
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
FACTS = st.integers(0, 999_999)
NAMED = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
OBJECTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=LONGEST).filter(
    lambda text: text == text.strip()
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "one of": st.sampled_from(NAMES),
    "several of": st.lists(st.sampled_from(NAMES), min_size=1, unique=True).map(tuple),
    "several": st.lists(NAMED, min_size=1, max_size=20).map(tuple),
    "whole": st.integers(1, 500),
    "window": st.tuples(FACTS, FACTS, FACTS, FACTS),
    "range": st.lists(st.integers(-(10**9), 10**9), min_size=2, max_size=2).map(
        lambda ends: tuple(end / 1e4 for end in sorted(ends))
    ),
    "words": st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
    "how C is taken": WAYS.map(lambda request: request.c_settings),
    "strength": st.integers(0, 150).map(lambda hundredths: hundredths / 100),
    "settings": st.dictionaries(st.sampled_from(SETTINGS), st.integers(0, 10**9), min_size=1).map(
        lambda millionths: tuple(sorted((name, number / 1e6) for name, number in millionths.items()))
    ),
    "edits": st.lists(st.tuples(FACTS, OBJECTS), min_size=1, max_size=MOST, unique_by=lambda edit: edit[0]).map(tuple),
}


@pytest.mark.parametrize("kind", KINDS)
@given(
    text=st.text(max_size=500) | st.from_regex(r"(steps|clamp|1):\d{1,9}(\.\d{0,8})?(~(steps|1):\d)?", fullmatch=True)
)
@example(text="x" * 81)
@example(text="x" * (MOST_CHARACTERS + 1))
@example(text="1:%7E%257E")
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


def test_the_marks_between_names_and_edits_come_back() -> None:
    assert Several().read(Several().write(["name~of~a~relation"])) == ("name~of~a~relation",)
    for edits in (((0, "~"), (1, "%7E"), (2, "%"), (3, "a:b")), ((7, "a\nb"), (8, "%25"), (9, "é—日本"))):
        assert KINDS["edits"].read(KINDS["edits"].write(edits)) == edits


def test_very_many_come_back_whole_or_not_at_all() -> None:
    names = [f"relation_{number:03}" for number in range(MOST_CHARACTERS // 13 + 1)]
    with pytest.raises(ValueError, match="at most"):
        Several().read(Several().write(names))
    assert Several().read(Several().write(names[:100])) == tuple(names[:100])
    settings = "steps:12~" * (MOST_CHARACTERS // len("steps:12~") - 1) + "clamp:123456"
    assert len(settings) == MOST_CHARACTERS + 1
    with pytest.raises(ValueError, match=r"written like|at most"):
        KINDS["settings"].read(settings)
    queue = state.CHOICES["queue"]
    picked = tuple((100 + fact, "w" * state.MOST_WORDS) for fact in range(state.MOST_PICKED))
    assert queue.read(queue.write(picked)) == picked, "a queue of long objects fits its own link"
    assert queue.read("1:" + "é" * (state.MOST_WORDS + 1)) == ((1, "é" * state.MOST_WORDS),), "cut to what can be typed"


READ = (
    ("strength", "001", 1.0), ("strength", "1.50", 1.5), ("size", "0.5", 0.5), ("size", "4", 4.0),
    ("settings", "steps:20~clamp:0.0625", (("clamp", 0.0625), ("steps", 20.0))),
    ("settings", "mean_key:1~mean_key:0", (("mean_key", 0.0),)), ("words", "x" * 80, "x" * 80),
    ("edits", "3:French~5:Spanish", ((3, "French"), (5, "Spanish"))), ("edits", "007:  a:b ", ((7, "a:b"),)),
    ("edits", "1:a%7Eb%25", ((1, "a~b%"),)), ("edits", "1:" + "y" * 50, ((1, "y" * LONGEST),)),
)  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "value"), READ)
def test_a_choice_is_read_as_people_write_it(kind: str, text: str, value: Any) -> None:
    assert KINDS[kind].read(text) == value


REFUSED: dict[tuple[str, str], tuple[str, ...]] = {
    ("one of", "there are alpha, beta gamma, d-1"): ("delta", "Alpha", ""),
    ("several of", "there are alpha, beta gamma, d-1"): ("alpha~delta", ""),
    ("whole", "a number from 1 to 500"): ("0", "501", "-1", "1.0", "1e2", " 1", "1\n", "10" * 2000),
    ("strength", "a number from 0 to 1.5"): ("", "-0.5", "1.51", "0.001", "1e0", "1.", ".5", "nan", "1,5", "1\n", "+1"),
    ("size", "from 0.5 to 4"): ("0.49", "4.01"),
    ("pair", "0-1"): ("1", "1-2-3", "1--2", "1-2\n", "1234567-1"),
    ("window", "0-64-0-64"): ("0-64-0",),
    ("range", "0.25~1"): ("1", "1~0", "nan~1", "0~inf", "0~1e3", "0~1\n", "0-1"),
    ("words", "at most 80 characters"): ("x" * 81,),
    ("how C is taken", "there are corpus, tokens"): ("", "model:gpt2", "seed:1"),
    ("how C is taken", "no such text is known"): ("corpus:/etc/passwd", "corpus:"),
    ("how C is taken", "is written like"): (
        "tokens:many", "tokens:1" + "0" * 12, "documents:-1", "layers:", "layers:all", "layers:0--1", "settled:soon",
    ),
    ("how C is taken", "C needs at least one token"): ("tokens:0",),
    ("how C is taken", "settles at a share"): ("settled:nan",),
    ("how C is taken", "runs in one of"): ("dtype:int8",),
    ("how C is taken", "at most 2,000 characters"): ("revision:" + "x" * 2_000,),
    ("settings", "written like steps:20, with the names steps, clamp, mean_key"): (
        "", "steps", "steps:-1", "steps:1e3", "steps:nan", "steps:20~", "~steps:20", "steps=20", "Steps:20", "seed:1",
        "steps:1234567", "steps:1.", "steps:20\n", "steps:20~seed:1", "steps :20",
    ),
    ("edits", "3:French~5:Spanish"): (
        "", "French", "3:", "3:%20", ":x", "-1:x", "1.5:x", " 1:x", "1234567:x", "1:x~", "~1:x", "1:x~~2:y", "1:x~2",
    ),
    ("edits", "at most 4 edits, each of another fact"): ("1:x~01:y", "0:a~1:b~2:c~3:d~4:e"),
    ("edits", "at most 176 characters"): ("1:" + "x" * 175,),  # four edits of twelve characters, all of them escaped
}  # fmt: skip


@pytest.mark.parametrize(("kind", "said"), REFUSED)
def test_nonsense_is_refused_with_what_makes_sense(kind: str, said: str) -> None:
    for text in REFUSED[kind, said]:
        with pytest.raises(ValueError, match=re.escape(said)):
            KINDS[kind].read(text)
