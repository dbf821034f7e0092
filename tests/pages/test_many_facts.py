"""Many facts: swept in the background, shown as the numbers say, and the other pages send large sets here."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from kis_core import superposition
from kis_core.analysis import large_sets
from kis_core.analysis.large_sets import LargeSet
from kis_core.errors import KisError
from kis_core.facts import FactSet, saved
from kis_core.models import catalog
from kis_core.results.result import Result
from kis_core.store.store import Store
from pages.parts.jobs import background, results
from tests import tiny
from tests.pages.conftest import ANSWERED, HOSTILE, MODEL, ONE_LAYER, SCRIPT, Cache, Open, Stored
from tests.pages.looking import (
    assert_shown,
    captions,
    carried_out,
    charts,
    click,
    click_cell,
    finish,
    html,
    infos,
    markdown,
    pairs_of,
    press,
    provenance,
    table_of,
    unescaped,
)

PAGE = "pages/many_facts.py"
FIGURES = 7  # and tables with lines of their own, that of the pair by layer in the inspector included
OTHERS = ("app.py", "pages/superposition.py", "pages/compare.py", "pages/edit.py", "pages/your_facts.py")


@pytest.fixture
def ready(cache: Cache, open_page: Open, stored: Stored) -> Any:
    """The page with its sweep stored: `ready(facts, layer=...)`; the page and what it shows."""

    def opened(source: str = "builtin", **link: str) -> tuple[AppTest, LargeSet]:
        asked = (cache.request(source, model=link.get("model", MODEL)), int(link.get("layer", 0)))
        sweep = large_sets.run(*asked, Store(cache.folder), known_only="keep" in link)
        page = open_page(PAGE, facts=source, **link)
        return page, sweep

    return opened


def test_the_figures_show_the_sweep(ready: Any, result: Result) -> None:
    page, sweep = ready(layer="2", artefacts="without")
    p = result.clean(2)
    entries = superposition.finite_entries(p)
    counted, part = charts(page)[0], charts(page)[-1]
    assert counted.table("low", "high", "count")["count"].sum() == len(entries)
    stated = table_of(page, "of P").value.set_index("of P")["Without artefact pairs"]
    moments = result.reports[2].clean_moments
    assert stated["pairs"] == f"{moments.count:,}"
    assert stated["excess kurtosis"] == f"{moments.kurtosis:.1f}"
    assert stated["std"] == f"{moments.std:.4f}"
    assert part.table("r", "c", "p")["p"].abs().max() <= 1.5
    listed = table_of(page, "p_back", "tags").value
    assert not listed["tags"].any()
    assert listed["p"].to_numpy() == pytest.approx(p[listed["i"], listed["j"]], abs=1e-5)
    assert sweep.layer == 2
    assert "2 keys are taken at the first token" in captions(page)


def test_everything_has_its_origin_and_its_lines(ready: Any, monkeypatch: pytest.MonkeyPatch, cache: Cache) -> None:
    page, _ = ready("mixed", keep="known", layer="1")
    origins = provenance(page)
    assert len(origins) == len(page.code) == FIGURES
    for caption in origins:
        for said in (MODEL, "layer", f"{ANSWERED} facts", "100,000 tokens"):
            assert said in caption
    monkeypatch.setenv("KIS_CACHE", str(cache.folder))
    given = [carried_out(code.value)[1] for code in page.code]
    (pairs,) = (value for value in given if hasattr(value, "columns") and "p_back" in value.columns)
    assert_shown(table_of(page, "p_back", "tags"), pairs[["p", "p_back"]])


def test_without_a_stored_analysis_both_prompts_are_shown(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results.pipeline, "cached", lambda *_: None)
    page, sweep = ready("hostile", pair="0-1")
    assert "whitened angle" not in html(page)
    there, back = sweep.window([0], [1])[0, 0], sweep.window([1], [0])[0, 0]
    assert [metric.value for metric in page.metric] == [f"{there:+.3f}", f"{back:+.3f}"]
    assert SCRIPT not in html(page)
    assert SCRIPT in html(page).replace("&lt;", "<").replace("&gt;", ">")
    for fact in HOSTILE:
        assert fact.text not in markdown(page)


def test_a_click_on_a_row_or_a_cell_picks_the_pair(ready: Any) -> None:
    page, sweep = ready("large")
    listed = table_of(page, "p_back", "tags").value
    page = click_cell(page, table_of(page, "p_back", "tags"), 5, "p")
    assert page.query_params["pair"] == "-".join(map(str, pairs_of(listed)[5]))
    i, j = pairs_of(listed)[5]
    side = min(64, len(sweep.facts))
    click(page, charts(page)[-1], cell=[{"r": 0, "c": side + 2}])
    edited, suffers = (int(part) for part in page.query_params["pair"].split("-"))
    assert edited == i
    assert f"{sweep.window([edited], [suffers])[0, 0]:+.3f}" in html(page)
    assert "whitened angle" in html(page), "the inspector of the other pages, where the analysis is stored"
    others = [k for k in np.argsort(-np.abs(sweep.row(i)), kind="stable") if k not in (i, j)]
    assert abs(sweep.row(i)[suffers]) == pytest.approx(abs(sweep.row(i)[others[1]]))


@pytest.mark.parametrize("source", ["one", "constant"])
def test_a_single_fact_has_no_figures_and_equal_keys_have_all(source: str, ready: Any) -> None:
    page, _ = ready(source)
    assert not page.error
    assert len(page.code) == (0 if source == "one" else FIGURES)


def test_what_went_wrong_is_told_and_can_be_tried_again(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [KisError("layer 3 is *odd*"), OSError("/home/x")]

    def fail(*_: Any, **__: Any) -> None:
        if errors:
            raise errors.pop(0)

    monkeypatch.setattr(background, "settle_imports", lambda: None)
    monkeypatch.setattr(large_sets, "run", fail)
    monkeypatch.setattr(results, "START_BY_ITSELF", 50_000_000)
    page = open_page(PAGE, facts="two", model=ONE_LAYER)
    assert not results.runner()._jobs, "no visit starts it, however small the model"
    press(page, "Compute")
    for said in ("layer 3 is *odd*", "unexpected OSError"):
        finish()
        page.run()
        assert said in unescaped(page.error[0].value)
        assert "/home" not in markdown(page)
        press(press(page, "Try again"), "Compute")
    finish()
    page.run()
    assert not errors
    assert "could not be kept" in unescaped(page.error[0].value)


@pytest.mark.parametrize("script", tiny.in_full(OTHERS, ("app.py", "pages/edit.py")))
def test_the_other_pages_send_a_large_set_here(script: str, open_page: Open, folder: Path) -> None:
    name = saved.save(folder, FactSet("demo-fact-base", catalog.known_facts(catalog.DEFAULT, ()).everything))
    page = open_page(script, facts=name)
    assert not page.error
    assert "3,395 facts; this page shows the whole of P, of at most 2,000" in unescaped(infos(page))
    assert "“Many facts”" in str([link.proto.label for link in page.get("page_link")])
    assert not results.runner()._jobs
    assert "3,395" not in captions(page)


def test_what_is_shown_can_be_taken_home(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    offered: dict[str, Any] = {}

    def button(_: str, data: Any, file_name: str, *__: Any, **___: Any) -> bool:
        offered[file_name] = data
        return False

    monkeypatch.setattr(st, "download_button", button)
    _, sweep = ready("three")
    assert offered["counts-of-p-all-pairs.png"]().startswith(b"\x89PNG")
    (around,) = (name for name in offered if name.startswith("p-around-the-pair") and name.endswith("svg"))
    assert "edited facts by 3 that suffer" in str(offered[around]())
    assert offered["strongest-pairs.csv"]().startswith("rank,i,j,p,p_back")
    with np.load(io.BytesIO(offered["strongest-pairs.npz"]())) as kept:
        assert np.array_equal(kept["every.pairs"], sweep.sweep.every.pairs)
        assert kept["every.counts"].sum() == 6
        assert len(kept["edges"]) == len(kept["every.counts"]) + 1
