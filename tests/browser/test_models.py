"""A model of one's own: what it needs, Compute, a disconnect and a restart in between, Resume, and all pages work."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests import tiny
from tests.browser.conftest import serving
from tests.browser.steps import PATIENCE, Open, go_to, shown

pytestmark = [pytest.mark.browser, pytest.mark.stress]


def choose_the_built_in_text(page: Page) -> None:
    """The first of the texts, by the keyboard."""
    box = page.locator("[data-testid=stSelectbox]").filter(has_text="Text behind C").locator("input").last
    box.click()
    box.press("Home")
    box.press("Enter")
    expect(page.get_by_label("Tokens, at most").first).to_have_value("100000", timeout=PATIENCE)
    expect(page.get_by_label("Tokens, at most")).to_have_count(1, timeout=PATIENCE)  # the one before has gone


def test_a_folder_is_computed_and_goes_on_after_a_disconnect_and_a_restart(tmp_path: Path, open_page: Open) -> None:
    folder, cache = tiny.save("GPT-J", tmp_path / "tiny-gpt-j"), tmp_path / "cache"
    with serving(cache) as url:
        page = shown(open_page(f"{url}/models"), "[data-testid=stDataFrame]")
        typed = page.get_by_placeholder("owner/model, or a folder on this machine")
        typed.fill(str(folder))
        typed.press("Enter")
        expect(page.get_by_role("heading", name="tiny-gpt-j")).to_be_visible(timeout=PATIENCE)
        choose_the_built_in_text(page)
        shown(page, "button:has-text('Compute')")  # at rest: a page that is being drawn loses a click
        page.get_by_role("button", name="Compute").click()
        expect(page.get_by_text("Second moment of the keys")).to_be_visible(timeout=PATIENCE)
        link = page.url
        page.close()
        page = open_page(f"{url}/library?{link.partition('?')[2]}")
        expect(page.get_by_role("button", name="Cancel")).to_be_visible(timeout=PATIENCE)  # nobody had to wait for it
    with serving(cache) as url:
        page = open_page(f"{url}/library?{link.partition('?')[2]}")
        page.get_by_role("button", name="Resume").click(timeout=PATIENCE)
        expect(page.get_by_role("button", name="Resume")).to_have_count(0, timeout=PATIENCE)
        expect(page.get_by_role("button", name="Cancel")).to_have_count(0, timeout=PATIENCE)
        go_to(page, "Superposition")
        shown(page)
        expect(page.get_by_text("100,000 tokens of the builtin corpus").first).to_be_visible()
        expect(page.get_by_text("whitened angle")).to_be_visible()
