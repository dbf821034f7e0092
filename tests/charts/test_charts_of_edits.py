"""The chart of an edit: every fact as a bar, what was measured, and the names beside the bars."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core import charts
from kis_core.charts.common import LABEL_CHARACTERS
from kis_core.charts.spillover import APART, LABELLED, MOST_NAMED
from kis_core.charts.spillover import _names as names_beside
from tests.charts.chart_tools import layers_with, of_layer, specification
from tests.charts.edit_chart_tools import (
    AFTER,
    BEFORE,
    ROUNDING,
    SPAN,
    after,
    before,
    domains,
    frame,
    spillover,
)


def the_point(spec: dict[str, Any], shape: str) -> dict[str, Any]:
    """The layer of points of a shape."""
    (actual,) = (layer for layer in layers_with(spec, "point") if layer["mark"].get("shape") == shape)
    return actual


def test_every_fact_is_a_bar_from_zero_to_its_forecast() -> None:
    spec = before()
    bars = layers_with(spec, "rect")[0]
    x, x2, y, y2 = (bars["encoding"][channel]["field"] for channel in ("x", "x2", "y", "y2"))
    rows = of_layer(spec, bars)
    assert [row["fact"] for row in rows] == [10, 11, 12, 13, 14, 15]
    assert [row[y] for row in rows] == [-2.0, -1.0, -0.5, 0.0, 0.25, 1.0]
    assert {row[y2] for row in rows} == {0.0}
    assert [(row[x] + row[x2]) / 2 for row in rows] == pytest.approx([0, 1, 2, 3, 4, 5], abs=ROUNDING)
    for bar, following in pairwise(rows):
        assert bar[x] < bar[x2] < following[x], "side by side, with a gap"


def test_the_axis_is_the_span_asked_for_whatever_is_drawn() -> None:
    for facts in (BEFORE, AFTER):
        spec = specification(spillover(facts, span=(-7.0, 9.0)))
        assert {tuple(domain) for domain in domains(spec, "y")} == {(-7.0, 9.0)}
        assert layers_with(spec, "rect")[0]["encoding"]["y"]["title"] == "change of log-odds"


def test_what_was_measured_is_a_diamond_tied_to_its_forecast() -> None:
    spec = after()
    marks = the_point(spec, "diamond")
    measured = [(0, -2.5), (1, -0.25), (2, -0.75), (3, 0.5), (5, 1.5)]
    assert [(row["rank"], row["measured"]) for row in of_layer(spec, marks)] == measured
    (ties,) = (layer for layer in layers_with(spec, "rule") if "x" in layer["encoding"])
    assert [ties["encoding"][channel]["field"] for channel in ("x", "y", "y2")] == ["rank", "forecast", "measured"]
    assert [(row["rank"], row["measured"]) for row in of_layer(spec, ties)] == measured
    assert of_layer(before(), the_point(before(), "diamond")) == []


@pytest.mark.parametrize(("chart", "at"), [(before, (1, -1.0)), (after, (0, -2.5))])
def test_a_changed_answer_is_a_cross(chart: Callable[[], dict[str, Any]], at: tuple[int, float]) -> None:
    marks = the_point(chart(), "cross")
    assert (marks["encoding"]["x"]["field"], marks["encoding"]["y"]["field"]) == ("rank", "end")
    assert [(row["rank"], row["end"]) for row in of_layer(chart(), marks)] == [at]


def test_a_click_anywhere_above_or_below_a_bar_tells_its_fact() -> None:
    spec = before()
    (param,) = spec["params"]
    assert (param["name"], param["select"]["type"], param["select"]["fields"]) == (charts.FACT, "point", ["fact"])
    (marks,) = (layer for layer in spec["layer"] if "tooltip" in layer["encoding"])
    assert param["views"] == [marks["name"]]
    rows = of_layer(spec, marks)
    assert [row["fact"] for row in rows] == [10, 11, 12, 13, 14, 15]
    x, x2, y, y2 = (marks["encoding"][channel]["field"] for channel in ("x", "x2", "y", "y2"))
    assert {(row[y], row[y2]) for row in rows} == {SPAN}
    calculated = {step["as"]: step["calculate"] for step in marks["transform"]}
    assert (calculated[x], calculated[x2]) == ("datum.rank - 0.5", "datum.rank + 0.5"), "without a gap between"
    dash = "isValid(datum.measured) ? format(datum.measured, '+.3g') : '–'"
    assert calculated["measured_text"] == dash, "Vega formats null as 0"


def names(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Every name that is drawn."""
    return [row for layer in layers_with(spec, "text") for row in of_layer(spec, layer)]


