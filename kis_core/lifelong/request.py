"""The request for a sequence of edits: which, in which order, by which method, where, and how often it is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kis_core.editing import EditError, Hyperparameters, ModelScale, Settings, method, recipe
from kis_core.models.layers import editable_layers
from kis_core.request import RequestError

if TYPE_CHECKING:
    from kis_core.simulator import Simulator

STAGE = "Editing, one after another"
MOST_EDITS = 2000
EVERY = 5  # edits between two measurements
BATCH = 5  # edits made at once, by methods that can

DRAWS = {
    "random": "at random",
    "relation": "of some relations",
    "most": "most superposed first",
    "least": "least superposed first",
    "hand": "picked by hand",
}
"""Which edits, by name in links and on the command line."""
ORDERS = {"drawn": "as drawn", "gentle": "least interference first", "harsh": "most interference first"}
"""In which order they are made."""
TERMS_OF_ALL = ("memit", "alphaedit", "fine-tuning")
"""Methods whose terms stand in the key of every stored run, as they did before each method had settings of its own."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Which edits.

    Attributes:
        by: one of `DRAWS`.
        seed: of the draw, and of the new objects.
        relations: for "relation": which; empty for all, one after the other.
        picked: for "hand": facts of the set and their new objects.
        order: one of `ORDERS`.
    """

    by: str = "random"
    seed: int = 0
    relations: tuple[str, ...] = ()
    picked: tuple[tuple[int, str], ...] = ()
    order: str = "drawn"

    def __post_init__(self) -> None:
        if self.by not in DRAWS:
            raise RequestError(f"edits are drawn {', '.join(DRAWS)}; found {self.by!r}")
        if self.order not in ORDERS:
            raise RequestError(f"edits are ordered {', '.join(ORDERS)}; found {self.order!r}")
        if self.seed < 0:
            raise RequestError(f"a seed is 0 or more; found {self.seed}")
        if len({fact for fact, _ in self.picked}) < len(self.picked):
            raise RequestError("a fact was picked twice; each can be edited once in a queue")

    @property
    def label(self) -> str:
        """In words."""
        which = f"of {', '.join(self.relations)}" if self.by == "relation" and self.relations else DRAWS[self.by]
        order = "" if self.order == "drawn" else f", {ORDERS[self.order]}"
        return f"{which}{order}, seed {self.seed}" if self.by != "hand" else f"{which}{order}"


@dataclass(frozen=True, slots=True)
class LifelongRequest:
    """A sequence of edits; with the analysis it belongs to, it determines every number.

    Attributes:
        layers: to edit, in order; more than one only for methods that spread.
        method: name of one of `editing.METHODS`.
        edits: how many.
        draw: which, and in which order.
        every: so many edits lie between two measurements.
        batch: so many edits are made at once.
        how: values are searched for.
        settings: the method's own terms.
    """

    layers: tuple[int, ...]
    method: str
    edits: int
    draw: Draw
    every: int
    batch: int
    how: Hyperparameters
    settings: Settings

    def __post_init__(self) -> None:
        kind = method(self.method)
        if type(self.settings) is not kind.settings:
            raise EditError(f"{kind.label} takes {kind.settings.__name__}; found {type(self.settings).__name__}")
        if self.draw.by == "hand" and self.draw.picked:
            object.__setattr__(self, "edits", min(self.edits, len(self.draw.picked)))
        if self.how.nas and not kind.searches:
            raise EditError(f"{kind.label} searches for no value, so there is none to rescale (NAS)")
        if not 1 <= self.edits <= MOST_EDITS:
            raise RequestError(f"from 1 to {MOST_EDITS} edits; {self.edits} were asked for")
        if not (1 <= self.every <= MOST_EDITS and 1 <= self.batch <= MOST_EDITS):
            raise RequestError("measuring every 1 or more edits, batches of 1 or more edits")
        if self.batch > 1 and not kind.batches:
            raise RequestError(f"{kind.label} makes one edit at a time; a batch of {self.batch} was asked for")
        if not self.layers or list(self.layers) != sorted(set(self.layers)) or self.layers[0] < 0:
            raise RequestError(f"layers in order, from 0; found {self.layers}")
        if len(self.layers) > 1 and not kind.takes_layers:
            raise RequestError(f"{kind.label} edits one layer; {len(self.layers)} were asked for")

    @property
    def label(self) -> str:
        """Name of the run in a legend, but for the model."""
        first, last = self.layers[0], self.layers[-1]
        where = f"layer {first}" if first == last else f"layers {first}–{last}"
        batch = f", {self.batch} at once" if self.batch > 1 else ""
        return f"{method(self.method).label}{' with NAS' if self.how.nas else ''}, {where}, {self.draw.label}{batch}"

    def to_json(self, scale: ModelScale) -> dict[str, Any]:
        """As JSON.

        Args:
            scale: of the model that is edited.
        """
        terms: dict[str, Any] = {}
        for name in TERMS_OF_ALL:
            terms |= method(name).settings.suited(scale).to_json()
        return {
            "layers": list(self.layers),
            "method": self.method,
            "edits": self.edits,
            "draw": {
                "by": self.draw.by,
                "seed": self.draw.seed,
                "relations": list(self.draw.relations),
                "picked": [[fact, target] for fact, target in self.draw.picked],
                "order": self.draw.order,
            },
            "every": self.every,
            "batch": self.batch,
            "hyperparameters": self.how.to_json(),
            "weights": terms | self.settings.to_json(),
        }


def ask(
    simulator: Simulator,
    layers: int | tuple[int, ...],
    method_name: str = "rome",
    edits: int = 100,
    draw: Draw | None = None,
    *,
    every: int = EVERY,
    batch: int | None = None,
    settings: Settings | None = None,
    **how: Any,
) -> LifelongRequest:
    """A request with what suits the model, but for what is given.

    Args:
        simulator: model, facts and C.
        layers: to edit.
        method_name: of `editing.METHODS`.
        edits: how many.
        draw: which; at random by default.
        every: edits between two measurements.
        batch: edits made at once; by default `BATCH` for methods that can, else 1.
        settings: the method's own terms.
        how: hyper-parameters of the search.

    Raises:
        RequestError: something makes no sense, or an edit there cannot reach the answer.
        EditError: no such method, or a hyper-parameter out of range.
    """
    chosen = (layers,) if isinstance(layers, int) else tuple(layers)
    for layer in chosen:
        simulator.result.at(layer)
    scale = simulator.scale
    last = len(editable_layers(scale.layers))
    if chosen and chosen[-1] >= last and not any(simulator.reaches(fact, last) for fact in range(len(simulator.facts))):
        raise RequestError(
            f"layer {last} is the last one: nothing it writes at a subject is read where the answer is given. "
            + (f"Choose layers from 0 to {last - 1}." if last else "This model has no other.")
        )
    kind = method(method_name)
    start = recipe(scale.model, width=scale.width, layers=scale.layers, spreads=kind.spreads, method=kind.name)
    return LifelongRequest(
        layers=chosen,
        method=method_name,
        edits=edits,
        draw=draw or Draw(),
        every=every,
        batch=(BATCH if kind.batches else 1) if batch is None else batch,
        how=replace(start.hyperparameters, **how),
        settings=settings or kind.settings.suited(scale),
    )
