"""One pair followed through every page, figures taken home, facts brought along."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.steps import (
    FEW,
    MODEL,
    PATIENCE,
    TABLE,
    Open,
    click_cell,
    go_to,
    inspected,
    inspects,
    inspects_another,
    pair_in,
    place_in,
    place_of_cell,
    rows_of,
    shown,
    some_facts,
    until,
)

pytestmark = pytest.mark.browser

MARK = "◉"


def marked_rows(page: Page) -> list[list[str]]:
    """Rows of any table that carry the mark of the picked pair."""
    return [row for table in range(page.locator(TABLE).count()) for row in rows_of(page, table) if MARK in row]


@pytest.mark.stress
def test_one_pair_is_followed_from_the_table_to_the_tail_and_the_matrix(server: str, open_page: Open) -> None:
    page = shown(open_page(f"{server}/top_pairs?{MODEL}"), TABLE)
    page.mouse.click(*place_in(page.locator(TABLE).first, 0.5, 0.25))
    until(page, lambda: len(marked_rows(page)) == 1, "the clicked row is not marked")
    pair = pair_in(page)
    inspects(page, pair)
    value = float(marked_rows(page)[0][2])  # mark, rank, P[i, j]

    go_to(page, "Distributions")
    shown(page)
    i, j = pair.split("-")
    marked = re.compile(rf"Marked: the picked pair, P\[{i}, {j}\] = {re.escape(f'{value:+.3f}')}")
    expect(page.get_by_text(marked).first).to_be_visible()
    inspects(page, pair)
    until(page, lambda: [float(row[2]) for row in marked_rows(page)] == [value], "the tail does not mark the pair")

    go_to(page, "Angles")
    shown(page)
    expect(page.get_by_text(f"Marked: the picked pair, {i} and {j}")).to_be_visible()

    go_to(page, "Superposition")
    shown(page)
    inspects(page, pair)


@pytest.mark.stress
def test_a_click_on_the_tail_lists_its_pairs_and_the_link_reopens_them(server: str, open_page: Open) -> None:
    page = shown(open_page(f"{server}/distributions?{MODEL}"))
    heading = page.get_by_text(re.compile(r"The [\d,]+ pairs with P from"))
    before = heading.inner_text()
    click_cell(page, 0.6, 0.4)
    until(page, lambda: heading.inner_text() != before, "the click listed nothing")
    until(page, lambda: "tail=" in page.url, "the link does not say the tail")
    in_heading = re.search(r"The ([\d,]+) pairs with P from (-?[\d.]+) to (-?[\d.]+)", heading.inner_text())
    assert in_heading

    def listed() -> list[float]:
        return [float(row[2]) for row in rows_of(page, 1) if len(row) > 2]

    until(page, lambda: bool(listed()), "the table stays empty")
    values = listed()
    assert all(float(in_heading[2]) - 0.001 <= value <= float(in_heading[3]) + 0.001 for value in values)
    again = shown(open_page(page.url))
    expect(again.get_by_text(in_heading[0])).to_be_visible()


@pytest.mark.stress
def test_a_point_of_the_scaling_law_opens_its_model_and_layer(warm_cache: Path, server: str, open_page: Open) -> None:
    facts = some_facts(warm_cache, FEW + 1)  # that no other test looks at, so that one model alone is computed
    page = shown(open_page(f"{server}/scaling?{MODEL}&artefacts=without&facts={facts}"))
    page.get_by_role("button", name="Cancel").click()  # the other models would take a minute
    page.wait_for_timeout(1500)
    shown(page)
    chart = page.locator("[data-testid=stVegaLiteChart]").nth(1)  # against size: one model, so a point in its middle
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    tooltip, opened = page.locator("#vg-tooltip-element.visible"), False
    for across in (0.56, 0.54, 0.58):  # the axis on the left takes some of the width
        for y in range(int(box["y"]) + 40, int(box["y"] + box["height"]) - 60, 6):
            page.mouse.move(box["x"] + across * box["width"], y)
            page.wait_for_timeout(20)  # milliseconds until what lies under the mouse is told
            if tooltip.count() and "kurtosis" in tooltip.inner_text():
                page.mouse.down()
                page.mouse.up()
                opened = True
                break
        if opened:
            break
    assert opened, "no point was found under the mouse"
    page.wait_for_url("**/superposition**", timeout=20_000)
    shown(page)
    assert "model=demo-gpt2-32" in page.url


@pytest.mark.stress
def test_a_charts_toolbar_is_beside_its_controls_and_a_full_screen_shows_it_whole(server: str, open_page: Open) -> None:
    page = open_page("about:blank")
    page.set_viewport_size({"width": 1920, "height": 1080})
    page.goto(f"{server}/superposition?{MODEL}")
    shown(page)
    page.mouse.move(*place_of_cell(page, 0.5, 0.5))
    toolbar = page.locator("[data-testid=stElementToolbar]").first
    expect(toolbar).to_have_css("opacity", "1")
    view = page.get_by_role("button", name="View").first.bounding_box()
    box = toolbar.bounding_box()
    assert view is not None
    assert box is not None
    assert view["y"] + view["height"] <= box["y"] or view["x"] + view["width"] <= box["x"]
    expect(toolbar.get_by_role("button", name="Show data")).to_be_hidden()  # it would show the axis labels
    toolbar.hover()  # what was drawn anew since the mouse came to rest does not know of it
    toolbar.get_by_role("button", name="Fullscreen").click()

    def whole() -> bool:
        large = page.locator("[data-testid=stVegaLiteChart] canvas").first.bounding_box()
        return large is not None and large["width"] > 1500 and large["y"] + large["height"] <= 1080

    until(page, whole, "the full screen cuts rows off")


def test_a_figure_is_taken_home(server: str, open_page: Open, tmp_path: Path) -> None:
    page = shown(open_page(f"{server}/angles?{MODEL}", dark=True))
    expect(page.locator("[data-testid=stApp]")).to_have_css("background-color", "rgb(14, 17, 23)")
    page.locator("[data-testid=stMain] [data-testid=stPopover] button").first.click()
    expect(page.get_by_text("The same numbers in Python")).to_be_visible()
    for kind, start in (("PNG", b"\x89PNG"), ("SVG", b"<svg"), ("CSV", b"low,high"), ("NPZ", b"PK")):
        with page.expect_download(timeout=PATIENCE) as download:
            page.get_by_role("button", name=kind, exact=True).click()
        path = tmp_path / kind
        download.value.save_as(path)
        assert path.read_bytes().startswith(start), kind
        assert download.value.suggested_filename == f"angles-between-keys.{kind.lower()}"


def test_facts_of_ones_own(server: str, open_page: Open, tmp_path: Path) -> None:
    good = [("Vladimir Mayakovsky", "The native language of {} is", "Russian"), ("<b>X</b>", "{} lies in", "Y"),
            ("Slovenia", "People in {} speak mostly", "Slovene")]  # fmt: skip
    lines = ["subject,prompt,target", *(",".join(row) for row in good), "Nobody,no slot here,Z"]
    path = tmp_path / "My facts.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    page = shown(open_page(f"{server}/your_facts?{MODEL}"), TABLE)
    page.locator("input[type=file]").set_input_files(path)
    expect(page.get_by_text("3 facts can be used.")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("1 row was left out")).to_be_visible()
    page.get_by_role("button", name="Use these 3 facts").click()
    until(page, lambda: "facts=my-facts-" in page.url, "the set is not in use")
    expect(page.get_by_text(re.compile("answers [0-3] of the 3 facts"))).to_be_visible(timeout=PATIENCE)
    go_to(page, "Superposition")
    shown(page)
    assert "facts=my-facts-" in page.url
    expect(page.get_by_text("edit fact i = ")).to_be_visible()
    expect(page.get_by_text("3 facts (My facts.csv")).to_be_visible()


@pytest.mark.stress
@pytest.mark.parametrize("count", [436, 1000])
def test_a_large_fact_set_stays_usable(
    count: int, warm_cache: Path, server: str, open_page: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    name = some_facts(warm_cache, count)
    address = f"{server}/superposition?{MODEL}&facts={name}"
    shown(open_page(address))  # computes it
    times = {}
    page = open_page("about:blank")
    page.goto(address)
    times["drawn"] = until(page, lambda: page.locator("[data-testid=stVegaLiteChart] canvas").count() >= 2, "no charts")
    shown(page)
    page.wait_for_timeout(2000)
    for what, chart in (("overview", 0), ("detail", 1)):
        before = inspected(page)
        place = place_in(page.locator("[data-testid=stVegaLiteChart] canvas").nth(chart), 0.75, 0.6)
        page.wait_for_timeout(500)
        page.mouse.click(*place)
        times[what] = inspects_another(page, before)
        page.wait_for_timeout(1000)
    with capsys.disabled():
        took = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in times.items())
        print(f"\n{count} facts: {took} (drawn; click to inspector)")
    assert pair_in(page) == inspected(page)
    assert "window=" in page.url


@pytest.mark.stress
def test_a_drag_over_the_overview_moves_the_detail(warm_cache: Path, server: str, open_page: Open) -> None:
    page = shown(open_page(f"{server}/superposition?{MODEL}&facts={some_facts(warm_cache, 200)}"))
    overview = page.locator("[data-testid=stVegaLiteChart] canvas").first
    begin, end = place_in(overview, 0.6, 0.45), place_in(overview, 0.8, 0.7)
    page.mouse.move(*begin)
    page.mouse.down()
    page.mouse.move(*end, steps=8)
    page.mouse.up()
    until(page, lambda: "window=" in page.url, "the drag moved nothing")
    window = re.search(r"window=(\d+)-(\d+)-(\d+)-(\d+)", page.url)
    assert window
    top, bottom, left, right = map(int, window.groups())
    assert 0 <= top < bottom <= 200
    assert 0 <= left < right <= 200
    assert max(bottom - top, right - left) <= 128
