"""What a person does: open, see P, click a cell, read the pair, share the link. Prints how long it took."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import serving
from tests.browser.steps import (
    PATIENCE,
    Open,
    click_cell,
    inspected,
    inspects,
    inspects_another,
    pair_in,
    place_of_cell,
    shown,
    until,
)

pytestmark = pytest.mark.browser


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


def test_click_opens_the_pair_and_the_link_reopens_it_on_a_fresh_server(
    server: str, warm_cache: Path, open_page: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    page = shown(open_page(f"{server}/superposition"))
    seconds = []
    for across, down in ((0.7, 0.5), (0.5, 0.65), (0.85, 0.8)):
        before = inspected(page)
        click_cell(page, across, down)
        seconds.append(inspects_another(page, before))
        page.wait_for_timeout(800)  # the next click is a new one, not the second half of a double click
    with capsys.disabled():
        print(f"\nclick to inspector: {', '.join(f'{s:.2f}' for s in seconds)} s")
    pair = pair_in(page)
    assert inspected(page) == pair
    expect(page.get_by_text("whitened angle")).to_be_visible()
    expect(page.get_by_text("next word after")).to_have_count(2)

    with serving(warm_cache) as fresh:
        again = shown(open_page(fresh + page.url.removeprefix(server)))
        assert inspected(again) == pair
        assert pair_in(again) == pair


def test_clicked_cell_is_the_pair_at_that_place_in_another_order(server: str, open_page: Open) -> None:
    page = shown(open_page(f"{server}/superposition?pair=0-1"))
    page.get_by_role("radio", name="similarity").click()
    until(page, lambda: "order=similarity" in page.url, "the link does not say the order")
    page.wait_for_timeout(1500)  # the chart is drawn anew
    assert inspected(page) == "0-1", "another order shows the same pair"
    x, y = place_of_cell(page, 0.6, 0.6)
    page.mouse.move(x, y)
    tooltip = page.locator("#vg-tooltip-element tr")
    expect(tooltip).to_have_count(3)
    edited, suffers = (tooltip.nth(row).locator("td.value").inner_text() for row in (0, 1))
    page.mouse.click(x, y)
    inspects_another(page, "0-1")
    cards = page.locator("[data-testid=stHtml] b")
    assert cards.all_inner_texts()[:2] == [edited, suffers], "the pair is the one under the mouse"


def test_arrow_keys_walk_the_strongest_pairs(server: str, open_page: Open) -> None:
    page = shown(open_page(f"{server}/superposition"))
    start = inspected(page)
    page.keyboard.press("ArrowRight")
    inspects_another(page, start)
    expect(page.get_by_text(re.compile(r"pair [\d,]+ of 16,256"))).to_be_visible()
    second = inspected(page)
    page.wait_for_timeout(500)  # a reader's pace
    page.keyboard.press("ArrowRight")
    inspects_another(page, second)
    page.wait_for_timeout(500)
    page.keyboard.press("ArrowLeft")
    inspects(page, second)


def test_a_subject_is_found_by_search(server: str, open_page: Open) -> None:
    page = shown(open_page(f"{server}/superposition"))
    for label, subject in (("Edit fact i", "Vladimir Mayakovsky"), ("Look at fact j", "Vladimir Bukovsky")):
        box = page.get_by_role("combobox", name=re.compile(label))
        box.click()
        box.fill(subject)
        page.keyboard.press("Enter")
        page.wait_for_timeout(1200)
    inspects(page, "0-1")
    until(page, lambda: "pair=0-1" in page.url, "the link does not say the pair")


def test_choices_stay_across_pages_and_in_the_link(server: str, open_page: Open) -> None:
    page = shown(open_page(f"{server}/superposition?layer=2&pair=3-4&order=relation"))
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_role("heading", name="Knowledge in superposition")).to_be_visible()
    shown(page)
    until(page, lambda: "layer=2" in page.url and "pair=3-4" in page.url, "the link lost the choices")
    expect(page.get_by_text("Strongest leaks at layer 2")).to_be_visible()
    page.get_by_role("link", name="Superposition").click()
    expect(page.get_by_text("edit fact i = 3")).to_be_visible()
    assert "order=relation" in page.url


def test_a_click_on_the_overview_opens_the_pair(server: str, open_page: Open) -> None:
    page = shown(open_page(server))
    click_cell(page, 0.7, 0.5)
    page.wait_for_url("**/superposition**", timeout=20_000)
    expect(page.get_by_text("edit fact i = ")).to_be_visible()
    until(page, lambda: f"pair={inspected(page)}" in page.url, "the link says another pair than the inspector")


def test_a_link_that_asks_for_what_is_not_there_says_so(server: str, open_page: Open) -> None:
    page = shown(open_page(f"{server}/superposition?model=<b>x</b>&layer=99&pair=one&facts=none"))
    notice = page.get_by_text("This link asks for something that is not here")
    expect(notice).to_be_visible()
    expect(page.get_by_text("model “<b>x</b>”")).to_be_visible()
    expect(page.get_by_text("layer “99”")).to_be_visible()


def test_cancel_cancels_and_compute_goes_on(tmp_path: Path, open_page: Open) -> None:
    with serving(tmp_path) as url:
        page = open_page(f"{url}/superposition?model=demo-gpt2-64")  # slow enough to be cancelled
        page.get_by_role("button", name="Cancel").click(timeout=PATIENCE)
        expect(page.get_by_text("The computation was cancelled")).to_be_visible(timeout=PATIENCE)
        assert not list((tmp_path / "matrices").glob("superposition-*"))
        page.get_by_role("button", name="Compute").click()
        shown(page)
        expect(page.get_by_text("edit fact i = ")).to_be_visible()
