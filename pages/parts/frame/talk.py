"""Talk mode: type and charts for the last row, no side bar, a presenter's keys, and the views of a talk in order.

The views are links: a page, and what is chosen there. They are kept for the session, and go home as a file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from kis_core.read_only import read_only
from pages.parts.frame import state
from pages.parts.frame.text import plain

SCALE = 1.6  # of all type
MOST_VIEWS = 100
MEGABYTES = 1  # of a file of views
TYPE = ("fontSize", "labelFontSize", "titleFontSize", "labelLimit", "titleLimit", "gradientLength", "symbolSize")
"""What of a chart's specification grows with its type."""
STYLE = f"""<style>
html{{font-size:min(calc(17px*{SCALE}),2.1vw)!important}}
[data-testid=stSidebar],[data-testid=stExpandSidebarButton],[data-testid=stHeader]{{display:none!important}}
[data-testid=stMainBlockContainer]{{padding:.3rem 1.2rem 2.2rem!important}}
[data-testid=stMainBlockContainer] h1,[data-testid=stMainBlockContainer] h3{{font-size:1.3rem;padding:.2rem 0}}
[data-testid=stMainBlockContainer]>div>[data-testid=stElementContainer]:has(style){{display:none}}
[data-testid=stVegaLiteChart],[data-testid=stVegaLiteChart]>div{{height:calc(100vh - 11.5rem)!important}}
/* figures first and as wide as the screen, choices below them */
:is(.st-key-split-edit,.st-key-split-lifelong)>[data-testid=stLayoutWrapper]>[data-testid=stHorizontalBlock]{{
  flex-direction:column-reverse}}
:is(.st-key-split-edit,.st-key-split-lifelong)>*>*>[data-testid=stColumn]{{width:100%;flex:none}}
/* what a speaker presses, in the corners of the screen */
.st-key-remote,.st-key-act{{position:fixed;bottom:.3rem;z-index:99;width:auto!important}}
.st-key-remote{{right:.8rem;opacity:.2;transform:scale(.6);transform-origin:bottom right}}
.st-key-remote:is(:hover,:focus-within){{opacity:1}}
.st-key-act{{left:1.2rem;flex-wrap:nowrap!important;backdrop-filter:blur(12px)}}
.st-key-act [data-testid=stSlider],.st-key-act [data-testid=stSelectSlider]{{min-width:30vw}}
</style>"""


class TalkError(ValueError):
    """A file that holds no views of a talk; the message says why."""


@dataclass(frozen=True)
class TalkView:
    """One view of a talk.

    Attributes:
        page: its script, as the navigation has it.
        link: what is chosen there, as a link says it.
    """

    page: str
    link: dict[str, str]

    @property
    def words(self) -> str:
        """What sets it apart from other views of the same page. Markdown."""
        return plain(", ".join(f"{name} {value}" for name, value in self.link.items() if name != "talk")[:80])


def key(name: str) -> str | None:
    """A key for a button while an audience looks on; none otherwise, where people type."""
    return name if on() else None


def on() -> bool:
    """Whether the page is shown to an audience."""
    return bool(state.get("talk") == "on")


def enlarged(specification: Any) -> Any:
    """A chart's specification with all its type larger, as high as its place on the page; its data stay as they are."""
    return {**_grown(specification), "height": "container"}


def _grown(part: Any) -> Any:
    if isinstance(part, dict):
        grown = {
            name: SCALE * value if name in TYPE and isinstance(value, int | float) else _grown(value)
            for name, value in part.items()
        }
        return grown | ({"labelOverlap": "greedy"} if part.get("labelOverlap") is False else {})  # larger, so fewer
    return [_grown(one) for one in part] if isinstance(part, list) else part


def views() -> list[TalkView]:
    """The views of this session's talk, in order."""
    known: list[TalkView] = st.session_state.setdefault("views of the talk", [])
    return known


def written(chosen: Sequence[TalkView]) -> str:
    """Views as a file that `read` takes."""
    return json.dumps({"views": [{"page": view.page, "link": view.link} for view in chosen]}, indent=1)


