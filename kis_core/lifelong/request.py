"""What is asked for: which edits, in which order, by which method, where, and how often it is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kis_core.editing import Hyperparameters, Recipe, Weights, method
from kis_core.models.layers import editable_layers
from kis_core.request import RequestError

if TYPE_CHECKING:
    from kis_core.simulator import Simulator

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
ORDERS = {
    "drawn": "as drawn",
    "gentle": "least interference first",
    "harsh": "most interference first",
}
"""In which order they are made."""


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
    def told(self) -> str:
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
        weights: of the methods' own terms.
    """

    layers: tuple[int, ...]
    method: str
    edits: int
    draw: Draw
    every: int
    batch: int
    how: Hyperparameters
    weights: Weights

    def __post_init__(self) -> None:
        how = method(self.method)
        if self.draw.by == "hand" and self.draw.picked:
            object.__setattr__(self, "edits", min(self.edits, len(self.draw.picked)))
        if not 1 <= self.edits <= MOST_EDITS:
            raise RequestError(f"from 1 to {MOST_EDITS} edits; {self.edits} were asked for")
        if not (1 <= self.every <= MOST_EDITS and 1 <= self.batch <= MOST_EDITS):
            raise RequestError("measuring every 1 or more edits, batches of 1 or more edits")
        if self.batch > 1 and not how.batches:
            raise RequestError(f"{how.told} makes one edit at a time; a batch of {self.batch} was asked for")
        if not self.layers or list(self.layers) != sorted(set(self.layers)) or self.layers[0] < 0:
            raise RequestError(f"layers in order, from 0; found {self.layers}")
        if len(self.layers) > 1 and not how.spreads:
            raise RequestError(f"{how.told} edits one layer; {len(self.layers)} were asked for")

    @property
    def told(self) -> str:
        """Name of the run in a legend, but for the model."""
        first, last = self.layers[0], self.layers[-1]
        where = f"layer {first}" if first == last else f"layers {first}–{last}"
        batch = f", {self.batch} at once" if self.batch > 1 else ""
        return f"{method(self.method).told}, {where}, {self.draw.told}{batch}"

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "layers": list(self.layers),
            "method": self.method,
            "edits": self.edits,
            "draw": {
                "by": self.draw.by,
                "seed": self.draw.seed,
                "relations": list(self.draw.relations),
                "picked": [list(one) for one in self.draw.picked],
                "order": self.draw.order,
            },
            "every": self.every,
            "batch": self.batch,
            "hyperparameters": self.how.to_json(),
            "weights": self.weights.to_json(),
        }


def ask(
    bench: Simulator,
    layers: int | tuple[int, ...],
    method_name: str = "rome",
    edits: int = 100,
    draw: Draw | None = None,
    *,
    every: int = EVERY,
    batch: int | None = None,
    weights: Weights | None = None,
    **how: Any,
) -> LifelongRequest:
    """A request with what suits the model, but for what is given.

    Args:
        bench: model, facts and C.
        layers: to edit.
        method_name: of `editing.METHODS`.
        edits: how many.
        draw: which; at random by default.
        every: edits between two measurements.
        batch: edits made at once; by default `BATCH` for methods that can, else 1.
        weights: of the methods' own terms.
        how: hyper-parameters of the search.

    Raises:
        RequestError: something makes no sense, or an edit there cannot reach the answer.
        EditError: no such method, or a hyper-parameter out of range.
    """
    from kis_core import editing

    chosen = (layers,) if isinstance(layers, int) else tuple(layers)
    source = bench.result.provenance
    for layer in chosen:
        bench.result.at(layer)
    last = len(editable_layers(source["layers_in_model"]))
    if chosen and chosen[-1] >= last and not any(bench.reaches(fact, last) for fact in range(len(bench.facts))):
        raise RequestError(
            f"layer {last} is the last one: nothing it writes at a subject is read where the answer is given. "
            + (f"Choose layers from 0 to {last - 1}." if last else "This model has no other.")
        )
    kind = editing.method(method_name)
    return LifelongRequest(
        chosen, method_name, edits, draw or Draw(), every, (BATCH if kind.batches else 1) if batch is None else batch,
        replace(_recipe(bench, spreads=kind.spreads).hyperparameters, **how),
        weights
        or editing.weights(bench.result.request.model, width=source["width"], mlp_width=source["mlp_width"]),
    )  # fmt: skip


def _recipe(bench: Simulator, *, spreads: bool) -> Recipe:
    """What to start from; methods that spread an edit have settings of their own."""
    from kis_core import editing

    source = bench.result.provenance
    return editing.recipe(
        bench.result.request.model, width=source["width"], layers=source["layers_in_model"], spreads=spreads
    )
