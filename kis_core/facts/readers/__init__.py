"""The kinds of records that hold facts, one module each: whatever module here has a `READER` is one of them."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType

from kis_core.facts.reading import Reader, Record


def registered(modules: Iterable[ModuleType]) -> tuple[Reader, ...]:
    """The readers of these modules, those that ask most of a record first.

    Raises:
        ValueError: two of them recognise the same records.
    """
    readers: list[Reader] = []
    for module in modules:
        if (reader := getattr(module, "READER", None)) is None:
            continue
        for other in readers:
            if reader.marks == other.marks:
                raise ValueError(f"{reader.label} and {other.label} are both recognised by {', '.join(reader.marks)}")
        readers.append(reader)
    return tuple(sorted(readers, key=lambda reader: (-len(reader.marks), reader.label)))


READERS = registered(import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
FIELDS = frozenset(field for reader in READERS for field in reader.fields)
"""The fields that any reader looks at."""


def reader_for(record: Record) -> Reader | None:
    """The reader that recognises a record: of several, the one that asks most of it."""
    return next((reader for reader in READERS if reader.recognises(record)), None)
