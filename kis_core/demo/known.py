"""The fact base as knowledge beside the facts looked at: the demo family was taught it, and built-in sets are of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property

from kis_core.demo import factbase
from kis_core.demo.factbase import BaseFact
from kis_core.facts.fact import Fact
from kis_core.facts.known import ALIKE, MOST_NEIGHBOURS, HeldOut, KnownFacts, Prompts


class FactBase(KnownFacts):
    """The fact base, and for facts that are not in it what `KnownFacts` says.

    Attributes:
        apart: of the demo family, which was taught the whole base, edits are drawn from the rest of it.
    """

    def __init__(self, facts: Sequence[Fact], *, apart: bool) -> None:
        super().__init__(facts)
        self.apart = apart
        self.fingerprint = factbase.fingerprint() if apart else ""

    @property
    def everything(self) -> tuple[Fact, ...]:
        """Every fact of the base in the first sentence it was taught in."""
        return tuple(map(_taught, factbase.load()))

    @property
    def pool(self) -> tuple[Fact, ...]:
        """One fact a subject, of the subjects that none of the facts looked at is about."""
        if not self.apart:
            return self.facts
        taken = {fact.subject for fact in self.facts}
        return tuple({fact.subject: fact for fact in self.everything if fact.subject not in taken}.values())

    def paraphrases(self, fact: Fact) -> Prompts:
        """The fact in the sentences that no model of the family ever saw with it."""
        if (base := find(fact)) is None:
            return super().paraphrases(fact)
        held_out = tuple(replace(fact, prompt=template) for template in base.held_out if template != fact.prompt)
        return Prompts(held_out, "the templates held out in training")

    def neighbours(self, fact: Fact) -> Prompts:
        """Other subjects of the base with the same object in the same relation."""
        if find(fact) is None:
            return super().neighbours(fact)
        same = (fact.relation, fact.target)
        others = [b for b in factbase.load() if (b.relation, b.object) == same and b.subject != fact.subject]
        return Prompts(tuple(map(_taught, others[:MOST_NEIGHBOURS])), ALIKE)

    def held_out(self, least: int) -> HeldOut:
        """Sentences of the base that no model of the family ever saw."""
        subjects = {fact.subject for fact in self.facts}
        about = [base for base in factbase.load() if base.subject in subjects]
        enough = sum(len(base.held_out) for base in about) >= least
        bases = about if enough else factbase.load()
        return HeldOut(tuple(text for base in bases for text in base.sentences(held_out=True)), about_the_facts=enough)

    @cached_property
    def _objects(self) -> dict[str, Counter[str]]:
        """Of the relations of the base, how often each object occurs there."""
        counts: dict[str, Counter[str]] = {}
        for base in factbase.load():
            counts.setdefault(base.relation, Counter())[base.object] += 1
        return KnownFacts(self.facts)._objects | counts


def find(fact: Fact) -> BaseFact | None:
    """The row of the base that a fact is about, in whatever sentence."""
    return _rows().get((fact.relation, fact.subject, fact.target))


@cache
def _rows() -> dict[tuple[str, str, str], BaseFact]:
    rows: dict[tuple[str, str, str], BaseFact] = {}
    for base in factbase.load():
        rows.setdefault((base.relation, base.subject, base.object), base)
    return rows


def _taught(base: BaseFact) -> Fact:
    return Fact(base.subject, base.trained[0], base.object, base.relation)
