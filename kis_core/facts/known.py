"""What else a model knows, beside the facts that are looked at: what edits are drawn from and judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

from kis_core.facts.fact import SLOT, Fact

MOST_NEIGHBOURS = 10  # of those made up here; as many as CounterFact has
OF_THE_FILE = "those of the fact file"
ALIKE = f"other subjects with the same relation and object, at most {MOST_NEIGHBOURS}"


class Prompts(NamedTuple):
    """What an edit of a fact is judged by: the fact in other sentences, or facts that it should leave as they are.

    Attributes:
        facts: one a sentence.
        source: where the sentences are from, in words.
    """

    facts: tuple[Fact, ...]
    source: str


class HeldOut(NamedTuple):
    """Sentences that a model was not trained on.

    Attributes:
        sentences: any number; none where none are known.
        about_the_facts: they are about the facts looked at, rather than about any.
    """

    sentences: tuple[str, ...]
    about_the_facts: bool


class KnownFacts:
    """What a fact set itself tells: by what its facts bring along, as CounterFact's do, or else by one another.

    Attributes:
        facts: those looked at.
        apart: edits are drawn from facts other than those looked at.
        fingerprint: of what is known beside the facts looked at; empty where that is nothing.
    """

    apart = False
    fingerprint = ""

    def __init__(self, facts: Sequence[Fact]) -> None:
        self.facts = tuple(facts)

    @property
    def everything(self) -> tuple[Fact, ...]:
        """Every fact that is known."""
        return self.facts

    @property
    def pool(self) -> tuple[Fact, ...]:
        """The facts that edits are drawn from."""
        return self.facts

    def paraphrases(self, fact: Fact) -> Prompts:
        """The fact in other sentences: its own, or those of other facts of its relation."""
        if fact.paraphrases:
            return Prompts(tuple(_whole(text, fact) for text in fact.paraphrases), OF_THE_FILE)
        templates = dict.fromkeys(other.prompt for other in self._alike(fact) if other.prompt != fact.prompt)
        own = tuple(replace(fact, prompt=template) for template in templates)
        return Prompts(own, "other sentences of the relation here")

    def neighbours(self, fact: Fact) -> Prompts:
        """Facts about other subjects with the same object, which an edit of the fact should leave as they are."""
        if fact.neighbours:
            return Prompts(tuple(_whole(text, fact) for text in fact.neighbours), OF_THE_FILE)
        others = [other for other in self._alike(fact) if other.target == fact.target and other.subject != fact.subject]
        return Prompts(tuple(others[:MOST_NEIGHBOURS]), ALIKE)

    def new_objects(self, fact: Fact) -> list[str]:
        """Objects that the fact may be edited to: the proposed one, then others of its relation by falling frequency.

        Facts without a relation are offered those of the others without one.
        """
        counts = self._objects.get(fact.relation, Counter())
        ranked = sorted(counts, key=lambda target: (-counts[target], target))
        return [name for name in dict.fromkeys((fact.new_target, *ranked)) if name and name != fact.target]

    def held_out(self, least: int) -> HeldOut:
        """Sentences that the model was not trained on: about the facts looked at where there are `least`, or any."""
        return HeldOut((), about_the_facts=False)

    @cached_property
    def _objects(self) -> dict[str, Counter[str]]:
        """How often each object occurs, by relation."""
        counts: dict[str, Counter[str]] = {}
        for fact in self.facts:
            counts.setdefault(fact.relation, Counter())[fact.target] += 1
        return counts

    def _alike(self, fact: Fact) -> list[Fact]:
        return [other for other in self.facts if fact.relation and other.relation == fact.relation]


def _whole(text: str, fact: Fact) -> Fact:
    """A sentence as a fact with the same answer: which of its words are its subject is not known."""
    return Fact(text, SLOT, fact.target, fact.relation)
