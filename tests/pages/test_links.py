"""Links: every choice opens from one, is written back to it, and goes along from page to page."""

from __future__ import annotations

import re

import pytest

from pages.parts.frame import state
from pages.parts.frame.choices import Several, Words
from tests import tiny
from tests.pages.conftest import ANSWERED, FEWER_TOKENS, LOOKALIKES, MODEL, ONE_LAYER, SCRIPTS, Open
from tests.pages.looking import choose, notes, unescaped

CHEAP = "pages/your_facts.py"  # a page without figures
BY_PAGE = {
    "app.py": {
        "model": ONE_LAYER, "layer": "2", "facts": LOOKALIKES, "behind": f"tokens:{FEWER_TOKENS[0]}",
        "keep": "known", "talk": "on",
    },
    "pages/superposition.py": {
        "pair": "3-7", "order": "similarity", "limit": "0.3", "diagonal": "hidden", "window": "0-40-8-72",
    },
    "pages/story.py": {"chapter": "4"},
    "pages/distributions.py": {"axis": "log", "tail": "0.2~1", "artefacts": "without"},
    "pages/angles.py": {"angle": "40~60", "space": "activation"},
    "pages/top_pairs.py": {
        "k": "250", "directions": "merged", "relations": "native_language~product_maker",
        "tags": "same subject~no tag", "find": "Vladimir", "list": "stay", "stay": "models",
    },
    "pages/network.py": {"least": "0.3", "lights": "off"},
    "pages/compare.py": {"other": ONE_LAYER, "otherlayer": "1"},
    "pages/edit.py": {
        "target": "French", "method": "r-rome", "strength": "0.35", "how": "clamp:2~steps:10", "by": "shift",
        "performed": "yes", "look": "reach",
    },
    "pages/lifelong.py": {
        "editor": "alphaedit", "through": "1", "nas": "on", "edits": "60", "draw": "most", "arrange": "gentle",
        "seed": "7", "of": "native_language~product_maker", "queue": "0:Rome~5:Paris", "against": "seeds", "step": "5",
        "chronicle": "ages", "shade": "all", "watched": "3",
    },
}  # fmt: skip
"""Of every choice a value other than its default, by a page that has to do with it."""
EXAMPLES = {name: text for link in BY_PAGE.values() for name, text in link.items()}
NONSENSE = {
    "model": "<script>", "layer": "4", "facts": "../../etc", "behind": "corpus:/etc/passwd", "keep": "some",
    "pair": "0", "order": "random", "limit": "0.7", "diagonal": "grey", "window": "0-64", "axis": "cubic",
    "tail": "1~0", "angle": "90", "space": "outer", "k": "501", "directions": "none", "tags": "same~subject",
    "list": "weakest", "stay": "home", "artefacts": "only", "other": "gpt-5", "otherlayer": "two", "method": "memit",
    "strength": "1.6", "how": "steps:many", "by": "hope", "performed": "maybe", "look": "away", "editor": "vim",
    "through": "up", "nas": "maybe", "edits": "501", "draw": "lots", "arrange": "neatly", "seed": "-1", "queue": "Rome",
    "against": "all", "step": "last", "chronicle": "legend", "shade": "pale", "watched": "me",
    "talk": "loud", "chapter": "9",
    "least": "9", "lights": "dim",
}  # fmt: skip


def test_every_choice_has_an_example() -> None:
    assert set(EXAMPLES) == set(state.CHOICES)
    free = {name for name, kind in state.CHOICES.items() if isinstance(kind, Words) or kind == Several()}
    assert set(NONSENSE) == set(state.CHOICES) - free


ALONE = ("app.py", "pages/compare.py")  # pages whose choices depend on each other
TOGETHER = [(script, link) for script, link in BY_PAGE.items() if script not in ALONE]
LINKS = [(script, {name: text}) for script in ALONE for name, text in BY_PAGE[script].items()] + TOGETHER


@pytest.mark.parametrize(("script", "link"), LINKS)
def test_choices_open_from_a_link_and_stay_in_it(script: str, link: dict[str, str], look: Open) -> None:
    page = look(script, **link)
    assert not page.error
    assert not notes(page)
    for name in link:
        assert page.session_state["chosen"][name] != state.CHOICES[name].default
    assert dict(page.query_params) == {"model": MODEL, **link}


