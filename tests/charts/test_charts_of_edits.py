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
from kis_core.charts.common import AROUND, LABEL_CHARACTERS
from kis_core.charts.spillover import APART, LABELLED, MOST_NAMED
from kis_core.charts.spillover import _names as names_beside
from tests.charts.chart_tools import INK, PAPER, layers_with, of_layer, specification
from tests.charts.edit_chart_tools import (
    AFTER,
    BEFORE,
    GAINS,
    LOSES,
    ROUNDING,
    SPAN,
    after,
    before,
    domains,
    frame,
    spillover,
)


def hits(spec: dict[str, Any]) -> dict[str, Any]:
    """The layer that takes clicks and shows what lies under the mouse."""
    (found,) = (layer for layer in spec["layer"] if "tooltip" in layer["encoding"])
    return found


# Every fact as a bar


def test_every_fact_is_a_bar_from_zero_to_its_forecast() -> None:
    spec = before()
    bars = layers_with(spec, "rect")[0]
    x, x2, y, y2 = (bars["encoding"][channel]["field"] for channel in ("x", "x2", "y", "y2"))
    rows = of_layer(spec, bars)
    assert [(row["fact"], row[y2], row[y]) for row in rows] == [
        (10, 0.0, -2.0), (11, 0.0, -1.0), (12, 0.0, -0.5), (13, 0.0, 0.0), (14, 0.0, 0.25), (15, 0.0, 1.0),
    ]  # fmt: skip
    assert [(row[x] + row[x2]) / 2 for row in rows] == pytest.approx([0, 1, 2, 3, 4, 5], abs=ROUNDING)
    for one, other in pairwise(rows):
        assert one[x] < one[x2] < other[x], "side by side, with a gap"


def test_bars_tell_by_colour_who_loses() -> None:
    colour = layers_with(before(), "rect")[0]["encoding"]["color"]
    assert (colour["field"], colour["scale"]) == ("kind", {"domain": ["loses", "gains"], "range": [LOSES, GAINS]})
    assert "loses certainty" in colour["legend"]["labelExpr"]


def test_bars_of_a_shift_tell_which_way_it_goes() -> None:
    told = frame([-1.0, 0.5], kinds=("against", "along"))
    colour = layers_with(specification(spillover(told)), "rect")[0]["encoding"]["color"]
    assert colour["scale"]["domain"] == ["against", "along"]
    assert "pushed along δ" in colour["legend"]["labelExpr"]


def test_the_axis_is_the_span_asked_for_whatever_is_drawn() -> None:
    for told in (BEFORE, AFTER):
        spec = specification(spillover(told, span=(-7.0, 9.0)))
        assert {tuple(domain) for domain in domains(spec, "y")} == {(-7.0, 9.0)}
        assert all(
            layer["encoding"]["y"]["scale"]["nice"] is False
            for layer in spec["layer"]
            if "scale" in layer["encoding"].get("y", {})
        )
        assert {tuple(domain) for domain in domains(spec, "x")} == {(-1.5, 6.5)}, "all six and room at either end"
        assert layers_with(spec, "rect")[0]["encoding"]["y"]["title"] == "change of log-odds"
        assert spec["height"] == 400 + AROUND


@pytest.mark.parametrize("chart", [before, after])
def test_the_zero_line_is_drawn_once(chart: Callable[[], dict[str, Any]]) -> None:
    spec = chart()
    rules = [layer for layer in layers_with(spec, "rule") if "x" not in layer["encoding"]]
    assert [of_layer(spec, layer) for layer in rules] == [[{"y": 0.0}]]


def diamonds(spec: dict[str, Any]) -> dict[str, Any]:
    (found,) = (layer for layer in layers_with(spec, "point") if layer["mark"].get("shape") == "diamond")
    return found


def crosses(spec: dict[str, Any]) -> dict[str, Any]:
    (found,) = (layer for layer in layers_with(spec, "point") if layer["mark"].get("shape") == "cross")
    return found


