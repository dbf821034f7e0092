"""The map of the battery names tests that there are, and defences that can be taken out."""

from __future__ import annotations

import ast
from functools import cache

from tests.battery.cases import ROOT, breaks, cases, threats

CASES = 34


@cache
def names_in(file: str) -> frozenset[str]:
    """The node ids of a file without parameters, its classes and itself."""
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    names = {file}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(f"{file}::{node.name}")
        if isinstance(node, ast.ClassDef):
            names |= {f"{file}::{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return frozenset(names)


def absent(tests: tuple[str, ...]) -> list[str]:
    bare = [test.partition("[")[0] for test in tests]
    return [test for test in bare if test not in names_in(test.partition("::")[0])]


def test_every_case_is_held_by_tests_that_there_are() -> None:
    assert [case.number for case in cases()] == list(range(1, CASES + 1))
    assert all(case.tests for case in cases())
    assert [test for case in cases() for test in absent(case.tests)] == []
    assert "docs/reliability.md" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_break_takes_out_what_stands_there_once() -> None:
    for each in breaks():
        assert (ROOT / each.file).read_text(encoding="utf-8").count(each.old) == 1, each
        assert each.old != each.new
        assert each.tests
        assert absent(each.tests) == []
        assert set(each.cases) <= set(range(1, CASES + 1))
    assert len({each.what for each in breaks()}) == len(breaks())


def test_every_line_of_the_threat_model_has_a_defence_that_is_taken_out() -> None:
    assert {each.threat for each in breaks()} - {""} == set(threats())
