"""Every page on every kind of result, run without a browser; the frame around them; the Overview."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from kis_core.analysis.pipeline import Result
from kis_core.results.pairs import table
from kis_core.superposition.verdicts import heavy_tail, overlap, zero_mean
from kis_core.wording import counted
from pages.parts.frame.text import plain
from tests import tiny
from tests.pages.conftest import (
    ANSWERED,
    HOSTILE,
    LOOKALIKES,
    MIXED,
    MODEL,
    ONE_LAYER,
    PICTURE,
    SCRIPT,
    SCRIPTS,
    Open,
    Stored,
)
from tests.pages.looking import captions, charts, choose, click, html, markdown, provenance, unescaped

STATES: dict[str, dict[str, str]] = {
    "as it opens": {},
    "answered facts alone": {"facts": "mixed", "keep": "known"},
    "look-alikes, last layer": {"facts": LOOKALIKES, "layer": "3"},
    "one fact": {"facts": "one"},
    "two facts": {"facts": "two"},
    "three facts": {"facts": "three"},
    "equal keys": {"facts": "constant"},
    "more than are drawn one by one": {"facts": "large"},
    "one layer": {"model": ONE_LAYER},
}
WITHOUT_PAIRS = {"app.py", "pages/superposition.py", "pages/your_facts.py", "pages/models.py"}  # nor need any
WITH_TEXT = ("app.py", "pages/compare.py", "pages/superposition.py", "pages/top_pairs.py", "pages/your_facts.py")
WITHOUT_RESULT = {"pages/library.py", "pages/models.py"}  # pages that show no P, and so none of the answered facts


def properties(spec: Any) -> Iterator[str]:
    """The names of everything a specification sets."""
    if isinstance(spec, dict):
        yield from spec
        for part in spec.values():
            yield from properties(part)
    elif isinstance(spec, list):
        for part in spec:
            yield from properties(part)


@pytest.mark.parametrize("state", tiny.in_full(STATES, ("answered facts alone", "one fact")))
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_page_says_where_all_it_shows_comes_from(script: str, state: str, look: Open, stored: Stored) -> None:
    link = STATES[state]
    page = look(script, **link)
    assert not page.error
    whole = stored(link.get("facts", "builtin"), model=link.get("model", MODEL))
    facts = f"{counted(ANSWERED if 'keep' in link else len(whole.facts), 'fact')} ({whole.facts.name}"
    weights = f"{whole.request.model} (weights {whole.provenance['weights_sha256'][:8]})"
    origins = provenance(page)
    lines = [code for code in page.code if code.language == "python"]
    assert len(origins) == len(lines), "each figure comes with its lines of Python, and with its provenance"
    for caption in origins:
        for said in (weights, "layer", facts, "100,000 tokens", "builtin corpus", "no ridge"):
            assert said in caption
    assert origins or page.info or script in ("pages/your_facts.py", "pages/models.py")
    if state == "one fact" and script not in WITHOUT_PAIRS:
        assert page.info, "there are no pairs"
    if state == "equal keys":
        assert "a single fact" not in markdown(page)


@pytest.mark.parametrize("script", tiny.in_full(SCRIPTS, WITH_TEXT))
def test_text_of_users_is_shown_as_text(script: str, look: Open) -> None:
    page = look(script, facts="hostile", pair="0-1")
    assert "<script" not in html(page)
    for fact in HOSTILE:
        for text in (fact.subject, fact.text, fact.target):
            assert text not in markdown(page), "with its marks disarmed, or not at all"
    for chart in charts(page):
        assert not {"href", "url"} & set(properties(chart.spec))
    if script in ("app.py", "pages/superposition.py"):
        shown = html(page) + unescaped(markdown(page))
        assert SCRIPT in shown.replace("&lt;", "<").replace("&gt;", ">"), "there all the same"
        assert PICTURE in shown


@pytest.mark.parametrize("script", tiny.in_full(sorted({*SCRIPTS} - WITHOUT_RESULT), ("app.py", "pages/your_facts.py")))
def test_a_model_that_answers_nothing_is_told_what_to_do(script: str, look: Open) -> None:
    page = look(script, model=ONE_LAYER, keep="known")
    if script == "pages/your_facts.py":
        assert f"{plain(ONE_LAYER)} answers 0 of the 128 facts" in markdown(page)
    else:
        assert "Switch off" in page.warning[0].value
        assert not page.code


def test_the_answered_facts_are_told_by_their_number(open_page: Open, stored: Stored) -> None:
    page = open_page("app.py", facts="mixed")
    assert f"{MIXED} facts" in captions(page)
    choose(page, "keep", True)
    assert page.query_params["keep"] == "known"
    assert f"the {ANSWERED} of {MIXED} the model answers" in captions(page)
    p = stored("mixed").p[0, :ANSWERED, :ANSWERED]
    off = p[~np.eye(ANSWERED, dtype=bool)]
    assert [metric.value for metric in page.metric][:2] == [f"{off.mean():+.3f}", f"{off.std():.3f}"]
    choose(page, "keep", False)
    assert "keep" not in page.query_params


def test_the_overview_states_moments_and_opens_its_strongest_leaks_by_a_click(open_page: Open, result: Result) -> None:
    page = open_page("app.py", layer="2")
    moments = result.reports[2].moments
    expected = [f"{moments.mean:+.3f}", f"{moments.std:.3f}", f"{moments.kurtosis:.1f}", f"{moments.max:.2f}"]
    assert [metric.value for metric in page.metric] == expected
    found = (overlap(result.p[2], result.mlp_width), heavy_tail(result.p[2]), zero_mean(result.p[2]))
    assert all(verdict.finding in markdown(page) for verdict in found)
    strongest = table(result, 2, count=5, tags=["no tag"])[["i", "j"]].to_numpy().tolist()
    buttons = [button for button in page.button if button.key.startswith("leak-")]
    assert [button.label.split("**")[1] for button in buttons] == [f"{result.p[2, i, j]:+.2f}" for i, j in strongest]
    buttons[3].click().run()
    assert page.query_params["pair"] == "-".join(map(str, strongest[3]))
    i, j = strongest[3]
    assert f"{result.p[2, i, j]:+.3f}" in html(page), "the pair is open on its page"


@pytest.mark.parametrize("facts", ["builtin", "large"])
def test_a_click_on_the_overviews_matrix_opens_the_pair(facts: str, open_page: Open, stored: Stored) -> None:
    page = open_page("app.py", facts=facts)
    chart = charts(page)[0]
    click(page, chart, cell=[{"r": 4, "c": 8}])
    i, j = (int(part) for part in page.query_params["pair"].split("-"))
    assert f"{stored(facts).p[0, i, j]:+.3f}" in html(page)
    rows = chart.table("r", "c", "p").set_index(["r", "c"])["p"]
    assert math.isclose(rows[4, 8], stored(facts).p[0, i, j], abs_tol=1e-4), "values are sent with four digits"
