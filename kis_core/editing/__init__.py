"""Editing one fact: search for a value, make a rank-one edit of it, apply it for a moment, see whether it took.

`value` searches for δ (`hyperparameters` says how, `contexts` in which prompts); one small file a method turns it into
an `Edit`; `edit.applied` runs the model with it; `probes` and `success` ask whether it holds.
"""

from __future__ import annotations

from kis_core.editing import identity, r_rome, rome
from kis_core.editing.edit import Edit, EditError, applied
from kis_core.editing.hyperparameters import Hyperparameters, Recipe, recipe
from kis_core.editing.method import Method
from kis_core.editing.probes import Probes, objects_of_relation, probes
from kis_core.editing.success import Success, succeeded
from kis_core.editing.value import Value, reaches_answer, search

__all__ = [
    "METHODS", "Edit", "EditError", "Hyperparameters", "Method", "Probes", "Recipe", "Success", "Value", "applied",
    "method", "objects_of_relation", "probes", "reaches_answer", "recipe", "search", "succeeded",
]  # fmt: skip

METHODS = (rome.METHOD, r_rome.METHOD, identity.METHOD)


def method(name: str) -> Method:
    """The method of that name.

    Raises:
        EditError: there is none.
    """
    for one in METHODS:
        if one.name == name:
            return one
    raise EditError(f"no method {name!r}; there are {', '.join(one.name for one in METHODS)}")
