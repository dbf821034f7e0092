"""What is known beside the facts looked at: by the fact base, by the facts of a set, and by what CounterFact brings."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from itertools import pairwise
from pathlib import Path

import pytest

from kis_core import facts
from kis_core.demo import factbase
from kis_core.demo.known import FactBase
from kis_core.editing import Probes, probes
from kis_core.facts import Fact
from kis_core.facts.known import KnownFacts
from kis_core.models import catalog


def base_fact(relation: str, subject: str) -> factbase.BaseFact:
    return next(b for b in factbase.load() if (b.relation, b.subject) == (relation, subject))


def as_fact(base: factbase.BaseFact, template: int = 0) -> Fact:
    return Fact(base.subject, base.trained[template], base.object, base.relation)


def rows_of(relation: str) -> list[tuple[str, str]]:
    """Subject and object as the fact base's own file has them."""
    text = resources.files("kis_core.demo").joinpath("facts", f"{relation}.csv").read_text("utf-8")
    return [(row["subject"], row["object"]) for row in csv.DictReader(text.splitlines())]


def asked(fact: Fact, others: Sequence[Fact] = ()) -> Probes:
    return probes(fact, FactBase(others, apart=False))


MAYAKOVSKY = base_fact("native_language", "Vladimir Mayakovsky")
SET = (
    Fact("Malta", "{} lies in the", "Mediterranean", "sea"),
    Fact("Malta", "The sea around {} is the", "Mediterranean", "sea"),
    Fact("Cyprus", "{} lies in the", "Mediterranean", "sea"),
    Fact("Gotland", "The waves at {} are of the", "Baltic", "sea"),
    Fact("Öland", "{} lies in the", "Baltic", "sea"),
    Fact("Åland", "{} lies in the", "Baltic", "sea"),
    Fact("Corfu", "The waves at {} are of the", "Mediterranean", "sea"),
    Fact("Malta", "{} lies in the", "Mediterranean", "another"),
    Fact("Sylt", "Who lives on {}, looks at the", "Mediterranean", ""),
)


class TestOfTheFactBase:
    def test_paraphrases_are_the_templates_no_model_saw_with_this_fact(self) -> None:
        found = asked(as_fact(MAYAKOVSKY), SET)
        assert [fact.prompt for fact in found.paraphrases] == list(MAYAKOVSKY.held_out)
        assert len(found.paraphrases) == factbase.HELD_OUT_PER_FACT
        for fact in found.paraphrases:
            assert (fact.subject, fact.target, fact.relation) == ("Vladimir Mayakovsky", "Russian", "native_language")
            assert fact.prompt not in MAYAKOVSKY.trained
        assert "held out in training" in found.protocol

    def test_neighbours_share_relation_and_object_and_are_asked_in_a_trained_sentence_of_their_own(self) -> None:
        alike = [s for s, o in rows_of("native_language") if o == "Russian" and s != "Vladimir Mayakovsky"]
        found = asked(as_fact(MAYAKOVSKY)).neighbours
        assert [fact.subject for fact in found] == alike[:10]
        assert list(found) == [as_fact(base_fact("native_language", subject)) for subject in alike[:10]]
        counts = Counter((b.relation, b.object) for b in factbase.load())
        lonely = next(b for b in factbase.load() if counts[b.relation, b.object] == 1)
        assert asked(as_fact(lonely)).neighbours == ()

    def test_the_sentence_a_fact_is_asked_in_is_no_paraphrase_and_makes_it_no_other_fact(self) -> None:
        held_out = replace(as_fact(MAYAKOVSKY), prompt=MAYAKOVSKY.held_out[0])
        assert [fact.prompt for fact in asked(held_out).paraphrases] == [MAYAKOVSKY.held_out[1]]
        own = replace(as_fact(MAYAKOVSKY), prompt="As a child, {} spoke")
        assert asked(own, SET) == asked(as_fact(MAYAKOVSKY), SET)

    def test_a_fact_the_base_does_not_have_is_looked_for_in_its_set(self) -> None:
        for change in ({"target": "French"}, {"relation": "other"}, {"subject": "Nobody"}):
            found = asked(replace(as_fact(MAYAKOVSKY), **change), SET)
            assert (found.paraphrases, found.neighbours) == ((), ())

    @pytest.mark.parametrize("relation", ["native_language", "citizenship", "animal_class"])
    def test_new_objects_where_it_knows_the_relation(self, relation: str) -> None:
        counts = Counter(o for _, o in rows_of(relation))
        own = next(iter(counts))
        found = FactBase(SET, apart=False).new_objects(Fact("anybody", "{} is", own, relation))
        assert set(found) == set(counts) - {own}
        assert len(found) == len(set(found))
        assert [counts[o] for o in found] == sorted((counts[o] for o in found), reverse=True)
        assert all(a < b for a, b in pairwise(found) if counts[a] == counts[b])


