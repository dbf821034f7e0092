"""Where an edit lands hardest, and what is said of it, by hand."""

from __future__ import annotations

import numpy as np

from kis_core.editing import Edit
from kis_core.facts import Fact
from kis_core.spillover import Measurement, Sensitivity
from kis_core.spillover.landing import MANY_TIMES, OWN_KEY, Landing, largest, warnings

FACTS = (
    Fact("Paris", "{} is the capital of", "France"),
    Fact("Gold", "{} has the symbol", "Au"),
    Fact("A", "{} b", "c"),
)
SHARES = (1.0, 90.0, 2.0, -3.0, 0.5, 2.5)  # tokens 0-1 are fact 0's, 2-3 fact 1's, 4-5 fact 2's
AT_SUBJECT = (0, 2, 5)
EDIT = Edit(0, np.array([1.0, 0.0]), np.array([3.0, 4.0]))


def sensitivity(shares: tuple[float, ...] = SHARES) -> Sensitivity:
    """Of two tokens a fact, whose shares of EDIT are these."""
    keys = np.array([[share, 7.0] for share in shares], dtype=np.float32)
    nothing = np.zeros((3, 2), dtype=np.float32)
    rows = np.array([0, 2, 4, 6]), np.array(AT_SUBJECT)
    return Sensitivity(0, *rows, keys, np.zeros((6, 2)), nothing, nothing, np.zeros(3), np.zeros(3))


def test_the_largest_share_on_any_token_of_another_fact() -> None:
    own_does_not_count, elsewhere = Landing(1, -3.0, at_subject=False), Landing(0, 90.0, at_subject=False)
    for edited, expected in ((0, own_does_not_count), (1, elsewhere), (2, elsewhere)):
        assert largest(EDIT, sensitivity(), without=edited) == expected
        assert largest(EDIT.scaled(0.3), sensitivity(), without=edited) == expected, "shares are of the edit's own δ"
    at_subject = largest(EDIT, sensitivity((0, 0, -8, 3, 0, 0)), without=0)
    assert at_subject == Landing(1, -8.0, at_subject=True)
    assert type(at_subject.at_subject) is bool, "it goes into a JSON file"


def test_of_one_fact_there_is_none() -> None:
    nothing = [np.zeros((1, 2))] * 3
    alone = Sensitivity(0, np.array([0, 1]), np.array([0]), np.ones((1, 2)), *nothing, *[np.zeros(1)] * 2)
    assert largest(EDIT, alone, without=0) is None
    assert warnings(None, FACTS) == []


def test_beyond_the_threshold_fact_size_and_place_are_named() -> None:
    assert warnings(Landing(1, -MANY_TIMES, at_subject=True), FACTS) == []
    (said,) = warnings(Landing(1, -62.75, at_subject=True), FACTS)
    assert said.startswith("This edit lands on “Gold” 62.8 times over, at its subject: ")
    (elsewhere,) = warnings(Landing(0, 1482.0, at_subject=False), FACTS)
    assert elsewhere.startswith("This edit lands on “Paris” 1,482.0 times over, at another token of its sentence: ")


def test_what_was_measured_is_said_as_well_but_for_the_edited_fact() -> None:
    """Shifts are along δ, of which ‖δ‖ is 5: fact 0 is the edited one, fact 1 was moved by 62.8 ‖δ‖."""

    def said(shift: float) -> list[str]:
        measured = Measurement(np.array([500.0, shift, 5.0]), np.zeros(3), np.zeros(3), ("", "", ""))
        return warnings(None, FACTS, edit=EDIT, measured=measured, without=0)

    assert said(MANY_TIMES * 5) == []
    assert said(-314.0) == [f"Measured: “Gold” was moved by 62.8 ‖δ‖ at the layer, more than {MANY_TIMES:g}."]


def test_that_the_own_key_was_taken_comes_first() -> None:
    said = warnings(Landing(1, 62.75, at_subject=True), FACTS, own_key=True)
    assert (len(said), said[0]) == (2, OWN_KEY)
