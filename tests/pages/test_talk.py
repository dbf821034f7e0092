"""Talk mode: large type, a presenter's keys, and the views of a talk, in order, home and back."""

from __future__ import annotations

import json

import altair as alt
import pytest

from kis_core import charts
from pages.parts.frame import talk
from pages.parts.frame.page import PAGES
from pages.parts.frame.talk import TalkError, TalkView
from tests.pages.conftest import MODEL, Open

SCRIPTS = [path for links in PAGES.values() for path, *_ in links]
VIEWS = [TalkView("app.py", {"model": MODEL}), TalkView("pages/edit.py", {"pair": "3-7", "target": "Französisch"})]


def test_all_type_of_a_chart_grows_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    small = charts.losses([3.0, 2.0, 1.0], stop=0.5).to_dict()
    large = talk.enlarged(small)
    assert large["config"]["axis"]["labelFontSize"] == talk.SCALE * small["config"]["axis"]["labelFontSize"]
    assert large["datasets"] == small["datasets"]
    monkeypatch.setattr(talk, "SCALE", 1)
    assert talk.enlarged(small) | {"height": small["height"]} == small
    alt.LayerChart.from_dict(large)


def test_views_come_back_from_their_file() -> None:
    assert talk.read(talk.written(VIEWS).encode(), SCRIPTS) == VIEWS


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"views": []}',
        b'{"views": 3}',
        b'{"views": [{"page": "app.py"}]}',
        b'{"views": [{"page": "app.py", "link": {"pair": 3}}]}',
        b'{"views": [{"page": ["app.py"], "link": {}}]}',
        b'{"views": [{"page": "../../app.py", "link": {}}]}',
        b"[" * 100_000,
        json.dumps({"views": [{"page": "app.py", "link": {}}] * (talk.MOST_VIEWS + 1)}).encode(),
        b" " * 1_000_000 * talk.MEGABYTES + talk.written(VIEWS).encode(),
    ],
)
def test_what_is_no_file_of_views_is_refused(content: bytes) -> None:
    with pytest.raises(TalkError):
        talk.read(content, SCRIPTS)


def test_a_talk_begins_goes_on_and_ends(open_page: Open) -> None:
    page = open_page("pages/your_facts.py", model=MODEL)
    assert not [button for button in page.button if button.key == "talk-next"], "nobody talks"
    page.button(key="talk-add").click().run()
    page.button(key="talk-begin").click().run()
    assert page.query_params["talk"] == "on"
    assert page.button(key="talk-back").disabled
    assert page.button(key="talk-next").disabled, "the one view of this talk is on"
    page.button(key="talk-end").click().run()
    assert "talk" not in page.query_params
    assert not page.exception


def test_without_views_of_its_own_a_talk_goes_through_the_pages(open_page: Open) -> None:
    page = open_page("pages/your_facts.py", model=MODEL, talk="on")
    stop = SCRIPTS.index("pages/your_facts.py")
    assert talk._place("pages/your_facts.py", [TalkView(name, {}) for name in SCRIPTS]) == stop
    assert not page.button(key="talk-next").disabled
