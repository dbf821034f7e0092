"""The map of the battery, read: which tests hold each case, and which of them fail when a defence is taken out."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Case:
    """What the program must survive.

    Attributes:
        number: as people name it.
        words: what is done and what is to come of it.
        tests: node ids of the tests that hold it, without parameters; a file or class stands for all tests in it.
    """

    number: int
    words: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Break:
    """A defence taken out, which tests must notice.

    Attributes:
        what: the program without it, in a sentence.
        file: in which it stands.
        old: text of that file, which is there once.
        new: what takes its place.
        tests: node ids, with parameters where a few are enough.
        cases: numbers of the cases that it defends.
        threat: the line of SECURITY.md's table that it belongs to, by its second cell; empty: none.
    """

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    cases: tuple[int, ...] = ()
    threat: str = ""


@cache
def cases() -> tuple[Case, ...]:
    return tuple(Case(row["number"], row["words"], tuple(row["tests"])) for row in _rows("cases"))


@cache
def breaks() -> tuple[Break, ...]:
    rows = ({name: tuple(v) if isinstance(v, list) else v for name, v in row.items()} for row in _rows("breaks"))
    return tuple(Break(**row) for row in rows)


def threats() -> tuple[str, ...]:
    """The second cells of SECURITY.md's table."""
    lines = (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines()
    table = [line.split(" | ") for line in lines if line.startswith("| ")]
    return tuple(cells[1] for cells in table[2:])


def belongs(test: str, named: str) -> bool:
    """Whether a test is the one that a node id names, or is in the file or class that it names."""
    return test == named or test.startswith((f"{named}[", f"{named}::"))


def _rows(name: str) -> list[dict[str, Any]]:
    with Path(__file__).with_name(f"{name}.toml").open("rb") as stream:
        (rows,) = tomllib.load(stream).values()
    return rows
