"""Numbers and counts in texts: what is missing is a dash, what rounds to zero has no sign."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core.wording import MISSING, counted, number, ranges, share

ROOT = Path(__file__).parents[1]
MAKERS = {"pages/parts/figures/grid.py"}  # what draws tables for all pages


@pytest.mark.parametrize("value", [None, math.nan, np.float32("nan")])
def test_a_missing_number_is_a_dash(value: float | None) -> None:
    assert number(value, "+.3f") == MISSING


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (-0.0004, "+.3f", "+0.000"),
        (-0.0004, ".3f", "0.000"),
        (-0.0006, "+.3f", "-0.001"),
        (1234.5, ",.1f", "1,234.5"),
        (-math.inf, ".1f", "-∞"),
    ],
)
def test_numbers_by_hand(value: float, form: str, text: str) -> None:
    assert number(value, form) == text


@given(st.floats(), st.sampled_from(["+.3f", ".3f", ".1f", "+.2f", ".0%"]))
def test_no_number_reads_badly(value: float, form: str) -> None:
    text = number(value, form)
    assert not re.search("nan|inf|None|\u2212", text)
    assert not re.fullmatch(r"-0\.?0*%?", text)


def test_no_share_is_rounded_to_a_false_0_or_100() -> None:
    assert [share(p) for p in (0.0, 0.001, 0.5, 0.9999)] == ["< 0.1 %", "0.1 %", "50.0 %", "> 99.9 %"]


def test_counts_by_hand() -> None:
    assert [counted(n, "pair") for n in (0, 1, 2, 1200)] == ["0 pairs", "1 pair", "2 pairs", "1,200 pairs"]
    assert [counted(n, "row was", "rows were") for n in (1, 2)] == ["1 row was", "2 rows were"]


def test_ranges_by_hand() -> None:
    assert [ranges(numbers) for numbers in ((), (4,), (0, 1, 2, 3, 5), (1, 3, 4))] == ["", "4", "0–3, 5", "1, 3–4"]


def test_every_table_of_a_page_shows_what_is_missing_in_one_way() -> None:
    """`st.dataframe` would write None."""
    pages = [ROOT / "app.py", *(ROOT / "pages").rglob("*.py")]
    assert len(pages) > len(MAKERS)
    drawing = {str(path.relative_to(ROOT)) for path in pages if "st.dataframe(" in path.read_text(encoding="utf-8")}
    assert drawing == MAKERS
