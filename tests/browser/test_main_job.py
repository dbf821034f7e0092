"""What a person does: open, see P, click a cell, read the pair. Prints how long it took."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import serving
from tests.browser.steps import (
    MODEL,
    PATIENCE,
    Open,
    inspected,
    inspects,
    inspects_another,
    pair_in,
    place_of_cell,
    shown,
)

pytestmark = pytest.mark.browser


@pytest.mark.stress
def test_first_heatmap_with_an_empty_cache_then_with_a_warm_one(
    warm_cache: Path, open_page: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = {}
    for state in ("empty", "warm"):
        began = time.monotonic()
        with serving(warm_cache) as url:
            shown(open_page(url))
            seconds[state] = time.monotonic() - began
    with capsys.disabled():
        print(f"\nserver start to first heatmap: {seconds['empty']:.1f} s empty cache, {seconds['warm']:.1f} s warm")
    assert list((warm_cache / "matrices").glob("superposition-*")), "nothing was cached"


def test_a_click_opens_the_pair_and_arrow_keys_walk_on(
    server: str, open_page: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    page = shown(open_page(f"{server}/superposition?{MODEL}&pair=0-1&order=similarity"))
    assert inspected(page) == "0-1", "another order shows the same pair"
    x, y = place_of_cell(page, 0.6, 0.6)
    page.mouse.move(x, y)
    tooltip = page.locator("#vg-tooltip-element tr")
    expect(tooltip).to_have_count(3)
    edited, suffers = (tooltip.nth(row).locator("td.value").inner_text() for row in (0, 1))
    page.mouse.click(x, y)
    seconds = inspects_another(page, "0-1")
    cards = page.locator("[data-testid=stHtml] b")
    assert cards.all_inner_texts()[:2] == [edited, suffers]
    with capsys.disabled():
        print(f"\nclick to inspector: {seconds:.2f} s")
    pair = pair_in(shown(page))
    assert inspected(page) == pair
    expect(page.get_by_text("whitened angle")).to_be_visible()
    expect(page.get_by_text("next word after")).to_have_count(2)

    page.keyboard.press("ArrowRight")
    inspects_another(page, pair)
    expect(page.get_by_text(re.compile(r"pair [\d,]+ of 16,256"))).to_be_visible()
    second = inspected(shown(page))
    page.keyboard.press("ArrowRight")
    inspects_another(page, second)
    shown(page).keyboard.press("ArrowLeft")
    inspects(page, second)


@pytest.mark.stress
def test_cancel_cancels_and_compute_goes_on(tmp_path: Path, open_page: Open) -> None:
    with serving(tmp_path) as url:
        page = open_page(f"{url}/superposition?model=demo-gpt2-64")  # slow enough to be cancelled
        page.get_by_role("button", name="Cancel").click(timeout=PATIENCE)
        expect(page.get_by_text("The computation was cancelled")).to_be_visible(timeout=PATIENCE)
        assert not list((tmp_path / "matrices").glob("superposition-*"))
        page.get_by_role("button", name="Compute").click()
        shown(page)
        expect(page.get_by_text("edit fact i = ")).to_be_visible()
