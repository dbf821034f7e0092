"""Text of users and models reaches the screen as text."""

from __future__ import annotations

import pytest

from kis_core.facts import Fact
from pages.parts.text import count, duration, plain, sentence, share

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
    assert made.replace("\\", "") == text


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
