"""Editing one fact: search for a value, make a rank-one edit of it, apply it for a moment, see whether it took.

`value` searches for δ (`hyperparameters` says how, `contexts` in which prompts); one small file a method turns it into
an `Edit`; `edit.applied` runs the model with it; `probes` and `success` ask whether it holds.
"""

from __future__ import annotations

from kis_core.editing import alphaedit, fine_tuning, identity, memit, r_rome, rome
from kis_core.editing.edit import Change, DenseEdit, Edit, EditError, applied
from kis_core.editing.hyperparameters import Hyperparameters, Recipe, recipe
from kis_core.editing.method import Method, PerformedEdit, RequestedEdit, Site
from kis_core.editing.probes import Probes, probes
from kis_core.editing.rank_one import RankOne
from kis_core.editing.success import Success, succeeded
from kis_core.editing.value import Value, reaches_answer, search
from kis_core.editing.weights import Weights, weights

__all__ = [
    "METHODS",
    "RANK_ONE",
    "Change",
    "DenseEdit",
    "Edit",
    "EditError",
    "Hyperparameters",
    "Method",
    "PerformedEdit",
    "Probes",
    "RankOne",
    "Recipe",
    "RequestedEdit",
    "Site",
    "Success",
    "Value",
    "Weights",
    "applied",
    "method",
    "probes",
    "rank_one_method",
    "reaches_answer",
    "recipe",
    "search",
    "succeeded",
    "weights",
]  # fmt: skip

RANK_ONE = (rome.METHOD, r_rome.METHOD, identity.METHOD)
"""Those that make one edit of one value: what the simulator of a single edit offers."""
METHODS: tuple[Method, ...] = (*RANK_ONE, memit.METHOD, alphaedit.METHOD, fine_tuning.METHOD)


def method(name: str) -> Method:
    """The method of that name.

    Raises:
        EditError: there is none.
    """
    for one in METHODS:
        if one.name == name:
            return one
    raise EditError(f"no method {name!r}; there are {', '.join(one.name for one in METHODS)}")


def rank_one_method(name: str) -> RankOne:
    """The rank-one method of that name.

    Raises:
        EditError: there is none.
    """
    for one in RANK_ONE:
        if one.name == name:
            return one
    raise EditError(f"no method {name!r} for a single edit; there are {', '.join(one.name for one in RANK_ONE)}")
