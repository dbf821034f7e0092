"""A run on stage: it draws while it goes, is cancelled and resumed, played and looked into."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.steps import FEW, MODEL, PATIENCE, Open, place_in, shown, some_facts, until

pytestmark = pytest.mark.browser

STEP = re.compile(r"^after \d+ edits$")
EDITS = 60  # never all made: the run is called off twice
CHARTS = "[data-testid=stVegaLiteChart]"


def edits_shown(page: Page) -> int:
    """After how many edits the numbers on the left are."""
    labels = page.get_by_text(STEP).all_inner_texts()
    return int(labels[0].split()[1]) if labels else -1


def cancelled_after(page: Page, edits: int) -> int:
    """Cancel as soon as so many edits are drawn; how many were kept."""
    until(page, lambda: edits_shown(page) >= edits, "nothing is drawn while the run goes")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("What was measured is kept")).to_be_visible()
    kept = edits_shown(shown(page))
    assert edits <= kept < EDITS, "the run had ended before it was drawn"
    return kept


def test_a_run_draws_while_it_goes_resumes_is_played_and_looked_into(
    warm_cache: Path, server: str, open_page: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = some_facts(warm_cache, FEW)
    page = open_page(f"{server}/lifelong?{MODEL}&facts={facts}&edits={EDITS}&chronicle=damage")
    expect(page.get_by_text("to make these edits")).to_be_visible(timeout=PATIENCE)  # the analysis comes first
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_text(STEP)).to_be_visible(timeout=PATIENCE)
    came_to = cancelled_after(page, 5)
    assert "step=" not in page.url, "nobody chose a step"
    page.get_by_role("button", name="Resume").click()
    last = cancelled_after(page, came_to + 5)

    page.get_by_role("button", name="Play").click()
    until(page, lambda: edits_shown(page) == 0, "the play does not begin at the first step")
    seen = {0}
    until(page, lambda: bool(seen.add(edits_shown(page)) or last in seen), "the play does not come to the end")
    assert seen == set(range(0, last + 1, 5))
    expect(page.get_by_role("button", name="Play")).to_be_visible()

    slider = page.get_by_role("slider", name="After so many edits")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    seconds = until(page, lambda: edits_shown(page) == last - 5, "the scrubber does not scrub")
    assert f"step={last - 5}" in page.url

    page.mouse.click(*place_in(shown(page).locator(CHARTS).nth(1).locator("canvas, svg").first, 0.5, 0.6))
    clicked = until(page, lambda: "watched=" in page.url, "a click on the heatmap does not pick a fact")
    expect(page.get_by_text(re.compile("Answered wrong for the first time|Never wrong"))).to_be_visible()
    with capsys.disabled():
        print(f"\na step of the scrubber: {seconds:.2f} s; a click on the heatmap: {clicked:.2f} s")
