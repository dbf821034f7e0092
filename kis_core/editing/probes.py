"""Prompts that show whether an edit took: paraphrases of the fact, and neighbours that should not change."""

from __future__ import annotations

from dataclasses import dataclass

from kis_core.facts import Fact
from kis_core.facts.known import MOST_NEIGHBOURS, KnownFacts


@dataclass(frozen=True, slots=True)
class Probes:
    """Prompts that an edit is judged by.

    Attributes:
        paraphrases: the same fact in other sentences.
        neighbours: facts about other subjects with the same object, which should keep it.
        source: where the paraphrases are from, in words.
    """

    paraphrases: tuple[Fact, ...] = ()
    neighbours: tuple[Fact, ...] = ()
    source: str = ""

    @property
    def protocol(self) -> str:
        """Where the prompts come from and how they are judged, in words."""
        return (
            f"paraphrase: {self.source}; neighbourhood: other subjects with the same relation and object, at most "
            f"{MOST_NEIGHBOURS}. An answer counts when every token of it is the model’s first choice."
        )


def probes(fact: Fact, known: KnownFacts) -> Probes:
    """Probes for a fact, as it is before the edit."""
    paraphrases = known.paraphrases(fact)
    return Probes(paraphrases.facts, known.neighbours(fact), paraphrases.source)
