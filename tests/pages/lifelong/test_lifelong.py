"""Lifelong: a known run opens at once; its steps, its link, its play, and what it is set against."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from kis_core import lifelong
from kis_core.lifelong import Draw, EditTrace, summary
from kis_core.models import loading
from pages.parts.frame.text import plain
from pages.parts.lifelong import runs as workers
from tests.pages.lifelong_runs import (
    EDITS,
    STEPS,
    Runs,
    at_step,
    button,
    chart,
    choose,
    jobs_of_runs,
    labels,
    numbers,
    strong,
    under_mouse,
)
from tests.pages.looking import captions, charts, click, markdown, notes, unescaped

Page = Callable[..., AppTest]
RUN = "ROME, layer 0, at random, seed 0"
COLUMNS = ["run", "edits", "series", "share"]
EXACT = {"check_dtype": False, "rtol": 1e-12, "atol": 0.0}  # the same float64 numbers


def shares(film: EditTrace) -> pd.DataFrame:
    """Counted by hand: facts known at first that still are, and edits in force, at every step."""
    known = film.rank[0] == 1
    rows = [
        (RUN, step, "unrelated", np.count_nonzero(film.rank[row, known] == 1) / known.sum())
        for row, step in enumerate(film.steps)
    ]
    rows += [
        (RUN, step, "edited", np.count_nonzero(film.edited_rank[row] == 1) / step if step else np.nan)
        for row, step in enumerate(film.steps)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def told(page: AppTest) -> pd.DataFrame:
    return under_mouse(chart(page, "Edit after edit"))[COLUMNS]


def percent(share: float) -> str:
    return f"{round(100 * share):d} %"


# A known run


def test_a_known_run_opens_without_a_model_and_without_a_job(
    opened: Page, film: EditTrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(loading, "load", refuse)
    page = opened()
    assert not page.exception
    assert not page.error
    assert not jobs_of_runs()
    assert button(page, "Done").disabled
    pd.testing.assert_frame_equal(told(page), shares(film), **EXACT)


def test_the_caption_says_what_is_shown(seen: Page, film: EditTrace) -> None:
    assert f"{RUN}. Of {len(film.unrelated)} facts not edited" in unescaped(captions(seen()))
    assert chart(seen(), "Edit after edit").title == f"Edit after edit: {RUN}"


@pytest.mark.parametrize(("asked", "shown"), [(None, 15), ("0", 0), ("5", 5), ("7", 5), ("10", 10), ("900", 15)])
def test_the_numbers_on_the_left_are_those_of_the_step(
    asked: str | None, shown: int, seen: Page, film: EditTrace
) -> None:
    page = seen(**{"step": asked} if asked else {})
    row = STEPS.index(shown)
    hold = shares(film)
    unrelated = hold[(hold["series"] == "unrelated") & (hold["edits"] == shown)]["share"].item()
    found = numbers(page)
    assert found["unrelated right"] == (percent(unrelated), f"after {shown} edits")
    if shown:
        edited = hold[(hold["series"] == "edited") & (hold["edits"] == shown)]["share"].item()
        assert found["edits in force"] == (percent(edited), f"of {shown}")
        assert found["took when made"] == (percent(film.took[:shown].mean()), f"of {shown}")
    else:
        assert found["edits in force"] == found["took when made"] == ("–", "of 0")
    drift, condition = film.drift[row, 0], film.condition[row, 0]
    assert found["‖Wₙ − W₀‖ / ‖W₀‖"] == (f"{drift:.2f}", f"condition number {condition:.0f}")
    assert found["perplexity"] == (f"{film.perplexity[row]:.3g}", f"{film.perplexity[0]:.3g} at first")
    if not row:
        assert "No edit was made yet." in captions(page)
        return
    (since,) = (one.value for one in page.markdown if "**Edits made**" in one.value)
    before = STEPS[row - 1]
    assert since.startswith(f"**Edits made** since {before}: {plain(film.queue[before][0])} → ")
    lost = int(((film.rank[row - 1] == 1) & (film.rank[row] != 1)).sum())
    named = unescaped(since).split("**Answers lost**: ")[1].split("  \n")[0]
    assert len(named.split(", ")) == min(lost, 8) or (named == "none" and not lost)
    assert (f"and {lost - 8} more" in named) == (lost > 8)


def test_edits_that_did_not_take_or_were_passed_over_are_counted_up_to_the_step(
    opened: Page, film: EditTrace, runs: Runs
) -> None:
    bench = runs.bench()
    asked = lifelong.ask(bench, 0, "rome", EDITS, Draw())
    number = np.arange(EDITS)
    workers._keep(lifelong.key(bench, asked), replace(film, took=number >= 3, made=(number > 0) & (number < 12)))
    page = opened(step="5")
    assert numbers(page)["took when made"] == ("40 %", "of 5")
    assert "1 of these edits could not be made" in captions(page)
    choose(page, "step", EDITS)
    assert numbers(page)["took when made"] == ("80 %", "of 15")
    assert "4 of these edits could not be made" in captions(page)


def test_the_half_life_is_taken_over_the_stored_seeds(opened: Page, runs: Runs) -> None:
    halves = [summary.half_life(runs.film(draw=Draw(seed=seed))) for seed in (0, 1)]
    assert all(half.reached for half in halves), "else this shows nothing"
    page = opened()
    middle = np.exp(np.mean([np.log(half.edits) for half in halves]))
    value, note = numbers(page)["half-life"]
    assert value == f"{middle:.0f} edits"
    assert note.endswith("(95 %, 2 seeds)")
    assert "seeds 0, 1: geometric mean" in captions(page)


def test_a_half_life_that_was_not_reached_is_a_bound(seen: Page) -> None:
    assert numbers(seen(edits="5"))["half-life"] == ("> 5 edits", "not reached in 3 of 3 runs")
    page = seen(edits="5", editor="alphaedit")
    assert numbers(page)["half-life"] == ("> 5 edits", "not reached")


@pytest.mark.parametrize("under", ["theory", "ages", "weights", "damage"])
@pytest.mark.parametrize("step", STEPS)
def test_the_step_is_marked_in_every_chart(under: str, step: int, seen: Page) -> None:
    page = seen(chronicle=under, step=str(step))
    assert not page.exception
    found = charts(page)
    assert len(found) == {"theory": 3, "ages": 2, "weights": 4, "damage": 3}[under]
    assert [at_step(one) for one in found] == [[step]] * len(found)
    for one in found:
        if not one.title.startswith("Who is damaged"):
            every = set(under_mouse(one)["edits"])
            assert set(strong(one)["edits"]) == {at for at in every if at <= step}
            assert max(every) == EDITS, "what comes after is there too, faint"


def test_the_scrubber_goes_through_the_measured_steps(opened: Page) -> None:
    page = opened()
    slider = page.select_slider(key="choose-step")
    assert (slider.options, slider.value) == ([str(step) for step in STEPS], EDITS)
    assert "step" not in page.query_params, "the newest is shown without being chosen"
    choose(page, "step", 5)
    assert page.query_params["step"] == "5"
    assert numbers(page)["unrelated right"][1] == "after 5 edits"
    assert at_step(chart(page, "Edit after edit")) == [5]


# Played


def test_a_run_is_played_step_by_step_and_stops_at_the_end(opened: Page) -> None:
    page = opened()
    button(page, "Play").click().run()
    shown = []
    while "Pause" in labels(page):
        shown.append(int(numbers(page)["unrelated right"][1].split()[1]))
        assert len(shown) < 20, "it does not stop"
        page.run()
    assert shown[0] == 0, "at the end it begins anew"
    assert sorted({*shown, EDITS}) == STEPS
    assert shown == sorted(shown)
    assert "Play" in labels(page)
    assert not page.session_state["playing"]
    assert numbers(page)["unrelated right"][1] == "after 15 edits"
    assert "step" not in page.query_params


def test_a_run_is_played_from_where_one_is(opened: Page) -> None:
    page = opened(step="5")
    button(page, "Play").click().run()
    assert numbers(page)["unrelated right"][1] == "after 5 edits"


def test_a_pause_keeps_the_step_that_is_shown(opened: Page) -> None:
    page = opened()
    button(page, "Play").click().run()
    while numbers(page)["unrelated right"][1] != "after 5 edits":
        page.run()
    button(page, "Pause").click().run()
    for _ in range(2):
        assert numbers(page)["unrelated right"][1] == "after 5 edits"
        assert page.query_params["step"] == "5"
        assert "Play" in labels(page)
        page.run()


def test_a_page_that_is_played_draws_itself_and_no_other(opened: Page) -> None:
    page = opened()
    assert page.session_state["pace"] is None
    button(page, "Play").click().run()
    assert page.session_state["pace"] > 0
    button(page, "Pause").click().run()
    assert page.session_state["pace"] is None


# Links


CHOSEN = {
    "editor": "alphaedit", "through": 1, "edits": 10, "draw": "relation", "of": ["birthplace"],
    "arrange": "gentle", "seed": 3, "against": "orders",
}  # fmt: skip


def test_a_link_with_every_choice_reopens_the_same_view(opened: Page) -> None:
    page = opened()
    for name, value in CHOSEN.items():
        choose(page, name, value)
    link = dict(page.query_params)
    assert set(CHOSEN) <= set(link)
    again = opened(**link)
    assert not notes(again)
    assert dict(again.query_params) == link
    for name, value in CHOSEN.items():
        assert again.session_state[f"choose-{name}"] == value
    assert labels(again) == labels(page) == ["Run 3"]
    assert markdown(again) == markdown(page)


def test_a_link_to_a_step_and_a_fact_reopens_the_same_figures(opened: Page, film: EditTrace) -> None:
    page = opened(chronicle="damage")
    choose(page, "step", 10)
    choose(page, "shade", "all")
    one = chart(page, "Who is damaged")
    click(page, one, fact=[{"fact": int(film.unrelated[7])}])
    link = dict(page.query_params)
    assert (link["step"], link["shade"], link["watched"]) == ("10", "all", str(film.unrelated[7]))
    again = opened(**link)
    assert captions(again) == captions(page)
    assert numbers(again) == numbers(page)
    for before, after in zip(charts(page), charts(again), strict=True):
        assert (before.title, before.spec) == (after.title, after.spec)
        for name, table in before.tables.items():
            pd.testing.assert_frame_equal(table, after.tables[name])


WRONG = {
    "edits": "501", "draw": "foo", "step": "x", "queue": "nonsense", "editor": "x", "arrange": "y", "against": "z",
    "chronicle": "q", "shade": "r", "watched": "-1", "seed": "a", "through": "b", "of": "z" * 3000,
}  # fmt: skip


def test_what_a_link_asks_for_in_vain_is_told(opened: Page) -> None:
    page = opened(**WRONG)
    assert not page.exception
    (note,) = notes(page)
    lines = [line for line in note.splitlines() if line.startswith("- ")]
    assert sorted(line.split()[1] for line in lines) == sorted(WRONG)
    assert "edits “501”: a number from 1 to 500" in note
    assert "edits are written like 3:French~5:Spanish" in unescaped(note)
    assert not set(WRONG) & set(page.query_params)
    choose(page, "edits", EDITS)
    assert not notes(page), "until something is chosen"


def test_a_link_may_ask_for_fewer_edits_than_the_slider_begins_with(opened: Page) -> None:
    page = opened(edits="3")
    assert not page.exception


def test_picked_facts_beyond_the_set_are_told(opened: Page) -> None:
    page = opened(draw="hand", queue="1:French~500:x")
    assert "500" in unescaped(markdown(page))


def test_relations_that_are_not_there_are_told(opened: Page) -> None:
    page = opened(draw="relation", of="no_such_relation")
    assert "no_such_relation" in unescaped(markdown(page))


# Set against others


@pytest.mark.parametrize(
    ("against", "others", "missing"),
    [
        ("one", [], "Done"),
        ("methods", ["AlphaEdit, layer 0, at random, seed 0, 5 at once", "fine-tuning, layer 0, at random, seed 0"],
         "Run 3"),
        ("draws", ["ROME, layer 0, most superposed first, seed 0"], "Run"),
        ("seeds", ["ROME, layer 0, at random, seed 1", "ROME, layer 0, at random, seed 2"], "Done"),
        ("orders", [], "Run 2"),
        ("layers", [], "Run 2"),
    ],
)  # fmt: skip
def test_runs_it_is_set_against_are_drawn_by_name(against: str, others: list[str], missing: str, seen: Page) -> None:
    page = seen(edits="5", against=against)
    frame = under_mouse(chart(page, "Edit after edit"))
    assert list(dict.fromkeys(frame["run"])) == [RUN, *others]
    assert len(frame) == (1 + len(others)) * 2 * 2, "two steps, two series"
    (told,) = re.findall(r", set against (\d+ other runs?)", captions(page)) or [""]
    assert told == ["", "1 other run", "2 other runs"][len(others)]
    assert labels(page)[0] == missing
    assert not page.exception


def test_against_others_each_line_holds_its_own_run(seen: Page, runs: Runs) -> None:
    frame = under_mouse(chart(seen(edits="5", against="seeds"), "Edit after edit"))
    for seed in range(3):
        expected = lifelong.frames.holding(
            {f"ROME, layer 0, at random, seed {seed}": runs.film("rome", 5, Draw(seed=seed))}
        )
        own = frame[frame["run"] == expected["run"][0]][COLUMNS].reset_index(drop=True)
        pd.testing.assert_frame_equal(own, expected, **EXACT)


def test_against_other_models_it_says_which_are_missing_and_which_model_this_is(seen: Page) -> None:
    page = seen(against="models")
    assert chart(page, "Edit after edit").title == f"Edit after edit: demo-gpt2-32: {RUN}"
    assert "Compute the 5 missing demo models" in labels(page)
