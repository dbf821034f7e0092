"""Files of a result: NPZ, CSV and JSON, and cells that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core.analysis.pipeline import LayerReport, Request, Result
from kis_core.facts import Fact, FactSet
from kis_core.files.csv_records import unguarded
from kis_core.results import export
from kis_core.superposition import Interval, Moments

FACTS = (
    Fact("Zürich", "{}, they say, lies in", "Switzerland", "country"),
    Fact("=1+1", "@{} is\r=HYPERLINK(0)", "-5"),
    Fact("-Paris", '"{}" is\nin', "+France"),
)
P = np.array([[[1.0, -0.25, 0.5], [2.0, 1.0, 0.0], [0.0, 0.125, 1.0]], np.full((3, 3), -1e-300)])
OTHERS = (Interval(91.0, 92.0), Moments(93.0, 94.0, 95.0, 96.0, 97.0, 98, 99), Interval(100.0, 101.0))
RESULT = Result(
    request=Request(),
    facts=FactSet("mine.csv", FACTS),
    layers=(2, 5),
    p=P,
    whitening_cosine=P / 2,
    activation_cosine=P / 4,
    leverage=np.array([[2.0, 3.0, 0.5], [4.0, 1 / 3, 6.0]]),
    text_leverage=np.array([[0.5, 1.0, 2.0, 3.0, 4.0, 5.0], [math.nan] * 6]),
    reports=(
        LayerReport(2, 40, 1234.5, 0.0, Moments(-0.1, 0.2, -0.3, 1 / 3, 2.0, 6, 0), *OTHERS),
        LayerReport(5, 39, float("inf"), 1e-12, Moments(-1e-300, 0.0, math.nan, math.nan, -1e-300, 6, 0), *OTHERS),
    ),
    key_token_index=(1, 2, 0),
    key_tokens=(" Zürich", "=1", "\t"),
    key_token_ids=(7, 8, 9),
    answers=((("Switzerland", 0.5),), (), ()),
    known=(True, False, False),
    provenance={"facts": "mine.csv", "request": {"layers": [2, 5]}, "corpus": "Zürich"},
    key="superposition-0",
)
FACTS_HEADER = [
    *("index", "subject", "prompt", "target", "relation", "key_token_index", "key_token", "first_token"),
    *("leverage_layer_2", "leverage_layer_5", "weak_key_layer_2", "weak_key_layer_5"),
]
STATISTICS_HEADER = [
    *("layer", "mean", "std", "skewness", "kurtosis", "max", "rank", "condition_number", "ridge"),
    *("clean_mean", "clean_std", "clean_skewness", "clean_kurtosis", "clean_max", "weak_below"),
]


def rows_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_the_npz_holds_layers_and_matrices_under_their_names() -> None:
    with np.load(io.BytesIO(export.npz(RESULT)), allow_pickle=False) as arrays:
        assert set(arrays) == {"layers", "p", "whitening_cosine", "activation_cosine", "leverage"}
        np.testing.assert_array_equal(arrays["layers"], [2, 5])
        np.testing.assert_array_equal(arrays["leverage"], RESULT.leverage)
        for name, expected in (("p", P), ("whitening_cosine", P / 2), ("activation_cosine", P / 4)):
            assert (arrays[name].shape, arrays[name].dtype) == ((2, 3, 3), np.float64)
            np.testing.assert_array_equal(arrays[name], expected)


def test_the_facts_by_hand() -> None:
    ok = ("False", "")  # not weak at layer 2; at layer 5, general text was not at hand
    assert rows_of(export.facts_csv(RESULT)) == [
        FACTS_HEADER,
        ["0", "Zürich", "{}, they say, lies in", "Switzerland", "country", "1", " Zürich", "False", "2.0", "4.0", *ok],
        ["1", "'=1+1", "'@{} is\r'=HYPERLINK(0)", "-5", "", "2", "'=1", "False", "3.0", "0.3333333333333333", *ok],
        ["2", "'-Paris", '"{}" is\nin', "'+France", "", "0", "'\t", "True", "0.5", "6.0", "True", ""],
    ]


def test_the_statistics_by_hand() -> None:
    rows, clean = rows_of(export.statistics_csv(RESULT)), ["93.0", "94.0", "95.0", "96.0", "97.0"]
    assert rows == [
        STATISTICS_HEADER,
        ["2", "-0.1", "0.2", "-0.3", "0.3333333333333333", "2.0", "40", "1234.5", "0.0", *clean, "1.0"],
        ["5", "-1e-300", "0.0", "nan", "nan", "-1e-300", "39", "inf", "1e-12", *clean, "nan"],
    ]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe(start: str) -> None:
    for rest in ("", "cmd|' /C calc'!A0", " 1", "1+1", "1_0", "１", "inf", "nan"):
        assert export.harmless(start + rest) == "'" + start + rest
    assert export.harmless(start + "5") == (start + "5" if start in "+-" else f"'{start}5"), "numbers may have a sign"


@pytest.mark.parametrize("cell", ["'=1", "''@x", "'-5"])
def test_an_apostrophe_that_would_be_taken_off_gets_another(cell: str) -> None:
    assert export.harmless(cell) == f"'{cell}"


text_cells = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")),
    st.text(st.sampled_from("=+-@\t\r\n,;\"' a1."), max_size=6),
).map(lambda text: text.lstrip(" "))  # as every field of a fact; blanks before a guard are not kept


@given(st.lists(st.lists(text_cells, min_size=3, max_size=3), max_size=4))
def test_a_table_reads_back_cell_by_cell_and_no_line_of_it_begins_a_formula(cells: list[list[str]]) -> None:
    text = export.table(("a", "b", "c"), cells)
    back = rows_of(text)
    assert back[0] == ["a", "b", "c"]
    assert [[unguarded(cell) for cell in row] for row in back[1:]] == cells
    for cell in (cell for row in back for cell in row):
        assert not cell.startswith(("=", "@", "\t", "\r"))
        _, *later = re.split(r"[;\t\r\n]", cell)  # as a spreadsheet may part it that takes no comma
        assert not any(part.lstrip('"').startswith(("=", "+", "-", "@")) for part in later)


@given(st.lists(st.floats(), min_size=1, max_size=5))
def test_numbers_keep_every_digit(numbers: list[float]) -> None:
    cells = rows_of(export.table(["x"] * len(numbers), [numbers, [np.float64(number) for number in numbers]]))
    for row in cells[1:]:
        np.testing.assert_array_equal([float(cell) for cell in row], numbers)


def test_a_frame_keeps_its_columns_and_is_guarded() -> None:
    frame = pd.DataFrame({"i": [0, 1], "=model": ["=cmd()", "a,b"], "p": [-0.25, float("nan")]})
    assert rows_of(export.frame_csv(frame)) == [["i", "'=model", "p"], ["0", "'=cmd()", "-0.25"], ["1", "a,b", "nan"]]