def test_what_was_measured_is_a_diamond_tied_to_its_forecast() -> None:
    spec = after()
    marks = diamonds(spec)
    assert (marks["encoding"]["x"]["field"], marks["encoding"]["y"]["field"]) == ("rank", "measured")
    measured = [(0, -2.5), (1, -0.25), (2, -0.75), (3, 0.5), (5, 1.5)]
    assert [(row["rank"], row["measured"]) for row in of_layer(spec, marks)] == measured
    (ties,) = (layer for layer in layers_with(spec, "rule") if "x" in layer["encoding"])
    assert [ties["encoding"][channel]["field"] for channel in ("x", "y", "y2")] == ["rank", "forecast", "measured"]
    assert [(row["rank"], row["measured"]) for row in of_layer(spec, ties)] == measured


def test_before_the_edit_there_are_no_diamonds() -> None:
    spec = before()
    assert of_layer(spec, diamonds(spec)) == []


@pytest.mark.parametrize(("chart", "at"), [(before, (1, -1.0)), (after, (0, -2.5))])
def test_an_answer_that_changes_is_a_cross_where_its_fact_ends(
    chart: Callable[[], dict[str, Any]], at: tuple[int, float]
) -> None:
    spec = chart()
    marks = crosses(spec)
    assert (marks["encoding"]["x"]["field"], marks["encoding"]["y"]["field"]) == ("rank", "end")
    assert [(row["rank"], row["end"]) for row in of_layer(spec, marks)] == [at]


@pytest.mark.parametrize(("picked", "facts"), [(12, [12]), (10, [10]), (99, []), (None, [])])
def test_the_picked_fact_is_ringed(picked: int | None, facts: list[int]) -> None:
    spec = specification(spillover(picked=picked))
    rings = [layer for layer in layers_with(spec, "point") if layer["mark"].get("filled") is False]
    assert [layer["mark"]["stroke"] for layer in rings] == [PAPER, INK], "seen on every bar"
    for ring in rings:
        assert [row["fact"] for row in of_layer(spec, ring)] == facts
        assert (ring["encoding"]["x"]["field"], ring["encoding"]["y"]["field"]) == ("rank", "forecast")


def test_a_click_anywhere_above_or_below_a_bar_tells_its_fact() -> None:
    spec = before()
    (param,) = spec["params"]
    assert (param["name"], param["select"]["type"], param["select"]["fields"]) == (charts.FACT, "point", ["fact"])
    marks = hits(spec)
    assert param["views"] == [marks["name"]]
    assert spec["layer"][-1] is marks, "nothing lies above it"
    rows = of_layer(spec, marks)
    assert [row["fact"] for row in rows] == [10, 11, 12, 13, 14, 15]
    y, y2 = (marks["encoding"][channel]["field"] for channel in ("y", "y2"))
    assert {(row[y], row[y2]) for row in rows} == {SPAN}
    edges = {step["as"]: step["calculate"] for step in marks["transform"]}
    x, x2 = (marks["encoding"][channel]["field"] for channel in ("x", "x2"))
    assert (edges[x], edges[x2]) == ("datum.rank - 0.5", "datum.rank + 0.5"), "without a gap between"


def test_a_bar_tells_all_about_its_fact_under_the_mouse() -> None:
    tooltip = hits(before())["encoding"]["tooltip"]
    assert [one["field"] for one in tooltip] == ["told", "p", "forecast", "measured_text", "answers"]


def names(told: pd.DataFrame, span: tuple[float, float] = SPAN) -> list[dict[str, Any]]:
    """Every name that is drawn, with the side it stands at and its colour."""
    spec = specification(charts.spillover(told, quantity="x", span=span))
    return [
        row | {"align": layer["mark"]["align"], "dx": layer["mark"]["dx"], "colour": layer["mark"]["color"]}
        for layer in layers_with(spec, "text")
        for row in of_layer(spec, layer)
    ]


def labels(told: pd.DataFrame, span: tuple[float, float] = SPAN) -> set[str]:
    return {row["label"] for row in names(told, span)}


# Names beside the bars


def test_those_whose_answer_changes_and_both_ends_are_named() -> None:
    found = names(BEFORE)
    assert {row["label"] for row in found} == {
        "subject 0", "subject 1 → French", "subject 2", "subject 5",
    }, "and the bars of subjects 3 and 4 hardly show"  # fmt: skip
    at = {row["label"]: (row["rank"], row["at"]) for row in found}
    assert at["subject 1 → French"] == (1, -1.0)
    assert at["subject 5"] == (5, 1.0)


