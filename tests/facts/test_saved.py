"""Fact sets that users brought along: kept exactly, under names that no path can hide in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core import facts as fact_sets
from kis_core.facts import Fact, FactFileError, FactSet, saved
from kis_core.facts.parsing import TITLE
from kis_core.facts.saved import FOLDER, NAME, delete, names, path_of, save, titles
from kis_core.files import field_text
from kis_core.files.atomic import NotWritten
from kis_core.models import catalog

OUTSIDE = "outside-0123abcd"
SPECIAL = "\n\r\t\"'\\{}<>=@,;&\u00a0\u2028\u200d🦆"
KEPT = FactSet("facts.csv", (Fact("Malta", "{} lies in", "Europe", "continent"), Fact("Peru", "{} lies in", "America")))

texts = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from(SPECIAL), max_size=20)
texts = texts.map(field_text.tidy).filter(lambda text: not field_text.fault(text))
said = texts.filter(bool)
prompts = st.tuples(texts, texts).map(lambda ends: field_text.tidy("{}".join(ends)))
prompts = prompts.filter(lambda text: text.count("{}") == 1)
several = st.lists(said, max_size=2).map(tuple)
facts_of_users = st.lists(st.builds(Fact, said, prompts, said, texts, texts, several, several), min_size=1, max_size=4)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def inside(root: Path) -> list[str]:
    return sorted(path.name for path in (root / FOLDER).iterdir())


@given(facts_of_users, st.text(max_size=10))
def test_a_set_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, facts: list[Fact], name: str) -> None:
    root = tmp_path_factory.getbasetemp() / "round-trips"
    given_set = FactSet(name, tuple(facts))
    actual = fact_sets.load(path_of(root, save(root, given_set)))
    assert actual.facts == given_set.facts
    assert actual.issues == ()
    assert actual.fingerprint == given_set.fingerprint


def test_the_same_facts_under_the_same_file_name_are_the_same_set_and_others_another(root: Path) -> None:
    first = save(root, KEPT)
    assert save(root, FactSet("elsewhere/Facts.json", KEPT.facts)) == first
    assert names(root) == (first,)
    assert first == f"facts-{KEPT.fingerprint[:8]}"
    others = {save(root, FactSet("other.csv", KEPT.facts)), save(root, FactSet(KEPT.name, KEPT.facts[:1]))}
    assert names(root) == tuple(sorted({first, *others}))
    assert len(names(root)) == 3
    delete(root, first)
    assert names(root) == tuple(sorted(others))
    with pytest.raises(FactFileError, match="There is no fact set"):
        delete(root, first)


def test_a_set_is_called_what_its_file_was_called(root: Path) -> None:
    name = save(root, FactSet("Mes faits (été 2026).csv", KEPT.facts))
    assert titles(root) == {name: "Mes faits (été 2026).csv"}
    assert fact_sets.load(path_of(root, name)).name == "Mes faits (été 2026).csv"
    twin = save(root, FactSet("Mes faits (été 2026).csv", KEPT.facts[:1]))
    assert titles(root) == {one: f"Mes faits (été 2026).csv ({one[-8:]})" for one in sorted((name, twin))}
    old = save(root, FactSet("", KEPT.facts))  # as those kept before sets had titles
    assert TITLE not in path_of(root, old).read_text("utf-8")
    assert titles(root)[old] == old
    assert fact_sets.load(path_of(root, old)).name == f"{old}.json"


def test_a_title_is_short_printable_and_no_other_sets(root: Path) -> None:
    for file in ("x" * 300, '"\\' * 60, "\x1b[31m\u202e.csv", "builtin", "日本.csv", "a\nb"):
        name = save(root, FactSet(file, KEPT.facts))
        title = titles(root)[name]
        assert title.isprintable()
        assert title not in fact_sets.BUILTIN_SETS
        assert len(title) <= 7 * saved.TITLE_CHARACTERS
        assert fact_sets.load(path_of(root, name)).facts == KEPT.facts


STEMS = {
    "My facts (v2).CSV": "my-facts-v2",
    "../../etc/passwd": "passwd",
    "nul\0byte.csv": "nul-byte",
    "~root": "root",
    "$HOME.csv": "home",
    "..": "facts",
    "": "facts",
    "日本.csv": "facts",
    "-rf.csv": "rf",
    "C:\\temp\\x.csv": "c-temp-x",
    "x" * 300 + ".csv": "x" * saved.STEM_CHARACTERS,
    "x" * (saved.STEM_CHARACTERS - 1) + " y.csv": "x" * (saved.STEM_CHARACTERS - 1),
}


def test_a_file_name_becomes_a_plain_one(root: Path) -> None:
    for file, stem in STEMS.items():
        name = save(root, FactSet(file, KEPT.facts))
        assert name == f"{stem}-{KEPT.fingerprint[:8]}"
        assert NAME.fullmatch(name)
        assert names(root) == (name,)
        assert inside(root) == [f"{name}.json"]
        assert path_of(root, name).parent == root / FOLDER
        delete(root, name)


def test_so_many_facts_can_be_looked_at_and_no_more(root: Path) -> None:
    with pytest.raises(FactFileError, match=r"many\.csv holds 20,001 facts; at most 20,000 can be looked at"):
        save(root, FactSet("many.csv", KEPT.facts[:1] * (saved.MOST_FACTS + 1)))
    assert names(root) == ()
    base = FactSet("demo-fact-base", catalog.known_facts(catalog.DEFAULT, ()).everything)
    assert saved.MOST_ON_EVERY_PAGE < len(base) <= saved.MOST_FACTS
    assert fact_sets.load(path_of(root, save(root, base))).facts == base.facts


def test_a_failed_write_leaves_the_old_set_and_no_file_behind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = save(root, KEPT)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    for facts in (KEPT, FactSet("other.csv", KEPT.facts)):
        with pytest.raises(NotWritten, match="No space left"):
            save(root, facts)
    with pytest.raises(UnicodeEncodeError):  # broken off in the middle
        save(root, FactSet("half.csv", (Fact("x" * 100_000, "{} is", "\ud800"),)))
    assert inside(root) == [f"{name}.json"]
    assert fact_sets.load(path_of(root, name)).facts == KEPT.facts


def test_files_that_are_none_of_ours_are_no_sets(root: Path) -> None:
    assert names(root) == (), "there is no folder yet"
    name = save(root, KEPT)
    endings = ("facts-0123ABCD.json", "facts-0123abcd.csv", "facts-0123abcd.json.json", "-x-0123abcd.json")
    for other in ("0123456789abcdef.partial", "facts.json", *endings, "a b-0123abcd.json", f"{'x' * 42}-0123abcd.json"):
        (root / FOLDER / other).write_text("[]")
    (root / FOLDER / "folder-0123abcd.json").mkdir()
    (root / FOLDER / "nowhere-0123abcd.json").symlink_to(root / "nowhere")
    assert names(root) == (name,)


def hostile_names(root: Path) -> tuple[str, ...]:
    """Names under which there is a file, but for the check of the name, wherever the system allows one."""
    (root / f"{OUTSIDE}.json").write_text("[]")
    (root / FOLDER / "sub").mkdir()
    (root / FOLDER / "sub" / f"{OUTSIDE}.json").write_text("[]")
    for link in ("link", "linked-0123abcd"):
        (root / FOLDER / f"{link}.json").symlink_to(root / f"{OUTSIDE}.json")
    for name in ("~", "$HOME", "UPPER-0123abcd", "x-0123abcd\n", "x-٠123abcd", ""):
        (root / FOLDER / f"{name}.json").write_text("[]")
    outside = (f"../{OUTSIDE}", f"sub/../../{OUTSIDE}", f"sub/{OUTSIDE}", str(root / OUTSIDE), f"{OUTSIDE}\0")
    odd = ("~", "~root/x-0123abcd", "$HOME", "x" * 300, f"{'x' * 300}-0123abcd", "link", "linked-0123abcd", "")
    near = ("UPPER-0123abcd", "x-0123abcd\n", "x-٠123abcd", f"{save(root, KEPT)}.json", "facts-00000000")
    return (*outside, *odd, *near)


def test_a_hostile_name_never_becomes_a_path(root: Path) -> None:
    save(root, KEPT)
    for name in hostile_names(root):
        with pytest.raises(FactFileError, match=r"There is no fact set .* on this machine") as raised:
            path_of(root, name)
        assert len(str(raised.value)) < 200, name
        with pytest.raises(FactFileError):
            delete(root, name)
    assert (root / f"{OUTSIDE}.json").is_file()