def labels(facts: pd.DataFrame, span: tuple[float, float] = SPAN) -> set[str]:
    return set(names_beside(facts, span)["label"])


def test_those_whose_answer_changes_and_both_ends_are_named_on_the_inner_side() -> None:
    rows = {row["label"]: row for row in names(before())}
    drawn = {"subject 0", "subject 1 → French", "subject 2", "subject 5"}
    assert set(rows) == drawn, "and the bars of subjects 3 and 4 hardly show"
    assert (rows["subject 1 → French"]["rank"], rows["subject 1 → French"]["at"]) == (1, -1.0)
    assert (rows["subject 5"]["rank"], rows["subject 5"]["at"]) == (5, 1.0)
    assert all(row["side"] == ("left" if row["rank"] < 3 else "right") for row in rows.values())
    at = {row["label"]: row["at"] for row in names(after())}
    assert (at["subject 0 → sea"], at["subject 5"]) == (-2.5, 1.5), "where the measurement is"


def test_names_that_would_overlap_are_left_out() -> None:
    step = APART * (SPAN[1] - SPAN[0])
    facts = frame([-2.0, -2.0 + 0.9 * step, -2.0 + 1.8 * step, 0.0, 0.5, 0.75], flips={1: "French"})
    drawn = labels(facts)
    assert "subject 1 → French" in drawn, "a change of answer comes first"
    assert "subject 0" not in drawn
    assert "subject 2" not in drawn, "too near to the one that is named, though not to the first"
    wide = labels(facts, (-0.5, 0.5))
    assert {"subject 0", "subject 2"} <= wide, "what is near depends on the height"


def test_names_on_different_sides_do_not_overlap_and_a_bar_that_hardly_shows_has_none() -> None:
    facts = frame([-1.0, -0.9, -0.5, 0.2, 0.3, 1.0], measured=[1.0, -0.9, 0.1, 0.2, 0.3, 1.0], flips={0: "sea"})
    assert names_beside(facts, SPAN)["at"].tolist().count(1.0) == 2
    step = APART * (SPAN[1] - SPAN[0])
    facts = frame([-1.0, -0.9 * step, 0.0, 0.5 * step, 1.1 * step, 1.0], flips={3: "sea"})
    assert labels(facts) == {"subject 0", "subject 3 → sea", "subject 5"}, "the next one has no room beside the third"


def test_of_many_facts_only_a_few_are_named_and_a_long_name_is_cut_but_not_the_answer() -> None:
    values = [float(value) for value in range(-40, 40)]
    ranks = set(names_beside(frame(values), (-45, 45))["rank"])
    assert len(ranks) <= MOST_NAMED
    assert ranks <= {*range(LABELLED), *range(80 - LABELLED, 80)}
    changed = names_beside(frame(values, flips=dict.fromkeys(range(0, 80, 2), "x")), (-45, 45))
    assert len(changed) == MOST_NAMED
    assert all(label.endswith("→ x") for label in changed["label"])
    long = frame([-1.0, 1.0], subjects=["a" * 50, "b"], flips={0: "Liechtenstein"})
    assert f"{'a' * (LABEL_CHARACTERS - 1)}… → Liechtenstein" in labels(long)


@given(
    st.lists(st.floats(-100, 100), min_size=1, max_size=40),
    st.lists(st.integers(0, 39), max_size=12),
    st.floats(0.01, 1000),
)
def test_names_never_overlap(values: list[float], flips: list[int], height: float) -> None:
    facts = frame(sorted(values), flips={rank: "x" for rank in flips if rank < len(values)})
    rows = names_beside(facts, (-height / 2, height / 2))
    assert len(rows) <= MOST_NAMED
    assert not rows["rank"].duplicated().any()
    for _, side in rows.groupby("side"):
        for one, other in pairwise(sorted(side["at"])):
            assert other - one >= APART * height * (1 - ROUNDING)
