"""Text of users and models reaches the screen as text."""

from __future__ import annotations

import pytest

from kis_core.facts import Fact
from pages.parts.frame.text import JOINER, NAME_CHARACTERS, count, duration, named, plain, sentence, share

HOSTILE = ("<script>alert(1)</script>", "[x](javascript:alert(1))", "![x](http://example.com/x.png)", "<img src=x>")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_sentence_carries_no_markup_of_a_user(text: str) -> None:
    made = sentence(Fact(text, f"{text} {{}} {text}", text))
    assert made.replace("<b>", "").replace("</b>", "").replace("<i>", "").replace("</i>", "").count("<") == 0


@pytest.mark.parametrize("text", HOSTILE)
def test_plain_disarms_every_mark(text: str) -> None:
    made = plain(text)
    for mark in "<>[]()!":
        assert f"\\{mark}" in made or mark not in text
    assert made.replace("\\", "").replace(JOINER, "") == text


@pytest.mark.parametrize(
    ("text", "apart"),
    [
        ("HTTP://evil.example", "HTTP:|//evil.example"), ("www.evil.example", "www|.evil.example"),
        ("a.b@evil.example", "a.b|@evil.example"), ("go :heart: :material/home:", "go :|heart: :|material/home:"),
        ("a -> b <- c -- d <-> e", "a -|> b <|- c -|- d <|-|> e"), (">= <= ~=", ">|= <|= ~|="),
        ("at 10:30, s: t", "at 10:30, s: t"),
    ],
)  # fmt: skip
def test_what_the_browser_makes_of_plain_text_is_kept_apart(text: str, apart: str) -> None:
    assert plain(text).replace("\\", "").replace(JOINER, "|") == apart


def test_the_subject_is_marked_in_its_place() -> None:
    assert (
        sentence(Fact("Croatia", "In {} people speak", "Croatian")) == "In <b>Croatia</b> people speak <i>Croatian</i>"
    )


@pytest.mark.parametrize(
    ("probability", "said"), [(0.0, "< 0.1 %"), (0.9999, "> 99.9 %"), (0.5, "50.0 %"), (0.001, "0.1 %")]
)
def test_a_probability_is_never_rounded_to_certainty(probability: float, said: str) -> None:
    assert share(probability) == said


def test_numbers_as_people_say_them() -> None:
    assert [count(n) for n in (148_928, 124_439_808, 6_738_415_616)] == ["0.15 M", "124.44 M", "6.74 B"]
    assert [duration(s) for s in (0.2, 59.6, 600, 9000)] == ["1 s", "60 s", "10 min", "2.5 h"]


def test_models_in_folders_are_told_apart() -> None:
    folders = ["/a/run-1/checkpoint-1000", "/a/run-2/checkpoint-1000", "/a/run-2/final", "gpt2"]
    assert [named(one, folders) for one in folders] == [
        "run-1/checkpoint-1000",
        "run-2/checkpoint-1000",
        "final",
        "gpt2",
    ]
    long = [f"/models/{'a-very-long-name-' * 3}step-{step}" for step in (1000, 2000)]
    short = [named(one, long) for one in long]
    assert [len(one) for one in short] == [NAME_CHARACTERS] * 2
    assert short[0].endswith("step-1000")
    assert short[1].endswith("step-2000")
