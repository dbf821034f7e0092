"""Where an edit lands hardest outside its own fact, and what is to be said of it before it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kis_core.editing.edit import Edit
from kis_core.facts import Fact
from kis_core.spillover.measurement import Measurement
from kis_core.spillover.sensitivity import Sensitivity

MANY_TIMES = 5.0
"""What an edit does to its own fact is 1 δ. The weakest keys of SmolLM2-135M come to shares of 2.5, ordinary ones stay
below 1.2; along a mean key that has nothing of the own it was 10 to 1,500 there: between the two."""

OWN_KEY = (
    "The mean key over contexts has next to nothing of the key this prompt has, as when a subject begins its sentence; "
    "the prompt’s own key takes its place, as in eq. 2. Along the mean key the edit would land on other facts many "
    "times over."
)


@dataclass(frozen=True, slots=True)
class Landing:
    """The largest share of an edit on any token of another fact.

    Attributes:
        fact: its number.
        share: u·k, with its sign: the down-projection's output there moves by so many times δ.
        at_subject: at the last token of its subject, rather than elsewhere in its sentence.
    """

    fact: int
    share: float
    at_subject: bool


def largest(edit: Edit, facts: Sensitivity, *, without: int) -> Landing | None:
    """Where the largest share of an edit lands among the other facts; None if there are no others.

    Args:
        edit: of any strength; shares are of its own δ.
        facts: their keys at every token.
        without: the edited fact, which is left out.
    """
    shares = edit.coefficients(facts.keys)
    own = slice(facts.starts[without], facts.starts[without + 1])
    sizes = np.abs(shares)
    sizes[own] = -1.0
    row = int(sizes.argmax())
    if sizes[row] < 0:
        return None
    fact = int(np.searchsorted(facts.starts, row, side="right")) - 1
    return Landing(fact, float(shares[row]), row == int(facts.key_rows[fact]))


def warnings(
    landing: Landing | None,
    facts: Sequence[Fact],
    *,
    own_key: bool = False,
    edit: Edit | None = None,
    measured: Measurement | None = None,
    without: int = -1,
) -> list[str]:
    """What is to be said of an edit, in whole sentences.

    Args:
        landing: as forecast.
        facts: all of them.
        own_key: the prompt's own key took the place of the mean key.
        edit: as it was performed, if it was; with `measured` and `without`, the edited fact.
        measured: what it did.
        without: see there.
    """
    said = [OWN_KEY] if own_key else []
    if landing is not None and abs(landing.share) > MANY_TIMES:
        where = "at its subject" if landing.at_subject else "at another token of its sentence"
        said.append(
            f"This edit lands on “{facts[landing.fact].subject}” {abs(landing.share):,.1f} times over, {where}: the "
            f"layer’s output there moves by that many ‖δ‖. More than {MANY_TIMES:g} is far beyond what edits of facts "
            f"do; expect it to ruin answers that have nothing to do with it."
        )
    if edit is not None and measured is not None and edit.size:
        moved = np.abs(measured.shift) / edit.size
        moved[without] = 0.0
        worst = int(moved.argmax())
        if moved[worst] > MANY_TIMES:
            said.append(
                f"Measured: “{facts[worst].subject}” was moved by {moved[worst]:,.1f} ‖δ‖ at the layer, more than "
                f"{MANY_TIMES:g}."
            )
    return said
