"""What a method of editing is, what it is given and what it gives; nothing here needs torch until an edit is made."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kis_core import progress
from kis_core.editing.edit import Change, EditError
from kis_core.editing.hyperparameters import Hyperparameters
from kis_core.editing.settings import Settings
from kis_core.facts import Fact

if TYPE_CHECKING:
    from kis_core.covariance.whitener import Whitener
    from kis_core.models.loaded import LoadedModel


LEAST_KEY = 1e-6
"""As a share of the usual size of keys, √E‖k‖² over general text: below lies what float32 leaves of zero."""
LEAST_AGREEMENT = 0.15
"""Below it, an edit along the mean key would reach more than seven times as far into general text as one along the
prompt's own (`agreement`). SmolLM2-135M, layers 6 and 12, six beginnings: at most 0.08 where the subject is the first
token of its sentence, with shares of 10 to 900 on other facts; at least 0.35 elsewhere, with shares below 0.3."""


@dataclass(frozen=True, slots=True)
class RequestedEdit:
    """An edit that is to be made.

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
        value_norm: ‖v*‖ of the value that the edit writes (`Value.norm`); NaN for a method that searches for none.
    """

    changes: tuple[Change, ...]
    keys: np.ndarray
    probability: float
    steps: int
    own_key: bool = False
    value_norm: float = math.nan


@dataclass(frozen=True, eq=False)
class Site:
    """Where a batch of edits is made.

    Attributes:
        loaded: the model; what was edited before is in `standing`, not in it.
        layers: to edit, in order; one for methods that do not spread.
        whiteners: C of each of these layers, factorised.
        hyperparameters: of the search for values.
        settings: the method's own terms.
        prefixes: random beginnings the prompt is also read after.
        standing: the edits made before, as overlays.
        past: keys of the edits made before, (n, d_m), by layer.
        anchors: ‖v*‖ that values are rescaled to, by layer, where the hyper-parameters say `nas` (`editing.anchor`).
    """

    loaded: LoadedModel
    layers: tuple[int, ...]
    whiteners: Mapping[int, Whitener]
    hyperparameters: Hyperparameters
    settings: Settings
    prefixes: Sequence[str] = ()
    standing: tuple[Change, ...] = ()
    past: Mapping[int, np.ndarray] = field(default_factory=dict)
    anchors: Mapping[int, float] = field(default_factory=dict)

    def weight(self, layer: int) -> np.ndarray:
        """W of a layer as the edits before left it, (d, d_m) float64; not to be written to."""
        own = np.asarray(self.loaded.architecture.weight(layer).double().cpu().numpy())
        return sum((change.matrix for change in self.standing if change.layer == layer), start=own)

    def anchor(self, layer: int) -> float | None:
        """The norm that a value of a layer is rescaled to, or None where it stays as it was found.

        Raises:
            EditError: values are to be rescaled, and nobody measured to what.
        """
        if not self.hyperparameters.nas:
            return None
        if layer not in self.anchors:
            raise EditError(f"layer {layer}: values are to be rescaled (NAS), and `Site.anchors` does not say to what")
        return self.anchors[layer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method(ABC):
    """A way of editing, as pages and commands list it.

    Attributes:
        name: for command line and links.
        label: for people.
        place: in lists of methods; the smallest comes first and is the default.
        paper: where it was published, or empty.
        help: what it does, in a sentence or two.
        settings: the class of its own terms.
        batches: takes several edits at once.
        spreads: may spread an edit over several layers.
        picks: picks one of several layers for every edit.
        searches: an edit writes a value that was searched for.
        restrain: ΔW as the model that is measured has it, (d, d_m), from W as it was, the ΔW of all edits so far and
            the method's own settings; None where it has all of it. The next edit is made on the model that has all. For
            methods that make one edit at a time.
    """

    name: str
    label: str
    place: int
    paper: str
    help: str
    settings: type[Settings] = Settings
    batches: bool = False
    spreads: bool = False
    picks: bool = False
    searches: bool = True
    restrain: Callable[[np.ndarray, np.ndarray, Any], np.ndarray] | None = None

    @property
    def takes_layers(self) -> bool:
        """Whether it takes several layers."""
        return self.spreads or self.picks

    @abstractmethod
    def perform(
        self, site: Site, requested: Sequence[RequestedEdit], report: progress.Report = progress.silent
    ) -> list[PerformedEdit]:
        """Make a batch of edits (of one, for methods that take no more), each as overlays; the model stays as it is.

        Raises:
            EditError: an edit makes no sense or cannot be made there.
            Cancelled: `report` called it off.
        """

    def check_model(self, loaded: LoadedModel, layers: Sequence[int]) -> None:
        """Whether such an edit means in these layers of the model what it is to mean.

        Raises:
            EditError: it does not; here, never.
        """
        return

    def own_settings(self, site: Site) -> Any:
        """The terms given for this method, of the class `settings`.

        Raises:
            EditError: they are those of another method.
        """
        if not isinstance(site.settings, self.settings):
            given = type(site.settings).__name__
            raise EditError(f"{self.label} takes {self.settings.__name__}; found {given}")
        return site.settings

    def check_single(self, site: Site, requested: Sequence[RequestedEdit]) -> tuple[int, RequestedEdit]:
        """The layer and the edit, for a method that makes one edit in one layer.

        Raises:
            EditError: there are more of either, or none.
        """
        if len(requested) != 1 or len(site.layers) != 1:
            raise EditError(f"{self.label} makes one edit at a time, in one layer")
        return site.layers[0], requested[0]


def check_key(key: np.ndarray, whitener: Whitener) -> None:
    """Whether a key is one that an edit can be made for; (d_m,).

    Raises:
        EditError: it is not finite, or as good as zero beside the keys of general text.
    """
    size, usual = float(np.linalg.norm(key)), float(np.linalg.norm(whitener.factor))  # ‖F‖² = tr C, the mean of ‖k‖²
    if not (np.isfinite(size) and size > LEAST_KEY * usual):
        fault = "not finite" if not np.isfinite(size) else "next to zero" if size else "zero"
        raise EditError(f"the key of this fact is {fault} at this layer, so no edit can reach it; choose another layer")


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
