"""Charts of an edit: who is hurt, forecast against measurement, the value's losses, and layers beside each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import altair as alt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kis_core import charts
from kis_core.charts.common import LABEL_CHARACTERS
from kis_core.charts.spillover import APART, LABELLED, MOST_NAMED
from kis_core.charts.spillover import _names as names_beside
from tests.unit.chart_tools import HOSTILE, drawn, layers_with, links, of_layer, specification, table

ROUNDING = 1e-9  # a few float64 operations
NAN = float("nan")
SPAN = (-3.0, 2.0)
LOSES, GAINS = "#d55e00", "#0072b2"  # orange and blue of Okabe and Ito
MEASURED_COLUMNS = ("forecast", "measured")


def frame(
    forecast: list[float],
    *,
    measured: list[float] | None = None,
    flips: dict[int, str] | None = None,
    kinds: tuple[str, str] = ("loses", "gains"),
    subjects: list[str] | None = None,
) -> pd.DataFrame:
    """What `simulator.spill_frame` gives: facts 10, 11, … by rising forecast; `flips` by rank."""
    count, flips = len(forecast), flips or {}
    told = [flips.get(rank, "") for rank in range(count)]
    ends = forecast if measured is None else measured
    return pd.DataFrame(
        {
            "rank": range(count),
            "fact": [10 + rank for rank in range(count)],
            "subject": subjects or [f"subject {rank}" for rank in range(count)],
            "told": [f"subject {rank} → land {rank}" for rank in range(count)],
            "p": [0.125 * rank for rank in range(count)],
            "forecast": forecast,
            "measured": [NAN] * count if measured is None else measured,
            "kind": [kinds[0] if value < 0 else kinds[1] for value in forecast],
            "flips": told,
            "flips_foretold": told,
            "answers": [f"land {rank} → {flip}" if flip else f"land {rank}, stays" for rank, flip in enumerate(told)],
            "outcome": ["flips" if flip else "stays" for flip in told],
            "end": ends,
        }
    ).astype({"forecast": float, "measured": float, "end": float, "rank": int, "fact": int, "p": float})


BEFORE = frame([-2.0, -1.0, -0.5, 0.0, 0.25, 1.0], flips={1: "French"})
AFTER = frame([-2.0, -1.0, -0.5, 0.0, 0.25, 1.0], measured=[-2.5, -0.25, -0.75, 0.5, NAN, 1.5], flips={0: "sea"})
ADVICE = pd.DataFrame(
    {
        "layer": [0, 1, 5],
        "damage": [0.5, 2.0, 1.0],
        "probability": [0.99, 0.5, 0.0],
        "took": ["takes", "takes", "does not take"],
        "note": ["2 other answers forecast to change"] * 3,
    }
)


def spillover(told: pd.DataFrame = BEFORE, **options: Any) -> alt.LayerChart:
    return charts.spillover(told, **({"quantity": "change of log-odds", "span": SPAN} | options))


@cache
def before() -> dict[str, Any]:
    """The chart of `BEFORE`, as it is sent."""
    return specification(spillover(BEFORE))


@cache
def after() -> dict[str, Any]:
    return specification(spillover(AFTER))


def domains(spec: dict[str, Any], channel: str) -> list[list[float]]:
    scales = [layer["encoding"].get(channel, {}).get("scale", {}) for layer in spec["layer"]]
    return [scale["domain"] for scale in scales if "domain" in scale]


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
        assert spec["height"] == 400


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
    assert [layer["mark"]["stroke"] for layer in rings] == ["white", "black"], "seen on every bar"
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
    assert [one["field"] for one in tooltip] == ["told", "p", "forecast", "measured", "answers"]


# Names beside the bars


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


@settings(max_examples=40, deadline=None)
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


# Forecast against measurement


def dots(spec: dict[str, Any]) -> dict[str, Any]:
    (found,) = (layer for layer in layers_with(spec, "point") if "tooltip" in layer["encoding"])
    return found


def against(told: pd.DataFrame = AFTER, **options: Any) -> dict[str, Any]:
    return specification(charts.against(told, **({"quantity": "shift"} | options)))


def test_a_dot_stands_at_forecast_and_measurement_of_every_measured_fact() -> None:
    spec = against()
    marks = dots(spec)
    x, y = (marks["encoding"][channel]["field"] for channel in ("x", "y"))
    assert [(row["fact"], row[x], row[y]) for row in of_layer(spec, marks)] == [
        (10, -2.0, -2.5), (11, -1.0, -0.25), (12, -0.5, -0.75), (13, 0.0, 0.5), (15, 1.0, 1.5),
    ]  # fmt: skip
    assert [marks["encoding"][channel]["title"] for channel in ("x", "y")] == ["forecast shift", "measured shift"]
    assert [one["field"] for one in marks["encoding"]["tooltip"]] == ["told", "forecast", "measured", "answers"]


def test_both_axes_hold_forecast_measurement_and_zero_and_are_alike() -> None:
    spec = against()
    # from -2.5 to 1.5, and a twentieth of that on either side; the unmeasured 0.25 does not count
    for channel in ("x", "y"):
        assert all(domain == pytest.approx([-2.7, 1.7], rel=ROUNDING) for domain in domains(spec, channel))
        assert len(domains(spec, channel)) == len(spec["layer"])
    positive = against(frame([1.0, 2.0], measured=[2.0, 3.0]))
    assert domains(positive, "x")[0] == pytest.approx([-0.15, 3.15], rel=ROUNDING)


def test_an_axis_has_a_length_where_nothing_changed() -> None:
    low, high = domains(against(frame([0.0, 0.0], measured=[0.0, 0.0])), "x")[0]
    assert low < 0 < high


def test_the_dashed_line_is_where_a_forecast_is_right() -> None:
    spec = against()
    (line,) = layers_with(spec, "line")
    assert line["mark"]["strokeDash"]
    low, high = of_layer(spec, line)
    assert low["forecast"] == low["measured"] == pytest.approx(-2.7, rel=ROUNDING)
    assert high["forecast"] == high["measured"] == pytest.approx(1.7, rel=ROUNDING)


def test_an_answer_that_changed_differs_in_colour_shape_and_size() -> None:
    encoding = dots(against())["encoding"]
    for channel, values in (("color", [GAINS, LOSES]), ("shape", ["circle", "diamond"])):
        assert encoding[channel]["field"] == "outcome"
        assert encoding[channel]["scale"] == {"domain": ["stays", "flips"], "range": values}
    assert encoding["size"]["scale"]["domain"] == ["stays", "flips"]
    small, large = encoding["size"]["scale"]["range"]
    assert small < large


@pytest.mark.parametrize(("picked", "facts"), [(12, [12]), (14, []), (99, []), (None, [])])
def test_the_picked_fact_is_ringed_if_it_was_measured(picked: int | None, facts: list[int]) -> None:
    spec = against(picked=picked)
    rings = [layer for layer in layers_with(spec, "point") if layer["mark"].get("filled") is False]
    assert [layer["mark"]["stroke"] for layer in rings] == ["white", "black"]
    for ring in rings:
        assert [row["fact"] for row in of_layer(spec, ring)] == facts
        assert [ring["encoding"][channel]["field"] for channel in ("x", "y")] == ["forecast", "measured"]


def test_a_click_on_a_dot_tells_its_fact() -> None:
    spec = against()
    (param,) = spec["params"]
    assert (param["name"], param["select"]["fields"], param["views"]) == (charts.FACT, ["fact"], [dots(spec)["name"]])


# Losses of the search


def test_the_losses_are_drawn_step_by_step_from_the_beginning() -> None:
    spec = specification(charts.losses((4.0, 2.5, 0.04), stop=0.05))
    assert table(spec, "step", "loss") == [
        {"step": 0, "loss": 4.0}, {"step": 1, "loss": 2.5}, {"step": 2, "loss": 0.04},
    ]  # fmt: skip
    (line,), (enough,) = layers_with(spec, "line"), layers_with(spec, "rule")
    assert [line["encoding"][channel]["field"] for channel in ("x", "y")] == ["step", "loss"]
    assert of_layer(spec, line) == table(spec, "step", "loss")
    assert of_layer(spec, enough) == [{"loss": 0.05}]
    assert enough["encoding"]["y"]["field"] == "loss"
    assert line["encoding"]["y"]["scale"]["zero"] is True, "a loss that hardly falls is seen to"


# Layers beside each other


def test_layers_are_points_of_damage_and_success() -> None:
    spec = specification(charts.advice(ADVICE, layer=1))
    marks = dots(spec)
    x, y = (marks["encoding"][channel]["field"] for channel in ("x", "y"))
    rows = of_layer(spec, marks)
    assert [(row["layer"], row[x], row[y]) for row in rows] == [(0, 0.5, 0.99), (1, 2.0, 0.5), (5, 1.0, 0.0)]
    colour = marks["encoding"]["color"]
    assert (colour["field"], colour["scale"]) == (
        "took", {"domain": ["takes", "does not take"], "range": [GAINS, LOSES]},
    )  # fmt: skip
    (numbers,) = layers_with(spec, "text")
    assert numbers["encoding"]["text"]["field"] == "layer"
    assert of_layer(spec, numbers) == rows


def test_the_axes_of_the_advice_begin_at_zero_and_hold_all_layers() -> None:
    spec = specification(charts.advice(ADVICE, layer=1))
    assert all(domain == pytest.approx([0, 2.3], rel=ROUNDING) for domain in domains(spec, "x"))
    assert len(domains(spec, "x")) == len(spec["layer"])
    assert all(low == 0 and high > 1 for low, high in domains(spec, "y"))
    unhurt = specification(charts.advice(ADVICE.assign(damage=0.0), layer=1))
    assert domains(unhurt, "x")[0] == [0, 1.0]


@pytest.mark.parametrize(("layer", "ringed"), [(5, [5]), (3, [])])
def test_the_layer_looked_at_is_ringed(layer: int, ringed: list[int]) -> None:
    spec = specification(charts.advice(ADVICE, layer=layer))
    (ring,) = (one for one in layers_with(spec, "point") if one["mark"].get("filled") is False)
    assert [row["layer"] for row in of_layer(spec, ring)] == ringed


def test_a_click_on_a_layer_tells_its_number() -> None:
    spec = specification(charts.advice(ADVICE, layer=1))
    (param,) = spec["params"]
    assert (param["name"], param["select"]["fields"]) == (charts.LAYER, ["layer"])
    assert param["views"] == [dots(spec)["name"]]


# As they end up in the browser

HOSTILE_FRAME = frame(
    [float(value) for value in range(-len(HOSTILE) + 1, 1)],
    measured=[float(value) for value in range(-len(HOSTILE) + 1, 1)],
    subjects=list(HOSTILE),
    flips=dict(enumerate(HOSTILE)),
).assign(told=HOSTILE, answers=HOSTILE)
CHARTS: dict[str, Callable[[], alt.LayerChart]] = {
    "before": lambda: spillover(BEFORE, picked=10),
    "after": lambda: spillover(AFTER, picked=10),
    "a shift": lambda: spillover(frame([-1.0, 0.5], kinds=("against", "along"))),
    "one other fact": lambda: spillover(frame([-1.0])),
    "no other fact": lambda: spillover(frame([])),
    "against each other": lambda: charts.against(AFTER, quantity="shift", picked=10),
    "against each other, nothing measured": lambda: charts.against(BEFORE, quantity="shift"),
    "losses": lambda: charts.losses((4.0, 2.5, 0.04), stop=0.05),
    "losses before the first step": lambda: charts.losses((), stop=0.0),
    "a loss that is not finite": lambda: charts.losses((4.0, NAN, float("inf")), stop=0.05),
    "advice": lambda: charts.advice(ADVICE, layer=1),
    "advice of one layer": lambda: charts.advice(ADVICE[:1], layer=0),
    "advice of no layer": lambda: charts.advice(ADVICE[:0], layer=0),
    "advice without damage to tell": lambda: charts.advice(ADVICE.assign(damage=NAN), layer=0),
    "hostile text": lambda: spillover(HOSTILE_FRAME, span=(-9.0, 1.0), quantity=HOSTILE[3]),
    "hostile text against each other": lambda: charts.against(HOSTILE_FRAME, quantity=HOSTILE[2]),
}


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_can_be_drawn_and_leads_nowhere(name: str) -> None:
    chart = CHARTS[name]()
    svg = drawn(chart)
    assert svg.startswith("<svg")
    assert "NaN" not in svg
    assert "<script" not in svg
    assert "href" not in svg
    assert not list(links(specification(chart)))


def test_names_are_drawn_as_they_are() -> None:
    svg = drawn(spillover(frame([-1.0, 1.0], subjects=["</script>", "<b>"], flips={0: "$x$"})))
    assert "&lt;/script&gt; → $x$" in svg
    assert "&lt;b&gt;" in svg
