"""The terms of docs/glossary.md, for tooltips."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

FILE = Path(__file__).parents[3] / "docs" / "glossary.md"  # it is installed beside the pages
LINE = re.compile(r"- \*\*(?P<term>[^*]+)\*\* \((?P<symbol>.*?)\): (?P<sentence>\S.*)")


@cache
def terms() -> dict[str, str]:
    """The line on each term, as Markdown, by the term in lower case.

    Raises:
        ValueError: a line is not written as the others, or a term stands there twice.
    """
    text = FILE.read_text(encoding="utf-8")
    lines: dict[str, str] = {}
    for line in filter(lambda line: line.startswith("- "), text.splitlines()):
        entry = LINE.fullmatch(line)
        if entry is None or entry["term"].lower() in lines:
            raise ValueError(f"docs/glossary.md: not one term with symbol and sentence, or a second time: {line}")
        source = "" if entry["symbol"].strip("– ") == "" else f" ({entry['symbol'].removeprefix('–, ')})"
        lines[entry["term"].lower()] = f"**{entry['term']}**{source}: {entry['sentence']}"
    return lines


def explain(*names: str) -> str:
    """Markdown on these terms of the glossary, for a `help=`.

    Raises:
        KeyError: the glossary has no such term.
    """
    return "\n\n".join(terms()[name.lower()] for name in names)
