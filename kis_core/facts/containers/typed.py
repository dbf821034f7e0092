"""Cells of tables whose columns have types: text stays, numbers become text, and what has no certain text is named."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, time, timedelta
from typing import Any

from kis_core.facts.readers import FIELDS
from kis_core.facts.reading import Record, Rows, Unfit
from kis_core.files import field_text

MOST_BYTES = 200_000_000  # of a file that is unpacked, as of one that is not
NUMBERS = "Numbers were taken as text"
AS_TEXT = "write it as text, as it is to be asked"


def named(columns: Iterable[Any]) -> tuple[str, ...]:
    """The names of columns as a CSV's are read; empty where a name is no text."""
    return tuple(field_text.tidy(name).lower() if isinstance(name, str) else "" for name in columns)


def records(table: Iterable[tuple[int, Mapping[str, Any]]], rows: Rows) -> Iterator[tuple[int, Record]]:
    """The rows of a table, by their numbers, with what readers look at as text."""
    for row, cells in table:
        yield row, {name: _plain(value, f"row {row}, {name}", rows) for name, value in cells.items() if name in FIELDS}


def _plain(value: Any, where: str, rows: Rows) -> Any:
    """A cell as text; what is no plain value (a list, an object) stays."""
    if isinstance(value, bool):
        return Unfit(f"is the truth value {value}; {AS_TEXT}")
    if isinstance(value, date | time | timedelta):
        return Unfit(f"is a date or time ({value}), which is shown in many ways; {AS_TEXT}")
    if isinstance(value, int | float):
        if not math.isfinite(value):
            return None
        text = f"{value:.15g}" if isinstance(value, float) else str(value)  # as many digits as a spreadsheet has
        rows.note(NUMBERS, f"{where} ({text})")
        return text
    return value
