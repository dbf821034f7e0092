"""P as heatmaps: what is drawn, what is sent, and that no text of a user can act."""

from __future__ import annotations

import json
from typing import Any

import altair as alt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core import charts
from kis_core.charts import Window, whole
from kis_core.charts.heatmap import LABEL_STEP_PIXELS, _axis_labels
from tests import tiny
from tests.charts.chart_tools import (
    HOSTILE,
    INK,
    PAPER,
    assert_harmless,
    layers_with,
    of_layer,
    specification,
    table,
    tables,
)

RNG = np.random.default_rng(0)
SENT = 1e-4  # values are sent with four digits
ORDER = np.array([3, 1, 0, 2, 5, 4])
OFF_CENTRE = Window(1, 4, 2, 6)  # of 6 positions


def matrix(m: int = 6) -> np.ndarray:
    p = RNG.normal(0, 0.1, (m, m))
    np.fill_diagonal(p, 1.0)
    return p


def heatmap(p: np.ndarray, order: np.ndarray | None = None, **options: Any) -> alt.LayerChart:
    options.setdefault("names", [f"fact {k}" for k in range(len(p))])
    options.setdefault("labels", options["names"])
    return charts.heatmap(p, np.arange(len(p)) if order is None else order, limit=0.5, **options)


def overview(p: np.ndarray, order: np.ndarray | None = None, **options: Any) -> alt.LayerChart:
    options.setdefault("labels", [f"fact {k}" for k in range(len(p))])
    options.setdefault("window", whole(len(p)))
    return charts.overview(p, np.arange(len(p)) if order is None else order, limit=0.5, **options)


def draw(p: np.ndarray, order: np.ndarray | None = None, **options: Any) -> dict[str, Any]:
    return specification(heatmap(p, order, **options))


