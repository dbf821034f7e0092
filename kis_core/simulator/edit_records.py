"""Records of one edit: its request, its forecast, its outcome, and advice on the layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from kis_core.editing import Edit, Hyperparameters, Success
    from kis_core.spillover import Measurement
    from kis_core.spillover.landing import Landing


@dataclass(frozen=True, slots=True)
class EditRequest:
    """What is to be changed, and how; with the analysis it belongs to, it determines every number.

    Attributes:
        fact: its number in the fact set, e.
        target: its new object.
        layer: to edit.
        method: name of one of `editing.METHODS`.
        how: the value is searched for.
    """

    fact: int
    target: str
    layer: int
    method: str
    how: Hyperparameters

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "fact": self.fact,
            "target": self.target,
            "layer": self.layer,
            "method": self.method,
            "hyperparameters": self.how.to_json(),
        }


@dataclass(frozen=True, eq=False)
class Forecast:
    """The forecast for m facts of an edit of full strength; all of it is linear in the strength.

    Attributes:
        edit: of full strength.
        p: (m,) P[e, j], the paper's coefficient.
        shares: (m,) the share of this very edit, u·k_j, that lands on fact j's subject; P[e, j] for an edit of eq. 2.
        shift: (m,) along δ at the layer; exact.
        subject_token, all_tokens: (m,) change of log-odds to first order.
        flips: which answers change, or None where that was not requested.
        landing: where the largest share of the edit lands outside its own fact.
        own_key: the mean key over contexts was to be used, and the prompt's own took its place (`editing.RankOne`).
    """

    edit: Edit
    p: np.ndarray
    shares: np.ndarray
    shift: np.ndarray
    subject_token: np.ndarray
    all_tokens: np.ndarray
    flips: FlipForecast | None
    landing: Landing | None = None
    own_key: bool = False


@dataclass(frozen=True, eq=False)
class FlipForecast:
    """To what answers change, to first order in all tokens.

    Attributes:
        at: (n,) facts whose first choice changes, once for each change, in the order of the changes.
        strength: (n,) from which strength on.
        answer: (n,) the word that then comes first.
    """

    at: tuple[int, ...]
    strength: tuple[float, ...]
    answer: tuple[str, ...]

    def by(self, strength: float) -> dict[int, str]:
        """The facts that have flipped at a strength, and to what."""
        known = zip(self.at, self.strength, self.answer, strict=True)  # the changes of a fact stand in their order
        return {fact: word for fact, since, word in known if since <= strength}


@dataclass(frozen=True, eq=False)
class EditOutcome:
    """What an edit really did.

    Attributes:
        request, strength: of it.
        measured: of all facts.
        propagated: (m,) forecast change of log-odds when only the subject token is touched, and the model runs on.
        success: of the edited fact.
        flipped: (m,) booleans: the model's first choice is another word now.
        scores: forecast damage by forecast and rival, where it was kept with the edit (`Simulator.keep`).
    """

    request: EditRequest
    strength: float
    measured: Measurement
    propagated: np.ndarray
    success: Success
    flipped: np.ndarray
    scores: Mapping[str, np.ndarray] | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """How the same edit would fare in one layer.

    Attributes:
        layer: its number.
        reaches: whether an edit there can reach the answer at all.
        efficacy, paraphrase, probability: measured success.
        damage: mean size of the forecast change of the other facts' log-odds.
        flips: forecast number of other facts whose answer changes.
    """

    layer: int
    reaches: bool
    efficacy: bool = False
    probability: float = 0.0
    paraphrase: float | None = None
    damage: float = float("nan")
    flips: int = 0
