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
from tests.pages.conftest import ANSWERED, LAYERS, LOOKALIKES, ONE_LAYER, SCRIPT, Cache, Open, Stored
from tests.pages.looking import Chart, carried_out, charts, listed, pairs_of, table_of

WITH_FIGURES = (
    "app.py",
    "pages/angles.py",
    "pages/compare.py",
    "pages/convergence.py",
    "pages/distributions.py",
    "pages/edit.py",
    "pages/scaling.py",
    "pages/superposition.py",
    "pages/top_pairs.py",
)
ANSWERED_ALONE = {"facts": "mixed", "keep": "known"}
VIEWS: dict[str, dict[str, str]] = {
    "as it opens": {},
    "answered facts of another layer": {"layer": "2"} | ANSWERED_ALONE,
}
of_views = pytest.mark.parametrize(
    "link", [{}, pytest.param({"layer": "2"} | ANSWERED_ALONE, marks=pytest.mark.stress)], ids=VIEWS
)
MORE: tuple[tuple[str, dict[str, str]], ...] = (
    ("pages/top_pairs.py", {"list": "stay"}),
    ("pages/top_pairs.py", {"list": "stay", "stay": "models"}),
    ("pages/top_pairs.py", {"k": "30", "directions": "merged", "tags": "no tag", "find": 'it\'s "x"'}),
    ("pages/compare.py", {"other": ONE_LAYER}),
    ("pages/scaling.py", {"artefacts": "without"}),
    ("pages/distributions.py", {"artefacts": "without", "tail": "0.5~1.1"}),
    ("pages/angles.py", {"space": "activation", "angle": "40~60"}),
    ("app.py", {"facts": LOOKALIKES}),
    ("app.py", {"facts": "large"}),
    ("pages/superposition.py", {"facts": "large"}),
)
"""Views that have lines of their own."""
STRIP = ("layer", "at", "base", "height", "curve")  # columns of the strips of all layers
ROUNDING = 1e-9  # of a height that is drawn on top of the strips below it
FOUR_DIGITS = 1e-4  # cells of a heatmap are sent with as many
EDIT = {"facts": "three", "pair": "0-1", "target": "French", "how": "steps:3"}
EDITS: tuple[dict[str, str], ...] = (
    {"strength": "0.5", "by": "shift", "method": "r-rome", "layer": "1"},
    {"by": "propagated", "how": "clamp:2~everywhere:0~kl:0.5~prefixes:1~seed:7~steps:3"},
    {"facts": "mixed", "keep": "known", "pair": "1-0", "by": "subject"},
    {"facts": "hostile", "target": f"'{SCRIPT}\\", "how": "steps:3"},
)
"""Edits whose lines say more than those of `EDIT`."""
EXACT = 1e-12  # the same float64 numbers, of the same model on the same machine


Carried = list[tuple[dict[str, Any], Any]]
Lines = Callable[..., Carried]


