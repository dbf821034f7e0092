"""The lines of Python beside each figure and table: they run, and give the numbers that are shown."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from kis_core.models import loading
from pages.parts.frame import state
from tests import tiny
from tests.pages.conftest import ANSWERED, LAYERS, LOOKALIKES, ONE_LAYER, SCRIPT, Cache, Stored
from tests.pages.edit_tools import bars
from tests.pages.looking import as_in_table, carried_out, charts, listed, pairs_of, table_of

NAMES = (
    "angles",
    "compare",
    "convergence",
    "distributions",
    "edit",
    "network",
    "scaling",
    "superposition",
    "top_pairs",
)
WITH_FIGURES = ("app.py", *(f"pages/{name}.py" for name in NAMES))
QUICK = tuple(script for script in WITH_FIGURES if "convergence" not in script)  # whose lines read much text
ANSWERED_ALONE = {"facts": "mixed", "keep": "known"}
VIEWS = {"as it opens": {}, "answered facts of another layer": {"layer": "2"} | ANSWERED_ALONE}
of_views = pytest.mark.parametrize("view", tiny.in_full(VIEWS, ("answered facts of another layer",)))
MORE: tuple[tuple[str, dict[str, str]], ...] = (
    ("pages/top_pairs.py", {"k": "30", "directions": "merged", "tags": "no tag", "find": 'it\'s "x"'}),
    ("app.py", {"facts": LOOKALIKES}),
    ("app.py", {"facts": "large"}),
    ("pages/superposition.py", {"facts": "large"}),
)
"""Views that have lines of their own, besides those below."""
LISTS: tuple[tuple[str, dict[str, str]], ...] = (
    ("pages/top_pairs.py", {}),
    ("pages/top_pairs.py", {"list": "stay"}),
    ("pages/top_pairs.py", {"list": "stay", "stay": "models"} | ANSWERED_ALONE),
    ("pages/distributions.py", {"artefacts": "without", "layer": "2", "tail": "0.2~1.1"} | ANSWERED_ALONE),
    ("pages/angles.py", {"space": "activation", "angle": "40~60"}),
    ("pages/compare.py", {"other": ONE_LAYER}),
)
STRIP = ("layer", "at", "base", "height", "curve")  # columns of the strips of all layers
ROUNDING = 1e-9  # of a height that is drawn on top of the strips below it
FOUR_DIGITS = 1e-4  # cells of a heatmap are sent with as many
EDIT = {"facts": "three", "pair": "0-1", "target": "French", "how": "steps:3"}
DONE = {"look": "history", "performed": "yes"}
EDITS: tuple[dict[str, str], ...] = (
    {"strength": "0.5", "by": "shift", "method": "r-rome", "layer": "1"} | DONE,
    {"layer": "3", "look": "history"},  # the last one, of which there are shares alone
    {"target": "Russian", "look": "history"},  # the object it has
    {"facts": "hostile", "target": f"'{SCRIPT}\\", "by": "propagated", "how": "everywhere:0~prefixes:1~steps:3"} | DONE,
)
"""Edits whose lines say something else than those of `EDIT`."""
EXACT = 1e-12  # the same float64 numbers, of the same model on the same machine

Carried = list[tuple[dict[str, Any], Any]]
Lines = Callable[..., tuple[AppTest, Carried]]


@pytest.fixture(scope="module")
def copied(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the cache, into which lines of Python may compute what is missing."""
    folder = tmp_path_factory.mktemp("copied") / "cache"
    shutil.copytree(cache.folder, folder)
    return folder


@pytest.fixture(scope="module")
def carried() -> dict[str, tuple[dict[str, Any], Any]]:
    return {}


