"""The lines of Python beside each figure of a run: they are carried out, and give the numbers drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from kis_core.lifelong import Draw
from kis_core.models import loading
from tests.pages.lifelong_runs import HAND, Runs, button, chart, settled, under_mouse
from tests.pages.looking import as_in_table, carried_out, table_of

Page = Callable[..., AppTest]
Lines = Callable[[AppTest], list[dict[str, Any]]]
EXACT: dict[str, Any] = {"check_dtype": False, "rtol": 1e-12, "atol": 0.0}  # the same float64 numbers


@pytest.fixture
def lines(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Lines:
    """What the lines of a page leave, from the top."""
    monkeypatch.setenv("KIS_CACHE", str(runs.cache.folder))
    monkeypatch.setattr(loading, "load", lambda *_, **__: runs.loaded)
    return lambda page: [carried_out(code.value)[0] for code in page.code]


def same(found: pd.DataFrame, shown: pd.DataFrame) -> None:
    """Up to what a chart leaves out: numbers that are not finite."""
    if "change" in shown:
        found = found[np.isfinite(found["change"])]
    shown = shown[list(found.columns)].reset_index(drop=True)
    pd.testing.assert_frame_equal(found.reset_index(drop=True), shown, **EXACT)


@pytest.mark.parametrize(
    "link",
    [
        {},
        {"step": "5"},
        HAND,
        {"edits": "5", "draw": "most"},
        {"edits": "5", "editor": "alphaedit"},
        {"facts": "mixed", "keep": "known", "draw": "hand", "queue": "2:French"},
    ],
)
def test_the_lines_of_a_run_give_what_is_drawn(link: dict[str, str], seen: Page, lines: Lines, runs: Runs) -> None:
    if "keep" in link:
        runs.film("rome", 1, Draw("hand", picked=((2, "French"),)), facts="mixed", known=True)
    page = seen(**link)
    retention, theory, shifts = lines(page)
    shown = under_mouse(chart(page, "Edit after edit"))
    pd.testing.assert_frame_equal(
        retention["frame"].drop(columns="run"), shown[["edits", "series", "share"]], **EXACT
    )  # fmt: skip
    same(theory["frame"], under_mouse(chart(page, "Loss of log-odds")))
    same(shifts["frame"], under_mouse(chart(page, "Interference at the layer")))


def test_the_lines_under_ages_weights_and_facts_give_what_is_drawn(seen: Page, lines: Lines) -> None:
    page = seen(chronicle="ages")
    drawn = under_mouse(chart(page, "Edits still in force")).rename(columns={"kind": "age", "change": "share"})
    same(lines(page)[1]["frame"], drawn)
    page = seen(chronicle="weights")
    for names, title in zip(lines(page)[1:], ("‖Wₙ − W₀‖ / ‖W₀‖", "condition number", "perplexity"), strict=True):
        same(names["frame"], under_mouse(chart(page, title)))
    page = seen(chronicle="facts", step="10")
    table = table_of(page, "subject", "probability")
    computed = lines(page)[1]["table"].drop(columns="edits")
    pd.testing.assert_frame_equal(as_in_table(computed, table), table.value, **EXACT)


@pytest.mark.parametrize("shade", ["measured", "renewed"])
def test_the_lines_of_the_heatmap_and_the_history_give_what_is_drawn(shade: str, seen: Page, lines: Lines) -> None:
    page = seen(chronicle="damage", shade=shade, watched="7")
    _, heatmap, history = lines(page)
    cells = under_mouse(chart(page, "Who is damaged"))
    found = heatmap["frame"].assign(change=heatmap["frame"]["change"].round(2))
    pd.testing.assert_frame_equal(found, cells[list(found.columns)], **EXACT)
    same(history["frame"], under_mouse(chart(page, "What became of")))


def test_the_lines_of_order_and_layer_give_its_forecasts(opened: Page, lines: Lines) -> None:
    page = opened(chronicle="choosing")
    button(page, "Compute this table").click().run()
    page = settled(page)
    shown = table_of(page, "on_others", "among").value
    frame = lines(page)[1]["frame"]
    np.testing.assert_allclose(frame["on_others"], shown["on_others"], rtol=1e-6)
    np.testing.assert_allclose(frame["among"], shown["among"], rtol=1e-6)


def test_the_lines_of_the_study_give_its_points(seen: Page, lines: Lines) -> None:
    page = seen(chronicle="study")
    lives = lines(page)[1]["lives"]
    shown = under_mouse(chart(page, "Edits until half"))
    pd.testing.assert_frame_equal(
        lives[["model", "middle", "unreached"]].reset_index(drop=True), shown[["model", "middle", "unreached"]], **EXACT
    )


def test_the_lines_of_runs_set_against_each_other_give_all_of_them(seen: Page, lines: Lines) -> None:
    page = seen(edits="5", against="seeds")
    shown = under_mouse(chart(page, "Edit after edit"))
    assert len(lines(page)[0]["frame"]) == len(shown)
