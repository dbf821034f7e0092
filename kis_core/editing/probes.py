"""Prompts that show whether an edit took: paraphrases of the fact, and neighbours that should not change."""

from __future__ import annotations

from dataclasses import dataclass

from kis_core.editing.scores import CONVENTIONS
from kis_core.facts import Fact
from kis_core.facts.known import KnownFacts


@dataclass(frozen=True, slots=True)
class Probes:
    """Prompts that an edit is judged by.

    Attributes:
        paraphrases: the same fact in other sentences.
        neighbours: facts about other subjects with the same object, which should keep it.
        source: where the paraphrases are from, in words.
        neighbours_source: where the neighbours are from, in words.
    """

    paraphrases: tuple[Fact, ...] = ()
    neighbours: tuple[Fact, ...] = ()
    source: str = ""
    neighbours_source: str = ""

    @property
    def origin(self) -> str:
        """Whose prompts they are, in words."""
        return f"paraphrase: {self.source}; neighbourhood: {self.neighbours_source}"

    @property
    def protocol(self) -> str:
        """Where the prompts come from and how they are judged, in words."""
        whole = (
            "efficacy, paraphrase, neighbourhood: an answer counts when every token of it is the model’s first choice."
        )
        return " ".join((f"{self.origin}.", whole, *CONVENTIONS))


def probes(fact: Fact, known: KnownFacts) -> Probes:
    """Probes for a fact, as it is before the edit."""
    paraphrases, neighbours = known.paraphrases(fact), known.neighbours(fact)
    return Probes(paraphrases.facts, neighbours.facts, paraphrases.source, neighbours.source)
