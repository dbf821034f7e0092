"""The methods of editing by name: each file in `methods` registers its own, and nothing else lists them."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TypeVar

from kis_core.editing.edit import EditError
from kis_core.editing.method import Method

AnyMethod = TypeVar("AnyMethod", bound=Method)

_registered: dict[str, Method] = {}


def register(method: AnyMethod) -> AnyMethod:
    """Make a method known to commands and pages.

    Raises:
        EditError: there is another one of that name.
    """
    if method.name in _registered:
        raise EditError(f"there are two methods called {method.name!r}; give one of them another name")
    _registered[method.name] = method
    return method


@cache
def all_methods() -> tuple[Method, ...]:
    """Every method that a file in `methods` registers, in the order of lists."""
    folder = import_module(f"{__package__}.methods")
    for module in iter_modules(folder.__path__):
        import_module(f"{folder.__name__}.{module.name}")
    return tuple(sorted(_registered.values(), key=lambda method: (method.place, method.name)))
