"""The fact base behind the demo family: what it was taught, and in which sentences.

Pure data, no model: `facts/<relation>.csv` holds `subject,object` rows, `relations.toml` six sentence templates a
relation. Every fact is taught in four of its templates; the other two are held out to test recall in words the
models never saw for that fact.
"""

from __future__ import annotations

import csv
import hashlib
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

HELD_OUT_PER_FACT = 2


@dataclass(frozen=True, slots=True)
class BaseFact:
    """One row of the fact base.

    Attributes:
        relation: name of the relation, a file of `facts/`.
        subject: who or what the fact is about.
        object: the answer.
        trained: templates (one `{}` each) the models were trained on for this fact.
        held_out: templates no model ever saw with this fact.
    """

    relation: str
    subject: str
    object: str
    trained: tuple[str, ...]
    held_out: tuple[str, ...]

    def sentences(self, *, held_out: bool = False) -> Iterator[str]:
        """Full sentences of this fact, trained or held-out ones."""
        for template in self.held_out if held_out else self.trained:
            yield f"{template.replace('{}', self.subject)} {self.object}."


@cache
def relations() -> dict[str, tuple[str, ...]]:
    """Relation name to its sentence templates, in file order."""
    text = resources.files(__package__).joinpath("relations.toml").read_text("utf-8")
    return {name: tuple(table["templates"]) for name, table in tomllib.loads(text).items()}


@cache
def fingerprint() -> str:
    """SHA-256 of all facts and their sentences: another one as soon as the base is another."""
    rows = [[fact.relation, fact.subject, fact.object, *fact.trained, *fact.held_out] for fact in load()]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


@cache
def load() -> tuple[BaseFact, ...]:
    """All facts, by relation in file order.

    The held-out templates of the i-th fact of a relation rotate with i, so that every template is trained on for
    some facts and held out for others.
    """
    facts = []
    folder = resources.files(__package__).joinpath("facts")
    for relation, templates in relations().items():
        rows = csv.DictReader(folder.joinpath(f"{relation}.csv").read_text("utf-8").splitlines())
        for index, row in enumerate(rows):
            out = {index % len(templates), (index + 2) % len(templates)}
            facts.append(
                BaseFact(
                    relation,
                    row["subject"],
                    row["object"],
                    tuple(t for k, t in enumerate(templates) if k not in out),
                    tuple(t for k, t in enumerate(templates) if k in out),
                )
            )
    return tuple(facts)
