"""Reading the tables of a study."""

from __future__ import annotations

import re

CELLS = re.compile(r"(?<!\\)\|")


def tables(text: str) -> dict[str, list[dict[str, str]]]:
    """Rows by the column heads, of each titled table."""
    actual = {}
    for title, body in re.findall(r"\*\*(.+?)\*\*\n\n((?:\|.*\n?)+)", text):
        heads, rule, *rows = (
            [cell.replace("\\|", "|").strip() for cell in CELLS.split(line)[1:-1]] for line in body.splitlines()
        )
        assert all(re.fullmatch(":?-+:?", cell) for cell in rule)
        actual[title] = [dict(zip(heads, row, strict=True)) for row in rows]
    return actual
