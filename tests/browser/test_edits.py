"""The story on stage: make a Russian a French speaker, and others follow. Two people at one server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.steps import FEW, MODEL, PATIENCE, Open, inspects, pair_in, place_in, shown, some_facts, until

pytestmark = pytest.mark.browser

STAGE = "pair=1-2", "Vladimir Bukovsky", "Russian → French", ("Vladimir Mayakovsky", "Vladimir Nabokov")
SMALL = f"{MODEL}&pair=1-2&target=Russian"  # the quickest to compute, of a few facts
SMALL_STORY = SMALL, "Georges Pompidou", "French → Russian", ("Pierre Bourdieu", "Gerard Depardieu")
FIRST = "[data-testid=stVegaLiteChart]"


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
    for x in range(int(left), int(left) + 200, 5):
        page.mouse.move(x, y)
        if tooltip.count() and subject in tooltip.inner_text():
            page.mouse.click(x, y)
            return
    raise AssertionError(f"no bar of {subject}")


@pytest.mark.parametrize("story", [SMALL_STORY, pytest.param(STAGE, marks=pytest.mark.stress)], ids=["small", "stage"])
def test_two_others_follow_an_edit_as_forecast(
    story: tuple[str, str, str, tuple[str, str]],
    warm_cache: Path,
    server: str,
    open_page: Open,
    capsys: pytest.CaptureFixture[str],
) -> None:
    link, subject, change, others = story
    link += "" if story is STAGE else f"&facts={some_facts(warm_cache, FEW)}"
    followers = [f"{other} → {change.split()[-1]}" for other in others]
    page = shown(open_page(f"{server}/edit?{link}"))
    expect(page.get_by_text(f"What an edit of {subject} does to every other fact")).to_be_visible(timeout=PATIENCE)
    if story is STAGE:
        chosen(page, "New object", "French")
    expect(page.locator("[data-testid=stHtml]").first).to_contain_text(change, timeout=PATIENCE)
    shown(page)

    slider = page.get_by_role("slider", name="Edit strength")
    slider.focus()
    page.keyboard.press("End")
    seconds = until(page, lambda: page.get_by_text("at strength 1.5").count() > 0, "the forecast does not follow")
    for follower in followers:
        expect(page.get_by_text(follower).first).to_be_visible()

    page.get_by_role("button", name="Perform the edit").click()
    measured = page.get_by_text("Answers that changed")
    performing = until(page, lambda: measured.count() > 0, "nothing was measured")
    text = measured.inner_text()
    assert all(follower in text for follower in followers), text
    assert re.search(r"\d+ of these \d+ forecast", text), text
    expect(page.get_by_text("efficacy", exact=True)).to_be_visible()
    expect(page.get_by_text(re.compile("^first choice, "))).to_be_visible()
    with capsys.disabled():
        print(f"\nstrength to forecast: {seconds:.2f} s; perform and measure: {performing:.2f} s")

    before = pair_in(page)
    click_bar_of(shown(page), others[0])
    until(page, lambda: pair_in(page) != before, "a click on the bar picks nobody")
    expect(page.get_by_text(f"What this edit does to {others[0]}")).to_be_visible()
    inspects(page, pair_in(page))

    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Answers forecast to change")).to_be_visible()
    expect(measured).to_have_count(0)


@pytest.mark.stress
def test_two_people_never_see_each_others_edits(server: str, open_page: Open) -> None:
    first, second = (shown(open_page(f"{server}/edit?{SMALL.replace('Russian', new)}")) for new in ("French", "German"))
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
