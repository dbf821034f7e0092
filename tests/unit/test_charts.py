"""Charts: what is drawn, what is sent, and that no text of a user can act."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kis_core import charts

RNG = np.random.default_rng(0)


def matrix(m: int = 6) -> np.ndarray:
    p = RNG.normal(0, 0.1, (m, m))
    np.fill_diagonal(p, 1.0)
    return p


def draw(p: np.ndarray, **options: object) -> dict:
    m = len(p)
    names = options.pop("names", [f"fact {k}" for k in range(m)])
    order = options.pop("order", np.arange(m))
    chart = charts.heatmap(p, order, limit=0.5, labels=names, names=names, **options)
    return json.loads(chart.to_json())


def rows(spec: dict, field: str = "p") -> list[dict]:
    return next(data for data in spec["datasets"].values() if data and field in data[0])


def test_cells_are_in_the_order_asked_for() -> None:
    p = matrix()
    order = np.array([3, 1, 0, 2, 5, 4])
    for cell in rows(draw(p, order=order)):
        assert cell["p"] == pytest.approx(p[order[cell["r"]], order[cell["c"]]], abs=1e-4)


def test_only_numbers_are_sent_for_the_cells() -> None:
    assert set(rows(draw(matrix()))[0]) == {"r", "c", "p"}


def test_hidden_diagonal_and_missing_values_are_left_out() -> None:
    p = matrix()
    p[2, 4] = np.nan
    cells = rows(draw(p, hide_diagonal=True))
    assert len(cells) == 36 - 6 - 1
    assert all(cell["r"] != cell["c"] for cell in cells)


def test_colours_are_symmetric_and_clamped() -> None:
    scale = draw(matrix())["layer"][0]["encoding"]["color"]["scale"]
    assert scale == {"domain": [-0.5, 0.5], "domainMid": 0, "clamp": True}


def test_the_picked_cell_is_marked_where_it_stands() -> None:
    order = np.array([3, 1, 0, 2, 5, 4])
    spec = draw(matrix(), order=order, picked=(0, 5))
    ring = next(data for data in spec["datasets"].values() if len(data) == 1 and "x" in data[0])
    assert ring == [{"x": 4.5, "y": 2.5}]


def test_colour_limit_covers_all_but_the_far_tail_and_is_round() -> None:
    p = np.zeros((100, 100))
    p[0, 1:40] = 0.18
    p[1, 2] = 0.95
    np.fill_diagonal(p, 1.0)
    assert charts.colour_limit(p) == 0.2
    assert charts.beyond(p, 0.2) == 1
    assert charts.colour_limit(np.ones((1, 1))) == 0.02


def test_repeated_labels_are_said_once_and_none_overlap() -> None:
    labels = charts._axis_labels(["a"] * 50 + ["b"] * 50, size=500)
    assert labels == {25.0: "a", 75.0: "b"}
    dense = charts._axis_labels([f"subject {k}" for k in range(500)], size=500)
    gaps = np.diff(list(dense))
    assert (gaps >= charts.LABEL_STEP_PIXELS).all()


@pytest.mark.parametrize("text", ["'; alert(1); '", '"})[0]; x("', "\\", "</script>", "\u2028", "}[1]"])
def test_a_label_cannot_leave_its_string(text: str) -> None:
    spec = draw(matrix(), names=[text] * 6)
    expression = spec["layer"][0]["encoding"]["y"]["axis"]["labelExpr"]
    literal = expression.removeprefix("(").removesuffix(")[format(datum.value, '~g')]")
    assert set(json.loads(literal).values()) == {charts.shorten(text)}
    assert literal.isascii()


def test_no_chart_carries_a_link() -> None:
    text = json.dumps(draw(matrix(), names=["javascript:alert(1)"] * 6))
    assert '"href"' not in text
    assert '"url"' not in text


def test_shorten_keeps_short_text_and_marks_what_is_missing() -> None:
    assert charts.shorten("Croatia", 10) == "Croatia"
    assert charts.shorten("University of Washington", 10) == "Universit…"


def test_by_layer_draws_each_series_and_marks_the_layer() -> None:
    spec = json.loads(charts.by_layer((0, 1, 5), {"P[i, j]": (0.1, 0.2, 0.3), "P[j, i]": (0, 0, 0)}, 5).to_json())
    lines = rows(spec, "series")
    assert [(row["layer"], row["value"]) for row in lines if row["series"] == "P[i, j]"] == [
        (0, 0.1),
        (1, 0.2),
        (5, 0.3),
    ]
    assert [{"layer": 5}] in spec["datasets"].values()
