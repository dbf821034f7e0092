"""Editing facts: a registry of methods, the search for the value they write, and whether an edit took.

`registry` lists the methods, one file each in `methods`; `value` searches for δ (`hyperparameters` says how, `contexts`
in which prompts, `insertion` where it is added); a method makes `Edit`s of it; `overlay` runs the model with them;
`probes`, `success` and `scores` ask whether they hold. What needs torch is imported when it is first used: commands and
pages can list the methods.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kis_core.editing.edit import Change, DenseEdit, Edit, EditError
from kis_core.editing.hyperparameters import Hyperparameters, Recipe, recipe
from kis_core.editing.method import Method, PerformedEdit, RequestedEdit, Site
from kis_core.editing.probes import Probes, probes
from kis_core.editing.rank_one import RankOne
from kis_core.editing.registry import AnyMethod, all_methods, register
from kis_core.editing.settings import ModelScale, Settings

if TYPE_CHECKING:
    from kis_core.editing.overlay import applied
    from kis_core.editing.success import Success, succeeded
    from kis_core.editing.value import Value, reaches_answer, search

__all__ = [
    "METHODS",
    "RANK_ONE",
    "Change",
    "DenseEdit",
    "Edit",
    "EditError",
    "Hyperparameters",
    "Method",
    "ModelScale",
    "PerformedEdit",
    "Probes",
    "RankOne",
    "Recipe",
    "RequestedEdit",
    "Settings",
    "Site",
    "Success",
    "Value",
    "applied",
    "method",
    "probes",
    "rank_one_method",
    "reaches_answer",
    "recipe",
    "register",
    "search",
    "succeeded",
]

WITH_TORCH = {
    "applied": "overlay",
    "Success": "success",
    "succeeded": "success",
    "Value": "value",
    "reaches_answer": "value",
    "search": "value",
}
"""Names that are imported when first used, with their modules."""

METHODS: tuple[Method, ...] = all_methods()
RANK_ONE: tuple[RankOne, ...] = tuple(method for method in METHODS if isinstance(method, RankOne))
"""Those that make one edit of one value: what the simulator of a single edit offers."""


def __getattr__(name: str) -> Any:
    if name not in WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{WITH_TORCH[name]}"), name)


def method(name: str) -> Method:
    """The method of that name.

    Raises:
        EditError: there is none.
    """
    return _named(name, METHODS, "")


def rank_one_method(name: str) -> RankOne:
    """The rank-one method of that name.

    Raises:
        EditError: there is none.
    """
    return _named(name, RANK_ONE, " for a single edit")


def _named(name: str, methods: tuple[AnyMethod, ...], purpose: str) -> AnyMethod:
    if known := next((method for method in methods if method.name == name), None):
        return known
    raise EditError(f"no method {name!r}{purpose}; there are {', '.join(method.name for method in methods)}")
