"""How large keys are beside those of general text: quantiles, which are weak, and where one lies, in words."""

from __future__ import annotations

import numpy as np

from kis_core.covariance.whitener import Whitener
from kis_core.superposition import leverage, matrix

TEXT = leverage.quantiles(np.arange(101.0))


def test_by_hand() -> None:
    white = Whitener.fit(np.diag([1.0, 4.0])).whiten(np.array([[1.0, 0.0], [1.0, 2.0], [0.0, 0.0]]))
    assert matrix.leverage(white).tolist() == [1.0, 2.0, 0.0]
    assert TEXT.tolist() == [1.0, 5.0, 25.0, 50.0, 75.0, 95.0]
    assert leverage.weak_below(TEXT) == 5.0


def test_a_key_is_weak_below_the_quantile_and_a_zero_key_is_none() -> None:
    assert leverage.weak(np.array([0.0, 0.1, 4.9, 5.0, 80.0]), TEXT).tolist() == [False, True, True, False, False]


def test_without_text_nothing_is_known_and_nothing_is_weak() -> None:
    unknown = leverage.quantiles(np.empty(0))
    assert unknown.shape == TEXT.shape
    assert np.isnan([*unknown, leverage.weak_below(unknown)]).all()
    assert not leverage.weak(np.array([0.1]), unknown).any()
    assert leverage.place_in_text(3.0, unknown) == ""


def test_where_one_lies_in_words() -> None:
    words = [leverage.place_in_text(size, TEXT) for size in (0.5, 1.0, 60.0, 95.0)]
    assert words == [
        "below 1 % of general text",
        "between 1 and 5 % of general text",
        "between 50 and 75 % of general text",
        "above 95 % of general text",
    ]