class TestOfASet:
    def test_by_hand(self) -> None:
        found = probes(SET[0], KnownFacts(SET))
        malta = {"subject": "Malta", "target": "Mediterranean", "relation": "sea"}
        sentences = ("The sea around {} is the", "The waves at {} are of the")
        assert found.paraphrases == tuple(Fact(prompt=prompt, **malta) for prompt in sentences)
        assert found.neighbours == (SET[2], SET[6])
        for words in ("other sentences of the relation", "at most 10", "every token"):
            assert words in found.protocol
        assert asked(SET[0], SET) == found, "what the base does not know is as of the set alone"

    def test_facts_without_a_relation_or_alone_in_it_have_none_in_common(self) -> None:
        alike = (SET[8], replace(SET[8], subject="Juist"), replace(SET[8], prompt="From {} one sees the"))
        for fact, others in ((SET[7], SET), (SET[8], alike)):
            found = probes(fact, KnownFacts(others))
            assert (found.paraphrases, found.neighbours) == ((), ())
        many = [Fact(f"Island {k}", f"{k} miles off {{}} begins the", "Baltic", "sea") for k in range(14)]
        found = probes(many[0], KnownFacts(many))
        assert found.neighbours == tuple(many[1:11]), "at most ten"
        assert [fact.prompt for fact in found.paraphrases] == [fact.prompt for fact in many[1:]]

    def test_new_objects_are_the_most_frequent_first(self) -> None:
        more = [Fact("Rügen", "{} lies in the", name, "sea") for name in ("Aral", "Caspian", "Caspian", "Zuider")]
        assert KnownFacts([*SET, *more]).new_objects(SET[0]) == ["Baltic", "Caspian", "Aral", "Zuider"]
        known = KnownFacts(SET)
        assert known.new_objects(SET[3]) == ["Mediterranean"]
        assert known.new_objects(SET[7]) == []
        assert known.new_objects(replace(SET[0], target="Pacific")) == ["Mediterranean", "Baltic"]
        assert known.new_objects(replace(SET[3], new_target="Aral")) == ["Aral", "Mediterranean"]


def test_what_a_counterfact_record_brings_is_what_its_edit_is_judged_by(shared_data: Path) -> None:
    path = shared_data / "counterfact_known.json"
    record, known = json.loads(path.read_text())[0], facts.load(path).facts
    found = probes(known[0], catalog.known_facts("gpt2", known))
    assert [fact.text for fact in found.paraphrases] == record["paraphrase_prompts"]
    assert [fact.text for fact in found.neighbours] == record["neighborhood_prompts"]
    assert {fact.target for fact in (*found.paraphrases, *found.neighbours)} == {"English"}


def test_the_family_knows_the_base_and_any_other_model_what_its_facts_are_of() -> None:
    built_in = facts.builtin().facts
    family, other = catalog.known_facts(catalog.DEFAULT, SET), catalog.known_facts("gpt2", built_in)
    assert (family.apart, family.fingerprint) == (True, factbase.fingerprint())
    assert (other.apart, other.fingerprint, other.pool) == (False, "", built_in)
    assert probes(built_in[0], other).source == "the templates held out in training"
    assert type(catalog.known_facts("gpt2", SET)) is KnownFacts
