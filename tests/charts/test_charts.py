"""P as heatmaps: what is drawn, what is sent, and that no text of a user can act."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core import charts, superposition
from kis_core.charts import Window, whole
from kis_core.charts.heatmap import LABEL_STEP_PIXELS, _axis_labels
from tests.charts.chart_tools import HOSTILE, of_layer, specification, table, tables
from tests.charts.every_chart import OFF_CENTRE, ORDER, heatmap, matrix, overview

RNG = np.random.default_rng(0)
SENT = 1e-4  # values are sent with four digits


def draw(p: np.ndarray, order: np.ndarray | None = None, **options: Any) -> dict[str, Any]:
    return specification(heatmap(p, order, **options))


def cells(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return of_layer(spec, spec["layer"][0])


def row_labels(spec: dict[str, Any]) -> dict[str, str]:
    expression = spec["layer"][0]["encoding"]["y"]["axis"]["labelExpr"]
    literal = expression.removeprefix("(").removesuffix(")[format(datum.value, '~g')]")
    assert literal.isascii()
    return json.loads(literal)


def test_cells_are_in_the_order_asked_for_and_only_numbers_are_sent() -> None:
    p = matrix()
    p[2, 4] = np.nan
    spec = draw(p, ORDER, value="difference")
    shown = cells(spec)
    assert len(shown) == 36 - 1, "what is missing is left out"
    assert set(shown[0]) == {"r", "c", "p"}
    for cell in shown:
        assert cell["p"] == pytest.approx(p[ORDER[cell["r"]], ORDER[cell["c"]]], abs=SENT)
    assert len(cells(draw(p, ORDER, hide_diagonal=True))) == 36 - 1 - 6
    assert spec["layer"][0]["encoding"]["color"]["title"] == "difference"
    (param,) = spec["params"]
    assert (param["name"], param["select"]["fields"]) == (charts.PICK, ["r", "c"])


def test_colour_limit_covers_all_but_the_far_tail_and_is_round() -> None:
    p = np.zeros((100, 100))
    p[0, 1:40] = 0.18
    p[1, 2] = 0.95
    np.fill_diagonal(p, 1.0)
    assert superposition.colour_limit(p) == 0.2
    assert superposition.beyond(p, 0.2) == 1
    assert superposition.colour_limit(np.ones((1, 1))) == 0.02
    assert superposition.colour_limit(np.full((3, 3), np.nan)) == 0.02
    assert superposition.colour_limit(-7 * np.ones((3, 3))) == 1.0


def test_labels_are_short_said_once_and_none_overlap() -> None:
    assert _axis_labels(["a"] * 50 + ["b"] * 50, size=500) == {25.0: "a", 75.0: "b"}
    dense = _axis_labels([f"subject {k}" for k in range(500)], size=500)
    assert len(dense) > 25
    assert (np.diff(list(dense)) >= LABEL_STEP_PIXELS).all()
    assert charts.shorten("Washington", 10) == "Washington"
    assert charts.shorten("University of Washington", 10) == "Universit…"
    assert charts.shorten("University of Washington", 12) == "University…"


def test_marks_stand_beside_the_rows_of_their_facts_and_labels_make_room() -> None:
    marks = ["", "¹", "", "", "¹ʷ", ""]
    spec = draw(matrix(), ORDER, marks=marks)
    assert {row["y"]: row["mark"] for row in of_layer(spec, spec["layer"][-1])} == {1.5: "¹", 5.5: "¹ʷ"}
    (beside,) = of_layer(part := draw(matrix(), ORDER, marks=marks, window=Window(2, 6, 3, 6)), part["layer"][-1])
    assert (beside["x"], beside["y"]) == (3, 5.5)
    padding, without = (chart["layer"][0]["encoding"]["y"]["axis"]["labelPadding"] for chart in (spec, draw(matrix())))
    assert padding > without + 10
    assert "text" not in {layer["mark"]["type"] for layer in draw(matrix(), marks=[""] * 6)["layer"]}


@given(st.integers(1, 40), st.data())
def test_around_keeps_the_size_holds_the_position_in_the_middle_and_stays_inside(m: int, data: st.DataObject) -> None:
    height, width = (data.draw(st.integers(1, m)) for _ in range(2))
    row, column = (data.draw(st.integers(0, m - 1)) for _ in range(2))
    window = Window(0, height, 0, width).around(row, column, m)
    assert (window.bottom - window.top, window.right - window.left) == (height, width)
    assert 0 <= window.top <= row < window.bottom <= m
    assert 0 <= window.left <= column < window.right <= m
    assert window.top in (0, m - height, row - height // 2)
    assert window.left in (0, m - width, column - width // 2)


def test_a_brushed_region_grows_to_whole_cells_and_if_too_large_keeps_its_middle() -> None:
    assert charts.clipped((10.2, 12.9), (0.0, 3.0), 100) == Window(10, 13, 0, 3)
    assert charts.clipped((-0.5, 1.5), (98.5, 101.0), 100) == Window(0, 2, 98, 100)
    # 1000 cells, 872 too many; 131 cells, 3 too many: 1 goes in front, 2 at the end
    assert charts.clipped((0, 1000), (100, 231), 1000) == Window(436, 564, 101, 229)


def test_a_window_sends_only_its_cells_and_its_axes_end_with_it() -> None:
    p = matrix()
    spec = draw(p, ORDER, window=OFF_CENTRE, picked=(0, 5))
    shown = cells(spec)
    assert [(cell["r"], cell["c"]) for cell in shown] == [(r, c) for r in (1, 2, 3) for c in (2, 3, 4, 5)]
    for cell in shown:
        assert cell["p"] == pytest.approx(p[ORDER[cell["r"]], ORDER[cell["c"]]], abs=SENT)
    encoded = [layer["encoding"] for layer in spec["layer"]]
    assert {tuple(one["x"]["scale"]["domain"]) for one in encoded if "x" in one} == {(2, 6)}
    assert {tuple(one["y"]["scale"]["domain"]) for one in encoded if "y" in one} == {(4, 1)}  # first position on top
    hidden = cells(draw(p, ORDER, window=OFF_CENTRE, hide_diagonal=True))
    assert len(hidden) == 12 - 2, "the diagonal of the matrix, not of the window: positions (2, 2) and (3, 3)"
    assert all(cell["r"] != cell["c"] for cell in hidden)
    assert draw(p, ORDER) == draw(p, ORDER, window=whole(6)), "no window is all of it"


def test_tooltip_and_labels_are_of_the_facts_of_the_window() -> None:
    spec = draw(matrix(), ORDER, window=OFF_CENTRE, labels=[f"label {k}" for k in range(6)])
    *_, edited, suffers = spec["layer"][0]["transform"]
    for lookup, field, name, positions in ((edited, "r", "edited", (1, 2, 3)), (suffers, "c", "suffers", (2, 3, 4, 5))):
        assert (lookup["lookup"], lookup["as"]) == (field, [name])
        assert (lookup["from"]["key"], lookup["from"]["fields"]) == ("at", ["name"])
        known = [{"at": at, "name": f"fact {ORDER[at]}"} for at in positions]
        assert of_layer(spec, lookup["from"]) == known
    assert row_labels(spec) == {"1.5": "label 1", "2.5": "label 0", "3.5": "label 2"}


@pytest.mark.parametrize(
    ("row", "column", "inside"),
    [(1, 2, True), (3, 5, True), (0, 3, False), (4, 3, False), (2, 1, False), (2, 6, False)],
)
def test_the_picked_pair_is_marked_only_inside_the_window(row: int, column: int, inside: bool) -> None:
    order = np.array([*ORDER, 6])
    spec = draw(matrix(7), order, window=OFF_CENTRE, picked=(order[row], order[column]))
    rings = [{"x": column + 0.5, "y": row + 0.5}] in tables(spec, "x", "y")
    assert (rings, len(spec["layer"])) == ((True, 5) if inside else (False, 1))


@pytest.mark.parametrize(("m", "side", "count"), [(1, 1, 1), (128, 1, 128), (129, 2, 65), (1000, 8, 125)])
def test_blocks_are_as_small_as_the_most_allows(m: int, side: int, count: int) -> None:
    largest, block = superposition.blocks(np.zeros((m, m)), np.arange(m))
    assert (block, largest.shape) == (side, (count, count))


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
    largest, side = superposition.blocks(p, np.arange(5), most=3)
    assert side == 2
    np.testing.assert_array_equal(largest, [[-0.2, -0.4, 0.0], [-0.7, 0.0, 0.1], [np.nan, -0.3, np.nan]])
    assert np.isnan(superposition.blocks(np.ones((1, 1)), np.arange(1))[0]).all(), "one fact has an empty block"


@given(st.integers(superposition.DETAIL + 1, 3 * superposition.DETAIL), st.integers(0, 10_000))
def test_the_strongest_pair_of_a_block_is_the_one_that_tells_it(m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, order = rng.normal(size=(m, m)), rng.permutation(m)
    np.fill_diagonal(p, 9.0)
    p[rng.random((m, m)) < 0.2] = np.nan
    largest, side = superposition.blocks(p, order)
    assert side == superposition.block_side(m)
    for row, column in ((0, 0), (0, len(largest) - 1), (len(largest) - 1, 3), (7, 7)):
        if np.isfinite(largest[row, column]):
            i, j = superposition.strongest_in_block(p, order, row * side, column * side)
            assert p[i, j] == largest[row, column]
            assert i != j
            assert (list(order).index(i) // side, list(order).index(j) // side) == (row, column)


def test_an_overview_sends_the_first_position_of_each_block() -> None:
    m = 2 * superposition.DETAIL + 1  # blocks of 3, the last of them of 2: 86 a side
    p, order = matrix(m), RNG.permutation(m)
    p[order[255:], order[:3, None]] = np.nan
    spec = specification(overview(p, order))
    largest, side = superposition.blocks(p, order)
    shown = {(cell["r"], cell["c"]): cell["p"] for cell in cells(spec)}
    assert side == 3
    assert set(shown) == {(3 * r, 3 * c) for r in range(86) for c in range(86)} - {(255, 0)}
    for (row, column), value in shown.items():
        assert value == pytest.approx(largest[row // 3, column // 3], abs=SENT)
    (ends,) = [layer["transform"] for layer in spec["layer"] if "transform" in layer]
    assert [end["calculate"] for end in ends] == ["min(datum.r + 3, 257)", "min(datum.c + 3, 257)"]


def test_an_overview_draws_the_window_of_the_detail_and_the_pair_outside_it() -> None:
    spec = specification(overview(matrix(), ORDER, window=OFF_CENTRE, picked=(4, 3)))
    assert table(spec, "r", "r2", "c", "c2") == [{"r": 1, "r2": 4, "c": 2, "c2": 6}]
    assert [{"x": 0.5, "y": 5.5}] in tables(spec, "x", "y")
    params = {param["name"]: param["select"] for param in spec["params"]}
    assert params[charts.PICK]["fields"] == ["r", "c"]
    assert (params[charts.BRUSH]["type"], params[charts.BRUSH]["encodings"]) == ("interval", ["x", "y"])


def test_similarity_sends_every_two_layers_once() -> None:
    alike = np.array([[1.0, 0.2], [0.3, 1.0]])
    spec = specification(charts.similarity(alike, (2, 5), 5))
    sent = [(row["a"], row["b"], row["rho"]) for row in table(spec, "a", "b", "rho")]
    assert sent == [(2, 2, 1.0), (2, 5, 0.2), (5, 2, 0.3), (5, 5, 1.0)]
    (param,) = spec["params"]
    assert (param["name"], param["select"]["fields"]) == (charts.PICK, ["a", "b"])


@pytest.mark.parametrize("text", HOSTILE)
def test_a_label_cannot_leave_its_string(text: str) -> None:
    assert set(row_labels(draw(matrix(), names=[text] * 6)).values()) == {charts.shorten(text)}
