"""Prompts that show whether an edit took: paraphrases of the fact, and neighbours that should not change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kis_core.demo import factbase
from kis_core.facts import Fact

MOST = 10  # neighbours, as CounterFact has them


@dataclass(frozen=True, slots=True)
class Probes:
    """Prompts that an edit is judged by.

    Attributes:
        paraphrases: the same fact in other sentences.
        neighbours: other subjects of the same relation with the same object, which should keep it.
        held_out: the paraphrases are sentences the model never saw with this fact, rather than those of the fact set.
    """

    paraphrases: tuple[Fact, ...]
    neighbours: tuple[Fact, ...]
    held_out: bool

    @property
    def protocol(self) -> str:
        """Where the prompts come from and how they are judged, in words."""
        source = "the templates held out in training" if self.held_out else "other sentences of the relation here"
        return (
            f"paraphrase: {source}; neighbourhood: other subjects with the same relation and object, at most {MOST}. "
            f"An answer counts when every token of it is the model’s first choice."
        )


def probes(fact: Fact, others: Sequence[Fact]) -> Probes:
    """Probes for a fact: from the demo fact base if it is in there, else from the facts of its set.

    Args:
        fact: as it is before the edit.
        others: the facts it is looked at with.
    """
    base = next((b for b in factbase.load() if _same(b, fact)), None)
    if base is None:
        return _among(fact, others)
    paraphrases = tuple(replace(fact, prompt=template) for template in base.held_out if template != fact.prompt)
    neighbours = [
        Fact(b.subject, b.trained[0], b.object, b.relation)
        for b in factbase.load()
        if b.relation == base.relation and b.object == base.object and b.subject != base.subject
    ]
    return Probes(paraphrases, tuple(neighbours[:MOST]), held_out=True)


def _same(base: factbase.BaseFact, fact: Fact) -> bool:
    return (base.relation, base.subject, base.object) == (fact.relation, fact.subject, fact.target)


def _among(fact: Fact, others: Sequence[Fact]) -> Probes:
    alike = [other for other in others if fact.relation and other.relation == fact.relation]
    templates = dict.fromkeys(other.prompt for other in alike if other.prompt != fact.prompt)
    neighbours = [other for other in alike if other.target == fact.target and other.subject != fact.subject]
    return Probes(
        tuple(replace(fact, prompt=template) for template in templates), tuple(neighbours[:MOST]), held_out=False
    )


def objects_of_relation(fact: Fact, others: Sequence[Fact]) -> list[str]:
    """Objects that facts of the same relation have, other than this fact's, the most frequent first.

    Those of the demo fact base where it knows the relation, else those of the set; facts without a relation are offered
    those of the others without one.
    """
    of_base = [b.object for b in factbase.load() if b.relation == fact.relation]
    known = of_base or [other.target for other in others if other.relation == fact.relation]
    counts: dict[str, int] = {}
    for target in known:
        counts[target] = counts.get(target, 0) + 1
    return sorted((target for target in counts if target != fact.target), key=lambda t: (-counts[t], t))