@pytest.fixture
def lines_of(
    request: pytest.FixtureRequest, copied: Path, carried: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Lines:
    """A page, and what the lines of its figures leave, from the top: names, and the last value. Each is run once."""
    models, load = {}, loading.load

    def loaded(folder: Path, **options: Any) -> Any:
        if folder not in models:
            models[folder] = load(folder, **options)
        return models[folder]

    def done(script: str, **link: str) -> tuple[AppTest, Carried]:
        if "target" in link:
            page = request.getfixturevalue("look_at_edit")(**link)
        else:
            page = request.getfixturevalue("look")(script, **link)
        assert not page.error
        assert page.code
        with monkeypatch.context() as patch:
            patch.setenv("KIS_CACHE", str(copied))
            patch.setattr(loading, "load", loaded)
            for code in page.code:
                if code.value not in carried:
                    carried[code.value] = carried_out(code.value)
        return page, [carried[code.value] for code in page.code]

    return done


def by_name(carried: Carried, name: str) -> list[Any]:
    return [names[name] for names, _ in carried if name in names]


def same(given: pd.DataFrame, shown: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(given.reset_index(drop=True), shown, check_dtype=False, rtol=EXACT, atol=0)


@of_views
@pytest.mark.parametrize("script", tiny.in_full(WITH_FIGURES, QUICK))
def test_the_lines_of_a_figure_take_what_the_page_shows(
    script: str, view: str, lines_of: Lines, stored: Stored
) -> None:
    link = VIEWS[view]
    result = stored(link.get("facts", "builtin"))
    kept = ANSWERED if "keep" in link else len(result.facts)
    for names, _ in lines_of(script, **link)[1]:
        assert names["result"].p.shape == (LAYERS, kept, kept)
        np.testing.assert_array_equal(names["result"].p, result.p[:, :kept, :kept])


@pytest.mark.parametrize(("script", "link"), MORE)
def test_the_lines_of_other_views_run(script: str, link: dict[str, str], lines_of: Lines) -> None:
    assert lines_of(script, **link)


@of_views
def test_the_lines_of_densities_give_their_curves_and_strips(view: str, lines_of: Lines) -> None:
    page, carried = lines_of("pages/distributions.py", **VIEWS[view])
    figures, given = charts(page), by_name(carried, "curves")
    drawn, curves = [chart.drawn("line") for chart in figures if chart.id], [one for one in given if "curve" in one]
    assert len(curves) == len(drawn) == 2
    for expected, curve in zip(drawn, curves, strict=True):
        same(curve, expected.reset_index(drop=True))
    strips = [chart.table(*STRIP) for chart in figures if chart.holds(*STRIP)]
    for strip, curve in zip(strips, [one for one in given if "layer" in one], strict=True):
        np.testing.assert_allclose(strip["at"], curve["at"])
        height = (strip["height"] - strip["base"]) / (strip["height"] - strip["base"]).max()
        np.testing.assert_allclose(height, curve["density"] / curve["density"].max(), atol=ROUNDING)


@of_views
def test_the_lines_of_moments_and_angles_give_their_numbers(view: str, lines_of: Lines) -> None:
    page, carried = lines_of("app.py", **VIEWS[view])
    moments = next(value[1] for _, value in carried if isinstance(value, tuple))
    expected = [f"{moments.mean:+.3f}", f"{moments.std:.3f}", f"{moments.kurtosis:.1f}", f"{moments.max:.2f}"]
    assert [metric.value for metric in page.metric] == expected
    page, carried = lines_of("pages/angles.py", **VIEWS[view])
    bars = next(chart for chart in charts(page) if chart.id).drawn("rect")
    (shares,) = by_name(carried, "shares")
    filled = shares[shares["share"] > 0]
    assert filled["share"].tolist() == pytest.approx(bars["share"].tolist())
    assert filled["low"].tolist() == bars["low"].tolist()


@pytest.mark.stress
@of_views
def test_the_lines_of_convergence_give_its_numbers(view: str, lines_of: Lines) -> None:
    page, carried = lines_of("pages/convergence.py", **VIEWS[view])
    curves = [chart for chart in charts(page) if chart.holds("x", "middle", "low", "high", "note")]
    (bands,) = by_name(carried, "bands")
    assert curves[0].drawn("line")["middle"].tolist() == pytest.approx(bands["middle"].tolist())
    kurtosis = by_name(carried, "kurtosis")[0].set_index("x")["middle"]
    for point in curves[1].drawn("line").itertuples():
        assert point.middle == pytest.approx(kurtosis[point.x]), "of an amount of text that is computed already"


@pytest.mark.parametrize(("script", "link"), LISTS)
def test_the_lines_of_a_list_give_its_pairs(script: str, link: dict[str, str], lines_of: Lines) -> None:
    page, carried = lines_of(script, **link)
    shown = pairs_of(listed(page))
    values = [value for names, last in carried for value in (*names.values(), last)]
    (table,) = (value for value in values if isinstance(value, pd.DataFrame) and {"i", "j"} <= set(value.columns))
    assert shown
    assert pairs_of(table)[: len(shown)] == shown


@pytest.mark.parametrize("link", [{}, {"artefacts": "without"}])
def test_the_lines_of_scaling_give_its_points(link: dict[str, str], lines_of: Lines) -> None:
    page, carried = lines_of("pages/scaling.py", **link)
    drawn = charts(page)[0].drawn("point").set_index(["model", "layer"])["kurtosis"]
    frame = by_name(carried, "frame")[0].set_index(["model", "layer"])["kurtosis"]
    assert drawn.to_dict() == pytest.approx(frame.dropna().to_dict())


@pytest.mark.parametrize("link", [{"other": ONE_LAYER}, VIEWS["answered facts of another layer"]])
def test_the_lines_of_a_comparison_give_what_its_heatmaps_draw(link: dict[str, str], lines_of: Lines) -> None:
    page, carried = lines_of("pages/compare.py", **link)
    drawn = [chart.table("r", "c", "p") for chart in charts(page) if chart.holds("r", "c", "p")]
    for cells, (_, last) in zip(drawn, carried, strict=False):
        np.testing.assert_allclose(np.asarray(last)[cells["r"], cells["c"]], cells["p"], atol=FOUR_DIGITS)


def drawn_under(page: AppTest, title: str) -> pd.DataFrame:
    return next(chart for chart in charts(page) if chart.title == title).under_mouse()


def under_pair(page: AppTest, carried: Carried) -> None:
    (last,) = (value for _, value in carried)
    lines = next(chart for chart in charts(page) if chart.holds("layer", "series", "value")).drawn("line")
    expected = [lines[lines["series"] == name]["value"].tolist() for name in ("P[i, j]", "P[j, i]")]
    assert [list(series) for series in last] == expected


def under_scatter(page: AppTest, carried: Carried) -> None:
    (dots, _), (quality, _) = carried
    same(dots["frame"], drawn_under(page, "Forecast against measurement"))
    shown = table_of(page, "spearman", "auc").value
    same(quality["quality"][shown.columns.tolist()], shown)


def under_table(page: AppTest, carried: Carried) -> None:
    table, names = table_of(page, "subject", "dlogodds_all_tokens"), carried[0][0]
    renamed = {"fact": "index", "forecast": "dlogodds_all_tokens", "flips_foretold": "answer_foretold"}
    given = names["table"] if "table" in names else names["frame"].rename(columns=renamed)
    same(as_in_table(given[table.value.columns.tolist()], table), table.value)


def under_layers(page: AppTest, carried: Carried) -> None:
    same(carried[0][0]["frame"], drawn_under(page, "Layer advisor"))


def under_reach(page: AppTest, carried: Carried) -> None:
    dangerous, safe = (table.value for table in page.dataframe if {"reach", "leaks"} <= set(table.value.columns))
    columns, given = [name for name in dangerous.columns if name != "picked"], carried[0][0]["reach"]
    same(given.head(10)[columns], dangerous[columns])
    same(given.tail(10).iloc[::-1][columns], safe[columns])


def under_search(page: AppTest, carried: Carried) -> None:
    assert list(carried[0][0]["losses"]) == drawn_under(page, "Loss of the value search")["loss"].tolist()


def under_nothing(page: AppTest, carried: Carried) -> None:
    assert not carried


UNDER: dict[str, Callable[[AppTest, Carried], None]] = {
    "pair": under_pair, "scatter": under_scatter, "table": under_table, "layers": under_layers, "reach": under_reach,
    "history": under_nothing, "search": under_search,
}  # fmt: skip


def test_every_look_of_an_edit_has_its_lines_checked() -> None:
    assert tuple(UNDER) == state.LOOKS


@pytest.mark.parametrize("performed", [{}, {"performed": "yes"}], ids=["before", "after"])
@pytest.mark.parametrize("look", tiny.in_full(UNDER, ("pair",)))
def test_the_lines_of_an_edit_give_what_the_page_shows(look: str, performed: dict[str, str], lines_of: Lines) -> None:
    page, carried = lines_of("pages/edit.py", **EDIT, look=look, **performed)
    same(carried[0][0]["frame"], bars(page))
    assert bars(page)["measured"].notna().all() == bool(performed)
    (under_nothing if look == "scatter" and not performed else UNDER[look])(page, carried[1:])


@pytest.mark.stress
@pytest.mark.parametrize("more", EDITS)
def test_the_lines_of_another_edit_give_what_the_page_shows(more: dict[str, str], lines_of: Lines) -> None:
    page, carried = lines_of("pages/edit.py", **EDIT | more)
    same(carried[0][0]["frame"], bars(page))
