"""Tags of pairs, by hand: which there are, in which direction they hold, and that the glossary explains them."""

from __future__ import annotations

import numpy as np
import pytest

from kis_core.facts import Fact
from kis_core.results.tags import ARTEFACTS, NO_TAG, TAGS, FactTags
from kis_core.superposition.leverage import WEAK
from pages.parts.frame import glossary

FACTS = [Fact(subject, "{} is", "x") for subject in ("Oslo", "Rome", "Oslo", "Bern")]
WEAK_KEYS = np.array([False, True, False, False])


@pytest.fixture
def tags() -> FactTags:
    """Facts 0 and 2 are about Oslo, 1 and 3 end in one token, 0 is the first token, and the key of 1 is weak."""
    return FactTags.of(FACTS, (7, 8, 9, 8), (0, 3, 2, 1), WEAK_KEYS)


def test_by_hand(tags: FactTags) -> None:
    every = np.arange(4)
    held = {tag: np.argwhere(tags.holds(tag, every[:, None], every[None, :])).tolist() for tag in TAGS}
    assert held == {
        "same subject": [[0, 2], [2, 0]],
        "same last token": [[1, 3], [3, 1]],
        "first token": [[0, 1], [0, 2], [0, 3]],
        "weak key": [[1, 0], [1, 2], [1, 3]],
        "no tag": [[2, 1], [2, 3], [3, 0], [3, 2]],
    }
    assert tags.signs == ["¹", "ʷ", "", ""], "of a whole row"
    assert tags.names([0, 0, 1, 2, 3], [2, 0, 3, 1, 1]) == [
        ["same subject", "first token"], [], ["same last token", "weak key"], [], ["same last token"],
    ]  # fmt: skip


def test_artefacts_are_every_tag_but_a_weak_key(tags: FactTags) -> None:
    assert np.argwhere(tags.artefacts).tolist() == [[0, 1], [0, 2], [0, 3], [1, 3], [2, 0], [3, 1]]
    assert {*ARTEFACTS, "weak key", NO_TAG} == set(TAGS)


def test_nobody_is_weak_unless_it_is_said() -> None:
    assert not FactTags.of(FACTS, (7, 8, 9, 8), (1, 1, 1, 1)).weak.any()


def test_the_glossary_explains_each_of_them_with_the_threshold_in_use() -> None:
    for tag in TAGS[:-1]:
        assert glossary.terms()[tag].startswith(f"**{tag.capitalize()}**")
    assert f"than {100 - 100 * WEAK:.0f} % of the tokens of general text" in glossary.terms()["weak key"]
