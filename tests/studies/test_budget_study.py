"""How good the forecasts of budgets are: factors and tables by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kis_core.studies.budgets import COLUMNS, factors, markdown
from tests.studies.study_tools import tables as tables_of


def rows() -> pd.DataFrame:
    """Two runs the forecast was chosen on, one kept apart, and one that ended before half was forgotten."""
    first = ("demo-gpt2-32", 0, "rome", 0, 8.0, True, 10.0, 7.0, 14.0, 0, 16.0, 0.5, 8.0, 18, 0.18, 9.0)
    second = ("demo-gpt2-32", 1, "rome", 0, 8.0, True, 4.0, 3.0, 5.0, 0, 8.0, 0.125, np.inf, 18, 0.18, 9.0)
    apart = ("demo-gpt2-128", 2, "rome", 0, 20.0, True, 20.0, 15.0, np.inf, 1, 60.0, 0.1, 5.0, 18, 0.18, 9.0)
    ended = ("demo-gpt2-256", 0, "rome", 0, 100.0, False, 90.0, 80.0, 99.0, 0, 99.0, 0.1, 5.0, 18, 0.18, 9.0)
    facts = [(0.1, 0.2, 0.3, 0.4, 0.5, 0.1, 0.2, 0.3, 0.4, 0.625), *[(0.1,) * 5 + (np.nan,) * 5] * 3]
    runs = [of_run + of_facts for of_run, of_facts in zip((first, second, apart, ended), facts, strict=True)]
    return pd.DataFrame(runs, columns=list(COLUMNS))


def test_factors_are_larger_over_smaller_and_of_runs_that_forgot_half() -> None:
    actual = factors(rows())
    assert actual["apart"].tolist() == [False, False, True]
    np.testing.assert_allclose(actual["forecast"], [1.25, 2.0, 1.0])
    np.testing.assert_allclose(actual["fixed_pool"], [2.0, 1.0, 3.0])
    np.testing.assert_allclose(actual["first_edits"], [1.0, np.inf, 4.0])
    constant = np.sqrt(8 * 0.5 * 8 * 0.125)  # fitted to the runs not kept apart: edits times mean P²
    np.testing.assert_allclose(actual["mean_p2"], [2.0, 2.0, constant / 0.1 / 20])
    assert actual["covered"].tolist() == [True, False, True]


def test_the_tables_say_so() -> None:
    quality, cells, facts = tables_of(markdown(rows())).values()
    assert list(quality[0].values()) == ["kept apart", "the budget", "1", "1.00", "100%", "100%"]
    assert list(quality[4].values()) == ["the others", "the budget", "2", "1.62", "50%", "50%"]
    assert list(cells[2].values()) == ["demo-gpt2-128", "2", "ROME", "20", "> 20 (15–)", "60", "18 (18%)"]
    assert cells[3]["measured"] == "> 100"
    pairs = ["0.10 / 0.10", "0.20 / 0.20", "0.30 / 0.30", "0.40 / 0.40", "0.50 / 0.62"]
    assert list(facts[0].values()) == ["demo-gpt2-32", "0", "ROME", *pairs]
    assert facts[3]["stand-ins and renewed gradients"] == "0.10 / –"


@pytest.mark.parametrize("name", ["forecast", "fixed_pool"])
def test_a_forecast_half_as_large_is_as_wrong_as_one_twice_as_large(name: str) -> None:
    there = rows().head(1)
    both = [factors(there.assign(**{name: there["measured"] * times}))[name].iloc[0] for times in (0.5, 2.0)]
    assert both == pytest.approx([2.0, 2.0])
