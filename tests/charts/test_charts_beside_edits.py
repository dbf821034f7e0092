"""Charts under an edit: forecast against measurement, the losses of the search, layers."""

from __future__ import annotations

from typing import Any

import pytest

from kis_core import charts
from tests.charts.chart_tools import layers_with, of_layer, specification
from tests.charts.edit_chart_tools import ROUNDING, against, domains, frame
from tests.charts.every_chart import ADVICE


def dots(spec: dict[str, Any]) -> dict[str, Any]:
    (actual,) = (layer for layer in layers_with(spec, "point") if "tooltip" in layer["encoding"])
    return actual


def test_a_dot_stands_at_forecast_and_measurement_of_every_measured_fact() -> None:
    spec = against()
    marks = dots(spec)
    encoding = marks["encoding"]
    x, y = (encoding[channel]["field"] for channel in ("x", "y"))
    sent = [(row["fact"], row[x], row[y]) for row in of_layer(spec, marks)]
    assert sent == [(10, -2.0, -2.5), (11, -1.0, -0.25), (12, -0.5, -0.75), (13, 0.0, 0.5), (15, 1.0, 1.5)]
    assert [encoding[channel]["title"] for channel in ("x", "y")] == ["forecast shift", "measured shift"]
    assert encoding["color"]["field"] == encoding["shape"]["field"] == "outcome"
    (param,) = spec["params"]
    assert (param["name"], param["select"]["fields"], param["views"]) == (charts.FACT, ["fact"], [marks["name"]])


def test_both_axes_hold_forecast_measurement_and_zero_and_are_alike() -> None:
    spec = against()
    # from -2.5 to 1.5, and a twentieth of that on either side; the unmeasured 0.25 does not count
    for channel in ("x", "y"):
        assert all(domain == pytest.approx([-2.7, 1.7], rel=ROUNDING) for domain in domains(spec, channel))
        assert len(domains(spec, channel)) == len(spec["layer"])
    (line,) = layers_with(spec, "line")
    low, high = of_layer(spec, line)
    assert low["forecast"] == low["measured"] == pytest.approx(-2.7, rel=ROUNDING), "where a forecast is right"
    assert high["forecast"] == high["measured"] == pytest.approx(1.7, rel=ROUNDING)
    positive = against(frame([1.0, 2.0], measured=[2.0, 3.0]))
    assert domains(positive, "x")[0] == pytest.approx([-0.15, 3.15], rel=ROUNDING)
    low, high = domains(against(frame([0.0, 0.0], measured=[0.0, 0.0])), "x")[0]
    assert low < 0 < high, "an axis has a length where nothing changed"


def test_the_losses_are_drawn_step_by_step_from_the_beginning() -> None:
    spec = specification(charts.losses((4.0, 2.5, 0.04), stop=0.05))
    (line,), (enough,) = layers_with(spec, "line"), layers_with(spec, "rule")
    assert [(row["step"], row["loss"]) for row in of_layer(spec, line)] == [(0, 4.0), (1, 2.5), (2, 0.04)]
    assert of_layer(spec, enough) == [{"loss": 0.05}]


def test_layers_are_points_of_damage_and_success() -> None:
    spec = specification(charts.advice(ADVICE, layer=5))
    marks = dots(spec)
    x, y = (marks["encoding"][channel]["field"] for channel in ("x", "y"))
    rows = of_layer(spec, marks)
    assert [(row["layer"], row[x], row[y]) for row in rows] == [(0, 0.5, 0.99), (1, 2.0, 0.5), (5, 1.0, 0.0)]
    assert marks["encoding"]["color"]["field"] == "took"
    (param,) = spec["params"]
    assert (param["name"], param["select"]["fields"], param["views"]) == (charts.LAYER, ["layer"], [marks["name"]])
