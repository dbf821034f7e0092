"""Fact sets that users brought along: kept exactly, under names that no path can hide in."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kis_core import facts as fact_sets
from kis_core.facts import Fact, FactFileError, FactSet
from kis_core.facts.readers.counterfact import TITLE
from kis_core.facts.saved import (
    FOLDER,
    MOST_FACTS,
    MOST_ON_EVERY_PAGE,
    NAME,
    STEM_CHARACTERS,
    TITLE_CHARACTERS,
    delete,
    names,
    path_of,
    save,
    titles,
)
from kis_core.files import field_text
from kis_core.files.atomic import NotWritten
from kis_core.models import catalog
from kis_core.results import archive
from kis_core.store.store import Store
from tests.results.results_tools import made

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


# Kept exactly


@settings(max_examples=80, deadline=None)
@given(facts_of_users, st.text(max_size=10))
def test_a_set_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, facts: list[Fact], name: str) -> None:
    root = tmp_path_factory.getbasetemp() / "round-trips"
    given_set = FactSet(name, tuple(facts))
    found = fact_sets.load(path_of(root, save(root, given_set)))
    assert found.facts == given_set.facts
    assert found.issues == ()
    assert found.fingerprint == given_set.fingerprint


def test_what_counterfact_brings_is_stored_with_a_result_and_tells_two_sets_apart(root: Path) -> None:
    result = made(np.eye(2)[None])
    brought = {"new_target": "Rome", "paraphrases": ("Malta's capital is",), "neighbours": ("Oslo lies in", "Rome is")}
    fingerprints = {result.facts.fingerprint}
    for name, value in brought.items():
        fact = replace(result.facts.facts[0], **{name: value})
        facts = replace(result.facts, facts=(fact, *result.facts.facts[1:]))
        provenance = result.provenance | {"facts_sha256": facts.fingerprint}
        entry = archive.to_entry(replace(result, facts=facts, provenance=provenance))
        Store(root).put(f"superposition-{'0' * 64}", entry.meta, entry.arrays)
        found = archive.read(f"superposition-{'0' * 64}", Store(root))
        assert found
        assert found.facts.facts == facts.facts
        fingerprints.add(facts.fingerprint)
    assert len(fingerprints) == 4


def test_the_same_facts_under_the_same_file_name_are_the_same_set(root: Path) -> None:
    first = save(root, KEPT)
    assert save(root, FactSet("elsewhere/Facts.json", KEPT.facts)) == first
    assert names(root) == (first,)
    assert first == f"facts-{KEPT.fingerprint[:8]}"


def test_a_set_is_called_what_its_file_was_called(root: Path) -> None:
    name = save(root, FactSet("Mes faits (été 2026).csv", KEPT.facts))
    assert titles(root) == {name: "Mes faits (été 2026).csv"}
    assert fact_sets.load(path_of(root, name)).name == "Mes faits (été 2026).csv"
    twin = save(root, FactSet("Mes faits (été 2026).csv", KEPT.facts[:1]))
    assert titles(root) == {one: f"Mes faits (été 2026).csv ({one[-8:]})" for one in sorted((name, twin))}


def test_a_set_kept_before_sets_had_titles_is_called_by_its_name(root: Path) -> None:
    name = save(root, FactSet("", KEPT.facts))
    assert TITLE not in path_of(root, name).read_text("utf-8")
    assert titles(root) == {name: name}
    assert fact_sets.load(path_of(root, name)).name == f"{name}.json"


@pytest.mark.parametrize("file", ["x" * 300, '"\\' * 60, "\x1b[31m\u202e.csv", "builtin", "日本.csv", "a\nb"])
def test_a_title_is_short_printable_and_no_other_sets(root: Path, file: str) -> None:
    name = save(root, FactSet(file, KEPT.facts))
    (title,) = titles(root).values()
    assert title.isprintable()
    assert title not in fact_sets.BUILTIN_SETS
    assert len(title) <= 7 * TITLE_CHARACTERS
    assert fact_sets.load(path_of(root, name)).facts == KEPT.facts


def test_other_facts_or_another_file_name_are_another_set(root: Path) -> None:
    saved = {
        save(root, KEPT),
        save(root, FactSet("other.csv", KEPT.facts)),
        save(root, FactSet(KEPT.name, KEPT.facts[:1])),
    }
    assert len(saved) == 3
    assert names(root) == tuple(sorted(saved))
    assert all(NAME.fullmatch(name) for name in saved)


@pytest.mark.parametrize(
    ("file", "stem"),
    [
        ("My facts (v2).CSV", "my-facts-v2"),
        ("../../etc/passwd", "passwd"),
        ("/abs/olute.json", "olute"),
        ("nul\0byte.csv", "nul-byte"),
        ("~root", "root"),
        ("$HOME.csv", "home"),
        ("..", "facts"),
        ("", "facts"),
        ("___.csv", "facts"),
        ("§$%&!.json", "facts"),
        ("日本.csv", "facts"),
        ("-rf.csv", "rf"),
        ("C:\\temp\\x.csv", "c-temp-x"),
        ("x" * 300 + ".csv", "x" * STEM_CHARACTERS),
        ("x" * (STEM_CHARACTERS - 1) + " y.csv", "x" * (STEM_CHARACTERS - 1)),
    ],
)
def test_a_file_name_becomes_a_plain_one(root: Path, file: str, stem: str) -> None:
    name = save(root, FactSet(file, KEPT.facts))
    assert name == f"{stem}-{KEPT.fingerprint[:8]}"
    assert names(root) == (name,)
    assert inside(root) == [f"{name}.json"]
    assert path_of(root, name).parent == root / FOLDER


def test_so_many_facts_can_be_looked_at_and_no_more(root: Path) -> None:
    most = FactSet("many.csv", KEPT.facts[:1] * MOST_FACTS)
    assert MOST_FACTS > MOST_ON_EVERY_PAGE
    assert len(fact_sets.load(path_of(root, save(root, most)))) == MOST_FACTS
    with pytest.raises(FactFileError, match=r"many\.csv holds 20,001 facts; at most 20,000 can be looked at"):
        save(root, FactSet("many.csv", KEPT.facts[:1] * (MOST_FACTS + 1)))
    assert len(names(root)) == 1


def test_the_demo_fact_base_is_a_set_like_any_other(root: Path) -> None:
    base = FactSet("demo-fact-base", catalog.known_facts(catalog.DEFAULT, ()).everything)
    assert MOST_ON_EVERY_PAGE < len(base) <= MOST_FACTS
    assert fact_sets.load(path_of(root, save(root, base))).facts == base.facts
    assert {fact.prompt.count(fact_sets.SLOT) for fact in base.facts} == {1}
    asked = {(fact.subject, fact.target) for fact in fact_sets.builtin().facts}
    assert asked <= {(fact.subject, fact.target) for fact in base.facts}


# A write that fails


def test_a_failed_write_leaves_the_old_set_and_no_file_behind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = save(root, KEPT)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    for facts in (KEPT, FactSet("other.csv", KEPT.facts)):
        with pytest.raises(NotWritten, match="No space left"):
            save(root, facts)
    assert inside(root) == [f"{name}.json"]
    assert fact_sets.load(path_of(root, name)).facts == KEPT.facts


def test_a_write_broken_off_in_the_middle_leaves_no_file_behind(root: Path) -> None:
    half_a_character = FactSet("half.csv", (Fact("x" * 100_000, "{} is", "\ud800"),))
    with pytest.raises(UnicodeEncodeError):
        save(root, half_a_character)
    assert inside(root) == []


def test_a_cache_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotWritten, match="file"):
        save(tmp_path / "file", KEPT)


# Names


def test_files_that_are_none_of_ours_are_no_sets(root: Path) -> None:
    assert names(root) == (), "there is no folder yet"
    name = save(root, KEPT)
    for other in (
        "0123456789abcdef.partial",
        "notes.txt",
        "facts.json",
        "facts-0123ABCD.json",
        "facts-0123abcd.csv",
        "facts-0123abcd.json.json",
        "-0123abcd.json",
        "-x-0123abcd.json",
        "a b-0123abcd.json",
        f"{'x' * 42}-0123abcd.json",
    ):
        (root / FOLDER / other).write_text("[]")
    (root / FOLDER / "folder-0123abcd.json").mkdir()
    (root / FOLDER / "nowhere-0123abcd.json").symlink_to(root / "nowhere")
    assert names(root) == (name,)


def hostile_names(root: Path) -> dict[str, str]:
    """Names under which there is a file, but for the check of the name, wherever the system allows one."""
    (root / f"{OUTSIDE}.json").write_text("[]")
    (root / FOLDER / "sub").mkdir()
    (root / FOLDER / "sub" / f"{OUTSIDE}.json").write_text("[]")
    for link in ("link", "linked-0123abcd"):
        (root / FOLDER / f"{link}.json").symlink_to(root / f"{OUTSIDE}.json")
    for name in ("~", "$HOME", "UPPER-0123abcd", "x-0123abcd\n", "x-٠123abcd", ""):
        (root / FOLDER / f"{name}.json").write_text("[]")
    return {
        "parent": f"../{OUTSIDE}",
        "parent from below": f"sub/../../{OUTSIDE}",
        "folder below": f"sub/{OUTSIDE}",
        "absolute": str(root / OUTSIDE),
        "NUL": f"{OUTSIDE}\0",
        "home": "~",
        "home of another": "~root/x-0123abcd",
        "variable": "$HOME",
        "300 characters": "x" * 300,
        "300 characters and a fingerprint": f"{'x' * 300}-0123abcd",
        "link": "link",
        "link of a right name": "linked-0123abcd",
        "upper case": "UPPER-0123abcd",
        "line break": "x-0123abcd\n",
        "other digits": "x-٠123abcd",
        "nothing": "",
        "with its ending": f"{save(root, KEPT)}.json",
        "not there": "facts-00000000",
    }


def test_a_hostile_name_never_becomes_a_path(root: Path) -> None:
    save(root, KEPT)
    for what, name in hostile_names(root).items():
        with pytest.raises(FactFileError, match=r"There is no fact set .* on this machine") as raised:
            path_of(root, name)
        assert len(str(raised.value)) < 200, what
        with pytest.raises(FactFileError):
            delete(root, name)
    assert (root / f"{OUTSIDE}.json").is_file()


# Forgotten


def test_a_deleted_set_is_gone_and_the_others_stay(root: Path) -> None:
    first, second = save(root, KEPT), save(root, FactSet("other.csv", KEPT.facts))
    delete(root, first)
    assert names(root) == (second,)
    with pytest.raises(FactFileError, match="There is no fact set"):
        delete(root, first)
    assert save(root, KEPT) == first
