"""How the value of an edit is searched for: as published per model, and by size for the rest."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from kis_core.editing.edit import EditError
from kis_core.models import catalog

ROME_PREFIXES = ((10, 5), (10, 10))
WIDE = 512  # residual width from which published models begin; below it are the demo family and tests
EARLY = 0.2  # of the layers: where ROME's published choices lie, rounded (0.15 to 0.35)


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Of the value optimisation (Meng et al., arXiv 2202.05262, section 3.1, and its code).

    Attributes:
        steps: of Adam, at most.
        learning_rate: of Adam.
        weight_decay: factor of ‖δ‖ / ‖v₀‖².
        kl: factor of the divergence of what is said of "{subject} is a"; 0 leaves it out.
        clamp: ‖δ‖ is at most this many times ‖v₀‖.
        prefixes: (how many, how long) of the random beginnings the prompt is also read after.
        stop_loss: enough is enough.
        mean_key: ROME's left side takes the mean key over all these contexts, as its code does, rather than the
            prompt's own key k_e, as eq. 2 does.
        everywhere: while it is searched for, δ acts on every token by its share, as the edit will; ROME's code adds it
            at the subject's last token alone, and the edit then also moves its own sentence's other tokens unforeseen.
        seed: of the prefixes.
    """

    steps: int = 25
    learning_rate: float = 0.1
    weight_decay: float = 0.5
    kl: float = 0.0
    clamp: float = 4.0
    prefixes: tuple[tuple[int, int], ...] = ((3, 5),)
    stop_loss: float = 0.05
    mean_key: bool = False
    everywhere: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefixes", tuple((int(n), int(length)) for n, length in self.prefixes))
        if not (isinstance(self.steps, int) and 1 <= self.steps <= 1000):
            raise EditError(f"whole steps from 1 to 1000; {self.steps} were asked for")
        if not (0 < self.learning_rate <= 10 and 0 <= self.weight_decay <= 100 and 0 <= self.kl <= 100):
            raise EditError("the learning rate has to lie in (0, 10], weight decay and KL factor in [0, 100]")
        if not (0 < self.clamp <= 100 and 0 <= self.stop_loss <= 100):
            raise EditError("the clamp has to lie in (0, 100], the loss to stop at in [0, 100]")
        if any(not (0 <= n <= 100 and 1 <= length <= 100) for n, length in self.prefixes):
            raise EditError("prefixes: 0 to 100 of them, 1 to 100 tokens long")

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"prefixes": [list(pair) for pair in self.prefixes]}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to start from for a model.

    Attributes:
        hyperparameters: of the search.
        layer: to edit.
        source: where these come from, in words.
    """

    hyperparameters: Hyperparameters
    layer: int
    source: str


def _published(layer: int, steps: int, weight_decay: float, clamp: float, source: str) -> Recipe:
    searched = Hyperparameters(steps, 0.5, weight_decay, 0.0625, clamp, ROME_PREFIXES, mean_key=True)
    return Recipe(searched, layer, source)


ROME = "ROME's code"
EASY_EDIT = "EasyEdit's ROME settings"
PUBLISHED = {
    "gpt2-medium": _published(8, 20, 0.5, 3, ROME),
    "gpt2-large": _published(12, 20, 0.5, 4, ROME),
    "gpt2-xl": _published(17, 20, 0.5, 4, ROME),
    "gpt-j-6b": _published(5, 20, 0.5, 4, ROME),
    "llama-2-7b": _published(5, 25, 1e-3, 4, EASY_EDIT),
    "llama-3-8b": _published(5, 25, 1e-3, 4, EASY_EDIT),
    "mistral-7b-v0.1": _published(5, 25, 1e-3, 4, EASY_EDIT),
}
"""By catalogue name."""


def recipe(model: str, *, width: int, layers: int) -> Recipe:
    """What to start from for a model: what was published for it, or else what suits its size.

    Args:
        model: catalogue name, Hub id or folder.
        width: d.
        layers: L.
    """
    entry = catalog.find(model)
    published = PUBLISHED.get(entry.name) if entry else None
    if published and published.layer < layers - 1:  # the last one cannot be edited
        return published
    if width < WIDE:
        found = Hyperparameters(steps=60, learning_rate=0.5, everywhere=True)  # on their scale: docs/edits.md
        return Recipe(found, 0, "found on the demo family")
    wide = Hyperparameters(20, 0.5, 0.5, 0.0625, 4.0, ROME_PREFIXES, mean_key=True)
    return Recipe(
        wide, min(round(EARLY * layers), max(0, layers - 2)), "ROME's for models of this size; none published"
    )
