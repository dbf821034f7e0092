"""Layers and scaling: the kurtosis of everything computed on these facts, and how alike the layers are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from kis_core import superposition
from kis_core.analysis.pipeline import Result
from kis_core.results import archive
from kis_core.store.store import Store
from kis_core.superposition.verdicts import falls_with_depth
from tests.pages.conftest import LAYERS, MODEL, ONE_LAYER, Cache, Open
from tests.pages.looking import Chart, captions, charts, choose, click, markdown

PAGE = "pages/scaling.py"
POINT = ("model", "family", "parameters", "layer", "kurtosis", "low", "high")


def drawn(chart: Chart) -> pd.DataFrame:
    """The points of a chart, in a fixed order."""
    frame = chart.drawn("point")[list(POINT)]
    return frame.sort_values(["model", "layer"]).reset_index(drop=True)


def expected(cache: Cache, *, clean: bool, facts: str = "builtin") -> pd.DataFrame:
    requests = (cache.request(facts), cache.request(facts, model=ONE_LAYER))
    on_these = [result for result in archive.computed(Store(cache.folder)) if result.request in requests]
    frame = archive.kurtosis_frame(on_these, clean=clean)
    return frame[frame["kurtosis"].notna()].sort_values(["model", "layer"]).reset_index(drop=True)


def test_the_points_are_of_p_with_and_without_artefact_pairs(open_page: Open, cache: Cache, result: Result) -> None:
    page = open_page(PAGE)
    frame = drawn(charts(page)[0])
    pd.testing.assert_frame_equal(frame, expected(cache, clean=False), check_dtype=False)
    assert set(frame["model"]) == {MODEL, ONE_LAYER}
    assert len(frame) == LAYERS + 1
    others = len(archive.computed(Store(cache.folder))) - 2
    assert f" {others} other results" in captions(page), "those on other facts are counted and left out"
    mine = frame[frame["model"] == MODEL]["kurtosis"].tolist()
    assert mine == pytest.approx([superposition.moments(p).kurtosis for p in result.p])
    assert falls_with_depth(list(result.p)).finding in markdown(page)
    assert "2 models have a kurtosis here: too few to tell." in markdown(page)
    choose(page, "artefacts", True)
    assert page.query_params["artefacts"] == "without"
    assert falls_with_depth([result.clean(layer) for layer in result.layers]).finding in markdown(page)
    clean = drawn(charts(page)[0])
    pd.testing.assert_frame_equal(clean, expected(cache, clean=True), check_dtype=False)
    assert not np.allclose(clean["kurtosis"], frame["kurtosis"])
    assert "without artefact pairs" in captions(page)


def test_against_size_stand_the_models_at_the_chosen_layer_which_is_ringed(look: Open, cache: Cache) -> None:
    every = expected(cache, clean=False)
    for layer, models in ((0, {MODEL, ONE_LAYER}), (3, {MODEL})):
        by_depth, by_size = charts(look(PAGE, layer=str(layer)))[:2]
        frame = every[every["layer"] == layer].reset_index(drop=True)
        pd.testing.assert_frame_equal(drawn(by_size), frame, check_dtype=False)
        assert set(frame["model"]) == models
        ring = [layer for layer in by_depth.spec["layer"] if layer["mark"]["type"] == "point"][-1]
        (point,) = by_depth.tables[ring["data"]["name"]].itertuples()
        assert (point.model, point.layer) == (MODEL, layer)
        assert point.kurtosis == pytest.approx(frame.set_index("model")["kurtosis"][MODEL])


@pytest.mark.parametrize("which", [0, 1])
def test_a_click_on_a_point_opens_its_model_and_layer(which: int, open_page: Open, cache: Cache) -> None:
    page = open_page(PAGE, layer="1", facts="mixed")
    link = dict(page.query_params)
    click(page, charts(page)[which], model=[{"model": "a model of the command line", "layer": 0}])
    assert dict(page.query_params) == link, "of a model that is gone nothing"
    click(page, charts(page)[which], model=[{"model": ONE_LAYER, "layer": 0}])
    assert dict(page.query_params) == {"model": ONE_LAYER, "facts": cache.name("mixed")}
    assert page.button(key="step-Right"), "on the page of the matrix"
    assert "open-point" not in page.session_state


def similarity(page: AppTest) -> Chart:
    return next(chart for chart in charts(page) if chart.holds("a", "b", "rho"))


def test_the_layers_are_correlated_by_rank(look: Open, result: Result) -> None:
    page = look(PAGE, layer="0")
    cells = similarity(page).table("a", "b", "rho")
    ranks = [pd.Series(p[~np.eye(len(p), dtype=bool)]).rank() for p in result.p]
    for cell in cells.itertuples():
        assert cell.rho == pytest.approx(ranks[int(cell.a)].corr(ranks[int(cell.b)]))
    apart = cells.loc[cells["a"] != cells["b"], "rho"].mean()
    assert page.metric[0].value == f"{apart:.2f}"
    page = look(PAGE, model=ONE_LAYER)
    assert not any(chart.holds("a", "b", "rho") for chart in charts(page)), "of one layer there are no two"
    assert "single layer" in captions(page)


def test_a_click_on_two_layers_compares_them(open_page: Open, cache: Cache) -> None:
    page = open_page(PAGE, other=ONE_LAYER, facts="mixed")
    link = dict(page.query_params)
    click(page, similarity(page), cell=[{"a": 2, "b": 2}])
    assert dict(page.query_params) == link, "a layer and itself are not compared"
    click(page, similarity(page), cell=[{"a": 1, "b": 3}])
    assert dict(page.query_params) == {"model": MODEL, "layer": "1", "otherlayer": "3", "facts": cache.name("mixed")}
    assert page.selectbox(key="choose-other").value == MODEL
