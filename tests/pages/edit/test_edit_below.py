"""What stands under an edit: the pair, forecast against measurement, table, layers, reach, and the search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from kis_core import simulator
from kis_core.analysis.pipeline import Result
from kis_core.results.pairs import reach_of_edits
from kis_core.simulator import share_frame
from kis_core.spillover import FEW_FLIPS
from tests.pages.conftest import LAYERS, Open, Stored
from tests.pages.edit_tools import (
    FEW,
    LINEAR,
    SMALL,
    STEPS,
    STORY,
    USUAL,
    Alone,
    Edit,
    assert_bars,
    button,
    infos,
    measured,
    perform,
    ringed,
    spillover,
)
from tests.pages.looking import (
    Chart,
    assert_shown,
    captions,
    charts,
    click,
    click_cell,
    html,
    markdown,
    pairs_of,
    table_of,
    unescaped,
)

DIGITS = 3  # of the numbers in the tables


# What stands under an edit


def test_a_click_on_a_bar_opens_the_pair(open_edit: Edit, small: Callable[..., Alone]) -> None:
    page = open_edit(**SMALL | {"look": "table"}, performed="yes")
    page = click(page, spillover(page), fact=[{"fact": 2}])
    assert page.query_params["pair"] == "0-2"
    assert "look" not in page.query_params, "the pair stands below by default"
    shown = html(page)
    assert "edit fact i = 0<" in shown
    assert "and fact j = 2 suffers" in shown
    assert ringed(spillover(page)) == [2]
    assert not ways_here(page), "one is here already"

    edit = small()
    forecast, outcome = edit.forecast, edit.outcome()
    rows = table_of(page, "change of", "forecast", "measured").value
    assert rows["forecast"].tolist() == [
        forecast.shift[2], forecast.all_tokens[2], forecast.subject_token[2], outcome.propagated[2],
    ]  # fmt: skip
    assert rows["measured"].tolist() == [outcome.measured.shift[2]] + [outcome.measured.log_odds[2]] * 3
    before = edit.bench.answers_before[2]
    coming = forecast.flips.by(1.0).get(2, before) if forecast.flips else before
    told = f"Answer before: **{before}** · forecast: **{coming}** · measured: **{outcome.measured.answers[2]}**"
    assert told in unescaped(markdown(page))


def ways_here(page: AppTest) -> list[str]:
    """Links from a pair to the page of edits."""
    return [one.proto.label for one in page.get("page_link") if one.proto.label.startswith("Edit fact")]


def test_a_pair_leads_here_from_other_pages(look: Open) -> None:
    assert len(ways_here(look("pages/superposition.py", pair="0-1", layer="2"))) == 1


def test_before_the_edit_the_pair_has_its_forecasts_at_the_strength(
    look_at_edit: Edit, small: Callable[..., Alone]
) -> None:
    page = look_at_edit(**SMALL | {"look": "pair"}, strength="0.5")
    forecast = small().forecast
    rows = table_of(page, "change of", "forecast", "measured").value
    assert rows["forecast"].tolist() == [
        0.5 * forecast.shift[1], 0.5 * forecast.all_tokens[1], 0.5 * forecast.subject_token[1],
    ]  # fmt: skip
    assert rows["measured"].isna().all()
    assert "measured:" not in markdown(page)
    assert "Click a bar above" in infos(look_at_edit(**SMALL | {"look": "pair", "pair": "0-0"}))


@pytest.mark.parametrize("by", ["all", "shift"])
def test_measurement_is_drawn_against_the_chosen_forecast(
    by: str, look_at_edit: Edit, alone: Callable[..., Alone]
) -> None:
    page = look_at_edit(**STORY | {"look": "scatter"}, performed="yes", by=by)
    dots = against(page)
    (points,) = (layer for layer in dots.spec["layer"] if "tooltip" in layer["encoding"])
    shown = dots.tables[points["data"]["name"]]
    pd.testing.assert_frame_equal(shown, alone().frame(by, performed=True), check_dtype=False)
    titles = [layer["encoding"]["x"].get("title") for layer in dots.spec["layer"]]
    assert ("forecast shift" if by == "shift" else "forecast change of log-odds") in titles


def against(page: AppTest) -> Chart:
    """The chart of measurement against forecast."""
    return next(chart for chart in charts(page) if chart.title == "Forecast against measurement")


def test_the_quality_of_the_forecasts_is_that_of_the_library(look_at_edit: Edit, alone: Callable[..., Alone]) -> None:
    page = look_at_edit(**STORY | {"look": "scatter"}, performed="yes", by="all")
    edit = alone()
    expected = edit.bench.quality(edit.forecast, edit.outcome())
    shown = table_of(page, "spearman", "auc").value
    pd.testing.assert_frame_equal(shown, expected.drop(columns=["flips", "facts"]), check_dtype=False)
    flips = int(edit.outcome().flipped.sum()) - 1
    assert flips >= FEW_FLIPS
    assert f"of 127 facts; {flips} answers changed." in captions(page)
    assert "means little" not in captions(page)


def test_where_few_answers_changed_that_is_told(open_edit: Edit, small: Callable[..., Alone]) -> None:
    page = open_edit(**SMALL | {"look": "scatter"})
    assert "Perform the edit to see" in infos(page)
    page = perform(page)
    flips = int(small().outcome().flipped[1:].sum())
    assert f"{flips} answers changed. With {flips} of them the AUC means little." in captions(page)
    page = click(page, against(page), fact=[{"fact": 2}])
    assert page.query_params["pair"] == "0-2"
    assert page.query_params["look"] == "scatter"
    assert ringed(against(page)) == [2]


def test_the_table_holds_everything_the_library_tells(open_edit: Edit, small: Callable[..., Alone]) -> None:
    edit = small()
    page = open_edit(**SMALL | {"look": "table"}, strength="0.5")
    shown = table_of(page, "index", "dlogodds_all_tokens").value
    told = {
        "fact": "index", "subject": "subject", "p": "p", "share": "share", "forecast": "dlogodds_all_tokens",
        "flips_foretold": "answer_foretold",
    }  # fmt: skip
    assert_shown(shown, edit.frame(strength=0.5)[list(told)].rename(columns=told), DIGITS)
    page = perform(page)
    shown = table_of(page, "index", "dlogodds_measured").value
    assert_shown(shown, edit.bench.table(edit.forecast, edit.outcome(0.5)), DIGITS)
    click_cell(page, table_of(page, "index", "dlogodds_measured"), 2, "subject")
    assert page.query_params["pair"] == "0-2"
    assert measured(page)


def test_a_click_on_a_row_of_the_forecast_picks_its_fact(open_edit: Edit) -> None:
    page = open_edit(**SMALL | {"look": "table"})
    table = table_of(page, "index", "dlogodds_all_tokens")
    for row in (0, 1):
        click_cell(page, table_of(page, "index", "dlogodds_all_tokens"), row, "subject")
        assert page.query_params["pair"] == f"0-{table.value['index'][row]}"


def test_the_table_holds_the_facts_its_caption_says(look_at_edit: Edit) -> None:
    page = look_at_edit(**SMALL | {"look": "table"})
    assert (
        "Every fact, the edited one included" not in captions(page)
        or len(table_of(page, "index", "dlogodds_all_tokens").value) == 3
    )


def test_the_layers_are_those_the_library_tried(open_edit: Edit, small: Callable[..., Alone]) -> None:
    page = open_edit(**SMALL | {"look": "layers"})
    edit = small()
    found = list(edit.bench.advise(edit.request))
    assert [one.reaches for one in found] == [True] * (LAYERS - 1) + [False]
    expected = simulator.advice_frame(found)
    shown = table_of(page, "layer", "probability").value
    pd.testing.assert_frame_equal(shown, expected[shown.columns.tolist()], check_dtype=False)
    assert set(shown.columns) == {"layer", "probability", "paraphrase", "damage", "flips"}
    chart = advisor(page)
    points = chart.tables[chart.spec["data"]["name"]] if "data" in chart.spec else chart.drawn("text")
    pd.testing.assert_frame_equal(points, expected, check_dtype=False)
    assert f"Layer {LAYERS - 1} cannot reach the answer." in captions(page)
    assert rung_layers(chart) == [0]
    page = click(page, chart, layer=[{"layer": 2}])
    assert page.query_params["layer"] == "2"
    assert rung_layers(advisor(page)) == [2]
    assert_bars(page, small(layer=2).frame())


def advisor(page: AppTest) -> Chart:
    return next(chart for chart in charts(page) if chart.title == "Layer advisor")


def rung_layers(chart: Chart) -> list[int]:
    (ring,) = (layer for layer in chart.spec["layer"] if layer["mark"].get("filled") is False)
    return chart.tables[ring["data"]["name"]]["layer"].tolist()


def test_in_the_last_layer_the_advisor_tells_which_to_take(look_at_edit: Edit) -> None:
    page = look_at_edit(**SMALL | {"look": "layers"}, layer="3")
    assert f"Layer {LAYERS - 1} cannot reach the answer." in captions(page)


def reaching(page: AppTest) -> list[Any]:
    """The lists of dangerous and of safe edits."""
    return [table for table in page.dataframe if {"reach", "leaks", "i", "j"} <= set(table.value.columns)]


def test_dangerous_edits_are_those_with_long_rows_and_safe_ones_those_with_short(
    look_at_edit: Edit, result: Result
) -> None:
    off = np.where(np.eye(128, dtype=bool), 0.0, result.p[1])
    norms = np.sqrt((off**2).sum(axis=1))
    dangerous, safe = (table.value for table in reaching(look_at_edit(**STORY | {"look": "reach"}, layer="1")))
    np.testing.assert_allclose(dangerous["reach"], np.sort(norms)[::-1][:10], rtol=LINEAR)
    np.testing.assert_allclose(safe["reach"], np.sort(norms)[:10], rtol=LINEAR)
    for table in (dangerous, safe):
        np.testing.assert_allclose(norms[table["i"]], table["reach"], rtol=LINEAR)
        assert table["j"].tolist() == np.abs(off[table["i"]]).argmax(axis=1).tolist()
        assert table["p"].tolist() == off[table["i"], table["j"]].tolist()
    told = reach_of_edits(result, 1)
    assert dangerous["edited"].tolist() == told["edited"].head(10).tolist()


def test_a_click_on_a_dangerous_edit_edits_that_fact(open_edit: Edit) -> None:
    page = open_edit(facts="three", pair="0-1", look="reach", how=FEW)
    dangerous, safe = reaching(page)
    assert pairs_of(dangerous.value) == pairs_of(safe.value)[::-1], "of three facts all"
    i, j = pairs_of(dangerous.value)[1]
    click_cell(page, dangerous, 1, "edited")
    assert page.query_params["pair"] == f"{i}-{j}"
    assert page.selectbox(key="edit-fact").value == i
    assert reaching(page)[0].value["picked"].tolist() == ["", "◉", ""]
    click_cell(page, reaching(page)[1], 0, "edited")
    assert page.selectbox(key="edit-fact").value == pairs_of(safe.value)[0][0]


def test_another_fact_picked_from_the_list_is_not_given_the_object_of_the_last(open_edit: Edit) -> None:
    page = open_edit(**SMALL | {"look": "reach"})
    click_cell(page, reaching(page)[0], [i for i, _ in pairs_of(reaching(page)[0].value)].index(2), "edited")
    assert page.selectbox(key="edit-fact").value == 2
    assert "target" not in page.query_params


def losses(page: AppTest) -> list[float]:
    chart = next(chart for chart in charts(page) if chart.title == "Loss of the value search")
    table = chart.table("step", "loss")
    assert table["step"].tolist() == list(range(len(table)))
    return table["loss"].tolist()


# How the value is searched for


def test_the_search_is_shown_with_what_it_started_from(look_at_edit: Edit, alone: Callable[..., Alone]) -> None:
    page = look_at_edit(**USUAL | {"look": "search"})
    edit = alone(0, facts="three")
    how, value = edit.request.how, edit.bench.value(edit.request)
    assert losses(page) == list(value.losses)
    assert f"{len(value.losses) - 1} steps of Adam" in captions(page)
    assert f"‖δ‖ = {edit.forecast.edit.size:.1f}, new object {value.probability:.1%}" in captions(page)
    shown = {
        one.key.removeprefix("how-"): one.value for one in (*page.number_input, *page.toggle) if "how-" in str(one.key)
    }
    assert shown == {
        "steps": how.steps, "learning_rate": how.learning_rate, "weight_decay": how.weight_decay, "clamp": how.clamp,
        "kl": how.kl, "prefixes": how.prefixes[0][0], "seed": how.seed, "everywhere": how.everywhere,
        "mean_key": how.mean_key,
    }  # fmt: skip
    assert edit.bench.recipe.source in unescaped(captions(page))


def test_changed_hyper_parameters_change_the_edit_and_the_link(open_edit: Edit, small: Callable[..., Alone]) -> None:
    page = open_edit(**USUAL | {"look": "search"})
    usual = page.number_input(key="how-prefixes").value
    page.number_input(key="how-steps").set_value(STEPS).run()
    assert page.query_params["how"] == FEW
    assert len(losses(page)) == STEPS + 1
    assert_bars(page, small().frame())
    page.toggle(key="how-everywhere").set_value(False).run()
    page.number_input(key="how-prefixes").set_value(1).run()
    assert page.query_params["how"] == f"everywhere:0~prefixes:1~{FEW}"
    assert_bars(page, small(everywhere=False, prefixes=((1, 5),)).frame())
    page.toggle(key="how-everywhere").set_value(True).run()
    page.number_input(key="how-prefixes").set_value(usual).run()
    assert page.query_params["how"] == FEW, "what is as usual leaves the link"
    assert not page.exception


def test_the_search_of_the_link_is_searched_and_shown(look_at_edit: Edit, small: Callable[..., Alone]) -> None:
    page = look_at_edit(**USUAL | {"look": "search"}, how=f"learning_rate:0.25~mean_key:1~{FEW}")
    assert page.number_input(key="how-learning_rate").value == 0.25
    assert page.toggle(key="how-mean_key").value is True
    assert_bars(page, small(learning_rate=0.25, mean_key=True).frame())


@pytest.mark.parametrize(
    ("how", "said"),
    [("steps:0", "steps from 1 to 1000"), ("prefixes:101", "prefixes: 0 to 100")],
)
def test_a_search_out_of_range_is_told(how: str, said: str, open_edit: Edit, stored: Stored) -> None:
    page = open_edit(**USUAL | {"look": "search"}, how=how, performed="yes")
    assert not page.exception
    assert said in unescaped(page.error[0].value)
    assert "performed" not in page.query_params
    assert_bars(page, share_frame(stored("three"), 0, 0))
    assert button(page, "Perform the edit").disabled


def test_a_box_shows_what_the_search_takes(open_edit: Edit) -> None:
    page = open_edit(**USUAL | {"look": "search"}, how=f"kl:3~{FEW}")
    assert page.error or page.number_input(key="how-kl").value == 3.0
