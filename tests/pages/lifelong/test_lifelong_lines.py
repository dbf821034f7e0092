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
from tests.pages.lifelong_runs import EXACT, HAND, Runs, chart, settled
from tests.pages.looking import as_in_table, button, carried_out, table_of

Page = Callable[..., AppTest]
Lines = Callable[[AppTest], list[dict[str, Any]]]
KNOWN = {"facts": "mixed", "keep": "known", "draw": "hand", "queue": "2:French"}


@pytest.fixture
def lines(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Lines:
    """What the lines of a page leave, from the top."""
    monkeypatch.setenv("KIS_CACHE", str(runs.cache.folder))
    monkeypatch.setattr(loading, "load", lambda *_, **__: runs.loaded)
    return lambda page: [carried_out(code.value)[0] for code in page.code]


def same(given: pd.DataFrame, shown: pd.DataFrame) -> None:
    """Up to what a chart leaves out: numbers that are not finite."""
    if "change" in shown:
        given = given[np.isfinite(given["change"])]
    shown = shown[list(given.columns)].reset_index(drop=True)
    pd.testing.assert_frame_equal(given.reset_index(drop=True), shown, **EXACT)


@pytest.mark.parametrize("link", [HAND, KNOWN, {"edits": "5", "editor": "alphaedit", "step": "0"}])
def test_the_lines_of_a_run_give_what_is_drawn(link: dict[str, str], seen: Page, lines: Lines, runs: Runs) -> None:
    if link is KNOWN:
        runs.trace("rome", 1, Draw("hand", picked=((2, "French"),)), facts="mixed", known=True)
    page = seen(**link)
    retention, theory, shifts = lines(page)
    shown = chart(page, "Edit after edit").under_mouse()[["edits", "series", "share"]]
    pd.testing.assert_frame_equal(retention["frame"].drop(columns="run"), shown, **EXACT)
    same(theory["frame"], chart(page, "Loss of log-odds").under_mouse())
    same(shifts["frame"], chart(page, "Interference at the layer").under_mouse())


def test_the_lines_under_ages_weights_and_facts_give_what_is_drawn(seen: Page, lines: Lines) -> None:
    page = seen(chronicle="ages", step="10")
    drawn = chart(page, "Edits still in force").under_mouse().rename(columns={"kind": "age", "change": "share"})
    same(lines(page)[1]["frame"], drawn)
    page = seen(chronicle="weights", step="10")
    titles = ("Growth of edits", "‖Wₙ − W₀‖ / ‖W₀‖", "condition number", "perplexity")
    for names, title in zip(lines(page)[1:], titles, strict=True):
        same(names["frame"], chart(page, title).under_mouse())
    page = seen(chronicle="facts", step="10")
    table = table_of(page, "subject", "probability")
    given = lines(page)[1]["table"].drop(columns="edits")
    pd.testing.assert_frame_equal(as_in_table(given, table), table.value, **EXACT)


def test_the_lines_of_the_heatmap_and_the_history_give_what_is_drawn(seen: Page, lines: Lines) -> None:
    page = seen(chronicle="damage", shade="renewed", watched="7")
    _, heatmap, history = lines(page)
    cells = chart(page, "Who is damaged").under_mouse()
    given = heatmap["frame"].assign(change=heatmap["frame"]["change"].round(2))
    pd.testing.assert_frame_equal(given, cells[list(given.columns)], **EXACT)
    same(history["frame"], chart(page, "What became of").under_mouse())


def test_the_lines_of_order_and_layer_give_its_forecasts(opened: Page, lines: Lines) -> None:
    page = opened(edits="5", chronicle="choosing")
    button(page, "Compute this table").click().run()
    page = settled(page)
    shown = table_of(page, "on_others", "among").value
    given = lines(page)[1]["frame"]
    np.testing.assert_allclose(given["on_others"], shown["on_others"], rtol=1e-6)
    np.testing.assert_allclose(given["among"], shown["among"], rtol=1e-6)
