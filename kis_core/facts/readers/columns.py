"""Records with the fields `subject`, `prompt`, `target` and, if present, `relation`: the form of facts here."""

from __future__ import annotations

from kis_core.facts.reading import OPTIONAL_COLUMNS, REQUIRED_COLUMNS, Reader, Record

LABEL = "columns subject, prompt and target"


def facts(record: Record) -> list[Record]:
    """The fact of a record: of its fields those alone, whatever else a table may have."""
    return [{name: record[name] for name in READER.fields if name in record}]


READER = Reader(LABEL, dict.fromkeys(REQUIRED_COLUMNS, object), OPTIONAL_COLUMNS, facts)
