"""What stands under an edit: the pair, forecast against measurement, table, layers, reach, and the search."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from kis_core import simulator
from kis_core.results.pairs import reach_of_edits
from kis_core.simulator import share_frame
from kis_core.spillover import FEW_FLIPS
from tests.pages.conftest import LAYERS, Stored
from tests.pages.edit_tools import (
    FEW,
    LINEAR,
    SMALL,
    STEPS,
    STORY,
    USUAL,
    Edit,
    Makes,
    assert_bars,
    measured,
    perform,
    ringed,
    spillover,
)
from tests.pages.looking import (
    Chart,
    assert_shown,
    button,
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


def chart(page: AppTest, title: str) -> Chart:
    """The chart of that title under the forecast."""
    return next(chart for chart in charts(page) if chart.title == title)


def test_a_click_on_a_bar_opens_the_pair(open_edit: Edit, small: Makes) -> None:
    page = open_edit(**SMALL | {"look": "table"}, performed="yes")
    page = click(page, spillover(page), fact=[{"fact": 2}])
    assert page.query_params["pair"] == "0-2"
    assert "look" not in page.query_params, "the pair stands below by default"
    assert "edit fact i = 0<" in html(page)
    assert "and fact j = 2 suffers" in html(page)
    assert ringed(page) == [2]
    edit = small()
    forecast, outcome = edit.forecast, edit.outcome()
    shown = table_of(page, "change of", "forecast", "measured").value
    expected = [forecast.shift[2], forecast.all_tokens[2], forecast.subject_token[2], outcome.propagated[2]]
    assert shown["forecast"].tolist() == expected
    assert shown["measured"].tolist() == [outcome.measured.shift[2]] + [outcome.measured.log_odds[2]] * 3
    before = edit.bench.answers_before[2]
    coming = forecast.flips.by(1.0).get(2, before) if forecast.flips else before
    line = f"Answer before: **{before}** · forecast: **{coming}** · measured: **{outcome.measured.answers[2]}**"
    assert line in unescaped(markdown(page))


@pytest.mark.parametrize("by", ["all", "shift"])
def test_measurement_is_drawn_against_a_forecast(by: str, look_at_edit: Edit, alone: Makes) -> None:
    page, edit = look_at_edit(**STORY | {"look": "scatter"}, performed="yes", by=by), alone()
    assert page.query_params["performed"] == "yes"
    frame = edit.frame(by, performed=True)
    assert_bars(page, frame)
    domain = spillover(page).domains("y")[0]
    assert domain == pytest.approx(simulator.span(edit.forecast, 1, by, edit.outcome()), rel=LINEAR)
    dots = chart(page, "Forecast against measurement")
    pd.testing.assert_frame_equal(dots.under_mouse(), frame, check_dtype=False)
    quality = edit.bench.quality(edit.forecast, edit.outcome()).drop(columns=["flips", "facts"])
    pd.testing.assert_frame_equal(table_of(page, "spearman", "auc").value, quality, check_dtype=False)
    flips = int(edit.outcome().flipped.sum()) - 1
    assert flips >= FEW_FLIPS
    assert f"of 127 facts; {flips} answers changed." in captions(page)


def test_the_table_holds_everything_the_library_tells(open_edit: Edit, small: Makes) -> None:
    edit = small()
    page = open_edit(**SMALL | {"look": "table"}, strength="0.5")
    table = table_of(page, "index", "dlogodds_all_tokens")
    named = {
        "fact": "index", "subject": "subject", "p": "p", "share": "share", "forecast": "dlogodds_all_tokens",
        "flips_foretold": "answer_foretold",
    }  # fmt: skip
    assert_shown(table, edit.frame(strength=0.5)[list(named)].rename(columns=named))
    click_cell(page, table, 1, "subject")
    assert page.query_params["pair"] == f"0-{table.value['index'][1]}"
    page = perform(page)
    table = table_of(page, "index", "dlogodds_measured")
    assert_shown(table, edit.bench.table(edit.forecast, edit.outcome(0.5)))
    click_cell(page, table, 2, "subject")
    assert page.query_params["pair"] == "0-2"
    assert measured(page)


@pytest.mark.stress
def test_the_layers_are_those_the_library_tried(open_edit: Edit, small: Makes) -> None:
    page = open_edit(**SMALL | {"look": "layers"})
    edit = small()
    tried = list(edit.bench.advise(edit.request))
    assert [advice.reaches for advice in tried] == [True] * (LAYERS - 1) + [False]
    expected = simulator.advice_frame(tried)
    shown = table_of(page, "layer", "probability").value
    assert set(shown.columns) == {"layer", "probability", "paraphrase", "damage", "flips"}
    pd.testing.assert_frame_equal(shown, expected[shown.columns.tolist()], check_dtype=False)
    advisor = chart(page, "Layer advisor")
    pd.testing.assert_frame_equal(advisor.under_mouse(), expected, check_dtype=False)
    assert advisor.ringed()["layer"].tolist() == [0]
    page = click(page, advisor, layer=[{"layer": 2}])
    assert page.query_params["layer"] == "2"
    assert chart(page, "Layer advisor").ringed()["layer"].tolist() == [2]
    assert_bars(page, small(layer=2).frame())


def reaching(page: AppTest) -> list[Any]:
    """The lists of dangerous and of safe edits."""
    return [table for table in page.dataframe if {"reach", "leaks", "i", "j"} <= set(table.value.columns)]


def test_dangerous_edits_are_those_that_reach_far_and_a_click_edits_that_fact(open_edit: Edit, stored: Stored) -> None:
    page = open_edit(**SMALL | {"look": "reach"})
    dangerous, safe = reaching(page)
    pairs, expected = pairs_of(dangerous.value), reach_of_edits(stored("three"), 0)
    for column in ("i", "j", "reach", "p", "edited", "suffers"):
        assert dangerous.value[column].tolist() == expected[column].tolist()
    assert pairs == pairs_of(safe.value)[::-1], "of three facts all"
    row = next(row for row, (i, _) in enumerate(pairs) if i)
    click_cell(page, dangerous, row, "edited")
    assert page.query_params["pair"] == "-".join(map(str, pairs[row]))
    assert page.selectbox(key="edit-fact").value == pairs[row][0]
    assert "target" not in page.query_params, "it is not given the object of the last"
    assert [bool(mark) for mark in reaching(page)[0].value["picked"]] == [at == row for at in range(3)]
    click_cell(page, reaching(page)[1], 0, "edited")
    assert page.selectbox(key="edit-fact").value == pairs[-1][0]


def losses(page: AppTest) -> list[float]:
    table = chart(page, "Loss of the value search").table("step", "loss")
    assert table["step"].tolist() == list(range(len(table)))
    return table["loss"].tolist()


@pytest.mark.stress
def test_the_search_is_shown_with_what_it_started_from(look_at_edit: Edit, alone: Makes) -> None:
    page = look_at_edit(**USUAL | {"look": "search"})
    edit = alone(0, facts="three")
    how, value = edit.request.how, edit.bench.value(edit.request)
    assert losses(page) == list(value.losses)
    assert f"{len(value.losses) - 1} steps of Adam" in captions(page)
    assert f"‖δ‖ = {edit.forecast.edit.size:.1f}, new object {value.probability:.1%}" in captions(page)
    for name in ("steps", "learning_rate", "weight_decay", "clamp", "kl", "seed"):
        assert page.number_input(key=f"how-{name}").value == getattr(how, name)


def test_changed_hyper_parameters_change_the_edit_and_the_link(open_edit: Edit, small: Makes) -> None:
    page = open_edit(**USUAL | {"look": "search"})
    usual = page.number_input(key="how-prefixes").value
    page.number_input(key="how-steps").set_value(STEPS).run()
    assert page.query_params["how"] == FEW
    assert len(losses(page)) == STEPS + 1
    page.toggle(key="how-everywhere").set_value(False).run()
    page.number_input(key="how-prefixes").set_value(1).run()
    assert page.query_params["how"] == f"everywhere:0~prefixes:1~{FEW}"
    assert_bars(page, small(everywhere=False, prefixes=((1, 5),)).frame())
    page.toggle(key="how-everywhere").set_value(True).run()
    page.number_input(key="how-prefixes").set_value(usual).run()
    assert page.query_params["how"] == FEW, "what is as usual leaves the link"


def test_a_search_out_of_range_is_told(open_edit: Edit, stored: Stored) -> None:
    for how, said in (("steps:0", "steps from 1 to 1000"), ("prefixes:101", "prefixes: 0 to 100")):
        page = open_edit(**USUAL | {"look": "search"}, how=how, performed="yes")
        assert said in unescaped(page.error[0].value)
        assert "performed" not in page.query_params
        assert_bars(page, share_frame(stored("three"), 0, 0))
        assert button(page, "Perform the edit").disabled
