"""What stands under a run: every figure, table and number is the library's, at the step looked at."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from scipy import stats
from streamlit.testing.v1 import AppTest

from kis_core import lifelong
from kis_core.lifelong import Draw, EditTrace, frames, order_advice
from kis_core.studies import forgetting as studies
from kis_core.wording import MISSING
from pages.parts.frame import state
from pages.parts.frame.text import plain
from pages.parts.jobs import results
from pages.parts.lifelong.order_advice import _summary
from tests.pages.lifelong_runs import EDITS, HAND, STEPS, Runs, button, chart, settled, under_mouse
from tests.pages.looking import as_in_table, captions, charts, click, html, table_of

Page = Callable[..., AppTest]
Lines = Callable[..., tuple[AppTest, list[dict[str, Any]]]]
EXACT: dict[str, Any] = {"check_dtype": False, "rtol": 1e-12, "atol": 0.0}  # the same float64 numbers
AT = ["0", "10", "15"]


def finite(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[np.isfinite(frame["change"])].reset_index(drop=True)


def same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found[list(expected.columns)].reset_index(drop=True), expected, **EXACT)


# Forecast and measured


def test_the_loss_of_log_odds_is_measured_and_foretold(seen: Page, film: EditTrace) -> None:
    drawn = under_mouse(chart(seen(), "Loss of log-odds"))
    same(drawn, finite(frames.theory(film)))
    ends = drawn[drawn["edits"] == EDITS].set_index("kind")["change"]
    assert ends["measured"] == pytest.approx((film.log_odds[-1] - film.log_odds[0]).mean())
    assert ends["forecast, all tokens"] == pytest.approx(film.all_tokens[-1].mean())
    assert ends["forecast, subject token"] == pytest.approx(film.subject_token[-1].mean())
    assert ends["forecast, gradients renewed"] == pytest.approx(film.renewed[-1].mean())


def test_how_far_the_first_order_falls_short_is_said_in_numbers(seen: Page, film: EditTrace) -> None:
    measured, foretold = (film.log_odds[-1] - film.log_odds[0]).mean(), film.all_tokens[-1].mean()
    assert measured < 0
    assert foretold > measured / 4, "else nothing is to be said"
    assert f"After 15 edits {foretold:+.1f} was forecast and {measured:+.1f} measured" in captions(seen())
    assert "was forecast and" not in captions(seen(step="0"))


def test_the_shifts_at_the_layer_are_exact(seen: Page, film: EditTrace) -> None:
    one = chart(seen(), "Interference at the layer")
    drawn = under_mouse(one)
    same(drawn, finite(frames.shifts(film)))
    ends = drawn[drawn["edits"] == EDITS].set_index("kind")["change"]
    assert ends["Δo measured"] == pytest.approx(np.sqrt((film.shift[-1] ** 2).mean()))
    assert ends["Δe measured"] == pytest.approx(np.sqrt((film.edited_shift[-1] ** 2).mean()))
    assert ends["Δo = Σ p·δ"] == pytest.approx(ends["Δo measured"], rel=1e-3)
    rings = next(layer for layer in one.spec["layer"] if layer["mark"].get("filled") is False)
    assert set(one.tables[rings["data"]["name"]]["kind"]) == {"Δo measured", "Δe measured"}
    error = max(
        np.linalg.norm(film.shift_error[-1]) / np.linalg.norm(film.shift[-1]),
        np.linalg.norm(film.edited_shift_error[-1]) / np.linalg.norm(film.edited_shift[-1]),
    )
    assert f"Largest relative difference so far {error:.0e}." in captions(seen())
    assert "Largest relative difference" not in captions(seen(step="0")), "nothing has moved yet"


@pytest.mark.parametrize("step", ["5", "15"])
def test_how_well_it_was_foretold_who_loses_is_a_rank_correlation(step: str, seen: Page, film: EditTrace) -> None:
    row = STEPS.index(int(step))
    known = film.rank[0] == 1
    loss = (film.log_odds[0] - film.log_odds[row])[known]
    scores = [film.shift_forecast, -film.subject_token, -film.all_tokens, -film.renewed]
    ranks = [stats.spearmanr(score[row][known], loss).statistic for score in scores]
    (said,) = (one.value for one in seen(step=step).markdown if "Spearman" in one.value)
    assert [part.split("**")[1] for part in said.split(" · ")] == [f"{rank:.2f}" for rank in ranks]
    assert f"after {step} edits" in said


def test_before_the_first_edit_nobody_has_lost(seen: Page) -> None:
    assert not [one.value for one in seen(step="0").markdown if "Spearman" in one.value]
    assert "Step on to see how well" in captions(seen(step="0"))


def test_over_several_layers_it_is_said_that_later_keys_move(opened: Page, runs: Runs) -> None:
    assert "in the later ones keys move" not in captions(opened())
    runs.film("memit", 5, layers=(0, 1))
    page = opened(editor="memit", through="1", edits="5")
    assert "at layer 0, the first one edited; in the later ones keys move" in captions(page)


# Old and new edits


def test_old_and_new_edits_are_counted_by_age(seen: Page, film: EditTrace) -> None:
    expected = []
    for row, made in enumerate(STEPS):
        for low, high, name in ((0, 9, "0–9 edits ago"), (10, 24, "10–24 edits ago")):
            of_age = [film.edited_rank[row, i] == 1 for i in range(made) if low <= made - 1 - i <= high]
            if of_age:
                expected.append((made, name, np.mean(of_age)))
    drawn = under_mouse(chart(seen(chronicle="ages"), "Edits still in force, by age"))
    assert list(drawn[["edits", "kind", "change"]].itertuples(index=False, name=None)) == expected
    assert len({name for _, name, _ in expected}) == 2


# Weights and words


@pytest.mark.parametrize(("kind", "title"), [
    ("drift", "‖Wₙ − W₀‖ / ‖W₀‖"), ("condition", "condition number"), ("perplexity", "perplexity"),
])  # fmt: skip
def test_weights_and_reading_are_drawn_as_measured(kind: str, title: str, seen: Page, film: EditTrace) -> None:
    one = chart(seen(chronicle="weights"), title)
    drawn = under_mouse(one)
    values = getattr(film, kind)
    expected = values if kind == "perplexity" else values[:, 0]
    assert drawn["edits"].tolist() == STEPS
    np.testing.assert_array_equal(drawn["change"], expected)
    scales = {layer["encoding"]["y"]["scale"]["type"] for layer in one.spec["layer"] if "y" in layer["encoding"]}
    assert scales == {"linear" if kind == "drift" else "log"}
    assert plain(film.text) in plain(captions(seen(chronicle="weights")))


@pytest.mark.parametrize("step", AT)
def test_what_the_model_says_is_that_of_the_step(step: str, seen: Page, film: EditTrace) -> None:
    row = STEPS.index(int(step))
    said = [one.value for one in seen(chronicle="weights", step=step).markdown][-4:]
    assert f"continues after {step} edits" in said[0]
    for line, (prompt, words), role in zip(
        said[1:],
        film.words[row],
        ("the newest edit" if row else "the first edit to come", "the first edit", "an unrelated fact"),
        strict=True,
    ):
        assert line.startswith(f"{role}: {plain(prompt)} **{plain(words)}**")
    assert (f"at first: {plain(film.words[0][2][1])}" in said[3]) == bool(row)


# Who is damaged


@pytest.mark.parametrize("shade", ["measured", "renewed", "all", "subject"])
def test_the_heatmap_holds_every_fact_and_step(shade: str, seen: Page, film: EditTrace, runs: Runs) -> None:
    page = seen(chronicle="damage", shade=shade)
    drawn = under_mouse(chart(page, "Who is damaged"))
    values = {"measured": film.log_odds - film.log_odds[0], "renewed": film.renewed, "all": film.all_tokens,
              "subject": film.subject_token}[shade]  # fmt: skip
    assert drawn.shape[0] == values.size
    cells = drawn.set_index(["from", "fact"])["change"]
    for row, step in enumerate(STEPS):
        np.testing.assert_allclose(cells[step][film.unrelated], values[row], atol=0.005001, rtol=0)
    assert chart(page, "Who is damaged").title == f"Who is damaged, {frames.KINDS[shade]}"
    limit = np.quantile(np.abs(values[np.isfinite(values)]), 0.9)
    assert drawn["shown"].abs().max() <= limit + 0.005001
    wrong = film.rank != 1
    assert (drawn["answers"] == "wrong").sum() == wrong.sum()
    ends = drawn.drop_duplicates("from").set_index("from")["to"]
    assert ends.to_dict() == {0: 5, 5: 10, 10: 15, 15: 20}
    top = drawn[drawn["row"] == 0]["fact"].iloc[0]
    assert wrong[:, film.unrelated == top].sum() == wrong.sum(axis=0).max(), "the first forgotten on top"


def test_a_click_shows_the_history_of_that_fact_and_whom_the_theory_blames(
    opened: Page, film: EditTrace, runs: Runs
) -> None:
    page = opened(chronicle="damage", step="10")
    top = film.unrelated[frames.falling_order(film)[0]]
    facts = runs.bench().facts
    assert chart(page, "What became of").title == f"What became of {facts[top].subject}", "the first forgotten"
    column = 40
    fact = int(film.unrelated[column])
    click(page, chart(page, "Who is damaged"), fact=[{"fact": fact}])
    assert page.query_params["watched"] == str(fact)
    one = chart(page, "What became of")
    assert one.title == f"What became of {facts[fact].subject}"
    drawn = under_mouse(one).set_index(["kind", "edits"])["change"]
    np.testing.assert_allclose(drawn["measured"][STEPS], film.log_odds[:, column] - film.log_odds[0, column])
    np.testing.assert_allclose(drawn["forecast, all tokens"][STEPS], film.all_tokens[:, column])
    assert f"<b>{facts[fact].subject}</b>" in html(page)
    lost = np.flatnonzero(film.rank[:, column] != 1)
    told = f"Answered wrong for the first time after {STEPS[lost[0]]} edits." if len(lost) else "Never wrong."
    assert told in captions(page)
    blamed = table_of(page, "edit", "dlogodds_all_tokens").value
    felt = film.contributions[:10, column]
    assert blamed["edit"].tolist() == (np.argsort(felt, kind="stable")[:8] + 1).tolist()
    np.testing.assert_allclose(blamed["dlogodds_all_tokens"], np.sort(felt)[:8])
    np.testing.assert_allclose(blamed["p"], film.shares[blamed["edit"] - 1, column])
    first = film.queue[blamed["edit"][0] - 1]
    assert blamed["change"][0] == f"{first[0]}: {first[2]} → {first[4]}"
    ring = next(layer for layer in chart(page, "Who is damaged").spec["layer"] if layer["mark"].get("filled") is False)
    assert chart(page, "Who is damaged").tables[ring["data"]["name"]]["fact"].tolist() == [fact]


def test_a_fact_that_is_edited_cannot_be_watched(opened: Page, runs: Runs) -> None:
    film = runs.film("rome", 2, Draw("hand", picked=((1, "French"), (0, "a ~ 50 % [x](y)"))))
    page = opened(**HAND, chronicle="damage", watched="1")
    assert not page.exception
    top = runs.bench().facts[film.unrelated[frames.falling_order(film)[0]]]
    assert chart(page, "What became of").title == f"What became of {top.subject}"


def test_before_the_first_edit_none_is_blamed(seen: Page) -> None:
    assert not seen(chronicle="damage", step="0").dataframe


# Every fact


@pytest.mark.parametrize("step", AT)
def test_the_table_holds_every_fact_at_the_step(step: str, seen: Page, film: EditTrace, runs: Runs) -> None:
    page = seen(chronicle="facts", step=step)
    row = STEPS.index(int(step))
    table = table_of(page, "subject", "probability")
    shown = table.value
    same(shown, as_in_table(frames.facts(film, runs.bench().facts, [row]).drop(columns="edits"), table))
    assert len(shown) == len(film.unrelated) + int(step)
    unrelated = shown[shown["kind"] == "unrelated"]
    np.testing.assert_allclose(unrelated["probability"], np.exp(film.log_prob[row]))
    assert f"After {step} edits: unrelated facts" in captions(page)


def test_the_table_is_taken_home_with_all_its_digits(
    opened: Page, film: EditTrace, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered: dict[str, Any] = {}
    monkeypatch.setattr(st, "download_button", lambda _, data, name, *__, **___: offered.update({name: data}))
    opened(chronicle="facts", step="10")
    expected = frames.facts(film, runs.bench().facts, [STEPS.index(10)]).drop(columns="edits")
    found = pd.read_csv(io.StringIO(offered["every-fact-after-10-edits.csv"]()))
    numbers = expected.select_dtypes("number")
    assert ((numbers != 0) & (numbers.abs() < 0.005)).any(axis=None), "there are numbers that the page shows as 0"
    pd.testing.assert_frame_equal(found[list(numbers)], numbers, **EXACT)


# Order and layer


def test_order_and_layer_are_forecast_and_compared(opened: Page, runs: Runs) -> None:
    page = opened(chronicle="choosing")
    assert not page.dataframe
    assert not results.runner()._jobs, "a model is loaded only when asked"
    button(page, "Compute this table").click().run()
    page = settled(page)
    bench = runs.bench()
    expected = order_advice.outlook(bench, Draw(), EDITS)
    shown = table_of(page, "on_others", "among").value
    assert shown["layer"].tolist() == expected["layer"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert shown["order"].tolist() == [*lifelong.ORDERS.values()] * 3
    np.testing.assert_allclose(shown["on_others"], expected["on_others"])
    np.testing.assert_allclose(shown["among"], expected["among"])
    film = runs.film()
    assert shown["edits"].tolist() == ["15"] + [MISSING] * 8
    assert shown["recall"][0] == f"{(film.rank[-1][film.rank[0] == 1] == 1).mean():.0%}"
    assert shown["retention"][0] == f"{(film.edited_rank[-1] == 1).mean():.0%}"
    layer = int(expected.loc[expected["on_others"].idxmin(), "layer"])
    there = expected[expected["layer"] == layer]
    order = lifelong.ORDERS[there.loc[there["among"].idxmin(), "order"]]
    assert "Run the orders" in "\n".join(one.value for one in page.markdown)
    button(page, f"Choose layer {layer}, {order}").click().run()
    assert page.query_params["arrange"] == "gentle", "the least is always the gentle order"
    assert state.CHOICES["layer"].read(page.query_params.get("layer", "0")) == layer


def test_trying_the_orders_tells_whether_the_forecast_held(opened: Page, runs: Runs) -> None:
    runs.film("rome", 5, Draw(seed=70))
    page = opened(edits="5", seed="70", chronicle="choosing")
    button(page, "Compute this table").click().run()
    page = settled(page)
    button(page, "Try the orders at layer 0").click().run()
    page = settled(page)
    films = {order: runs.film("rome", 5, Draw(seed=70, order=order)) for order in lifelong.ORDERS}
    (said,) = (one.value for one in page.markdown if "Least interference" in one.value)
    assert "At layer 0 the forecast of the best order" in said
    for order, told in lifelong.ORDERS.items():
        assert f"{told} {(films[order].edited_rank[-1] == 1).mean():.0%}" in said
    shown = table_of(page, "on_others", "among").value
    assert shown["edits"].tolist() == ["5"] * 3 + [MISSING] * 6
    assert button(page, "Try the orders at layer 0").disabled
    assert not button(page, "Try all 9").disabled


TRIED = pd.DataFrame(
    {
        "layer": [0, 0, 0, 1], "order": ["drawn", "gentle", "harsh", "gentle"], "among": [0.2, 0.1, 0.3, 0.0],
        "retention": [0.5, 0.75, 0.25, 0.0],
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ([0.5, 0.75, 0.25], "best order **held**"),
        ([0.8, 0.75, 0.25], "best order **did not hold**"),
        ([0.8, np.nan, 0.25], "best order **held**"),
        ([np.nan, 0.75, np.nan], "Run the orders"),
        ([np.nan, np.nan, np.nan], "Run the orders"),
        ([1.0, 1.0, 1.0], "best order **held**"),
    ],
)  # fmt: skip
def test_a_forecast_held_where_no_other_order_kept_more(kept: list[float], said: str) -> None:
    assert said in _summary(TRIED.assign(retention=[*kept, 1.0]), 0)
    assert "Run the orders" in _summary(TRIED.assign(retention=[*kept, 1.0]), 1), "there but one was tried"


# The study


def test_the_study_is_the_committed_one(seen: Page) -> None:
    page = seen(chronicle="study")
    found = studies.committed()
    there = found[(found["layer"] == 0) & (found["draw"] == "random")]
    drawn = under_mouse(chart(page, "Edits until half is forgotten, layer 0"))
    lives = studies.lifetimes(there)
    assert drawn["middle"].tolist() == pytest.approx(lives["middle"].tolist())
    assert drawn["model"].tolist() == lives["model"].tolist()
    assert f"{found[found['layer'] == 0]['seed'].nunique()} seeds" in captions(page)
    said = "\n".join(one.value for one in page.markdown)
    assert all(f"- {line}" in said for line in studies.findings(found))


def test_a_layer_that_the_study_does_not_have_is_told(opened: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    other = studies.committed().assign(layer=2)
    monkeypatch.setattr(studies, "committed", lambda: other)
    page = opened(chronicle="study")
    assert any("The study has layers 2 of the demo family" in info.value for info in page.info)
    assert len(charts(page)) == 1
