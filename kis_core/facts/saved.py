"""Fact sets that users uploaded: kept in the cache folder under a name that follows from their content.

They are stored as CounterFact JSON, which holds every fact exactly, line breaks included. The first record also holds
the name of the file that they came from, which is what people know the set by.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from kis_core.errors import refuse_if_read_only, shown
from kis_core.facts import BUILTIN_SETS, FactFileError, FactSet
from kis_core.facts.parsing import TITLE
from kis_core.facts.readers.counterfact import to_record
from kis_core.files import atomic

FOLDER = "facts"  # inside the cache folder
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}-[0-9a-f]{8}")
STEM_CHARACTERS = 40
TITLE_CHARACTERS = 120
HEAD_CHARACTERS = 2_000  # of a stored set, in which its title stands: the longest one, every character an escape
TITLED = re.compile(rf'\[\{{"{TITLE}": ("(?:[^"\\]|\\.)*+")')
MOST_ON_EVERY_PAGE = 2_000  # facts: P and both cosines of 12 layers then take 1.2 GB of memory
MOST_FACTS = 20_000  # on the page of many facts: the keys of one layer of 16,384 then take 1.3 GB


def names(root: Path) -> tuple[str, ...]:
    """The sets that are there, by name."""
    folder = root / FOLDER
    files = (path for path in folder.glob("*.json") if path.is_file() and not path.is_symlink())
    return tuple(sorted(path.stem for path in files if NAME.fullmatch(path.stem)))


def titles(root: Path) -> dict[str, str]:
    """What people know each set by: the file it came from, and the digits of its name where several came from one."""
    titles_of = {name: _title(root, name) for name in names(root)}
    taken = [*titles_of.values(), *BUILTIN_SETS]
    several = {title for title in titles_of.values() if taken.count(title) > 1}
    return {name: f"{title} ({name[-8:]})" if title in several else title for name, title in titles_of.items()}


def _title(root: Path, name: str) -> str:
    """A set's title; of one kept before sets had titles, its name."""
    try:
        with path_of(root, name).open(encoding="utf-8") as stream:
            match = TITLED.match(stream.read(HEAD_CHARACTERS))
        return shown(json.loads(match[1])) if match else name
    except (FactFileError, OSError, ValueError):  # gone or damaged meanwhile
        return name


def path_of(root: Path, name: str) -> Path:
    """The file of a set.

    Raises:
        FactFileError: no such set; a name that is none of ours never becomes a path.
    """
    path = root / FOLDER / f"{name}.json"
    if not NAME.fullmatch(name) or path.is_symlink() or not path.is_file():
        raise FactFileError(f"There is no fact set {name[:60]!r} on this machine; upload it again.")
    return path


def save(root: Path, facts: FactSet) -> str:
    """Keep a set. The same facts under the same file name are the same set.

    Returns:
        its name: that of the file it came from, and the first digits of its fingerprint.

    Raises:
        FactFileError: more facts than any page can show.
        NotWritten: the cache folder cannot be written to.
        NotOffered: in read-only mode.
    """
    refuse_if_read_only("Keeping facts")
    if len(facts) > MOST_FACTS:
        raise FactFileError(
            f"{facts.name} holds {len(facts):,} facts; at most {MOST_FACTS:,} can be looked at. Split the file."
        )
    stem = re.sub(r"[^a-z0-9]+", "-", Path(facts.name).stem.lower()).strip("-")[:STEM_CHARACTERS].strip("-")
    name = f"{stem or 'facts'}-{facts.fingerprint[:8]}"
    records = [to_record(fact) for fact in facts.facts]
    if records and (title := Path(facts.name).name[:TITLE_CHARACTERS]):
        records[0] = {TITLE: title} | records[0]
    atomic.write(root / FOLDER, {f"{name}.json": json.dumps(records, ensure_ascii=False)})
    return name


def delete(root: Path, name: str) -> None:
    """Forget a set; results computed from it stay until they are deleted themselves.

    Raises:
        FactFileError: no such set.
        NotOffered: in read-only mode.
    """
    refuse_if_read_only("Deleting facts")
    path_of(root, name).unlink()
