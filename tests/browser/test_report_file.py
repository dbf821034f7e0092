"""A report opened from disk with the network off: a click on a cell opens the pair, and no text of a user runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from kis_core import report
from kis_core.results.result import Result
from kis_core.store.store import Store
from kis_core.wording import number
from tests.report.report_tools import hostile

pytestmark = pytest.mark.browser

MARGINS = (150, 36, 12)  # pixels left of the cells, above them, and behind
SCREEN = {"width": 1280, "height": 720}


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """The report of a result whose texts look like markup; nothing may be asked for or complained of meanwhile."""
    path = tmp_path / "report.html"
    report.write(hostile(), Store(tmp_path / "store", gallery=""), path)
    context = browser.new_context(viewport=SCREEN, color_scheme="dark", offline=True)
    page, complaints = context.new_page(), []
    page.on("request", lambda request: complaints.append(request.url) if request.url != path.as_uri() else None)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert complaints == []


def click_cell(page: Page, row: int, column: int, facts: int) -> None:
    left, top, behind = MARGINS
    box = page.locator("#heatmap").bounding_box()
    assert box
    cell = (box["width"] - left - behind) / facts
    place = {"x": left + (column + 0.5) * cell, "y": top + (row + 0.5) * cell}
    page.locator("#heatmap").click(position=place)


def shows(page: Page, result: Result, at: int, i: int, j: int) -> None:
    """The pair's sentences, and its numbers as the library writes them."""
    pair, facts = page.locator("#pair"), result.facts.facts
    for k in (i, j):
        expect(pair).to_contain_text(f"{facts[k].text} {facts[k].target}")
    p, angle = result.p[at], np.degrees(np.arccos(result.whitening_cosine[at, i, j]))
    texts = pair.locator(".figures b").all_inner_texts()
    assert texts[:3] == [number(p[i, j], "+.3f"), number(p[j, i], "+.3f"), f"{number(angle, '.1f')}°"]


def test_it_opens_from_disk_and_a_click_shows_the_pair(opened: Page) -> None:
    page, result = opened, hostile()
    shows(page, result, 0, *result.ranking(0)[0])
    page.locator("#layer").press("ArrowRight")
    expect(page.locator("#layer-name")).to_have_text("1 of 1")
    click_cell(page, 2, 1, len(result.facts))
    shows(page, result, 1, 2, 1)
    page.locator("#heatmap").press("ArrowUp")
    page.locator("#heatmap").press("ArrowLeft")
    shows(page, result, 1, 1, 0)
    page.wait_for_url("**#layer=1&pair=1-0")  # a link to this pair

    page.locator("#search").fill("%data%")
    expect(page.locator("#pair-table tbody tr")).to_have_count(4)
    page.locator("#pair-table tbody tr").first.click()
    shows(page, result, 1, *result.ranking(1)[0])
    expect(page.locator("#density path.line").first).to_be_attached()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.get_by_role("button", name="Light").click()
    expect(page.locator("body")).to_have_css("background-color", "rgb(255, 255, 255)")
    assert page.title() != "run"
    assert page.locator("img").count() == 0
