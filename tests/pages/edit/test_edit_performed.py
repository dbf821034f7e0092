"""Edit a fact: what is performed, measured and undone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from pages.parts.frame import state
from pages.parts.jobs import results
from tests import tiny
from tests.pages.conftest import HOSTILE, SCRIPT
from tests.pages.edit_tools import (
    FEW,
    SMALL,
    STEPS,
    STORY,
    Edit,
    Makes,
    assert_bars,
    bars,
    measured,
    perform,
    spillover,
    type_object,
    undo,
)
from tests.pages.looking import button, captions, charts, choose, click, html, markdown, unescaped


def test_the_edit_performed_is_measured_as_the_library_alone_does(open_edit: Edit, alone: Makes) -> None:
    page = perform(open_edit(**STORY, strength="1.5"))
    assert page.query_params["performed"] == "yes"
    expected = alone().frame(strength=1.5, performed=True)
    assert measured(page)
    assert_bars(page, expected)
    changed = expected[expected["flips"] != ""]
    forecast = int((changed["flips_foretold"] != "").sum())
    wrong = int((expected["flips_foretold"] != "").sum()) - forecast
    assert wrong > 0
    assert f"{forecast} of these {len(changed)} forecast, {wrong} more forecast wrongly." in captions(page)
    first = changed.iloc[0]
    assert f"Answers that changed: {first.subject} → {first.flips}," in unescaped(captions(page))


def test_a_measurement_is_of_its_own_strength(look_at_edit: Edit, small: Makes) -> None:
    page = look_at_edit(**SMALL, strength="0.5", performed="yes")
    expected = small().frame(strength=0.5, performed=True)
    assert_bars(page, expected)
    assert set(expected["flips"]) == {""}
    coming = int((expected["flips_foretold"] != "").sum())
    assert f"No answer changed; {coming} had been forecast to." in captions(page)


def test_undo_takes_the_measurement_away_and_performing_brings_it_back(open_edit: Edit) -> None:
    page = open_edit(**SMALL)
    before = bars(page)
    page = perform(page)
    assert button(page, "Perform the edit").disabled, "once is enough"
    after = bars(page)
    page = undo(page)
    assert "performed" not in page.query_params
    assert not measured(page)
    pd.testing.assert_frame_equal(bars(page), before)
    assert not button(page, "Perform the edit").disabled
    assert "efficacy" not in html(page)
    pd.testing.assert_frame_equal(bars(perform(page)), after)


def test_the_scores_of_both_conventions_stand_there_with_whose_prompts_they_are(
    look_at_edit: Edit, alone: Makes
) -> None:
    success = alone().outcome().success
    before, after = success.scores_before, success.scores
    page = look_at_edit(**STORY, performed="yes")
    rows = dict(re.findall(r"<th scope='row'[^>]*>(\w+)(.*?)</tr>", html(page)))
    cells = {name: re.findall(r"<td[^>]*>([^<]*)<", row) for name, row in rows.items()}
    assert None not in (after.PS, after.NS, after.locality_acc)
    assert cells == {
        "efficacy": [f"{before.ES:.0%} → {after.ES:.0%}", f"{before.rewrite_acc:.0%} → {after.rewrite_acc:.0%}"],
        "paraphrase": [f"{before.PS:.0%} → {after.PS:.0%}", f"{before.rephrase_acc:.0%} → {after.rephrase_acc:.0%}"],
        "neighbourhood": [f"{before.NS:.0%} → {after.NS:.0%}", f"{after.locality_acc:.0%} as before"],
    }
    assert success.efficacy
    assert f">first choice, {success.probability_new:.1%}".replace("%", " %") in html(page)
    probes = alone().bench.probes(1)
    said = f"Judged by {len(probes.paraphrases)} paraphrases ({probes.source}); {len(probes.neighbours)} neighbours ("
    assert said in unescaped(captions(page))
    (note,) = (caption.help for caption in page.caption if caption.value.startswith("Judged by"))
    assert f"EM {before.EM:+.2f} → {after.EM:+.2f}" in note


CHANGES: dict[str, Callable[[AppTest], AppTest]] = {
    "the object": lambda page: type_object(page, "Polish"),
    "the strength": lambda page: choose(page, "strength", 0.5),
    "the search": lambda page: page.number_input(key="how-steps").set_value(STEPS + 1).run(),
}


def test_a_change_after_performing_takes_the_measurement_away(open_edit: Edit) -> None:
    page = choose(open_edit(**SMALL | {"look": "search"}, performed="yes"), "by", "shift")
    page = click(page, spillover(page), fact=[{"fact": 2}])
    assert measured(page), "looking elsewhere leaves it"
    page = choose(page, "look", "search")
    for name, change in CHANGES.items():
        page = change(page)
        assert not measured(page), name
        assert "performed" not in page.query_params
        page = perform(page)
        assert measured(page)


def test_another_fact_of_the_same_number_is_not_performed(open_edit: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "answered", lambda full: results.narrowed(full, [1, 2], "the model answers"))
    page = open_edit(**SMALL, performed="yes")
    assert "<b>Vladimir Mayakovsky</b> is <s" in html(page)
    page = choose(page, "keep", True)
    assert page.selectbox(key="edit-fact").value == 0
    assert "<b>Vladimir Bukovsky</b> is a native speaker of <s" in html(page)
    assert not measured(page)


HOSTILE_OBJECTS = ("![x](http://e) :red[a] $x$", "=cmd()|' /C calc'!A0 **a** `b` <b>c</b>")
LOOKS = [(look, SCRIPT) for look in state.LOOKS] + [("history", target) for target in HOSTILE_OBJECTS]


@pytest.mark.parametrize(("look", "target"), tiny.in_full(LOOKS, ("pair", "history", "table")))
def test_text_of_users_and_typed_objects_are_shown_as_text(look: str, target: str, open_edit: Edit) -> None:
    page = open_edit(facts="hostile", pair="3-1", target=target, how=FEW, performed="yes", look=look)
    assert not page.error
    assert measured(page)
    assert page.query_params["target"] == target
    shown, read = html(page), markdown(page) + page.selectbox(key="edit-target").label
    assert "<script" not in shown
    for text in (target, *(text for fact in HOSTILE for text in (fact.subject, fact.text, fact.target))):
        assert not re.search(rf"(?<!\\){re.escape(text)}", read), "with its marks disarmed, or not at all"
    for chart in charts(page):
        assert not [name for name in ("href", "url") if f'"{name}"' in json.dumps(chart.spec)]
    if look == "history":
        assert f"→ {target}**" in unescaped(page.button(key="edit-0").label), "there all the same"
