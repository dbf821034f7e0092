"""Charts under an edit: forecast against measurement, the losses of the search, layers."""

from __future__ import annotations

from typing import Any

import pytest

from kis_core import charts
from tests.charts.chart_tools import layers_with, of_layer, specification
from tests.charts.edit_chart_tools import GAINS, LOSES, ROUNDING, against, domains, frame
from tests.charts.every_chart import ADVICE


def dots(spec: dict[str, Any]) -> dict[str, Any]:
    (found,) = (layer for layer in layers_with(spec, "point") if "tooltip" in layer["encoding"])
    return found


def test_a_dot_stands_at_forecast_and_measurement_of_every_measured_fact() -> None:
    spec = against()
    marks = dots(spec)
    encoding = marks["encoding"]
    x, y = (encoding[channel]["field"] for channel in ("x", "y"))
    sent = [(row["fact"], row[x], row[y]) for row in of_layer(spec, marks)]
    assert sent == [(10, -2.0, -2.5), (11, -1.0, -0.25), (12, -0.5, -0.75), (13, 0.0, 0.5), (15, 1.0, 1.5)]
    assert [encoding[channel]["title"] for channel in ("x", "y")] == ["forecast shift", "measured shift"]
    for channel, values in (("color", [GAINS, LOSES]), ("shape", ["circle", "diamond"])):
        assert encoding[channel]["field"] == "outcome"
        assert encoding[channel]["scale"] == {"domain": ["stays", "flips"], "range": values}
    (param,) = spec["params"]
    assert (param["name"], param["select"]["fields"], param["views"]) == (charts.FACT, ["fact"], [marks["name"]])
    for picked, facts in ((12, [12]), (14, [])):  # the picked fact is ringed if it was measured
        spec = against(picked=picked)
        rings = [layer for layer in layers_with(spec, "point") if layer["mark"].get("filled") is False]
        assert [[row["fact"] for row in of_layer(spec, ring)] for ring in rings] == [facts, facts]


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
    assert [line["encoding"][channel]["field"] for channel in ("x", "y")] == ["step", "loss"]
    assert [(row["step"], row["loss"]) for row in of_layer(spec, line)] == [(0, 4.0), (1, 2.5), (2, 0.04)]
    assert of_layer(spec, enough) == [{"loss": 0.05}]
    assert enough["encoding"]["y"]["field"] == "loss"
    assert line["encoding"]["y"]["scale"]["zero"] is True, "a loss that hardly falls is seen to"


@pytest.mark.parametrize(("layer", "ringed"), [(5, [5]), (3, [])])
def test_layers_are_points_of_damage_and_success(layer: int, ringed: list[int]) -> None:
    spec = specification(charts.advice(ADVICE, layer=layer))
    marks = dots(spec)
    x, y = (marks["encoding"][channel]["field"] for channel in ("x", "y"))
    rows = of_layer(spec, marks)
    assert [(row["layer"], row[x], row[y]) for row in rows] == [(0, 0.5, 0.99), (1, 2.0, 0.5), (5, 1.0, 0.0)]
    colour = marks["encoding"]["color"]
    assert colour["field"] == "took"
    assert colour["scale"] == {"domain": ["takes", "does not take"], "range": [GAINS, LOSES]}
    (numbers,) = layers_with(spec, "text")
    assert numbers["encoding"]["text"]["field"] == "layer"
    assert of_layer(spec, numbers) == rows
    (ring,) = (one for one in layers_with(spec, "point") if one["mark"].get("filled") is False)
    assert [row["layer"] for row in of_layer(spec, ring)] == ringed
    (param,) = spec["params"]
    assert (param["name"], param["select"]["fields"], param["views"]) == (charts.LAYER, ["layer"], [marks["name"]])


def test_the_axes_of_the_advice_begin_at_zero_and_hold_all_layers() -> None:
    spec = specification(charts.advice(ADVICE, layer=1))
    assert all(domain == pytest.approx([0, 2.3], rel=ROUNDING) for domain in domains(spec, "x"))
    assert len(domains(spec, "x")) == len(spec["layer"])
    assert all(low == 0 and high > 1 for low, high in domains(spec, "y"))
    unhurt = specification(charts.advice(ADVICE.assign(damage=0.0), layer=1))
    assert domains(unhurt, "x")[0] == [0, 1.0]