@pytest.fixture(scope="module")
def copied(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the cache, into which lines of Python may compute what is missing."""
    folder = tmp_path_factory.mktemp("copied") / "cache"
    shutil.copytree(cache.folder, folder)
    return folder


@pytest.fixture(scope="module")
def carried() -> dict[tuple[Any, ...], Carried]:
    return {}


@pytest.fixture
def lines_of(
    look: Open, copied: Path, carried: dict[tuple[Any, ...], Carried], monkeypatch: pytest.MonkeyPatch
) -> Lines:
    """What the lines of every figure of a page leave, from the top: their names, and the last value; run once each."""

    def done(script: str, **link: str) -> Carried:
        asked = (script, *sorted(link.items()))
        if asked not in carried:
            page = look(script, **link)
            assert page.code
            with monkeypatch.context() as patch:
                patch.setenv("KIS_CACHE", str(copied))
                carried[asked] = [carried_out(code.value) for code in page.code]
        return carried[asked]

    return done


@pytest.mark.parametrize("view", tiny.in_full(VIEWS, ("as it opens",)))
@pytest.mark.parametrize("script", WITH_FIGURES)
def test_the_lines_of_a_figure_run_and_take_what_the_page_shows(
    script: str, view: str, lines_of: Lines, stored: Stored
) -> None:
    link = VIEWS[view]
    result = stored(link.get("facts", "builtin"))
    kept = ANSWERED if "keep" in link else len(result.facts)
    for names, _ in lines_of(script, **link):
        assert names["result"].p.shape == (LAYERS, kept, kept)
        np.testing.assert_array_equal(names["result"].p, result.p[:, :kept, :kept])


@pytest.mark.parametrize(("script", "link"), MORE)
def test_the_lines_of_other_views_run(script: str, link: dict[str, str], lines_of: Lines) -> None:
    assert lines_of(script, **link)


def by_name(found: Carried, name: str) -> list[Any]:
    return [names[name] for names, _ in found if name in names]


def test_the_overviews_lines_give_its_numbers(lines_of: Lines, look: Open) -> None:
    moments = next(value[1] for _, value in lines_of("app.py") if isinstance(value, tuple))
    shown = [metric.value for metric in look("app.py").metric]
    assert shown == [
        f"{moments.mean:+.3f}", f"{moments.std:.3f}", f"{moments.kurtosis:.1f}", f"{moments.max:.2f}",
    ]  # fmt: skip


@of_views
def test_the_lines_of_a_density_give_its_curve(link: dict[str, str], lines_of: Lines, look: Open) -> None:
    page = look("pages/distributions.py", **link)
    drawn = [chart.drawn("line") for chart in charts(page) if chart.id]
    curves = [frame for frame in by_name(lines_of("pages/distributions.py", **link), "curves") if "curve" in frame]
    assert len(curves) == len(drawn) == 2
    for expected, found in zip(drawn, curves, strict=True):
        pd.testing.assert_frame_equal(found.reset_index(drop=True), expected.reset_index(drop=True), check_dtype=False)


@of_views
def test_the_lines_of_the_strips_give_their_curves(link: dict[str, str], lines_of: Lines, look: Open) -> None:
    strips = [chart for chart in charts(look("pages/distributions.py", **link)) if chart.holds(*STRIP)]
    curves = [frame for frame in by_name(lines_of("pages/distributions.py", **link), "curves") if "layer" in frame]
    for chart, found in zip(strips, curves, strict=True):
        drawn = chart.table(*STRIP)
        np.testing.assert_allclose(drawn["at"], found["at"])
        height = (drawn["height"] - drawn["base"]) / (drawn["height"] - drawn["base"]).max()
        np.testing.assert_allclose(height, found["density"] / found["density"].max(), atol=ROUNDING)


@of_views
def test_the_lines_of_the_angles_give_their_shares(link: dict[str, str], lines_of: Lines, look: Open) -> None:
    bars = next(chart for chart in charts(look("pages/angles.py", **link)) if chart.id).drawn("rect")
    (shares,) = by_name(lines_of("pages/angles.py", **link), "shares")
    filled = shares[shares["share"] > 0]
    assert filled["share"].tolist() == pytest.approx(bars["share"].tolist())
    assert filled["low"].tolist() == bars["low"].tolist()


@pytest.mark.parametrize(
    ("script", "link"),
    [
        ("pages/top_pairs.py", {}),
        ("pages/top_pairs.py", {"layer": "2", "k": "30", "directions": "merged", "tags": "no tag"} | ANSWERED_ALONE),
        ("pages/top_pairs.py", {"list": "stay"}),
        ("pages/top_pairs.py", {"list": "stay", "stay": "models"}),
        ("pages/top_pairs.py", {"list": "stay", "stay": "models"} | ANSWERED_ALONE),
        ("pages/distributions.py", {"tail": "0.5~1.1"}),
        ("pages/distributions.py", {"artefacts": "without", "layer": "2"} | ANSWERED_ALONE),
        ("pages/angles.py", {}),
        ("pages/angles.py", {"space": "activation", "angle": "40~60"} | ANSWERED_ALONE),
        ("pages/compare.py", {"other": ONE_LAYER}),
        ("pages/compare.py", {"layer": "2"} | ANSWERED_ALONE),
    ],
)
def test_the_lines_of_a_list_give_its_pairs(script: str, link: dict[str, str], lines_of: Lines, look: Open) -> None:
    shown = pairs_of(listed(look(script, **link)))
    tables = [value for names, last in lines_of(script, **link) for value in (*names.values(), last)]
    tables = [table for table in tables if isinstance(table, pd.DataFrame) and {"i", "j"} <= set(table.columns)]
    assert len(tables) == 1
    assert shown
    assert pairs_of(tables[0])[: len(shown)] == shown


@pytest.mark.parametrize("link", [{}, {"artefacts": "without"}])
def test_the_lines_of_scaling_give_its_points(link: dict[str, str], lines_of: Lines, look: Open) -> None:
    drawn = charts(look("pages/scaling.py", **link))[0].drawn("point").set_index(["model", "layer"])["kurtosis"]
    frame = by_name(lines_of("pages/scaling.py", **link), "frame")[0].set_index(["model", "layer"])["kurtosis"]
    assert drawn.to_dict() == pytest.approx(frame.dropna().to_dict())


@of_views
def test_the_lines_of_convergence_give_its_numbers(link: dict[str, str], lines_of: Lines, look: Open) -> None:
    found = lines_of("pages/convergence.py", **link)
    by_facts, by_tokens = [chart for chart in charts(look("pages/convergence.py", **link)) if is_curve(chart)][:2]
    (bands,) = by_name(found, "bands")
    assert by_facts.drawn("line")["middle"].tolist() == pytest.approx(bands["middle"].tolist())
    kurtosis = by_name(found, "kurtosis")[0].set_index("x")["middle"]
    for point in by_tokens.drawn("line").itertuples():
        assert point.middle == pytest.approx(kurtosis[point.x]), "of an amount of text that is computed already"


def is_curve(chart: Chart) -> bool:
    return chart.holds("x", "middle", "low", "high", "note")


@pytest.mark.parametrize("link", [{}, {"other": ONE_LAYER}, {"layer": "2"} | ANSWERED_ALONE])
def test_the_lines_of_a_comparison_give_what_its_heatmaps_draw(
    link: dict[str, str], lines_of: Lines, look: Open
) -> None:
    drawn = [chart for chart in charts(look("pages/compare.py", **link)) if chart.holds("r", "c", "p")]
    for chart, (_, last) in zip(drawn, lines_of("pages/compare.py", **link), strict=False):
        cells = chart.table("r", "c", "p")
        matrix = np.asarray(last)
        np.testing.assert_allclose(matrix[cells["r"], cells["c"]], cells["p"], atol=FOUR_DIGITS)


# The page of edits: what stands under the forecast, before the edit and after it


@pytest.fixture
def edited_lines(
    look_at_edit: Callable[..., AppTest], copied: Path, carried: dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[AppTest, Carried]]:
    """A page of edits, and what its lines leave; lines that say the same are run once, and a model is loaded once."""
    load = loading.load
    models: dict[Path, Any] = {}

    def loaded(folder: Path, **options: Any) -> Any:
        if folder not in models:
            models[folder] = load(folder, **options)
        return models[folder]

    def done(**link: str) -> tuple[AppTest, Carried]:
        page = look_at_edit(**link)
        assert not page.exception
        assert not page.error
        with monkeypatch.context() as patch:
            patch.setenv("KIS_CACHE", str(copied))
            patch.setattr(loading, "load", loaded)
            for code in page.code:
                if code.value not in carried:
                    carried[code.value] = carried_out(code.value)
        return page, [carried[code.value] for code in page.code]

    return done


def same(found: pd.DataFrame, shown: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found.reset_index(drop=True), shown, check_dtype=False, rtol=EXACT, atol=0)


def bars(page: AppTest) -> pd.DataFrame:
    """What the chart of all facts draws, without where."""
    chart = next(chart for chart in charts(page) if chart.holds("told", "kind", "left"))
    return chart.table("told", "kind", "left").drop(columns=["left", "right", "zero", "bottom", "top"])


def drawn_under(page: AppTest, title: str) -> pd.DataFrame:
    """What the layer that shows something under the mouse draws, of the chart of that title."""
    chart = next(chart for chart in charts(page) if chart.title == title)
    layer = next(layer for layer in chart.spec["layer"] if "tooltip" in layer["encoding"])
    return chart.tables[(layer if "data" in layer else chart.spec)["data"]["name"]]


def under_pair(page: AppTest, found: Carried) -> None:
    (last,) = (value for _, value in found[1:])
    lines = next(chart for chart in charts(page) if chart.holds("layer", "series", "value")).drawn("line")
    assert [list(series) for series in last] == [
        lines[lines["series"] == name]["value"].tolist() for name in ("P[i, j]", "P[j, i]")
    ]


def under_scatter(page: AppTest, found: Carried) -> None:
    dots, quality = found[1:]
    same(dots[0]["frame"], drawn_under(page, "Forecast against measurement"))
    shown = table_of(page, "spearman", "auc").value
    same(quality[0]["quality"][shown.columns.tolist()], shown)


def under_table(page: AppTest, found: Carried) -> None:
    (names,) = (names for names, _ in found[1:])
    shown = table_of(page, "subject", "dlogodds_all_tokens").value
    renamed = {"fact": "index", "forecast": "dlogodds_all_tokens", "flips_foretold": "answer_foretold"}
    table = names["table"] if "dlogodds_all_tokens" in names["table"] else names["table"].rename(columns=renamed)
    same(table[shown.columns.tolist()], shown)


def under_layers(page: AppTest, found: Carried) -> None:
    (names,) = (names for names, _ in found[1:])
    same(names["frame"], drawn_under(page, "Layer advisor"))


def under_reach(page: AppTest, found: Carried) -> None:
    (names,) = (names for names, _ in found[1:])
    dangerous, safe = (table.value for table in page.dataframe if {"reach", "leaks"} <= set(table.value.columns))
    columns = [name for name in dangerous.columns if name != "picked"]
    same(names["reach"].head(10)[columns], dangerous[columns])
    same(names["reach"].tail(10).iloc[::-1][columns], safe[columns])


def under_search(page: AppTest, found: Carried) -> None:
    (names,) = (names for names, _ in found[1:])
    assert list(names["losses"]) == drawn_under(page, "Loss of the value search")["loss"].tolist()


def under_nothing(page: AppTest, found: Carried) -> None:
    assert len(found) == 1


UNDER: dict[str, Callable[[AppTest, Carried], None]] = {
    "pair": under_pair,
    "scatter": under_scatter,
    "table": under_table,
    "layers": under_layers,
    "reach": under_reach,
    "history": under_nothing,
    "search": under_search,
}


def test_every_look_of_an_edit_has_its_lines_checked() -> None:
    assert tuple(UNDER) == state.LOOKS


@pytest.mark.parametrize("performed", [{}, {"performed": "yes"}], ids=["before", "after"])
@pytest.mark.parametrize("look", tiny.in_full(UNDER, ("pair",)))
def test_the_lines_of_an_edit_give_what_the_page_shows(
    look: str, performed: dict[str, str], edited_lines: Callable[..., tuple[AppTest, Carried]]
) -> None:
    page, found = edited_lines(**EDIT, look=look, **performed)
    same(found[0][0]["frame"], bars(page))
    assert bars(page)["measured"].notna().all() == bool(performed)
    (under_nothing if look == "scatter" and not performed else UNDER[look])(page, found)


@pytest.mark.parametrize("more", [EDITS[0], *(pytest.param(more, marks=pytest.mark.stress) for more in EDITS[1:])])
def test_the_lines_of_another_edit_give_what_the_page_shows(
    more: dict[str, str], edited_lines: Callable[..., tuple[AppTest, Carried]]
) -> None:
    page, found = edited_lines(**EDIT | more, look="history", performed="yes")
    same(found[0][0]["frame"], bars(page))


@pytest.mark.parametrize("link", [EDIT | {"layer": "3"}, EDIT | {"target": "Russian"}], ids=["last layer", "same"])
def test_the_lines_of_shares_give_what_the_page_shows(
    link: dict[str, str], edited_lines: Callable[..., tuple[AppTest, Carried]]
) -> None:
    page, found = edited_lines(**link, look="history")
    same(found[0][0]["frame"], bars(page))
