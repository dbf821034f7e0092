"""The ways to store records in a file, one module each: whatever module here has a `CONTAINER` is one of them."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType

from kis_core.facts.reading import Container


def registered(modules: Iterable[ModuleType]) -> dict[str, Container]:
    """The containers of these modules by the ending of a file's name.

    Raises:
        ValueError: two of them are for the same ending.
    """
    containers: dict[str, Container] = {}
    for module in modules:
        container: Container | None = getattr(module, "CONTAINER", None)
        if container is None:
            continue
        for ending in container.endings:
            if ending in containers:
                labels = f"{container.label} and {containers[ending].label}"
                raise ValueError(f"{labels} both claim names that end in {ending!r}")
            containers[ending] = container
    return containers


CONTAINERS = registered(import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))


def container_for(name: str) -> Container:
    """The container of a file of that name: the one with its ending, or else the one of all other names."""
    matching = (container for end, container in CONTAINERS.items() if end and name.lower().endswith(end))
    return next(matching, CONTAINERS[""])