def read(content: bytes, pages: Sequence[str]) -> list[TalkView]:
    """The views of a file.

    Args:
        content: of the file.
        pages: the scripts there are.

    Raises:
        TalkError: it holds none, too many, or a page that is not there.
    """
    if len(content) > 1_000_000 * MEGABYTES:
        raise TalkError(f"a file of views has at most {MEGABYTES} MB")
    try:
        found = [TalkView(view["page"], dict(view["link"])) for view in json.loads(content)["views"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise TalkError("this is no file of a talk’s views; take one that was saved here") from None
    if not 0 < len(found) <= MOST_VIEWS:
        raise TalkError(f"a talk has 1 to {MOST_VIEWS} views; this file has {len(found)}")
    for view in found:
        if view.page not in pages:
            raise TalkError("this file names a page that is not there")
        if not all(isinstance(text, str) for pair in view.link.items() for text in pair):
            raise TalkError("what a view chooses has to be text")
    return found


def remote(page: str, pages: Sequence[str]) -> None:
    """The keys of a presenter's remote, in the corner: the views of the talk, or all pages, back and forth; Esc ends.

    Args:
        page: the script of this page.
        pages: the scripts there are, in order.
    """
    stops = views() or [TalkView(name, {}) for name in pages]
    at = _place(page, stops)
    with st.container(horizontal=True, key="remote", width="content"):
        back = st.button("Back", shortcut="PageUp", disabled=at == 0, key="talk-back")
        following = st.button(
            "Next", shortcut="PageDown", disabled=at is not None and at + 1 >= len(stops), key="talk-next"
        )
        if st.button("End", shortcut="Esc", key="talk-end", help="Leave talk mode"):
            state.choose("talk", "off")
            st.rerun()
    if back or following:
        to = 0 if at is None else at + (1 if following else -1)
        st.session_state["place in the talk"] = to
        stop = stops[to]
        state.visit(stop.page, {**(stop.link or state.link()), "talk": "on"})


def _place(page: str, stops: Sequence[TalkView]) -> int | None:
    """Which of the stops is shown: the one gone to last, if it is of this page, else the first of this page."""
    last = st.session_state.get("place in the talk", 0)
    if last < len(stops) and stops[last].page == page:
        return int(last)
    return next((at for at, stop in enumerate(stops) if stop.page == page), None)


def desk(page: str, titles: dict[str, str]) -> None:
    """In the side bar: begin the talk, and its views: add this one, order, open, take home, bring along.

    Args:
        page: the script of this page.
        titles: of all pages, by script.
    """
    with st.popover("Talk", icon=":material/co_present:", width="stretch"):
        if st.button(
            "Begin here", type="primary", icon=":material/play_arrow:", width="stretch", key="talk-begin",
            help="Large type, no side bar, figures as high as the screen. Page Down and Page Up, which a presenter’s "
            "remote sends, go to the next view and back; Esc ends.",
        ):  # fmt: skip
            state.choose("talk", "on")
            st.rerun()
        known = views()
        if st.button("Add this view", icon=":material/add:", width="stretch", key="talk-add",
                     disabled=len(known) >= MOST_VIEWS):  # fmt: skip
            known.append(TalkView(page, state.link()))
            st.rerun()
        for at, view in enumerate(known):
            _line(at, view, known, titles)
        if not known:
            st.caption("Without views of its own a talk goes through all pages in order.")
        else:
            st.download_button("Save the views", written(known), "talk.json", "application/json", on_click="ignore",
                               width="stretch", key="talk-save")  # fmt: skip
        if not read_only():
            _bring(list(titles))


def _line(at: int, view: TalkView, known: list[TalkView], titles: dict[str, str]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(f"{at + 1}. {titles[view.page]}", type="tertiary", key=f"talk-open-{at}", help=view.words or None):
            st.session_state["place in the talk"] = at
            state.visit(view.page, view.link)
        if st.button("", icon=":material/arrow_upward:", type="tertiary", key=f"talk-up-{at}", disabled=not at,
                     help="Earlier"):  # fmt: skip
            known[at - 1], known[at] = known[at], known[at - 1]
            st.rerun()
        if st.button("", icon=":material/close:", type="tertiary", key=f"talk-drop-{at}", help="Leave it out"):
            del known[at]
            st.rerun()


def _bring(pages: Sequence[str]) -> None:
    brought = st.file_uploader("Views saved before", "json", max_upload_size=MEGABYTES, key="talk-file")
    if brought is not None and st.session_state.get("talk brought") != brought.file_id:
        st.session_state["talk brought"] = brought.file_id
        try:
            st.session_state["views of the talk"] = read(brought.getvalue(), pages)
        except TalkError as error:
            st.error(plain(str(error)), icon=":material/error:")
            return
        st.rerun()
