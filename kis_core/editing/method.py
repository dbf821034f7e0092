"""What a method of editing is, and where it works: a model as the edits before it left it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from kis_core import progress
from kis_core.covariance import Whitener
from kis_core.editing.edit import Change, EditError
from kis_core.editing.hyperparameters import Hyperparameters
from kis_core.editing.weights import Weights
from kis_core.facts import Fact

if TYPE_CHECKING:
    from kis_core.models.loading import LoadedModel


@dataclass(frozen=True, slots=True)
class Asked:
    """An edit that is asked for.

    Attributes:
        fact: as it is.
        target: its new object.
    """

    fact: Fact
    target: str


@dataclass(frozen=True, eq=False)
class Made:
    """One edit as a method made it.

    Attributes:
        changes: one a layer that was edited, first layer first.
        keys: (layers, d_m), the fact's key in each of these layers at the moment of the edit.
        probability: of the new object (geometric mean a token) at the end of the search, as far as that could see.
        steps: of the search.
    """

    changes: tuple[Change, ...]
    keys: np.ndarray
    probability: float
    steps: int


@dataclass(frozen=True, eq=False)
class Site:
    """Where a batch of edits is made.

    Attributes:
        loaded: the model; what was edited before is in `standing`, not in it.
        layers: to edit, in order; one for methods that do not spread.
        whiteners: C of each of these layers, factorised.
        how: values are searched for.
        weights: of the methods' own terms.
        prefixes: random beginnings the prompt is also read after.
        standing: the edits made before, as overlays.
        past: keys of the edits made before, (n, d_m), by layer.
    """

    loaded: LoadedModel
    layers: tuple[int, ...]
    whiteners: Mapping[int, Whitener]
    how: Hyperparameters
    weights: Weights
    prefixes: Sequence[str] = ()
    standing: tuple[Change, ...] = ()
    past: Mapping[int, np.ndarray] = field(default_factory=dict)


class Method(Protocol):
    """A way of editing.

    Attributes:
        name: for command line and links.
        told: for people.
        batches: takes several edits at once.
        spreads: may spread an edit over several layers.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def told(self) -> str: ...  # noqa: D102
    @property
    def batches(self) -> bool: ...  # noqa: D102
    @property
    def spreads(self) -> bool: ...  # noqa: D102

    def make(self, site: Site, asked: Sequence[Asked], report: progress.Report = progress.silent) -> list[Made]:
        """Make a batch of edits (of one, for methods that take no more), each as overlays; the model stays as it is.

        Raises:
            EditError: an edit makes no sense or cannot be made there.
            Cancelled: `report` called it off.
        """
        ...


def reach_along(direction: np.ndarray, key: np.ndarray) -> np.ndarray:
    """A direction scaled so that all of the edit lands on `key`; both (d_m,).

    Raises:
        EditError: the key is zero, or nothing of it lies along the direction.
    """
    share = float(direction @ key)
    if not np.isfinite(share) or share == 0:
        found = "zero" if share == 0 else "not finite"
        raise EditError(f"the key of this fact is {found} at this layer, so no edit can reach it; choose another layer")
    return np.asarray(direction / share)
