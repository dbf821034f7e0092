"""What a method of editing is, and where it works: a model as the edits before it left it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from kis_core import progress
from kis_core.covariance.whitener import Whitener
from kis_core.editing.edit import Change, EditError
from kis_core.editing.hyperparameters import Hyperparameters
from kis_core.editing.weights import Weights
from kis_core.facts import Fact

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel


LEAST_KEY = 1e-6
"""As a share of the usual size of keys, √E‖k‖² over general text: below lies what float32 leaves of zero."""
LEAST_AGREEMENT = 0.15
"""Below it, an edit along the mean key would reach more than seven times as far into general text as one along the
prompt's own (`agreement`). SmolLM2-135M, layers 6 and 12, six beginnings: at most 0.08 where the subject is the first
token of its sentence, with shares of 10 to 900 on other facts; at least 0.35 elsewhere, with shares below 0.3."""


@dataclass(frozen=True, slots=True)
class RequestedEdit:
    """An edit that is asked for.

    Attributes:
        fact: as it is.
        target: its new object.
    """

    fact: Fact
    target: str


@dataclass(frozen=True, eq=False)
class PerformedEdit:
    """One edit as a method made it.

    Attributes:
        changes: one a layer that was edited, first layer first.
        keys: (layers, d_m), the fact's key in each of these layers at the moment of the edit.
        probability: of the new object (geometric mean a token) at the end of the search, as far as that could see.
        steps: of the search.
        own_key: the mean key over contexts was to be used, but has next to nothing of the prompt's own, which took its
            place: in the edit, or, for methods that make a batch, only in how δ acts while it is searched for.
    """

    changes: tuple[Change, ...]
    keys: np.ndarray
    probability: float
    steps: int
    own_key: bool = False


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

    def make(
        self, site: Site, asked: Sequence[RequestedEdit], report: progress.Report = progress.silent
    ) -> list[PerformedEdit]:
        """Make a batch of edits (of one, for methods that take no more), each as overlays; the model stays as it is.

        Raises:
            EditError: an edit makes no sense or cannot be made there.
            Cancelled: `report` called it off.
        """
        ...


def check_key(key: np.ndarray, whitener: Whitener) -> None:
    """Whether a key is one that an edit can be made for; (d_m,).

    Raises:
        EditError: it is not finite, or as good as zero beside the keys of general text.
    """
    size, usual = float(np.linalg.norm(key)), float(np.linalg.norm(whitener.factor))  # ‖F‖² = tr C, the mean of ‖k‖²
    if not (np.isfinite(size) and size > LEAST_KEY * usual):
        found = "not finite" if not np.isfinite(size) else "next to zero" if size else "zero"
        raise EditError(f"the key of this fact is {found} at this layer, so no edit can reach it; choose another layer")


def agreement(direction: Callable[[np.ndarray], np.ndarray], key: np.ndarray, mean_key: np.ndarray) -> float:
    """The cosine of a prompt's key and its mean key over contexts, both (d_m,), in the metric an edit reaches by.

    With M = C⁻¹ that of their whitened angle, k̄ᵀM k / √(k̄ᵀM k̄ · kᵀM k). How far an edit along M k̄ reaches into general
    text, √(uᵀCu), is that of an edit along M k divided by it.

    Args:
        direction: M k of a key, up to a positive factor; M is symmetric.
        key: of the prompt.
        mean_key: of its contexts.
    """
    of_key, of_mean = direction(key), direction(mean_key)
    across = float(of_mean @ key)
    both = across * float(of_key @ mean_key) / (float(of_key @ key) * float(of_mean @ mean_key))
    return math.copysign(math.sqrt(both), across) if both > 0 else 0.0  # a NaN as well: nothing is known of it


def agrees(direction: Callable[[np.ndarray], np.ndarray], key: np.ndarray, mean_key: np.ndarray) -> bool:
    """Whether an edit along the mean key is one of this key; see `agreement`."""
    return agreement(direction, key, mean_key) >= LEAST_AGREEMENT


def reach_along(direction: np.ndarray, key: np.ndarray) -> np.ndarray:
    """A direction scaled so that all of the edit lands on `key`; both (d_m,).

    Raises:
        EditError: nothing of the key lies along the direction.
    """
    share = float(direction @ key)
    if not np.isfinite(share) or share == 0:
        raise EditError("nothing of the edit would land on the key of this fact at this layer; choose another layer")
    return np.asarray(direction / share)
