"""Facts to study: what a fact is, the built-in sets, and the files that researchers keep facts in."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

from kis_core.facts.containers import CONTAINERS
from kis_core.facts.fact import SLOT, Fact, FactFileError, FactSet, RowIssue
from kis_core.facts.parsing import parse
from kis_core.facts.readers import READERS
from kis_core.facts.reading import EXAMPLE, OPTIONAL_COLUMNS, REQUIRED_COLUMNS
from kis_core.files.paths import is_file

__all__ = [
    "BUILTIN_NAME",
    "BUILTIN_SETS",
    "EXAMPLE",
    "FILES",
    "OPTIONAL_COLUMNS",
    "PAPER_FACTS",
    "REAL_NAME",
    "RECORDS",
    "REQUIRED_COLUMNS",
    "SLOT",
    "Fact",
    "FactFileError",
    "FactSet",
    "RowIssue",
    "builtin",
    "load",
    "parse",
]

MAX_FILE_BYTES = 200_000_000
BUILTIN_NAME = "builtin"
REAL_NAME = "builtin-real"
BUILTIN_SETS = {
    BUILTIN_NAME: "128 facts over all relations of the demo fact base, answered by every demo model (the paper's m)",
    "builtin-lookalikes": "128 facts about subjects that share a first or last word, answered by every demo model",
    REAL_NAME: "128 facts that SmolLM2-135M, Gemma 3 270M and every demo model answer, evenly over relations as far as "
    "these go; no sentence begins with a subject of one word",
}
FILES = tuple(sorted({container.label for container in CONTAINERS.values()}))  # that facts are kept in, in words
RECORDS = tuple(reader.label for reader in READERS)  # that are in them
PAPER_FACTS = 128  # the paper's m: 128 facts that every studied model answers


def builtin(name: str = BUILTIN_NAME) -> FactSet:
    """A built-in set, one of `BUILTIN_SETS`."""
    data = resources.files(__package__).joinpath("sets", f"{name}.csv").read_bytes()
    return replace(parse(data, name=name), format="")


def load(source: str | Path) -> FactSet:
    """Read a built-in set by its name, or a file in one of the formats of `containers` and `readers`.

    Raises:
        FactFileError: the file is missing, unreadable or holds no usable fact.
    """
    if source in BUILTIN_SETS:
        return builtin(str(source))
    path = Path(source)
    if not is_file(path):
        *others, last = [*BUILTIN_SETS, *FILES]
        raise FactFileError(f"No fact file at {path}. Give {', '.join(others)} or {last}.")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise FactFileError(f"{path.name} has {size:,} bytes; at most {MAX_FILE_BYTES:,} are read. Split the file.")
    return parse(path.read_bytes(), name=path.name)
