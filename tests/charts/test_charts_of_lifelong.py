"""Charts of a sequence of edits: what is drawn at a step, and that from step to step data alone change."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kis_core import charts
from tests.charts import every_chart
from tests.charts.chart_tools import BLUE, NAN, ORANGE, layers_with, of_layer, specification
from tests.charts.every_chart import DAMAGE, HELD, INF, LINES, LIVES, TWO

FACTS = "unrelated"


def retention(*given: Any, **options: Any) -> dict[str, Any]:
    return specification(every_chart.retention(*given, **options))


def over_edits(*given: Any, **options: Any) -> dict[str, Any]:
    return specification(every_chart.over_edits(*given, **options))


def damage(frame: pd.DataFrame = DAMAGE, *, step: int = 5, picked: int | None = 4) -> dict[str, Any]:
    return specification(charts.damage(frame, step=step, picked=picked))


def lines(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The faint line, and the strong one."""
    faint, strong = layers_with(spec, "line")
    return [faint, strong]


def marked_step(spec: dict[str, Any]) -> list[int]:
    rules = [layer for layer in layers_with(spec, "rule") if "x" in layer["encoding"]]
    return [row["edits"] for layer in rules for row in of_layer(spec, layer)]


def domain(spec: dict[str, Any], channel: str) -> list[list[float]]:
    scales = [layer["encoding"].get(channel, {}).get("scale", {}) for layer in spec["layer"]]
    return [scale["domain"] for scale in scales if "domain" in scale]


def without_data(spec: dict[str, Any]) -> str:
    """A specification but for its numbers, and but for the names that data and marks are counted by."""
    bare = json.dumps({name: part for name, part in spec.items() if name != "datasets"}, sort_keys=True)
    return re.sub(r'"(data-[0-9a-f]+|view_\d+)"', '"-"', bare)


STEPPED: dict[str, Callable[[int], dict[str, Any]]] = {
    "several runs": lambda step: retention(TWO, step=step),
    "one run": lambda step: retention(HELD[HELD["edits"] < 10], step=step),
    "rings": lambda step: over_edits(step=step, dotted=["measured"]),
    "logarithmic": lambda step: over_edits(LINES.assign(change=1.5), step=step, log=True),
    "damage": lambda step: damage(step=step),
}


@pytest.mark.parametrize("name", STEPPED)
def test_from_step_to_step_only_data_change(name: str) -> None:
    first, second, last = (STEPPED[name](step) for step in (5, 10, 15))
    assert without_data(first) == without_data(second) == without_data(last)
    assert marked_step(first) == [5]
    assert marked_step(second) == [10]


def test_when_one_line_falls_below_the_other_only_data_change() -> None:
    assert HELD["share"][1] < HELD["share"][5], "after 5 edits more edits hold than facts, at first it is the reverse"
    assert without_data(retention(step=0)) == without_data(retention(step=5))


def test_the_lines_are_strong_up_to_the_step() -> None:
    spec = retention(step=10)
    faint, strong = lines(spec)
    sent = [(row["edits"], row["series"], row["share"]) for row in of_layer(spec, faint)]
    assert sent[:5] == [(0, FACTS, 1.0), (5, FACTS, 0.75), (10, FACTS, 0.5), (15, FACTS, 0.25), (0, "edited", None)]
    assert sent[5:] == [(5, "edited", 1.0), (10, "edited", 0.8), (15, "edited", 0.6)]
    assert {row["edits"] for row in of_layer(spec, strong)} == {0, 5, 10}


def values_beside(spec: dict[str, Any]) -> list[tuple[str, str, int]]:
    """The values beside the lines, their colours, and whether above or below."""
    return [
        (row["text"], layer["mark"]["color"], int(np.sign(layer["mark"]["dy"])))
        for layer in layers_with(spec, "text")
        for row in of_layer(spec, layer)
    ]


def test_each_line_ends_with_its_value_and_the_two_stand_apart() -> None:
    assert values_beside(retention(step=0)) == [("100%", BLUE, -1)]
    assert values_beside(retention(step=5)) == [("75%", BLUE, 1), ("100%", ORANGE, -1)]
    assert values_beside(retention(step=12)) == [("50%", BLUE, 1), ("80%", ORANGE, -1)]


def test_lines_over_edits_leave_out_what_is_not_finite() -> None:
    spec = over_edits(step=5, quantity="a\\b  c")
    faint, strong = lines(spec)
    sent = [(row["kind"], row["edits"], row["change"]) for row in of_layer(spec, faint)]
    assert sent[:3] == [("measured", 0, 0.0), ("measured", 5, -1.0), ("measured", 10, -4.0)]
    assert sent[3:] == [("forecast", 0, 0.0), ("forecast", 5, -1.5), ("forecast", 10, -2.0), ("guess", 10, 3.0)]
    assert [row["edits"] for row in of_layer(spec, strong)] == [0, 5, 0, 5]
    assert faint["encoding"]["y"]["title"] == "a/b c"


def test_a_logarithmic_axis_leaves_out_what_it_cannot_show() -> None:
    spec = over_edits(log=True)
    assert [(row["kind"], row["edits"]) for row in of_layer(spec, lines(spec)[0])] == [("guess", 10)]
    assert lines(spec)[0]["encoding"]["y"]["scale"]["type"] == "log"


