"""The story on stage: make Bukovsky a French speaker, and Mayakovsky and Nabokov follow. Two people at one server."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.steps import PATIENCE, Open, inspects, pair_in, place_in, shown, until

pytestmark = pytest.mark.browser

FOLLOWERS = ("Vladimir Mayakovsky → French", "Vladimir Nabokov → French")
FIRST = "[data-testid=stVegaLiteChart]"
QUICK = "model=demo-gpt2-32"  # the quickest to compute


def chosen(page: Page, label: str, text: str) -> None:
    """Type into a box of choices and take what is found."""
    box = page.get_by_role("combobox", name=re.compile(label))
    box.click()
    box.fill(text)
    page.get_by_role("option").filter(has_text=text).first.wait_for()
    page.keyboard.press("Enter")


def click_bar_of(page: Page, subject: str) -> None:
    """Move over the bars from the left until the tooltip names the fact, and click."""
    left, y = place_in(page.locator(FIRST).first, 0.05, 0.4)
    tooltip = page.locator("#vg-tooltip-element.visible")
    for x in range(int(left), int(left) + 200, 2):
        page.mouse.move(x, y)
        if tooltip.count() and subject in tooltip.inner_text():
            page.mouse.click(x, y)
            return
    raise AssertionError(f"no bar of {subject}")


def test_two_others_follow_an_edit_as_forecast(
    server: str, open_page: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    page = shown(open_page(f"{server}/edit"))
    chosen(page, "Edit the fact", "Vladimir Bukovsky")
    until(page, lambda: "pair=1-" in page.url, "the link does not say the fact")
    chosen(page, "New object", "French")
    expect(page.locator("[data-testid=stHtml]").first).to_contain_text("native speaker of Russian → French")
    caption = page.get_by_text("What an edit of Vladimir Bukovsky does to every other fact")
    expect(caption).to_contain_text("No answer is forecast to change.", timeout=PATIENCE)

    slider = page.get_by_role("slider", name="Edit strength")
    slider.focus()
    page.keyboard.press("End")
    seconds = until(page, lambda: page.get_by_text("at strength 1.5").count() > 0, "the forecast does not follow")
    for follower in FOLLOWERS:
        expect(page.get_by_text(follower).first).to_be_visible()

    page.get_by_role("button", name="Perform the edit").click()
    measured = page.get_by_text("Answers that changed")
    performing = until(page, lambda: measured.count() > 0, "nothing was measured")
    told = measured.inner_text()
    assert all(follower in told for follower in FOLLOWERS), told
    assert "2 of these 2 forecast" in told
    expect(page.get_by_text("efficacy", exact=True)).to_be_visible()
    expect(page.get_by_text(re.compile("^yes: 9"))).to_be_visible()
    with capsys.disabled():
        print(f"\nstrength to forecast: {seconds:.2f} s; perform and measure 128 facts: {performing:.2f} s")

    click_bar_of(shown(page), "Vladimir Mayakovsky")
    until(page, lambda: pair_in(page) == "1-0", "a click on the bar does not pick Mayakovsky")
    inspects(page, "1-0")
    expect(page.get_by_text("What this edit does to Vladimir Mayakovsky")).to_be_visible()

    again = shown(open_page(page.url))
    expect(again.get_by_text("2 of these 2 forecast")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Answers forecast to change")).to_be_visible()
    expect(measured).to_have_count(0)


@pytest.mark.stress
def test_two_people_never_see_each_others_edits(server: str, open_page: Open) -> None:
    first, second = (shown(open_page(f"{server}/edit?{QUICK}&pair=1-2&target={new}")) for new in ("French", "German"))
    for page in (first, second):
        expect(page.get_by_text("What an edit of Vladimir Bukovsky")).to_be_visible(timeout=PATIENCE)
    first.get_by_role("button", name="Perform the edit").click()
    expect(first.get_by_text("Diamonds are measured")).to_be_visible(timeout=PATIENCE)
    second.get_by_role("radio", name="History").click()
    expect(second.get_by_text("Edits you perform are listed here")).to_be_visible()
    expect(second.get_by_text("Diamonds are measured")).to_have_count(0)
    second.get_by_role("button", name="Perform the edit").click()
    expect(second.get_by_text("Diamonds are measured")).to_be_visible(timeout=PATIENCE)
    listed = second.get_by_role("button", name=re.compile("Vladimir Bukovsky: Russian"))
    expect(listed).to_have_count(1)
    expect(listed).to_contain_text("German")
