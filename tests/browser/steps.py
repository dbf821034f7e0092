"""What a person does on any page, and how to see what came of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, Page

CHART = "[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg"
TABLE = "[data-testid=stDataFrame]"
STEP_SECONDS = 40
MODEL = "model=demo-gpt2-32"  # in links: the quickest to compute and to edit
FEW = 40  # facts, whose heatmap is drawn in a tenth of the time
PATIENCE = 90_000  # milliseconds; how long it really took is printed, not asserted
Open = Callable[..., Page]


def shown(page: Page, what: str = CHART) -> Page:
    """Wait until the page shows a chart (or something else) and has come to rest."""
    page.wait_for_selector(what, timeout=PATIENCE)
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=PATIENCE)
    return page


def place_in(target: Locator, across: float, down: float) -> tuple[float, float]:
    """A place in something, in pixels of the screen, by shares of its width and height."""
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    assert box is not None
    return box["x"] + box["width"] * across, box["y"] + box["height"] * down


def place_of_cell(page: Page, across: float, down: float) -> tuple[float, float]:
    return place_in(page.locator(CHART).first, across, down)


def click_cell(page: Page, across: float, down: float, *, chart: int = 0) -> None:
    page.mouse.click(*place_in(page.locator(CHART).nth(chart), across, down))


def pair_in(page: Page) -> str:
    match = re.search(r"pair=(\d+-\d+)", page.url)
    assert match, f"no pair in {page.url}"
    return match[1]


def inspected(page: Page) -> str:
    i = re.search(r"edit fact i = (\d+)", page.get_by_text("edit fact i = ").inner_text())
    j = re.search(r"and fact j = (\d+)", page.get_by_text("and fact j = ").inner_text())
    assert i
    assert j
    return f"{i[1]}-{j[1]}"


def until(page: Page, holds: Callable[[], bool], what: str) -> float:
    """Wait until something holds; how long that took, in seconds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < STEP_SECONDS, what
        page.wait_for_timeout(25)  # milliseconds; every look costs the cores that the server needs
    return time.monotonic() - began


def inspects_another(page: Page, before: str) -> float:
    return until(page, lambda: inspected(page) != before, f"the inspector still shows {before}")


def inspects(page: Page, pair: str) -> float:
    return until(page, lambda: inspected(page) == pair, f"the inspector never shows {pair}")


def go_to(page: Page, name: str) -> None:
    """By the navigation, as a person would."""
    page.locator("[data-testid=stSidebar]").get_by_role("link", name=name, exact=True).click()
    page.wait_for_url(f"**/{name.lower().replace(' ', '_')}**")


def rows_of(page: Page, table: int = 0) -> list[list[str]]:
    """The rows of a table that are on the screen, cell by cell."""
    rows = page.locator(TABLE).nth(table).locator("table[role=grid] tbody tr")
    return [[cell.strip() for cell in row.locator("td").all_inner_texts()] for row in rows.all()]


def some_facts(cache: Path, count: int) -> str:
    """That many facts of the demo fact base, as if someone had brought them."""
    from kis_core.demo import factbase
    from kis_core.facts import Fact, FactSet, saved

    facts = [Fact(base.subject, base.trained[0], base.object, base.relation) for base in factbase.load()[:count]]
    assert len(facts) == count
    return saved.save(cache, FactSet(f"{count}.csv", tuple(facts)))