def test_rings_are_drawn_up_to_the_step_and_have_no_line() -> None:
    spec = over_edits(dotted=["measured"], step=5)
    for line in lines(spec):
        assert "measured" not in {row["kind"] for row in of_layer(spec, line)}
    (rings,) = (layer for layer in layers_with(spec, "point") if layer["mark"].get("filled") is False)
    assert [(row["kind"], row["edits"]) for row in of_layer(spec, rings)] == [("measured", 0), ("measured", 5)]


def test_every_fact_and_step_is_a_cell_with_its_loss() -> None:
    spec = damage()
    cells, *_ = layers_with(spec, "rect")
    x, x2, y, y2 = (cells["encoding"][channel]["field"] for channel in ("x", "x2", "y", "y2"))
    rows = of_layer(spec, cells)
    places = [(row[x], row[x2], row[y], row[y2], row["fact"]) for row in rows]
    assert places[:3] == [(0, 5, 0, 1, 7), (0, 5, 1, 2, 4), (5, 10, 0, 1, 7)]
    assert places[3:] == [(5, 10, 1, 2, 4), (10, 15, 0, 1, 7), (10, 15, 1, 2, 4)]
    assert [row["change"] for row in rows] == [0.0, 0.0, -1.0, 0.5, -8.0, 2.0], "under the mouse, unclamped"
    assert domain(spec, "x") == [[0, 15]] * len(domain(spec, "x"))
    assert domain(spec, "y") == [[2, 0]] * len(domain(spec, "y")), "the first forgotten on top"
    colour = cells["encoding"]["color"]
    assert (colour["field"], colour["scale"]["domain"]) == ("shown", [-5.0, 5.0]), "the 90th percentile"
    assert [row["shown"] for row in rows] == [0.0, 0.0, 1.0, -0.5, 5.0, -2.0], "a loss is above 0"
    (dots,) = layers_with(spec, "point")
    x, y = dots["encoding"]["x"]["field"], dots["encoding"]["y"]["field"]
    wrong = [(row[x], row[y]) for row in of_layer(spec, dots)]
    assert wrong == [(7.5, 0.5), (12.5, 0.5), (12.5, 1.5)], "dots in the middle of their cells"
    (param,) = spec["params"]
    assert (param["name"], param["select"]["fields"]) == (charts.FACT, ["fact"])


def test_what_is_not_finite_takes_no_part_in_the_clamping() -> None:
    spec = damage(DAMAGE.assign(change=[0.0, 0.0, NAN, 2.0, -INF, 2.0]))
    cells, *_ = layers_with(spec, "rect")
    assert cells["encoding"]["color"]["scale"]["domain"] == [-2.0, 2.0]
    shown = [row["shown"] for row in of_layer(spec, cells)]
    assert shown[2] is None
    assert shown[4] == 2.0, "endless loss is the strongest there is"
    for change in (0.0, NAN):
        without = layers_with(damage(DAMAGE.assign(change=change)), "rect")[0]
        assert without["encoding"]["color"]["scale"]["domain"] == [-1.0, 1.0], "without any change there is a range"


def test_models_stand_by_width_and_runs_that_never_came_to_half_are_triangles() -> None:
    spec = specification(charts.lifetimes(LIVES))
    (points,), (bars,) = layers_with(spec, "point"), layers_with(spec, "rule")
    encoding = points["encoding"]
    assert (encoding["x"]["sort"], encoding["xOffset"]["sort"]) == (["small", "large"], ["ROME", "MEMIT"])
    sent = [(row["name"], row["middle"], row[encoding["shape"]["field"]]) for row in of_layer(spec, points)]
    assert sent == [("ROME", 10, "reached"), ("ROME", 40, "not reached: at least"), ("MEMIT", 30, "reached")]
    low, high = bars["encoding"]["y"]["field"], bars["encoding"]["y2"]["field"]
    spreads = [(row[low], row[high]) for row in of_layer(spec, bars)]
    assert spreads == [(5.0, 20.0), (40.0, 40.0), (20.0, 45.0)], "one run has no bar"


TWELVE = [f"method {k}" for k in range(12)]


def told_apart(layer: dict[str, Any], *channels: str) -> int:
    """How many of the twelve look different, by what these channels of a layer make of them."""
    ranges = [layer["encoding"][channel]["scale"] for channel in channels]
    assert all(scale["domain"] == TWELVE for scale in ranges)
    return len({json.dumps(look) for look in zip(*(scale["range"] for scale in ranges), strict=True)})


def test_twelve_methods_are_told_apart_by_more_than_eight_colours() -> None:
    share = pd.DataFrame({"run": TWELVE, "edits": 5, "series": FACTS, "share": 0.5})
    band = share.assign(recall=0.5, recall_low=0.4, recall_high=0.6)
    for spec in (retention(share), specification(charts.budget(band, band.iloc[:0], most=10))):
        (marks,) = (layer for layer in layers_with(spec, "point") if "shape" in layer["encoding"])
        assert told_apart(marks, "color", "shape") == 12
        assert {row["run"] for row in of_layer(spec, marks)} == set(TWELVE[8:]), "the first are plain lines"
    lives = pd.DataFrame({"model": "m", "width": 32, "name": TWELVE, "middle": 9.0, "low": 8.0, "high": 10.0})
    (points,) = layers_with(specification(charts.lifetimes(lives.assign(unreached=0))), "point")
    assert told_apart(points, "fill", "stroke") == 12
