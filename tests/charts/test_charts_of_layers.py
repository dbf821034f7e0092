"""Charts of numbers over layers, model sizes and sample sizes: what is drawn, and what is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kis_core import charts
from tests.charts.chart_tools import NAN, layers_with, of_layer, specification, table
from tests.charts.every_chart import SCALED, convergence


def test_by_layer_draws_each_series_and_marks_the_layer() -> None:
    spec = specification(charts.by_layer((0, 1, 5), {"P[i, j]": (0.1, 0.2, 0.3), "P[j, i]": (0, 0, NAN)}, 5))
    lines = table(spec, "layer", "series", "value")
    first = [(row["layer"], row["value"]) for row in lines if row["series"] == "P[i, j]"]
    assert first == [(0, 0.1), (1, 0.2), (5, 0.3)]
    assert [row["value"] for row in lines if row["series"] == "P[j, i]"] == [0, 0, None]
    assert table(spec, "layer") == [{"layer": 5}]


@pytest.mark.parametrize("chart", [charts.kurtosis_by_layer, charts.kurtosis_by_size])
def test_kurtosis_is_drawn_with_its_interval_and_the_current_model_is_ringed(chart: Callable[..., Any]) -> None:
    spec = specification(chart(SCALED, current=("large", 1)))
    (bars,) = layers_with(spec, "rule")
    assert [{name: row[name] for name in SCALED} for row in of_layer(spec, bars)] == SCALED.to_dict("records")
    _, ring = layers_with(spec, "point")
    assert [(row["model"], row["layer"]) for row in of_layer(spec, ring)] == [("large", 1)]
    (param,) = spec["params"]
    assert (param["name"], param["select"]["fields"]) == (charts.MODEL, ["model", "layer"])
    assert len(layers_with(specification(chart(SCALED, current=("small", 1))), "point")) == 1


def test_kurtosis_by_layer_names_each_line_at_the_last_value_it_has() -> None:
    for kurtosis, ends in (
        (SCALED["kurtosis"], {("small", 3, 2.0), ("large", 2, 7.0)}),
        ([5.0, NAN, 9.0, 8.0, 7.0], {("small", 0, 5.0), ("large", 2, 7.0)}),
    ):
        spec = specification(charts.kurtosis_by_layer(SCALED.assign(kurtosis=kurtosis), current=("large", 1)))
        (names,) = layers_with(spec, "text")
        assert {(row["model"], row["layer"], row["kurtosis"]) for row in of_layer(spec, names)} == ends


def test_kurtosis_by_size_names_every_model_once_over_a_logarithmic_axis() -> None:
    frame = SCALED.assign(model=list("edcba"), parameters=[5, 4, 3, 2, 1])
    spec = specification(charts.kurtosis_by_size(frame, current=("large", 1)))
    assert {layer["encoding"]["x"]["scale"]["type"] for layer in spec["layer"]} == {"log"}
    below, above = layers_with(spec, "text")
    # from the smallest on, in turn
    assert [row["model"] for row in of_layer(spec, below)] == ["a", "c", "e"]
    assert [row["model"] for row in of_layer(spec, above)] == ["b", "d"]


def test_convergence_is_drawn_with_its_band_at_the_numbers_looked_at() -> None:
    spec = specification(convergence())
    sent = [(row["x"], row["low"], row["middle"], row["high"]) for row in of_layer(spec, spec["layer"][0])]
    assert sent == [(16, 1.0, 3.0, 5.0), (32, None, None, None), (128, 4.0, 4.0, 4.0)]
    (line,) = layers_with(spec, "line")
    assert (line["encoding"]["y"]["field"], line["encoding"]["y"]["title"]) == ("middle", "kurtosis")
    assert line["encoding"]["x"]["axis"]["values"] == [16, 32, 128]
