"""JSON: a list of records, an object that holds such a list as `data`, or JSON Lines, one record a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from kis_core.errors import shown
from kis_core.facts.fact import FactFileError
from kis_core.facts.reading import Container, Contents, Record, Rows

DATA = "data"
FAULTS = (ValueError, RecursionError)  # ValueError: bad syntax, or an integer of thousands of digits
LINES = (".jsonl", ".ndjson")
NO_RECORD = "it is no JSON object, which a record has to be"


def read(data: bytes, rows: Rows) -> Contents:
    """The records of a file.

    Raises:
        FactFileError: no text, or not JSON.
    """
    text = rows.text(data)
    try:
        whole = json.loads(text)
    except FAULTS as error:
        if rows.name.lower().endswith(LINES) or _begins_with_record(text):
            return Contents("JSON Lines", _lines(text))
        advice = "Is it CSV? Then let its name end in .csv."
        raise FactFileError(f"{rows.name} is not valid JSON: {error}. {advice}") from error
    if isinstance(whole, list):
        return Contents("a JSON list", _numbered(whole))
    if isinstance(whole, Mapping) and isinstance(whole.get(DATA), list):
        return Contents(f"a JSON object’s list `{DATA}`", _numbered(whole[DATA]))
    return Contents("a JSON object", _numbered([whole]))


def _begins_with_record(text: str) -> bool:
    try:
        return isinstance(json.loads(text.lstrip().partition("\n")[0]), Mapping)
    except FAULTS:
        return False


def _lines(text: str) -> Iterator[tuple[int, Record | str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, _record(json.loads(line))
            except FAULTS as error:
                yield number, f"it is not valid JSON: {shown(str(error))}"


def _numbered(records: list[Any]) -> Iterator[tuple[int, Record | str]]:
    return enumerate(map(_record, records), start=1)


def _record(value: Any) -> Record | str:
    return value if isinstance(value, Mapping) else NO_RECORD


CONTAINER = Container("a JSON file", (".json", *LINES), read)
