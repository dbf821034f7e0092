"""Scores of edits in the two conventions of the field's tables, and their means over many edits.

On every prompt a model reads two objects, the new and the old one, token by token, each after the right ones before it.

- **Probability comparison** (ROME and CounterFact, Meng et al., arXiv 2202.05262; `eval_utils_counterfact.py` and
  `summarize.py` of its code). ℓ is the mean negative log-likelihood over an object's tokens. A score is the share of
  prompts with ℓ(new) < ℓ(old), a magnitude the mean of exp(-ℓ(new)) - exp(-ℓ(old)): ES and EM on the edited prompt, PS
  and PM on paraphrases. For neighbours, NS and NM, old and new change places. Of a tie neither is the likelier.
- **Exact match** (EasyEdit, Wang et al., arXiv 2308.07269; `easyeditor/evaluate` of its code). Accuracy is the share of
  the new object's tokens that are the model's first choice, a mean over prompts. Locality is the share of places of
  the old object's tokens where the first choice is that of the unedited model, a mean over neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean, harmonic_mean
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kis_core.scoring.answers import ObjectReading

CONVENTIONS = (
    "ES, PS, as ROME’s: share of prompts where the new object is likelier than the old one, by the mean log-likelihood "
    "of its tokens; NS: share of neighbours where the old one is; EM, PM, NM: mean differences of the exponentials of "
    "these means.",
    "rewrite_acc, rephrase_acc, as EasyEdit’s: share of the new object’s tokens that are the model’s first choice; "
    "locality_acc: share of the tokens of neighbours’ objects where the first choice is as before the edit.",
)
"""Probability comparison and exact match, in words."""


class BothObjects(NamedTuple):
    """A model's readings of the new and of the old object after one prompt."""

    new: ObjectReading
    old: ObjectReading


class Readings(NamedTuple):
    """What one model, edited or not, makes of all prompts of an edit."""

    edited: BothObjects
    paraphrases: tuple[BothObjects, ...]
    neighbours: tuple[BothObjects, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one edit, or means over many; the names are those of the field's tables.

    Shares and differences of probabilities, not in per cent. None where there are no such prompts.

    Attributes:
        ES, EM: probability comparison on the edited prompt.
        PS, PM: on paraphrases.
        NS, NM: on neighbours.
        rewrite_acc, rephrase_acc: exact match on the edited prompt and on paraphrases.
        locality_acc: exact match with the unedited model on neighbours; 1 for the unedited model itself.
    """

    ES: float | None
    EM: float | None
    PS: float | None
    PM: float | None
    NS: float | None
    NM: float | None
    rewrite_acc: float | None
    rephrase_acc: float | None
    locality_acc: float | None


SCORES = tuple(field.name for field in fields(Scores))
PARTS_OF_S = 3  # ES, PS and NS


@dataclass(frozen=True, slots=True)
class MeanScores:
    """Means over many edits, each edit counted once however many prompts it has, as in ROME's tables.

    Attributes:
        means: over the edits that have the score.
        edits: the number of these, by the score's name: one without paraphrases does not count in PS.
        S: harmonic mean of the mean ES, PS and NS; None where one of them is missing.
    """

    means: Scores
    edits: Mapping[str, int]
    S: float | None

    @classmethod
    def over(cls, edits: Iterable[Scores]) -> MeanScores:
        """The means over edits; a score that is None or NaN is missing."""
        every = list(edits)
        known = {}
        for name in SCORES:
            values = [getattr(edit, name) for edit in every]
            known[name] = [value for value in values if value is not None and not math.isnan(value)]
        means = Scores(**{name: _mean(values) for name, values in known.items()})
        parts = [share for share in (means.ES, means.PS, means.NS) if share is not None]
        counts = {name: len(values) for name, values in known.items()}
        return cls(means, counts, harmonic_mean(parts) if len(parts) == PARTS_OF_S else None)


def scores_of(readings: Readings, unedited: Readings) -> Scores:
    """Scores of an edit from what the edited model makes of its prompts.

    Prompts that are too long for the model do not count.

    Args:
        readings: of the edited model, or of any other.
        unedited: of the model before the edit, which locality compares with.
    """
    places_changed = [BothObjects(new=both.old, old=both.new) for both in readings.neighbours]
    kept = zip(readings.neighbours, unedited.neighbours, strict=True)
    return Scores(
        *_compared([readings.edited]),
        *_compared(readings.paraphrases),
        *_compared(places_changed),
        rewrite_acc=_accuracy([readings.edited]),
        rephrase_acc=_accuracy(readings.paraphrases),
        locality_acc=_mean(_agreement(after.old.choices, before.old.choices) for after, before in kept),
    )


def mean_nll(reading: ObjectReading) -> float:
    """Mean negative log-likelihood over the object's tokens, ℓ; infinite where an edited model gives no number."""
    loss = -fmean(reading.log_probs)
    return math.inf if math.isnan(loss) else loss


def _compared(prompts: Iterable[BothObjects]) -> tuple[float | None, float | None]:
    """Score and magnitude: how often, and by how much, the first of both objects is the likelier."""
    losses = [(mean_nll(both.new), mean_nll(both.old)) for both in prompts if both.new.tokens and both.old.tokens]
    return _share(new < old for new, old in losses), _mean(math.exp(-new) - math.exp(-old) for new, old in losses)


def _accuracy(prompts: Iterable[BothObjects]) -> float | None:
    return _mean(_agreement(both.new.tokens, both.new.choices) for both in prompts)


def _agreement(some: Sequence[int], others: Sequence[int]) -> float | None:
    return _share(a == b for a, b in zip(some, others, strict=True))


def _share(hits: Iterable[bool]) -> float | None:
    return _mean(map(float, hits))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
