"""Links: every choice opens from one, is written back to it, and goes along from page to page."""

from __future__ import annotations

import re

import pytest

from pages.parts.frame import state
from pages.parts.frame.choices import Several, Words
from tests import tiny
from tests.pages.conftest import ANSWERED, FEWER_TOKENS, LAYERS, LOOKALIKES, MODEL, ONE_LAYER, SCRIPTS, VARIED, Open
from tests.pages.looking import captions, notes, unescaped

CHEAP = "pages/your_facts.py"  # a page without figures
EXAMPLES = {
    "model": ("app.py", ONE_LAYER),
    "layer": ("app.py", "2"),
    "facts": ("app.py", LOOKALIKES),
    "behind": ("app.py", f"tokens:{FEWER_TOKENS[0]}"),
    "keep": ("app.py", "known"),
    "pair": ("pages/superposition.py", "3-7"),
    "order": ("pages/superposition.py", "similarity"),
    "limit": ("pages/superposition.py", "0.3"),
    "diagonal": ("pages/superposition.py", "hidden"),
    "window": ("pages/superposition.py", "0-40-8-72"),
    "axis": ("pages/distributions.py", "log"),
    "tail": ("pages/distributions.py", "0.2~1"),
    "artefacts": ("pages/distributions.py", "without"),
    "angle": ("pages/angles.py", "40~60"),
    "space": ("pages/angles.py", "activation"),
    "k": ("pages/top_pairs.py", "250"),
    "directions": ("pages/top_pairs.py", "merged"),
    "relations": ("pages/top_pairs.py", "native_language~product_maker"),
    "tags": ("pages/top_pairs.py", "same subject~no tag"),
    "find": ("pages/top_pairs.py", "Vladimir"),
    "list": ("pages/top_pairs.py", "stay"),
    "stay": ("pages/top_pairs.py", "models"),
    "other": ("pages/compare.py", ONE_LAYER),
    "otherlayer": ("pages/compare.py", "1"),
    "target": ("pages/edit.py", "French"),
    "method": ("pages/edit.py", "r-rome"),
    "strength": ("pages/edit.py", "0.35"),
    "how": ("pages/edit.py", "clamp:2~steps:10"),
    "by": ("pages/edit.py", "shift"),
    "performed": ("pages/edit.py", "yes"),
    "look": ("pages/edit.py", "reach"),
    "editor": ("pages/lifelong.py", "alphaedit"),
    "through": ("pages/lifelong.py", "1"),
    "edits": ("pages/lifelong.py", "60"),
    "draw": ("pages/lifelong.py", "most"),
    "arrange": ("pages/lifelong.py", "gentle"),
    "seed": ("pages/lifelong.py", "7"),
    "of": ("pages/lifelong.py", "native_language~product_maker"),
    "queue": ("pages/lifelong.py", "0:Rome~5:Paris"),
    "against": ("pages/lifelong.py", "seeds"),
    "step": ("pages/lifelong.py", "5"),
    "chronicle": ("pages/lifelong.py", "ages"),
    "shade": ("pages/lifelong.py", "all"),
    "watched": ("pages/lifelong.py", "3"),
}
"""A value other than the default of each choice, and a page that has to do with it."""
NONSENSE = {
    "model": "<script>",
    "layer": "-1",
    "facts": "../../etc",
    "behind": "corpus:/etc/passwd",
    "keep": "some",
    "pair": "0",
    "order": "random",
    "limit": "0.7",
    "diagonal": "grey",
    "window": "0-64",
    "axis": "cubic",
    "tail": "1~0",
    "angle": "90",
    "space": "outer",
    "k": "501",
    "directions": "none",
    "tags": "same~subject",
    "list": "weakest",
    "stay": "home",
    "artefacts": "only",
    "other": "gpt-5",
    "otherlayer": "two",
    "method": "memit",
    "strength": "1.6",
    "how": "steps:many",
    "by": "hope",
    "performed": "maybe",
    "look": "away",
    "editor": "vim",
    "through": "up",
    "edits": "501",
    "draw": "lots",
    "arrange": "neatly",
    "seed": "-1",
    "queue": "Rome",
    "against": "all",
    "step": "last",
    "chronicle": "legend",
    "shade": "pale",
    "watched": "me",
}


def test_every_choice_has_an_example() -> None:
    assert set(EXAMPLES) == set(state.CHOICES)
    free = {name for name, kind in state.CHOICES.items() if isinstance(kind, Words) or kind == Several()}
    assert set(NONSENSE) == set(state.CHOICES) - free


ALONE = ("app.py", "pages/compare.py")  # pages whose choices depend on each other
LINKS = [(script, {name: text}) for name, (script, text) in EXAMPLES.items() if script in ALONE] + [
    (script, {name: text for name, (of, text) in EXAMPLES.items() if of == script})
    for script in sorted({script for script, _ in EXAMPLES.values()} - set(ALONE))
]


@pytest.mark.parametrize(("script", "link"), LINKS)
def test_choices_open_from_a_link_and_stay_in_it(script: str, link: dict[str, str], look: Open) -> None:
    page = look(script, **link)
    assert not page.exception
    assert not page.error
    assert not notes(page)
    for name in link:
        assert page.session_state["chosen"][name] != state.CHOICES[name].default
    assert dict(page.query_params) == {"model": MODEL, **link}


def test_all_choices_at_once(open_page: Open) -> None:
    aside = ("model", "layer", "otherlayer")  # the model of a single layer has none to choose from
    link = {name: text for name, (_, text) in EXAMPLES.items() if name not in aside}
    page = open_page(CHEAP, **link)
    assert not page.exception
    assert not notes(page)
    assert dict(page.query_params) == {"model": MODEL, **link}


