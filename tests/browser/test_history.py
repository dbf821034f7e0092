"""The browser's own buttons: Back and Forward show again what was seen, one step for one click."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.steps import (
    FEW,
    MODEL,
    Open,
    click_cell,
    go_to,
    inspected,
    inspects,
    inspects_another,
    pair_in,
    shown,
    some_facts,
    until,
)

pytestmark = pytest.mark.browser


def entries(page: Page) -> int:
    return int(page.evaluate("history.length"))


def test_back_and_forward_restore_every_view(warm_cache: Path, server: str, open_page: Open) -> None:
    link = f"{server}/superposition?{MODEL}&facts={some_facts(warm_cache, FEW)}"
    page = shown(open_page(f"{link}&pair=0-1"))
    began = entries(page)
    click_cell(page, 0.7, 0.5)
    inspects_another(page, "0-1")
    until(page, lambda: "pair=0-1" not in page.url, "the link does not follow")
    first = pair_in(page)
    shown(page)
    slider = page.get_by_role("slider", name="Layer")
    slider.focus()
    page.keyboard.press("ArrowRight")
    until(page, lambda: "layer=1" in page.url, "the link does not say the layer")
    shown(page)
    go_to(page, "Top pairs")
    page.wait_for_url("**/top_pairs?**")
    shown(page, "[data-testid=stDataFrame]")
    assert "layer=1" in page.url
    assert f"pair={first}" in page.url
    assert entries(page) == began + 3, "a click, a step of the slider and another page are three steps"

    page.go_back()
    page.wait_for_url("**/superposition?**")
    shown(page)
    inspects(page, first)
    expect(page.get_by_text(re.compile("layer 1")).first).to_be_visible()
    page.go_back()
    until(page, lambda: "layer=" not in page.url and slider.input_value() == "0", "still layer 1")
    inspects(page, first)
    page.go_back()
    inspects(page, "0-1")
    assert pair_in(page) == "0-1"
    page.go_forward()
    inspects(page, first)
    page.go_forward()
    until(page, lambda: slider.input_value() == "1", "the layer does not come back")
    assert entries(page) == began + 3, "going back and forth adds nothing"
    page.reload()
    shown(page)
    inspects(page, first)
    assert "layer=1" in page.url


@pytest.mark.stress
def test_another_tab_leaves_the_history_alone(warm_cache: Path, server: str, open_page: Open) -> None:
    link = f"{server}/superposition?{MODEL}&facts={some_facts(warm_cache, FEW)}"
    page = shown(open_page(f"{link}&pair=0-1"))
    click_cell(page, 0.7, 0.5)
    inspects_another(page, "0-1")
    other = shown(open_page(f"{link}&fact=1"))
    expect(other.get_by_text("did you mean “facts”")).to_be_visible()
    assert inspected(other)
    page.go_back()
    inspects(page, "0-1")


@pytest.mark.stress
def test_back_from_a_page_that_a_click_opened(server: str, open_page: Open) -> None:
    page = shown(open_page(f"{server}/?{MODEL}"))
    click_cell(page, 0.7, 0.5)
    page.wait_for_url("**/superposition**", timeout=20_000)
    shown(page)
    pair = inspected(page)
    page.go_back()
    expect(page.get_by_role("heading", name="Knowledge in superposition")).to_be_visible()
    shown(page)
    assert "superposition" not in page.url, "the click that is still remembered must not lead there again"
    page.go_forward()
    page.wait_for_url("**/superposition**")
    shown(page)
    inspects(page, pair)


@pytest.mark.stress
def test_nothing_of_a_strangers_link_becomes_a_live_one(server: str, open_page: Open) -> None:
    hostile = "http://evil.example/login", "www.evil.example", "mail@evil.example", ":material/home:", "<b>x</b>"
    names = "pair", "other", "facts", "order", "layer"
    query = "&".join(f"{name}={text}" for name, text in zip(names, hostile, strict=True))
    page = shown(open_page(f"{server}/?{MODEL}&{query}"))
    note = page.get_by_text("This link asks for something that is not here")
    expect(note).to_be_visible()
    note_text = page.locator("[data-testid=stAlert]").first.inner_text().replace("\u2060", "")
    assert all(text in note_text for text in hostile), note_text
    assert page.locator("a[href*='evil']").count() == 0
    assert "Overview" in page.title()
