"""How links write down the numbers of an edit: its strength, and the settings of its search."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pages.parts.frame.choices import MOST_CHARACTERS, Number, SettingsChoice
from tests.simulator.edit_frame_tools import ROUNDING

WRITTEN = 0.005  # a strength is written with two digits
SIX_DIGITS = 5e-7  # a setting with six
NAMES = ("steps", "clamp", "mean_key")


@given(st.floats(0, 999))
def test_a_number_comes_back_to_two_digits(value: float) -> None:
    kind = Number(0.0, 0.0, 999.0)
    assert kind.read(kind.write(value)) == pytest.approx(value, abs=WRITTEN + ROUNDING * value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (0.0, "0"), (0.05, "0.05"), (0.5, "0.5"), (10.0, "10"), (100.0, "100"), (1.5, "1.5")],
)
def test_a_number_is_written_as_people_write_it(value: float, text: str) -> None:
    assert Number(0.0, 0.0, 999.0).write(value) == text


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("0.33", 0.33), ("1.5", 1.5), ("001", 1.0), ("1.50", 1.5)])
def test_a_number_is_read(text: str, value: float) -> None:
    assert Number(1.0, 0.0, 1.5).read(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "-0.5", "1.51", "2", "0.001", "1e0", "1.", ".5", "nan", "inf", "1,5", " 1", "1\n", "+1", "1000", "one", "0x1"],
)
def test_a_number_out_of_its_range_or_none_is_refused_with_the_range(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("a number from 0 to 1.5")):
        Number(1.0, 0.0, 1.5).read(text)


@pytest.mark.parametrize("text", ["0.49", "4.01"])
def test_both_ends_of_a_range_count(text: str) -> None:
    kind = Number(1.0, 0.5, 4.0)
    assert (kind.read("0.5"), kind.read("4")) == (0.5, 4.0)
    with pytest.raises(ValueError, match=re.escape("from 0.5 to 4")):
        kind.read(text)


@given(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 999_999_999_999), min_size=1))
def test_settings_come_back(millionths: dict[str, int]) -> None:
    kind = SettingsChoice(NAMES)
    settings = tuple(sorted((name, number / 1e6) for name, number in millionths.items()))
    found = kind.read(kind.write(settings))
    assert [name for name, _ in found] == [name for name, _ in settings]
    assert [number for _, number in found] == pytest.approx([number for _, number in settings], abs=SIX_DIGITS)
    assert kind.read(kind.write(found)) == found


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ((("steps", 20.0),), "steps:20"),
        ((("steps", 100),), "steps:100"),
        ((("clamp", 0.5), ("mean_key", 0.0)), "clamp:0.5~mean_key:0"),
        ((("clamp", 1 / 3),), "clamp:0.333333"),
        ((), ""),
    ],
)
def test_settings_are_written_as_people_write_them(settings: tuple[tuple[str, float], ...], text: str) -> None:
    assert SettingsChoice(NAMES).write(settings) == text


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("steps:20", (("steps", 20.0),)),
        ("steps:20~clamp:0.0625", (("clamp", 0.0625), ("steps", 20.0))),
        ("mean_key:1~mean_key:0", (("mean_key", 0.0),)),
    ],
)
def test_settings_are_read_by_name_the_last_one_counts(text: str, settings: tuple[tuple[str, float], ...]) -> None:
    assert SettingsChoice(NAMES).read(text) == settings


@pytest.mark.parametrize(
    "text",
    [
        "", "steps", "steps:", "steps:-1", "steps:1e3", "steps:nan", "steps:20~", "~steps:20", "steps=20", "Steps:20",
        "seed:1", "steps:1234567", "steps:1.", "steps:20\n", "steps:20~seed:1", "steps :20", "steps:20,clamp:1",
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused_with_the_names_there_are(text: str) -> None:
    with pytest.raises(ValueError, match=r"written like steps:20, with the names steps, clamp, mean_key$"):
        SettingsChoice(NAMES).read(text)


@given(st.from_regex(r"(steps|clamp):\d{1,9}(\.\d{0,8})?(~steps:\d)?", fullmatch=True))
def test_what_looks_like_settings_is_read_or_refused(text: str) -> None:
    kind = SettingsChoice(NAMES)
    try:
        value = kind.read(text)
    except ValueError as refusal:
        said = str(refusal)
    else:
        assert kind.read(kind.write(value)) == value
        return
    assert "settings are written like" in said


def test_very_many_settings_are_read_whole_or_not_at_all() -> None:
    text = "steps:12~" * (MOST_CHARACTERS // len("steps:12~") - 1) + "clamp:123456"
    assert len(text) == MOST_CHARACTERS + 1
    with pytest.raises(ValueError, match=r"written like|at most"):
        SettingsChoice(NAMES).read(text)