def test_nonsense_is_told_and_the_default_shown_until_something_is_chosen(open_page: Open) -> None:
    nonsense = {name: text for name, text in NONSENSE.items() if name != "model"}
    page = open_page("app.py", **nonsense)
    assert not page.exception
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


def test_a_hostile_value_is_told_as_text(open_page: Open) -> None:
    (note,) = notes(open_page(CHEAP, model="<b>[x](http://e)"))
    assert "<b>" not in note
    assert "[x](" not in note


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"fact": "1"}, "no page knows “fact”; did you mean “facts”?"),
        ({"utm_source": "mail"}, "no page knows “utm_source”"),
        ({"pair": "9999-1"}, "pair “9999-1”: there are 128 facts, numbered from 0 to 127"),
        ({"watched": "128"}, "watched “128”: there are 128 facts, numbered from 0 to 127"),
        ({"window": "0-64-100-129"}, "window “0-64-100-129”: there are 128 facts, numbered from 0 to 127"),
        ({"queue": "3:French~500:Rome"}, "queue “3:French~500:Rome”: there are 128 facts, numbered from 0 to 127"),
        ({"relations": "friend_of"}, "relations “friend_of”: relations of these facts are"),
        ({"through": "4"}, "through “4”: demo-gpt2-32 has layers 0 to 3"),
        ({"edits": "20", "step": "25"}, "step “25”: the run has 20 edits"),
        ({"target": "x" * 81}, "at most 80 characters"),
        ({"<b>[x](http://e.example)": "1\n\n# two"}, "<b>[x](http://e.example) “1 # two”"),
    ],
)
def test_what_there_is_not_is_told_and_leaves_the_link(asked: dict[str, str], told: str, open_page: Open) -> None:
    page = open_page(CHEAP, layer="1", **asked)
    assert not page.exception
    (note,) = notes(page)
    assert told in unescaped(note)
    kept = {"edits": asked["edits"]} if "edits" in asked else {}
    assert dict(page.query_params) == {"model": MODEL, "layer": "1", **kept}


@pytest.mark.parametrize("script", ["app.py", "pages/superposition.py", "pages/compare.py"])
def test_a_pair_beyond_those_facts_that_are_shown_is_told_once(script: str, open_page: Open) -> None:
    pair = f"{ANSWERED}-1"
    page = open_page(script, facts="mixed", keep="known", pair=pair)
    (told,) = (unescaped(info.value) for info in page.info if pair in unescaped(info.value))
    assert f"pair “{pair}”: {ANSWERED} facts are shown" in told


ODD = {
    "pair": "999999-0", "fact": "1", "layer": "９", "model": "http://evil.example/login", "facts": "\0", "k": "1e9",
    "tail": "nan~inf", "angle": "-400~999", "window": "9-1-9-1", "of": "a~%~\ud7ff", "find": "www.evil.example",
    "behind": "tokens:999999999999", "how": "steps:999999", "strength": "0.00", "queue": "1:\u200b", "": "x",
}  # fmt: skip


@pytest.mark.parametrize("script", tiny.in_full(SCRIPTS, VARIED))
def test_every_page_stands_hostile_links(script: str, open_page: Open) -> None:
    page = open_page(script, **ODD)
    assert not page.exception
    (note,) = notes(page)
    assert "http://" not in note.replace("\\", ""), "no live link"
    assert {"pair", "fact", "layer", "model", "k", "tail"} <= set(re.findall(r"\n- (\w+) ", note))


@pytest.mark.parametrize("layer", ["4", "two"])
def test_a_layer_the_model_lacks_is_told_with_those_it_has(open_page: Open, layer: str) -> None:
    page = open_page("app.py", layer=layer)
    assert "has layers 0 to 3" in notes(page)[0]
    assert page.slider[0].value == 0


@pytest.mark.parametrize("link", [{"otherlayer": "4"}, {"other": ONE_LAYER, "otherlayer": "1"}])
def test_a_layer_the_other_model_lacks_is_told(link: dict[str, str], open_page: Open) -> None:
    page = open_page(CHEAP, **link)
    last = 0 if "other" in link else LAYERS - 1
    assert f"has layers 0 to {last}" in unescaped(notes(page)[0])
    assert page.session_state["chosen"]["otherlayer"] is None


@pytest.mark.stress
def test_choices_go_along_to_another_page(open_page: Open) -> None:
    page = open_page("app.py")
    page.slider[0].set_value(2).run()
    page.selectbox(key="choose-facts").set_value(LOOKALIKES).run()
    page.switch_page("pages/superposition.py")
    page.query_params.clear()  # a browser's link to another page carries none
    page.run()
    assert dict(page.query_params) == {"model": MODEL, "layer": "2", "facts": LOOKALIKES}
    assert page.slider[0].value == 2
    assert "layer 2" in captions(page)
    page.segmented_control(key="choose-order").set_value("subject").run()
    page.switch_page("pages/top_pairs.py")
    page.query_params.clear()
    page.run()
    assert page.query_params["order"] == "subject", "kept for the page that has to do with it"
    assert "layer 2" in captions(page)


def test_a_choice_back_at_its_default_leaves_the_link(open_page: Open) -> None:
    page = open_page("app.py", layer="2")
    page.slider[0].set_value(0).run()
    assert dict(page.query_params) == {"model": MODEL}


def test_a_model_chosen_anew_keeps_what_it_can(open_page: Open) -> None:
    page = open_page("pages/superposition.py", layer="3", pair="3-7", order="subject")
    page.selectbox(key="choose-model").set_value(ONE_LAYER).run()
    assert dict(page.query_params) == {"model": ONE_LAYER, "pair": "3-7", "order": "subject"}
