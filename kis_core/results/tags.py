"""Tags of pairs (i, j): what may explain a large P but the model's knowledge of both.

Three are artefacts of the prompts, which statistics can leave out: the same subject, the same last token, and an edited
key at the first token. A weak key is none: an edit of it really lands on many facts.

Why the first token of the edited fact alone makes the tag (SmolLM2-135M, 436 facts of CounterFact, layers 12 to 25):
two such keys have P = 1.00 with each other, but what they do to the statistics lies in their whole rows, whose median
|P| is 0.2 to 0.5. Without these rows kurtosis at layer 25 falls from 240 to 9.7; without the pairs of two first tokens,
or the columns, it stays at 240. In columns their |P| is 0.002.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from kis_core.facts import Fact

SAME_SUBJECT, SAME_LAST_TOKEN, FIRST_TOKEN, WEAK_KEY = "same subject", "same last token", "first token", "weak key"
NO_TAG = "no tag"
TAGS = (SAME_SUBJECT, SAME_LAST_TOKEN, FIRST_TOKEN, WEAK_KEY, NO_TAG)
"""The tags as tables, filters and links name them; docs/glossary.md explains each."""
ARTEFACTS = TAGS[:3]
SIGNS = {FIRST_TOKEN: "¹", WEAK_KEY: "ʷ"}
"""The tags of whole rows of P as signs beside an axis."""


@dataclass(frozen=True, eq=False)
class FactTags:
    """What tags of pairs follow from, of m facts at a layer.

    Attributes:
        subjects: (m,) whole numbers, one a subject.
        token_ids: (m,) the tokens the keys are taken at.
        first: (m,) whose keys are taken at the very first token, before which there is not even a BOS.
        weak: (m,) whose keys are weak (`superposition.leverage`).
    """

    subjects: np.ndarray
    token_ids: np.ndarray
    first: np.ndarray
    weak: np.ndarray

    @classmethod
    def of(
        cls,
        facts: Sequence[Fact],
        token_ids: Sequence[int] | np.ndarray,
        token_index: Sequence[int] | np.ndarray,
        weak: np.ndarray | None = None,
    ) -> FactTags:
        """The tags of facts.

        Args:
            facts: m of them.
            token_ids: of the tokens their keys are taken at.
            token_index: their positions in the prompts, from 0.
            weak: (m,) whose keys are weak; none by default.
        """
        numbers: dict[str, int] = {}
        subjects = np.array([numbers.setdefault(fact.subject, len(numbers)) for fact in facts])
        none = np.zeros(len(facts), dtype=bool)
        return cls(subjects, np.asarray(token_ids), np.asarray(token_index) == 0, none if weak is None else weak)

    def holds(self, tag: str, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Whether pairs have one of the `TAGS`; of no fact with itself.

        Args:
            tag: its name.
            i: numbers of the edited facts.
            j: numbers of those that suffer, of a shape that fits.

        Raises:
            KeyError: there is no such tag.
        """
        masks: dict[str, Callable[[], np.ndarray]] = {
            SAME_SUBJECT: lambda: self.subjects[i] == self.subjects[j],
            SAME_LAST_TOKEN: lambda: self.token_ids[i] == self.token_ids[j],
            FIRST_TOKEN: lambda: self.first[i],
            WEAK_KEY: lambda: self.weak[i],
            NO_TAG: lambda: ~self.any_of(TAGS[:-1], i, j),
        }
        return np.asarray(masks[tag]() & (i != j))

    def any_of(self, tags: Collection[str], i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Whether pairs have one of these tags; see `holds`."""
        return np.asarray(np.logical_or.reduce([self.holds(tag, i, j) for tag in tags]))

    def of_fact(self, fact: int) -> list[str]:
        """The tags that all pairs have in which this fact is the edited one."""
        return [tag for tag, held in ((FIRST_TOKEN, self.first), (WEAK_KEY, self.weak)) if held[fact]]

    @property
    def signs(self) -> list[str]:
        """(m,) the `SIGNS` of the tags that all pairs have in which a fact is the edited one."""
        return ["".join(SIGNS[tag] for tag in self.of_fact(fact)) for fact in range(len(self.subjects))]

    @property
    def artefacts(self) -> np.ndarray:
        """The pairs that the prompts alone may explain, (m, m)."""
        every = np.arange(len(self.subjects))
        return self.any_of(ARTEFACTS, every[:, None], every[None, :])

    def names(self, i: Sequence[int] | np.ndarray, j: Sequence[int] | np.ndarray) -> list[list[str]]:
        """The tags of each of n pairs."""
        held = [(tag, self.holds(tag, np.asarray(i), np.asarray(j))) for tag in TAGS[:-1]]
        return [[tag for tag, there in held if there[pair]] for pair in range(len(i))]
