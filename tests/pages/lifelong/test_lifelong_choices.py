"""Choices of the page of runs in a link: edits picked by hand, and names that are the library's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kis_core import editing, lifelong
from kis_core.lifelong import frames
from pages.parts.frame import state
from pages.parts.frame.choices import Edits
from pages.parts.lifelong import below, choice

MOST, LONGEST = 4, 12
KIND = Edits(MOST, LONGEST)
TARGETS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=LONGEST).filter(
    lambda text: text == text.strip()
)
PICKED = st.lists(
    st.tuples(st.integers(0, 999_999), TARGETS), min_size=1, max_size=MOST, unique_by=lambda edit: edit[0]
)


@given(PICKED)
@example([(3, "French"), (5, "Spanish")])
@example([(0, "~"), (1, "%7E"), (2, "%"), (3, "a:b")])
@example([(7, "a\nb"), (8, "%25"), (9, "é—日本")])
def test_edits_come_back_in_their_order(picked: list[tuple[int, str]]) -> None:
    assert KIND.read(KIND.write(picked)) == tuple(picked)


@given(st.text(max_size=200))
@example("3:%20")
@example("1:a~1:b")
@example("1:%7E%257E")
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        found = KIND.read(text)
    except ValueError as refusal:
        said = str(refusal)
    else:
        said, facts = "", {fact for fact, _ in found}
        assert len(facts) == len(found) <= MOST
        assert all(target.strip() and len(target) <= LONGEST for _, target in found)
    assert not said or re.search(r"edits are written like 3:French~5:Spanish|at most 4 edits", said)


@given(PICKED)
def test_what_is_read_is_written_and_read_alike(picked: list[tuple[int, str]]) -> None:
    once = KIND.read(KIND.write(picked))
    assert KIND.read(KIND.write(once)) == once


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3:French~5:Spanish", ((3, "French"), (5, "Spanish"))),
        ("0:a:b", ((0, "a:b"),)),
        ("007:x", ((7, "x"),)),
        ("1:  x  ", ((1, "x"),)),
        ("1:a%7Eb%25", ((1, "a~b%"),)),
        ("1:" + "y" * 50, ((1, "y" * LONGEST),)),
        ("0:a~1:b~2:c~3:d", ((0, "a"), (1, "b"), (2, "c"), (3, "d"))),
    ],
)
def test_edits_are_read_as_people_write_them(text: str, found: tuple[tuple[int, str], ...]) -> None:
    assert KIND.read(text) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "3:French~5:Spanish"),
        ("French", "3:French~5:Spanish"),
        ("3:", "3:French~5:Spanish"),
        ("3:  ", "3:French~5:Spanish"),
        ("3:%20", "3:French~5:Spanish"),
        (":x", "3:French~5:Spanish"),
        ("-1:x", "3:French~5:Spanish"),
        ("1.5:x", "3:French~5:Spanish"),
        (" 1:x", "3:French~5:Spanish"),
        ("1234567:x", "3:French~5:Spanish"),
        ("1:x~", "3:French~5:Spanish"),
        ("~1:x", "3:French~5:Spanish"),
        ("1:x~~2:y", "3:French~5:Spanish"),
        ("1:x~2", "3:French~5:Spanish"),
        ("1:x~1:y", "at most 4 edits, each of another fact"),
        ("1:x~01:y", "at most 4 edits, each of another fact"),
        ("0:a~1:b~2:c~3:d~4:e", "at most 4 edits, each of another fact"),
        ("1:" + "x" * 175, "at most 176 characters"),  # four edits of twelve characters, all of them escaped
    ],
)
def test_nonsense_is_refused_with_what_makes_sense(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        KIND.read(text)


def test_the_longest_text_that_is_read_is_read() -> None:
    fitting = Edits(1, 100)
    target = "%25" * 100
    assert fitting.read(f"1:{target}") == ((1, "%" * 100),)


def test_an_object_is_cut_to_what_can_be_typed() -> None:
    kind = state.CHOICES["queue"]
    assert isinstance(kind, Edits)
    assert kind.read("1:" + "é" * 81) == ((1, "é" * 80),)
    assert (kind.most, kind.longest) == (state.MOST_PICKED, state.MOST_WORDS)


@given(st.integers(1, state.MOST_PICKED))
def test_as_many_edits_as_may_be_picked_come_back(count: int) -> None:
    kind = state.CHOICES["queue"]
    picked = tuple((fact, f"object {fact}") for fact in range(count))
    assert kind.read(kind.write(picked)) == picked


def test_a_queue_of_long_objects_fits_its_own_link() -> None:
    kind = state.CHOICES["queue"]
    picked = tuple((100 + fact, "w" * state.MOST_WORDS) for fact in range(state.MOST_PICKED))
    assert kind.read(kind.write(picked)) == picked


# Names


def test_links_know_the_methods_draws_and_orders_of_the_library() -> None:
    options = {name: tuple(state.CHOICES[name].options()) for name in ("editor", "method", "draw", "arrange")}
    assert options["editor"] == tuple(method.name for method in editing.METHODS) == tuple(choice.METHOD_NAMES)
    assert options["method"] == tuple(method.name for method in editing.RANK_ONE)
    assert (options["draw"], options["arrange"]) == (tuple(lifelong.DRAWS), tuple(lifelong.ORDERS))
    assert state.MOST_EDITS <= lifelong.MOST_EDITS


def test_what_every_page_needs_loads_no_torch() -> None:
    code = "import sys; import pages.parts.frame.state; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False).returncode == 0


def test_the_names_in_links_are_those_the_page_knows() -> None:
    assert tuple(below.CHRONICLE) == state.CHRONICLE
    assert tuple(choice.AGAINST) == state.AGAINST
    assert tuple(state.CHOICES["shade"].options()) == tuple(frames.KINDS) == tuple(below.SHADES)


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("editor", "rome"), ("draw", lifelong.Draw().by), ("arrange", lifelong.Draw().order),
        ("seed", lifelong.Draw().seed), ("edits", 100), ("against", "one"), ("step", None), ("queue", ()), ("of", ()),
        ("through", None), ("watched", None), ("shade", "measured"), ("chronicle", "theory"),
    ],
)  # fmt: skip
def test_defaults_are_the_librarys_where_it_has_some(name: str, default: object) -> None:
    assert state.CHOICES[name].default == default


@pytest.mark.parametrize(("text", "fine"), [("1", True), ("500", True), ("0", False), ("501", False), ("5.0", False)])
def test_edits_are_counted_from_one_to_the_most(text: str, *, fine: bool) -> None:
    if fine:
        assert state.CHOICES["edits"].read(text) == int(text)
    else:
        with pytest.raises(ValueError, match="a number from 1 to 500"):
            state.CHOICES["edits"].read(text)
