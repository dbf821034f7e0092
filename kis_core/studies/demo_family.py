"""Measure what the demo family knows, and its superposition: `python -m kis_core.studies.demo_family [--choose]`.

A fact counts as recalled when every token of its object is the model's first choice. `--choose` also writes the
built-in sets: 128 facts over all relations, and 128 about look-alike subjects, all answered by every member.
`--choose-real` writes the set for real models instead, of facts that those of `make real` answer as well.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from kis_core.analysis import pipeline
from kis_core.demo import factbase
from kis_core.demo.family import FAMILY, LAYERS, Member
from kis_core.facts import PAPER_FACTS, REAL_NAME, SLOT, Fact
from kis_core.models import catalog, loading
from kis_core.models.files import ModelFiles
from kis_core.scoring.answers import knows
from kis_core.store.store import Store
from kis_core.studies.tables import table
from kis_core.superposition import off_diagonal

SETS = Path(str(resources.files("kis_core.facts"))) / "sets"
CHOICE_SEED = 128
LOOK_ALIKES_PER_WORD = 8

# Subjects whose stories the paper tells (section 4 and Tables 1-4), and their neighbours: first in the built-in set.
STORIES = (
    ("native_language", "Vladimir Mayakovsky"),
    ("native_language", "Vladimir Bukovsky"),
    ("native_language", "Vladimir Nabokov"),
    ("product_maker", "Windows 8.1"),
    ("product_maker", "Windows Vista"),
    ("product_maker", "Mac OS X 10.1"),
    ("product_maker", "Mac OS X 10.2"),
    ("university_city", "University of Washington"),
    ("country_capital", "Afghanistan"),
    ("country_language", "Croatia"),
    ("country_capital", "Croatia"),
    ("product_maker", "Honda Prelude"),
    ("product_maker", "Honda RA272"),
    ("product_maker", "Nokia N95"),
    ("product_maker", "Nokia 3310"),
)


def as_facts(base: Sequence[factbase.BaseFact], *, held_out: bool) -> list[Fact]:
    """Every pair of a fact and one of its templates, as a fact."""
    return [
        Fact(fact.subject, template, fact.object, fact.relation)
        for fact in base
        for template in (fact.held_out if held_out else fact.trained)
    ]


def recall(member: Member) -> tuple[list[bool], list[bool]]:
    """Whether the member answers each (fact, trained template) and each (fact, held-out template)."""
    loaded = loading.load(ModelFiles(member.folder), device="cpu")
    base = factbase.load()
    return knows(loaded, as_facts(base, held_out=False)), knows(loaded, as_facts(base, held_out=True))


def answered_by_all(known: Sequence[Sequence[bool]]) -> list[Fact]:
    """One trained template each of the facts that every member answers in it, in shuffled order."""
    facts = as_facts(factbase.load(), held_out=False)
    return one_template_each([fact for fact, hits in zip(facts, zip(*known, strict=True), strict=True) if all(hits)])


def one_template_each(answered: Sequence[Fact]) -> list[Fact]:
    """One of the templates of each fact, in shuffled order."""
    shuffled = list(answered)
    random.Random(CHOICE_SEED).shuffle(shuffled)
    return list({(fact.relation, fact.subject): fact for fact in shuffled}.values())


def for_real_models() -> list[Fact]:
    """128 facts that the real models and the demo family answer, evenly over the relations as far as they go.

    They are asked in trained templates; a subject of one word does not begin its sentence: a model that puts no token
    before the text takes its first token for an attention sink, whose key has nothing to do with the fact. Where all
    models together answer fewer than 128, the others are answered by the real ones alone.
    """
    real = [catalog.locate(entry.name) for entry in catalog.hub() if entry.package]
    trained = as_facts(factbase.load(), held_out=False)
    questions = [fact for fact in trained if not fact.prompt.startswith(SLOT) or " " in fact.subject]
    by_real = answered_in_turn(real, questions)
    by_all = one_template_each(answered_in_turn([ModelFiles(member.folder) for member in FAMILY], by_real))
    chosen = over_all_relations(by_all)
    subjects = {(fact.relation, fact.subject) for fact in by_all}
    others = [fact for fact in one_template_each(by_real) if (fact.relation, fact.subject) not in subjects]
    sys.stdout.write(f"{len(by_all)} facts are answered by all models, {len(others)} more by the real ones alone\n")
    return [*chosen, *over_all_relations(others)][:PAPER_FACTS]


def answered_in_turn(models: Sequence[ModelFiles], facts: Sequence[Fact]) -> list[Fact]:
    """The facts that every model answers; one model in memory at a time, each asked what those before it answered."""
    answered = list(facts)
    for files in models:
        known = knows(loading.load(files, device="cpu"), answered)
        answered = [fact for fact, hit in zip(answered, known, strict=True) if hit]
    return answered


def over_all_relations(answered: Sequence[Fact]) -> list[Fact]:
    """128 facts, or all where there are fewer: the stories, then evenly over the relations."""
    by_fact = {(fact.relation, fact.subject): fact for fact in answered}
    chosen = [by_fact.pop(story) for story in STORIES if story in by_fact]
    queues: dict[str, list[Fact]] = {name: [] for name in factbase.relations()}
    for fact in by_fact.values():
        queues[fact.relation].append(fact)
    while len(chosen) < PAPER_FACTS and any(queues.values()):
        for queue in queues.values():
            if queue and len(chosen) < PAPER_FACTS:
                chosen.append(queue.pop())
    return chosen


def look_alikes(answered: Sequence[Fact]) -> list[Fact]:
    """128 facts whose subjects share their first or last word with others: the largest such groups, some of each."""
    groups: dict[str, list[Fact]] = defaultdict(list)
    for fact in answered:
        words = fact.subject.split()
        if len(words) > 1:
            groups[words[0]].append(fact)
            groups[words[-1]].append(fact)
    chosen: dict[tuple[str, str], Fact] = {}
    for word in sorted(groups, key=lambda word: (-len(groups[word]), word)):
        for fact in sorted(groups[word], key=lambda fact: fact.subject)[:LOOK_ALIKES_PER_WORD]:
            if len(chosen) < PAPER_FACTS:
                chosen[fact.relation, fact.subject] = fact
    return list(chosen.values())


def write_set(name: str, facts: Sequence[Fact]) -> None:
    """Write a built-in set as CSV."""
    SETS.mkdir(exist_ok=True)
    with (SETS / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["subject", "prompt", "target", "relation"])
        writer.writerows([f.subject, f.prompt, f.target, f.relation] for f in facts)


def main() -> None:
    """Print recall and superposition as Markdown tables; with `--choose`, write the built-in fact sets in between."""
    parser = argparse.ArgumentParser(description="Measure what the demo family knows, and its superposition.")
    parser.add_argument("--choose", action="store_true", help="write the built-in sets from what all models answer")
    parser.add_argument("--choose-real", action="store_true", help="write the set for real models, and nothing else")
    args = parser.parse_args()
    if args.choose_real:
        write_set(REAL_NAME, for_real_models())
        return
    recalled = {member: recall(member) for member in FAMILY}
    sys.stdout.write(recall_table(recalled) + "\n")
    if args.choose:
        answered = answered_by_all([trained for trained, _ in recalled.values()])
        write_set("builtin", over_all_relations(answered))
        write_set("builtin-lookalikes", look_alikes(answered))
    sys.stdout.write("\n" + superposition_table(Store()) + "\n")


def recall_table(recalled: Mapping[Member, tuple[list[bool], list[bool]]]) -> str:
    """Share of the facts that each member answers, in trained and in held-out templates."""
    rows = [
        [member.name, f"{ModelFiles(member.folder).parameters():,}", *(f"{sum(hits) / len(hits):.2%}" for hits in both)]
        for member, both in recalled.items()
    ]
    return table(["model", "parameters", "recall, trained templates", "recall, held-out templates"], rows)


def superposition_table(store: Store) -> str:
    """P and the angles of keys of each member, layer by layer."""
    rows = []
    for member in FAMILY:
        result = pipeline.run(pipeline.Request(model=member.name), store)
        moments = [report.moments for report in result.reports]
        rows.append(
            [
                member.name,
                ", ".join(f"{m.mean:.3f}" for m in moments),
                ", ".join(f"{m.kurtosis:.1f}" for m in moments),
                *(", ".join(map(_angle, cosines)) for cosines in (result.whitening_cosine, result.activation_cosine)),
            ]
        )
    names = ("mean of P", "excess kurtosis of P", "whitened angle", "plain angle")
    return table(["model", *(f"{name}, layer 0 to {LAYERS - 1}" for name in names)], rows)


def _angle(cosine: np.ndarray) -> str:
    angles = np.degrees(np.arccos(off_diagonal(cosine)))
    return f"{angles.mean():.0f}° ± {angles.std():.0f}°"


if __name__ == "__main__":
    main()