def cells(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return of_layer(spec, spec["layer"][0])


def domains(layer: dict[str, Any]) -> tuple[list[float], list[float]]:
    return layer["encoding"]["x"]["scale"]["domain"], layer["encoding"]["y"]["scale"]["domain"]


def row_labels(spec: dict[str, Any]) -> dict[str, str]:
    expression = spec["layer"][0]["encoding"]["y"]["axis"]["labelExpr"]
    literal = expression.removeprefix("(").removesuffix(")[format(datum.value, '~g')]")
    assert literal.isascii()
    return json.loads(literal)


# The whole matrix


def test_cells_are_in_the_order_asked_for() -> None:
    p = matrix()
    shown = cells(draw(p, ORDER))
    assert len(shown) == 36
    for cell in shown:
        assert cell["p"] == pytest.approx(p[ORDER[cell["r"]], ORDER[cell["c"]]], abs=SENT)


def test_only_numbers_are_sent_for_the_cells() -> None:
    assert set(cells(draw(matrix()))[0]) == {"r", "c", "p"}


def test_hidden_diagonal_and_missing_values_are_left_out() -> None:
    p = matrix()
    p[2, 4] = np.nan
    shown = cells(draw(p, hide_diagonal=True))
    assert len(shown) == 36 - 6 - 1
    assert all(cell["r"] != cell["c"] for cell in shown)


def test_colours_are_symmetric_and_clamped() -> None:
    colour = draw(matrix(), value="difference")["layer"][0]["encoding"]["color"]
    assert colour["scale"] == {"domain": [-0.5, 0.5], "domainMid": 0, "clamp": True}
    assert colour["title"] == "difference"


def test_a_click_tells_the_position() -> None:
    (param,) = draw(matrix())["params"]
    assert param["name"] == charts.PICK
    assert param["select"]["fields"] == ["r", "c"]


def test_the_picked_cell_is_marked_where_it_stands() -> None:
    spec = draw(matrix(), ORDER, picked=(0, 5))  # fact 0 is at position 2, fact 5 at position 4
    assert tables(spec, "x", "y") == [[{"x": 4, "y": 2}, {"x": 5, "y": 3}], [{"x": 4.5, "y": 2.5}]]


def test_colour_limit_covers_all_but_the_far_tail_and_is_round() -> None:
    p = np.zeros((100, 100))
    p[0, 1:40] = 0.18
    p[1, 2] = 0.95
    np.fill_diagonal(p, 1.0)
    assert charts.colour_limit(p) == 0.2
    assert charts.beyond(p, 0.2) == 1
    assert charts.colour_limit(np.ones((1, 1))) == 0.02
    assert charts.colour_limit(np.full((3, 3), np.nan)) == 0.02
    assert charts.colour_limit(-7 * np.ones((3, 3))) == 1.0


def test_repeated_labels_are_said_once_and_none_overlap() -> None:
    labels = _axis_labels(["a"] * 50 + ["b"] * 50, size=500)
    assert labels == {25.0: "a", 75.0: "b"}
    dense = _axis_labels([f"subject {k}" for k in range(500)], size=500)
    assert len(dense) > 25
    assert (np.diff(list(dense)) >= LABEL_STEP_PIXELS).all()


def test_shorten_keeps_short_text_and_marks_what_is_missing() -> None:
    assert charts.shorten("Croatia", 10) == "Croatia"
    assert charts.shorten("Washington", 10) == "Washington"
    assert charts.shorten("University of Washington", 10) == "Universit…"
    assert charts.shorten("University of Washington", 12) == "University…"


# A window of it


def test_around_puts_a_position_in_the_middle() -> None:
    assert Window(0, 4, 0, 6).around(10, 20, 100) == Window(8, 12, 17, 23)
    assert Window(0, 3, 0, 3).around(10, 20, 100) == Window(9, 12, 19, 22)


@pytest.mark.parametrize(
    ("row", "column", "expected"),
    [
        (0, 0, Window(0, 4, 0, 6)),
        (99, 99, Window(96, 100, 94, 100)),
        (0, 99, Window(0, 4, 94, 100)),
        (99, 0, Window(96, 100, 0, 6)),
    ],
)
def test_around_stays_inside_at_the_edges(row: int, column: int, expected: Window) -> None:
    assert Window(40, 44, 50, 56).around(row, column, 100) == expected


@given(st.integers(1, 40), st.data())
def test_around_keeps_the_size_holds_the_position_and_stays_inside(m: int, data: st.DataObject) -> None:
    height, width = (data.draw(st.integers(1, m)) for _ in range(2))
    row, column = (data.draw(st.integers(0, m - 1)) for _ in range(2))
    found = Window(0, height, 0, width).around(row, column, m)
    assert (found.bottom - found.top, found.right - found.left) == (height, width)
    assert 0 <= found.top <= row < found.bottom <= m
    assert 0 <= found.left <= column < found.right <= m


def test_a_brushed_region_grows_to_whole_cells() -> None:
    assert charts.clipped((10.2, 12.9), (0.0, 3.0), 100) == Window(10, 13, 0, 3)
    assert charts.clipped((-0.5, 1.5), (98.5, 101.0), 100) == Window(0, 2, 98, 100)


def test_a_brushed_region_too_large_keeps_its_middle() -> None:
    # 1000 cells, 872 too many; 131 cells, 3 too many: 1 goes in front, 2 at the end
    assert charts.clipped((0, 1000), (100, 231), 1000) == Window(436, 564, 101, 229)


def test_no_window_is_all_of_it() -> None:
    p = matrix()
    assert whole(6) == Window(0, 6, 0, 6)
    assert draw(p, ORDER) == draw(p, ORDER, window=whole(6))


def test_a_window_sends_only_its_cells_and_tells_positions() -> None:
    p = matrix()
    shown = cells(draw(p, ORDER, window=OFF_CENTRE))
    assert [(cell["r"], cell["c"]) for cell in shown] == [(r, c) for r in (1, 2, 3) for c in (2, 3, 4, 5)]
    for cell in shown:
        assert cell["p"] == pytest.approx(p[ORDER[cell["r"]], ORDER[cell["c"]]], abs=SENT)


def test_a_window_hides_the_diagonal_of_the_matrix_not_its_own() -> None:
    shown = cells(draw(matrix(), ORDER, window=OFF_CENTRE, hide_diagonal=True))
    assert len(shown) == 12 - 2  # positions (2, 2) and (3, 3)
    assert all(cell["r"] != cell["c"] for cell in shown)


def test_the_axes_of_every_layer_end_with_the_window() -> None:
    spec = draw(matrix(), ORDER, window=OFF_CENTRE, picked=(0, 5))
    encoded = [layer["encoding"] for layer in spec["layer"]]
    assert {tuple(one["x"]["scale"]["domain"]) for one in encoded if "x" in one} == {(2, 6)}
    assert {tuple(one["y"]["scale"]["domain"]) for one in encoded if "y" in one} == {(4, 1)}  # first position on top


def test_the_tooltip_knows_the_facts_of_the_window() -> None:
    spec = draw(matrix(), ORDER, window=OFF_CENTRE)
    *_, edited, suffers = spec["layer"][0]["transform"]
    for lookup, field, name, positions in ((edited, "r", "edited", (1, 2, 3)), (suffers, "c", "suffers", (2, 3, 4, 5))):
        assert (lookup["lookup"], lookup["as"]) == (field, [name])
        assert (lookup["from"]["key"], lookup["from"]["fields"]) == ("at", ["name"])
        known = [{"at": at, "name": f"fact {ORDER[at]}"} for at in positions]
        assert of_layer(spec, lookup["from"]) == known


def test_the_labels_are_those_of_the_rows_of_the_window() -> None:
    spec = draw(matrix(), ORDER, window=OFF_CENTRE, labels=[f"label {k}" for k in range(6)])
    assert row_labels(spec) == {"1.5": "label 1", "2.5": "label 0", "3.5": "label 2"}
    assert spec["layer"][0]["encoding"]["y"]["axis"]["values"] == [1.5, 2.5, 3.5]


@pytest.mark.parametrize(
    ("row", "column", "inside"),
    [(1, 2, True), (3, 5, True), (1, 5, True), (0, 3, False), (4, 3, False), (2, 1, False), (5, 1, False)],
)
def test_the_picked_pair_is_marked_only_inside_the_window(row: int, column: int, inside: bool) -> None:
    spec = draw(matrix(), ORDER, window=OFF_CENTRE, picked=(ORDER[row], ORDER[column]))
    rings = [{"x": column + 0.5, "y": row + 0.5}] in tables(spec, "x", "y")
    assert (rings, len(spec["layer"])) == ((True, 5) if inside else (False, 1))


def test_the_picked_pair_is_not_marked_right_of_the_window() -> None:
    spec = draw(matrix(), ORDER, window=Window(1, 4, 0, 4), picked=(ORDER[2], ORDER[4]))
    assert len(spec["layer"]) == 1


# An overview of blocks


@pytest.mark.parametrize(
    ("m", "side", "count"), [(1, 1, 1), (5, 1, 5), (128, 1, 128), (129, 2, 65), (436, 4, 109), (1000, 8, 125)]
)
def test_blocks_are_as_small_as_the_most_allows(m: int, side: int, count: int) -> None:
    found, found_side = charts.blocks(np.zeros((m, m)), np.arange(m))
    assert (found_side, found.shape) == (side, (count, count))


def test_blocks_by_hand() -> None:
    p = np.array(
        [
            [9.0, 0.1, -0.4, 0.3, 0.0],
            [-0.2, 9.0, 0.2, 0.4, np.nan],
            [0.5, 0.5, 9.0, 0.0, 0.1],
            [0.6, -0.7, 0.0, 9.0, -0.1],
            [np.nan, np.nan, 0.2, -0.3, 9.0],
        ]
    )
    # sides of 2: the diagonal of 9 never counts, the last block is one fact; ties go to the first entry
    found, side = charts.blocks(p, np.arange(5), most=3)
    assert side == 2
    np.testing.assert_array_equal(found, [[-0.2, -0.4, 0.0], [-0.7, 0.0, 0.1], [np.nan, -0.3, np.nan]])


@given(st.integers(charts.DETAIL + 1, 3 * charts.DETAIL), st.integers(0, 10_000))
def test_the_strongest_pair_of_a_block_is_the_one_that_tells_it(m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, order = rng.normal(size=(m, m)), rng.permutation(m)
    np.fill_diagonal(p, 9.0)
    p[rng.random((m, m)) < 0.2] = np.nan
    largest, side = charts.blocks(p, order)
    assert side == charts.block_side(m)
    for row, column in ((0, 0), (0, len(largest) - 1), (len(largest) - 1, 3), (7, 7)):
        if np.isfinite(largest[row, column]):
            i, j = charts.strongest_in_block(p, order, row * side, column * side)
            assert p[i, j] == largest[row, column]
            assert i != j
            assert (list(order).index(i) // side, list(order).index(j) // side) == (row, column)


def test_one_fact_has_an_empty_block() -> None:
    assert np.isnan(charts.blocks(np.ones((1, 1)), np.arange(1))[0]).all()


@given(st.integers(1, 14), st.integers(1, 6), st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 0.9, 1.0]))
def test_blocks_are_those_of_a_plain_loop(m: int, most: int, seed: int, missing: float) -> None:
    rng = np.random.default_rng(seed)
    p = np.where(rng.random((m, m)) < missing, np.nan, rng.normal(size=(m, m)))
    order, before = rng.permutation(m), p.copy()
    found, side = charts.blocks(p, order, most=most)
    np.testing.assert_array_equal(p, before)
    assert len(found) <= most
    assert (len(found) - 1) * side < m <= len(found) * side
    for (row, column), value in np.ndenumerate(found):
        entries = [
            p[order[r], order[c]]
            for r in range(row * side, min(m, (row + 1) * side))
            for c in range(column * side, min(m, (column + 1) * side))
            if r != c and not np.isnan(p[order[r], order[c]])
        ]
        assert np.array_equal(value, max(entries, key=abs, default=np.nan), equal_nan=True)


def test_an_overview_tells_clicks_and_drags() -> None:
    params = {param["name"]: param["select"] for param in specification(overview(matrix()))["params"]}
    assert params[charts.PICK]["type"] == "point"
    assert params[charts.PICK]["fields"] == ["r", "c"]
    assert params[charts.BRUSH]["type"] == "interval"
    assert params[charts.BRUSH]["encodings"] == ["x", "y"]


def test_an_overview_sends_the_first_position_of_each_block() -> None:
    m = 2 * charts.DETAIL + 1  # blocks of 3, the last of them of 2: 86 a side
    p, order = matrix(m), RNG.permutation(m)
    p[order[255:], order[:3, None]] = np.nan
    spec = specification(overview(p, order))
    largest, side = charts.blocks(p, order)
    shown = {(cell["r"], cell["c"]): cell["p"] for cell in cells(spec)}
    assert side == 3
    assert set(shown) == {(3 * r, 3 * c) for r in range(86) for c in range(86)} - {(255, 0)}
    for (row, column), value in shown.items():
        assert value == pytest.approx(largest[row // 3, column // 3], abs=SENT)
    (ends,) = [layer["transform"] for layer in spec["layer"] if "transform" in layer]
    assert [end["calculate"] for end in ends] == ["min(datum.r + 3, 257)", "min(datum.c + 3, 257)"]


def test_an_overview_draws_the_window_of_the_detail() -> None:
    spec = specification(overview(matrix(), ORDER, window=OFF_CENTRE))
    assert table(spec, "r", "r2", "c", "c2") == [{"r": 1, "r2": 4, "c": 2, "c2": 6}]
    halo, frame = layers_with(spec, "rect")[1:]
    assert (halo["mark"]["stroke"], frame["mark"]["stroke"]) == (PAPER, INK)
    for layer in (halo, frame):
        assert layer["mark"]["fill"] is None
        assert [layer["encoding"][end]["field"] for end in ("x", "x2", "y", "y2")] == ["c", "c2", "r", "r2"]
        assert domains(layer) == ([0, 6], [6, 0])


def test_an_overview_marks_the_picked_pair_outside_the_window_too() -> None:
    spec = specification(overview(matrix(), ORDER, window=OFF_CENTRE, picked=(4, 3)))
    assert [{"x": 0.5, "y": 5.5}] in tables(spec, "x", "y")


# How alike layers are


def test_similarity_sends_every_two_layers_once() -> None:
    alike = np.array([[1.0, 0.2], [0.3, 1.0]])
    spec = specification(charts.similarity(alike, (2, 5), 5))
    assert table(spec, "a", "b", "rho") == [
        {"a": 2, "b": 2, "rho": 1.0},
        {"a": 2, "b": 5, "rho": 0.2},
        {"a": 5, "b": 2, "rho": 0.3},
        {"a": 5, "b": 5, "rho": 1.0},
    ]
    encoding = spec["layer"][0]["encoding"]
    assert (encoding["y"]["field"], encoding["x"]["field"]) == ("a", "b")
    (param,) = spec["params"]
    assert (param["name"], param["select"]["fields"]) == (charts.PICK, ["a", "b"])
    assert spec["layer"][1]["transform"] == [{"filter": "datum.a === 5 && datum.b === 5"}]


@pytest.mark.parametrize(("count", "told"), [(1, True), (12, True), (13, False)])
def test_similarity_says_its_values_while_there_is_room(count: int, told: bool) -> None:
    spec = specification(charts.similarity(np.eye(count), range(count), 0))
    assert bool(layers_with(spec, "text")) == told


# In the browser

CHARTS = {
    "heatmap": lambda: heatmap(matrix(), ORDER, picked=(0, 5)),
    "window": lambda: heatmap(matrix(), ORDER, picked=(0, 5), window=OFF_CENTRE, hide_diagonal=True),
    "one fact": lambda: heatmap(np.ones((1, 1))),
    "nothing to show": lambda: heatmap(np.full((3, 3), np.nan)),
    "overview": lambda: overview(matrix(), ORDER, window=OFF_CENTRE, picked=(0, 5)),
    "overview of blocks": lambda: overview(matrix(129), picked=(0, 128)),
    "overview of one fact": lambda: overview(np.ones((1, 1))),
    "similarity": lambda: charts.similarity(np.array([[1.0, np.nan], [np.nan, 1.0]]), (0, 3), 3),
    "similarity of many layers": lambda: charts.similarity(np.eye(13), range(13), 0),
}


@pytest.mark.parametrize("name", tiny.in_full(CHARTS, ("heatmap", "window", "overview of blocks", "similarity")))
def test_a_chart_can_be_drawn(name: str) -> None:
    assert_harmless(CHARTS[name]())


@pytest.mark.parametrize("text", HOSTILE)
def test_a_label_cannot_leave_its_string(text: str) -> None:
    assert set(row_labels(draw(matrix(), names=[text] * 6)).values()) == {charts.shorten(text)}


def test_with_hostile_names_it_can_be_drawn_all_the_same() -> None:
    p, names = matrix(len(HOSTILE)), list(HOSTILE)
    for chart in (heatmap(p, names=names, picked=(0, 1)), overview(p, labels=names)):
        assert_harmless(chart)
