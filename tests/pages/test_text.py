"""Text of users and models reaches the screen as text."""

from __future__ import annotations

import pytest

from kis_core.facts import Fact
from pages.parts.frame.text import JOINER, NAME_CHARACTERS, count, duration, named, plain, sentence

HOSTILE = ("<script>alert(1)</script>", "[x](javascript:alert(1))", "![x](http://example.com/x.png)", "<img src=x>")


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_a_user_carries_no_markup(text: str) -> None:
    made = sentence(Fact(text, f"{text} {{}} {text}", text))
    for tag in ("<b>", "</b>", "<i>", "</i>"):
        made = made.replace(tag, "")
    assert "<" not in made
    made = plain(text)
    assert all(f"\\{mark}" in made for mark in "<>[]()!" if mark in text), "every mark is disarmed"
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


def test_numbers_as_people_say_them() -> None:
    assert [count(n) for n in (148_928, 124_439_808, 6_738_415_616)] == ["0.15 M", "124.44 M", "6.74 B"]
    assert [duration(s) for s in (0.2, 59.6, 600, 9000)] == ["1 s", "60 s", "10 min", "2.5 h"]


def test_models_in_folders_are_told_apart() -> None:
    folders = ["/a/run-1/checkpoint-1000", "/a/run-2/checkpoint-1000", "/a/run-2/final", "gpt2"]
    names = ["run-1/checkpoint-1000", "run-2/checkpoint-1000", "final", "gpt2"]
    assert [named(folder, folders) for folder in folders] == names
    long = [f"/models/{'a-very-long-name-' * 3}step-{step}" for step in (1000, 2000)]
    for name, step in zip(long, (1000, 2000), strict=True):
        short = named(name, long)
        assert len(short) == NAME_CHARACTERS
        assert short.endswith(f"step-{step}")
