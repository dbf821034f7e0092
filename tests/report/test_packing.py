"""Numbers of a report: as many decimals as are said, rounded as the library writes them."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kis_core.report.packing import MISSING, drawable, packed, rounded
from kis_core.wording import number

TIES = [0.0005, 0.0015, 0.0025, -0.0005, 1.0005, 2.5e-4, 0.0625, 0.1235, -0.0004]
"""In binary, just above or below the middle of two steps, or there: products with 1,000 hide on which side."""


def unpacked(matrix: dict[str, Any]) -> np.ndarray:
    """As the script of a report reads it."""
    kind = {16: "<i2", 64: "<f8"}[matrix["bits"]]
    whole = np.frombuffer(base64.b64decode(matrix["data"]), kind).astype(float)
    return np.where(whole == MISSING, np.nan, whole) if matrix["bits"] == 16 else whole


@given(st.lists(st.floats(-1e9, 1e9) | st.floats(-2, 2) | st.sampled_from(TIES), min_size=1))
def test_numbers_come_back_as_the_formatter_writes_them(values: list[float]) -> None:
    back = unpacked(packed(np.array(values), 3)) / 1000
    assert [number(value) for value in back] == [number(value) for value in values]


def test_few_bits_where_they_are_enough() -> None:
    assert packed(np.array([32.767, -32.767, np.nan]), 3)["bits"] == 16
    large = packed(np.array([32.768, np.nan, -32.768]), 3)
    assert large["bits"] == 64
    np.testing.assert_array_equal(unpacked(large), [32768, np.nan, -32768])
    np.testing.assert_array_equal(unpacked(packed(np.array([np.nan, np.inf, -0.0]), 3)), [np.nan, np.nan, 0])
    assert rounded(np.array([89.95, 90.05]), 1).tolist() == [900, 900], "as Python formats them"
    assert drawable([0.0012345678, np.inf, np.nan, -2.0]) == [0.0012346, None, None, -2.0]
