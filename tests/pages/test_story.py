"""Story: eight steps, each with its figure or why there is none, forward and back."""

from __future__ import annotations

from pages.parts.frame import state
from tests.pages.conftest import MODEL, Open
from tests.pages.looking import charts, html, markdown, unescaped


def test_each_step_has_its_figure_and_the_way_on(open_page: Open) -> None:
    page, titles = open_page("pages/story.py", model=MODEL), []
    for chapter in range(1, state.CHAPTERS + 1):
        titles.append(page.subheader[0].value)
        assert titles[-1].startswith(f"{chapter} · ")
        if chapter > 6:  # what edits do, of which this store holds nothing
            assert "is stored yet" in page.info[0].value
        else:
            assert charts(page), "no figure"
        assert page.button(key="story-Back").disabled == (chapter == 1)
        following = page.button(key="story-Next")
        assert following.disabled == (chapter == state.CHAPTERS)
        if not following.disabled:
            following.click().run()
            assert page.query_params["chapter"] == str(chapter + 1)
    assert len(set(titles)) == state.CHAPTERS
    page.button(key="story-Back").click().run()
    assert page.subheader[0].value == titles[-2]


def test_it_is_told_with_the_picked_pair(open_page: Open) -> None:
    page = open_page("pages/story.py", model=MODEL, chapter="2", pair="3-7")
    facts = open_page("pages/superposition.py", model=MODEL, pair="3-7")
    named = [word for word in unescaped(markdown(page)).split("**") if word and word in unescaped(html(facts))]
    assert len(named) >= 2
