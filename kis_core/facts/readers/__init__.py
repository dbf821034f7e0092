"""The formats of fact files, one module each: whatever module of this folder has a `READER` is one of them."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType

from kis_core.facts.reading import Reader


def registered(modules: Iterable[ModuleType]) -> dict[str, Reader]:
    """The readers of these modules by the ending of a file's name.

    Raises:
        ValueError: two of them are for the same ending.
    """
    readers: dict[str, Reader] = {}
    for module in modules:
        reader = getattr(module, "READER", None)
        if reader is None:
            continue
        for ending in reader.endings:
            if ending in readers:
                raise ValueError(f"{reader.label} and {readers[ending].label} both claim names that end in {ending!r}")
            readers[ending] = reader
    return readers


READERS = registered(import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))


def reader_for(name: str) -> Reader:
    """The reader for a file of that name: the one with its ending, or else the one for all other names."""
    return next((reader for end, reader in READERS.items() if end and name.lower().endswith(end)), READERS[""])
