"""Lifelong: a known run opens at once; its steps, its link, its play, and what it is set against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from kis_core import editing, lifelong
from kis_core.lifelong import Draw, EditTrace
from kis_core.models import loading
from pages.parts.lifelong import runs as workers
from tests import tiny
from tests.pages.lifelong_runs import EDITS, EXACT, STEPS, Runs, chart, jobs_of_runs, numbers
from tests.pages.looking import button, captions, choose, labels, unescaped

Page = Callable[..., AppTest]
RUN = "ROME, layer 0, at random, seed 0"
COLUMNS = ["run", "edits", "series", "share"]


def shares(trace: EditTrace) -> pd.DataFrame:
    """Counted by hand: facts known at first that still are, and edits in force, at every step."""
    known = trace.rank[0] == 1
    rows = [
        (RUN, step, "unrelated", np.count_nonzero(trace.rank[row, known] == 1) / known.sum())
        for row, step in enumerate(trace.steps)
    ]
    rows += [
        (RUN, step, "edited", np.count_nonzero(trace.edited_rank[row] == 1) / step if step else np.nan)
        for row, step in enumerate(trace.steps)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def percent(share: float) -> str:
    return f"{round(100 * share):d} %"


def shown_step(page: AppTest) -> int:
    """The step that the numbers on the left are of."""
    return int(numbers(page)["unrelated right"][1].split()[1])


def test_a_known_run_opens_without_model_or_job(
    opened: Page, trace: EditTrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(loading, "load", refuse)
    page = opened()
    assert not page.error
    assert not jobs_of_runs()
    assert button(page, "Done").disabled
    assert "step" not in page.query_params, "the newest is shown without being chosen"
    figure = chart(page, "Edit after edit")
    pd.testing.assert_frame_equal(figure.under_mouse()[COLUMNS], shares(trace), **EXACT)
    assert figure.title == f"Edit after edit: {RUN}"
    assert f"{RUN}. Of {len(trace.unrelated)} facts not edited" in unescaped(captions(page))


@pytest.mark.parametrize(("asked", "shown"), [("900", 15), ("0", 0), ("7", 5)])
def test_the_numbers_on_the_left_are_those_of_the_step(asked: str, shown: int, seen: Page, trace: EditTrace) -> None:
    page = seen(step=asked)
    row, said = STEPS.index(shown), numbers(page)
    hold = shares(trace).set_index(["series", "edits"])["share"]
    assert said["unrelated right"] == (percent(hold["unrelated", shown]), f"after {shown} edits")
    drift, condition = trace.drift[row, 0], trace.condition[row, 0]
    assert said["‖Wₙ − W₀‖ / ‖W₀‖"] == (f"{drift:.2f}", f"condition number {condition:.0f}")
    assert said["perplexity"] == (f"{trace.perplexity[row]:.3g}", f"{trace.perplexity[0]:.3g} at first")
    if not row:
        assert said["edits in force"] == said["took when made"] == ("–", "of 0")
        assert "No edit was made yet." in captions(page)
        return
    assert said["edits in force"] == (percent(hold["edited", shown]), f"of {shown}")
    assert said["took when made"] == (percent(trace.took[:shown].mean()), f"of {shown}")


def test_edits_that_did_not_take_or_were_passed_over_are_counted(opened: Page, trace: EditTrace, runs: Runs) -> None:
    bench = runs.bench()
    asked = lifelong.ask(bench, 0, "rome", EDITS, Draw())
    number = np.arange(EDITS)
    workers._keep(lifelong.key(bench, asked), replace(trace, took=number >= 3, made=(number > 0) & (number < 12)))
    page = opened(step="5")
    assert numbers(page)["took when made"] == ("40 %", "of 5")
    assert "1 of these edits could not be made" in captions(page)
    slider = page.select_slider(key="choose-step")
    assert slider.options == [str(step) for step in STEPS]
    choose(page, "step", 10)
    assert page.query_params["step"] == "10"
    assert shown_step(page) == 10
    choose(page, "step", EDITS)
    assert numbers(page)["took when made"] == ("80 %", "of 15")
    assert "4 of these edits could not be made" in captions(page)


def test_the_half_life_is_of_all_stored_seeds_or_a_bound(
    opened: Page, seen: Page, trace: EditTrace, runs: Runs
) -> None:
    assert numbers(seen(edits="5", against="seeds"))["half-life"] == ("> 5 edits", "not reached in 3 of 3 runs")
    assert numbers(seen(edits="5", editor="alphaedit"))["half-life"] == ("> 5 edits", "not reached")
    bench = runs.bench()
    lost = np.arange(128) < 96  # of all facts known at first a quarter is left at 10 edits, or at 5: a half at 8⅓, 3⅓
    for seed, steps in ((0, (1, 1, 2, 2)), (1, (1, 2, 2, 2))):
        late = replace(trace, rank=np.where(lost, np.array(steps)[:, None], 1))
        workers._keep(lifelong.key(bench, lifelong.ask(bench, 0, "rome", EDITS, Draw(seed=seed))), late)
    page = opened()
    value, note = numbers(page)["half-life"]
    assert value == "5 edits", "√(25/3 · 10/3) = 5.3"
    assert note.endswith("(95 %, 2 seeds)")
    assert "seeds 0, 1: geometric mean" in captions(page)


def test_a_run_is_played_step_by_step_and_stops_at_the_end(opened: Page) -> None:
    page = opened()
    assert page.session_state["pace"] is None
    button(page, "Play").click().run()
    shown = []
    while "Pause" in labels(page):
        shown.append(shown_step(page))
        assert len(shown) < 20, "it does not stop"
        page.run()
    assert shown[0] == 0, "at the end it begins anew"
    assert sorted({*shown, EDITS}) == STEPS
    assert shown == sorted(shown)
    assert "Play" in labels(page)
    assert not page.session_state["playing"]
    assert shown_step(page) == EDITS
    assert "step" not in page.query_params


METHODS = ["AlphaEdit, layer 0, at random, seed 0, 5 at once", "fine-tuning, layer 0, at random, seed 0"]
AGAINST = (
    ("methods", METHODS, f"Run {len(editing.METHODS) - 1 - len(METHODS)}"),
    ("seeds", ["ROME, layer 0, at random, seed 1", "ROME, layer 0, at random, seed 2"], "Done"),
    ("draws", ["ROME, layer 0, most superposed first, seed 0"], "Run"),
)


@pytest.mark.parametrize(("against", "others", "missing"), tiny.in_full(AGAINST, ("methods", "seeds")))
def test_runs_set_against_it_are_drawn(against: str, others: list[str], missing: str, seen: Page, runs: Runs) -> None:
    page = seen(edits="5", against=against)
    frame = chart(page, "Edit after edit").under_mouse()
    assert list(dict.fromkeys(frame["run"])) == [RUN, *others]
    assert len(frame) == (1 + len(others)) * 2 * 2, "two steps, two series"
    assert missing in labels(page)
    for seed in range(3 if against == "seeds" else 0):
        name = f"ROME, layer 0, at random, seed {seed}"
        expected = lifelong.frames.holding({name: runs.trace("rome", 5, Draw(seed=seed))})
        own = frame[frame["run"] == name][COLUMNS].reset_index(drop=True)
        pd.testing.assert_frame_equal(own, expected, **EXACT)