def test_nonsense_is_told_and_the_default_shown_until_something_is_chosen(open_page: Open) -> None:
    nonsense = {name: text for name, text in NONSENSE.items() if name != "model"}
    page = open_page("app.py", **nonsense)
    (note,) = notes(page)
    assert note.count("\n- ") == len(nonsense)
    for name, text in nonsense.items():
        assert f"- {name} “{text}”" in unescaped(note)
        assert page.session_state["chosen"][name] == state.CHOICES[name].default
        assert name not in page.query_params
    page.run()
    assert notes(page), "reruns of themselves tell it again"
    page.slider[0].set_value(1).run()
    assert not notes(page), "gone once something is chosen"


BEYOND = "there are 128 facts, numbered from 0 to 127"
ABSENT: tuple[tuple[dict[str, str], str], ...] = (
    ({"fact": "1"}, "no page knows “fact”; did you mean “facts”?"),
    ({"utm_source": "mail"}, "no page knows “utm_source”"),
    ({"pair": "128-0"}, f"pair “128-0”: {BEYOND}"),
    ({"watched": "128"}, f"watched “128”: {BEYOND}"),
    ({"window": "0-64-100-129"}, f"window “0-64-100-129”: {BEYOND}"),
    ({"queue": "3:French~500:Rome"}, f"queue “3:French~500:Rome”: {BEYOND}"),
    ({"relations": "friend_of"}, "relations “friend_of”: relations of these facts are"),
    ({"through": "4"}, "through “4”: demo-gpt2-32 has layers 0 to 3"),
    ({"otherlayer": "4"}, "has layers 0 to 3"),
    ({"other": ONE_LAYER, "otherlayer": "1"}, "has layers 0 to 0"),
    ({"edits": "20", "step": "25"}, "step “25”: the run has 20 edits"),
    ({"target": "x" * 81}, "at most 80 characters"),
    ({"<b>[x](http://e.example)": "1\n\n# two"}, "<b>[x](http://e.example) “1 # two”"),
    ({"model": "<b>[x](http://e)"}, "<b>[x](http://e)"),
)


@pytest.mark.parametrize(("asked", "said"), ABSENT)
def test_what_there_is_not_is_told_and_leaves_the_link(asked: dict[str, str], said: str, open_page: Open) -> None:
    page = open_page(CHEAP, layer="1", **asked)
    (note,) = notes(page)
    assert said in unescaped(note)
    assert "<b>" not in note
    assert "[x](" not in note
    kept = {name: text for name, text in asked.items() if name in ("edits", "other")}
    assert dict(page.query_params) | {"model": MODEL} == {"model": MODEL, "layer": "1", **kept}


@pytest.mark.parametrize("script", tiny.in_full(("app.py", "pages/superposition.py", "pages/compare.py"), ("app.py",)))
def test_a_pair_beyond_those_facts_that_are_shown_is_told_once(script: str, open_page: Open) -> None:
    pair = f"{ANSWERED}-1"
    page = open_page(script, facts="mixed", keep="known", pair=pair)
    (note,) = (unescaped(info.value) for info in page.info if pair in unescaped(info.value))
    assert f"pair “{pair}”: {ANSWERED} facts are shown" in note


ODD = {
    "pair": "999999-0", "fact": "1", "layer": "９", "model": "http://evil.example/login", "facts": "\0", "k": "1e9",
    "tail": "nan~inf", "angle": "-400~999", "window": "9-1-9-1", "of": "a~%~\ud7ff", "find": "www.evil.example",
    "behind": "tokens:999999999999", "how": "steps:999999", "strength": "0.00", "queue": "1:\u200b", "": "x",
}  # fmt: skip


@pytest.mark.parametrize("script", tiny.in_full(SCRIPTS, ("app.py", "pages/lifelong.py")))
def test_every_page_stands_hostile_links(script: str, open_page: Open) -> None:
    page = open_page(script, **ODD)
    (note,) = notes(page)
    assert "http://" not in note.replace("\\", ""), "no live link"
    assert {"pair", "fact", "layer", "model", "k", "tail"} <= set(re.findall(r"\n- (\w+) ", note))


def test_choices_go_along_to_another_page_and_as_far_as_they_can_to_another_model(open_page: Open) -> None:
    page = open_page("pages/superposition.py")
    page.slider[0].set_value(2).run()
    choose(page, "order", "subject")
    page.switch_page(CHEAP)
    page.query_params.clear()  # a browser's link to another page carries none
    page.run()
    assert page.slider[0].value == 2
    assert dict(page.query_params) == {"model": MODEL, "layer": "2", "order": "subject"}
    choose(page, "model", ONE_LAYER)
    assert dict(page.query_params) == {"model": ONE_LAYER, "order": "subject"}, "another model keeps what it can"
