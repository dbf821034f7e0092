"""Layers and scaling: the kurtosis of everything computed on these facts, and how alike the layers are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kis_core import superposition
from kis_core.analysis.pipeline import Result
from kis_core.results import archive, published
from kis_core.store.store import Store
from tests.pages.conftest import ANSWERED, LAYERS, MIXED, MODEL, ONE_LAYER, Cache, Open, Stored
from tests.pages.looking import Chart, captions, charts, click, unescaped

PAGE = "pages/scaling.py"
POINT = ("model", "family", "parameters", "layer", "kurtosis", "low", "high")


def by_layer(page: object) -> Chart:
    return charts(page)[0]  # type: ignore[arg-type]


def drawn(chart: Chart) -> pd.DataFrame:
    """The points of a chart, in a fixed order."""
    frame = chart.drawn("point")[list(POINT)]
    return frame.sort_values(["model", "layer"]).reset_index(drop=True)


def expected(cache: Cache, *, clean: bool, facts: str = "builtin") -> pd.DataFrame:
    on_these = [
        one for one in archive.computed(Store(cache.folder)) if one.request in (
            cache.request(facts), cache.request(facts, model=ONE_LAYER)
        )
    ]  # fmt: skip
    frame = archive.kurtosis_frame(on_these, clean=clean)
    return frame[frame["kurtosis"].notna()].sort_values(["model", "layer"]).reset_index(drop=True)


@pytest.mark.parametrize(("link", "clean"), [({}, False), ({"artefacts": "without"}, True)])
def test_the_points_are_those_of_the_library(link: dict[str, str], clean: bool, look: Open, cache: Cache) -> None:
    frame = drawn(by_layer(look(PAGE, **link)))
    pd.testing.assert_frame_equal(frame, expected(cache, clean=clean), check_dtype=False)
    assert set(frame["model"]) == {MODEL, ONE_LAYER}
    assert len(frame) == LAYERS + 1


def test_artefact_pairs_weigh_on_the_kurtosis(cache: Cache) -> None:
    assert not np.allclose(expected(cache, clean=True)["kurtosis"], expected(cache, clean=False)["kurtosis"])


def test_artefact_pairs_are_left_out_by_the_switch(open_page: Open, cache: Cache) -> None:
    page = open_page(PAGE)
    page.toggle(key="choose-artefacts").set_value(True).run()
    assert page.query_params["artefacts"] == "without"
    pd.testing.assert_frame_equal(drawn(by_layer(page)), expected(cache, clean=True), check_dtype=False)
    assert "without artefact pairs" in captions(page)


def test_the_kurtosis_is_that_of_p(look: Open, result: Result) -> None:
    frame = drawn(by_layer(look(PAGE)))
    mine = frame[frame["model"] == MODEL]
    assert mine["kurtosis"].tolist() == pytest.approx([superposition.moments(p).kurtosis for p in result.p])


def test_against_size_stand_the_models_at_the_chosen_layer(look: Open, cache: Cache) -> None:
    first, last = (drawn(charts(look(PAGE, layer=layer))[1]) for layer in ("0", "3"))
    every = expected(cache, clean=False)
    for frame, layer in ((first, 0), (last, 3)):
        pd.testing.assert_frame_equal(frame, every[every["layer"] == layer].reset_index(drop=True), check_dtype=False)
    assert set(first["model"]) == {MODEL, ONE_LAYER}
    assert set(last["model"]) == {MODEL}


def test_the_chosen_layer_is_ringed(look: Open, result: Result) -> None:
    chart = by_layer(look(PAGE, layer="3"))
    ring = [layer for layer in chart.spec["layer"] if layer["mark"]["type"] == "point"][-1]
    (point,) = chart.tables[ring["data"]["name"]].itertuples()
    assert (point.model, point.layer) == (MODEL, 3)
    assert point.kurtosis == pytest.approx(result.reports[3].moments.kurtosis)


def test_results_on_other_facts_are_counted_and_left_out(look: Open, cache: Cache) -> None:
    others = len(archive.computed(Store(cache.folder))) - 2
    assert f" {others} other results" in captions(look(PAGE))


def test_the_kurtosis_of_answered_facts_is_that_of_the_facts_the_caption_tells(look: Open, stored: Stored) -> None:
    page = look(PAGE, facts="mixed", keep="known")
    kept = ANSWERED if f"{ANSWERED} facts" in unescaped(captions(page)) else MIXED
    frame = drawn(by_layer(page))
    mine = frame[frame["model"] == MODEL]
    described = [superposition.moments(p[:kept, :kept]).kurtosis for p in stored("mixed").p]
    assert mine["kurtosis"].tolist() == pytest.approx(described)


@pytest.mark.parametrize("which", [0, 1])
def test_a_click_on_a_point_opens_its_model_and_layer(which: int, open_page: Open, cache: Cache) -> None:
    page = open_page(PAGE, layer="1", facts="mixed")
    click(page, charts(page)[which], model=[{"model": ONE_LAYER, "layer": 0}])
    assert dict(page.query_params) == {"model": ONE_LAYER, "facts": cache.name("mixed")}
    assert page.button(key="step-Right"), "on the page of the matrix"
    assert "open-point" not in page.session_state


def test_a_click_on_a_model_that_is_gone_does_nothing(open_page: Open) -> None:
    page = open_page(PAGE)
    click(page, by_layer(page), model=[{"model": "a model of the command line", "layer": 0}])
    assert not page.exception
    assert dict(page.query_params) == {"model": MODEL}


def similarity(page: object) -> Chart:
    return next(chart for chart in charts(page) if chart.holds("a", "b", "rho"))  # type: ignore[arg-type]


def test_the_layers_are_correlated_by_rank(look: Open, result: Result) -> None:
    page = look(PAGE)
    cells = similarity(page).table("a", "b", "rho")
    ranks = [pd.Series(p[~np.eye(len(p), dtype=bool)]).rank() for p in result.p]
    for cell in cells.itertuples():
        assert cell.rho == pytest.approx(ranks[int(cell.a)].corr(ranks[int(cell.b)]))
    apart = cells.loc[cells["a"] != cells["b"], "rho"].mean()
    assert page.metric[0].value == f"{apart:.2f}"


def test_a_click_on_two_layers_compares_them(open_page: Open, cache: Cache) -> None:
    page = open_page(PAGE, other=ONE_LAYER, facts="mixed")
    click(page, similarity(page), cell=[{"a": 1, "b": 3}])
    assert dict(page.query_params) == {"model": MODEL, "layer": "1", "otherlayer": "3", "facts": cache.name("mixed")}
    assert page.selectbox(key="choose-other").value == MODEL


def test_a_click_on_a_layer_and_itself_compares_nothing(open_page: Open) -> None:
    page = open_page(PAGE)
    click(page, similarity(page), cell=[{"a": 2, "b": 2}])
    assert dict(page.query_params) == {"model": MODEL}


def test_a_model_of_one_layer_has_no_layers_to_compare(look: Open) -> None:
    page = look(PAGE, model=ONE_LAYER)
    assert not any(chart.holds("a", "b", "rho") for chart in charts(page))
    assert "single layer" in captions(page)


def test_published_kurtosis_stands_beside_that_computed(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(published.KURTOSIS, MODEL, (72.7, 24.5))
    assert "72.7" not in captions(open_page(PAGE)), "the facts are not the paper's"
    monkeypatch.setattr(published, "are_the_papers", lambda *_: True)
    assert "72.7, 24.5" in captions(open_page(PAGE))