def test_a_name_stands_on_the_inner_side_of_its_bar() -> None:
    for row in names(BEFORE):
        assert row["align"] == row["side"] == ("left" if row["rank"] < 3 else "right")
        assert (row["dx"] > 0) == (row["align"] == "left")


def test_a_change_of_answer_is_named_in_another_colour() -> None:
    colours = {row["label"]: row["colour"] for row in names(BEFORE)}
    assert colours.pop("subject 1 → French") == LOSES
    assert LOSES not in colours.values()


def test_a_name_stands_where_the_measurement_is() -> None:
    at = {row["label"]: row["at"] for row in names(AFTER)}
    assert at["subject 0 → sea"] == -2.5
    assert at["subject 5"] == 1.5


def test_names_that_would_overlap_are_left_out() -> None:
    step = APART * (SPAN[1] - SPAN[0])
    told = frame([-2.0, -2.0 + 0.9 * step, -2.0 + 1.8 * step, 0.0, 0.5, 0.75], flips={1: "French"})
    found = labels(told)
    assert "subject 1 → French" in found, "a change of answer comes first"
    assert "subject 0" not in found
    assert "subject 2" not in found, "too near to the one that is named, though not to the first"
    wide = labels(told, (-0.5, 0.5))
    assert {"subject 0", "subject 2"} <= wide, "what is near depends on the height"


def test_names_on_different_sides_do_not_overlap() -> None:
    told = frame([-1.0, -0.9, -0.5, 0.2, 0.3, 1.0], measured=[1.0, -0.9, 0.1, 0.2, 0.3, 1.0], flips={0: "sea"})
    found = names(told)
    assert [row["at"] for row in found].count(1.0) == 2


def test_a_bar_that_hardly_shows_is_left_unnamed_unless_the_answer_changes() -> None:
    step = APART * (SPAN[1] - SPAN[0])
    told = frame([-1.0, -0.9 * step, 0.0, 0.5 * step, 1.1 * step, 1.0], flips={3: "sea"})
    assert labels(told) == {"subject 0", "subject 3 → sea", "subject 5"}, "the next one has no room beside the third"


def test_of_many_facts_only_a_few_are_named() -> None:
    told = frame([float(value) for value in range(-40, 40)])
    found = names(told, (-45, 45))
    assert len(found) <= MOST_NAMED
    assert {row["rank"] for row in found} <= {*range(LABELLED), *range(80 - LABELLED, 80)}
    flips = frame([float(value) for value in range(-40, 40)], flips=dict.fromkeys(range(0, 80, 2), "x"))
    named = names(flips, (-45, 45))
    assert len(named) == MOST_NAMED
    assert all(row["label"].endswith("→ x") for row in named)


def test_a_long_name_is_cut_but_not_the_answer() -> None:
    told = frame([-1.0, 1.0], subjects=["a" * 50, "b"], flips={0: "Liechtenstein"})
    (long,) = (row["label"] for row in names(told) if row["rank"] == 0)
    assert long == f"{'a' * (LABEL_CHARACTERS - 1)}… → Liechtenstein"


@given(
    st.lists(st.floats(-100, 100), min_size=1, max_size=40),
    st.lists(st.integers(0, 39), max_size=12),
    st.floats(0.01, 1000),
)
def test_names_never_overlap(values: list[float], flips: list[int], height: float) -> None:
    told = frame(sorted(values), flips={rank: "x" for rank in flips if rank < len(values)})
    found = names_beside(told, (-height / 2, height / 2))
    assert len(found) <= MOST_NAMED
    assert not found["rank"].duplicated().any()
    for _, side in found.groupby("side"):
        for one, other in pairwise(sorted(side["at"])):
            assert other - one >= APART * height * (1 - ROUNDING)


def test_a_tooltip_shows_a_dash_for_what_was_not_measured() -> None:
    """Vega formats null as 0."""
    spec = specification(spillover(BEFORE))
    hits = next(layer for layer in spec["layer"] if "tooltip" in layer["encoding"])
    (calculated,) = [step for step in hits["transform"] if step.get("as") == "measured_text"]
    assert calculated["calculate"] == "isValid(datum.measured) ? format(datum.measured, '+.3g') : '–'"
    assert [one["field"] for one in hits["encoding"]["tooltip"] if one.get("title") == "measured"] == ["measured_text"]
