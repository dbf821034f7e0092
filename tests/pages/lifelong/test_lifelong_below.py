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
from kis_core.studies import league
from kis_core.wording import MISSING
from pages.parts.frame import state
from pages.parts.frame.text import plain
from pages.parts.jobs import results
from pages.parts.lifelong.order_advice import _summary
from tests.pages.conftest import MODEL
from tests.pages.lifelong_runs import EDITS, EXACT, STEPS, Runs, chart, settled
from tests.pages.looking import as_in_table, button, captions, click, html, table_of

Page = Callable[..., AppTest]


def same(shown: pd.DataFrame, expected: pd.DataFrame) -> None:
    """The columns of the library, but for numbers that are not finite, which a chart leaves out."""
    if "change" in expected:
        expected = expected[np.isfinite(expected["change"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(shown[list(expected.columns)].reset_index(drop=True), expected, **EXACT)


def markdowns(page: AppTest, word: str) -> list[str]:
    return [element.value for element in page.markdown if word in element.value]


def test_the_loss_of_log_odds_and_how_far_its_forecast_falls_short(seen: Page, trace: EditTrace) -> None:
    page = seen()
    drawn = chart(page, "Loss of log-odds").under_mouse()
    same(drawn, frames.theory(trace))
    ends = drawn[drawn["edits"] == EDITS].set_index("kind")["change"]
    measured, forecast = (trace.log_odds[-1] - trace.log_odds[0]).mean(), trace.all_tokens[-1].mean()
    assert ends["measured"] == pytest.approx(measured)
    assert ends["forecast, all tokens"] == pytest.approx(forecast)
    assert ends["forecast, subject token"] == pytest.approx(trace.subject_token[-1].mean())
    assert ends["forecast, gradients renewed"] == pytest.approx(trace.renewed[-1].mean())
    assert measured < 0
    assert forecast > measured / 4, "else nothing is to be said"
    assert f"After 15 edits {forecast:+.1f} was forecast and {measured:+.1f} measured" in captions(page)


def test_the_shifts_at_the_layer_are_exact(seen: Page, trace: EditTrace) -> None:
    figure = chart(seen(), "Interference at the layer")
    drawn = figure.under_mouse()
    same(drawn, frames.shifts(trace))
    ends = drawn[drawn["edits"] == EDITS].set_index("kind")["change"]
    assert ends["Δo measured"] == pytest.approx(np.sqrt((trace.shift[-1] ** 2).mean()))
    assert ends["Δe measured"] == pytest.approx(np.sqrt((trace.edited_shift[-1] ** 2).mean()))
    assert ends["Δo = Σ p·δ"] == pytest.approx(ends["Δo measured"], rel=1e-3)
    assert set(figure.ringed()["kind"]) == {"Δo measured", "Δe measured"}
    error = max(
        np.linalg.norm(trace.shift_error[-1]) / np.linalg.norm(trace.shift[-1]),
        np.linalg.norm(trace.edited_shift_error[-1]) / np.linalg.norm(trace.edited_shift[-1]),
    )
    assert f"Largest relative difference so far {error:.0e}." in captions(seen())


def test_how_well_it_was_forecast_who_loses_is_a_rank_correlation(seen: Page, trace: EditTrace) -> None:
    page, row = seen(step="5"), STEPS.index(5)
    known = trace.rank[0] == 1
    loss = (trace.log_odds[0] - trace.log_odds[row])[known]
    scores = [trace.shift_forecast, -trace.subject_token, -trace.all_tokens, -trace.renewed]
    ranks = [stats.spearmanr(score[row][known], loss).statistic for score in scores]
    (line,) = markdowns(page, "Spearman")
    assert [part.split("**")[1] for part in line.split(" · ")] == [f"{rank:.2f}" for rank in ranks]
    assert "after 5 edits" in line


def test_old_and_new_edits_are_counted_by_age(seen: Page, trace: EditTrace) -> None:
    expected = []
    for row, made in enumerate(STEPS):
        for low, high, name in ((0, 9, "0–9 edits ago"), (10, 24, "10–24 edits ago")):
            of_age = [trace.edited_rank[row, i] == 1 for i in range(made) if low <= made - 1 - i <= high]
            if of_age:
                expected.append((made, name, np.mean(of_age)))
    drawn = chart(seen(chronicle="ages"), "Edits still in force, by age").under_mouse()
    assert list(drawn[["edits", "kind", "change"]].itertuples(index=False, name=None)) == expected
    assert len({name for _, name, _ in expected}) == 2


@pytest.mark.parametrize("step", ["0", "10"])
def test_weights_and_words_are_as_measured(step: str, seen: Page, trace: EditTrace) -> None:
    page, row = seen(chronicle="weights", step=step), STEPS.index(int(step))
    measured = {"‖Wₙ − W₀‖ / ‖W₀‖": trace.drift[:, 0], "condition number": trace.condition[:, 0]}
    for title, values in (measured | {"perplexity": trace.perplexity}).items():
        drawn = chart(page, title).under_mouse()
        assert drawn["edits"].tolist() == STEPS
        np.testing.assert_array_equal(drawn["change"], values)
    said = [element.value for element in page.markdown][-4:]
    roles = ("the newest edit" if row else "the first edit to come", "the first edit", "an unrelated fact")
    for line, (prompt, words), role in zip(said[1:], trace.words[row], roles, strict=True):
        assert line.startswith(f"{role}: {plain(prompt)} **{plain(words)}**")
    assert (f"at first: {plain(trace.words[0][2][1])}" in said[3]) == bool(row)


@pytest.mark.parametrize("shade", ["measured", pytest.param("renewed", marks=pytest.mark.stress), "all", "subject"])
def test_the_heatmap_holds_every_fact_and_step(shade: str, seen: Page, trace: EditTrace) -> None:
    figure = chart(seen(chronicle="damage", shade=shade), "Who is damaged")
    drawn = figure.under_mouse()
    values = {
        "measured": trace.log_odds - trace.log_odds[0], "renewed": trace.renewed, "all": trace.all_tokens,
        "subject": trace.subject_token,
    }[shade]  # fmt: skip
    assert len(drawn) == values.size
    cells = drawn.set_index(["from", "fact"])["change"]
    for row, step in enumerate(STEPS):
        np.testing.assert_allclose(cells[step][trace.unrelated], values[row], atol=0.005001, rtol=0)
    limit = np.quantile(np.abs(values[np.isfinite(values)]), 0.9)
    assert drawn["shown"].abs().max() <= limit + 0.005001
    wrong = trace.rank != 1
    assert (drawn["answers"] == "wrong").sum() == wrong.sum()
    ends = drawn.drop_duplicates("from").set_index("from")["to"]
    assert ends.to_dict() == {0: 5, 5: 10, 10: 15, 15: 20}
    top = drawn[drawn["row"] == 0]["fact"].iloc[0]
    assert wrong[:, trace.unrelated == top].sum() == wrong.sum(axis=0).max(), "the first forgotten on top"


def test_a_click_shows_the_history_of_a_fact_and_who_is_blamed(opened: Page, trace: EditTrace, runs: Runs) -> None:
    page = opened(chronicle="damage", step="10")
    top = trace.unrelated[frames.falling_order(trace)[0]]
    facts = runs.bench().facts
    assert chart(page, "What became of").title == f"What became of {facts[top].subject}", "the first forgotten"
    column = 40
    fact = int(trace.unrelated[column])
    click(page, chart(page, "Who is damaged"), fact=[{"fact": fact}])
    assert page.query_params["watched"] == str(fact)
    history = chart(page, "What became of")
    assert history.title == f"What became of {facts[fact].subject}"
    drawn = history.under_mouse().set_index(["kind", "edits"])["change"]
    np.testing.assert_allclose(drawn["measured"][STEPS], trace.log_odds[:, column] - trace.log_odds[0, column])
    np.testing.assert_allclose(drawn["forecast, all tokens"][STEPS], trace.all_tokens[:, column])
    assert f"<b>{facts[fact].subject}</b>" in html(page)
    lost = np.flatnonzero(trace.rank[:, column] != 1)
    said = f"Answered wrong for the first time after {STEPS[lost[0]]} edits." if len(lost) else "Never wrong."
    assert said in captions(page)
    blamed = table_of(page, "edit", "dlogodds_all_tokens").value
    felt = trace.contributions[:10, column]
    assert blamed["edit"].tolist() == (np.argsort(felt, kind="stable")[:8] + 1).tolist()
    np.testing.assert_allclose(blamed["dlogodds_all_tokens"], np.sort(felt)[:8])
    np.testing.assert_allclose(blamed["p"], trace.shares[blamed["edit"] - 1, column])
    assert chart(page, "Who is damaged").ringed()["fact"].tolist() == [fact]


def test_the_table_holds_every_fact_at_the_step_and_is_taken_home_with_all_its_digits(
    opened: Page, trace: EditTrace, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered: dict[str, Any] = {}
    monkeypatch.setattr(st, "download_button", lambda _, data, name, *__, **___: offered.update({name: data}))
    page = opened(chronicle="facts", step="10")
    expected = frames.facts(trace, runs.bench().facts, [STEPS.index(10)]).drop(columns="edits")
    table = table_of(page, "subject", "probability")
    shown = table.value
    same(shown, as_in_table(expected, table))
    assert len(shown) == len(trace.unrelated) + 10
    unrelated = shown[shown["kind"] == "unrelated"]
    np.testing.assert_allclose(unrelated["probability"], np.exp(trace.log_prob[STEPS.index(10)]))
    assert "After 10 edits: unrelated facts" in captions(page)
    file = pd.read_csv(io.StringIO(offered["every-fact-after-10-edits.csv"]()))
    numbers = expected.select_dtypes("number")
    assert ((numbers != 0) & (numbers.abs() < 0.005)).any(axis=None), "there are numbers that the page shows as 0"
    pd.testing.assert_frame_equal(file[list(numbers)], numbers, **EXACT)


@pytest.mark.stress
def test_order_and_layer_are_forecast_compared_and_tried(opened: Page, runs: Runs) -> None:
    page = opened(edits="5", chronicle="choosing")
    assert not page.dataframe
    assert not results.runner()._jobs, "a model is loaded only when asked"
    button(page, "Compute this table").click().run()
    page = settled(page)
    expected = order_advice.outlook(runs.bench(), Draw(), 5)
    shown = table_of(page, "on_others", "among").value
    assert shown["layer"].tolist() == expected["layer"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert shown["order"].tolist() == [*lifelong.ORDERS.values()] * 3
    np.testing.assert_allclose(shown["on_others"], expected["on_others"])
    np.testing.assert_allclose(shown["among"], expected["among"])
    trace = runs.trace("rome", 5)
    assert shown["edits"].tolist() == ["5"] + [MISSING] * 8
    assert shown["recall"][0] == f"{(trace.rank[-1][trace.rank[0] == 1] == 1).mean():.0%}"
    assert shown["retention"][0] == f"{(trace.edited_rank[-1] == 1).mean():.0%}"
    assert markdowns(page, "Run the orders")

    button(page, "Try the orders at layer 0").click().run()
    page = settled(page)
    (line,) = markdowns(page, "Least interference")
    assert "At layer 0 the forecast of the best order" in line
    for order, name in lifelong.ORDERS.items():
        kept = (runs.trace("rome", 5, Draw(order=order)).edited_rank[-1] == 1).mean()
        assert f"{name} {kept:.0%}" in line
    assert table_of(page, "on_others", "among").value["edits"].tolist() == ["5"] * 3 + [MISSING] * 6
    assert button(page, "Try the orders at layer 0").disabled
    assert not button(page, "Try all 9").disabled

    layer = int(expected.loc[expected["on_others"].idxmin(), "layer"])
    there = expected[expected["layer"] == layer]
    order = lifelong.ORDERS[there.loc[there["among"].idxmin(), "order"]]
    button(page, f"Choose layer {layer}, {order}").click().run()
    assert page.query_params["arrange"] == "gentle", "the least is always the gentle order"
    assert state.CHOICES["layer"].read(page.query_params.get("layer", "0")) == layer


TRIED = pd.DataFrame(
    {"layer": [0, 0, 0, 1], "order": ["drawn", "gentle", "harsh", "gentle"], "among": [0.2, 0.1, 0.3, 0.0]}
)
HELD, NOT_HELD, UNTRIED = "best order **held**", "best order **did not hold**", "Run the orders"


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ([0.5, 0.75, 0.25], HELD),
        ([0.8, 0.75, 0.25], NOT_HELD),
        ([0.8, np.nan, 0.25], HELD),
        ([np.nan, 0.75, np.nan], UNTRIED),
        ([1.0, 1.0, 1.0], HELD),
    ],
)
def test_a_forecast_held_where_no_other_order_kept_more(kept: list[float], said: str) -> None:
    tried = TRIED.assign(retention=[*kept, 1.0])
    assert said in _summary(tried, 0)
    assert UNTRIED in _summary(tried, 1), "there but one was tried"


def test_the_study_is_the_committed_one(seen: Page) -> None:
    page = seen(chronicle="study")
    study = studies.committed()
    there = study[(study["layer"] == 0) & (study["draw"] == "random")]
    drawn = chart(page, "Edits until half is forgotten, layer 0").under_mouse()
    lives = studies.lifetimes(there)
    assert drawn["middle"].tolist() == pytest.approx(lives["middle"].tolist())
    assert drawn["model"].tolist() == lives["model"].tolist()
    assert f"{study[study['layer'] == 0]['seed'].nunique()} seeds" in captions(page)
    said = "\n".join(element.value for element in page.markdown)
    assert all(f"- {line}" in said for line in studies.findings(study))


def test_the_league_table_is_there_once_it_was_made(opened: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    row = dict.fromkeys(league.MEASURES, 0.5) | {"model": MODEL, "seed": 0, "edits": 50, "commit": ""}
    row |= {"reached": True}
    kinds = (("rome", "0", 8.0), ("wilke", "0–2", 9.0))
    rows = [row | {"method": name, "layers": layers, "half_life": life} for name, layers, life in kinds]
    monkeypatch.setattr(league, "committed", lambda: pd.DataFrame(rows, columns=list(league.COLUMNS)))
    page = opened(chronicle="study")
    assert not page.exception
    (table,) = (each.value for each in page.dataframe if "half_life" in each.value)
    assert table[["method", "half_life", "recall"]].to_numpy().tolist() == [
        ["WilKE, layers 0–2", "9", "50%"],
        ["ROME", "8", "50%"],
    ]
    assert league.PROTOCOL.split(":")[0] in captions(page)
    monkeypatch.setattr(league, "committed", lambda: pd.DataFrame([rows[0] | {"layers": "1"}]))
    assert plain(f"The league table of methods has: {MODEL} layer 1.") in captions(opened(chronicle="study"))
